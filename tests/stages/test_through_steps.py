"""Finetuning on spikes: what is trained is what the steps give, and it learns what a reset throws away."""

import pytest
import torch

from ann2snn_cli import pipeline
from ann2snn_cli.config import resolve
from ann2snn_cli.ir.contract import Contract, Reset
from ann2snn_cli.ir.engine import Request
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import AvgPool, Conv, Input, Integrate, Linear, MaxPool, Relu, Reshape
from ann2snn_cli.ir.run import run_counts
from ann2snn_cli.stages.calibrate import calibrate
from ann2snn_cli.stages.quantize.finetune import closed_form
from ann2snn_cli.stages.quantize.through_steps import ThroughSteps
from ann2snn_cli.stages.quantize.weights import quantize
from ann2snn_cli.stages.simulate import ENGINES, run
from ann2snn_cli.stages.threshold import threshold

X = torch.rand(16, 2, 8, 8, generator=torch.Generator().manual_seed(3))
FORWARD = ThroughSteps(threshold, run)


def quantized(reset_mode=Reset.SUBTRACTION, delay=0, steps=5):
    """Two convolutions, both kinds of pooling and a read-out, with random weights of 3 bits."""
    generator = torch.Generator().manual_seed(2)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64) * 0.3

    nodes = (
        Node("x", Input(), (), (2, 8, 8)),
        Node("conv1", Conv(normal(6, 2, 3, 3), padding=(1, 1)), ("x",), (6, 8, 8)),
        Node("relu1", Relu(bias=normal(6, 1, 1)), ("conv1",), (6, 8, 8)),
        Node("max", MaxPool((2, 2), (2, 2), (0, 0), (1, 1)), ("relu1",), (6, 4, 4)),
        Node("conv2", Conv(normal(5, 6, 3, 3)), ("max",), (5, 2, 2)),
        Node("relu2", Relu(bias=normal(5, 1, 1)), ("conv2",), (5, 2, 2)),
        Node("mean", AvgPool((2, 2), (2, 2), (0, 0)), ("relu2",), (5, 1, 1)),
        Node("flat", Reshape(), ("mean",), (5,)),
        Node("fc", Linear(normal(4, 5)), ("flat",), (4,)),
        Node("out", Integrate(normal(4)), ("fc",), (4,)),
    )
    contract = Contract(steps, reset_mode, delay)
    return quantize(calibrate(Graph(nodes, ("out",), Level.FOLDED), [X]), contract, weight_bitwidth=3)


@pytest.mark.parametrize("reset_mode", list(Reset))
@pytest.mark.parametrize("delay", [0, 2, 5])
def test_its_outputs_are_those_of_the_reference_engine(reset_mode, delay):
    """To the last integer: what is trained is the SNN that is written."""
    graph = quantized(reset_mode, delay)
    (found,) = FORWARD(graph, X.double())
    (wanted,) = ENGINES["reference"].run(threshold(graph), Request(X)).outputs
    assert torch.equal(found, wanted)


def test_at_the_delay_of_t_it_is_the_closed_form():
    """Values and gradients, where both are defined."""
    gradients = []
    for forward in (FORWARD, closed_form):
        graph = quantized(delay=5).map_tensors(lambda tensor: tensor.clone().requires_grad_())
        (found,) = forward(graph, X.double())
        found.square().sum().backward()
        gradients.append([graph[name].op.weight.grad for name in ("conv1", "conv2", "fc")])
    assert all(torch.equal(mine, other) for mine, other in zip(*gradients, strict=True))


def test_gradients_are_of_the_values_that_the_steps_gave():
    """Of the read-out's weights: the counts that reached it, which are not those of the closed form."""
    graph = quantized(Reset.ZERO).map_tensors(lambda tensor: tensor.clone().requires_grad_())
    spiking = threshold(quantized(Reset.ZERO))
    fired = run(spiking, Request(X, counts=True)).counts["relu2"].sum((2, 3))
    (found,) = FORWARD(graph, X.double())
    found[:, 0].sum().backward()
    (closed,) = run_counts(spiking, X.double())
    assert not torch.equal(found.detach(), closed)
    gradient = graph["fc"].op.weight.grad[0]
    is_free = gradient != 0  # weights that are not at an end of their grid
    assert is_free.any()
    ratio = gradient[is_free] / fired.sum(0)[is_free]
    assert torch.allclose(ratio, ratio[:1].expand_as(ratio), rtol=1e-6)


SMALL = {
    "quantize.weight_bitwidth": 4, "timing.timesteps": 8, "finetune.epochs": 10, "finetune.lr": 0.05,
    "data.batch_size": 16,
}  # fmt: skip


def converted(network, data, flags) -> pipeline.Conversion:
    """By the pipeline."""
    settings = resolve(None, [], {**SMALL, **flags})
    return pipeline.convert(network, data, settings)


@pytest.mark.parametrize(("flags", "on_spikes"), [({}, False), ({"finetune.on": "spikes"}, True)])
def test_it_is_asked_for_or_follows_the_reset(small_network, small_data, flags, on_spikes, monkeypatch):
    """Counts unless spikes are asked for; biases are then right for the delay as they are."""
    asked = []
    monkeypatch.setattr(pipeline, "ThroughSteps", lambda *parts: asked.append(parts) or ThroughSteps(*parts))
    conversion = converted(small_network, small_data, flags)
    assert bool(asked) == on_spikes
    assert (conversion.correction is None) == on_spikes
    assert not any("spikes of the delay" in note for note in conversion.notes)
    converted(small_network, small_data, {**flags, "timing.delay": 8})
    assert len(asked) == on_spikes  # no more: at D = T the closed form is what the spikes are


def test_a_reset_to_zero_is_trained_on_spikes_unless_counts_are_asked_for(small_network, small_data):
    """A note says so, and what the steps give comes nearer to the labels."""
    losses = []
    for on, epochs in (("counts", 1), ("auto", 1), ("auto", 30)):
        flags = {"finetune.on": on, "finetune.epochs": epochs, "finetune.lr": 0.2}
        conversion = converted(small_network, small_data, {"neurons.reset_mode": "zero", **flags})
        (outputs,) = run(conversion.graph, Request(small_data.x)).outputs
        losses.append(float(torch.nn.functional.cross_entropy(outputs, small_data.y)))
        assert any("spikes of the delay" in note for note in conversion.notes) == (on == "auto")
    assert losses[2] < losses[1] - 0.02
