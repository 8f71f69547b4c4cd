"""The numpy twin: it computes what torch and plain Python compute, and believes no file of a pack."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import product
from math import prod
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ann2snn_cli.ir.contract import Contract, Reset
from ann2snn_cli.ir.graph import Graph, Level, Node
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
    MaxPool,
    Permute,
    Reshape,
    Scale,
)
from ann2snn_cli.stages.export.pack import Extent, Sample, describe
from ann2snn_cli.stages.simulate import simulate
from ann2snn_cli.twins import replay
from ann2snn_cli.twins.replay import Activity, Damaged, Network, Problem
from ann2snn_cli.workflows.pack import write_samples

ONE = torch.tensor(1.0, dtype=torch.float64)
RESETS = ("subtraction", "zero")
DELAYS = {
    "0": lambda steps: 0,
    "1": lambda steps: 1,
    "T//2": lambda steps: steps // 2,
    "T": lambda steps: steps,
}
CONVOLUTIONS = {
    (1, False): F.conv1d,
    (2, False): F.conv2d,
    (3, False): F.conv3d,
    (1, True): F.conv_transpose1d,
    (2, True): F.conv_transpose2d,
    (3, True): F.conv_transpose3d,
}


def whole(*values):
    """Integers, as a chip is loaded with."""
    return torch.tensor(values if len(values) > 1 else values[0], dtype=torch.int64)


def spiking(*nodes, timesteps=5, delay=0, reset_mode="subtraction"):
    """A SPIKING graph of (name, op, inputs, shape), whose integers mean themselves."""
    made = tuple(Node(*node, unit=ONE) for node in nodes)
    return Graph(made, (made[-1].name,), Level.SPIKING, Contract(timesteps, Reset(reset_mode), delay))


# Linear layers against torch's own functions ---------------------------------------------------------


class Draw(Random):
    """Integers, tensors and geometry by a seed."""

    def whole(self, low, high, *shape):
        """A tensor of integers."""
        generator = torch.Generator().manual_seed(self.randrange(2**31))
        return torch.randint(low, high + 1, shape, generator=generator)

    def each(self, low, high, rank):
        """One integer an axis."""
        return tuple(self.randint(low, high) for _ in range(rank))


def of_one_layer(op, source, shape, others=()):
    """The twin's network and layer for one op that reads inputs of these shapes."""
    inputs = [("in", Input(1.0, -9, 9), (), source)]
    names = ["in"]
    for place, other in enumerate(others):
        reads = Gather(torch.zeros(other, dtype=torch.int64))
        inputs.append((f"other{place}", reads, ("in",), other))
        names.append(f"other{place}")
    network = describe(spiking(*inputs, ("layer", op, tuple(names), tuple(shape))))
    return network, network.layers[-1]


def assert_computes(network, layer, trains, wanted):
    """The layer on [steps, ...] and on [steps, samples, ...], against torch on the same numbers."""
    found = replay.compute(network, layer, [train[:, 0].numpy() for train in trains])
    assert np.issubdtype(found.train.dtype, np.integer)
    assert np.array_equal(found.train, wanted[:, 0].numpy())
    assert np.array_equal(replay.compute(network, layer, [t.numpy() for t in trains]).train, wanted.numpy())


def by_torch(function, train):
    """A function of [batch, ...] on [steps, samples, ...]."""
    flat = function(train.flatten(0, 1).double())
    return flat.reshape(*train.shape[:2], *flat.shape[1:]).long()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("rank", "transposed"), CONVOLUTIONS)
