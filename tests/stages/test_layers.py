"""D = T: a convolution and the population behind it in one pass give the counts of the reference."""

import pytest
import torch

from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.engine import Request
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import Add, Conv, Input, Integrate, IntegrateFire, Linear, Reshape
from ann2snn_cli.stages.simulate import ENGINES
from ann2snn_cli.stages.simulate.counts import CountsPlan
from ann2snn_cli.stages.simulate.onednn import Ending, counts_exactly
from ann2snn_cli.stages.simulate.portions import constant

ONE = torch.tensor(1.0, dtype=torch.float64)
NOTHING = torch.tensor(0)

needs_bytes = pytest.mark.skipif(not counts_exactly(), reason="this machine has no exact counts in bytes")


def whole(*shape, low=-127, high=127):
    """Random integers."""
    return torch.randint(low, high + 1, shape)


def population(feeder, shape, threshold=500, *, wide=True, bits=0, name="fire"):
    """Of thresholds that differ between channels, or of one."""
    values = threshold + whole(shape[0], 1, 1, low=0, high=99) if wide else torch.tensor(threshold)
    bias, initial = whole(shape[0], 1, 1, low=-40, high=40), whole(shape[0], 1, 1, low=0, high=threshold)
    return Node(name, IntegrateFire(values, bias, initial, bits), (feeder,), shape, unit=ONE)


def ended(nodes, last, contract, outputs=()):
    """The nodes with a read-out."""
    size = last.shape[0] * last.shape[1] * last.shape[2]
    readout = (
        Node("flat", Reshape(), (last.name,), (size,), unit=ONE),
        Node("fc", Linear(whole(5, size), bits=8), ("flat",), (5,), unit=ONE),
        Node("out", Integrate(NOTHING, NOTHING), ("fc",), (5,), unit=ONE),
    )
    return Graph((*nodes, *readout), ("out", *outputs), Level.SPIKING, contract)


def begun(channels):
    """A first layer, which not all machines multiply in bytes."""
    conv = Conv(whole(channels, 3, 3, 3), padding=(1, 1), bits=8)
    return (
        Node("x", Input(1 / 255), (), (3, 6, 6), unit=ONE),
        Node("conv0", conv, ("x",), (channels, 6, 6), unit=ONE),
        population("conv0", (channels, 6, 6), 4000, name="fire0"),
    )


