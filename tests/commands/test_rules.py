"""`--rules FILE`: an activation of a user's own, from the command line to the report."""

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