def test_a_convolution_is_torchs(rank, transposed, seed):
    """1, 2 and 3 axes, transposed: stride, padding, dilation, groups and output padding, by chance."""
    draw = Draw(100 * rank + 10 * transposed + seed)
    groups, ins, outs = draw.randint(1, 2), draw.randint(1, 2), draw.randint(1, 3)
    kernel, stride, dilation = draw.each(1, 3, rank), draw.each(1, 3, rank), draw.each(1, 2, rank)
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    size = tuple(max(draw.randint(2, 5), r + 1) for r in reach)
    grown = [(n - 1) * s + r for n, s, r in zip(size, stride, reach, strict=True)]  # more would leave nothing
    padding = tuple(draw.randint(0, min(r + transposed, g // 2)) for r, g in zip(reach, grown, strict=True))
    extra = tuple(draw.randint(0, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True))
    weight = draw.whole(-7, 7, *((ins * groups, outs) if transposed else (outs * groups, ins)), *kernel)
    train = draw.whole(-9, 9, 3, 2, ins * groups, *size)
    if transposed:
        op = Conv(weight, None, stride, padding, dilation, groups, True, extra, bits=4)
        geometry = (stride, padding, extra, groups, dilation)
    else:
        op = Conv(weight, None, stride, padding, dilation, groups, bits=4)
        geometry = (stride, padding, dilation, groups)
    wanted = by_torch(lambda x: CONVOLUTIONS[rank, transposed](x, weight.double(), None, *geometry), train)
    network, layer = of_one_layer(op, train.shape[2:], wanted.shape[2:])
    assert layer["kind"] == ("conv_transpose" if transposed else "conv")
    assert_computes(network, layer, [train], wanted)


@pytest.mark.parametrize("axes", [(), (3,), (2, 3)])
def test_a_linear_layer_acts_on_the_last_axis(axes):
    """Whatever stands before it, as F.linear does."""
    draw = Draw(len(axes))
    weight, train = draw.whole(-7, 7, 4, 5), draw.whole(-9, 9, 3, 2, *axes, 5)
    network, layer = of_one_layer(Linear(weight, bits=4), (*axes, 5), (*axes, 4))
    assert_computes(network, layer, [train], by_torch(lambda x: F.linear(x, weight.double()), train))


@pytest.mark.parametrize("shape", [(), (3, 1, 1), (1, 2, 4), (3, 2, 4)])
def test_a_scale_and_an_add_weigh_by_layer_channel_or_neuron(shape):
    """Multipliers that broadcast, each input of an add its own."""
    draw = Draw(len(shape) + prod(shape))
    train, other, third = (draw.whole(-9, 9, 3, 2, 3, 2, 4) for _ in range(3))
    weights = [draw.whole(-7, 7, *each) for each in (shape, (3, 1, 1), ())]
    network, layer = of_one_layer(Scale(weights[0], bits=4), (3, 2, 4), (3, 2, 4))
    assert_computes(network, layer, [train], train * weights[0])
    network, layer = of_one_layer(Add(tuple(weights)), (3, 2, 4), (3, 2, 4), [(3, 2, 4), (3, 2, 4)])
    wanted = train * weights[0] + other * weights[1] + third * weights[2]
    assert_computes(network, layer, [train, other, third], wanted)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        ((3,), (2,), (1,)),
        ((2, 2), (2, 2), (0, 0)),
        ((3, 2), (1, 2), (1, 1)),
        ((2, 1, 3), (2, 1, 1), (1, 0, 1)),
    ],
)
def test_a_sum_pool_is_torchs_average_times_the_area(kernel, stride, padding):
    """Padding counts as zeros."""
    rank = len(kernel)
    train = Draw(rank).whole(-9, 9, 3, 2, 2, *(5, 4, 6)[:rank])
    pool = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[rank]
    wanted = by_torch(lambda x: (pool(x, kernel, stride, padding) * prod(kernel)).round(), train)
    network, layer = of_one_layer(AvgPool(kernel, stride, padding), train.shape[2:], wanted.shape[2:])
    assert_computes(network, layer, [train], wanted)


def test_moves_change_no_value():
    """Concat along the channels, reshape in memory order, permute, gather with zeros for -1."""
    draw = Draw(0)
    train, other = draw.whole(-9, 9, 3, 2, 3, 4), draw.whole(-9, 9, 3, 2, 2, 4)
    network, layer = of_one_layer(Concat(), (3, 4), (5, 4), [(2, 4)])
    assert_computes(network, layer, [train, other], torch.cat([train, other], dim=2))
    network, layer = of_one_layer(Reshape(), (3, 4), (2, 3, 2))
    assert_computes(network, layer, [train], train.reshape(3, 2, 2, 3, 2))
    cube = draw.whole(-9, 9, 3, 2, 2, 3, 4)
    network, layer = of_one_layer(Permute((2, 0, 1)), (2, 3, 4), (4, 2, 3))
    assert_computes(network, layer, [cube], cube.permute(0, 1, 4, 2, 3))
    padded = F.pad(train, (1, 2))  # columns -1, 4 and 5 are zeros
    index = F.pad(torch.arange(12).reshape(3, 4), (1, 2), value=-1)
    network, layer = of_one_layer(Gather(index), (3, 4), (3, 7))
    assert_computes(network, layer, [train], padded)


# Max pooling and neurons against plain Python ------------------------------------------------------


def pooled(train, shape, op):
    """Max pooling of [steps, channels, ...] in plain Python: by how much the largest sum grew."""
    rank, steps, extent = len(op.kernel), len(train), train.shape[2:]
    found = np.zeros((steps, *shape), np.int64)
    for place in product(*map(range, shape)):
        window = []
        for at in product(*map(range, op.kernel)):
            spots = [
                place[1 + i] * op.stride[i] + at[i] * op.dilation[i] - op.padding[i] for i in range(rank)
            ]
            if all(0 <= spot < n for spot, n in zip(spots, extent, strict=True)):
                window.append(tuple(int(v) for v in train[(slice(None), place[0], *spots)]))
        before = 0
        for t in range(steps):
            highest = max(sum(values[: t + 1]) for values in window)
            found[(t, *place)], before = highest - before, highest
    return found


POOLS = {  # the op, and the size of what it reads
    "overlap": (MaxPool((3,), (1,), (0,), (1,)), (6,)),
    "padding": (MaxPool((3, 2), (2, 1), (1, 1), (1, 1)), (5, 3)),
    "dilation": (MaxPool((2, 2), (1, 2), (0, 1), (3, 1)), (5, 4)),
    "ceil": (MaxPool((2, 3), (2, 2), (0, 1), (1, 1), True), (5, 4)),
    "ceil_drops": (MaxPool((2,), (3,), (1,), (1,), True), (5,)),  # a window that begins in padding is none
    "three_axes": (MaxPool((2, 2, 2), (2, 1, 2), (0, 1, 0), (1, 1, 1)), (4, 2, 3)),
}
POOLED = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


@pytest.mark.parametrize("spikes", [True, False])
@pytest.mark.parametrize("name", POOLS)
def test_max_pooling_is_the_rule_of_the_document(name, spikes):
    """Overlaps, padding, dilation, windows that overhang; few steps and values, so ties are many."""
    op, size = POOLS[name]
    draw = Draw(len(name))
    geometry = {
        "stride": op.stride,
        "padding": op.padding,
        "dilation": op.dilation,
        "ceil_mode": op.ceil_mode,
    }
    shape = tuple(POOLED[len(size)](torch.zeros(1, 2, *size), op.kernel, **geometry).shape[1:])
    network, layer = of_one_layer(op, (2, *size), shape)
    for _ in range(4):
        train = draw.whole(*((0, 1) if spikes else (-3, 3)), 5, 2, *size).numpy()
        wanted = pooled(train, shape, op)
        assert np.array_equal(replay.compute(network, layer, [train]).train, wanted)
        both = np.stack([train, train[::-1]], axis=1)
        found = replay.compute(network, layer, [both]).train
        assert np.array_equal(found[:, 0], wanted)
        assert np.array_equal(found[:, 1], pooled(train[::-1], shape, op))
        assert not spikes or set(np.unique(found)) <= {0, 1}


# One neuron, T = 4, threshold 6, B = 1, V0 = 2, currents 4, -3, 5, 1: the charges are 5, -2, 6, 2. By delay
# and reset: its spikes, and its potentials after the reset, of the 4 firing steps; above, those before it.
CURRENTS = [4, -3, 5, 1]
BY_HAND = {
    #                        7           -1 (1 - 2)  5, or 11 - 6  7
    (0, "subtraction"): ([1, 0, 0, 1], [1, -1, 5, 1]),
    #                        7            0 - 2      4             6
    (0, "zero"): ([1, 0, 0, 1], [0, -2, 4, 0]),
    # 7, then                5            11         5 + 2         1
    (1, "subtraction"): ([0, 1, 1, 0], [5, 5, 1, 1]),
    # 7, then                5            11         2             2
    (1, "zero"): ([0, 1, 0, 0], [5, 0, 2, 2]),
    # 7, 5, then             11           5 + 2      1             1
    (2, "subtraction"): ([1, 1, 0, 0], [5, 1, 1, 1]),
    # 7, 5, then             11           2          2             2
    (2, "zero"): ([1, 0, 0, 0], [0, 2, 2, 2]),
    # 7, 5, 11, then         13           7          1             1
    (3, "subtraction"): ([1, 1, 0, 0], [7, 1, 1, 1]),
    (3, "zero"): ([1, 0, 0, 0], [0, 0, 0, 0]),
    # 7, 5, 11, 13, then     13           7          1             1: that is D = 3
    (4, "subtraction"): ([1, 1, 0, 0], [7, 1, 1, 1]),
    (4, "zero"): ([1, 0, 0, 0], [0, 0, 0, 0]),
}


@pytest.mark.parametrize(("delay", "reset_mode"), BY_HAND)
def test_one_neuron_by_hand(delay, reset_mode):
    """It integrates D steps before the first comparison; after T steps nothing comes in, and no bias."""
    fire = ("fire", IntegrateFire(whole(6), whole(1), whole(2)), ("in",), (1,))
    graph = spiking(
        ("in", Input(1.0, -9, 9), (), (1,)), fire, timesteps=4, delay=delay, reset_mode=reset_mode
    )
    network = describe(graph)
    found = replay.compute(network, network.layers[-1], [np.array(CURRENTS)[:, None]])
    assert (found.train[:, 0].tolist(), found.potentials[:, 0].tolist()) == BY_HAND[delay, reset_mode]


def play(currents, threshold, bias, initial, reset_mode, delay):
    """One neuron in plain Python: (spikes, potentials after the reset)."""
    charges, spikes, potentials = [current + bias for current in currents], [], []
    potential = initial + sum(charges[:delay])
    for charge in [*charges[delay:], *[0] * delay]:
        potential += charge
        spikes.append(int(potential >= threshold))
        if spikes[-1]:
            potential = potential - threshold if reset_mode == "subtraction" else 0
        potentials.append(potential)
    return spikes, potentials


@pytest.mark.parametrize("reset_mode", RESETS)
@pytest.mark.parametrize("delay", range(8))
@pytest.mark.parametrize("shape", [(), (3, 1), (3, 4)])
def test_a_neuron_is_the_equation_of_the_document(shape, delay, reset_mode):
    """Thresholds, biases, initial potentials by layer, channel and neuron; shifted currents of any sign."""
    draw = Draw(len(shape))
    op = IntegrateFire(draw.whole(3, 40, *shape), draw.whole(-6, 9, *shape), draw.whole(-9, 30, *shape), 2)
    graph = spiking(
        ("in", Input(1.0, -9, 9), (), (3, 4)), ("fire", op, ("in",), (3, 4)),
        timesteps=7, delay=delay, reset_mode=reset_mode,
    )  # fmt: skip
    network, train = describe(graph), draw.whole(-9, 9, 7, 3, 4).numpy()
    found = replay.compute(network, network.layers[-1], [train])
    values = [each.expand(3, 4).tolist() for each in (op.threshold, op.bias, op.initial)]
    for c, i in product(range(3), range(4)):
        currents = [4 * int(x) for x in train[:, c, i]]
        wanted = play(currents, *(each[c][i] for each in values), reset_mode, delay)
        assert (found.train[:, c, i].tolist(), found.potentials[:, c, i].tolist()) == wanted
    assert 0 < found.train.mean() < 1


def test_the_table_of_the_document_is_the_one_computed_by_hand():
    """docs/semantics.md shows the rows of reset by subtraction."""
    text = (Path(__file__).parents[2] / "docs/semantics.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.replace("\u2212", "-").splitlines()]
    found = {
        int(row[0]): tuple([int(value) for value in cell.split()] for cell in row[1:3])
        for row in rows
        if row[0] in ("0", "1", "2", "3", "4")
    }
    assert found == {delay: BY_HAND[delay, "subtraction"] for delay in range(5)}


def test_a_delay_of_all_steps_but_one_is_a_delay_of_all_steps():
    """Either way the whole input is in before the first comparison: the same spikes and potentials."""
    found = []
    for delay in (4, 5):
        op = IntegrateFire(whole(9), whole(2), whole(4))
        network = describe(
            spiking(("in", Input(1.0, -9, 9), (), (60,)), ("fire", op, ("in",), (60,)), delay=delay)
        )
        found.append(replay.compute(network, network.layers[-1], [Draw(1).whole(-9, 9, 5, 60).numpy()]))
    assert np.array_equal(found[0].train, found[1].train)
    assert np.array_equal(found[0].potentials, found[1].potentials)
    assert 0 < found[0].train.mean() < 1


def test_an_integrate_passes_on_bias_and_charge_and_never_resets():
    """Input plus bias at every step, the initial charge with the first; V is the sum so far."""
    train = np.array([[1, -2], [3, 4], [-5, 6]])
    for bias, initial, first, later in (
        (whole(10, 20), whole(7), (17, 27), (10, 20)),
        (whole(10), None, (10, 10), (10, 10)),
        (None, whole(7, 8), (7, 8), (0, 0)),
        (None, None, (0, 0), (0, 0)),
    ):
        network, layer = of_one_layer(Integrate(bias, initial), (2,), (2,))
        found = replay.compute(network, layer, [train])
        wanted = train + np.array([first, later, later])
        assert np.array_equal(found.train, wanted)
        assert np.array_equal(found.potentials, wanted.cumsum(0))


# Whole networks against the reference engine ---------------------------------------------------------


def population(draw, rank, *, fraction=0):
    """A population of 3 channels; thresholds by layer, channel."""
    ones = [1] * (rank - 1)
    threshold = draw.whole(20, 60, 3, *ones)
    return IntegrateFire(threshold, draw.whole(-3, 3, 3, *ones), threshold // 2, fraction)


def everything(seed, delay, reset_mode):
    """A random network in which every kind of layer reads the one before, currents and spikes alike."""
    draw = Draw(seed)
    signed = draw.random() < 0.5
    code = draw.whole(-7, 7, 3, 2, 3, 3)
    up = Conv(draw.whole(-7, 7, 3, 1, 2, 2), None, (2, 2), (1, 1), (1, 1), 3, True, (1, 1), bits=4)
    strange = Gather(draw.whole(-1, 26, 3, 2, 3))
    pool = MaxPool((3, 3), (2, 2), (1, 1), (1, 1), draw.random() < 0.5)
    multipliers = (draw.whole(1, 9), draw.whole(1, 9, 3, 1, 1), draw.whole(1, 9, 3, 5, 6))
    steps = draw.randint(2, 9)
    return spiking(
        ("in", Input(1.0, -128 if signed else 0, 127 if signed else 255), (), (2, 5, 6)),
        ("conv", Conv(code, None, (1, 1), (1, 1), bits=4), ("in",), (3, 5, 6)),
        ("bias", Integrate(draw.whole(-9, 9, 3, 1, 1), draw.whole(-9, 9, 3, 1, 1)), ("conv",), (3, 5, 6)),
        ("peak", MaxPool((1, 2), (1, 1), (0, 1), (1, 2)), ("bias",), (3, 5, 6)),
        ("wide", IntegrateFire(draw.whole(100, 900, 3, 1, 1), draw.whole(-50, 50, 3, 1, 1),
                               draw.whole(0, 200, 3, 1, 1)), ("peak",), (3, 5, 6)),
        ("scale", Scale(draw.whole(-2, 7, 3, 1, 1), bits=4), ("wide",), (3, 5, 6)),
        ("sum", Add(multipliers), ("wide", "scale", "wide"), (3, 5, 6)),
        ("mid", population(draw, 3, fraction=2), ("sum",), (3, 5, 6)),
        ("pool", pool, ("mid",), (3, 3, 4 if pool.ceil_mode else 3)),
        ("some", strange, ("pool",), (3, 2, 3)),
        ("up", up, ("some",), (3, 3, 5)),
        ("small", population(draw, 3, fraction=4), ("up",), (3, 3, 5)),
        ("turned", Permute((0, 2, 1)), ("small",), (3, 5, 3)),
        ("mean", AvgPool((2, 1), (2, 1), (1, 0)), ("turned",), (3, 3, 3)),
        ("relay", IntegrateFire(whole(2), whole(0), whole(1)), ("mean",), (3, 3, 3)),
        ("rest", Gather(draw.whole(-1, 26, 3, 3, 3)), ("pool",), (3, 3, 3)),
        ("both", Concat(), ("relay", "rest"), (6, 3, 3)),
        ("rows", Reshape(), ("both",), (6, 9)),
        ("fc", Linear(draw.whole(0, 1, 4, 9) * 2 - 1, bits=1), ("rows",), (6, 4)),
        ("out", Integrate(draw.whole(-4, 4, 4), draw.whole(0, 4, 6, 1)), ("fc",), (6, 4)),
        timesteps=steps, delay=DELAYS[delay](steps), reset_mode=reset_mode,
    )  # fmt: skip


def watched(graph, stimulus):
    """What the reference engine's neurons do: trains and potentials by layer, without the batch."""
    seen = {}

    def watch(node, activity):
        potentials = activity.potentials[:, 0].long().numpy()
        seen[node.name] = (activity.train[:, 0].long().numpy(), potentials)

    simulate(graph, stimulus["in"][None].double(), watch=watch, potentials=True)
    return seen


@pytest.mark.parametrize("reset_mode", RESETS)
@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("seed", range(4))
def test_the_twin_and_the_engine_agree_on_random_networks(seed, delay, reset_mode, tmp_path):
    """Written as a pack and read back: every spike and potential of every layer of neurons."""
    graph = everything(seed, delay, reset_mode)
    op = graph.inputs[0].op
    stimuli = [Draw(seed + i).whole(op.low, op.high, 2, 5, 6) for i in range(2)]
    samples = [Sample(f"s{i}", "real", "", {"in": each}) for i, each in enumerate(stimuli)]
    folder = write_samples(graph, samples, tmp_path / "pack")
    assert replay.problems(folder) == []
    pack = replay.read(folder)
    spikes = []
    for sample in samples:
        found = replay.replay(pack.network, pack.stimulus(sample.name))
        for name, (train, potentials) in watched(graph, sample.stimulus).items():
            assert np.array_equal(found[name].train, train), name
            assert np.array_equal(found[name].potentials, potentials), name
            spikes += [train.ravel()] * (name in ("mid", "small", "relay"))
    assert 0 < np.concatenate(spikes).mean() < 1
    outcome = replay.verify(pack, ["s0", "s1"])
    neurons = [prod(graph[name].shape) for name in ("wide", "mid", "small", "relay")]
    values = graph.timing.timesteps * (2 * sum(neurons) + prod((3, 5, 6)) + 24) + 24
    assert (outcome.checked, outcome.mismatches, outcome.first) == (2 * values, 0, None)


@pytest.mark.parametrize("reset_mode", RESETS)
@pytest.mark.parametrize("delay", [0, 2, 5])
def test_a_layer_without_axes_is_replayed(delay, reset_mode, tmp_path):
    """One number a sample, as `squeeze` leaves it, through every kind of layer that can have it."""
    graph = spiking(
        ("in", Input(1.0), (), (1,)),
        ("squeezed", Reshape(), ("in",), ()),
        ("scale", Scale(whole(3), bits=3), ("squeezed",), ()),
        ("sum", Add((whole(2), whole(-1))), ("scale", "squeezed"), ()),
        ("fire", IntegrateFire(whole(40), whole(-1), whole(20), 1), ("sum",), ()),
        ("out", Integrate(whole(2), whole(3)), ("fire",), ()),
        delay=delay, reset_mode=reset_mode,
    )  # fmt: skip
    pack = replay.read(
        write_samples(graph, [Sample("s", "real", "", {"in": whole(3).reshape(1)})], tmp_path / "pack")
    )
    spikes, potentials = play([2 * 15] * 5, 40, -1, 20, reset_mode, delay)
    found = replay.replay(pack.network, pack.stimulus("s"))
    assert (found["fire"].train.tolist(), found["fire"].potentials.tolist()) == (spikes, potentials)
    assert found["out"].train.tolist() == [spike + 2 + 3 * (t == 0) for t, spike in enumerate(spikes)]
    assert replay.verify(pack, ["s"]).mismatches == 0


def test_several_samples_may_be_replayed_at_once_and_layers_taken_as_given():
    """Along an axis behind the steps; a layer in `start` is not computed."""
    graph = everything(3, "0", "subtraction")
    network = describe(graph)
    low, high = graph.inputs[0].op.low, graph.inputs[0].op.high
    stimuli = Draw(1).whole(low, high, 3, 2, 5, 6).numpy()
    together = replay.replay(network, {"in": stimuli})
    for i, stimulus in enumerate(stimuli):
        for name, activity in replay.replay(network, {"in": stimulus}).items():
            assert np.array_equal(together[name].train[:, i], activity.train), name
    silent = Activity(np.zeros((network.steps, 3, 5, 6), np.int64))
    given = replay.replay(network, {"in": stimuli[0]}, {"wide": silent})
    assert given["wide"] is silent
    assert not given["scale"].train.any()


def test_sums_that_float64_does_not_hold_are_refused():
    """A wrong answer would look like a right one."""
    network = describe(small())
    wide = Network(network.contract, network.layers, network.outputs, 54, network.arrays)
    with pytest.raises(Damaged, match="sums of 54 bits do not fit float64"):
        replay.replay(wide, {"in": np.zeros((1, 2, 2), np.int64)})


# As a user runs it -----------------------------------------------------------------------------------


def small(**contract):
    """input 1x2x2 -> conv 1->2 -> neurons -> flatten -> linear -> neurons -> read-out."""
    return spiking(
        ("in", Input(1.0), (), (1, 2, 2)),
        ("conv", Conv(whole(3, -2).reshape(2, 1, 1, 1), bits=3), ("in",), (2, 2, 2)),
        ("fire", IntegrateFire(whole(300, 190).reshape(2, 1, 1), whole(5), whole(150)), ("conv",), (2, 2, 2)),
        ("flat", Reshape(), ("fire",), (8,)),
        ("fc", Linear(torch.tensor([[4, 3, 2, 1, 0, 1, 2, 3], [7, -7, 5, -5, 3, -3, 1, -1]]), bits=4),
         ("flat",), (2,)),
        ("late", IntegrateFire(whole(6), whole(0), whole(0)), ("fc",), (2,)),
        ("out", Integrate(whole(1)), ("late",), (2,)),
        **contract,
    )  # fmt: skip


SAMPLES = [
    Sample("one", "real", "", {"in": whole(30, 0, 255, 31).reshape(1, 2, 2)}, 1),
    Sample("two", "corner", "", {"in": whole(0, 90, 0, 7).reshape(1, 2, 2)}),
]
CHECKED = 2 * (5 * (2 * 8 + 2 * 2 + 2) + 2)  # samples, steps, spikes and potentials, read-out, result


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """The pack of `small`, and one without potentials."""
    folder = tmp_path_factory.mktemp("packs")
    write_samples(small(), SAMPLES, folder / "whole")
    write_samples(small(), SAMPLES, folder / "spikes", extent=Extent(potentials=False))
    return folder


@pytest.fixture
def pack(packs, tmp_path):
    """A copy of it to damage."""
    return Path(shutil.copytree(packs / "whole", tmp_path / "pack"))


ALONE = """
import sys

class Closed:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "ann2snn_cli", "onnx", "click"}:
            raise ImportError(name + " is closed")

sys.meta_path.insert(0, Closed())
import runpy

sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_pack_replays_itself_with_numpy_alone(pack, tmp_path):
    """Its own copy of the twin, where nothing of ours nor torch can be imported, from any folder."""
    assert (pack / "replay.py").read_text() == Path(replay.__file__).read_text()
    command = [sys.executable, "-I", "-c", ALONE, str(pack / "replay.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", env={}, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"RESULT checked={CHECKED} mismatch=0 expected={CHECKED}\n"
    flip(pack / "weights/conv.mem", 0, 1)
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", env={}, check=False)
    assert done.returncode == 4
    assert "weights/conv.mem: its content was changed (sha256 differs)\n" in done.stdout


def test_it_runs_as_the_readme_says(pack):
    """`python replay.py`, inside the pack or outside, of the pack or of another; and leaves no trace."""
    assert "    python replay.py" in (pack / "README.md").read_text()
    before = sorted(pack.rglob("*"))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, "replay.py", "--sample", "two"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=pack, env=clean, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"RESULT checked={CHECKED // 2} mismatch=0 expected={CHECKED // 2}\n"
    assert sorted(pack.rglob("*")) == before


def test_only_the_samples_that_are_named_are_replayed(pack, capsys):
    """An unknown one is refused with those there are."""
    assert replay.main([str(pack), "--sample", "two", "--sample", "one"]) == 0
    assert capsys.readouterr().out == f"RESULT checked={CHECKED} mismatch=0 expected={CHECKED}\n"
    with pytest.raises(SystemExit) as ended:
        replay.main([str(pack), "--sample", "three"])
    assert ended.value.code == 2
    assert "there is no sample 'three', only: one, two" in capsys.readouterr().err


# Damaged packs -------------------------------------------------------------------------------------


def flip(path, line, bit):
    """One bit of one line of a memory file."""
    lines = path.read_text().splitlines()
    lines[line] = f"{int(lines[line], 16) ^ 1 << bit:0{len(lines[line])}x}"
    path.write_text("".join(f"{each}\n" for each in lines))


def repair(folder, **changes):
    """Make the manifest agree with the files again, as somebody who hides a change would."""
    manifest = json.loads((folder / "manifest.json").read_text()) | changes
    for name, entry in manifest["files"].items():
        content = (folder / name).read_bytes()
        entry |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        if "words" in entry:
            entry["words"] = content.count(b"\n")
    del manifest["manifest_sha256"]
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    manifest["manifest_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def told(folder, capsys):
    """The lines that were printed; the exit code is 4 where numbers differ, 1 for what is only damaged."""
    code = replay.main([str(folder)])
    lines = capsys.readouterr().out.splitlines()
    assert code == (4 if any(line.startswith("first difference") for line in lines) else 1)
    return lines


def differences(weights, kept):
    """(sample, step, neuron, field, expected, got) where other weights of `conv` show in `fire`, in order."""
    for sample in SAMPLES:
        found = []
        for neuron, (c, pixel) in enumerate(product(range(2), sample.stimulus["in"].flatten().tolist())):
            trains = [
                play([w[c] * pixel] * 5, (300, 190)[c], 5, 150, "subtraction", 0) for w in ((3, -2), weights)
            ]
            for place, field in enumerate(kept):
                for step in range(5):
                    expected, got = (train[place][step] for train in trains)
                    if expected != got:
                        found.append((sample.name, step + 1, neuron, field, expected, got))
        yield from sorted(found, key=lambda each: (each[1], each[3] == "potential", each[2]))


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("kind", ["whole", "spikes"])
@pytest.mark.parametrize(("line", "bit", "weights"), [(0, 0, (2, -2)), (1, 2, (3, 2)), (0, 2, (-1, -2))])
def test_a_flipped_bit_of_a_weight_is_found_where_it_first_shows(
    kind, line, bit, weights, hidden, packs, tmp_path, capsys
):
    """The file by its hash; with hashes repaired, still the sample, layer, step and neuron by the replay."""
    folder = Path(shutil.copytree(packs / kind, tmp_path / "pack"))
    flip(folder / "weights/conv.mem", line, bit)
    if hidden:
        repair(folder)
    fields = ("spike", "potential") if kind == "whole" else ("spike",)
    sample, step, neuron, field, expected, got = next(differences(weights, fields))
    lines = told(folder, capsys)
    assert ("weights/conv.mem: its content was changed (sha256 differs)" in lines) != hidden
    c, y, x = neuron // 4, neuron // 2 % 2, neuron % 2
    assert lines[-2] == (
        f"first difference: sample {sample}, layer fire, step {step}, neuron {neuron} "
        f"(channel {c}, y {y}, x {x}): {field} expected {expected}, got {got}"
    )
    assert lines[-1].startswith(
        f"RESULT checked={CHECKED if kind == 'whole' else 2 * (5 * 10 + 2)} mismatch="
    )
    assert " mismatch=0 " not in lines[-1]
    assert len(lines) == 3 - hidden


def test_a_step_later_than_the_first_is_named(packs, tmp_path, capsys):
    """The oracle of the test above is no trivial one: spikes alone differ later."""
    steps = {next(differences(weights, ("spike",)))[1] for weights in ((2, -2), (3, 2), (-1, -2))}
    assert max(steps) > 1


EVERY_FILE = ["README.md", "replay.py", "pack.npz", "weights/fc.mem", "threshold/late.mem", "bias/out.mem",
              "initial/fire.mem", "stimulus/one/in.mem", "stimulus/two/in.aer", "expect/one/fire.spk.mem",
              "expect/two/out.vmem.mem", "expect/two/result.json"]  # fmt: skip


@pytest.mark.parametrize("name", EVERY_FILE)
def test_any_file_that_changed_or_is_missing_or_broke_off_is_named(name, pack, capsys):
    """With its layer and sample, and never a traceback."""
    assert name in json.loads((pack / "manifest.json").read_text())["files"]
    content = (pack / name).read_bytes()
    changed = content[:-2] + bytes([content[-2] ^ 1]) + content[-1:]
    for damaged, what in (
        (changed, "its content was changed (sha256 differs)"),
        (content[: len(content) // 2], "its content was changed (sha256 differs)"),
        (b"", "its content was changed (sha256 differs)"),
        (content + b"0\n", "its content was changed (sha256 differs)"),
        (None, "it is missing"),
    ):
        (pack / name).unlink(missing_ok=True)
        if damaged is not None:
            (pack / name).write_bytes(damaged)
        assert f"{name}: {what}" in told(pack, capsys)
    (pack / name).mkdir()
    assert f"{name}: it is missing" in told(pack, capsys)
    (pack / name).rmdir()
    (pack / name).write_bytes(content)
    assert replay.main([str(pack)]) == 0


def test_problems_name_layer_and_sample(pack):
    """Everything at once, in the order of the files."""
    (pack / "weights/conv.mem").unlink()
    flip(pack / "expect/two/late.spk.mem", 0, 0)
    with (pack / "stimulus/one/in.mem").open("a") as file:
        file.write("00\n")
    changed = "its content was changed (sha256 differs)"
    assert replay.problems(pack) == [
        Problem("expect/two/late.spk.mem", changed, "late", "two"),
        Problem("stimulus/one/in.mem", "it holds 5 words, not 4", "in", "one"),
        Problem("stimulus/one/in.mem", changed, "in", "one"),
        Problem("weights/conv.mem", "it is missing", "conv"),
    ]


@pytest.mark.parametrize(
    ("name", "change", "what"),
    [
        ("weights/conv.mem", lambda text: text[: len(text) // 2], "it holds 1 words, not 2"),
        ("weights/conv.mem", lambda text: text[:-1], "its lines are not all of 1 digits"),
        ("weights/conv.mem", lambda text: text.replace("\n", "\r\n"), "its lines are not all of 1 digits"),
        ("weights/conv.mem", lambda text: text + "0\n", "it holds 3 words, not 2"),
        ("weights/conv.mem", lambda text: "".join(f"0{w}\n" for w in text.split()), "not all of 1 digits"),
        ("weights/conv.mem", lambda text: "b\n6\n", "a bit above the 3 of a line is not 0"),
        ("weights/conv.mem", lambda text: "x\n6\n", "no lower-case hexadecimal digit"),
        ("threshold/late.mem", str.upper, ""),
        ("stimulus/one/in.mem", lambda text: text.upper(), "no lower-case hexadecimal digit"),
        ("stimulus/one/in.mem", lambda text: "", "it holds 0 words, not 4"),
        (
            "expect/one/late.spk.mem",
            lambda text: text.replace("0", "4"),
            "a bit above the 2 of a line is not 0",
        ),
        ("expect/one/late.spk.mem", lambda text: text[2:], "it holds 4 lines, not 5"),
        ("expect/one/fire.spk.mem", lambda text: text.replace("\n", "\n\n"), "not all of 2 digits"),
        ("expect/one/result.json", lambda text: "{", "the sums of every output"),
        ("expect/one/result.json", lambda text: '{"outputs": {"out": [1]}}', "the sums of every output"),
        ("expect/one/result.json", lambda text: '{"outputs": {}}', "the sums of every output"),
        ("expect/one/result.json", lambda text: "[]", "the sums of every output"),
    ],
)
def test_a_malformed_file_is_refused_even_where_its_hash_is_right(name, change, what, pack, capsys):
    """Words of another width, of other digits, too few, too many; a result without its sums."""
    (pack / name).write_text(change((pack / name).read_text()), newline="")
    repair(pack)
    if not what:
        assert replay.main([str(pack)]) == 0, "nothing changed"
        return
    (line,) = told(pack, capsys)
    assert line.startswith(f"the pack cannot be replayed: {name}: ")
    assert what in line


def test_a_changed_stimulus_shows_in_the_first_population(pack, capsys):
    """Whether its hash tells or not."""
    flip(pack / "stimulus/one/in.mem", 0, 6)  # 30 -> 94
    lines = told(pack, capsys)
    assert lines[0] == "stimulus/one/in.mem: its content was changed (sha256 differs)"
    potential, other = 150 + 3 * 30 + 5, 150 + 3 * 94 + 5 - 300
    spiked = "neuron 0 (channel 0, y 0, x 0): spike expected 0, got 1"
    assert lines[1] == f"first difference: sample one, layer fire, step 1, {spiked}"
    assert (potential < 300, other < 300) == (True, True)
    repair(pack)
    assert told(pack, capsys)[0] == lines[1]


@pytest.mark.parametrize(
    ("file", "line", "bit", "where"),
    [
        (
            "expect/one/fire.spk.mem",
            3,
            5,
            "sample one, layer fire, step 4, neuron 5 (channel 1, y 0, x 1): spike",
        ),
        ("expect/two/late.vmem.mem", 7, 0, "sample two, layer late, step 4, neuron 1 (index 1): potential"),
        ("expect/two/out.vmem.mem", 0, 2, "sample two, layer out, step 1, neuron 0 (index 0): potential"),
    ],
)
def test_a_changed_expectation_is_one_difference_exactly_there(file, line, bit, where, pack, capsys):
    """Sample, layer, step and neuron are those of the bit."""
    flip(pack / file, line, bit)
    repair(pack)
    first, last = told(pack, capsys)
    assert first.startswith(f"first difference: {where} expected ")
    assert last == f"RESULT checked={CHECKED} mismatch=1 expected={CHECKED}"


def test_a_changed_result_is_named_after_all_steps(pack, capsys):
    """It has no step."""
    path = pack / "expect/two/result.json"
    document = json.loads(path.read_text())
    document["outputs"]["out"][1] += 3
    path.write_text(json.dumps(document))
    repair(pack)
    got = document["outputs"]["out"][1] - 3
    assert told(pack, capsys) == [
        f"first difference: sample two, layer out, neuron 1 (index 1): result expected {got + 3}, got {got}",
        f"RESULT checked={CHECKED} mismatch=1 expected={CHECKED}",
    ]


def test_the_first_difference_is_by_sample_then_layer_then_step(pack, capsys):
    """Later samples, later layers and later steps come after, whatever is changed."""
    changes = [("one/fire.spk.mem", 1, 0), ("one/fire.vmem.mem", 16, 0), ("one/late.spk.mem", 0, 1),
               ("one/out.vmem.mem", 0, 0), ("two/fire.spk.mem", 0, 0)]  # fmt: skip
    firsts = []
    for name, line, bit in reversed(changes):
        flip(pack / "expect" / name, line, bit)
        repair(pack)
        firsts.append(told(pack, capsys)[0].removeprefix("first difference: sample ").partition(":")[0])
    assert [each.split(", neuron")[0] for each in firsts] == [
        "two, layer fire, step 1",
        "one, layer out, step 1",
        "one, layer late, step 1",
        "one, layer fire, step 3",
        "one, layer fire, step 2",
    ]


def manifest_with(change):
    """A damaged manifest, with a hash that is right."""

    def damage(folder):
        manifest = json.loads((folder / "manifest.json").read_text())
        change(manifest)
        manifest["manifest_sha256"] = replay.manifest_hash(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return damage


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json: it is missing"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "it is damaged: JSONDecodeError"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "it is no table of fields"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe\x00"), "it is damaged"),
        (manifest_with(lambda m: m.pop("layers")), "its layers are no list of tables"),
        (manifest_with(lambda m: m.pop("files")), "its files are no table"),
        (manifest_with(lambda m: m.update(files=[])), "its files are no table"),
        (manifest_with(lambda m: m["layers"][1].update(parameters=[])), "its parameters are no table"),
        (manifest_with(lambda m: m.update(schema="ann2snn/pack/9")), "its schema is ann2snn/pack/9, not"),
        (
            manifest_with(lambda m: m.update(schema="ann2snn/pack/1")),
            "manifest.json: its format is that of an earlier ann2snn (ann2snn/pack/1): export it again",
        ),
        (manifest_with(lambda m: m["contract"].pop("delay")), "its delay is None, not a whole number from 0"),
        (
            manifest_with(lambda m: m["layers"][1].update(kind="fold")),
            "layer conv: its kind is 'fold', which is none of a pack's",
        ),
        (
            manifest_with(lambda m: m["layers"][1].update(stride=[2, 2])),
            "layer conv: its shape [2, 2, 2] does not follow from what it reads",
        ),
        (
            manifest_with(lambda m: m["layers"][1]["parameters"].clear()),
            "layer conv: its parameters are none, not weight",
        ),
        (manifest_with(lambda m: m["layers"].pop(3)), "inputs are ['flat'], not layers before it"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(damage, what, pack, capsys):
    """Missing, cut, of another schema, with layers that do not fit: one line, exit code 4."""
    damage(pack)
    assert what in "\n".join(told(pack, capsys))


@pytest.mark.parametrize(
    ("change", "first"),
    [
        (lambda m: m["contract"].update(reset_mode="zero"), "sample one, layer fire, step 1, neuron 2"),
        (lambda m: m["contract"].update(delay=5), "sample one, layer fire, step 1, neuron 0"),
        (lambda m: m["layers"][2].update(fraction_bits=1), "sample one, layer fire, step 1, neuron 0"),
    ],
)
def test_a_manifest_that_was_changed_is_named_and_so_is_what_it_changes(change, first, pack, capsys):
    """The rules of the neuron are part of what is hashed, and of what is replayed."""
    manifest = json.loads((pack / "manifest.json").read_text())
    change(manifest)
    (pack / "manifest.json").write_text(json.dumps(manifest))
    lines = told(pack, capsys)
    assert lines[0] == "manifest.json: it was changed after it was written (manifest_sha256 differs)"
    assert lines[1].startswith(f"first difference: {first} ")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"delay": 6}, "its delay is 6, not a whole number from 0 to the timesteps, 5"),
        ({"delay": -1}, "its delay is -1, not a whole number from 0 to the timesteps, 5"),
        ({"delay": 1.0}, "its delay is 1.0, not a whole number from 0 to the timesteps, 5"),
        ({"delay": True}, "its delay is True, not a whole number from 0 to the timesteps, 5"),
        ({"delay": "layerwise"}, "its delay is 'layerwise', not a whole number from 0 to the timesteps, 5"),
        ({"timesteps": 0, "delay": 0}, "its timesteps is 0, not a whole number of 1 or more"),
        ({"timesteps": 2.5}, "its timesteps is 2.5, not a whole number of 1 or more"),
        ({"reset_mode": "soft"}, "its reset_mode is 'soft', not one of subtraction, zero"),
        ({"comparator": "<"}, "its comparator is '<', not one of >=, >"),
    ],
)
def test_a_contract_that_makes_no_sense_is_refused_in_words(change, what, pack, capsys):
    """Whether it stands in the file or is handed to the twin."""
    network = replay.read(pack).network
    manifest_with(lambda m: m["contract"].update(change))(pack)
    assert told(pack, capsys) == [f"the pack cannot be replayed: manifest.json: {what}"]
    with pytest.raises(Damaged) as caught:
        replay.replay(replace(network, contract=network.contract | change), {})
    assert [problem.what for problem in caught.value.problems] == [what]


def test_the_format_of_the_manifest_does_not_matter(pack):
    """Its hash is that of its content: another indentation is the same manifest."""
    manifest = json.loads((pack / "manifest.json").read_text())
    (pack / "manifest.json").write_text(json.dumps(dict(reversed(manifest.items())), indent=7))
    assert replay.main([str(pack)]) == 0


# Words, and words for people -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "neuron", "text"),
    [
        ([5], 3, "neuron 3 (index 3)"),
        ([2, 5], 7, "neuron 7 (channel 1, x 2)"),
        ([2, 3, 4], 17, "neuron 17 (channel 1, y 1, x 1)"),
        ([2, 2, 3, 4], 47, "neuron 47 (channel 1, z 1, y 2, x 3)"),
        ([1, 1, 2, 1, 3], 4, "neuron 4 (axis 0 0, axis 1 0, axis 2 1, axis 3 0, axis 4 1)"),
        ([], 0, "neuron 0 ()"),
    ],
)
def test_a_flat_index_is_told_as_coordinates(shape, neuron, text):
    """As people look for it."""
    assert replay.coordinates({"shape": shape}, neuron) == text


@pytest.mark.parametrize(
    ("bits", "line", "fine"), [(4, "f", True), (5, "1f", True), (5, "20", False), (7, "80", False)]
)
def test_bits_above_the_width_are_zero(bits, line, fine, tmp_path):
    """As docs/vector-pack.md says: a word that has some is not read as another number."""
    (tmp_path / "x.mem").write_text(f"{line}\n")
    if fine:
        assert replay.read_words(tmp_path, "x.mem", bits, "unsigned", (1,)).tolist() == [int(line, 16)]
    else:
        with pytest.raises(Damaged, match=f"a bit above the {bits} of a line is not 0"):
            replay.read_words(tmp_path, "x.mem", bits, "unsigned", (1,))


@pytest.mark.parametrize("extent", [Extent(), Extent(("late",)), Extent(steps=2, potentials=False)])
def test_as_many_values_are_checked_as_the_pack_holds(extent, tmp_path):
    """Spikes, potentials and results, counted from the files themselves."""
    folder = write_samples(small(), SAMPLES, tmp_path / "pack", extent=extent)
    manifest, count = json.loads((folder / "manifest.json").read_text()), 0
    for name, entry in manifest["files"].items():
        if name.startswith("expect/one/") and name.endswith(".mem"):
            count += entry["words"] * (entry["word_bits"] if ".spk." in name else 1)
    pack = replay.read(folder)
    assert replay.values_to_check(pack, "one") == count + 2
    assert replay.verify(pack, ["one"]).checked == count + 2
    assert [layer["name"] for layer in replay.recorded(pack)] == manifest["recorded"]["layers"]
