"""Module: the numbers of an SNN are buffers of a torch module, and what it computes follows them (B6)."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import ann2snn_cli
from ann2snn_cli import BadWeights, SpikingNetwork
from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import Add, Input, Integrate, IntegrateFire, Linear, Opaque, Ref

ONE = torch.tensor(1.0, dtype=torch.float64)
X = torch.tensor([[8.0, 4.0], [1.0, 3.0]])  # integers: the unit of the input is 1
ENGINES = ("reference", "folded", "fused")


def whole(*numbers):
    """Integers as a graph holds them."""
    return torch.tensor(numbers if len(numbers) > 1 else numbers[0])


def tiny():
    """x -> one neuron of weights (1, 2) and θ = 16 -> read-out; T = 4, V0 = 0, no bias."""
    nodes = (
        Node("x", Input(1.0), (), (2,), unit=ONE),
        Node("layer.0", Linear(torch.tensor([[1, 2]], dtype=torch.int8), bits=4), ("x",), (1,), unit=ONE),
        Node("type", IntegrateFire(whole(16), whole(0), whole(0)), ("layer.0",), (1,), unit=ONE),
        Node("layer.0.out", Integrate(), ("type",), (1,), unit=ONE),
    )
    return SpikingNetwork(Graph(nodes, ("layer.0.out",), Level.SPIKING, Contract(4)))


def rates(snn, engine="reference"):
    """Spikes a step, counted by hand in the tests: of two samples."""
    return snn.simulate(X, engine=engine).outputs[0].flatten().tolist()


def test_the_integers_are_buffers_by_the_names_of_the_layers():
    """A name that every module has already, such as `type`, gets an underscore."""
    snn = tiny()
    held = snn.state_dict()
    assert [name for name in held if not name.endswith("unit")] == [
        "layer.0.weight", "type_.threshold", "type_.bias", "type_.initial",
    ]  # fmt: skip
    assert held["layer.0.weight"].tolist() == [[1, 2]]
    assert not list(snn.parameters())
    assert snn.get_buffer("type_.threshold") == 16


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("by", ["load", "assign", "in place", "data", "numpy", "parent"])
def test_a_changed_number_changes_what_every_engine_computes(engine, by):
    """16 and 7 a step against θ = 16 are 4 and 1 spikes in 4 steps; by weights (2, 0), 16 and 2: 4, 0."""
    snn = tiny()
    assert rates(snn, engine) == [1.0, 0.25]
    changed = torch.tensor([[2, 0]], dtype=torch.int8)
    state = {**snn.state_dict(), "layer.0.weight": changed}
    weight = snn.get_buffer("layer.0.weight")
    if by == "load":
        snn.load_state_dict(state)
    elif by == "assign":
        snn.load_state_dict(state, assign=True)
    elif by == "in place":
        weight.copy_(changed)
    elif by == "data":
        weight.data[:] = changed
    elif by == "numpy":
        weight.numpy()[:] = changed.numpy()
    else:
        nn.ModuleList([snn]).load_state_dict({f"0.{name}": each for name, each in state.items()})

    assert rates(snn, engine) == [1.0, 0.0]
    assert snn.graph["layer.0"].op.weight.tolist() == [[2, 0]]


def test_two_modules_of_one_graph_share_nothing():
    """What is loaded into one is not in the other, nor in the graph."""
    graph = tiny().graph
    one, other = SpikingNetwork(graph), SpikingNetwork(graph)
    one.get_buffer("type_.threshold").fill_(32)
    assert (rates(one), rates(other)) == ([0.5, 0.0], [1.0, 0.25])
    assert graph["type"].op.threshold == 16


def test_copies_and_pickles_compute_the_same_and_are_independent():
    """deepcopy, pickle, and a state dict in a file that torch reads by its safe default."""
    snn = tiny()
    snn.get_buffer("layer.0.weight").copy_(torch.tensor([[2, 0]]))
    file = io.BytesIO()
    torch.save(snn.state_dict(), file)
    file.seek(0)
    loaded = tiny()
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for other in (copy.deepcopy(snn), pickle.loads(pickle.dumps(snn)), loaded):
        assert rates(other) == [1.0, 0.0]
        other.get_buffer("type_.threshold").fill_(1)
        assert rates(other) == [1.0, 1.0]
    assert rates(snn) == [1.0, 0.0]


@pytest.mark.parametrize("move", [nn.Module.half, nn.Module.float, lambda snn: snn.to(torch.bfloat16)])
def test_integers_keep_their_type(move):
    """Units too: half of their digits would be another network. Within another module as well."""
    snn = tiny()
    before = {name: each.clone() for name, each in snn.state_dict().items()}
    move(nn.Sequential(snn))
    after = snn.state_dict()
    assert all(
        each.dtype == after[name].dtype and torch.equal(each, after[name]) for name, each in before.items()
    )
    assert rates(snn) == [1.0, 0.25]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("layer.0.weight", torch.zeros(3), r"layer.0.weight has the shape \[3\], and not \[1, 2\]"),
        ("layer.0.weight", torch.ones(1, 2), "torch.float32, and not torch.int8"),
        ("layer.0.weight", torch.full((1, 2), 300), "holds what torch.int8 cannot hold"),
        ("layer.0.weight", torch.full((1, 2), 8), "integers on their grid"),
        ("layer.0.weight", [[1, 2]], "of type list, and no tensor"),
        ("type_.threshold", torch.tensor(0), "thresholds are 1 or more"),
        ("type_.initial", torch.tensor(2**60), "more than 53 bits"),
        ("type_.unit", ONE * torch.nan, "NaN"),
        ("layer.0.wieght", ONE, "layer.0.wieght is no number of this SNN"),
    ],
)
def test_numbers_that_do_not_fit_are_refused_before_any_is_loaded(name, value, said):
    """Shape, kind, what the type holds, the rules of the graph, unknown names: and all is as it was."""
    snn = tiny()
    state = {**snn.state_dict(), "layer.0.out.unit": 2 * ONE, name: value}
    with pytest.raises(BadWeights, match=said):
        snn.load_state_dict(state)
    assert rates(snn) == [1.0, 0.25]


def test_a_missing_number_is_refused_unless_the_loading_is_not_strict():
    """As torch does, and what is given is loaded."""
    snn = tiny()
    part = {"layer.0.weight": torch.tensor([[2, 0]])}
    with pytest.raises(BadWeights, match=r"out.unit is missing; .*type_"):
        snn.load_state_dict(part)
    snn.load_state_dict({**part, "other": ONE}, strict=False)
    assert rates(snn) == [1.0, 0.0]


def test_numbers_that_were_broken_in_place_are_refused_at_the_next_use():
    """Not run, saved or shown."""
    snn = tiny()
    snn.get_buffer("type_.threshold").zero_()
    for use in (lambda: snn(X), lambda: snn.save("never.pth"), lambda: repr(snn)):
        with pytest.raises(BadWeights, match="thresholds are 1 or more"):
            use()


def test_tensors_of_sums_and_of_operators_are_buffers_too():
    """Of a tuple by their place: the weights of a sum, and the constant of an operator."""
    nodes = (
        Node("x", Input(1.0), (), (2,), unit=ONE),
        Node("mul", Opaque("aten.mul.Tensor", (Ref(0), torch.tensor([1.0, 2.0]))), ("x",), (2,), unit=ONE),
        Node("add", Add((ONE, ONE)), ("x", "mul"), (2,), unit=ONE),
        Node("out", Integrate(), ("add",), (2,), unit=ONE),
    )
    snn = SpikingNetwork(Graph(nodes, ("out",), Level.SPIKING, Contract(2)))
    assert snn(X).tolist() == [[16.0, 12.0], [2.0, 9.0]]
    snn.get_buffer("mul.args_0").zero_()
    snn.get_buffer("add.weights_0").fill_(3)
    assert snn(X).tolist() == [[24.0, 12.0], [3.0, 9.0]]


def test_a_graph_prints_as_a_table():
    """A header and a row a node, under one line of what holds for all."""
    snn = tiny()
    title, header, *rows = str(snn.graph).splitlines()
    assert title == "Graph(SPIKING, timesteps 4, delay 0, reset_mode subtraction, rounding potential)"
    assert header.split() == ["node", "op", "reads", "shape", "details", "module"]
    assert [row.split()[0] for row in rows] == ["x", "layer.0", "type", "layer.0.out"]
    assert repr(snn).splitlines()[1:] == [header, *rows]
    assert repr(snn).startswith("SpikingNetwork(timesteps 4")


def test_the_version_is_that_of_the_package():
    """As `ann2snn --version` has it, and among the names."""
    assert ann2snn_cli.__version__[0].isdigit() or ann2snn_cli.__version__ == "(not installed)"
    assert "__version__" in dir(ann2snn_cli)
