"""`export`: a converted network for others: the vector pack, its programs, ONNX, NIR."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

FIELDS = {"schema", "snn", "delay", "schedule", "timesteps", "files", "notes"}


@pytest.fixture
def converted(tiny, ann2snn):
    """A working directory with tiny_snn.pth alone."""
    done = ann2snn("convert", "./tiny.py", "-e", "0", "-T", "3", "--weight_bitwidth", "4", "--vectors", "0")
    assert done.code == 0, done.err
    return tiny


def manifest(folder):
    """That of the pack in a folder."""
    return json.loads((folder / "tiny_snn_pack/manifest.json").read_text())


def test_a_pack_is_what_convert_writes(converted, ann2snn):
    """By default: the same bytes, from the .pth alone."""
    document = ann2snn("export", "tiny_snn.pth", "--json").document
    assert set(document) == FIELDS
    assert [file["path"] for file in document["files"]] == ["tiny_snn_pack/"]
    exported = files_of(converted / "tiny_snn_pack")
    assert sum(map(len, exported.values())) == document["files"][0]["bytes"]
    again = ("convert", "./tiny.py", "-e", "0", "-T", "3", "--weight_bitwidth", "4", "--vectors", "10")
    assert ann2snn(*again).code == 0
    assert files_of(converted / "tiny_snn_pack") == exported


def files_of(folder):
    """The content of every file in a folder."""
    found = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found
    return found


def test_its_size_can_be_bounded(converted, ann2snn):
    """--samples, --no_corners, --layers (by the user's own name), --steps, --no_potentials."""
    words = ("--samples", "2", "--no_corners", "--layers", "1", "--steps", "2", "--no_potentials")
    assert ann2snn("export", "tiny_snn.pth", *words).code == 0
    content = manifest(converted)
    assert content["recorded"] == {"steps": 2, "potentials": False, "layers": ["1"]}
    assert [sample["name"] for sample in content["samples"]] == ["test_0000", "test_0001"]
    assert content["contract"]["timesteps"] == 3
    names = sorted(path.name for path in (converted / "tiny_snn_pack/expect/test_0000").iterdir())
    assert names == ["1.spk.mem", "result.json"]
    assert len((converted / "tiny_snn_pack/expect/test_0000/1.spk.mem").read_text().split()) == 2
    assert ann2snn("verify", "tiny_snn_pack", "--backend", "numpy").code == 0


def test_several_formats_at_once(converted, ann2snn):
    """Repeated or with commas; programs lie in the pack, and are in its manifest."""
    document = ann2snn(
        "export", "tiny_snn.pth", "--format", "c,verilog", "--format", "onnx", "--json"
    ).document
    names = [file["path"] for file in document["files"]]
    assert names == ["tiny_snn_pack/", "tiny_snn.onnx", "tiny_snn_step.onnx"]
    listed = manifest(converted)["files"]
    for language in ("c", "verilog"):
        own = [name for name in listed if name.startswith(f"{language}/")]
        assert f"{language}/README.md" in own
        assert all((converted / "tiny_snn_pack" / name).is_file() for name in own)
    assert ann2snn("verify", "tiny_snn_pack", "--backend", "numpy").code == 0


@pytest.mark.parametrize(
    ("words", "delay"), [(("--schedule", "layerwise"), 3), (("--delay", "2"), 2), (("--delay", "0"), 0)]
)
def test_another_delay_may_be_asked_for(words, delay, converted, ann2snn):
    """By name or by number; the .pth keeps its own."""
    document = ann2snn("export", "tiny_snn.pth", *words, "--samples", "1", "--json").document
    assert document["delay"] == delay
    assert manifest(converted)["contract"]["delay"] == delay
    assert torch.load(converted / "tiny_snn.pth")["contract"]["delay"] == 0


def test_the_onnx_file_is_the_network(converted, ann2snn):
    """Held by onnx's own reference against what the pack expects; standard operators, and its metadata."""
    assert ann2snn("export", "tiny_snn.pth", "--format", "pack", "--format", "onnx").code == 0
    model = onnx.load(converted / "tiny_snn.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain for entry in model.opset_import} == {""}
    with np.load(converted / "tiny_snn_pack/pack.npz") as arrays:
        stimulus, spikes = arrays["stimulus/test_0000/input"], arrays["expect/test_0000/1.spk"]
    shown = np.repeat(stimulus[None, None].astype(np.uint8), 3, axis=0)  # [timesteps, batch, ...]
    (fired,) = ReferenceEvaluator(model).run(["spikes/1"], {"input": shown})
    assert np.array_equal(fired[:, 0], spikes)
    assert fired.any()


def test_a_replay_needs_neither_us_nor_torch(converted, ann2snn):
    """`python PACK/replay.py`, where both cannot be imported."""
    assert ann2snn("export", "tiny_snn.pth", "--samples", "1").code == 0
    blocked = "import sys; sys.modules['torch'] = sys.modules['ann2snn_cli'] = None; "
    runs = "import runpy; runpy.run_path('tiny_snn_pack/replay.py', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", blocked + runs], capture_output=True, text=True, cwd=converted
    )
    assert done.returncode == 0, done.stderr
    assert "mismatch=0" in done.stdout


