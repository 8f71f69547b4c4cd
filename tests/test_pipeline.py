"""The pipeline: shapes first, one conversion, the twins side by side, latency; tiny networks in memory."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ann2snn_cli import pipeline
from ann2snn_cli.config import Settings, load_hardware
from ann2snn_cli.errors import HardwareViolations, VerificationMismatch
from ann2snn_cli.ir.graph import Contract, Graph, Level, Node
from ann2snn_cli.ir.ops import Conv, Input, IntegrateFire, MaxPool, Relu
from ann2snn_cli.ir.run import run_counts
from ann2snn_cli.stages.simulate import simulate

V1 = load_hardware(Path(__file__).parents[1] / "configs/hardware/v1.yaml")


@dataclass(frozen=True)
class Memory:
    """A dataset of tensors: what the pipeline asks of one, and no more."""

    x: Tensor
    y: Tensor

    @property
    def input_shape(self):
        return tuple(self.x.shape[1:])

    def train_batches(self, batch_size, seed, epoch, num_workers=0):
        order = torch.randperm(len(self.x), generator=torch.Generator().manual_seed(seed + epoch))
        for part in order.split(batch_size):
            yield self.x[part], self.y[part]

    def test_batches(self, batch_size, num_workers=0):
        return zip(self.x.split(batch_size), self.y.split(batch_size), strict=True)

    def calibration_batches(self, samples, batch_size, seed, num_workers=0):
        return self.test_batches(batch_size)


@pytest.fixture
def data():
    """48 images of 2x6x6 in 3 classes."""
    random = torch.Generator().manual_seed(0)
    y = torch.arange(48) % 3
    return Memory(torch.rand(48, 2, 6, 6, generator=random) * (0.4 + 0.3 * y.reshape(-1, 1, 1, 1)), y)


@pytest.fixture
def network():
    """conv, batch norm, ReLU, average pooling, conv, ReLU, linear: random weights."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3),
    ).eval()  # fmt: skip


def settings(**sections) -> Settings:
    """Training-free with 5 steps, but for what is named: `finetune={"epochs": 1}`."""
    made = Settings()
    for section, values in ({"finetune": {"epochs": 0}, "threshold": {"timesteps": 5}} | sections).items():
        made = replace(made, **{section: replace(getattr(made, section), **values)})
    return made


# Shapes only ---------------------------------------------------------------------------------------


def test_prepare_folds_and_keeps_the_users_names(network):
    """FOLDED: batch norm is gone, nodes are called as the modules are."""
    graph = pipeline.prepare(network, (2, 6, 6), settings())
    assert graph.level is Level.FOLDED
    assert [node.op.kind for node in graph.nodes] == [
        "Input", "Conv", "Relu", "AvgPool", "Conv", "Relu", "Reshape", "Linear", "Integrate",
    ]  # fmt: skip
    assert [node.source for node in graph.of(Conv)] == ["0", "4"]


def test_prepare_takes_the_pooling_of_the_hardware(network):
    """Spiking: a population of its own behind the pooling."""
    graph = pipeline.prepare(network, (2, 6, 6), settings(), "spiking")
    pool = next(node for node in graph.nodes if node.op.kind == "AvgPool")
    (neurons,) = graph.users[pool.name]
    assert isinstance(neurons.op, Relu)
    assert neurons.op.relays


def test_prepare_takes_several_inputs():
    """A shape for each."""

    class Two(nn.Module):
        def forward(self, a, b):
            return torch.relu(a + b)

    graph = pipeline.prepare(Two(), [(3,), (3,)], settings())
    assert [node.shape for node in graph.inputs] == [(3,), (3,)]


def test_pooling_is_what_was_asked_for_else_what_the_hardware_does():
    """auto: spiking on v1, sums without hardware."""
    asked = settings(threshold={"pooling": "sum"})
    assert pipeline.pooling_of(settings(), V1) == "spiking"
    assert pipeline.pooling_of(settings(), None) == "sum"
    assert pipeline.pooling_of(asked, V1) == "sum"


# Conversion ----------------------------------------------------------------------------------------


def test_convert_gives_integers_with_the_contract_that_was_asked_for(network, data):
    """SPIKING, on the CPU, with a note of what was decided."""
    wanted = settings(threshold={"timesteps": 5, "schedule": "layerwise", "rounding": "bias"})
    stages: list[str] = []
    conversion = pipeline.convert(network, data, wanted, listener=pipeline.Listener(stage=stages.append))
    assert conversion.graph.level is Level.SPIKING
    assert conversion.graph.timing == Contract(5, "subtraction", "layerwise", "bias")
    assert all(not node.op.threshold.is_floating_point() for node in conversion.graph.of(IntegrateFire))
    assert conversion.verdicts == ()
    assert stages == ["trace and fold", "calibrate", "quantize", "correct biases", "threshold"]
    (note,) = conversion.notes
    assert note.startswith("bias correction ")
    assert "calibration samples" in note


