"""Registers: how wide each one of a population must be, on graphs that a hand can work out."""

import pytest
import torch

from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import (
    Add,
    AvgPool,
    Conv,
    Input,
    Integrate,
    IntegrateFire,
    Linear,
    MaxPool,
    Opaque,
    Ref,
    Reshape,
)
from ann2snn_cli.ir.registers import Register, has_register, potential, registers

ONE = torch.tensor(1.0, dtype=torch.float64)


def spiking(*nodes, outputs, delay=0):
    """A SPIKING graph of (name, op, inputs, shape): four timesteps."""
    nodes = tuple(Node(*node, f"net.{node[0]}", ONE) for node in nodes)
    return Graph(nodes, outputs, Level.SPIKING, Contract(4, delay=delay))


def linear(*row):
    """One neuron's weights of 4 bits."""
    return Linear(torch.tensor([row], dtype=torch.int8), bits=4)


def fires(threshold, bias=0, fraction_bits=0):
    """A population whose potential starts at 0."""
    return IntegrateFire(torch.tensor(threshold), torch.tensor(bias), torch.tensor(0), fraction_bits)


INPUT = ("x", Input(unit=1.0), (), (2,))


def test_the_widths_of_a_population_and_of_a_read_out():
    """−7·255 or 3·255 a step through one fraction bit; θ = 1000, B = −3; then −5 for every spike.

    Highest: 999 after the first step, twice what exceeds θ on top, and the last currents before their bias.
    """
    graph = spiking(
        INPUT,
        ("fc", linear(3, -7), ("x",), (1,)),
        ("n", fires(1000, -3, 1), ("fc",), (1,)),
        ("last", linear(-5), ("n",), (1,)),
        ("out", Integrate(), ("last",), (1,)),
        outputs=("out",),
    )
    low, high = 2 * -7 * 255 - 3, 2 * 3 * 255 - 3
    lowest, highest = 4 * low, 999 + 2 * (high - 1000) + high + 3
    assert registers(graph) == [
        Register("n", "net.n", lowest, highest, 15, 5, 11, 3),
        Register("out", "net.out", -20, 0, 6, 4, None, None),
    ]
    assert -(2**14) <= lowest < -(2**13)


@pytest.mark.parametrize("own", [0, 1, 3, 4])
def test_the_delay_is_the_graphs_own_unless_given(own):
    """255 a step and θ = 256: of four steps D come first, and then one fires 254 above what it leaves.

    D = 0: 255 + 255. D = 1: 255 + 255, and 254 + 255 after a spike. D = 2: 3·255. D = 3 and 4: 4·255.
    """
    nodes = (("x", Input(unit=1.0), (), (1,)), ("n", fires(256), ("x",), (1,)))
    highest = {0: 510, 1: 510, 2: 765, 3: 1020, 4: 1020}
    graph = spiking(*nodes, outputs=("n",), delay=own)
    assert registers(graph)[0].highest == highest[own]
    assert {delay: registers(graph, delay)[0].highest for delay in highest} == highest


def test_a_weight_is_as_wide_as_what_one_spike_adds():
    """±7 · −12 from the convolution, −20 from the identity branch, shifted by two: −336 .. 336, 10 bits."""
    graph = spiking(
        ("x", Input(unit=1.0), (), (1, 2, 2)),
        ("a", fires(9, fraction_bits=3), ("x",), (1, 2, 2)),
        ("conv", Conv(torch.tensor([[[[7]]], [[[-7]]]], dtype=torch.int8)), ("a",), (2, 2, 2)),
        ("sum", Add((torch.tensor(-20), torch.tensor(-12))), ("a", "conv"), (2, 2, 2)),
        ("pool", AvgPool((2, 2), (2, 2), (0, 0)), ("sum",), (2, 1, 1)),
        ("flat", Reshape(), ("pool",), (2,)),
        ("n", fires(500, fraction_bits=2), ("flat",), (2,)),
        outputs=("n",),
    )
    assert [register.weight_bits for register in registers(graph)] == [5, 10]


def test_a_maximum_is_added_as_it_comes():
    """Behind a pool of currents there is no weight but 1, here shifted by three."""
    graph = spiking(
        ("x", Input(unit=1.0), (), (1, 2, 2)),
        ("conv", Conv(torch.tensor([[[[7]]]], dtype=torch.int8)), ("x",), (1, 2, 2)),
        ("max", MaxPool((2, 2), (2, 2), (0, 0), (1, 1)), ("conv",), (1, 1, 1)),
        ("n", fires(500, fraction_bits=3), ("max",), (1, 1, 1)),
        outputs=("n",),
    )
    assert registers(graph)[0].weight_bits == 5


def test_neurons_on_the_way_that_never_fire_keep_nothing():
    """Currents only pass an `Integrate` that is no output."""
    graph = spiking(
        INPUT,
        ("pass", Integrate(torch.tensor(3), torch.tensor(1)), ("x",), (2,)),
        ("fc", linear(1, 1), ("pass",), (1,)),
        ("out", Integrate(), ("fc",), (1,)),
        outputs=("out",),
    )
    assert [node.name for node in graph if has_register(graph, node)] == ["out"]
    assert [register.layer for register in registers(graph)] == ["out"]


@pytest.mark.parametrize("kind", ["opaque", "float"])
def test_real_numbers_have_no_width(kind):
    """Behind an opaque layer, or with weights of 32 bits: but an integer threshold has one."""
    opaque, weight = kind == "opaque", torch.tensor([[0.5, 1]])
    graph = spiking(
        INPUT,
        ("f", Opaque("aten.gelu.default", (Ref(0),)) if opaque else Reshape(), ("x",), (2,)),
        ("fc", linear(1, 1) if opaque else Linear(weight, bits=32), ("f",), (1,)),
        ("n", fires(500 if opaque else 500.5, 0 if opaque else 0.5), ("fc",), (1,)),
        outputs=("n",),
    )
    expected = Register("n", "net.n", None, None, None, None, 10 if opaque else None, 1 if opaque else None)
    assert registers(graph) == [expected]
    assert potential(graph, graph["n"]) is None
