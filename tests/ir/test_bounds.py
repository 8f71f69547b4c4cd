"""Bounds on integers: proved from the weights, reached by a network made for it, exceeded by none."""

import math

import pytest
import torch

from ann2snn_cli.ir.bounds import bounds, exact_dtype
from ann2snn_cli.ir.graph import Contract, Graph, Level, Node
from ann2snn_cli.ir.ops import (
    Add,
    AvgPool,
    Concat,
    Conv,
    Input,
    Integrate,
    IntegrateFire,
    Linear,
    MaxPool,
    Opaque,
    Ref,
    Scale,
)
from ann2snn_cli.ir.trains import Trains

ONE = torch.tensor(1.0, dtype=torch.float64)


def spiking(*nodes, timesteps=4):
    """A SPIKING graph of (name, op, inputs, shape)."""
    nodes = tuple(Node(*node, unit=ONE) for node in nodes)
    return Graph(nodes, (nodes[-1].name,), Level.SPIKING, Contract(timesteps))


def fires(threshold, bias=0, initial=0, fraction_bits=0):
    """A population with one threshold."""
    return IntegrateFire(torch.tensor(threshold), torch.tensor(bias), torch.tensor(initial), fraction_bits)


def largest(graph, x, schedule):
    """By node: the largest |sum so far| passed on and |potential before the reset|, as simulated."""
    rules = Trains(graph, schedule, torch.float64, keep_potentials=True)
    trains, passed, potential = {}, {}, {}
    for node in graph.nodes:
        if isinstance(node.op, Input):
            trains[node.name] = rules.present(node.op, x)
        else:
            activity = rules.compute(node, [trains[name] for name in node.inputs])
            trains[node.name] = activity.train
            if isinstance(node.op, IntegrateFire):  # before the reset: what was subtracted added again
                before = activity.potentials + activity.train * node.op.threshold
                potential[node.name] = float(before.abs().max())
            elif activity.potentials is not None:
                potential[node.name] = float(activity.potentials.abs().max())
        passed[node.name] = float(trains[node.name].cumsum(0).abs().max())
    return passed, potential


def test_a_network_made_to_reach_its_bounds():
    """All inputs at 255, all weights positive: the drives are exactly the bounds."""
    graph = spiking(
        ("x", Input(unit=1.0), (), (3,)),
        ("fc", Linear(torch.tensor([[1, 2, 3], [-7, 0, 0]], dtype=torch.int8)), ("x",), (2,)),
        ("out", Integrate(torch.tensor([10, -5]), torch.tensor([3, 1])), ("fc",), (2,)),
    )

    found = bounds(graph)

    assert found["x"].passed_on == 4 * 255
    assert found["fc"].passed_on == 7 * 4 * 255  # row 2 has the largest Σ|w|
    assert found["out"].passed_on == 7 * 4 * 255 + 4 * 10 + 3
    passed, _ = largest(graph, torch.full((1, 3), 255.0), "stepwise")
    assert passed["x"] == found["x"].passed_on
    assert passed["fc"] == found["fc"].passed_on


