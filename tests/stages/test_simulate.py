"""The engine is the arithmetic of SPEC 1, 5 and 6: held against plain Python loops and the theorem."""

from functools import cache

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ann2snn_cli.ir.contract import Contract, Reset
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
    Ref,
    Reshape,
)
from ann2snn_cli.ir.run import run, run_counts
from ann2snn_cli.ir.verify import verify
from ann2snn_cli.stages.calibrate import calibrate
from ann2snn_cli.stages.fold import fold, spiking_pools
from ann2snn_cli.stages.quantize.weights import quantize
from ann2snn_cli.stages.simulate import reference, simulate
from ann2snn_cli.stages.threshold import threshold
from ann2snn_cli.stages.trace import trace

ONE = torch.tensor(1.0, dtype=torch.float64)


def whole(*values):
    """A tensor of integers."""
    return torch.tensor(values, dtype=torch.int64)


def scalar(value):
    """An integer without axes."""
    return torch.tensor(value, dtype=torch.int64)


def spiking(*nodes, outputs, timesteps, reset_mode="subtraction", schedule="stepwise"):
    """A SPIKING graph whose integers mean themselves."""
    nodes = [Node(name, op, inputs, shape, unit=ONE) for name, op, inputs, shape in nodes]
    contract = Contract(timesteps, Reset(reset_mode), timesteps if schedule == "layerwise" else 0)
    return Graph(tuple(nodes), outputs, Level.SPIKING, contract)


def watched(graph, x, **options):
    """The simulation, and what every population did, by name."""
    seen = {}
    result = simulate(graph, x, watch=lambda node, activity: seen.setdefault(node.name, activity), **options)
    return result, seen


# The oracle: plain Python integers -----------------------------------------------------------------


def play(currents, threshold, bias, initial, reset_mode, schedule):
    """One neuron, step by step: (spikes, potentials after the reset)."""
    potential, spikes, potentials = initial, [], []
    if schedule == "layerwise":
        potential += sum(currents) + bias * len(currents)
    for current in currents:
        if schedule == "stepwise":
            potential += current + bias
        spike = 1 if potential >= threshold else 0
        if spike:
            potential = potential - threshold if reset_mode == "subtraction" else 0
        spikes.append(spike)
        potentials.append(potential)
    return spikes, potentials


def play_layer(trains, weights, threshold, biases, initials, reset_mode, schedule):
    """A fully connected layer: `trains[i][t]` in, one (spikes, potentials) a neuron out."""
    steps = range(len(trains[0]))
    layer = []
    for row, bias, initial in zip(weights, biases, initials, strict=True):
        currents = [sum(w * train[t] for w, train in zip(row, trains, strict=True)) for t in steps]
        layer.append(play(currents, threshold, bias, initial, reset_mode, schedule))
    return layer


@pytest.mark.parametrize("schedule", ["stepwise", "layerwise"])
@pytest.mark.parametrize("reset_mode", ["subtraction", "zero"])
def test_two_layers_equal_plain_python_step_by_step(reset_mode, schedule):
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
        outputs=("if2",), timesteps=steps, reset_mode=reset_mode, schedule=schedule,
    )  # fmt: skip

    result, seen = watched(graph, x.double())

    for sample in range(batch):
        trains = [[value] * steps for value in x[sample].tolist()]
        for layer in range(2):
            expected = play_layer(
                trains, weights[layer].tolist(), thresholds[layer], biases[layer].tolist(),
                initials[layer].tolist(), reset_mode, schedule,
            )  # fmt: skip
            trains = [spikes for spikes, _ in expected]
            activity = seen[f"if{layer + 1}"]
            assert activity.train[:, sample].T.tolist() == trains
            assert activity.potentials[:, sample].T.tolist() == [potentials for _, potentials in expected]
        means = [sum(spikes) / steps for spikes in trains]
        assert result.outputs[0][sample].tolist() == pytest.approx(means, abs=1e-12)
    fired = torch.cat([seen[name].train.flatten() for name in ("if1", "if2")])
    assert 0.02 < fired.mean() < 0.9, "a silent or saturated example would prove little"


def test_a_convolution_with_a_read_out_equals_plain_python():
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
        outputs=("out",), timesteps=steps,
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
                spikes, _ = play([current] * steps, theta, bias, initial, "subtraction", "stepwise")
                trains.append(spikes)
    assert seen["if"].train.flatten(1).T.tolist() == trains
    for output, (bias, initial) in enumerate([(1, 3), (-2, 4)]):
        potential = initial
        for t in range(steps):
            spikes_now = [train[t] for train in trains]
            potential += sum(int(w) * s for w, s in zip(read[output], spikes_now, strict=True)) + bias
            assert seen["out"].potentials[t, 0, output] == potential
            assert result.by_step[0][t, 0, output] == pytest.approx(potential / (t + 1))


