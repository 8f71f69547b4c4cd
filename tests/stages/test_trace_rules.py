"""Rules in use: a user's own become ops and override the built-in ones; what is refused is named."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ann2snn_cli
from ann2snn_cli.catalog import load_rules
from ann2snn_cli.errors import UnsupportedNetwork, UsageError
from ann2snn_cli.ir.ops import Add, Opaque, Relu, Scale
from ann2snn_cli.ir.run import run
from ann2snn_cli.stages.trace import BUILT_IN, trace

FILE = '''"""Rules of a user's own."""

from ann2snn_cli.ir.ops import Add, Relu


def leaky(call):
    """relu(x) - slope·relu(-x): two populations."""
    slope = call["negative_slope"]
    positive = call.add(Relu(), call.input)
    negative = call.add(Relu(), call.scale(call.input, -1.0))
    return call.add(Add(), positive, call.scale(negative, -slope))


RULES = {"aten.leaky_relu.default": leaky}
'''


@pytest.fixture
def rules(tmp_path):
    """The rules in a user's file."""
    (tmp_path / "my_rules.py").write_text(FILE)
    return load_rules(str(tmp_path / "my_rules.py"))


class Calls(nn.Module):
    """A network that is one function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def leaky_network():
    """Two convolutions with LeakyReLU between them and after them, and a linear layer."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(6, 6, 3, padding=1), nn.LeakyReLU(0.1),
        nn.Flatten(), nn.Linear(6 * 36, 4),
    ).eval()  # fmt: skip


def test_leaky_relu_becomes_a_pair_of_populations(rules):
    """The float graph computes what torch's leaky_relu does; no node of it is opaque."""
    network = nn.LeakyReLU(0.2)
    x = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(1)) * 3

    graph = trace(network, [(3, 4)], rules=rules)

    assert len(graph.of(Relu)) == 2
    assert not graph.of(Opaque)
    torch.testing.assert_close(run(graph, x)[0], F.leaky_relu(x, 0.2), rtol=1e-6, atol=1e-6)


def test_a_composition_carries_the_name_of_its_module(rules):
    """The node that others read is called what the user calls the layer; so is the source of all of them."""
    graph = trace(leaky_network(), [(1, 6, 6)], rules=rules)

    assert type(graph["1"].op) is Add
    assert {node.source for node in graph.nodes if node.name.startswith("1")} == {"1"}
    assert sum(node.name.startswith("1.") for node in graph.nodes) == 4


def test_the_converted_network_is_near_the_float_network(rules):
    """8 bits, T = 64, every layer integrates before it fires: a few percent of the largest output."""
    network = leaky_network()
    x = torch.rand(16, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        wanted = network(x)
    settings = {"weight_bitwidth": 8, "timesteps": 64, "schedule": "layerwise", "mode": "max"}

    snn = ann2snn_cli.convert(network, x, rules=rules, **settings)

    assert not snn.graph.of(Opaque)
    assert (snn(x) - wanted).abs().max() < 0.05 * wanted.abs().max()
    assert "rule for aten.leaky_relu.default from my_rules.py" in snn.provenance.notes


def test_a_rule_takes_the_place_of_a_built_in_one_for_a_run():
    """One that says nothing leaves the call as it is; in the next run it is gone."""
    rules = {"aten.leaky_relu.default": lambda call: None}

    assert len(trace(leaky_network(), [(1, 6, 6)], rules=rules).of(Opaque)) == 2
    assert not trace(leaky_network(), [(1, 6, 6)]).of(Opaque)


def test_a_users_rule_takes_the_place_of_a_built_in_one_for_this_run_only():
    """ReLU as ReLU6, said in a note that names the file; the built-in table is as it was."""
    notes = []
    before = dict(BUILT_IN)

    (capped,) = trace(
        nn.ReLU(), [(3,)], rules={"aten.relu.default": lambda call: Relu(limit=6.0)}, note=notes.append
    ).of(Relu)
    (plain,) = trace(nn.ReLU(), [(3,)]).of(Relu)

    assert (capped.op.limit, plain.op.limit) == (6.0, None)
    assert notes == ["rule for aten.relu.default from test_trace_rules.py"]
    assert before == BUILT_IN


def test_a_rule_that_was_not_used_is_said_to_be_so(rules):
    """The network makes no such call: a wrong operator in the file does not pass in silence."""
    notes = []
    trace(nn.ReLU(), [(3,)], rules=rules, note=notes.append)
    assert notes == ["rule for aten.leaky_relu.default from my_rules.py: not used"]


def test_a_rule_may_hand_on_its_input_or_leave_the_call_as_it_is():
    """`call.input` adds no node; None leaves the operator opaque, and what was added before is dropped."""

    def undecided(call):
        call.add(Relu(), call.input)

    handed_on = trace(nn.GELU(), [(3,)], rules={"aten.gelu.default": lambda call: call.input})
    left = trace(nn.GELU(), [(3,)], rules={"aten.gelu.default": undecided})

    assert len(handed_on.nodes) == 1
    assert [node.op.kind for node in left.nodes] == ["Input", "GELU"]


def test_a_rule_for_one_of_several_results():
    """`call.output` tells which one is asked for."""
    seen = []

    network = Calls(lambda x: x.max(1, keepdim=True)[0].expand(-1, 3) + x)
    trace(network, [(3,)], rules={"aten.max.dim": lambda call: seen.append(call.output)})
    assert seen == [0]


def test_a_rule_that_fails_names_the_users_own_line(tmp_path):
    """`where` is the file and line, the remedy names the operator and the layer."""
    path = tmp_path / "bad.py"
    path.write_text('def bad(call):\n    return 1 / 0\n\nRULES = {"aten.gelu.default": bad}\n')
    with pytest.raises(UsageError, match="ZeroDivisionError") as caught:
        trace(nn.Sequential(nn.GELU()), [(3,)], rules=load_rules(str(path)))
    assert caught.value.where == f"{path}:2"
    assert "aten.gelu.default" in caught.value.remedy


# What no rule takes --------------------------------------------------------------------------------

REFUSED = {
    "random": (lambda x: x + torch.randn_like(x), r"aten\.randn_like\.default.*random", "a rule"),
    "dropout that stays": (
        lambda x: F.dropout(x, 0.5, training=True), r"aten\.\w*dropout\.default.*random", "a rule",
    ),
    "a random constant": (lambda x: x + torch.randn(3), r"aten\.randn\.default.*random", "register_buffer"),
    "unfilled memory": (lambda x: x + torch.empty(3), r"aten\.empty\.memory_format", "register_buffer"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_an_operator_that_is_not_allowed_is_refused_by_name(what):
    """The layer and the operator are named; the remedy is a rule, or for a constant to compute it once."""
    function, message, remedy = REFUSED[what]
    with pytest.raises(UnsupportedNetwork, match=message) as caught:
        trace(Calls(function), [(3,)])
    assert "test_trace_rules.py:" in caught.value.where
    assert remedy in caught.value.remedy


def test_all_that_is_refused_is_said_at_once():
    """Two calls, one error with both."""
    with pytest.raises(UnsupportedNetwork) as caught:
        trace(Calls(lambda x: F.relu(x + torch.randn_like(x)) * torch.rand(3)), [(3,)])
    assert "aten.randn_like.default" in caught.value.what
    assert "aten.rand.default" in caught.value.what
    assert "a rule" in caught.value.remedy
    assert "register_buffer" in caught.value.remedy


def test_a_rule_opens_the_way_for_an_operator_that_is_not_allowed():
    """The remedy works: with a rule for it the network is read."""
    rules = {"aten.native_dropout.default": lambda call: call.input}
    graph = trace(Calls(lambda x: F.relu(F.dropout(x, 0.5, training=True))), [(3,)], rules=rules)
    assert [node.op.kind for node in graph.nodes] == ["Input", "Relu"]


def test_a_custom_operator_is_refused_by_name_and_read_by_a_rule():
    """An operator that torch does not have."""
    with torch.library._scoped_library("ann2snn_test", "DEF") as library:
        library.define("twice(Tensor x) -> Tensor")
        library.impl("twice", lambda x: 2 * x, "CompositeExplicitAutograd")
        library.impl("twice", torch.empty_like, "Meta")
        network = Calls(lambda x: torch.ops.ann2snn_test.twice(x))

        with pytest.raises(UnsupportedNetwork, match=r"ann2snn_test\.twice\.default"):
            trace(network, [(3,)])
        graph = trace(
            network, [(3,)], rules={"ann2snn_test.twice.default": lambda call: call.scale(call.input, 2)}
        )

    x = torch.randn(4, 3)
    assert len(graph.of(Scale)) == 1
    torch.testing.assert_close(run(graph, x)[0], 2 * x)


def test_rules_and_an_onnx_file_do_not_go_together(tmp_path):
    """An ONNX file is read by tables of its own: said, not ignored."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "n.onnx")
    network = ann2snn_cli.stages.trace.load_onnx(tmp_path / "n.onnx", [(3,)])
    with pytest.raises(UsageError, match="ONNX"):
        trace(network, [(3,)], rules={"aten.relu.default": lambda call: Relu()})
