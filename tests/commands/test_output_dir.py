"""`--output_dir`: a folder for what is named by default, in which no run of a sweep replaces another's."""

import json
from pathlib import Path

import pytest

from ann2snn_cli.config import resolve
from ann2snn_cli.errors import UsageError

FREE = ("./tiny.py", "-e", "0", "--vectors", "0", "-q")


def test_a_sweep_over_bits_steps_and_delays_replaces_nothing(tiny, ann2snn):
    """Names carry b and T, and D where it is not 0 (A1)."""
    for bits, steps, more in ((4, 2, ()), (3, 2, ()), (4, 3, ()), (4, 3, ("--delay", "1"))):
        words = ("--weight_bitwidth", str(bits), "--timesteps", str(steps), *more)
        done = ann2snn("convert", *FREE, "--output_dir", "runs/mine", *words)
        assert done.code == 0, done.err

    names = ["b3_T2", "b4_T2", "b4_T3", "b4_T3_D1"]
    expected = {f"tiny_{name}_snn.{end}" for name in names for end in ("json", "pth", "yaml")}
    assert {path.name for path in Path("runs/mine").iterdir()} == expected
    assert [path.name for path in Path().glob("*.pth")] == []


def test_the_settings_that_are_written_repeat_the_run(tiny, ann2snn):
    """In the same place; and in another folder if one is named."""
    assert ann2snn("convert", *FREE, "-T", "2", "--output_dir", "runs").code == 0
    before = Path("runs/tiny_b4_T2_snn.pth").read_bytes()
    again = ("convert", "--config", "runs/tiny_b4_T2_snn.yaml", "-q")
    assert ann2snn(*again).code == 0
    assert Path("runs/tiny_b4_T2_snn.pth").read_bytes() == before
    assert ann2snn(*again, "--output_dir", "others").code == 0
    assert Path("others/tiny_b4_T2_snn.pth").is_file()
    assert sorted(path.name for path in Path("runs").iterdir()) == [
        f"tiny_b4_T2_snn.{end}" for end in ("json", "pth", "yaml")
    ]


def test_other_commands_take_it_too(tiny, ann2snn):
    """train, analyse-error and export write into the folder."""
    done = ann2snn("train", "./tiny.py", "--epochs", "1", "--output_dir", "nets", "--json")
    assert done.document["files"][0]["path"] == "nets/tiny-tiny.pth"
    done = ann2snn("analyse-error", "./tiny.py", "-e", "0", "-T", "2", "--output_dir", "runs", "--json")
    assert done.document["files"][0] == "runs/tiny_b4_T2_analysis/accuracy.png"
    assert ann2snn("convert", *FREE, "-T", "2", "--output_dir", "runs").code == 0
    done = ann2snn("export", "runs/tiny_b4_T2_snn.pth", "--format", "onnx", "--output_dir", "out", "--json")
    assert done.code == 0, done.err
    assert json.dumps(done.document["files"]).count("out/tiny_b4_T2_snn") >= 1


@pytest.mark.parametrize(
    ("command", "other"),
    [("convert", "--save_file"), ("train", "--save_file"), ("analyse-error", "--save_dir")],
)
def test_a_file_and_a_folder_for_it_are_one_too_many(command, other, tiny, ann2snn):
    """Which of them holds is for the user to say."""
    done = ann2snn(command, "./tiny.py", "--output_dir", "runs", other, "x.pth")

    assert done.code == 2
    assert "the place of what is written is given twice" in done.err
    assert f"give {other}" in done.err


def test_the_stronger_source_names_the_place(tmp_path):
    """A flag's folder replaces a config's file; in one and the same file both are a mistake."""
    path = tmp_path / "my.yaml"
    path.write_text("save: {save_file: a.pth}\n")
    save = resolve(path, [], {"save.output_dir": "runs"}).save
    assert (save.save_file, save.output_dir) == ("", "runs")
    path.write_text("save: {save_file: a.pth, output_dir: runs}\n")
    with pytest.raises(UsageError, match="given twice"):
        resolve(path)