@pytest.mark.parametrize(("reset_mode", "after"), [("subtraction", 4), ("zero", 0)])
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


# The theorem: layerwise is the quantized network ---------------------------------------------------


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
    return verify(threshold(verify(graph)))


@pytest.mark.parametrize(
    ("bits", "timesteps", "rounding"),
    [
        *[(1, 4, "potential"), (2, 4, "potential"), (4, 4, "potential"), (8, 4, "potential")],
        *[(1, 16, "bias"), (2, 16, "none"), (4, 16, "potential"), (8, 16, "bias")],
    ],
)
@pytest.mark.parametrize("name", NETWORKS)
def test_layerwise_is_the_quantized_network(name, bits, timesteps, rounding):
    """No count of any neuron differs between the layerwise spikes and the closed form."""
    graph = converted(name, bits, timesteps, rounding=rounding)
    counts = {}
    x = samples(name).double()
    expected = run_counts(graph, x, lambda node, value: counts.setdefault(node.name, value))

    result, seen = watched(graph, x, schedule="layerwise")

    populations = [node.name for node in graph.of(IntegrateFire)]
    assert len(populations) >= 3
    for name in populations:
        assert torch.equal(seen[name].train.sum(0).double(), counts[name]), name
    assert sum(counts[name].sum() for name in populations) > 0
    assert torch.equal(result.outputs[0], expected[0])


