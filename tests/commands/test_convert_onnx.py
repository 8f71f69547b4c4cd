"""An ONNX file where a network is named: it converts as the network it came from does."""

import contextlib
import hashlib
import importlib.util
import io
import warnings

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

ON_TINY = ("--dataset", "npz:tiny.npz")
FAST = ("--finetune_epochs", "0", "--vectors", "0", "--batch_size", "16", "--json")


@pytest.fixture
def exported(tiny):
    """tiny.onnx beside tiny.py: the trained network, with a softmax behind it."""
    spec = importlib.util.spec_from_file_location("tiny_network", tiny / "tiny.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.build((1, 8, 8), 3)
    network.load_state_dict(torch.load("checkpoints/tiny-tiny.pth")["state_dict"])
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # around this call only: the exporter announces its end
        whole = nn.Sequential(network, nn.Softmax(1)).eval()
        torch.onnx.export(whole, (torch.zeros(1, 1, 8, 8),), "tiny.onnx", opset_version=17, dynamo=False)
    return tiny / "tiny.onnx"


def test_it_converts_as_the_network_it_came_from_does(exported, ann2snn):
    """The same accuracies and spikes, the ANN's among them; the softmax that was left out is noted."""
    done = ann2snn("convert", "tiny.onnx", *ON_TINY, *FAST)
    assert done.code == 0, done.err
    wanted = ann2snn("convert", "./tiny.py", *FAST, "--overwrite").document

    assert done.document["accuracy"] == wanted["accuracy"]
    assert done.document["accuracy"]["ann"] > 0.9
    assert done.document["spikes_per_sample"] == wanted["spikes_per_sample"]
    assert done.document["layerwise_differs_from_quantized"] == 0
    assert any("Softmax" in note for note in done.document["notes"])


def test_the_document_names_the_file_and_its_fingerprint(exported, ann2snn):
    """As it names a checkpoint; the results are called after the file."""
    document = ann2snn("convert", "tiny.onnx", *ON_TINY, *FAST).document
    sha256 = hashlib.sha256(exported.read_bytes()).hexdigest()
    assert document["weights"] == {"file": "tiny.onnx", "sha256": sha256}
    assert document["network"] == "tiny"
    assert (exported.parent / "tiny_snn.pth").is_file()


@pytest.mark.parametrize("command", ["check", "inspect"])
def test_other_commands_take_it_too(exported, ann2snn, command):
    """With its layers by their modules; notes go to stderr."""
    done = ann2snn(command, str(exported), *ON_TINY, "--json")
    assert done.code == 0, done.err
    assert "0.0" in done.out
    assert "note: the final Softmax" in done.err
    assert done.document["schema"] == f"ann2snn/{command}/1"


REFUSED = {
    "weights of its own": (("convert", "tiny.onnx", *ON_TINY, "--ann_weight", "w.pth"), 2, "--ann_weight"),
    "no weights": (("convert", "tiny.onnx", *ON_TINY, "--ann_weight", "none"), 2, "--ann_weight"),
    "training": (("train", "tiny.onnx", *ON_TINY), 2, "trained network"),
    "no dataset": (("convert", "tiny.onnx"), 2, "--dataset"),
    "no such file": (("convert", "tony.onnx", *ON_TINY), 2, "does not exist"),
    "a folder": (("convert", "folder.onnx", *ON_TINY), 2, "is a folder"),
    "other data": (("convert", "tiny.onnx", "--dataset", "digits"), 1, "takes samples of shape (1, 8, 8)"),
    "no ONNX": (("convert", "text.onnx", *ON_TINY), 1, "not an ONNX file"),
    "no weight file": (("check", "far.onnx", *ON_TINY), 1, "far.data"),
    "unknown operators": (("check", "odd.onnx", *ON_TINY), 1, "first (first/Det), second"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_inputs_are_refused(exported, ann2snn, name):
    """One error, what and what to do, and nothing is written."""
    (exported.parent / "folder.onnx").mkdir()
    (exported.parent / "text.onnx").write_text("no network")
    whole = onnx.load("tiny.onnx")
    onnx.save(whole, "far.onnx", save_as_external_data=True, location="far.data", size_threshold=0)
    (exported.parent / "far.data").unlink()
    onnx.save(_odd(), "odd.onnx")
    before = sorted(path.name for path in exported.parent.rglob("*"))

    words, code, says = REFUSED[name]
    done = ann2snn(*words)

    assert (done.code, done.out) == (code, "")
    assert says in done.err
    assert "remedy: " in done.err
    assert sorted(path.name for path in exported.parent.rglob("*")) == before


def _odd():
    nodes = [
        helper.make_node("Det", ["x"], ["a"], name="first/Det"),
        helper.make_node("Det", ["x"], ["b"], name="second"),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ("n", 1, 8, 8)), ("y", ("n", 1)))
    ]
    graph = helper.make_graph(nodes, "odd", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
