"""Evaluate: the variants of a network side by side, and the theorem held against every sample."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from ann2snn_cli import pipeline
from ann2snn_cli.errors import UsageError, VerificationMismatch
from ann2snn_cli.ir.contract import Reset
from ann2snn_cli.ir.ops import IntegrateFire
from ann2snn_cli.ir.run import run_counts
from ann2snn_cli.stages import simulate as engines
from ann2snn_cli.stages.simulate import simulate
from ann2snn_cli.tasks import Headline, task_named
from ann2snn_cli.workflows import evaluate as evaluating
from ann2snn_cli.workflows.evaluate import evaluate, refuse_mismatch


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


CLASSES = task_named("classification")


def test_a_large_batch_is_evaluated_a_few_samples_at_a_time(network, data, settings, monkeypatch):
    """However many samples and steps are asked for at once, memory is that of a portion; nothing else is."""
    graph = pipeline.convert(network, data, settings(timing={"timesteps": 5})).graph
    at_once, ticks = evaluate(graph, data.test_batches(48), CLASSES, network=network), []
    monkeypatch.setattr(evaluating, "PORTION_ELEMENTS", 5 * graph.widest * 10)
    in_parts = evaluate(graph, data.test_batches(48), CLASSES, network=network, tick=ticks.append)
    assert ticks == [10, 10, 10, 10, 8]
    assert (in_parts.headlines, in_parts.spikes) == (at_once.headlines, at_once.spikes)
    assert in_parts.by_step == at_once.by_step


@pytest.mark.parametrize("delay", [0, 2, 5])
def test_evaluate_counts_as_a_plain_loop_does(delay, network, data, settings):
    """Accuracies at every delay, accuracy by step, spikes, rates and the largest error, sample by sample."""
    graph = pipeline.convert(network, data, settings(timing={"timesteps": 5, "delay": delay})).graph
    result = evaluate(graph, data.test_batches(7), CLASSES, network=network)
    names = {"stepwise": 0, "layerwise": 5} | ({"delay_2": 2} if delay == 2 else {})
    right = dict.fromkeys(("ann", "quantized", *names), 0)
    by_step, spikes, errors = [0] * 5, {}, []

    def count(node, activity):
        if isinstance(node.op, IntegrateFire):
            spikes[node.name] = spikes.get(node.name, 0) + int(activity.train.sum())

    with torch.no_grad():
        for x, label in zip(data.x[:, None], data.y.tolist(), strict=True):
            outputs = {name: simulate(graph, x, delay=each).outputs[0] for name, each in names.items()}
            outputs |= {"ann": network(x), "quantized": run_counts(graph, x.double())[0]}
            for name, output in outputs.items():
                right[name] += int(output.argmax()) == label
            for step, output in enumerate(simulate(graph, x, by_step=True, watch=count).by_step[0]):
                by_step[step] += int(output.argmax()) == label
        for x in data.x.split(7):
            ann, snn = network(x), simulate(graph, x).outputs[0]
            errors.append(float((snn - ann).abs().max() / ann.abs().max()))

    assert (result.samples, result.headline.name) == (48, "accuracy")
    assert result.headlines == {name: correct / 48 for name, correct in right.items()}
    assert list(result.headlines) == ["ann", "quantized", *names]
    assert list(result.by_step) == [correct / 48 for correct in by_step]
    assert result.spikes == spikes
    neurons = {node.name: torch.Size(node.shape).numel() for node in graph.of(IntegrateFire)}
    assert result.firing_rate == {n: spikes[n] / (48 * 5 * neurons[n]) for n in spikes}
    assert result.spikes_per_sample == sum(spikes.values()) / 48
    assert result.largest_error == pytest.approx(max(errors))
    assert result.differing_outputs == 0


def test_evaluate_without_the_network_has_no_ann(network, data, settings):
    """A saved SNN is all that is there."""
    graph = pipeline.convert(network, data, settings()).graph
    assert list(evaluate(graph, data.test_batches(48), CLASSES).scores) == [
        "quantized",
        "stepwise",
        "layerwise",
    ]


def test_outputs_that_are_no_class_scores_have_no_accuracy(data, settings):
    """A map, or one value: None, not a number that means nothing."""
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU())
    graph = pipeline.convert(network, data, settings()).graph
    result = evaluate(graph, data.test_batches(16), CLASSES, network=network)
    assert (set(result.headlines.values()), result.samples) == ({None}, 48)
    assert result.largest_error > 0


class Distance:
    """A metric that knows no classes: the mean of all outputs."""

    def __init__(self):
        self.parts = []

    def update(self, outputs, labels):
        """Count a batch."""
        self.parts.append(outputs[0].double().mean(1))

    def result(self):
        """The headline first."""
        return {"mean": float(torch.cat(self.parts).mean()), "samples": len(torch.cat(self.parts))}


class Means:
    """A task that nobody has heard of."""

    name, headline = "means", Headline("mean", is_share=False)

    def metric(self):
        """A new one."""
        return Distance()


def test_what_is_measured_is_the_tasks(network, data, settings):
    """A task of its own metric is scored by it in every variant, and its headline names the result."""
    graph = pipeline.convert(network, data, settings()).graph
    result = evaluate(graph, data.test_batches(7), Means(), network=network)
    with torch.no_grad():
        assert result.scores["ann"]["mean"] == pytest.approx(float(network(data.x).double().mean()))
    wanted = float(simulate(graph, data.x, delay=5).outputs[0].mean())
    assert result.headlines["layerwise"] == pytest.approx(wanted)
    assert result.scores["quantized"]["samples"] == 48
    facts = result.facts()
    assert (facts["metric"], facts["mean"]) == ("mean", result.headlines)


def test_the_engine_is_named_with_the_reason(network, data, settings, monkeypatch):
    """One that is asked for, or the first that can; what the others say is part of the reason."""
    graph = pipeline.convert(network, data, settings()).graph
    batches = list(data.test_batches(48))
    asked = evaluate(graph, batches, CLASSES, engine="reference")
    assert (asked.engine, asked.engine_reason) == ("reference", "it was asked for")

    class Picky:
        name = "picky"

        def refusal(self, graph, request):
            return "it is Monday"

    monkeypatch.setattr(engines, "ENGINES", {"picky": Picky(), **engines.ENGINES})
    chosen = evaluate(graph, batches, CLASSES)
    assert chosen.engine == "fused"
    assert "picky cannot: it is Monday" in chosen.engine_reason
    assert chosen.headlines == asked.headlines


def test_a_named_engine_runs_what_it_can_and_another_the_rest(network, data, settings):
    """`counts` knows the delay T alone: it runs that; the reason says what ran at D = 0 and by step."""
    graph = pipeline.convert(network, data, settings(timing={"timesteps": 5, "delay": 5})).graph
    batches = list(data.test_batches(16))
    expected = evaluate(graph, batches, CLASSES, engine="reference")
    found = evaluate(graph, batches, CLASSES, engine="counts")
    assert (found.scores, found.by_step, found.spikes) == (expected.scores, expected.by_step, expected.spikes)
    assert found.engine == "counts"
    assert found.engine_reason.startswith("it was asked for; ")
    assert "fused ran D = 0, which counts cannot: " in found.engine_reason
    assert "fused gave the scores by step, which counts cannot: " in found.engine_reason


def test_a_named_engine_that_cannot_run_the_snn_itself_is_refused_before_any_work(network, data, settings):
    """D = 0 was asked for, and `counts` cannot: nothing is calibrated, and the remedy names a delay."""
    stages = []
    listener = pipeline.Listener(stage=lambda label, steps: stages.append(label))
    with pytest.raises(UsageError, match="the engine counts cannot run this") as refused:
        pipeline.convert(network, data, settings(run={"engine": "counts"}), listener=listener)
    assert stages == ["trace and fold"]
    assert "delay=5" in str(refused.value)


# The theorem ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("timesteps", [1, 3, 4, 7, 16])
def test_layerwise_is_the_quantized_network_for_any_number_of_steps(timesteps, network, data, settings):
    """Outputs are compared as real numbers, so both must round their division by T alike."""
    graph = pipeline.convert(network, data, settings(timing={"timesteps": timesteps})).graph
    result = evaluate(graph, data.test_batches(16), CLASSES)
    assert result.differing_outputs == 0
    refuse_mismatch(graph, result)


def test_a_graph_that_was_tampered_with_is_a_mismatch(network, data, settings, monkeypatch):
    """The engine runs another threshold than the quantized network: every sample is compared."""
    graph = pipeline.convert(network, data, settings()).graph
    first = graph.of(IntegrateFire)[0]
    other = graph.with_ops({first.name: replace(first.op, threshold=first.op.threshold // 2)})
    original = engines.run
    monkeypatch.setattr(engines, "run", lambda _, request, engine: original(other, request, engine))
    result = evaluate(graph, data.test_batches(16), CLASSES)
    assert 0 < result.differing_outputs <= 48
    with pytest.raises(VerificationMismatch, match=f"differs .* on {result.differing_outputs} of 48 samples"):
        refuse_mismatch(graph, result)


def test_a_difference_is_no_mismatch_where_the_theorem_does_not_hold(network, data, settings):
    """Reset to zero, floats and opaque nodes promise nothing."""
    held = pipeline.convert(network, data, settings()).graph
    result = replace(evaluate(held, data.test_batches(16), CLASSES), differing_outputs=3)
    zero = replace(held, contract=replace(held.timing, reset_mode=Reset.ZERO))
    floats = pipeline.convert(network, data, settings(quantize={"weight_bitwidth": 32})).graph
    gelu = nn.Sequential(nn.Conv2d(2, 3, 3), nn.GELU(), nn.Conv2d(3, 3, 3), nn.ReLU())
    opaque = pipeline.convert(gelu, data, settings()).graph
    for graph in (zero, floats, opaque):
        refuse_mismatch(graph, result)
    with pytest.raises(VerificationMismatch):
        refuse_mismatch(held, result)


@pytest.mark.parametrize(
    "form", [nn.Module.half, nn.Module.bfloat16, nn.Module.double, lambda network: exported(network).module()]
)
def test_a_network_is_scored_in_its_own_type_and_form(form, network, data, settings):
    """A network in another floating type, or that torch.export gave, is shown the same samples."""
    graph = pipeline.convert(network, data, settings()).graph
    expected = evaluate(graph, data.test_batches(7), CLASSES, network=network)
    other = form(copy.deepcopy(network))

    found = evaluate(graph, data.test_batches(7), CLASSES, network=other)

    assert found.headlines["ann"] == pytest.approx(expected.headlines["ann"], abs=5)
    assert found.largest_error == pytest.approx(expected.largest_error, abs=0.05)


def exported(network):
    """The network by torch.export, for batches of any size."""
    sizes = ({0: torch.export.Dim.DYNAMIC},)
    return torch.export.export(network.eval(), (torch.zeros(2, 2, 6, 6),), dynamic_shapes=sizes)