def test_the_rules_by_hand():
    """Every kind of node once, in numbers."""
    grouped = Conv(torch.tensor([[[1, -2]], [[3, 4]]], dtype=torch.int8), None, (1,), (0,), (1,), 2)
    transposed = Conv(
        torch.tensor([[[1, -2]], [[3, 4]]], dtype=torch.int8), None, (1,), (0,), (1,), 1, True, (0,)
    )
    graph = spiking(
        ("x", Input(unit=1.0, low=-127, high=127), (), (2, 4)),
        ("n", fires(50, bias=-2, initial=25, fraction_bits=3), ("x",), (2, 4)),
        ("conv", grouped, ("n",), (2, 3)),
        ("up", transposed, ("n",), (1, 5)),
        ("scale", Scale(torch.tensor([[-6], [2]], dtype=torch.int8)), ("n",), (2, 4)),
        ("sum", Add((torch.tensor(5), torch.tensor(3))), ("n", "n"), (2, 4)),
        ("pool", AvgPool((4,), (4,), (0,)), ("n",), (2, 1)),
        ("max", MaxPool((2,), (2,), (0,), (1,)), ("sum",), (2, 2)),
        ("cat", Concat(), ("n", "scale"), (4, 4)),
        ("f", Opaque("aten.gelu.default", (Ref(0),)), ("n",), (2, 4)),
    )

    found = bounds(graph)

    assert found["x"].passed_on == 4 * 127
    assert found["n"].passed_on == 4  # at most one spike a step
    assert found["n"].potential == 8 * 4 * 127 + 4 * 2 + 25 + 50
    assert found["conv"].passed_on == 4 * 7
    assert found["up"].passed_on == 4 * (1 + 2 + 3 + 4)
    assert found["scale"].passed_on == 4 * 6
    assert found["sum"].passed_on == 4 * 8
    assert found["pool"].passed_on == 4 * 4
    assert found["max"].passed_on == 4 * 8
    assert found["cat"].passed_on == 4 * 6
    assert found["f"].passed_on == math.inf


@pytest.mark.parametrize("schedule", ["stepwise", "layerwise"])
@pytest.mark.parametrize("seed", range(6))
def test_no_random_network_exceeds_its_bounds(seed, schedule):
    """Convolutions, groups, transposition, addition, pooling: at every step, in both schedules."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low, high, *shape):
        return torch.randint(low, high, shape, generator=generator)

    graph = spiking(
        ("x", Input(unit=1.0, low=-127, high=127), (), (2, 6, 6)),
        ("conv", Conv(draw(-7, 8, 4, 1, 3, 3), None, (1, 1), (1, 1), groups=2), ("x",), (4, 6, 6)),
        (
            "n",
            IntegrateFire(draw(1, 400, 4, 1, 1), draw(-50, 50, 4, 1, 1), draw(0, 99, 4, 1, 1), 2),
            ("conv",),
            (4, 6, 6),
        ),
        ("pool", AvgPool((2, 2), (2, 2), (0, 0)), ("n",), (4, 3, 3)),
        ("up", Conv(draw(-7, 8, 4, 3, 2, 2), None, (2, 2), groups=2, transposed=True), ("pool",), (6, 6, 6)),
        ("down", Conv(draw(-7, 8, 6, 4, 1, 1)), ("n",), (6, 6, 6)),
        ("sum", Add((draw(1, 90), draw(1, 90))), ("up", "down"), (6, 6, 6)),
        ("out", Integrate(draw(-9, 9, 6, 1, 1), draw(0, 4, 6, 1, 1)), ("sum",), (6, 6, 6)),
        timesteps=5,
    )
    x = draw(-127, 128, 4, 2, 6, 6).double()
    found = bounds(graph)

    passed, potential = largest(graph, torch.cat([x, x.sign() * 127]), schedule)

    for name in passed:
        assert passed[name] <= found[name].passed_on, name
    for name in potential:
        assert potential[name] <= found[name].potential, name


@pytest.mark.parametrize(
    ("weight", "dtype"),
    [(torch.int8, torch.float32), (torch.int64, torch.float64), (torch.float64, torch.float64)],
)
def test_the_narrowest_exact_type(weight, dtype):
    """float32 while sums stay below 2^22; wider integers and real weights take float64."""
    values = torch.tensor([[1, 2, 3]]) if weight != torch.int64 else torch.tensor([[1, 2, 5000]])
    graph = spiking(("x", Input(unit=1.0), (), (3,)), ("fc", Linear(values.to(weight)), ("x",), (1,)))

    assert exact_dtype(graph) is dtype


def test_opaque_nodes_take_float64():
    """Real numbers need all the digits there are."""
    graph = spiking(
        ("x", Input(unit=1.0), (), (3,)), ("f", Opaque("aten.gelu.default", (Ref(0),)), ("x",), (3,))
    )

    assert exact_dtype(graph) is torch.float64