def plain(contract, *, bits=0, stride=(1, 1), groups=1):
    """Two convolutions, each with its population."""
    size = 6 // stride[0], 6 // stride[1]
    conv = Conv(whole(8, 8 // groups, 3, 3), stride=stride, padding=(1, 1), groups=groups, bits=8)
    nodes = begun(8)
    nodes += (Node("conv", conv, ("fire0",), (8, *size), unit=ONE),)
    nodes += (population("conv", (8, *size), bits=bits),)
    return ended(nodes, nodes[-1], contract)


def residual(contract, *, weights=(1, 60), wide=False, raw=False, last=False):
    """What the first population fires is added to a convolution of it; or, raw, another convolution of it."""
    conv = Conv(whole(8, 8, 3, 3), padding=(1, 1), bits=8)
    nodes = (*begun(8), Node("conv", conv, ("fire0",), (8, 6, 6), unit=ONE))
    if raw:
        nodes += (Node("side", Conv(whole(8, 8, 1, 1), bits=8), ("fire0",), (8, 6, 6), unit=ONE),)
    terms = [("conv", weights[0]), ("side" if raw else "fire0", weights[1])]
    names, factors = zip(*(terms[::-1] if last else terms), strict=True)
    nodes += (Node("add", Add(tuple(map(torch.tensor, factors))), names, (8, 6, 6), unit=ONE),)
    nodes += (population("add", (8, 6, 6), wide=wide),)
    return ended(nodes, nodes[-1], contract)


KINDS = {
    "plain": plain,
    "fraction bits": lambda contract: plain(contract, bits=3),
    "stride": lambda contract: plain(contract, stride=(2, 2)),
    "groups": lambda contract: plain(contract, groups=8),
    "a residual": residual,
    "a residual before its convolution": lambda contract: residual(contract, last=True),
    "a residual, thresholds by channel": lambda contract: residual(contract, wide=True),
    "a residual of a convolution": lambda contract: residual(contract, weights=(3, 2), raw=True),
}


def layers(graph, request):
    """The populations that end a layer of one pass, with the names of its inner nodes."""
    plan = CountsPlan(graph, request, frozenset(node.name for node in graph.nodes) - constant(graph))
    return {name: layer.inner for name, layer in plan.layers.items() if layer.conv is not None}


@needs_bytes
@pytest.mark.parametrize("steps", [1, 7, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_counts_in_one_pass_are_those_of_the_reference(kind, steps):
    """Of every neuron of every sample; the populations do end such layers, and do fire."""
    torch.manual_seed(steps)
    graph = KINDS[kind](Contract(steps, delay=steps))
    request = Request(torch.rand(9, 3, 6, 6), counts=True)

    found, wanted = (ENGINES[name].run(graph, request) for name in ("counts", "reference"))

    assert "fire" in layers(graph, request)
    assert torch.equal(found.outputs[0], wanted.outputs[0])
    assert found.counts.keys() == wanted.counts.keys()
    assert all(torch.equal(found.counts[name], wanted.counts[name]) for name in wanted.counts)
    assert 0.005 * steps < wanted.counts["fire"].double().mean() < 0.95 * steps


@needs_bytes
def test_what_another_node_reads_is_computed_by_itself():
    """A convolution whose values are an output too has a population of its own pass, and no layer."""
    torch.manual_seed(0)
    contract = Contract(7, delay=7)
    nodes = plain(contract).nodes
    last = next(node for node in nodes if node.name == "fire")
    side = (Node("seen", Integrate(NOTHING, NOTHING), ("conv",), (8, 6, 6), unit=ONE),)
    graph = ended((*nodes[: nodes.index(last) + 1], *side), last, contract, outputs=("seen",))
    request = Request(torch.rand(3, 3, 6, 6), counts=True)

    found, wanted = (ENGINES[name].run(graph, request) for name in ("counts", "reference"))

    assert "fire" not in layers(graph, request)
    assert all(map(torch.equal, found.outputs, wanted.outputs))
    assert torch.equal(found.counts["fire"], wanted.counts["fire"])


@needs_bytes
def test_whose_biases_may_change_goes_node_by_node():
    """Who revises a bias has to be shown the sums."""
    graph = plain(Contract(5, delay=5))
    assert layers(graph, Request(torch.rand(3, 3, 6, 6)))
    assert not layers(graph, Request(torch.rand(3, 3, 6, 6), revise=lambda node, totals: node))


def test_sums_beside_every_multiple_of_the_threshold():
    """The largest threshold that is admitted; there float32 is most easily on the wrong side."""
    most, charge = 20, torch.tensor([0.0, 12345.0, -77777.0]).double()
    one = torch.ones(3).double()
    largest = next(
        value
        for value in range(300_000, 0, -1)
        if Ending.of(value * one, charge, one, None, 0, most) is not None
    )
    assert largest > 100_000
    multiples = torch.arange(-3, most + 4).double() * largest
    sums = torch.cat([multiples - 1, multiples, multiples + 1])[:, None, None, None] - charge[:, None, None]
    wanted = ((sums + charge[:, None, None]) / largest).floor().clamp(0, most)

    ending = Ending.of(largest * one, charge, one, None, 0, most)

    assert torch.equal(ending.counts(sums.float()).double(), wanted)


def test_what_float32_might_miss_is_refused():
    """Wide thresholds, a wide bias, a wide summand, and counts that no byte holds."""
    one = torch.ones(1).double()
    assert Ending.of(1000 * one, one, one, None, 0, 16) is not None
    assert Ending.of(200_000 * one, one, one, None, 0, 16) is None
    assert Ending.of(1000 * one, 3e6 * one, one, None, 0, 16) is None
    assert Ending.of(1000 * one, one, one, 7 * one, 1e6, 16) is None
    assert Ending.of(1000 * one, one, one, None, 0, 256) is None
