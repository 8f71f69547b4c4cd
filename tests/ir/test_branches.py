"""A grid a branch (SPEC 2), by hand: steps, multipliers, and which branch a value belongs to."""

import pytest
import torch

from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.integers import branches
from ann2snn_cli.ir.ops import (
    Add,
    AvgPool,
    Concat,
    Conv,
    Gather,
    Input,
    Integrate,
    Linear,
    MaxPool,
    Permute,
    Relu,
    Reshape,
    Scale,
)
from ann2snn_cli.ir.run import run_counts
from ann2snn_cli.stages.quantize.weights import quantize
from ann2snn_cli.stages.threshold import threshold

# Steps and multipliers -----------------------------------------------------------------------------


def joined(unit, op, shape, channels=1):
    """Input of unit 1/2 beside neurons of the amplitude `unit`, channel by channel, into a synapse."""
    each, both = (channels, 1), (2 * channels, 1)
    nodes = [
        ("x", Input(unit=0.5), (), each),
        ("n", Relu(clip=torch.tensor(unit, dtype=torch.float64)), ("x",), each),
        ("both", Concat(), ("x", "n"), both),
        ("flat", Reshape(), ("both",), (2 * channels,)),
        ("fc", op, ("both" if isinstance(op, Conv) else "flat",), shape),
        ("out", Relu(clip=torch.tensor(9.0, dtype=torch.float64)), ("fc",), shape),
    ]
    return Graph(tuple(Node(*node, f"net.{node[0]}") for node in nodes), ("out",), Level.CALIBRATED)


def test_each_branch_has_the_step_of_its_own_weights():
    """W' = W·A = 1.5, −0.7 | 6, 2: α = 0.1 and 0.4, q = 15, −7 | 15, 5, m = 1 and 4, at 5 bits."""
    op = Linear(torch.tensor([[3.0, 3.0], [-1.4, 1.0]], dtype=torch.float64))

    graph = quantize(joined(2.0, op, (2,)), Contract(4), weight_bitwidth=5)

    assert graph["fc"].op.step.tolist() == pytest.approx([0.1, 0.4])
    assert graph["fc"].op.branch.expand(2, 2).tolist() == [[0, 1], [0, 1]]
    spiking = threshold(graph)
    assert spiking["fc"].op.weight.tolist() == [[15, 4 * 15], [-7, 4 * 5]]
    assert spiking["fc"].op.multiplier.expand(2, 2).tolist() == [[1, 4], [1, 4]]
    assert float(spiking["fc"].unit) == pytest.approx(0.1)


def test_multipliers_that_are_no_integers_are_rounded_to_less_than_a_hundredth():
    """α = 0.1 and 0.7/3: m = 32 and 74.67 → 75 of the unit 0.1/32, and no code changes."""
    op = Linear(torch.tensor([[3.0, 1.75], [-1.4, -1.0]], dtype=torch.float64))

    spiking = threshold(quantize(joined(2.0, op, (2,)), Contract(4), weight_bitwidth=5))

    assert spiking["fc"].op.weight.tolist() == [[32 * 15, 75 * 15], [32 * -7, 75 * -9]]
    assert float(spiking["fc"].unit) == pytest.approx(0.1 / 32)


def test_by_channel_each_output_has_steps_of_its_own():
    """W' = 1.5 | 6 and −0.7 | 1.4: α = 0.1 and 0.4, then 0.7/15 and 1.4/15; m = 1 and 4, then 1 and 2."""
    op = Linear(torch.tensor([[3.0, 3.0], [-1.4, 0.7]], dtype=torch.float64))

    graph = quantize(joined(2.0, op, (2,)), Contract(4), weight_bitwidth=5, channel_wise=True)

    assert graph["fc"].op.step.tolist() == [pytest.approx([0.1, 0.7 / 15]), pytest.approx([0.4, 1.4 / 15])]
    spiking = threshold(graph)
    assert spiking["fc"].op.weight.tolist() == [[15, 4 * 15], [-15, 2 * 15]]
    assert spiking["fc"].unit.tolist() == pytest.approx([0.1, 0.7 / 15])


