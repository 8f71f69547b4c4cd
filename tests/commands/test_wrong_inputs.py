"""Wrong inputs, tried as a new user would: a line of cause, one of remedy, the right exit code, no traceback.

Each is tried as text and with --json, and must leave the working directory as it was.
"""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, byte for byte; empty folders too."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"(folder)"
        for path in sorted(folder.rglob("*"))
        if "__pycache__" not in path.parts
    }


@pytest.fixture
def refused(tiny, ann2snn):
    """Run a command that must fail, as text and with --json; gives its error document."""

    def run(code: int, *words: str) -> dict:
        before = contents(tiny)
        text, as_json = ann2snn(*words), ann2snn(*words, "--json")
        assert contents(tiny) == before, "something was written"
        assert (text.code, as_json.code) == (code, code), text.err
        assert text.out == ""
        cause, *_, remedy = [
            line for line in text.err.splitlines() if line.startswith(("error: ", "  remedy: "))
        ]
        assert cause.startswith("error: ")
        assert remedy.startswith("  remedy: ")
        for done in (text, as_json):
            assert "Traceback" not in done.err
            assert "fault of ann2snn" not in done.err
        document = as_json.document
        assert document["schema"] == "ann2snn/error/1"
        error = document["error"]
        assert set(error) == {"what", "where", "remedy"}
        assert error["what"].splitlines()[0] == cause.removeprefix("error: ")
        assert error["remedy"] == remedy.removeprefix("  remedy: ")
        return error

    return run


CONVERT = ("convert", "./tiny.py", "-e", "0", "--ann_weight", "checkpoints/tiny-tiny.pth")


def convert(*words: str) -> tuple[str, ...]:
    """The command that works, with something wrong added."""
    return (*CONVERT, *words)


def test_the_command_that_is_broken_below_works(tiny, ann2snn):
    """Else every test of this file would prove nothing."""
    assert ann2snn(*CONVERT).code == 0
    assert (tiny / "tiny_snn.pth").is_file()


# Names and values: exit code 2 ---------------------------------------------------------------------


@pytest.mark.parametrize("command", ["convert", "check", "inspect", "train", "analyse-error"])
def test_an_unknown_network_gets_the_nearest_name(command, refused):
    """Wherever a network is named."""
    error = refused(2, command, "exmaple_net")
    assert "exmaple_net" in error["what"]
    assert error["remedy"].startswith("did you mean example_net?")


def test_a_networks_file_that_is_not_there_is_named(refused):
    """A path is answered as a path."""
    assert refused(2, "convert", "./absent.py")["where"] == "absent.py"


def test_a_network_without_weights_gets_the_command_that_trains_it(refused):
    """A checkpoint is missing: where it was looked for, and how to make one."""
    error = refused(2, "convert", "lenet", "--dataset", "digits")
    assert error["what"] == "there are no weights of network 'lenet' trained on digits"
    assert "lenet-digits.pth" in error["where"]
    assert "ann2snn train lenet --dataset digits" in error["remedy"]


