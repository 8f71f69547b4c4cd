"""The engine is the arithmetic of SPEC 1, 5 and 6: held against plain Python loops and the theorem."""

from functools import cache

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ann2snn_cli.errors import UsageError
from ann2snn_cli.ir.contract import Contract, Reset, Rounding
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import (
    AvgPool,
    Conv,
    Input,
    Integrate,
    IntegrateFire,
    Linear,
    MaxPool,
    Opaque,
    Place,
    Ref,
    Reshape,
)
from ann2snn_cli.ir.precision import exact_dtypes
from ann2snn_cli.ir.run import run, run_counts
from ann2snn_cli.ir.validate import validate
from ann2snn_cli.stages.calibrate import calibrate
from ann2snn_cli.stages.fold import fold, spiking_pools
from ann2snn_cli.stages.quantize.weights import quantize
from ann2snn_cli.stages.simulate import Request, reference, simulate
from ann2snn_cli.stages.simulate import portions as portions_of_engines
from ann2snn_cli.stages.simulate.fused import engine as fused_engine
from ann2snn_cli.stages.simulate.reference import ReferenceEngine
from ann2snn_cli.stages.threshold import threshold
from ann2snn_cli.stages.trace import trace

ONE = torch.tensor(1.0, dtype=torch.float64)


def whole(*values):
    """A tensor of integers."""
    return torch.tensor(values, dtype=torch.int64)


def scalar(value):
    """An integer without axes."""
    return torch.tensor(value, dtype=torch.int64)


