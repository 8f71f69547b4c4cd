"""The same mistake has the same exit code in every command; an option that does nothing is a mistake."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ann2snn_cli.__main__ import main

NETWORK = ("./tiny.py", "--ann_weight", "checkpoints/tiny-tiny.pth")
CONVERT, TRAIN = ("convert", *NETWORK, "-e", "0"), ("train", "./tiny.py", "--epochs", "1")

# By mistake: its exit code, and every command that can be given it.
MISTAKES = {
    "a file that is not there": (2, [
        ("convert", "./absent.py"), ("convert", "absent.onnx", "--dataset", "digits"),
        ("check", "./absent.py"), ("inspect", "./absent.py"), ("train", "./absent.py"),
        ("analyse-error", "./absent.py"), (*CONVERT, "--ann_weight", "absent.pth"),
        (*CONVERT, "--config", "absent.yaml"), (*CONVERT, "--hardware", "absent.yaml"),
        (*CONVERT, "--rules", "absent.py"), (*CONVERT, "--dataset", "npz:absent.npz"),
        (*CONVERT, "--dataset", "folder:absent"), (*CONVERT, "--dataset", "absent.py:load"),
        ("simulate", "absent.pth"), ("export", "absent.pth"), ("inspect", "absent.pth"),
        ("verify", "absent.pth"), ("verify", "absent"), ("diff", "absent", "tiny_snn_pack"),
        ("diff", "tiny_snn_pack", "absent"), ("simulate", "tiny_snn.pth", "--dataset", "npz:absent.npz"),
        ("cp", "./absent.py"),
    ]),
    "a folder in the place of a file": (2, [
        ("convert", "./folder.py"), ("convert", "folder.onnx", "--dataset", "digits"),
        (*CONVERT, "--ann_weight", "folder.pth"), (*CONVERT, "--config", "folder.yaml"),
        (*CONVERT, "--hardware", "folder.yaml"), (*CONVERT, "--dataset", "npz:folder.npz"),
        ("simulate", "folder.pth"), ("export", "folder.pth"), ("inspect", "folder.pth"),
    ]),
    "a file in the place of a folder": (2, [
        (*CONVERT, "--dataset", "folder:tiny.py"),
    ]),
    "a folder that is no vector pack": (1, [
        ("verify", "."), ("verify", "folder.pth"), ("diff", ".", "tiny_snn_pack"),
    ]),
    "a file of another kind": (1, [
        ("verify", "tiny.py"), ("simulate", "tiny.py"), ("diff", "tiny.py", "tiny_snn_pack"),
        ("diff", "tiny_snn_pack", "tiny.py"),
        ("simulate", "text.pth"), ("export", "text.pth"), ("inspect", "text.pth"), ("verify", "text.pth"),
        ("simulate", "checkpoints/tiny-tiny.pth"), ("export", "checkpoints/tiny-tiny.pth"),
        ("verify", "checkpoints/tiny-tiny.pth"), (*CONVERT, "--ann_weight", "text.pth"),
        (*CONVERT, "--dataset", "npz:text.pth"), ("diff", "tiny_snn_pack", "text.pth"),
    ]),
    "a .pth in the place of a network": (2, [
        ("convert", "tiny_snn.pth"), ("check", "tiny_snn.pth"), ("train", "tiny_snn.pth"),
        ("analyse-error", "tiny_snn.pth"), ("convert", "./tiny_snn.pth"),
    ]),
    "an unknown name": (2, [
        ("convert", "tinny"), ("check", "tinny"), ("inspect", "tinny"), ("train", "tinny"),
        ("analyse-error", "tinny"), ("cp", "tinny"), ("ls", "tinny"), ("tinny",),
        (*CONVERT, "--dataset", "digit"), (*CONVERT, "--hardware", "v2"), (*CONVERT, "--engine", "quick"),
        ("simulate", "tiny_snn.pth", "--engine", "quick"), ("export", "tiny_snn.pth", "--engine", "quick"),
        ("export", "tiny_snn.pth", "--format", "pdf"), ("export", "tiny_snn.pth", "--layers", "pdf"),
        ("verify", "tiny_snn_pack", "--backend", "pdf"), ("verify", "tiny_snn_pack", "--sample", "pdf"),
        ("convert", "--tinny"), ("ls", "--tinny"),
    ]),
    "a value that cannot be": (2, [
        (*CONVERT, "--timesteps", "99999999999999999999"), (*CONVERT, "-T", "0"),
        (*CONVERT, "--test_batch_size", "99999999999999999999"), (*CONVERT, "--finetune_lr", "nan"),
        (*CONVERT, "--finetune_lr", "1e308"), (*CONVERT, "--finetune_wd", "1e308"), (*TRAIN, "--lr", "1e38"),
        (*TRAIN, "--lr", "nan"), (*TRAIN, "--lr", "inf"), (*TRAIN, "--wd", "nan"), (*TRAIN, "--lr", "0"),
        (*TRAIN, "--epochs", "99999999999999999999"), (*TRAIN, "--save_file", "./"),
        (*TRAIN, "--save_file", "/"), (*TRAIN, "--save_file", "weights.onnx"),
        (*CONVERT, "--save_file", "./"),
        (*CONVERT, "--save_file", ".."), ("simulate", "tiny_snn.pth", "--delay", "999"),
        ("export", "tiny_snn.pth", "--delay", "999"), ("verify", "tiny_snn.pth", "--delay", "999"),
        ("export", "tiny_snn.pth", "--steps", "999"), ("export", "tiny_snn.pth", "--steps", "0"),
    ]),
    "an option that does nothing": (2, [
        ("verify", "tiny_snn_pack", "--samples", "2"), ("verify", "tiny_snn_pack", "--delay", "1"),
        ("verify", "tiny_snn_pack", "--schedule", "layerwise"), ("verify", "tiny_snn_pack", "--seed", "3"),
        ("verify", "tiny_snn_pack", "--dataset", "digits"),
        ("verify", "tiny_snn_pack", "--engine", "reference"),
        ("verify", "tiny_snn_pack", "--backend", "numpy", "--max_clocks", "9"),
        ("verify", "tiny_snn_pack", "--device", "cpu"), ("verify", "tiny_snn_pack", "--batch_size", "9"),
        ("simulate", "tiny_snn.pth", "--seed", "3"),
        ("simulate", "tiny_snn.pth", "--calibration_samples", "9"),
        ("export", "tiny_snn.pth", "--format", "onnx", "--flavor", "composite"),
        ("export", "tiny_snn.pth", "--format", "onnx", "--dataset", "digits"),
        ("export", "tiny_snn.pth", "--num_workers", "2"), (*TRAIN, "--calibration_samples", "9"),
        (*CONVERT, "--augment"), (*CONVERT, "--no_augment"),
        ("inspect", "tiny_snn.pth", "--delay", "2"), ("inspect", "tiny_snn.pth", "--hardware", "v1"),
    ]),
    "a place that cannot be written to": (1, [
        (*CONVERT, "--save_file", "tiny.py/x.pth"), (*TRAIN, "--save_file", "tiny.py/x.pth"),
        ("analyse-error", *NETWORK, "--save_dir", "tiny.py/x"), ("cp", "v1", "tiny.py"),
        ("export", "tiny_snn.pth", "--save_dir", "tiny.py/x"),
    ]),
    "a file or folder in the way that is not ours": (1, [
        (*CONVERT, "--save_file", "text.pth"), (*CONVERT, "--save_file", "folder.pth"),
        (*TRAIN, "--save_file", "text.pth"), (*TRAIN, "--save_file", "folder.pth"),
        ("analyse-error", *NETWORK, "--save_dir", "folder.pth"), ("cp", "v1", "mine"),
        ("export", "tiny_snn.pth", "--save_dir", "mine"),
    ]),
}  # fmt: skip


@pytest.fixture(scope="module")
def there(trained, tmp_path_factory, in_folder, ann2snn) -> Path:
    """A folder with a network, its SNN and pack, and what may be taken for something else."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("there"), dirs_exist_ok=True)
    for name in ("folder.py", "folder.onnx", "folder.pth", "folder.yaml", "folder.npz", "mine/tiny_snn_pack"):
        (folder / name).mkdir(parents=True)
        (folder / name / "thesis.tex").write_text("mine")
    (folder / "text.pth").write_text("mine")
    (folder / "mine/v1.yaml").write_text("mine")
    with in_folder(folder):
        assert ann2snn(*CONVERT, "-T", "3", "--vectors", "1").code == 0
    return folder


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_has_one_exit_code_and_is_answered_in_words(mistake, there, in_folder, ann2snn):
    """In every command: cause and remedy, no traceback, nothing written."""
    code, commands = MISTAKES[mistake]
    before = sorted(path.stat().st_mtime_ns for path in there.rglob("*") if "__pycache__" not in path.parts)
    for words in commands:
        with in_folder(there):
            done = ann2snn(*words)
        assert done.code == code, (words, done.err)
        assert done.err.count("error: ") == done.err.count("  remedy: ") == 1, (words, done.err)
        assert "fault of ann2snn" not in done.err, (words, done.err)
        assert done.out == "", words
    after = sorted(path.stat().st_mtime_ns for path in there.rglob("*") if "__pycache__" not in path.parts)
    assert before == after