def test_convert_does_not_touch_the_network(network, data):
    """Weights, mode and gradients are as they were."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    pipeline.convert(network, data, settings(finetune={"epochs": 1}))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())


def test_convert_with_finetuning_reports_every_epoch_and_saves_its_state(network, data):
    """Loss and accuracy; a tick a batch; a state that the next run goes on from, to the same integers."""
    wanted = settings(finetune={"epochs": 2, "lr": 0.01}, data={"batch_size": 16})
    reports, states, ticks = [], [], []
    listener = pipeline.Listener(epoch=reports.append, tick=lambda: ticks.append(1), save=states.append)
    whole = pipeline.convert(network, data, wanted, listener=listener).graph
    assert [(report.epoch, report.epochs) for report in reports] == [(1, 2), (2, 2)]
    assert all(report.loss > 0 and 0 <= report.results["accuracy"] <= 1 for report in reports)
    assert (len(states), len(ticks)) == (2, 6)
    resumed = pipeline.convert(network, data, wanted, listener=pipeline.Listener(resume=states[0])).graph
    for node in whole.of(Conv):
        assert torch.equal(node.op.weight, resumed[node.name].op.weight)
    for node in whole.of(IntegrateFire):
        assert torch.equal(node.op.threshold, resumed[node.name].op.threshold)
        assert torch.equal(node.op.bias, resumed[node.name].op.bias)


def test_limits_are_checked_before_anything_is_calibrated(network, data):
    """A broken limit costs no time."""
    stages: list[str] = []
    with pytest.raises(HardwareViolations) as raised:
        pipeline.convert(
            network, data, settings(quantize={"weight_bitwidth": 6}), hardware=V1,
            listener=pipeline.Listener(stage=stages.append),
        )  # fmt: skip
    assert {(v.rule, v.layer) for v in raised.value.violations} == {
        ("weight_bitwidth", "0"),
        ("weight_bitwidth", "4"),
    }
    assert raised.value.what == "the network breaks 2 limits of hardware v1"
    assert raised.value.remedy.endswith("--allow weight_bitwidth")
    assert stages == ["trace and fold"]


def test_registers_are_checked_last_and_all_verdicts_are_handed_back(network, data):
    """Shapes and registers, each with its layer; a register that is too narrow stops the conversion."""
    verdicts = pipeline.convert(network, data, settings(), hardware=V1).verdicts
    assert {"weight_bitwidth", "in_channels", "threshold_bits", "bias_bits", "weight_code_bits"} <= {
        v.rule for v in verdicts
    }
    assert all(verdict.ok for verdict in verdicts)
    narrow = replace(V1, threshold_bits=2)
    with pytest.raises(HardwareViolations) as raised:
        pipeline.convert(network, data, settings(), hardware=narrow)
    assert {v.rule for v in raised.value.violations} == {"threshold_bits"}
    allowed = settings(check={"allow": ("threshold_bits",)})
    verdicts = pipeline.convert(network, data, allowed, hardware=narrow).verdicts
    assert any(v.rule == "threshold_bits" and not v.ok for v in verdicts)


# Evaluation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["stepwise", "layerwise"])
def test_evaluate_counts_as_a_plain_loop_does(schedule, network, data):
    """Accuracies, accuracy by step, spikes, rates and the largest error, sample by sample."""
    graph = pipeline.convert(network, data, settings(threshold={"timesteps": 5, "schedule": schedule})).graph
    result = pipeline.evaluate(graph, data.test_batches(7), network=network)
    right = dict.fromkeys(("ann", "quantized", "stepwise", "layerwise"), 0)
    by_step, spikes, errors = [0] * 5, {}, []

    def count(node, activity):
        if isinstance(node.op, IntegrateFire):
            spikes[node.name] = spikes.get(node.name, 0) + int(activity.train.sum())

    with torch.no_grad():
        for x, label in zip(data.x[:, None], data.y.tolist(), strict=True):
            outputs = {
                name: simulate(graph, x, schedule=name).outputs[0] for name in ("stepwise", "layerwise")
            }
            outputs |= {"ann": network(x), "quantized": run_counts(graph, x.double())[0]}
            for name, output in outputs.items():
                right[name] += int(output.argmax()) == label
            for step, output in enumerate(simulate(graph, x, watch=count).by_step[0]):
                by_step[step] += int(output.argmax()) == label
        for x in data.x.split(7):
            ann, snn = network(x), simulate(graph, x).outputs[0]
            errors.append(float((snn - ann).abs().max() / ann.abs().max()))

    assert result.samples == 48
    for name, correct in right.items():
        assert getattr(result, name).accuracy == correct / 48, name
    assert [score.accuracy for score in result.by_step] == [correct / 48 for correct in by_step]
    assert result.spikes == spikes
    neurons = {node.name: torch.Size(node.shape).numel() for node in graph.of(IntegrateFire)}
    assert result.firing_rate(graph) == {n: spikes[n] / (48 * 5 * neurons[n]) for n in spikes}
    assert result.largest_error == pytest.approx(max(errors))
    assert result.differing_outputs == 0


def test_evaluate_without_the_network_has_no_ann(network, data):
    """A saved SNN is all that is there."""
    graph = pipeline.convert(network, data, settings()).graph
    assert pipeline.evaluate(graph, data.test_batches(48)).ann.accuracy is None


def test_outputs_that_are_no_class_scores_have_no_accuracy(data):
    """A map, or one value: None, not a number that means nothing."""
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU())
    graph = pipeline.convert(network, data, settings()).graph
    result = pipeline.evaluate(graph, data.test_batches(16), network=network)
    assert (result.ann.accuracy, result.stepwise.accuracy, result.samples) == (None, None, 48)
    assert result.largest_error > 0


# The theorem ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("timesteps", [1, 3, 4, 7, 16])
def test_layerwise_is_the_quantized_network_for_any_number_of_steps(timesteps, network, data):
    """Outputs are compared as real numbers, so both must round their division by T alike."""
    graph = pipeline.convert(network, data, settings(threshold={"timesteps": timesteps})).graph
    result = pipeline.evaluate(graph, data.test_batches(16))
    assert result.differing_outputs == 0
    pipeline.refuse_mismatch(graph, result)


def test_a_graph_that_was_tampered_with_is_a_mismatch(network, data, monkeypatch):
    """The engine runs another threshold than the quantized network: every sample is compared."""
    graph = pipeline.convert(network, data, settings()).graph
    first = graph.of(IntegrateFire)[0]
    other = graph.with_ops({first.name: replace(first.op, threshold=first.op.threshold // 2)})
    monkeypatch.setattr(pipeline, "simulate", lambda _, x, **more: simulate(other, x, **more))
    result = pipeline.evaluate(graph, data.test_batches(16))
    assert 0 < result.differing_outputs <= 48
    with pytest.raises(VerificationMismatch, match=f"differs .* on {result.differing_outputs} of 48 samples"):
        pipeline.refuse_mismatch(graph, result)


def test_the_theorem_is_claimed_only_where_it_holds(network, data):
    """Not with reset to zero, not in floats, not behind opaque nodes; then a difference is no mismatch."""
    held = pipeline.convert(network, data, settings()).graph
    assert pipeline.theorem_holds(held)
    zero = replace(held, contract=replace(held.timing, reset_mode="zero"))
    floats = pipeline.convert(network, data, settings(quantize={"weight_bitwidth": 32})).graph
    gelu = nn.Sequential(nn.Conv2d(2, 3, 3), nn.GELU(), nn.Conv2d(3, 3, 3), nn.ReLU())
    opaque = pipeline.convert(gelu, data, settings()).graph
    for graph in (zero, floats, opaque):
        assert not pipeline.theorem_holds(graph)
        pipeline.refuse_mismatch(graph, pipeline.Evaluation(differing_outputs=3))


# Latency -------------------------------------------------------------------------------------------


def fires(name: str, *inputs: str) -> Node:
    """A population."""
    one = torch.tensor(1)
    return Node(name, IntegrateFire(one, one, one), inputs, (1, 4, 4), unit=torch.tensor(1.0))


def test_latency_follows_the_longest_way_through_a_residual_network():
    """a -> b -> c joins a: depth 3 with the population behind the join, whatever the shortcut."""
    pool = MaxPool((1, 1), (1, 1), (0, 0), (1, 1))
    graph = Graph(
        (
            Node("x", Input(1.0), (), (1, 4, 4)),
            fires("a", "x"),
            fires("b", "a"),
            Node("pool", pool, ("b",), (1, 4, 4)),
            fires("shortcut", "x"),
            fires("c", "pool"),
        ),
        ("c", "shortcut"),
        Level.SPIKING,
        Contract(8),
    )
    lasts = pipeline.latency(graph)
    assert (lasts.depth, lasts.steps("stepwise"), lasts.steps("layerwise")) == (3, 8, 24)
    assert lasts.report() == {
        "stepwise": {"latency_steps": 8, "steps_per_sample": 8},
        "layerwise": {"latency_steps": 24, "steps_per_sample": 8, "steps_per_sample_single_buffered": 16},
    }


def test_latency_of_a_traced_residual_network(data):
    """conv-relu, conv-relu-conv + shortcut, relu: three populations deep."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.one, self.two = (
                nn.Conv2d(2, 4, 3),
                *(nn.Conv2d(4, 4, 3, padding=1) for _ in range(2)),
            )

        def forward(self, x):
            x = self.stem(x).relu()
            return (x + self.two(self.one(x).relu())).relu()

    torch.manual_seed(0)
    graph = pipeline.convert(Residual().eval(), data, settings()).graph
    assert pipeline.latency(graph).depth == 3
    assert pipeline.evaluate(graph, data.test_batches(16)).differing_outputs == 0


def test_a_network_without_neurons_takes_one_pass():
    """A linear layer alone."""
    assert pipeline.Latency(8, 0).steps("layerwise") == 8