def test_branches_of_one_unit_share_a_grid():
    """Where nothing differs nothing is multiplied."""
    op = Linear(torch.tensor([[3.0, 3.0], [-1.4, 1.0]], dtype=torch.float64))

    spiking = threshold(quantize(joined(0.5, op, (2,)), Contract(4), weight_bitwidth=5))

    assert spiking["fc"].op.multiplier is None
    assert spiking["fc"].op.weight.dtype == torch.int8


# What keeps branches apart on the way ---------------------------------------------------------------


def labels(*nodes):
    """By node: the distinct branches of its channels, as numbers from 0; behind an input of two channels."""
    clip = torch.tensor(2.0, dtype=torch.float64)
    start = [
        ("x", Input(unit=0.5), (), (2, 4)),
        ("n", Relu(clip=clip), ("x",), (2, 4)),
        ("both", Concat(), ("x", "n"), (4, 4)),
    ]
    every = tuple(Node(*node) for node in (*start, *nodes))
    found = branches(Graph(every, (nodes[-1][0],), Level.QUANTIZED, Contract(4)))
    return {
        name: torch.unique(label, return_inverse=True)[1].flatten().tolist() for name, label in found.items()
    }


def test_labels_follow_values():
    """What moves or selects keeps them; what changes units keeps them apart; a synapse of all joins them."""
    ones = torch.ones(4, 1, dtype=torch.float64)
    found = labels(
        ("const", Integrate(ones), ("both",), (4, 4)),
        ("most", MaxPool((2,), (2,), (0,), (1,)), ("const",), (4, 2)),
        ("mean", AvgPool((2,), (2,), (0,)), ("const",), (4, 2)),
        ("twice", Add(), ("const", "both"), (4, 4)),
        ("scale", Scale(ones), ("both",), (4, 4)),
        ("deep", Conv(ones[..., None], None, (1,), (0,), (1,), 4), ("both",), (4, 4)),
        ("half", Conv(ones.reshape(2, 2, 1), None, (1,), (0,), (1,), 2), ("both",), (2, 4)),
        ("all", Conv(ones.reshape(1, 4, 1), None, (1,), (0,), (1,)), ("both",), (1, 4)),
        ("turned", Permute((1, 0)), ("both",), (4, 4)),
        ("some", Gather(torch.tensor([[0, 15]])), ("both",), (1, 2)),
    )
    for name in ("both", "const", "most", "mean", "twice", "scale", "deep"):
        assert found[name] == [0, 0, 1, 1], name
    assert found["half"] == [0, 1]
    assert found["all"] == [0]
    assert found["turned"] == [0, 0, 1, 1] * 4
    assert found["some"] == [0, 1]


@pytest.mark.parametrize(
    ("name", "op"),
    [("mean", AvgPool((3,), (1,), (1,))), ("scale", Scale(torch.full((2, 1), 0.01, dtype=torch.float64)))],
)
def test_what_changes_units_is_no_longer_of_the_branch_that_it_reads(name, op):
    """Beside its own input it has another unit, so it has another grid."""
    found = labels((name, op, ("both" if name == "mean" else "x",), (4 if name == "mean" else 2, 4)),
                   ("joined", Concat(), ("both", name), (8 if name == "mean" else 6, 4)))  # fmt: skip
    assert found["joined"] == ([0, 0, 1, 1, 2, 2, 3, 3] if name == "mean" else [0, 0, 1, 1, 2, 2])