@pytest.mark.parametrize("name", ["absent.pth", "checkpoints/absent.pth"])
def test_a_checkpoint_that_is_not_there_is_named(name, refused):
    """`--ann_weight` with a wrong path."""
    error = refused(2, "convert", "./tiny.py", "--ann_weight", name)
    assert name in error["where"] + error["what"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--timesteps", "0"), "timing.timesteps is 0; it must be a whole number from 1 to 65536: a count"),
        (
            ("-T", "99999999999999999999"),
            "timing.timesteps is 99999999999999999999; it must be a whole number from 1 to 65536",
        ),
        (
            ("--test_batch_size", "99999999999999999999"),
            "data.test_batch_size is 99999999999999999999; it must be a whole number, 1 or more",
        ),
        (("--weight_bitwidth", "9"), "quantize.weight_bitwidth is 9; it must be 1 to 8 bits, or 32 (floats)"),
        (("--weight_bitwidth", "four"), "quantize.weight_bitwidth is four"),
        (("--calibration_samples", "0"), "data.calibration_samples is 0"),
        (("--mode", "101%"), "calibrate.mode is 101%"),
        (("--schedule", "backwards"), "timing.schedule is backwards"),
        (("--reset_mode", "soft"), "neurons.reset_mode is soft"),
        (("--device", "tpu"), "run.device is tpu"),
        (("--seed", "-1"), "run.seed is -1"),
        (("--set", "quantize.bits=3"), "quantize.bits is not a setting"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_what_can(words, said, refused):
    """The setting by its name in config files, the value, and what it must be."""
    assert refused(2, *convert(*words))["what"].startswith(said)


def test_a_wrong_word_of_set_is_quoted_as_it_was_typed(refused):
    """It names a setting that no flag of its own may have."""
    assert refused(2, *convert("--set", "quantize.bits=3"))["where"] == "--set quantize.bits=3"


def test_an_unknown_key_in_a_config_gets_its_line_and_the_nearest_name(refused, tiny):
    """A typo in YAML is not passed over in silence."""
    (tiny / "my.yaml").write_text("quantize:\n  weight_bitwith: 3\n")
    error = refused(2, *convert("--config", "my.yaml"))
    assert error["what"] == "quantize.weight_bitwith is not a setting"
    assert error["where"] == "my.yaml:2"
    assert "did you mean quantize.weight_bitwidth?" in error["remedy"]


def test_a_config_that_is_no_yaml_is_refused_with_its_line(refused, tiny):
    """A tab, a brace too many: where, and how a config looks."""
    (tiny / "my.yaml").write_text("quantize:\n\tweight_bitwidth: 3\n")
    assert refused(2, *convert("--config", "./my.yaml"))["where"] == "my.yaml:2"


def test_an_unknown_config_and_hardware_get_the_nearest_name(refused):
    """Both are looked up by name."""
    assert "did you mean example_net?" in refused(2, *convert("--config", "exmple_net"))["remedy"]
    assert "choose from: v1" in refused(2, *convert("--hardware", "v2"))["remedy"]


def test_an_unknown_dataset_gets_the_nearest_name(refused):
    """`--dataset digit`."""
    assert "did you mean digits?" in refused(2, *convert("--dataset", "digit"))["remedy"]


def test_a_save_file_that_is_no_pth_is_refused(refused):
    """The name it should have is said."""
    error = refused(2, *convert("--save_file", "result.onnx"))
    assert "result.pth" in error["remedy"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there_is_refused(refused):
    """CUDA on a machine without it."""
    assert "use auto, cpu" in refused(2, *convert("--device", "cuda:0"))["remedy"]


def test_a_network_whose_own_code_fails_is_shown_its_line(refused, tiny):
    """The error, and the line of the user's own file."""
    (tiny / "bad.py").write_text(
        "from torch import nn\n\n\ndef build(input_shape, classes):\n    return nn.Liner(1)\n"
    )
    error = refused(1, "convert", "./bad.py", "--dataset", "npz:tiny.npz", "--ann_weight", "none")
    assert "Liner" in error["what"]
    assert error["where"].endswith("bad.py:5")


# Weights -------------------------------------------------------------------------------------------


def test_weights_of_another_shape_are_listed_key_by_key(refused):
    """The example's checkpoint does not fit the tiny network."""
    torch.save({"0.weight": torch.zeros(8, 1, 3, 3), "1.bias": torch.zeros(8)}, "other.pth")
    error = refused(1, "convert", "./tiny.py", "--ann_weight", "other.pth")
    assert "shape: 0.weight is (8, 1, 3, 3) in the file and (4, 1, 3, 3) in the network" in error["what"]
    assert "missing: 0.bias (4,)" in error["what"]
    assert "unexpected: 1.bias (8,)" in error["what"]


def test_data_of_another_shape_than_the_weights_are_refused(refused, tiny):
    """A checkpoint trained on other images."""
    rows = np.arange(20) % 3
    np.savez(tiny / "wide.npz", x=np.zeros((20, 1, 12, 12), np.uint8), y=rows)
    error = refused(1, *convert("--dataset", "npz:wide.npz"))
    assert "4.weight is (3, 64) in the file and (3, 144) in the network" in error["what"]


def test_data_that_the_network_cannot_take_are_refused(refused, tiny):
    """A network that ignores the shape it is told, and data of another one."""
    (tiny / "fixed.py").write_text(
        "from torch import nn\n\n\ndef build():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())\n"
    )
    error = refused(1, "convert", "./fixed.py", "--dataset", "npz:tiny.npz", "--ann_weight", "none")
    assert "3 channels" in error["what"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(value, refused):
    """NaN and infinity: which tensor, and why it happens."""
    state = torch.load("checkpoints/tiny-tiny.pth", weights_only=True)["state_dict"]
    state["4.weight"][1, 2] = value
    torch.save(state, "bad.pth")
    error = refused(1, "convert", "./tiny.py", "--ann_weight", "bad.pth")
    assert "NaN or infinite" in error["what"]
    assert "4.weight" in error["what"]


def test_nan_weights_that_a_network_brings_itself_are_refused(refused, tiny):
    """TRAINED networks load no checkpoint, but are looked at all the same."""
    source = (tiny / "tiny.py").read_text()
    (tiny / "nan.py").write_text(
        source.replace("    return nn.Sequential(", "    network = nn.Sequential(").replace(
            'DATASET = "npz:tiny.npz"', 'DATASET = "npz:tiny.npz"\nTRAINED = True'
        )
        + "    nn.init.constant_(network[0].weight, float('nan'))\n    return network\n"
    )
    assert "not a finite number" in refused(1, "convert", "./nan.py", "-e", "0")["what"]


def truncate(path: Path, to: Path) -> None:
    """A copy that broke off half-way."""
    content = path.read_bytes()
    to.write_bytes(content[: len(content) // 2])


def test_a_checkpoint_that_is_a_pickled_module_is_not_run(refused):
    """`torch.save(network)` holds code: it is named, and how to save the weights instead."""
    torch.save(nn.Sequential(nn.Linear(2, 2)), "module.pth")
    error = refused(1, "convert", "./tiny.py", "--ann_weight", "module.pth")
    assert "torch.nn.modules.container.Sequential" in error["what"]
    assert "state_dict()" in error["remedy"]


def test_a_checkpoint_that_broke_off_is_refused(refused, tiny):
    """Half a file."""
    truncate(tiny / "checkpoints/tiny-tiny.pth", tiny / "half.pth")
    assert "truncated" in refused(1, "convert", "./tiny.py", "--ann_weight", "half.pth")["what"]


@pytest.mark.parametrize("command", ["simulate", "inspect"])
def test_an_snn_that_is_no_snn_is_refused(command, refused, tiny, ann2snn):
    """Absent, half, a pickled module, a checkpoint of an ANN, an empty file, a text, a folder."""
    assert ann2snn(*CONVERT).code == 0
    truncate(tiny / "tiny_snn.pth", tiny / "half.pth")
    torch.save(nn.Sequential(nn.Linear(2, 2)), "module.pth")
    torch.save([1, 2], "list.pth")
    Path("empty.pth").touch()
    Path("text.pth").write_text("no torch file")
    Path("folder.pth").mkdir()
    for name, said in {
        "absent.pth": "no such file",
        "folder.pth": "it is a folder",
        "half.pth": "damaged",
        "empty.pth": "damaged",
        "text.pth": "damaged",
        "module.pth": "pickled code",
        "list.pth": "no SNN of ann2snn",
        "checkpoints/tiny-tiny.pth": "no SNN of ann2snn",
    }.items():
        error = refused(2 if name in ("absent.pth", "folder.pth") else 1, command, name)
        assert said in error["what"], name
        assert error["where"] == name


def test_an_snn_with_one_byte_lost_inside_is_refused(refused, tiny, ann2snn):
    """A damaged archive, not only a short one."""
    assert ann2snn(*CONVERT).code == 0
    content = bytearray((tiny / "tiny_snn.pth").read_bytes())
    del content[len(content) // 2]
    (tiny / "lost.pth").write_bytes(content)
    assert refused(1, "simulate", "lost.pth")["where"] == "lost.pth"


def test_an_snn_of_another_shape_than_the_data_is_refused(refused, tiny, ann2snn):
    """`simulate` on other images."""
    assert ann2snn(*CONVERT).code == 0
    error = refused(1, "simulate", "tiny_snn.pth", "--dataset", "digits")
    assert "(1, 8, 8)" in error["what"] + error["where"]
    assert "(1, 28, 28)" in error["what"] + error["where"]


# Data ----------------------------------------------------------------------------------------------


def test_a_dataset_that_is_absent_says_which_files_and_where(refused, tiny, monkeypatch):
    """No network and nothing in the folder: what to put where, and what works without."""

    def no_network(*words, **more):
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    error = refused(1, *convert("--dataset", "mnist", "--data_dir", "nowhere"))
    assert "mnist" in error["what"]
    assert "nowhere" in error["where"]
    assert "train-images-idx3-ubyte" in error["remedy"]
    assert "--dataset digits" in error["remedy"]


@pytest.mark.parametrize("dataset", ["npz:absent.npz", "folder:absent", "absent.py:load"])
def test_data_of_ones_own_that_are_absent_are_named(dataset, refused):
    """A path that is not there."""
    assert "absent" in refused(2, *convert("--dataset", dataset))["where"]


def test_an_npz_that_broke_off_or_is_none_is_refused(refused, tiny):
    """Half a file, a text, an archive of something else."""
    truncate(tiny / "tiny.npz", tiny / "half.npz")
    (tiny / "text.npz").write_text("x")
    with zipfile.ZipFile(tiny / "zip.npz", "w") as archive:
        archive.writestr("a.txt", "x")
    for name in ("half.npz", "text.npz", "zip.npz"):
        assert name in refused(1, *convert("--dataset", f"npz:{name}"))["where"]


def test_data_with_nan_are_refused(refused, tiny):
    """A pixel that is no number."""
    x = np.zeros((20, 1, 8, 8), np.float32)
    x[3, 0, 1, 1] = np.nan
    np.savez(tiny / "nan.npz", x=x, y=np.arange(20) % 3)
    assert "NaN" in refused(1, *convert("--dataset", "npz:nan.npz"))["what"]


# Places to write -----------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_to_is_refused_before_any_work(refused, tiny, monkeypatch):
    """Read-only; root may write anywhere, so there a file stands where the folder should be."""
    place = tiny / "shut"
    if os.geteuid() == 0:
        place.write_text("a file")
    else:
        place.mkdir()
        place.chmod(0o555)
    monkeypatch.setattr("ann2snn_cli.pipeline.convert", lambda *words, **more: pytest.fail("work was done"))
    for words in (
        convert("--save_file", "shut/result.pth"),
        convert("--save_file", "shut/deeper/result.pth"),
        ("train", "./tiny.py", "--epochs", "1", "--save_file", "shut/weights.pth"),
        ("analyse-error", *CONVERT[1:], "--save_dir", "shut/analysis"),
    ):
        error = refused(1, *words)
        assert "shut" in error["where"]


def test_the_remedy_for_a_shut_folder_names_the_flag_of_the_command(refused, tiny):
    """A remedy that can be followed."""
    (tiny / "shut").write_text("a file")
    for words, flag in (
        (convert("--save_file", "shut/x.pth"), "--save_file"),
        (("train", "./tiny.py", "--epochs", "1", "--save_file", "shut/x.pth"), "--save_file"),
        (("analyse-error", *CONVERT[1:], "--save_dir", "shut/x"), "--save_dir"),
        (("cp", "v1", "shut"), "another folder"),
    ):
        assert flag in refused(1, *words)["remedy"]


@pytest.mark.parametrize("name", ["tiny_snn.pth", "tiny_snn.json", "tiny_snn.yaml", "tiny_snn_pack"])
def test_a_foreign_file_in_the_way_is_left_alone(name, refused, tiny):
    """Each of the names that a conversion writes to."""
    (tiny / name).write_text("mine")
    error = refused(1, *CONVERT)
    assert error["where"] == name
    assert "--overwrite" in error["remedy"]


def test_a_foreign_folder_in_the_way_is_left_alone(refused, tiny):
    """A folder with somebody's files in the place of the vectors, or of the .pth."""
    (tiny / "tiny_snn_pack").mkdir()
    (tiny / "tiny_snn_pack/mine.txt").write_text("mine")
    assert refused(1, *CONVERT)["where"] == "tiny_snn_pack"
    (tiny / "folder.pth").mkdir()
    assert refused(1, *convert("--save_file", "folder.pth"))["where"] == "folder.pth"


def test_overwrite_never_removes_a_folder_where_a_file_shall_be(refused, tiny):
    """--overwrite replaces files; a whole folder under the name of a file is a mistake."""
    (tiny / "folder.pth").mkdir()
    (tiny / "folder.pth/mine.txt").write_text("mine")
    assert refused(1, *convert("--save_file", "folder.pth", "--overwrite"))["where"] == "folder.pth"


def test_a_resume_of_nothing_is_refused(refused):
    """There is no interrupted run under that name."""
    error = refused(1, *convert("--resume", "--finetune_epochs", "1"))
    assert "without --resume" in error["remedy"]
    assert "leave --resume out" in refused(2, *convert("--resume"))["remedy"]


# Hardware: exit code 3 -----------------------------------------------------------------------------


def test_a_network_that_breaks_limits_is_refused_with_all_of_them(refused, tiny):
    """Before any calibration: every violation, in text and in the document."""
    source = (tiny / "tiny.py").read_text().replace("nn.AvgPool2d(2)", "nn.MaxPool2d(2)")
    (tiny / "wrong.py").write_text(source)
    words = ("convert", "./wrong.py", "--hardware", "v1", "--weight_bitwidth", "5", "--ann_weight", "none")
    error = refused(3, *words)
    assert "hardware v1" in error["what"]
    assert error["remedy"].endswith("--allow op --allow weight_bitwidth")
