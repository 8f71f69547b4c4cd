"""`--mode match`: each layer is fitted to what it gives in floats, on the inputs that it will have."""

import pytest
import torch
from torch import nn

import ann2snn_cli
from ann2snn_cli.ir.contract import Contract, Reset
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import AvgPool, Conv, Input, Integrate, IntegrateFire, Linear, Relu, Reshape
from ann2snn_cli.ir.run import run, run_counts
from ann2snn_cli.stages.calibrate import calibrate
from ann2snn_cli.stages.quantize.correct import correct_biases, float_aim
from ann2snn_cli.stages.quantize.match import match
from ann2snn_cli.stages.quantize.weights import quantize
from ann2snn_cli.stages.simulate import run as run_engine
from ann2snn_cli.stages.simulate import simulate
from ann2snn_cli.stages.threshold import threshold

pytestmark = pytest.mark.filterwarnings("ignore::ann2snn_cli.DamageWarning")  # of random networks


def random(*shape, seed=0):
    """Normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X = random(256, 2, 8, 8, seed=1).abs()


def folded():
    """Two convolutions, a pooling and a linear read-out with random weights."""
    nodes = (
        Node("x", Input(), (), (2, 8, 8)),
        Node("conv1", Conv(random(8, 2, 3, 3, seed=2) * 0.3), ("x",), (8, 6, 6)),
        Node("relu1", Relu(bias=random(8, 1, 1, seed=3) * 0.3), ("conv1",), (8, 6, 6)),
        Node("pool", AvgPool((2, 2), (2, 2), (0, 0)), ("relu1",), (8, 3, 3)),
        Node("conv2", Conv(random(6, 8, 2, 2, seed=4) * 0.3), ("pool",), (6, 2, 2)),
        Node("relu2", Relu(bias=random(6, 1, 1, seed=5) * 0.3), ("conv2",), (6, 2, 2)),
        Node("flat", Reshape(), ("relu2",), (24,)),
        Node("fc", Linear(random(4, 24, seed=6) * 0.3), ("flat",), (4,)),
        Node("out", Integrate(random(4, seed=7)), ("fc",), (4,)),
    )
    return Graph(nodes, ("out",), Level.FOLDED)


def quantized(bits=3, timesteps=4, *, channel_wise=False, **contract):
    """The same at few bits and steps, where errors are large; its weights are still those in floats."""
    graph = calibrate(folded(), [X], mode="match", timesteps=timesteps)
    return quantize(graph, Contract(timesteps, **contract), weight_bitwidth=bits, channel_wise=channel_wise)


def error(graph, x):
    """The mean square error of the outputs, of the SNN as it fires."""
    wanted = run(folded(), x.double())[0]
    return float((simulate(threshold(graph), x).outputs[0] - wanted).square().mean())


CASES = [{"delay": 0}, {"delay": 2}, {"delay": 4}, {"delay": 0, "reset_mode": Reset.ZERO}]


@pytest.mark.parametrize("channel_wise", [False, True])
@pytest.mark.parametrize("bits", [3, 32])
@pytest.mark.parametrize("contract", CASES[:3], ids=str)
def test_outputs_are_nearer_than_by_corrected_biases_alone(contract, bits, channel_wise):
    """On samples that it has not seen, at every delay, with few and many bits and with floats."""
    graph = quantized(bits, channel_wise=channel_wise, **contract)
    before = correct_biases(graph, X, run_engine, aim=float_aim(folded(), X))
    unseen = random(200, 2, 8, 8, seed=9).abs()
    assert error(match(graph, X, channel_wise=channel_wise), unseen) < error(before, unseen)


def test_what_is_fitted_is_what_the_engines_run():
    """The mean of every channel of the read-out is that of the float network, but for the bias's rounding."""
    for contract in CASES:
        graph = match(quantized(**contract), X)
        spiking = threshold(graph)
        mean = simulate(spiking, X).outputs[0].mean(0) - run(folded(), X.double())[0].mean(0)
        assert mean.abs().max() <= float(spiking["out"].known_unit) / 4, contract


def channels(values):
    """Populations whose channels have these values and 0, by an identity."""
    count = len(values)
    nodes = (
        Node("x", Input(), (), (count,)),
        Node("fc", Linear(torch.eye(count)), ("x",), (count,)),
        Node("relu", Relu(), ("fc",), (count,)),
    )
    x = (torch.rand(64, count, generator=torch.Generator().manual_seed(0)) < 0.5) * torch.tensor(values)
    return Graph(nodes, ("relu",), Level.FOLDED), x.float()


def matched_clips(values, *, channel_wise):
    """The clips of these channels."""
    graph, x = channels(values)
    graph = quantize(calibrate(graph, [x], mode="match", timesteps=3), Contract(3), channel_wise=channel_wise)
    return match(graph, x, channel_wise=channel_wise)["relu"].op.clip


