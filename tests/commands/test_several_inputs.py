"""A network and a dataset with two inputs, each in a file of a user's own, on the command line."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import two_inputs

from ann2snn_cli.twins.twin import Verilog
from ann2snn_cli.workflows import verify

BACKENDS = [word for name in ("numpy", "onnx", "onnxruntime") for word in ("--backend", name)]
NUMPY = ("--backend", "numpy")


class Unable(Verilog):
    """A simulator that refuses the network: no clocks are expected of it."""

    def clocks(self, pack):
        return 0

    def verify(self, pack, samples, work):
        raise verify.Damaged([verify.Problem("manifest.json", "it is too deep")])


@pytest.fixture(scope="module")
def two(tmp_path_factory, in_folder, ann2snn):
    """A folder in which ./two.py was converted on ./data.py:load."""
    folder = tmp_path_factory.mktemp("two")
    for name in ("two.py", "data.py"):
        shutil.copy(two_inputs.__file__, folder / name)
    with in_folder(folder):
        words = ("-e", "0", "-T", "8", "--mode", "max", "--vectors", "2", "--json")
        done = ann2snn("convert", "./two.py", "--dataset", "./data.py:load", *words)
    assert done.code == 0, done.err
    assert done.document["accuracy"]["ann"] == 1.0  # the labels are the network's own answers
    return folder


@pytest.fixture
def there(two, monkeypatch):
    """Work in that folder."""
    monkeypatch.chdir(two)
    return two


def test_the_saved_snn_is_run_on_both_inputs(there, ann2snn):
    """The dataset is found by the name in the file; another one is refused with all shapes."""
    document = ann2snn("simulate", "two_snn.pth", "--json").document
    assert document["accuracy"]["layerwise"] >= 0.8
    assert document["layerwise_differs_from_quantized"] == 0
    done = ann2snn("simulate", "two_snn.pth", "--dataset", "digits")
    assert done.code == 1
    assert "(1, 28, 28), the network takes image (1, 4, 4), vector (5,)" in done.err


def test_an_export_is_verified(there, ann2snn, tmp_path):
    """The pack that is written, and one that is made of the SNN for the time of the check."""
    options = ("--samples", "2", "--save_dir", str(tmp_path))
    done = ann2snn("export", "two_snn.pth", "--format", "pack", "--format", "onnx", *options)
    assert done.code == 0, done.err
    done = ann2snn("verify", str(tmp_path / "two_snn_pack"), *BACKENDS)
    assert done.code == 0, done.out
    assert ann2snn("verify", "two_snn.pth", "--samples", "1", *NUMPY).code == 0
    with np.load(tmp_path / "two_snn_pack/pack.npz") as arrays:
        assert arrays["stimulus/test_0000/vector"].shape == two_inputs.VECTOR


def test_a_simulator_that_refuses_a_network_says_so(there, ann2snn, monkeypatch):
    """No clocks are expected of it: that is a reason in words, and the other twins are still heard."""
    twins = {"numpy": verify.TWINS["numpy"], "unable": Unable("unable", 10)}
    monkeypatch.setattr(verify, "TWINS", twins)
    monkeypatch.setattr(Unable, "unavailable", lambda self: "")
    monkeypatch.setattr(Unable, "version", lambda self: "1")
    done = ann2snn("verify", "two_snn_pack", "--json")
    assert done.code == 4
    first, second = done.document["backends"]
    assert (first["agrees"], second["agrees"]) == (True, False)
    assert "it is too deep" in second["failed"]


def test_the_chip_is_asked_about_both_branches(there, ann2snn):
    """A check needs shapes only: both are in its report."""
    done = ann2snn("check", "./two.py", "--dataset", "./data.py:load", "--hardware", "v1", "--json")
    assert done.document["input_shape"] == [[1, 4, 4], [5]]
    assert Path("two_snn_pack").is_dir()


def test_arrays_by_the_names_of_the_inputs_are_converted(there, ann2snn, tmp_path):
    """A .npz instead of a loader, in another order than forward's; the answers are the network's own."""
    (image, vector), labels = two_inputs.labelled(60, seed=1)
    arrays = {"vector": vector.numpy(), "image": image.numpy(), "y": labels.numpy()}
    source = Path("two.py").read_text().replace("def build", "def _build") + BY_NAME
    (tmp_path / "named.py").write_text(source)
    np.savez(tmp_path / "named.npz", **arrays)
    words = ("convert", str(tmp_path / "named.py"), "--dataset", f"npz:{tmp_path / 'named.npz'}")
    done = ann2snn(
        *words, "-e", "0", "-T", "8", "--mode", "max", "--vectors", "0",
        "--save_file", str(tmp_path / "named_snn.pth"), "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.document["accuracy"]["ann"] == 1.0
    assert done.document["layerwise_differs_from_quantized"] == 0

    np.savez(tmp_path / "named.npz", photo=arrays["image"], vector=arrays["vector"], y=arrays["y"])
    done = ann2snn("check", *words[1:], "--hardware", "v1")
    assert done.code == 1
    assert "the network takes the inputs image, vector, there are samples for photo, vector" in done.err
    assert "remedy: give samples by these names" in done.err


BY_NAME = '''

def build(input_shape, classes):
    """The shapes come by name, too."""
    return network()
'''