def test_a_constant_that_is_added_to_padding_is_as_fine_as_what_is_beside_it():
    """A class token of 0.3 before patches of unit 0.001: with a unit of 1 it was 0.25 or 0.375 at 8 steps."""
    index = torch.cat([torch.full((1, 2), -1), torch.arange(4).reshape(2, 2)])
    token = torch.tensor([[0.3, 0.3], [0.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    nodes = [
        ("x", Input(unit=0.001), (), (2, 2)),
        ("padded", Gather(index), ("x",), (3, 2)),
        ("token", Integrate(token), ("padded",), (3, 2)),
    ]
    graph = Graph(tuple(Node(*node) for node in nodes), ("token",), Level.CALIBRATED)

    spiking = threshold(quantize(graph, Contract(8)))

    (out,) = run_counts(spiking, torch.zeros(1, 2, 2, dtype=torch.float64))
    assert out[0, 0].tolist() == pytest.approx([0.3, 0.3], abs=0.001 / 8)


# A scale's weight is all that its channel has -------------------------------------------------------


def scaled(weights, bits, channel_wise=False):
    """The scale of a SPIKING graph behind an input of unit 1."""
    weight = torch.tensor(weights, dtype=torch.float64).reshape(-1, 1)
    shape = (len(weights), 2)
    nodes = [
        ("x", Input(unit=1.0), (), shape),
        ("scale", Scale(weight), ("x",), shape),
        ("out", Relu(clip=torch.tensor(9.0, dtype=torch.float64)), ("scale",), shape),
    ]
    graph = Graph(tuple(Node(*node) for node in nodes), ("out",), Level.CALIBRATED)
    return threshold(quantize(graph, Contract(4), weight_bitwidth=bits, channel_wise=channel_wise))["scale"]


@pytest.mark.parametrize("channel_wise", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_no_channel_of_a_scale_is_rounded_away(bits, channel_wise):
    """Weights of 1, −0.25 and 0.001: each is right to a hundredth, in one unit, its code the largest."""
    node = scaled([1.0, -0.25, 0.001], bits, channel_wise)

    meant = (node.op.weight * node.unit).flatten().tolist()
    assert meant == pytest.approx([1.0, -0.25, 0.001], rel=0.01)
    top = 1 if bits == 1 else 2 ** (bits - 1) - 1
    assert (node.op.weight // node.op.multiplier).flatten().tolist() == [top, -top, top]
    assert node.unit.numel() == 1


def test_a_scale_whose_channels_one_grid_can_hold_has_one():
    """Nothing is multiplied, and the words are as wide as asked for."""
    node = scaled([1.0, -0.25, 0.1], 8)

    assert node.op.multiplier is None
    assert node.op.weight.flatten().tolist() == [127, -32, 13]


def test_a_channel_that_is_almost_nothing_does_not_widen_the_others():
    """A weight that training has brought to 1e-20: the largest word stays below 2^27."""
    node = scaled([1.0, 0.001, 1e-20, 0.0], 8)

    assert int(node.op.weight.abs().max()) < 2**27
    assert (node.op.weight * node.unit).flatten().tolist() == pytest.approx([1.0, 0.001, 0, 0], rel=0.01)


# Groups, and what straddles them -------------------------------------------------------------------


@pytest.mark.parametrize("channel_wise", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("channels", "groups"), [(3, 1), (3, 2), (3, 3), (2, 4), (3, 6)])
def test_convolutions_in_groups_know_the_branch_of_each_weight(channels, groups, transposed, channel_wise):
    """A concat of `channels` inputs and as many neurons: a border of groups may lie within a branch.

    Held weight by weight: m·q·α is W·A to half a step of the weight's own branch.
    """
    generator = torch.Generator().manual_seed(groups)
    ins = 2 * channels
    shape = (ins, 2, 1) if transposed else (groups * 2, ins // groups, 1)
    weight = torch.randn(*shape, generator=generator, dtype=torch.float64)
    op = Conv(weight, None, (1,), (0,), (1,), groups, transposed, (0,))

    graph = quantize(
        joined(50.0, op, (groups * 2, 1), channels), Contract(4), weight_bitwidth=8, channel_wise=channel_wise
    )
    spiking = threshold(graph)

    steps, unit = graph["fc"].op.step, spiking["fc"].unit.flatten()
    for index in torch.cartesian_prod(*map(torch.arange, shape)).tolist():
        first, second, _ = index
        small, large = (ins, groups * 2) if transposed else (groups * 2, ins)
        other = first // (small // groups) * (large // groups) + second
        read, written = (first, other) if transposed else (other, first)
        wanted = float(weight[tuple(index)]) * (0.5 if read < channels else 50.0)
        column = written if channel_wise else 0
        meant = float(spiking["fc"].op.weight[tuple(index)] * unit[column % unit.numel()])
        branch = 0 if read < channels else 1
        step = float(steps[branch, column] if channel_wise else steps[branch]) if steps.dim() else None
        largest = float(steps.max()) if step is None else step
        assert abs(meant - wanted) <= largest * (0.5 + 0.01 * 127), (index, wanted, meant)
