"""`--rules FILE`: an activation of a user's own, from the command line to the report."""

import pytest

from ann2snn_cli.ir.ops import OPS

NETWORK = '''"""A linear layer, a sigmoid and another: small enough to convert in a moment."""

from torch import nn

DATASET = "npz:tiny.npz"


def build(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Sigmoid(), nn.Linear(8, classes))
'''

RULES = """from ann2snn_cli.ir.ops import Relu


def straight(call):
    return call.add(Relu(limit=1.0), call.scale(call.input, 0.25, 0.5))


RULES = {"aten.sigmoid.default": straight}
"""


def test_a_file_of_rules_is_used_and_named(tiny, ann2snn):
    """A population instead of an opaque layer; the notes say which file the rule came from."""
    (tiny / "sigmoid.py").write_text(NETWORK)
    (tiny / "my_rules.py").write_text(RULES)
    words = ("convert", "./sigmoid.py", "--ann_weight", "none", "--finetune_epochs", "0", "--json")
    assert ann2snn(*words).document["firing_rate"] == {}  # one opaque layer, and no neurons

    done = ann2snn(*words, "--rules", "my_rules.py")

    assert done.code == 0, done.err
    assert len(done.document["firing_rate"]) == 1
    assert "rule for aten.sigmoid.default from my_rules.py" in done.document["notes"]
    assert done.document["settings"]["rules"] == "my_rules.py"


def test_a_wrong_file_of_rules_is_a_wrong_setting(tiny, ann2snn):
    """Exit code 2, with the file and the remedy, from every command that reads a network."""
    (tiny / "my_rules.py").write_text("x = 1\n")
    for command in ("convert", "inspect"):
        done = ann2snn(command, "./tiny.py", "--rules", "my_rules.py", "--json")
        assert done.code == 2
        assert "RULES" in done.out + done.err


NEURONS = """from ann2snn_cli.ir.ops import Neuron, register


class Twofold(Neuron):
    def fire(self, potential, threshold):
        spikes = (potential / threshold).floor().clamp(0, self.most)
        return spikes, potential - spikes * threshold


REGISTERED
RULES = {"neuron": lambda layer: Twofold(most=2)}
"""


@pytest.fixture
def twofold(tiny):
    """Two files of rules for the same neurons, of which one registers their class; forgotten later."""
    (tiny / "known.py").write_text(NEURONS.replace("REGISTERED", "register(Twofold)"))
    (tiny / "unknown.py").write_text(NEURONS.replace("REGISTERED", ""))
    yield
    OPS.pop("Twofold", None)


@pytest.mark.usefixtures("twofold")
def test_neurons_that_a_pth_cannot_name_are_refused_before_any_work(ann2snn):
    """A conversion ends in a `.pth`: the layer, the remedy, and nothing was calibrated or written (B3)."""
    done = ann2snn("convert", "./tiny.py", "--ann_weight", "none", "--rules", "unknown.py")
    assert done.code == 1
    assert "register(Twofold)" in done.err
    assert "calibrate" not in done.err


@pytest.mark.usefixtures("twofold")
def test_neurons_of_ones_own_go_from_convert_to_simulate(ann2snn):
    """The `.pth` is run where the file of rules is named, and refused with that remedy where it is not."""
    words = ("--ann_weight", "none", "--finetune_epochs", "0", "--rules", "known.py", "--json")
    done = ann2snn("convert", "./tiny.py", *words)
    assert done.code == 0, done.err
    assert done.document["engine"] == "reference"
    (snn,) = (each["path"] for each in done.document["files"] if each["path"].endswith(".pth"))

    again = ann2snn("simulate", snn, "--rules", "known.py", "--json")
    assert again.document["accuracy"].items() <= done.document["accuracy"].items()
    for command in ("inspect", "validate"):
        assert ann2snn(command, snn, "--rules", "known.py").code == 0
    del OPS["Twofold"]
    refused = ann2snn("simulate", snn)
    assert refused.code == 1
    assert "--rules" in refused.err
