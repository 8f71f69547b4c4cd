"""From real parameters to integers, rule by rule (SPEC 2 and 3), against tables and brute force."""

import math

import pytest
import torch

from ann2snn_cli.errors import InvalidGraph, UnsupportedNetwork
from ann2snn_cli.ir.contract import Contract, Rounding
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.grid import choose_step, largest_code, to_grid
from ann2snn_cli.ir.integers import integers
from ann2snn_cli.ir.ops import (
    Add,
    AvgPool,
    Concat,
    Conv,
    Gather,
    Input,
    Integrate,
    IntegrateFire,
    Linear,
    Opaque,
    Place,
    Ref,
    Relu,
    Reshape,
    Scale,
)


def real(values):
    """A tensor of reals."""
    return torch.tensor(values, dtype=torch.float64)


def seeded(*shape, seed=0):
    """Normal numbers, always the same."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def quantized(*nodes, outputs=None, timesteps=8, **contract):
    """A QUANTIZED graph of (name, op, inputs, shape)."""
    nodes = tuple(Node(*node) for node in nodes)
    outputs = outputs or (nodes[-1].name,)
    return Graph(nodes, outputs, Level.QUANTIZED, Contract(timesteps, **contract))


def relu(clip, bias=None, **options):
    """A population with its clip."""
    return Relu(clip=real(clip), bias=None if bias is None else real(bias), **options)


# Grids ---------------------------------------------------------------------------------------------


def test_the_largest_code():
    """The grid is symmetric: 1, 1, 3, 7, ... 127 for 1 to 8 bits."""
    assert [largest_code(bits) for bits in range(1, 9)] == [1, 1, 3, 7, 15, 31, 63, 127]


@pytest.mark.parametrize("bits", range(2, 9))
def test_codes_are_rounded_half_to_even_and_clamped(bits):
    """q = clamp(round(W'/α)) for every multiple of a quarter step, as Python rounds."""
    top = 2 ** (bits - 1) - 1
    quarters = range(-4 * (top + 2), 4 * (top + 2) + 1)
    expected = [max(-top, min(top, round(quarter / 4))) for quarter in quarters]

    assert to_grid(real([quarter / 4 * 0.5 for quarter in quarters]), real(0.5), bits).tolist() == expected


def test_one_bit_has_no_zero():
    """At one bit a weight is −1 or +1, and zero becomes +1."""
    assert to_grid(real([-9.0, -0.1, 0.0, 0.1, 9.0]), real(1.0), 1).tolist() == [-1, -1, 1, 1, 1]


@pytest.mark.parametrize(
    "bits",
    [
        1,
        2,
        *range(3, 9),
    ],
)
def test_the_gradient_passes_straight_through(bits):
    """Inside the grid d(α·q)/dW = 1: rounding is invisible to finetuning."""
    weight = real([-0.4, 0.1, 0.3]).requires_grad_()

    (to_grid(weight, real(0.5), bits) * 0.5).sum().backward()

    assert weight.grad.tolist() == pytest.approx([1, 1, 1])


# Steps ---------------------------------------------------------------------------------------------


def test_at_one_bit_the_step_is_the_mean_magnitude():
    """α = mean|W'|."""
    assert choose_step(real([[1.0, -2.0, 3.0, 0.0]]), 1).tolist() == [1.5]
    assert choose_step(real([[1.0, -2.0], [3.0, 1.0]]), 1).tolist() == [1.5, 2.0]


@pytest.mark.parametrize("bits", [5, 6, 7, 8])
def test_from_five_bits_the_largest_weight_takes_the_largest_code(bits):
    """α = max|W'| / (2^(b−1)−1), row by row."""
    weight = real([[1.0, -4.0], [2.0, 0.5]])
    top = 2 ** (bits - 1) - 1

    assert choose_step(weight, bits).tolist() == pytest.approx([4 / top, 2 / top])


def squared_error(weights, step, top):
    """Σ (W' − α·q)² in plain Python."""
    return sum((w - step * max(-top, min(top, round(w / step)))) ** 2 for w in weights)


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_at_two_to_four_bits_the_step_has_the_least_squared_error(bits, heavy):
    """No step of a fine search over four thousand is better by more than 0.1 %."""
    weight = seeded(120, seed=bits)
    weight = weight**3 if heavy else weight
    top, values = 2 ** (bits - 1) - 1, weight.tolist()
    widest = max(map(abs, values)) / top
    best = min(squared_error(values, widest * i / 2000, top) for i in range(40, 2001))

    found = squared_error(values, float(choose_step(weight[None], bits)), top)

    assert found <= best * 1.001


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_long_rows_are_condensed_without_loss(bits):
    """A layer of forty thousand weights is searched by bins of magnitudes: as good as by weights."""
    weight = seeded(40000, seed=bits)
    top = 2 ** (bits - 1) - 1

    def error(step):
        return float((weight - step * (weight / step).round().clamp(-top, top)).square().sum())

    widest = float(weight.abs().max()) / top
    best = min(error(widest * i / 400) for i in range(8, 401))

    assert error(float(choose_step(weight[None], bits))) <= best * 1.001


@pytest.mark.parametrize("bits", range(1, 9))
def test_zero_weights_give_no_nan(bits):
    """A tensor of zeros, or a row of zeros among others, has a positive finite step."""
    for weight in (torch.zeros(3, 4, dtype=torch.float64), real([[0.0, 0.0], [1.0, -2.0]])):
        for present in (None, torch.zeros_like(weight, dtype=torch.bool)):
            step = choose_step(weight, bits, present)
            assert bool((step > 0).all())
            assert bool(torch.isfinite(step).all())


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_rows_have_steps_of_their_own(bits):
    """Each row has the step it would have alone."""
    weight = seeded(3, 10) * real([[1.0], [5.0], [0.01]])

    steps = choose_step(weight, bits)

    assert steps.shape == (3,)
    alone = [float(choose_step(row[None], bits)) for row in weight]
    assert steps.tolist() == pytest.approx(alone)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_weights_of_another_branch_do_not_count(bits):
    """The step of some weights of a row is the one that they would have alone."""
    weight = seeded(3, 10) * real([[1.0], [5.0], [0.01]])
    present = torch.arange(10).remainder(3) == 1
    others = weight + 1000 * ~present

    steps = choose_step(others, bits, present.expand(3, 10))

    assert steps.tolist() == pytest.approx(choose_step(weight[:, present], bits).tolist())


# Absorption ----------------------------------------------------------------------------------------


def place(op, shape):
    """A synapse behind an input of this shape."""
    return Place(Node("synapse", op, ("x",), (1,)), (Node("x", Input(), (), shape),), Contract(8))


def check_absorbs(op, unit, shape, apply):
    """Whatever x: op with W' on x = op with W on unit·x."""
    x = seeded(2, *shape, seed=9)

    assert torch.allclose(apply(x, op.absorb(unit, place(op, shape))), apply(x * unit, op.weight))


@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_absorbs_by_channel(groups):
    """W'[o, c] = W[o, c]·A_in[c], also in groups."""
    op = Conv(seeded(6, 4 // groups, 3, 3), groups=groups)

    check_absorbs(
        op, real([1.0, 2.0, 0.5, 3.0]).reshape(4, 1, 1), (4, 5, 5),
        lambda x, weight: torch.nn.functional.conv2d(x, weight, groups=groups),
    )  # fmt: skip


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_absorbs_by_channel(groups):
    """A transposed convolution holds its input channels along dimension 0."""
    op = Conv(seeded(4, 3, 2, 2), groups=groups, transposed=True)

    check_absorbs(
        op, real([1.0, 2.0, 0.5, 3.0]).reshape(4, 1, 1), (4, 5, 5),
        lambda x, weight: torch.nn.functional.conv_transpose2d(x, weight, groups=groups),
    )  # fmt: skip


def test_a_linear_layer_absorbs_by_feature():
    """Each feature brings its own unit: a flattened concat, say."""
    op = Linear(seeded(5, 4))

    check_absorbs(op, real([1.0, 2.0, 0.5, 3.0]), (4,), torch.nn.functional.linear)


def test_a_scale_absorbs_element_by_element():
    """w' = w·A_in."""
    op = Scale(real([2.0, 3.0]).reshape(2, 1, 1))

    check_absorbs(op, real([5.0, 7.0]).reshape(2, 1, 1), (2, 3, 3), lambda x, weight: x * weight)


def test_units_that_differ_within_a_channel_are_refused():
    """A convolution cannot absorb units that differ from place to place; the remedy says what to do."""
    unit, op = real([1.0, 2.0, 1.0, 1.0]).reshape(1, 2, 2), Conv(seeded(1, 1, 2, 2))

    with pytest.raises(UnsupportedNetwork, match="different unit") as caught:
        op.absorb(unit, place(op, (1, 2, 2)))

    assert "one step a layer" in caught.value.remedy
    assert caught.value.where == "synapse"


# Units that travel ---------------------------------------------------------------------------------


def test_a_concat_keeps_the_units_of_its_branches():
    """Branches of different amplitude meet by channel, and what reads them absorbs each."""
    graph = quantized(
        ("x", Input(unit=0.25), (), (1, 2, 2)),
        ("a", relu(2.0), ("x",), (1, 2, 2)),
        ("b", relu(64.0), ("x",), (1, 2, 2)),
        ("joined", Concat(), ("a", "b"), (2, 2, 2)),
    )

    spiking = integers(graph)

    assert spiking["joined"].unit.flatten().tolist() == [2.0, 64.0]
    assert spiking["joined"].unit.shape == (2, 1, 1)


def test_a_flattened_concat_keeps_the_unit_of_every_feature():
    """Reshape lays the units out like the values."""
    graph = quantized(
        ("x", Input(unit=0.25), (), (1, 2)),
        ("a", relu(2.0), ("x",), (1, 2)),
        ("b", relu(64.0), ("x",), (1, 2)),
        ("joined", Concat(), ("a", "b"), (2, 2)),
        ("flat", Reshape(), ("joined",), (4,)),
    )

    assert integers(graph)["flat"].unit.tolist() == [2.0, 2.0, 64.0, 64.0]


def test_padding_takes_any_unit():
    """Places that always hold 0 do not spoil the units of the others."""
    index = torch.tensor([[-1, 0, 1, -1], [-1, 2, 3, -1]])
    graph = quantized(
        ("x", Input(unit=0.25), (), (1, 2)),
        ("a", relu(2.0), ("x",), (1, 2)),
        ("b", relu(64.0), ("x",), (1, 2)),
        ("joined", Concat(), ("a", "b"), (2, 2)),
        ("padded", Gather(index), ("joined",), (2, 4)),
    )

    assert integers(graph)["padded"].unit.flatten().tolist() == [2.0, 64.0]


def test_average_pooling_divides_the_unit():
    """The integers are sums, so one of them is worth 1/area."""
    graph = quantized(
        ("x", Input(unit=3.0), (), (1, 4, 4)),
        ("pool", AvgPool((2, 4), (2, 4), (0, 0)), ("x",), (1, 2, 1)),
    )

    assert float(integers(graph)["pool"].unit) == 3.0 / 8


def test_an_addition_brings_its_branches_to_one_unit():
    """m_i·α is the unit of branch i, to better than 1 %, and exactly where the ratio is whole."""
    graph = quantized(
        ("x", Input(unit=0.25), (), (3,)),
        ("a", relu(2.0), ("x",), (3,)),
        ("b", relu(6.0), ("x",), (3,)),
        ("c", relu(5.0), ("x",), (3,)),
        ("whole", Add(), ("a", "b"), (3,)),
        ("rounded", Add(), ("a", "b", "c"), (3,)),
    )

    spiking = integers(graph)

    assert [float(m) for m in spiking["whole"].op.weights] == [1, 3]
    assert float(spiking["whole"].unit) == 2.0
    weights = [float(m) for m in spiking["rounded"].op.weights]
    assert weights == [round(m) for m in weights]
    meant = [m * float(spiking["rounded"].unit) for m in weights]
    assert meant == pytest.approx([2.0, 6.0, 5.0], rel=0.01)


# Thresholds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [0.9, 3.3, 47.11, 1000.0])
def test_the_amplitude_snaps_to_the_threshold(clip):
    """θ = round(A·2^f/unit), then A := θ·unit/2^f: no rounding error is passed on."""
    graph = quantized(("x", Input(unit=0.03), (), (2,)), ("n", relu(clip), ("x",), (2,)))

    op, amplitude = integers(graph)["n"].op, float(integers(graph)["n"].unit)

    fine = 0.03 / 2**op.fraction_bits
    assert float(op.threshold) == round(clip / fine)
    assert amplitude == pytest.approx(float(op.threshold) * fine, rel=1e-15)
    assert abs(amplitude - clip) <= fine / 2


@pytest.mark.parametrize(
    ("ratio", "bits"),
    [(31.4, 4), (32.4, 0), (15.7, 5), (2.3, 7), (1.01, 8), (0.3, 8), (31.0, 0), (4.0, 0)],
)
def test_coarse_thresholds_get_fraction_bits(ratio, bits):
    """Where A/unit is below 32 and not whole, a power of two brings θ up to 256, with at most 8 bits."""
    graph = quantized(("x", Input(unit=1.0), (), (2,)), ("n", relu(ratio), ("x",), (2,)))

    op = integers(graph)["n"].op

    assert op.fraction_bits == bits
    assert float(op.threshold) == round(ratio * 2**bits)


def test_a_threshold_is_at_least_one():
    """A clip far below one unit still gives θ = 1."""
    graph = quantized(("x", Input(unit=1.0), (), (2,)), ("n", relu(1e-6), ("x",), (2,)))

    assert float(integers(graph)["n"].op.threshold) == 1


# Biases --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timesteps", [1, 4, 7, 16])
def test_a_bias_is_exact_over_all_steps(timesteps):
    """T·B + remainder = round(T·b/unit), with 0 ≤ remainder < T and V0 = ⌊θ/2⌋ + remainder."""
    biases = [-3.7, -0.51, -0.01, 0.0, 0.24, 0.5, 11.3]
    graph = quantized(
        ("x", Input(unit=0.125), (), (7,)), ("n", relu(40.1, biases), ("x",), (7,)), timesteps=timesteps
    )

    op = integers(graph)["n"].op

    half = math.floor(float(op.threshold) / 2)
    for bias, each, initial in zip(biases, op.bias.tolist(), op.initial.tolist(), strict=True):
        remainder = initial - half
        assert each == math.floor(each)
        assert 0 <= remainder < timesteps
        assert timesteps * each + remainder == round(timesteps * bias / 0.125)


def test_rounding_by_bias_spreads_half_a_spike_over_the_steps():
    """`bias`: V0 = 0 and B = ⌊(T·b + ⌊θ/2⌋)/T⌋; the remainder is dropped."""
    nodes = (("x", Input(unit=1.0), (), (2,)), ("n", relu(101.0, [3.3, -2.0]), ("x",), (2,)))

    op = integers(quantized(*nodes, timesteps=8, rounding=Rounding.BIAS))["n"].op

    assert op.initial.tolist() == [0, 0]
    assert op.bias.tolist() == [math.floor((round(8 * 3.3) + 50) / 8), math.floor((-16 + 50) / 8)]


def test_no_rounding_leaves_the_potential_at_zero():
    """`none`: V0 = 0 and B = ⌊T·b/T⌋."""
    nodes = (("x", Input(unit=1.0), (), (2,)), ("n", relu(101.0, [3.3, -2.0]), ("x",), (2,)))

    op = integers(quantized(*nodes, timesteps=8, rounding=Rounding.NONE))["n"].op

    assert (op.initial.tolist(), op.bias.tolist()) == ([0, 0], [3, -2])


def test_a_read_out_has_no_half_spike():
    """The last layer is read, not rounded: V0 holds the remainder only."""
    graph = quantized(
        ("x", Input(unit=0.5), (), (2,)), ("out", Integrate(real([0.8, -0.3])), ("x",), (2,)), timesteps=4
    )

    op = integers(graph)["out"].op

    assert op.bias.tolist() == [1, -1]  # round(4·1.6) = 6 = 4·1 + 2; round(4·−0.6) = −2 = 4·−1 + 2
    assert op.initial.tolist() == [2, 2]


def test_biases_of_real_numbers_are_not_rounded():
    """What an opaque node feeds integrates in real numbers (SPEC 6): there is no unit to round a bias to."""
    graph = quantized(
        ("x", Input(unit=0.5), (), (2,)),
        ("gelu", Opaque("aten.gelu.default", (Ref(0),)), ("x",), (2,)),
        ("out", Integrate(real([0.3, -0.01])), ("gelu",), (2,)),
        timesteps=4,
    )

    op = integers(graph)["out"].op

    assert (4 * op.bias + (0 if op.initial is None else op.initial)).tolist() == pytest.approx([1.2, -0.04])


# The whole -----------------------------------------------------------------------------------------


def test_channel_wise_steps_reach_the_thresholds():
    """One step a channel: the synapse's unit is by channel, and so are θ and the bias."""
    weight = seeded(3, 2, 3, 3) * real([1.0, 4.0, 0.2]).reshape(3, 1, 1, 1)
    op = Conv(weight, bits=8, step=real([0.01, 0.04, 0.002]))
    graph = quantized(
        ("x", Input(unit=1.0), (), (2, 5, 5)),
        ("conv", op, ("x",), (3, 3, 3)),
        ("n", relu(9.0), ("conv",), (3, 3, 3)),
    )

    spiking = integers(graph)

    assert spiking["conv"].unit.shape == (3, 1, 1)
    assert spiking["n"].op.threshold.flatten().tolist() == [900, 225, 4500]
    assert spiking["n"].unit.flatten().tolist() == pytest.approx([9.0] * 3)


@pytest.mark.parametrize("groups", [1, 2])
def test_channel_wise_steps_of_a_transposed_convolution(groups):
    """Output channels lie along dimension 1, group by group; each weight takes its own channel's step."""
    weight = seeded(4, 3, 2, 2)
    steps = real([0.1, 0.2, 0.3, 0.4, 0.5, 0.6][: 3 * groups])
    op = Conv(weight, groups=groups, transposed=True, bits=8, step=steps)
    graph = quantized(("x", Input(unit=1.0), (), (4, 5, 5)), ("up", op, ("x",), (3 * groups, 6, 6)))

    codes = integers(graph)["up"].op.weight

    for c in range(4):
        for o in range(3):
            step = float(steps[c // (4 // groups) * 3 + o])
            expected = [[round(float(w) / step) for w in row] for row in weight[c, o]]
            assert codes[c, o].tolist() == expected


def test_at_32_bits_nothing_is_rounded():
    """weight_bitwidth 32: the weights stay, θ is the clip itself."""
    op = Linear(seeded(2, 3), bits=32)
    graph = quantized(
        ("x", Input(unit=1.0), (), (3,)),
        ("fc", op, ("x",), (2,)),
        ("n", relu(0.7, [0.1, 0.2]), ("fc",), (2,)),
    )

    spiking = integers(graph)

    assert torch.equal(spiking["fc"].op.weight, op.weight)
    assert isinstance(spiking["n"].op, IntegrateFire)
    assert float(spiking["n"].op.threshold) == 0.7
    assert spiking["n"].op.bias.tolist() == pytest.approx([0.1, 0.2])
    assert float(spiking["n"].op.initial) == 0.35


def test_a_population_that_inherits_its_clip_hands_on_the_amplitude():
    """A population of a spiking pool fires at θ = area, so a spike is worth what it was before."""
    graph = quantized(
        ("x", Input(unit=0.25), (), (1, 2, 2)),
        ("n", relu(10.0), ("x",), (1, 2, 2)),
        ("pool", AvgPool((2, 2), (2, 2), (0, 0)), ("n",), (1, 1, 1)),
        ("again", Relu(inherits_clip=True), ("pool",), (1, 1, 1)),
    )

    spiking = integers(graph)

    assert float(spiking["again"].op.threshold) == 4
    assert spiking["again"].op.fraction_bits == 0
    assert float(spiking["again"].unit) == float(spiking["n"].unit) == 10.0


@pytest.mark.parametrize(
    ("op", "what"),
    [(Relu(), "no clip"), (Linear(seeded(2, 2)), "no bit width"), (Input(), "no unit")],
)
def test_what_a_stage_forgot_is_named(op, what):
    """A node that lacks what its stage fills in is refused by name."""
    inputs = () if isinstance(op, Input) else ("x",)
    graph = quantized(("x", Input(unit=1.0), (), (2,)), ("n", op, inputs, (2,)))

    with pytest.raises(InvalidGraph, match=rf"'n' has {what} yet"):
        integers(graph)
