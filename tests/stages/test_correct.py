"""Bias correction: what rounding and timing take away on average is given back."""

import pytest
import torch

from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import AvgPool, Conv, Input, Integrate, IntegrateFire, Linear, Relu, Reshape
from ann2snn_cli.ir.run import run, run_counts
from ann2snn_cli.stages.calibrate import calibrate
from ann2snn_cli.stages.quantize import correct
from ann2snn_cli.stages.quantize.biases import Biases, Means
from ann2snn_cli.stages.quantize.correct import correct_biases, float_aim, trained_aim
from ann2snn_cli.stages.quantize.weights import quantize
from ann2snn_cli.stages.simulate import run as run_engine
from ann2snn_cli.stages.simulate import simulate
from ann2snn_cli.stages.threshold import threshold

X = torch.rand(48, 2, 6, 6, generator=torch.Generator().manual_seed(3))


def folded():
    """Two convolutions and a linear read-out with random weights."""
    generator = torch.Generator().manual_seed(2)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64) * 0.3

    nodes = (
        Node("x", Input(), (), (2, 6, 6)),
        Node("conv1", Conv(normal(6, 2, 3, 3)), ("x",), (6, 4, 4)),
        Node("relu1", Relu(bias=normal(6, 1, 1)), ("conv1",), (6, 4, 4)),
        Node("conv2", Conv(normal(5, 6, 3, 3)), ("relu1",), (5, 2, 2)),
        Node("relu2", Relu(bias=normal(5, 1, 1)), ("conv2",), (5, 2, 2)),
        Node("flat", Reshape(), ("relu2",), (20,)),
        Node("fc", Linear(normal(4, 20)), ("flat",), (4,)),
        Node("out", Integrate(normal(4)), ("fc",), (4,)),
    )
    return Graph(nodes, ("out",), Level.FOLDED)


def quantized(bits=3, timesteps=6, **contract):
    """The same at few bits and steps, where errors are large."""
    return quantize(calibrate(folded(), [X]), Contract(timesteps, **contract), weight_bitwidth=bits)


def corrected(graph, delay=None, *, trained=False):
    """With biases corrected on the samples."""
    aim = (trained_aim if trained else float_aim)(graph, X)
    return correct_biases(graph, X, run_engine, delay=delay, aim=aim)


def errors(graph, delay):
    """By population and for the output: the largest mean error of a channel, in real numbers."""
    spiking = threshold(graph)
    wanted, found = {}, {}
    run(folded(), X.double(), lambda node, value: wanted.update({node.name: value}))

    def note(node, activity):
        found[node.name] = activity.train.double().mean(0) * node.known_unit

    simulate(spiking, X, delay=delay, watch=note)
    differences = {name: (wanted[name] - found[name]).transpose(0, 1).flatten(1) for name in found}
    return {name: float(by_channel.mean(1).abs().max()) for name, by_channel in differences.items()}


def smallest_step(graph):
    """The real value of one unit of the read-out's bias: no correction can be finer than half of it."""
    return float(threshold(graph)["out"].known_unit) / graph.timing.timesteps


@pytest.mark.parametrize("delay", [0, 1, 3, 6])
def test_the_mean_error_shrinks(delay):
    """By channel, at every population and at the output, where less than one unit of the bias is left."""
    graph = quantized()
    before = errors(graph, delay)

    after = errors(corrected(graph, delay), delay)

    assert all(after[name] < before[name] for name in before), (before, after)
    assert after["out"] < smallest_step(graph) < before["out"]


@pytest.mark.parametrize("delay", [0, 1, 3, 6])
def test_the_output_is_corrected_to_half_a_unit(delay):
    """The read-out is linear in its bias, so after correction only the rounding of the bias is left."""
    graph = quantized()

    better = corrected(graph, delay)

    assert errors(better, delay)["out"] <= smallest_step(better) / 2 * (1 + 1e-9)


