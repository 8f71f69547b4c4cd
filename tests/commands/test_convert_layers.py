"""`convert --layers`: part of a network becomes spiking, the rest stays."""

import pytest
import torch
from torch.nn import functional as F

import ann2snn_cli
from ann2snn_cli import data
from ann2snn_cli.lookup import Reference, load


def test_the_mixed_network_is_scored_and_the_part_is_written(tiny, ann2snn):
    """(A11) The ANN's numbers are torch's, with D = T the mixed ones those of the quantized network."""
    words = ("--layers", "[0-2]", "-e", "2", "-T", "6", "--schedule", "layerwise", "--vectors", "2")

    done = ann2snn("convert", "./tiny.py", *words, "--json")

    assert done.code == 0, done.err
    document = done.document
    network = load(Reference("tiny.py", "build"), "")((1, 8, 8), 3)
    network.load_state_dict(torch.load("checkpoints/tiny-tiny.pth")["state_dict"])
    x, y = (torch.cat(each) for each in zip(*data.load("npz:tiny.npz").test_batches(128), strict=True))
    wanted = float(F.cross_entropy(network(x).detach(), y))
    assert document["scores"]["ann"]["loss"] == pytest.approx(wanted, rel=1e-5)
    assert document["scores"]["mixed"] == document["scores"]["quantized"]
    assert list(document["firing_rate"]) == ["1"]
    snn = ann2snn_cli.load("tiny_part_snn.pth")
    assert snn(x).shape[1:] == (4, 4, 4)
    assert ann2snn("verify", "tiny_part_snn_pack", "--backend", "numpy").code == 0
    again = ann2snn("convert", "./tiny.py", *words)
    assert again.code == 0, "our own files are replaced"
    assert "part SNN" in again.out


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (("--layers", "conv"), "unknown layer 'conv'", 2),
        (("--layers", "0", "--resume"), "--resume does nothing with --layers", 2),
        (("--layers", "0", "--strict"), "--strict does nothing with --layers", 2),
        (("--layers", "0", "--layers", "4"), "not one piece", 1),
    ],
)
def test_layers_that_cannot_be_are_refused(words, said, code, tiny, ann2snn):
    """(A11) With the name, or with what lies between."""
    done = ann2snn("convert", "./tiny.py", "-e", "0", *words)
    assert (done.code, said in done.err) == (code, True), done.err
    assert not list(tiny.glob("*_snn*"))
