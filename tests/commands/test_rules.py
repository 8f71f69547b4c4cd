"""`--rules FILE`: an activation of a user's own, from the command line to the report."""

LEAKY_NET = '''"""A linear layer, LeakyReLU and another: small enough to convert in a moment."""

from torch import nn

DATASET = "npz:tiny.npz"


def build(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.LeakyReLU(0.1), nn.Linear(8, classes))
'''

RULES = """from ann2snn_cli.ir.ops import Add, Relu


def leaky(call):
    positive = call.add(Relu(), call.input)
    negative = call.add(Relu(), call.scale(call.input, -1.0))
    return call.add(Add(), positive, call.scale(negative, -call["negative_slope"]))


RULES = {"aten.leaky_relu.default": leaky}
"""


def test_a_file_of_rules_is_used_and_named(tiny, ann2snn):
    """Two populations instead of an opaque layer; the notes say which file the rule came from."""
    (tiny / "leaky.py").write_text(LEAKY_NET)
    (tiny / "my_rules.py").write_text(RULES)
    words = ("convert", "./leaky.py", "--ann_weight", "none", "--finetune_epochs", "0", "--json")

    done = ann2snn(*words, "--rules", "my_rules.py")

    assert done.code == 0, done.err
    assert len(done.document["firing_rate"]) == 2
    assert "rule for aten.leaky_relu.default from my_rules.py" in done.document["notes"]
    assert done.document["settings"]["rules"] == "my_rules.py"


def test_a_wrong_file_of_rules_is_a_wrong_setting(tiny, ann2snn):
    """Exit code 2, with the file and the remedy, from every command that reads a network."""
    (tiny / "my_rules.py").write_text("x = 1\n")
    for command in ("convert", "inspect"):
        done = ann2snn(command, "./tiny.py", "--rules", "my_rules.py", "--json")
        assert done.code == 2
        assert "RULES" in done.out + done.err