def delays(steps):
    """None, one step, half of them, all but one, all."""
    return sorted({0, 1, steps // 2, steps - 1, steps})


def spiking(*nodes, outputs, timesteps, reset_mode=Reset.SUBTRACTION, delay=0):
    """A SPIKING graph whose integers mean themselves."""
    nodes = [Node(name, op, inputs, shape, unit=ONE) for name, op, inputs, shape in nodes]
    return Graph(tuple(nodes), outputs, Level.SPIKING, Contract(timesteps, reset_mode, delay))


def watched(graph, x, **options):
    """The simulation, and what every population did, by name."""
    seen = {}
    wanted = {"by_step": True, "potentials": True} | options
    result = simulate(graph, x, watch=lambda node, activity: seen.setdefault(node.name, activity), **wanted)
    return result, seen


# The oracle: plain Python integers -----------------------------------------------------------------


def play(currents, threshold, bias, initial, reset_mode, delay):
    """One neuron in its own time, t = 1..T+D: (spikes, potentials after the reset) of its T firing steps."""
    steps, potential, spikes, potentials = len(currents), initial, [], []
    for t in range(1, steps + delay + 1):
        if t <= steps:
            potential += currents[t - 1] + bias
        if t > delay:
            spike = 1 if potential >= threshold else 0
            if spike:
                potential = potential - threshold if reset_mode is Reset.SUBTRACTION else 0
            spikes.append(spike)
            potentials.append(potential)
    return spikes, potentials


def play_layer(trains, weights, threshold, biases, initials, reset_mode, delay):
    """A fully connected layer: `trains[i][t]` in, one (spikes, potentials) a neuron out."""
    steps = range(len(trains[0]))
    layer = []
    for row, bias, initial in zip(weights, biases, initials, strict=True):
        currents = [sum(w * train[t] for w, train in zip(row, trains, strict=True)) for t in steps]
        layer.append(play(currents, threshold, bias, initial, reset_mode, delay))
    return layer


# Of a neuron with θ = 10, V0 = 5, B = 1, over four steps: with its bias 4, 21, −5, 9 or 15, −11, 4, 2
CURRENTS = [[3, 20, -6, 8], [14, -12, 3, 1]]
BY_HAND = {  # by reset and delay, for each of the two: spikes, and potentials after the reset
    # V before the comparison: 9 30 15 14 | 20 -1 3 5
    (Reset.SUBTRACTION, 0): (([0, 1, 1, 1], [9, 20, 5, 4]), ([1, 0, 0, 0], [10, -1, 3, 5])),
    # 9, then 30 15 14 4 | 20, then 9 13 5 5
    (Reset.SUBTRACTION, 1): (([1, 1, 1, 0], [20, 5, 4, 4]), ([0, 1, 0, 0], [9, 3, 5, 5])),
    # 9 30, then 25 24 14 4 | 20 9, then 13 5 5 5
    (Reset.SUBTRACTION, 2): (([1, 1, 1, 0], [15, 14, 4, 4]), ([1, 0, 0, 0], [3, 5, 5, 5])),
    # 9 30 25, then 34 24 14 4 | 20 9 13, then 15 5 5 5
    (Reset.SUBTRACTION, 3): (([1, 1, 1, 0], [24, 14, 4, 4]), ([1, 0, 0, 0], [5, 5, 5, 5])),
    # 9 30 25 34, then 34 24 14 4 | 20 9 13 15, then 15 5 5 5
    (Reset.SUBTRACTION, 4): (([1, 1, 1, 0], [24, 14, 4, 4]), ([1, 0, 0, 0], [5, 5, 5, 5])),
    # 9 30 -5 4 | 20 -11 -7 -5
    (Reset.ZERO, 0): (([0, 1, 0, 0], [9, 0, -5, 4]), ([1, 0, 0, 0], [0, -11, -7, -5])),
    # 9, then 30 -5 4 4 | 20, then 9 13 2 2
    (Reset.ZERO, 1): (([1, 0, 0, 0], [0, -5, 4, 4]), ([0, 1, 0, 0], [9, 0, 2, 2])),
    # 9 30, then 25 9 9 9 | 20 9, then 13 2 2 2
    (Reset.ZERO, 2): (([1, 0, 0, 0], [0, 9, 9, 9]), ([1, 0, 0, 0], [0, 2, 2, 2])),
    # 9 30 25, then 34 0 0 0 | 20 9 13, then 15 0 0 0
    (Reset.ZERO, 3): (([1, 0, 0, 0], [0, 0, 0, 0]), ([1, 0, 0, 0], [0, 0, 0, 0])),
    (Reset.ZERO, 4): (([1, 0, 0, 0], [0, 0, 0, 0]), ([1, 0, 0, 0], [0, 0, 0, 0])),
}


@pytest.mark.parametrize(("reset_mode", "delay"), BY_HAND)
def test_the_firing_rule_by_hand(reset_mode, delay):
    """D steps without comparison, then T comparisons; after step T nothing comes in, and no bias."""
    train = torch.tensor(CURRENTS, dtype=torch.float64).T.unsqueeze(1)
    node = Node("n", IntegrateFire(scalar(10), scalar(1), scalar(5)), ("x",), (2,))
    place = Place(node, (), Contract(4, reset_mode, delay), keeps_potentials=True)

    activity = node.op.train([train], place)

    for neuron, (spikes, potentials) in enumerate(BY_HAND[reset_mode, delay]):
        assert activity.train[:, 0, neuron].tolist() == spikes
        assert activity.potentials[:, 0, neuron].tolist() == potentials
        assert play(CURRENTS[neuron], 10, 1, 5, reset_mode, delay) == (spikes, potentials)


@pytest.mark.parametrize("delay", delays(9))
@pytest.mark.parametrize("reset_mode", Reset)
def test_two_layers_equal_plain_python_step_by_step(reset_mode, delay):
    """Every spike and every potential of a two-layer network is the one that integer loops give."""
    generator = torch.Generator().manual_seed(7)

    def draw(low, high, *shape):
        return torch.randint(low, high, shape, generator=generator)

    steps, batch = 9, 6
    weights = [draw(-7, 8, 5, 4), draw(-7, 8, 3, 5)]
    biases, initials = [draw(-9, 10, 5), draw(-3, 4, 3)], [draw(0, 11, 5), draw(0, 4, 3)]
    thresholds = [23, 8]
    x = draw(0, 10, batch, 4)
    graph = spiking(
        ("x", Input(unit=1.0), (), (4,)),
        ("fc1", Linear(weights[0].to(torch.int8), bits=4), ("x",), (5,)),
        ("if1", IntegrateFire(scalar(thresholds[0]), biases[0], initials[0]), ("fc1",), (5,)),
        ("fc2", Linear(weights[1].to(torch.int8), bits=4), ("if1",), (3,)),
        ("if2", IntegrateFire(scalar(thresholds[1]), biases[1], initials[1]), ("fc2",), (3,)),
        outputs=("if2",), timesteps=steps, reset_mode=reset_mode, delay=delay,
    )  # fmt: skip

    result, seen = watched(graph, x.double())

    for sample in range(batch):
        trains = [[value] * steps for value in x[sample].tolist()]
        for layer in range(2):
            expected = play_layer(
                trains, weights[layer].tolist(), thresholds[layer], biases[layer].tolist(),
                initials[layer].tolist(), reset_mode, delay,
            )  # fmt: skip
            trains = [spikes for spikes, _ in expected]
            activity = seen[f"if{layer + 1}"]
            assert activity.train[:, sample].T.tolist() == trains
            assert activity.potentials[:, sample].T.tolist() == [potentials for _, potentials in expected]
        means = [sum(spikes) / steps for spikes in trains]
        assert result.outputs[0][sample].tolist() == pytest.approx(means, abs=1e-12)
    fired = torch.cat([seen[name].train.flatten() for name in ("if1", "if2")])
    assert 0.02 < fired.mean() < 0.9, "a silent or saturated example would prove little"


@pytest.mark.parametrize("delay", delays(7))
def test_a_convolution_with_a_read_out_equals_plain_python(delay):
    """A padded, strided convolution, its neurons and the potential that is read out, by loops over pixels."""
    generator = torch.Generator().manual_seed(3)
    q = torch.randint(-3, 4, (2, 1, 3, 3), generator=generator)
    read = torch.randint(-3, 4, (2, 8), generator=generator)
    x = torch.randint(0, 6, (1, 1, 4, 4), generator=generator)
    steps, theta = 7, 11
    bias, initial = whole(2, -1).reshape(2, 1, 1), whole(5, 6).reshape(2, 1, 1)
    graph = spiking(
        ("x", Input(unit=1.0), (), (1, 4, 4)),
        ("conv", Conv(q.to(torch.int8), stride=(2, 2), padding=(1, 1), bits=3), ("x",), (2, 2, 2)),
        ("if", IntegrateFire(scalar(theta), bias, initial), ("conv",), (2, 2, 2)),
        ("flat", Reshape(), ("if",), (8,)),
        ("fc", Linear(read.to(torch.int8), bits=3), ("flat",), (2,)),
        ("out", Integrate(whole(1, -2), whole(3, 4)), ("fc",), (2,)),
        outputs=("out",), timesteps=steps, delay=delay,
    )  # fmt: skip

    result, seen = watched(graph, x.double())

    def pixel(row, column):
        return int(x[0, 0, row, column]) if 0 <= row < 4 and 0 <= column < 4 else 0

    trains = []
    for channel, (bias, initial) in enumerate([(2, 5), (-1, 6)]):
        for row in range(2):
            for column in range(2):
                current = sum(
                    int(q[channel, 0, i, j]) * pixel(2 * row + i - 1, 2 * column + j - 1)
                    for i in range(3)
                    for j in range(3)
                )
                spikes, _ = play([current] * steps, theta, bias, initial, Reset.SUBTRACTION, delay)
                trains.append(spikes)
    assert seen["if"].train.flatten(1).T.tolist() == trains
    for output, (bias, initial) in enumerate([(1, 3), (-2, 4)]):
        potential = initial
        for t in range(steps):
            spikes_now = [train[t] for train in trains]
            potential += sum(int(w) * s for w, s in zip(read[output], spikes_now, strict=True)) + bias
            assert seen["out"].potentials[t, 0, output] == potential
            assert result.by_step[0][t, 0, output] == pytest.approx(potential / (t + 1))


@pytest.mark.parametrize(("reset_mode", "after"), [(Reset.SUBTRACTION, 4), (Reset.ZERO, 0)])
def test_a_potential_at_the_threshold_fires_once(reset_mode, after):
    """V = θ is a spike (≥, not >), and however large V is there is one spike a step."""
    graph = spiking(
        ("x", Input(unit=1.0), (), (2,)),
        ("if", IntegrateFire(scalar(4), scalar(0), scalar(0)), ("x",), (2,)),
        outputs=("if",), timesteps=1, reset_mode=reset_mode,
    )  # fmt: skip

    _, seen = watched(graph, torch.tensor([[4.0, 8.0]]))

    assert seen["if"].train.tolist() == [[[1, 1]]]
    assert seen["if"].potentials.tolist() == [[[0, after]]]


def test_fraction_bits_refine_the_current():
    """With 3 fraction bits a current of 1 counts 8, so θ = 12 fires at 2 of 3 steps."""
    graph = spiking(
        ("x", Input(unit=1.0), (), (1,)),
        ("if", IntegrateFire(scalar(12), scalar(0), scalar(0), fraction_bits=3), ("x",), (1,)),
        outputs=("if",), timesteps=3,
    )  # fmt: skip

    _, seen = watched(graph, torch.ones(1, 1))

    assert seen["if"].train.flatten().tolist() == [0, 1, 1]
    assert seen["if"].potentials.flatten().tolist() == [8, 4, 0]


# The theorem: at D = T it is the quantized network --------------------------------------------------


class Residual(nn.Module):
    """A residual addition, a concat, both poolings and a linear read-out."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.conv3 = nn.Conv2d(4, 3, 1)
        self.fc = nn.Linear(7 * 4, 5)

    def forward(self, x):
        a = F.relu(self.conv1(x))
        b = F.relu(self.conv2(a) * 3 + a)
        c = F.relu(self.conv3(b))
        joined = torch.cat([F.max_pool2d(b, 2), F.avg_pool2d(c, 2)], 1)
        return self.fc(F.max_pool2d(joined, 2).flatten(1))


class Upsampling(nn.Module):
    """Grouped and transposed convolutions; the output is a population."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)
        self.last = nn.Conv2d(6, 2, 1)

    def forward(self, x):
        return F.relu(self.last(F.relu(self.up(F.relu(self.down(x))))))


NETWORKS = {"residual": (Residual, (1, 8, 8)), "upsampling": (Upsampling, (2, 6, 6))}


@cache
def folded(name):
    """A network of NETWORKS with seeded weights, FOLDED."""
    kind, shape = NETWORKS[name]
    torch.manual_seed(5)
    return fold(trace(kind().eval(), [shape]))


def samples(name, count=4):
    """Seeded samples with negative values, so the input is signed."""
    shape = NETWORKS[name][1]
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(11))


def converted(name, bits=4, timesteps=8, channel_wise=False, pooling="sum", **contract):
    """The network as integers."""
    graph = spiking_pools(folded(name)) if pooling == "spiking" else folded(name)
    graph = calibrate(graph, [samples(name, 16)], timesteps=timesteps)
    contract = Contract(timesteps, **contract)
    graph = quantize(graph, contract, weight_bitwidth=bits, channel_wise=channel_wise)
    return validate(threshold(validate(graph)))


@pytest.mark.parametrize(
    ("bits", "timesteps", "rounding"),
    [
        *[(bits, 4, Rounding.POTENTIAL) for bits in (1, 2, 4, 8)],
        *[
            (1, 16, Rounding.BIAS),
            (2, 16, Rounding.NONE),
            (4, 16, Rounding.POTENTIAL),
            (8, 16, Rounding.BIAS),
        ],
    ],
)
@pytest.mark.parametrize("name", NETWORKS)
def test_at_the_delay_t_it_is_the_quantized_network(name, bits, timesteps, rounding):
    """No count of any neuron differs from the closed form, and all N spikes come in the first N steps."""
    graph = converted(name, bits, timesteps, rounding=rounding)
    counts = {}
    x = samples(name).double()
    expected = run_counts(graph, x, lambda node, value: counts.setdefault(node.name, value))

    result, seen = watched(graph, x, delay=timesteps)

    populations = [node.name for node in graph.of(IntegrateFire)]
    assert len(populations) >= 3
    for name in populations:
        assert torch.equal(seen[name].train.sum(0).double(), counts[name]), name
        assert bool((seen[name].train[1:] <= seen[name].train[:-1]).all()), name
    assert sum(counts[name].sum() for name in populations) > 0
    assert torch.equal(result.outputs[0], expected[0])
    narrow = exact_dtypes(graph, timesteps, summed=[node.name for node in graph.nodes])
    assert torch.float32 in narrow.values()
    assert torch.equal(run_counts(graph, x, dtypes=narrow)[0], expected[0])


@pytest.mark.parametrize("channel_wise", [False, True])
@pytest.mark.parametrize("pooling", ["sum", "spiking"])
def test_the_theorem_holds_with_spiking_pools_and_steps_by_channel(pooling, channel_wise):
    """Neither spiking pools nor a step for each channel bring a difference."""
    name = "upsampling" if channel_wise else "residual"
    graph = converted(name, 4, 8, channel_wise, pooling)
    x = samples(name).double()

    assert torch.equal(simulate(graph, x, delay=8).outputs[0], run_counts(graph, x)[0])


@pytest.mark.parametrize("reset_mode", Reset)
def test_all_input_is_there_at_t_minus_one_already(reset_mode):
    """The first comparison of D = T − 1 follows the last of the input: spike for spike it is D = T."""
    graph, x = converted("residual", reset_mode=reset_mode), samples("residual")

    (_, one), (_, other) = (watched(graph, x, delay=delay) for delay in (7, 8))

    assert all(torch.equal(one[name].train, other[name].train) for name in one)
    _, earlier = watched(graph, x, delay=6)
    assert not all(torch.equal(one[name].train, earlier[name].train) for name in one)


@pytest.mark.parametrize("name", NETWORKS)
def test_many_steps_and_bits_approach_the_network(name):
    """At 8 bits and 256 steps the SNN is close to the float network, at D = T the closest."""
    graph = calibrate(folded(name), [samples(name, 16)], mode="max")
    graph = threshold(quantize(graph, Contract(256), weight_bitwidth=8))
    x = samples(name, 16)
    wanted = run(folded(name), x.double())[0]

    for delay, share in ((0, 0.1), (256, 0.03)):
        error = (simulate(graph, x, delay=delay).outputs[0] - wanted).abs().max()
        assert error < share * wanted.abs().max(), delay


def test_zero_reset_loses_charge():
    """Resetting to zero drops what was above the threshold: no neuron counts more than by subtraction."""
    x = samples("upsampling")
    counts = {}
    for mode in Reset:
        _, seen = watched(converted("upsampling", reset_mode=mode), x)
        counts[mode] = seen["relu"].train.sum(0)  # the first population: the others receive other spikes

    assert bool((counts[Reset.ZERO] <= counts[Reset.SUBTRACTION]).all())
    assert bool((counts[Reset.ZERO] < counts[Reset.SUBTRACTION]).any())


# Pooling and opaque nodes --------------------------------------------------------------------------


def test_max_pooling_passes_the_growth_of_the_largest_sum():
    """Of a window of three that fire ever more often one spike passes whenever the most of them grows."""
    # Without delay one fires at every θ/current steps.
    x = torch.tensor([[[2.0, 3.0, 4.0]]])
    graph = spiking(
        ("x", Input(unit=1.0), (), (1, 3)),
        ("if", IntegrateFire(scalar(6), scalar(0), scalar(0)), ("x",), (1, 3)),
        ("pool", MaxPool((3,), (3,), (0,), (1,)), ("if",), (1, 1)),
        ("out", Integrate(), ("pool",), (1, 1)),
        outputs=("out",), timesteps=6,
    )  # fmt: skip

    _, seen = watched(graph, x)

    assert seen["if"].train[:, 0, 0].T.tolist() == [
        [0, 0, 1, 0, 0, 1],  # 2 a step
        [0, 1, 0, 1, 0, 1],  # 3 a step
        [0, 1, 1, 0, 1, 1],  # 4 a step
    ]
    # so far    0 0 1 1 1 2 | 0 1 1 2 2 3 | 0 1 2 2 3 4: the most is 0 1 2 2 3 4
    assert seen["out"].train.flatten().tolist() == [0, 1, 1, 0, 1, 1]
    assert seen["out"].potentials.flatten().tolist() == [0, 1, 2, 2, 3, 4]


@pytest.mark.parametrize("delay", delays(6))
def test_max_pooling_is_exact_at_every_step(delay):
    """Whatever the delay, what passed so far is the largest count so far of each window."""
    x = torch.tensor([[[2.0, 3.0, 5.0, 1.0]]])
    graph = spiking(
        ("x", Input(unit=1.0), (), (1, 4)),
        ("if", IntegrateFire(scalar(6), scalar(0), scalar(0)), ("x",), (1, 4)),
        ("pool", MaxPool((2,), (2,), (0,), (1,)), ("if",), (1, 2)),
        ("out", Integrate(), ("pool",), (1, 2)),
        outputs=("out",), timesteps=6, delay=delay,
    )  # fmt: skip

    _, seen = watched(graph, x)

    so_far = seen["if"].train.cumsum(0)[:, 0, 0].tolist()
    assert so_far[-1] == [2, 3, 5, 1]
    largest = [[max(counts[:2]), max(counts[2:])] for counts in so_far]
    assert seen["out"].train.cumsum(0)[:, 0, 0].tolist() == largest
    assert set(seen["out"].train.flatten().tolist()) == {0, 1}


@pytest.mark.parametrize("delay", delays(6))
def test_an_opaque_node_gives_f_of_the_mean(delay):
    """After every step the running mean of what an opaque node emits is f of the mean of its input."""
    nodes = (
        Node("x", Input(unit=1.0), (), (3,), unit=ONE),
        Node("if", IntegrateFire(scalar(7), scalar(0), scalar(3)), ("x",), (3,), unit=0.5 * ONE),
        Node("gelu", Opaque("aten.gelu.default", (Ref(0),)), ("if",), (3,), unit=ONE),
    )
    graph = Graph(nodes, ("gelu",), Level.SPIKING, Contract(6, delay=delay))

    result, seen = watched(graph, torch.tensor([[2.0, 5.0, 6.0]]))

    counts = seen["if"].train.double().cumsum(0)
    elapsed = torch.arange(1, 7).reshape(-1, 1, 1)
    assert torch.allclose(result.outputs[0], F.gelu(counts[-1] / 6 * 0.5))
    assert torch.allclose(result.by_step[0], F.gelu(counts / elapsed * 0.5))


# What is given back --------------------------------------------------------------------------------


def test_outputs_are_given_for_every_step():
    """by_step[t] is what the network says if stopped after step t + 1; the last one is the output."""
    graph, x = converted("residual", timesteps=8), samples("residual")

    result, seen = watched(graph, x)

    assert result.by_step[0].shape == (8, 4, 5)
    assert torch.equal(result.by_step[0][-1], result.outputs[0])
    potential = seen[graph.outputs[0]].potentials.double()  # the read-out: V·α/t
    elapsed = torch.arange(1, 9).reshape(-1, 1, 1)
    assert torch.allclose(result.by_step[0], potential / elapsed * graph[graph.outputs[0]].unit)


def test_only_what_is_asked_for_is_given():
    """Without a wish outputs at the end; steps, counts and potentials each for the asking."""
    graph, x = converted("residual"), samples("residual")
    full, seen = watched(graph, x, counts=True)
    shown = {}

    bare = simulate(graph, x, watch=lambda node, activity: shown.setdefault(node.name, activity))

    assert (bare.by_step, bare.counts) == (None, None)
    assert torch.equal(bare.outputs[0], full.outputs[0])
    assert all(activity.potentials is None for activity in shown.values())
    assert list(shown) == [node.name for node in graph.of(IntegrateFire, Integrate)]
    assert all(torch.equal(shown[name].train, seen[name].train) for name in shown)
    assert all(torch.equal(full.counts[name], seen[name].train.sum(0)) for name in shown)
    assert set(full.counts) == set(shown)


@pytest.mark.parametrize(
    ("name", "engine", "limit"),
    [
        ("reference", reference, "TRAIN_ELEMENTS"),
        ("folded", portions_of_engines, "TRAIN_ELEMENTS"),
        ("fused", fused_engine, "TRAIN_BYTES"),
    ],
)
def test_portions_change_nothing(name, engine, limit, monkeypatch):
    """Samples taken one at a time, for memory's sake, give the same bits as all at once."""
    graph, x = converted("residual"), samples("residual")
    at_once = simulate(graph, x, by_step=True, counts=True, engine=name)
    monkeypatch.setattr(engine, limit, 1)
    portions = []

    one_by_one = simulate(
        graph, x, by_step=True, counts=True, engine=name,
        watch=lambda node, activity: portions.append(activity.train.shape[1]),
    )  # fmt: skip

    assert set(portions) == {1}
    assert torch.equal(at_once.by_step[0], one_by_one.by_step[0])
    assert all(torch.equal(at_once.counts[name], one_by_one.counts[name]) for name in at_once.counts)


def test_portions_are_kept_where_nodes_are_revised(monkeypatch):
    """Who revises is shown the counts of all samples, but no op is handed more of them than a portion."""
    graph, x = converted("residual"), samples("residual")
    monkeypatch.setattr(reference, "TRAIN_ELEMENTS", 1)
    stepped, original = [], IntegrateFire.train

    def train(self, trains, place):
        stepped.append(trains[0].shape[1])
        return original(self, trains, place)

    monkeypatch.setattr(IntegrateFire, "train", train)
    shown = {}

    def revise(node, counts):
        shown[node.name] = len(counts)
        return node

    found = ReferenceEngine().run(graph, Request(x, counts=True, revise=revise))

    assert set(stepped) == {1}
    assert set(shown.values()) == {len(x)}
    plain = simulate(graph, x, counts=True)
    assert torch.equal(found.outputs[0], plain.outputs[0])
    assert all(torch.equal(found.counts[name].double(), plain.counts[name].double()) for name in shown)


def test_the_delay_is_the_graphs_own_unless_given():
    """`delay` overrides the contract."""
    x = samples("residual")
    own, other = converted("residual", delay=8), converted("residual")

    assert torch.equal(simulate(own, x).outputs[0], simulate(other, x, delay=8).outputs[0])
    assert torch.equal(simulate(own, x, delay=0).outputs[0], simulate(other, x).outputs[0])
    assert not torch.equal(simulate(own, x).outputs[0], simulate(other, x).outputs[0])


@pytest.mark.parametrize("delay", [-1, 9, 2.0, True, "layerwise"])
def test_a_delay_that_is_none_is_refused(delay):
    """Whole numbers from 0 to T only: a schedule's name is no delay, and nothing runs without a word."""
    with pytest.raises(UsageError, match="the delay is") as refused:
        simulate(converted("residual"), samples("residual"), delay=delay)
    assert refused.value.remedy == "give a whole number from 0 to 8"


def test_an_engine_that_is_none_is_refused():
    """The engines there are, are listed."""
    with pytest.raises(UsageError, match="unknown engine 'quick'") as refused:
        simulate(converted("residual"), samples("residual"), engine="quick")
    assert "auto, counts, fused, triton, folded, reference" in refused.value.remedy


def test_average_pooling_sums_spikes():
    """Average pooling is the integer sum of each window; 1/area is in the unit of what reads it."""
    graph = spiking(
        ("x", Input(unit=1.0), (), (1, 2, 2)),
        ("if", IntegrateFire(scalar(4), scalar(0), scalar(0)), ("x",), (1, 2, 2)),
        ("pool", AvgPool((2, 2), (2, 2), (0, 0)), ("if",), (1, 1, 1)),
        ("out", Integrate(), ("pool",), (1, 1, 1)),
        outputs=("out",), timesteps=4,
    )  # fmt: skip

    _, seen = watched(graph, torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))

    # 1 a step fires at step 4; 2 at 2 and 4; 3 at 2, 3 and 4; 4 at every step
    assert seen["out"].train.flatten().tolist() == [1, 3, 2, 4]
