"""Evaluate: the network, its quantized form and its SNN side by side, on labelled samples.

The SNN is run at D = 0, at D = T, and at its own delay, each with the biases that were corrected for it where
such a graph is given. The task knows which numbers are scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from ann2snn_cli import trees
from ann2snn_cli.config import delay_name
from ann2snn_cli.errors import VerificationMismatch
from ann2snn_cli.ir.engine import Request, Simulation
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.ir.precision import exact_dtypes, plain_arithmetic
from ann2snn_cli.ir.run import run_counts
from ann2snn_cli.ir.validate import theorem_exception
from ann2snn_cli.stages import simulate as engines
from ann2snn_cli.stages.trace import to_eval
from ann2snn_cli.tasks import Task
from ann2snn_cli.types import Batch, Headline, Inputs, Labels, Metric, Outputs
from ann2snn_cli.workflows.firing import Firing

ANN, QUANTIZED = "ann", "quantized"

PORTION_ELEMENTS = 1 << 26  # of the widest train, all steps: as many samples are evaluated at once

Scores = Mapping[str, float | None]  # a metric's numbers by name, the headline first


@dataclass(frozen=True)
class Evaluation:
    """What the variants of a network score, and how its SNN spent its spikes."""

    headline: Headline  # the number of the metric that stands for all of them
    samples: int
    scores: Mapping[str, Scores]  # by variant: ann, quantized, stepwise, layerwise, delay_N
    by_step: tuple[
        float | None, ...
    ]  # the headline after 1, 2, ... T steps at the SNN's own delay, if asked for
    spikes: Mapping[str, int]  # by population, over all samples
    firing_rate: Mapping[str, float]  # spikes of a neuron a step, by population
    differing_outputs: int  # samples on which the SNN at D = T is not the quantized network
    largest_difference: float  # between the two, as a fraction of the quantized network's largest output
    theorem_exception: str  # why the two need not be equal; empty where they must be
    largest_error: float  # |SNN − ANN| at an output, as a fraction of the ANN's largest output
    engine: str  # that ran the SNN at its own delay
    engine_reason: str  # why that one, and what other ones did

    @property
    def headlines(self) -> dict[str, float | None]:
        """The headline of every variant."""
        return {variant: numbers.get(self.headline.name) for variant, numbers in self.scores.items()}

    @property
    def spikes_per_sample(self) -> float:
        """All populations together."""
        return sum(self.spikes.values()) / max(1, self.samples)

    def facts(self) -> dict[str, Any]:
        """What reports on it have in common; the headlines stand under the name of the metric."""
        return {
            "test_samples": self.samples,
            "metric": self.headline.name,
            "higher_is_better": self.headline.higher_is_better,
            self.headline.name: self.headlines,
            "scores": {variant: dict(numbers) for variant, numbers in self.scores.items()},
            "layerwise_differs_from_quantized": self.differing_outputs,
            "layerwise_largest_difference": self.largest_difference,
            "theorem_exception": self.theorem_exception,
            "firing_rate": dict(self.firing_rate),
            "spikes_per_sample": self.spikes_per_sample,
            "engine": self.engine,
            "engine_reason": self.engine_reason,
        }


def evaluate(
    graph: Graph,
    batches: Iterable[Batch],
    task: Task,
    *,
    network: nn.Module | None = None,
    quantized: Graph | None = None,
    by_delay: Mapping[int, Graph] | None = None,
    device: torch.device | str = "cpu",
    engine: str = engines.AUTO,
    by_step: bool = True,
    tick: Callable[[int], None] = lambda samples: None,
) -> Evaluation:
    """Run SPIKING `graph`, the integer quantized network and, where given, the ANN on labelled samples.

    `quantized` is the graph whose closed form the quantized network is, `by_delay` holds graphs for other
    delays; without them it is the one graph throughout. A few samples are run at a time, however large the
    batches and however many the steps; `tick` is told how many. An `engine` that is named has to
    run the SNN at its own delay; what else it cannot do, such as another delay, the first does that can.
    """
    others = {delay: each.to(device) for delay, each in (by_delay or {}).items()}
    closed_form = graph if quantized is None else quantized
    ann = to_eval(network) if network is not None else None
    tally = _Tally(graph.to(device), closed_form.to(device), others, task, engine, ann, by_step)
    size = max(1, PORTION_ELEMENTS // (graph.widest * graph.timing.timesteps))
    for batch in batches:
        for x, labels in trees.portions([batch], size):
            tally.add(trees.to(x, device), labels)
            tick(trees.sample_count(x))
    return tally.result()


@dataclass(eq=False)
class _Tally:
    """The numbers while they are counted."""

    graph: Graph
    closed_form: Graph
    by_delay: Mapping[int, Graph]
    task: Task
    engine: str
    network: nn.Module | None
    wants_steps: bool
    metrics: dict[str, Metric] = field(default_factory=dict)
    differing_outputs: int = 0
    largest_difference: float = 0.0
    largest_error: float = 0.0
    used: str = ""
    reasons: dict[str, None] = field(default_factory=dict)  # a set in order

    def __post_init__(self) -> None:
        steps = self.graph.timing.timesteps
        variants = [QUANTIZED, *(delay_name(delay, steps) for delay in self._delays())]
        if self.network is not None:
            variants.insert(0, ANN)
        self.metrics = {variant: self.task.metric() for variant in variants}
        self.firing = Firing(self.graph)
        every = [node.name for node in self.closed_form.nodes]
        self.dtypes = exact_dtypes(self.closed_form, steps, summed=every)
        self.by_step = [self.task.metric() for _ in range(steps if self.wants_steps else 0)]

    def add(self, x: Inputs, labels: Labels) -> None:
        """Run every variant on a batch."""
        runs = self._runs(x)
        own, layerwise = runs[self.graph.timing.delay], runs[self.graph.timing.timesteps]
        with torch.no_grad(), plain_arithmetic():
            quantized = run_counts(self.closed_form, trees.map_leaves(Tensor.double, x), dtypes=self.dtypes)
        self.metrics[QUANTIZED].update(quantized, labels)
        for delay, found in runs.items():
            self.metrics[delay_name(delay, self.graph.timing.timesteps)].update(found.outputs, labels)
        for step, metric in enumerate(self.by_step):
            metric.update(tuple(values[step] for values in own.by_step or ()), labels)
        self.firing.add(own.counts or {}, trees.sample_count(x))
        self.differing_outputs += _differing(layerwise.outputs, quantized)
        difference = _relative_error(layerwise.outputs, quantized)
        self.largest_difference = max(self.largest_difference, difference)
        if self.network is not None:
            with torch.no_grad():
                ann = trees.call(self.network, x)
            self.metrics[ANN].update(ann, labels)
            self.largest_error = max(self.largest_error, _relative_error(own.outputs, ann))

    def _runs(self, x: Inputs) -> dict[int, Simulation]:
        """The SNN at every delay; at its own with all that is asked of it."""
        found = {self.graph.timing.delay: self._own(x)}
        for delay in self._delays():
            if delay not in found:
                found[delay] = self._other(x, delay)
        return found

    def _delays(self) -> tuple[int, ...]:
        """Those that reports speak of, and all for which there are graphs."""
        return tuple(dict.fromkeys((*delays_of(self.graph), *self.by_delay)))

    def _own(self, x: Inputs) -> Simulation:
        request = Request(x, self.graph.timing.delay, by_step=self.wants_steps, counts=True)
        if not self.wants_steps or not (reason := engines.refusal(self.graph, request, self.engine)):
            found = engines.run(self.graph, request, self.engine)
            self._note_own(request, found.engine)
            return found
        found = engines.run(self.graph, replace(request, by_step=False), self.engine)
        self._note_own(request, found.engine)
        steps = engines.run(self.graph, replace(request, counts=False))
        self.reasons[f"{steps.engine} gave the scores by step, which {self.engine} cannot: {reason}"] = None
        return replace(found, by_step=steps.by_step)

    def _other(self, x: Inputs, delay: int) -> Simulation:
        graph, request = self.by_delay.get(delay, self.graph), Request(x, delay)
        found = engines.run_or_auto(graph, request, self.engine)
        if reason := engines.refusal(graph, request, self.engine):
            self.reasons[f"{found.engine} ran D = {delay}, which {self.engine} cannot: {reason}"] = None
        return found

    def _note_own(self, request: Request, used: str) -> None:
        """Why this engine ran the SNN at its own delay."""
        self.used = used
        if self.engine != engines.AUTO:
            self.reasons["it was asked for"] = None
            return
        self.reasons["auto takes the first that can run this network"] = None
        for name in takewhile(lambda name: name != used, engines.automatic()):
            self.reasons[f"{name} cannot: {engines.refusal(self.graph, request, name)}"] = None

    def result(self) -> Evaluation:
        """The report; task and engine say what they are."""
        headline = self.task.headline
        return Evaluation(
            headline,
            self.firing.samples,
            {variant: metric.result() for variant, metric in self.metrics.items()},
            tuple(metric.result()[headline.name] for metric in self.by_step),
            self.firing.spikes,
            self.firing.rate,
            self.differing_outputs,
            self.largest_difference,
            theorem_exception(self.graph),
            self.largest_error,
            self.used,
            "; ".join(self.reasons),
        )


def delays_of(graph: Graph) -> tuple[int, ...]:
    """The delays that reports speak of: 0, T, and the graph's own where that is another."""
    steps = graph.timing.timesteps
    return tuple(dict.fromkeys((0, steps, graph.timing.delay)))


def _differing(one: Outputs, other: Outputs) -> int:
    """Samples on which any of the outputs differ."""
    each = [(a != b).reshape(len(a), -1).any(dim=1) for a, b in zip(one, other, strict=True)]
    return int(torch.stack(each).any(dim=0).sum())


def _relative_error(snn: Outputs, ann: Outputs) -> float:
    """The largest error of outputs that both have."""
    pairs = [(a, b) for a, b in zip(snn, ann, strict=False) if a.shape == b.shape]
    errors = (float((a - b).abs().max() / b.abs().max().clamp_min(1e-30)) for a, b in pairs)
    return max(errors, default=0.0)


def refuse_mismatch(graph: Graph, evaluation: Evaluation) -> None:
    """Raise where the theorem of SPEC 5 holds and a test sample contradicts it."""
    if not theorem_exception(graph) and evaluation.differing_outputs:
        raise VerificationMismatch(
            f"the layerwise SNN differs from the quantized network on {evaluation.differing_outputs} of "
            f"{evaluation.samples} samples",
            remedy="this is a fault of ann2snn: please report it with the network and the settings",
        )
