"""Precision: each node in the narrowest type that its own bound allows, and none widened by another."""

import pytest
import torch

from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import Input, Integrate, IntegrateFire, Linear, MaxPool, Opaque, Ref
from ann2snn_cli.ir.precision import exact_dtypes, plain_arithmetic, short_products
from ann2snn_cli.ir.run import run_counts
from ann2snn_cli.stages.simulate import simulate

ONE = torch.tensor(1.0, dtype=torch.float64)
NARROW, WIDE = torch.float32, torch.float64
LIMIT = 2**22  # float32 holds 24 bits; 2 are kept for convolutions that are no plain sums
FIT = 129  # inputs of up to 255 with weights of 127: their sum is just below the limit
GELU = Opaque("aten.gelu.default", (Ref(0),))


def spiking(*nodes, timesteps=1, delay=0):
    """A SPIKING graph of (name, op, inputs, shape)."""
    nodes = tuple(Node(*node, unit=ONE) for node in nodes)
    return Graph(nodes, (nodes[-1].name,), Level.SPIKING, Contract(timesteps, delay=delay))


def ones(outputs, inputs, value=1, bits=8):
    """A synapse whose weights are all alike."""
    weight = torch.full((outputs, inputs), value, dtype=torch.float64 if bits == 32 else torch.int8)
    return Linear(weight, bits=bits, step=ONE)


def fires(threshold=8):
    """A population that begins at 0."""
    return IntegrateFire(torch.tensor(threshold), torch.tensor(0), torch.tensor(0))


def two_layers(features, timesteps=1, delay=0, between=None, bits=8):
    """x -> wide -> first -> (between) -> narrow -> second -> last -> readout."""
    inner = [] if between is None else [("between", between, ("first",), (2,))]
    return spiking(
        ("x", Input(1.0), (), (features,)),
        ("wide", ones(2, features, 127, bits), ("x",), (2,)),
        ("first", fires(), ("wide",), (2,)),
        *inner,
        ("narrow", ones(2, 2), ("between" if inner else "first",), (2,)),
        ("second", fires(), ("narrow",), (2,)),
        ("last", ones(1, 2), ("second",), (1,)),
        ("readout", Integrate(), ("last",), (1,)),
        timesteps=timesteps,
        delay=delay,
    )


def widened(graph, delay=None):
    """The nodes that are carried in float64, in order; all others are in float32."""
    found = exact_dtypes(graph, delay)
    assert list(found) == [node.name for node in graph]
    assert set(found.values()) <= {NARROW, WIDE}
    return [name for name, dtype in found.items() if dtype == WIDE]


def test_a_sum_below_the_limit_is_narrow_and_one_above_widens_its_own_layer_only():
    """255 · 127 · 129 < 2^22 <= 255 · 127 · 130: the sum and who holds it; a layer behind spikes is small."""
    assert 255 * 127 * FIT < LIMIT <= 255 * 127 * (FIT + 1)
    assert widened(two_layers(FIT)) == []
    assert widened(two_layers(FIT + 1)) == ["wide", "first"]


def test_neurons_are_wide_where_their_sum_over_time_is():
    """A synapse works on one step. With D = T = 4 its neurons hold four: 4 · 255 · 127 · 32 < 2^22."""
    assert 4 * 255 * 127 * 32 < LIMIT <= 4 * 255 * 127 * 33
    assert widened(two_layers(32, timesteps=4, delay=4)) == []
    assert widened(two_layers(33, timesteps=4, delay=4)) == ["first"]


def test_the_delay_that_is_run_decides():
    """Neurons that fire at every step empty themselves: they hold more the longer they wait."""
    graph = two_layers(33, timesteps=4)
    graph = graph.with_ops({"first": fires(255 * 127 * 33)})
    assert widened(graph) == []
    assert widened(graph, delay=4) == ["first"]


def test_max_pooling_counts_its_input_over_time():
    """Running maxima are sums over the steps: of 4 steps here, though one step would fit."""
    for low, wide in ((-(2**20) + 1, False), (-(2**20), True)):
        graph = spiking(
            ("x", Input(1.0, low, 0), (), (1, 4)),
            ("pool", MaxPool((2,), (2,), (0,), (1,)), ("x",), (1, 2)),
            ("readout", Integrate(), ("pool",), (1, 2)),
            timesteps=4,
        )
        assert ("pool" in widened(graph)) == wide


def test_real_numbers_are_wide_and_what_comes_before_and_after_them_is_not():
    """A GELU, the synapse that reads it and the neurons of that synapse; spikes are integers again."""
    assert widened(two_layers(FIT, between=GELU)) == ["between", "narrow", "second"]


def test_a_network_of_float_weights_is_wide():
    """At 32 bits there are no integers to be exact."""
    graph = two_layers(FIT, bits=32)
    assert widened(graph) == [node.name for node in graph]


@pytest.mark.parametrize(("features", "delay"), [(FIT, 0), (FIT, 3), (FIT + 1, 0), (FIT + 1, 3)])
def test_what_is_counted_in_these_types_is_exact(features, delay):
    """A neuron whose threshold is the drive of a step fires at all 3 steps; with 1 more it fires twice."""
    drive = 255 * 127 * features
    graph = two_layers(features, timesteps=3, delay=delay)
    x = torch.full((1, features), 255.0)
    for threshold, spikes in ((drive, 3), (drive + 1, 2)):
        exact = graph.with_ops({"first": fires(threshold), "second": fires(2)})
        (output,) = simulate(exact, x).outputs
        assert (3 * output).item() == 2 * spikes  # of the mean over 3 steps
        if delay == 3:
            assert torch.equal(output, run_counts(exact, x.double())[0])


def rounds():
    """What torch may do to sums now: the precision of products, cuDNN, and TF32 in it."""
    backend = torch.backends.cudnn
    return torch.get_float32_matmul_precision(), backend.enabled, backend.allow_tf32


def test_no_setting_of_a_caller_makes_sums_inexact():
    """TF32, bfloat16 and cuDNN's algorithms are off while it computes, and as they were after an error."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    found = rounds()
    try:
        with plain_arithmetic():
            assert rounds() == ("highest", False, False)
        assert rounds() == found
        with pytest.raises(ZeroDivisionError), plain_arithmetic():
            _ = 1 / 0
        assert rounds() == found
    finally:
        torch.set_float32_matmul_precision(before)


def convolved(x, weight):
    """A convolution in float32."""
    return torch.nn.functional.conv2d(x, weight, padding=1)


def test_short_products_of_small_integers_are_exact():
    """Factors of up to 256 have 8 bits; their products are added up in float32."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 257, (4, 16, 8, 8), generator=generator).float()
    weight = torch.randint(-127, 128, (8, 16, 3, 3), generator=generator).float()
    with short_products():
        found = convolved(x, weight)
    assert torch.equal(found.double(), convolved(x.double(), weight.double()))


def test_plain_arithmetic_is_exact_whatever_products_were_asked_for():
    """Inside it all 10 bits of an integer count, and after it short products are as short as before."""
    x, weight = torch.full((4, 16, 8, 8), 513.0), torch.full((8, 16, 3, 3), 127.0)
    before = convolved(x, weight)
    with short_products():
        short = convolved(x, weight)
        with plain_arithmetic():
            plain = convolved(x, weight)
        again = convolved(x, weight)

    assert torch.equal(plain.double(), convolved(x.double(), weight.double()))
    assert torch.equal(short, again)
    assert torch.equal(convolved(x, weight), before)