def test_a_network_of_real_numbers_is_verified_in_words(there, in_folder, ann2snn):
    """An operator without a spiking form has no integers to verify."""
    (there / "gelu.py").write_text((there / "tiny.py").read_text().replace("nn.ReLU()", "nn.GELU()"))
    with in_folder(there):
        assert ann2snn("convert", "./gelu.py", "--ann_weight", "none", "-e", "0", "--vectors", "0").code == 0
        done = ann2snn("verify", "gelu_snn.pth", "--backend", "numpy")
    assert (done.code, "real numbers are left" in done.err) == (1, True)


def test_training_that_ends_in_nan_leaves_the_earlier_checkpoint(tiny, ann2snn):
    """Also where the last step does it, and the loss before it was a number."""
    before = (tiny / "checkpoints/tiny-tiny.pth").read_bytes()
    done = ann2snn(*TRAIN, "--lr", "1e30", "--wd", "1e30")
    assert (done.code, "diverged" in done.err) == (2, True)
    assert (tiny / "checkpoints/tiny-tiny.pth").read_bytes() == before


def test_a_path_of_bytes_that_are_no_text_is_written_read_and_shown(tiny, ann2snn):
    """Files of old systems are named so; JSON and YAML give the same path back."""
    name = "gr\udce4n.pth"  # Latin-1 on disk
    document = ann2snn(*CONVERT, "-T", "3", "--vectors", "1", "--save_file", name, "--json").document
    assert document["files"][0]["path"] == name
    assert (tiny / name).is_file()
    state = torch.load(tiny / name)["nodes"]
    assert ann2snn("convert", "--config", "gr\udce4n.yaml").code == 0
    assert [node["name"] for node in torch.load(tiny / name)["nodes"]] == [node["name"] for node in state]
    assert (
        ann2snn("verify", "gr\udce4n_pack", "--backend", "numpy", "--json").document["pack"]
        == "gr\udce4n_pack"
    )


