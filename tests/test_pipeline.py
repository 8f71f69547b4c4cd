"""The pipeline: shapes first, then one conversion; tiny networks in memory."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from ann2snn_cli import pipeline
from ann2snn_cli.config import load_hardware
from ann2snn_cli.errors import HardwareViolations
from ann2snn_cli.ir.contract import Contract, Pooling, Reset, Rounding
from ann2snn_cli.ir.graph import Level
from ann2snn_cli.ir.ops import Conv, Integrate, IntegrateFire, Relu

V1 = load_hardware(Path(__file__).parents[1] / "configs/hardware/v1.yaml")


@pytest.fixture
def data(small_data):
    """48 images of 2x6x6 in 3 classes."""
    return small_data


@pytest.fixture
def network(small_network):
    """conv, batch norm, ReLU, average pooling, conv, ReLU, linear."""
    return small_network


@pytest.fixture
def settings(training_free):
    """Training-free with 5 steps, but for what is named."""
    return training_free


# Shapes only ---------------------------------------------------------------------------------------


def test_prepare_folds_and_keeps_the_users_names(network, settings):
    """FOLDED: batch norm is gone, nodes are called as the modules are."""
    graph = pipeline.prepare(network, [(2, 6, 6)], settings())
    assert graph.level is Level.FOLDED
    assert [node.op.kind for node in graph.nodes] == [
        "Input", "Conv", "Relu", "AvgPool", "Conv", "Relu", "Reshape", "Linear", "Integrate",
    ]  # fmt: skip
    assert [node.source for node in graph.of(Conv)] == ["0", "4"]


def test_prepare_takes_the_pooling_of_the_hardware(network, settings):
    """Spiking: a population of its own behind the pooling."""
    graph = pipeline.prepare(network, [(2, 6, 6)], settings(), Pooling.SPIKING)
    pool = next(node for node in graph.nodes if node.op.kind == "AvgPool")
    (neurons,) = graph.users[pool.name]
    assert isinstance(neurons.op, Relu)
    assert neurons.op.inherits_clip


def test_prepare_takes_several_inputs(settings):
    """A shape for each."""

    class Two(nn.Module):
        def forward(self, a, b):
            return torch.relu(a + b)

    graph = pipeline.prepare(Two(), [(3,), (3,)], settings())
    assert [node.shape for node in graph.inputs] == [(3,), (3,)]


def test_pooling_is_what_was_asked_for_else_what_the_hardware_does(settings):
    """auto: spiking on v1, sums without hardware."""
    asked = settings(neurons={"pooling": "sum"})
    assert pipeline.pooling_of(settings(), V1) is Pooling.SPIKING
    assert pipeline.pooling_of(settings(), None) is Pooling.SUM
    assert pipeline.pooling_of(asked, V1) is Pooling.SUM


# Conversion ----------------------------------------------------------------------------------------


def test_convert_gives_integers_with_the_contract_that_was_asked_for(network, data, settings):
    """SPIKING, on the CPU, with a note of what was decided."""
    wanted = settings(timing={"timesteps": 5, "delay": 3}, neurons={"rounding": "bias"})
    stages: list[str] = []
    conversion = pipeline.convert(
        network, data, wanted, listener=pipeline.Listener(stage=lambda label, steps: stages.append(label))
    )
    assert conversion.graph.level is Level.SPIKING
    assert conversion.graph.timing == Contract(5, Reset.SUBTRACTION, 3, Rounding.BIAS)
    assert all(not node.op.threshold.is_floating_point() for node in conversion.graph.of(IntegrateFire))
    assert conversion.verdicts == ()
    assert stages == [
        "trace and fold", "calibrate", "quantize", "correct biases for a delay of 3",
        "correct biases for a delay of 5", "threshold",
    ]  # fmt: skip
    (note,) = conversion.notes
    assert note.startswith("bias correction for a delay of 3 ")
    assert "calibration samples" in note


def biases(graph):
    """Of every population and read-out, as it is in a chip."""
    return {node.name: (node.op.bias, node.op.initial) for node in graph.of(IntegrateFire, Integrate)}


def are_equal(one, other):
    """The same bits in both."""
    return all(torch.equal(a, b) for name in one for a, b in zip(one[name], other[name], strict=True))


@pytest.mark.parametrize("epochs", [0, 1])
def test_each_delay_has_the_biases_that_a_conversion_for_it_would_have(epochs, network, data, settings):
    """So the rows of one table are those of as many conversions; the quantized network is in all the same."""

    def converted(delay, delays=()):
        asked = settings(timing={"timesteps": 5, "delay": delay}, finetune={"epochs": epochs})
        return pipeline.convert(network, data, asked, delays=delays)

    together = converted(2, delays=(0, 5))
    assert list(together.by_delay) == [2, 0, 5]
    assert together.by_delay[2] is together.graph
    for delay, graph in together.by_delay.items():
        alone = converted(delay)
        assert graph.timing.delay == delay
        assert are_equal(biases(graph), biases(alone.graph))
        assert are_equal(biases(together.quantized), biases(alone.quantized))
        assert together.corrections.get(delay) == alone.correction
    assert not are_equal(biases(together.by_delay[0]), biases(together.by_delay[5]))
    assert are_equal(biases(together.quantized), biases(together.by_delay[5]))


def test_without_bias_correction_no_bias_is_corrected(network, data, settings):
    """All delays are one network, and nothing is said of a correction."""
    asked = settings(quantize={"bias_correction": False})
    conversion = pipeline.convert(network, data, asked, delays=(0, 5))
    assert (conversion.notes, dict(conversion.corrections)) == ((), {})
    for graph in (*conversion.by_delay.values(), conversion.quantized):
        assert are_equal(biases(graph), biases(conversion.graph))
    corrected = pipeline.convert(network, data, settings())
    assert not are_equal(biases(corrected.graph), biases(conversion.graph))


def test_the_quantized_network_does_not_depend_on_the_reset(network, data, settings):
    """Its closed form is that of subtraction: zero reset may not corrupt its biases."""
    zero = pipeline.convert(network, data, settings(neurons={"reset_mode": "zero"}))
    subtraction = pipeline.convert(network, data, settings())
    assert are_equal(biases(zero.quantized), biases(subtraction.quantized))


def test_convert_does_not_touch_the_network(network, data, settings):
    """Weights, mode and gradients are as they were."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    pipeline.convert(network, data, settings(finetune={"epochs": 1}))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())