def test_each_channel_has_the_clip_that_is_right_for_it():
    """By hand: values of 0 and v alone are exact where T spikes stand for v; a silent one has any."""
    clips = matched_clips([1.0, 0.25, 0.0, 7.0], channel_wise=True)
    assert clips[[0, 1, 3]].tolist() == [1.0, 0.25, 7.0]
    assert clips[2] > 0


def test_without_channel_wise_a_layer_has_one_clip():
    """That of the mode mse."""
    graph, x = channels([1.0, 0.25, 7.0])
    assert torch.equal(
        matched_clips([1.0, 0.25, 7.0], channel_wise=False),
        calibrate(graph, [x], mode="mse", timesteps=3)["relu"].op.clip,
    )


def test_a_limit_and_an_inherited_clip_stay():
    """A ReLU6 stands for 6 at most; neurons that hand on what they pool have neither clip nor bias."""
    nodes = (
        Node("x", Input(), (), (1, 4, 4)),
        Node("conv", Conv(torch.full((2, 1, 1, 1), 20.0)), ("x",), (2, 4, 4)),
        Node("relu6", Relu(limit=6.0), ("conv",), (2, 4, 4)),
        Node("pool", AvgPool((2, 2), (2, 2), (0, 0)), ("relu6",), (2, 2, 2)),
        Node("again", Relu(inherits_clip=True), ("pool",), (2, 2, 2)),
    )
    x = torch.rand(16, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    graph = quantize(calibrate(Graph(nodes, ("again",), Level.FOLDED), [x]), Contract(4), channel_wise=True)
    better = match(graph, x, channel_wise=True)
    assert float(better["relu6"].op.clip.max()) <= 6
    assert better["again"].op.clip is None
    assert better["again"].op.bias is None
    assert isinstance(threshold(better)["again"].op, IntegrateFire)


def test_biases_stay_if_they_are_to_stay():
    """Then the weights bring the means, too."""
    graph = quantized()
    better = match(graph, X, biases=False)
    for name in ("relu1", "relu2", "out"):
        assert better[name].op.bias is graph[name].op.bias
    assert error(better, X) < error(graph, X)


def test_the_graph_that_was_given_stays():
    """A stage writes into nothing."""
    graph = quantized()
    before = [tensor.clone() for tensor in (graph["conv2"].op.weight, graph["relu1"].op.bias)]
    match(graph, X, channel_wise=True)
    assert torch.equal(graph["conv2"].op.weight, before[0])
    assert torch.equal(graph["relu1"].op.bias, before[1])


def network():
    """A small network, and samples."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 3))


@pytest.mark.parametrize("delay", [0, 2, 4])
def test_convert_matches_by_name(delay):
    """`mode="match"`: nearer to the network than the default on other samples; biases aim at it."""
    net, x, unseen = network(), random(256, 6, seed=1).abs(), random(256, 6, seed=2).abs()
    settings = {"timesteps": 4, "weight_bitwidth": 3, "delay": delay}
    default, matched = (ann2snn_cli.convert(net, x, mode=mode, **settings) for mode in ("99.9%", "match"))
    wanted = net(unseen).detach()

    def distance(snn):
        return (snn(unseen) - wanted).square().mean()

    assert distance(matched) < distance(default)
    assert (matched(x) - net(x).detach()).mean(0).abs().max() < 0.01


def test_at_the_delay_t_it_is_the_quantized_network():
    """The theorem holds, as of any other mode."""
    snn = ann2snn_cli.convert(
        network(), random(99, 6, seed=1), mode="match", timesteps=4, schedule="layerwise"
    )
    x = random(50, 6, seed=3).double()
    assert torch.equal(snn(x), run_counts(snn.graph, x)[0])


def test_finetuning_begins_with_what_was_matched():
    """One epoch of a learning rate that changes nothing."""
    net, x = network(), random(64, 6, seed=1).abs()
    settings = {"timesteps": 4, "weight_bitwidth": 3, "schedule": "layerwise", "mode": "match"}
    before = ann2snn_cli.convert(net, x, **settings)
    labels = torch.zeros(64, dtype=torch.int64)
    after = ann2snn_cli.convert(net, (x, labels), finetune_epochs=1, finetune_lr=1e-12, **settings)
    assert torch.allclose(before(x), after(x))


def test_samples_may_be_frames_or_spikes_by_chance():
    """What is shown at each step is what the first layer is fitted to."""
    graph = folded()
    for encoding, x in (("poisson", X), ("frames", X[:, None].expand(-1, 4, -1, -1, -1))):
        shown = graph.with_ops({"x": Input(encoding=encoding)})
        for delay in (0, 4):
            ready = quantize(calibrate(shown, [x], mode="match", timesteps=4), Contract(4, delay=delay))
            outputs = simulate(threshold(match(ready, x)), x).outputs[0]
            assert (outputs.mean(0) - run(folded(), X.double())[0].mean(0)).abs().max() < 0.2