def test_nir_comes_with_what_it_loses(converted, ann2snn):
    """The table is printed, and written beside the file."""
    pytest.importorskip("nir", reason="the nir extra is not installed")
    done = ann2snn("export", "tiny_snn.pth", "--format", "nir")
    assert done.code == 0
    assert "reset by subtraction" in done.out
    losses = json.loads((converted / "tiny_snn.nir.loss.json").read_text())["losses"]
    assert any(loss["what"] == "reset by subtraction" for loss in losses)
    assert ann2snn("export", "tiny_snn.pth", "--format", "nir", "--flavor", "composite").code == 0


def test_what_is_not_ours_stays(converted, ann2snn):
    """A folder, an ONNX file; --overwrite replaces them, ours are replaced without."""
    (converted / "tiny_snn_pack").mkdir()
    (converted / "tiny_snn.onnx").write_text("theirs")
    for name, format_ in (("tiny_snn_pack", "pack"), ("tiny_snn.onnx", "onnx")):
        done = ann2snn("export", "tiny_snn.pth", "--format", format_)
        assert done.code == 1
        assert f"where: {name}" in done.err
        assert "--save_dir" in done.err
        assert ann2snn("export", "tiny_snn.pth", "--format", format_, "--overwrite").code == 0
        assert ann2snn("export", "tiny_snn.pth", "--format", format_).code == 0


def test_what_was_changed_since_stays(converted, ann2snn):
    """A guide that somebody wrote into, an ONNX file that another tool saved: --overwrite replaces them."""
    words = ("export", "tiny_snn.pth", "--format", "pack", "--format", "onnx")
    assert ann2snn(*words).code == 0
    guide, model = converted / "tiny_snn_pack/README.md", converted / "tiny_snn.onnx"
    edited = onnx.load(model)
    edited.doc_string = "mine"
    for path, content in ((guide, guide.read_bytes() + b"mine"), (model, edited.SerializeToString())):
        kept = path.read_bytes()
        path.write_bytes(content)
        done = ann2snn(*words)
        assert (done.code, path.read_bytes()) == (1, content)
        assert "changed since ann2snn wrote" in done.err
        assert "--overwrite" in done.err
        path.write_bytes(kept)
    assert ann2snn(*words).code == 0


def test_results_go_where_they_are_told(converted, ann2snn):
    """--save_dir, made if it is missing."""
    assert ann2snn("export", "tiny_snn.pth", "--format", "pack,onnx", "--save_dir", "out/here").code == 0
    names = sorted(path.name for path in (converted / "out/here").iterdir())
    assert names == ["tiny_snn.onnx", "tiny_snn_pack", "tiny_snn_step.onnx"]


def test_real_numbers_are_refused_by_name(tiny, ann2snn):
    """A network of 32 bits has no pack: convert says so, export refuses."""
    done = ann2snn("convert", "./tiny.py", "-e", "0", "--weight_bitwidth", "32", "--json")
    assert done.code == 0, done.err
    document = done.document
    assert not (tiny / "tiny_snn_pack").exists()
    assert any(
        "no vector pack was written: real numbers are left in 2 layers" in note for note in document["notes"]
    )
    for format_ in ("pack", "onnx"):
        done = ann2snn("export", "tiny_snn.pth", "--format", format_)
        assert done.code == 1
        assert "where: 0, 4" in done.err
        assert "remedy: convert with a --weight_bitwidth of 1 to 8" in done.err


def test_wrong_words_are_answered(converted, ann2snn):
    """An unknown format, flavor, layer."""
    done = ann2snn("export", "tiny_snn.pth", "--format", "onx")
    assert (done.code, "did you mean onnx?" in done.err) == (2, True)
    done = ann2snn("export", "tiny_snn.pth", "--layers", "9")
    assert (done.code, "name one of: 1" in done.err) == (2, True)
    assert not (converted / "tiny_snn_pack").exists()
    assert ann2snn("export", "nothing.pth").code == 2


@pytest.mark.usefixtures("converted")
def test_a_pack_without_samples_is_refused(ann2snn):
    """It would have nothing to compare, and every twin would agree with it."""
    done = ann2snn("export", "tiny_snn.pth", "--samples", "0", "--no_corners")
    assert done.code == 2
    assert "without samples has nothing to compare" in done.err