@pytest.mark.parametrize("channel_wise", [False, True])
@pytest.mark.parametrize("pooling", ["sum", "spiking"])
def test_the_theorem_holds_with_spiking_pools_and_steps_by_channel(pooling, channel_wise):
    """Neither spiking pools nor a step for each channel bring a difference."""
    graph = converted("upsampling" if channel_wise else "residual", 4, 8, channel_wise, pooling)
    name = "upsampling" if channel_wise else "residual"
    x = samples(name).double()

    assert torch.equal(simulate(graph, x, schedule="layerwise").outputs[0], run_counts(graph, x)[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_many_steps_and_bits_approach_the_network(name):
    """At 8 bits and 256 steps both schedules are close to the float network, layerwise the closest."""
    graph = calibrate(folded(name), [samples(name, 16)], mode="max")
    graph = threshold(quantize(graph, Contract(256), weight_bitwidth=8))
    x = samples(name, 16)
    wanted = run(folded(name), x.double())[0]

    for schedule, share in (("stepwise", 0.1), ("layerwise", 0.03)):
        error = (simulate(graph, x, schedule=schedule).outputs[0] - wanted).abs().max()
        assert error < share * wanted.abs().max(), schedule


def test_zero_reset_loses_charge():
    """Resetting to zero drops what was above the threshold: no neuron counts more than by subtraction."""
    x = samples("upsampling")
    counts = {}
    for mode in ("subtraction", "zero"):
        _, seen = watched(converted("upsampling", reset_mode=mode), x)
        counts[mode] = seen["relu"].train.sum(0)  # the first population: the others receive other spikes

    assert bool((counts["zero"] <= counts["subtraction"]).all())
    assert bool((counts["zero"] < counts["subtraction"]).any())


# Pooling and opaque nodes --------------------------------------------------------------------------


def test_stepwise_max_pooling_passes_the_leader():
    """Of each window the gate passes the spikes of the input that fired most so far, on ties of the first."""
    # One neuron fires at every θ/current steps; three of them meet in a window of three.
    x = torch.tensor([[[2.0, 3.0, 4.0]]])
    graph = spiking(
        ("x", Input(unit=1.0), (), (1, 3)),
        ("if", IntegrateFire(scalar(6), scalar(0), scalar(0)), ("x",), (1, 3)),
        ("pool", MaxPool((3,), (3,), (0,), (1,)), ("if",), (1, 1)),
        ("out", Integrate(), ("pool",), (1, 1)),
        outputs=("out",), timesteps=6,
    )  # fmt: skip

    _, seen = watched(graph, x)

    spikes = [
        [0, 0, 1, 0, 0, 1],  # 2 a step
        [0, 1, 0, 1, 0, 1],  # 3 a step
        [0, 1, 1, 0, 1, 1],  # 4 a step
    ]
    assert seen["if"].train[:, 0, 0].T.tolist() == spikes
    # so far    0 0 1 1 1 2 | 0 1 1 2 2 3 | 0 1 2 2 3 4: leaders 0, 1, 2, 1, 2, 2
    leaders = [0, 1, 2, 1, 2, 2]
    expected = [spikes[leader][t] for t, leader in enumerate(leaders)]
    assert seen["out"].train.flatten().tolist() == expected == [0, 1, 1, 1, 1, 1]


def test_layerwise_max_pooling_is_exact():
    """Layerwise, pooled spikes sum up to the maximum of the counts."""
    x = torch.tensor([[[2.0, 3.0, 5.0, 1.0]]])
    graph = spiking(
        ("x", Input(unit=1.0), (), (1, 4)),
        ("if", IntegrateFire(scalar(6), scalar(0), scalar(0)), ("x",), (1, 4)),
        ("pool", MaxPool((2,), (2,), (0,), (1,)), ("if",), (1, 2)),
        ("out", Integrate(), ("pool",), (1, 2)),
        outputs=("out",), timesteps=6,
    )  # fmt: skip

    _, seen = watched(graph, x, schedule="layerwise")

    assert seen["if"].train.sum(0).tolist() == [[[2, 3, 5, 1]]]
    assert seen["out"].train.sum(0).tolist() == [[[3, 5]]]


def opaque_graph(schedule):
    """x -> neurons -> gelu -> output."""
    nodes = (
        Node("x", Input(unit=1.0), (), (3,), unit=ONE),
        Node("if", IntegrateFire(scalar(7), scalar(0), scalar(3)), ("x",), (3,), unit=0.5 * ONE),
        Node("gelu", Opaque("aten.gelu.default", (Ref(0),)), ("if",), (3,), unit=ONE),
    )
    return Graph(nodes, ("gelu",), Level.SPIKING, Contract(6, schedule=schedule))


@pytest.mark.parametrize("schedule", ["stepwise", "layerwise"])
def test_an_opaque_node_gives_f_of_the_mean(schedule):
    """After T steps the running mean of what an opaque node emits is f of the mean of its input."""
    result, seen = watched(opaque_graph(schedule), torch.tensor([[2.0, 5.0, 6.0]]))
    counts = seen["if"].train.double().cumsum(0)
    elapsed = torch.arange(1, 7).reshape(-1, 1, 1)

    assert torch.allclose(result.outputs[0], F.gelu(counts[-1] / 6 * 0.5))
    if schedule == "stepwise":  # and so it is if stopped earlier
        assert torch.allclose(result.by_step[0], F.gelu(counts / elapsed * 0.5))


# What is given back --------------------------------------------------------------------------------


def test_outputs_are_given_for_every_step():
    """by_step[t] is what the network says if stopped after step t + 1; the last one is the output."""
    graph = converted("residual", timesteps=8)
    result = simulate(graph, samples("residual"))

    assert result.by_step[0].shape == (8, 4, 5)
    assert torch.equal(result.by_step[0][-1], result.outputs[0])
    _, seen = watched(graph, samples("residual"))
    potential = seen[graph.outputs[0]].potentials.double()  # the read-out: V·α/t
    elapsed = torch.arange(1, 9).reshape(-1, 1, 1)
    assert torch.allclose(result.by_step[0], potential / elapsed * graph[graph.outputs[0]].unit)


def test_portions_change_nothing(monkeypatch):
    """Samples taken one at a time, for memory's sake, give the same bits as all at once."""
    graph, x = converted("residual"), samples("residual")
    at_once = simulate(graph, x)
    monkeypatch.setattr(reference, "TRAIN_ELEMENTS", 1)
    portions = []

    one_by_one = simulate(graph, x, watch=lambda node, activity: portions.append(activity.train.shape[1]))

    assert set(portions) == {1}
    assert torch.equal(at_once.by_step[0], one_by_one.by_step[0])


def test_potentials_may_be_left_out():
    """Who does not want potentials is shown the same spikes without."""
    graph, x = converted("residual"), samples("residual")
    _, full = watched(graph, x)
    _, bare = watched(graph, x, potentials=False)

    assert all(activity.potentials is None for activity in bare.values())
    assert set(bare) == set(full)
    assert all(torch.equal(bare[name].train, full[name].train) for name in full)


def test_the_schedule_is_the_graphs_own_unless_given():
    """`schedule` overrides the contract."""
    x = samples("residual")
    layerwise = converted("residual", schedule="layerwise")

    assert torch.equal(
        simulate(layerwise, x).outputs[0],
        simulate(converted("residual"), x, schedule="layerwise").outputs[0],
    )
    assert not torch.equal(
        simulate(layerwise, x, schedule="stepwise").outputs[0], simulate(layerwise, x).outputs[0]
    )


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