def test_convert_with_finetuning_reports_every_epoch_and_saves_its_state(network, data, settings):
    """Loss and accuracy; a tick a batch; a state that the next run goes on from, to the same integers."""
    wanted = settings(finetune={"epochs": 2, "lr": 0.01}, data={"batch_size": 16})
    reports, states, ticks, told = [], [], {}, {}

    def stage(label, steps):
        told[label] = steps
        ticks[label] = 0

    def tick():
        ticks[list(told)[-1]] += 1

    listener = pipeline.Listener(stage, reports.append, tick, save=states.append)
    whole = pipeline.convert(network, data, wanted, listener=listener).graph
    assert [(report.epoch, report.epochs) for report in reports] == [(1, 2), (2, 2)]
    assert all(report.loss > 0 and 0 <= report.results["accuracy"] <= 1 for report in reports)
    assert (len(states), ticks["finetune, 2 epochs"]) == (2, 6)
    assert {label: ticks[label] for label, steps in told.items() if steps} == {
        label: steps for label, steps in told.items() if steps
    }, "every stage ticks as often as it said"
    assert {label for label, steps in told.items() if steps} >= {"correct biases for a delay of 5"}
    resumed = pipeline.convert(network, data, wanted, listener=pipeline.Listener(resume=states[0])).graph
    for node in whole.of(Conv):
        assert torch.equal(node.op.weight, resumed[node.name].op.weight)
    for node in whole.of(IntegrateFire):
        assert torch.equal(node.op.threshold, resumed[node.name].op.threshold)
        assert torch.equal(node.op.bias, resumed[node.name].op.bias)


def test_limits_are_checked_before_anything_is_calibrated(network, data, settings):
    """A broken limit costs no time."""
    stages: list[str] = []
    with pytest.raises(HardwareViolations) as raised:
        pipeline.convert(
            network, data, settings(quantize={"weight_bitwidth": 6}), hardware=V1,
            listener=pipeline.Listener(stage=lambda label, steps: stages.append(label)),
        )  # fmt: skip
    assert {(v.rule, v.layer) for v in raised.value.violations} == {
        ("weight_bitwidth", "0"),
        ("weight_bitwidth", "4"),
    }
    assert raised.value.what == "the network breaks 2 limits of hardware v1"
    assert str(raised.value).endswith("allow=('weight_bitwidth',)")
    assert stages == ["trace and fold"]


def test_registers_are_checked_last_and_all_verdicts_are_handed_back(network, data, settings):
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