@pytest.mark.parametrize("words", ["ls", "ls --json", "ls nothing --json", "--help"])
@pytest.mark.parametrize("stream", ["/dev/full", None])
def test_a_stream_that_takes_nothing_is_no_fault_of_ours(words, stream):
    """A full disk is an error in words; whoever closes stdout wants nothing said."""
    redirect = ">&-" if stream is None else f">{stream}"
    if stream and not Path(stream).exists():
        pytest.skip(f"there is no {stream}")
    command = f"{sys.executable} -m ann2snn_cli {words} {redirect}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "fault of ann2snn" not in done.stderr
    wanted = 2 if "nothing" in words else 0 if stream is None else 1
    assert done.returncode == wanted, done.stderr
    assert stream is None or "nothing" in words or "No space left" in done.stderr


def test_letters_that_a_terminal_lacks_do_not_stop_a_result():
    """JSON stays JSON."""
    code = "import sys, io; sys.stdout = io.TextIOWrapper(sys.stdout.buffer, 'ascii'); "
    code += f"from {main.__module__} import main; sys.exit(main(['inspect', 'example_net']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()


@pytest.mark.parametrize("flag", ["--dataset", "--save_file", "--data_dir", "--ann_weight"])
def test_an_empty_text_is_no_value(flag, tmp_path, monkeypatch, ann2snn):
    """As of a shell variable that is not set: exit code 2, and nothing is done."""
    monkeypatch.chdir(tmp_path)
    done = ann2snn("convert", "example_net", flag, "")
    assert done.code == 2
    assert f"{flag} is empty" in done.err