def test_only_biases_change():
    """Weights, steps and clips are what they were, and so is the graph that was handed in."""
    graph = quantized()
    bias = graph["relu1"].op.bias.clone()

    better = corrected(graph)

    assert better.level is Level.QUANTIZED
    for name in ("conv1", "conv2", "fc"):
        assert better[name].op is graph[name].op
    assert torch.equal(better["relu1"].op.clip, graph["relu1"].op.clip)
    assert torch.equal(graph["relu1"].op.bias, bias)
    assert better["relu1"].op.bias.shape == (6, 1, 1)
    assert better["out"].op.bias.shape == (4,)
    assert not torch.equal(better["relu1"].op.bias, bias)


def test_the_delay_is_the_graphs_own_unless_given():
    """Biases are corrected for the timing that will be used."""
    own = corrected(quantized(delay=3))
    given = corrected(quantized(), 3)
    other = corrected(quantized())

    assert torch.equal(own["relu2"].op.bias, given["relu2"].op.bias)
    assert not torch.equal(own["relu2"].op.bias, other["relu2"].op.bias)


@pytest.mark.parametrize("delay", [0, 3])
def test_after_training_only_the_timing_is_corrected(delay):
    """`trained`: the distance to the quantized network itself, which the delay T does not have."""
    graph = quantized()

    lossless = corrected(graph, 6, trained=True)
    better = corrected(graph, delay, trained=True)

    counts = {}
    for name, each in (("graph", graph), ("lossless", lossless)):
        run_counts(
            threshold(each),
            X.double(),
            lambda node, value, name=name: counts.update({(name, node.name): value}),
        )
    for population in ("relu1", "relu2"):
        assert torch.equal(counts["graph", population], counts["lossless", population])
    wanted = counts["graph", "relu2"]
    before, after = (timing_error(each, wanted, delay) for each in (graph, better))
    assert after < before


def timing_error(graph, wanted, delay):
    """The largest mean error of a channel of "relu2", in spikes."""
    seen = simulate(threshold(graph), X, delay=delay, counts=True).counts["relu2"]
    return (seen - wanted).transpose(0, 1).flatten(1).mean(1).abs().max()


def test_the_float_network_is_run_once_for_all_delays(monkeypatch):
    """What biases aim at does not depend on when neurons fire."""
    runs = []
    monkeypatch.setattr(correct, "run", lambda *args: runs.append(1) or run(*args))
    means = Means(
        threshold, run_engine, lambda graph, x: simulate(graph, x).outputs, lambda *_: None, lambda: None
    )
    biases = Biases(quantized(), X, means)

    biases.for_rounding()
    found = {delay: biases.for_delay(delay) for delay in (0, 3, 6)}

    assert len(runs) == 1
    assert torch.equal(found[3]["relu2"].op.bias, corrected(quantized(delay=3))["relu2"].op.bias)


def test_populations_that_inherit_their_clip_have_no_bias():
    """Neurons of a spiking pool hand on what they get: there is nothing to correct."""
    nodes = (
        Node("x", Input(), (), (1, 4, 4)),
        Node("n", Relu(), ("x",), (1, 4, 4)),
        Node("pool", AvgPool((2, 2), (2, 2), (0, 0)), ("n",), (1, 2, 2)),
        Node("again", Relu(inherits_clip=True), ("pool",), (1, 2, 2)),
    )
    x = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    graph = quantize(calibrate(Graph(nodes, ("again",), Level.FOLDED), [x]), Contract(5))

    better = correct_biases(graph, x, run_engine, aim=float_aim(graph, x))

    assert better["again"].op.bias is None
    assert isinstance(threshold(better)["again"].op, IntegrateFire)


def test_unquantized_populations_do_not_get_worse():
    """At 32 bits nothing is rounded but the counts: correction shrinks the little there is."""
    graph = quantized(bits=32)

    before, after = errors(graph, 6), errors(corrected(graph, 6), 6)

    assert all(after[name] <= before[name] for name in before), (before, after)
