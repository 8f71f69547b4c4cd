"""Rules by themselves: what a `Call` offers, how tables are joined, and what of a user's is refused."""

import pytest
import torch

from ann2snn_cli.errors import UsageError
from ann2snn_cli.ir.ops import Add, AvgPool, BatchSize, Linear, Relu, Reshape, Scale
from ann2snn_cli.ir.rules import Call, Value, merged, registry
from ann2snn_cli.ir.user_rules import user_rules


def leaky_call(shape=(3, 4)):
    """A call of leaky_relu on one value."""
    arguments = {"self": Value(shape), "negative_slope": 0.1}
    return Call("aten.leaky_relu.default", arguments, Value(shape), source="act")


def plain(call):
    """A rule."""
    return Relu()


def test_a_call_gives_its_arguments_by_name_and_its_values_once_each():
    """Values are found in nested arguments too, in order."""
    a, b = Value((2,)), Value((3,))
    call = Call("aten.cat.default", {"tensors": (b, a, b), "dim": 1, "size": BatchSize(1, 0)}, Value((8,)))

    assert call["dim"] == 1
    assert call.inputs == (b, a)
    assert call.input is b
    assert call.shape == (8,)


def test_an_argument_that_is_not_there_is_an_error_that_lists_those_that_are():
    """A misspelled name."""
    with pytest.raises(UsageError, match="no argument 'slope'") as caught:
        leaky_call()["slope"]
    assert "negative_slope" in caught.value.remedy


def test_an_added_node_knows_its_shape():
    """Of a pool, of a sum; of a reshape it is given."""
    call = leaky_call((3, 4, 4))

    pooled = call.add(AvgPool((2, 2), (2, 2), (0, 0)), call.input)
    flat = call.add(Reshape(), pooled, shape=(12,))
    twice = call.add(Add(), flat, flat)

    assert [each.shape for each in (pooled, flat, twice)] == [(3, 2, 2), (12,), (12,)]
    assert [each.inputs for each in call.added] == [(call.input,), (pooled,), (flat, flat)]


def test_scale_takes_numbers_and_tensors_that_broadcast():
    """weight·x + bias, as torch computes it."""
    call = leaky_call((2, 3))
    weight = torch.tensor([[2.0], [3.0]])

    call.scale(call.input, weight, 1.0)

    (added,) = call.added
    assert isinstance(added.op, Scale)
    x = torch.randn(5, 2, 3)
    torch.testing.assert_close(added.op.real([x], (2, 3)), weight * x + 1)


WRONG = {
    "an op that does not fit": lambda call: call.add(Linear(torch.ones(2, 7)), call.input),
    "a reshape without its shape": lambda call: call.add(Reshape(), call.input),
    "a number in place of a value": lambda call: call.add(Relu(), 3.0),
    "a weight that does not fit": lambda call: call.scale(call.input, torch.ones(2, 2, 3, 4)),
    "a weight of another length": lambda call: call.scale(call.input, torch.ones(7)),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_node_that_cannot_be_is_refused_where_it_is_added(what):
    """One UsageError with the layer and a remedy."""
    with pytest.raises(UsageError) as caught:
        WRONG[what](leaky_call())
    assert caught.value.where == "act"
    assert caught.value.remedy


# Tables --------------------------------------------------------------------------------------------


def test_a_table_holds_each_rule_under_its_targets():
    """(rule, targets) pairs."""
    table = registry((plain, ["aten.relu.default", "aten.relu6.default"]))
    assert table == {"aten.relu.default": plain, "aten.relu6.default": plain}


def test_a_target_that_comes_twice_is_refused_in_words():
    """Within a table and between tables, the error names the target and both rules."""

    def other(call):
        return None

    for again in (
        lambda: registry((plain, ["aten.relu.default"]), (other, ["aten.relu.default"])),
        lambda: merged({"aten.relu.default": plain}, {"aten.relu.default": other}),
    ):
        with pytest.raises(
            UsageError, match=r"aten\.relu\.default is registered twice: plain and .*other"
        ) as caught:
            again()
        assert "keep one" in caught.value.remedy


# A user's own ---------------------------------------------------------------------------------------

NO_RULES = {
    "a list": ([plain], "not a dict", "RULES ="),
    "no operator": ({"leaky_relu": plain}, "'leaky_relu'", "aten.NAME.OVERLOAD"),
    "no overload": ({"aten.leaky_relu": plain}, "'aten.leaky_relu'", "did you mean aten.leaky_relu.default"),
    "a wrong overload": ({"aten.add.Tenser": plain}, "aten.add.Tenser", "aten.add.Tensor"),
    "an unknown name": ({"aten.leeky_relu.default": plain}, "aten.leeky_relu.default", "aten.NAME.OVERLOAD"),
    "a number as key": ({3: plain}, "there is no operator 3", "aten.NAME.OVERLOAD"),
    "an op, not a function": ({"aten.silu.default": Relu()}, "is a Relu", "def rule(call)"),
    "a class, not a function": ({"aten.silu.default": Relu}, "is a type", "def rule(call)"),
}


@pytest.mark.parametrize("what", NO_RULES)
def test_a_table_that_holds_no_rules_is_refused(what):
    """Before any network is read: what is wrong, and the remedy."""
    rules, message, remedy = NO_RULES[what]
    with pytest.raises(UsageError) as caught:
        user_rules(rules)
    assert message in caught.value.what
    assert remedy in caught.value.remedy


def test_rules_for_operators_of_other_libraries_are_taken():
    """They may be registered with torch later, when the network is imported."""
    assert set(user_rules({"mylib.activation.default": plain})) == {"mylib.activation.default"}


NONSENSE = {
    "gives a word": (lambda call: "relu", "gave a str"),
    "gives a class": (lambda call: Relu, "gave a type"),
    "gives another shape": (lambda call: call.add(Reshape(), call.input, shape=(12,)), r"\(12,\).*\(3, 4\)"),
    "gives an op of another shape": (lambda call: Linear(torch.ones(5, 4)), r"\(3, 5\).*\(3, 4\)"),
    "gives a value of nobody": (lambda call: Value((3, 4)), "not of this call"),
    "raises": (lambda call: 1 / 0, "ZeroDivisionError"),
    "takes other arguments": (lambda: Relu(), "TypeError"),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_a_rule_that_gives_nonsense_is_one_clear_error(what):
    """It names the operator or the user's own line, and what a rule may give."""
    rule, message = NONSENSE[what]
    own = user_rules({"aten.leaky_relu.default": rule})["aten.leaky_relu.default"]
    with pytest.raises(UsageError, match=message) as caught:
        own(leaky_call())
    assert "test_rules.py" in caught.value.where
    assert "aten.leaky_relu.default" in f"{caught.value.what} {caught.value.remedy}"
