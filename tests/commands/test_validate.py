"""`validate`: an ANN or an SNN is scored by itself, with top-1, loss and firing rates."""

import pytest
import torch
from torch.nn import functional as F

import ann2snn_cli
from ann2snn_cli import data
from ann2snn_cli.lookup import Reference, load

FIELDS = {
    "schema", "network", "dataset", "kind", "timesteps", "delay", "test_samples", "metric",
    "higher_is_better", "scores",
    "firing_rate", "spikes_per_sample", "engine", "notes",
}  # fmt: skip


def test_an_ann_and_its_snn_are_scored_alone(tiny, ann2snn):
    """(A8) Top-1 and loss are torch's on the test split; the SNN's rates are those of its conversion."""
    converted = ann2snn("convert", "./tiny.py", "-e", "0", "-T", "6", "--json").document
    ann = ann2snn("validate", "./tiny.py", "--json").document
    snn = ann2snn("validate", "tiny_snn.pth", "--json").document

    network = load(Reference("tiny.py", "build"), "")((1, 8, 8), 3)
    network.load_state_dict(torch.load("checkpoints/tiny-tiny.pth")["state_dict"])
    x, y = (torch.cat(each) for each in zip(*data.load("npz:tiny.npz").test_batches(128), strict=True))
    for document, outputs in ((ann, network(x).detach()), (snn, ann2snn_cli.load("tiny_snn.pth")(x))):
        assert set(document) == FIELDS
        assert document["test_samples"] == len(y)
        assert document["scores"]["accuracy"] == float((outputs.argmax(1) == y).double().mean())
        assert document["scores"]["loss"] == pytest.approx(float(F.cross_entropy(outputs, y)), rel=1e-5)
    assert (ann["kind"], ann["timesteps"], ann["firing_rate"]) == ("ann", None, {})
    assert (snn["kind"], snn["timesteps"], snn["delay"]) == ("snn", 6, 0)
    assert snn["firing_rate"] == converted["firing_rate"]


def test_people_read_a_table_of_each(tiny, ann2snn):
    """The metric of both, and of the SNN a line a population, at the delay that is asked for."""
    assert ann2snn("convert", "./tiny.py", "-e", "0", "-T", "6").code == 0
    ann = ann2snn("validate", "./tiny.py", "--test_samples", "5")
    assert "5 test samples, ANN" in ann.out
    assert "firing" not in ann.out
    snn = ann2snn("validate", "tiny_snn.pth", "--delay", "6")
    assert "6 timesteps, delay 6" in snn.out
    for word in ("accuracy", "loss", "population", "spikes a sample"):
        assert word in snn.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("./tiny.py", "--delay", "1"), "--delay does nothing for an ANN"),
        (("./tiny.py", "--engine", "reference"), "--engine does nothing for an ANN"),
        (("tiny_snn.pth", "--ann_weight", "none"), "--ann_weight does nothing for an SNN"),
        (("absent.pth",), "absent.pth"),
        (("tinny",), "unknown network"),
    ],
)
def test_an_option_that_does_nothing_and_a_wrong_name_are_refused(words, said, tiny, ann2snn):
    """With exit code 2, as by every command."""
    done = ann2snn("validate", *words)
    assert done.code == 2
    assert said in done.err
