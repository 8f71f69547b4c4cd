"""Validate: what one network scores by itself, the ANN or the SNN, and how often its neurons fire.

`evaluate.py` holds the variants of a conversion side by side; this is about one of them, at any level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ann2snn_cli import devices, trees
from ann2snn_cli.config import KEYS, Schedule, Settings
from ann2snn_cli.errors import Setting, UsageError
from ann2snn_cli.ir.encoding import encoding_notes
from ann2snn_cli.ir.engine import Request
from ann2snn_cli.ir.graph import Graph, Level
from ann2snn_cli.ir.integers import integers
from ann2snn_cli.ir.precision import plain_arithmetic
from ann2snn_cli.ir.run import run, run_counts
from ann2snn_cli.stages import simulate as engines
from ann2snn_cli.stages.trace import reading, unwrapped
from ann2snn_cli.tasks import Task, task_named
from ann2snn_cli.types import Batch, Headline, Inputs, Outputs
from ann2snn_cli.workflows import prepare, saved
from ann2snn_cli.workflows.evaluate import PORTION_ELEMENTS, Scores
from ann2snn_cli.workflows.firing import Firing
from ann2snn_cli.workflows.in_time import on_samples
from ann2snn_cli.workflows.report import SILENT, Progress, Report

OF_THE_ANN = ("ann_weight", "allow_other_dataset", "run.seed")  # settings that an SNN has no use for
OF_THE_SNN = ("rules", "run.engine")  # and those that an ANN has none for


@dataclass(frozen=True)
class Validation:
    """What a network scores on labelled samples; of an SNN also its spikes."""

    headline: Headline  # the number of the metric that stands for all of them
    samples: int
    scores: Scores  # the metric's numbers by name: of a classifier accuracy (top-1) and loss
    firing_rate: Mapping[str, float] = field(default_factory=dict)  # spikes of a neuron a step, by population
    spikes_per_sample: float = 0.0  # of all populations together
    engine: str = ""  # that ran the SNN

    @property
    def accuracy(self) -> float | None:
        """The share of samples whose highest score is at their label (top-1); None for other tasks."""
        return self.scores.get("accuracy")

    @property
    def loss(self) -> float | None:
        """The mean loss of the task; None where its metric has none."""
        return self.scores.get("loss")

    def facts(self) -> dict[str, Any]:
        """What a report says of it."""
        return {
            "test_samples": self.samples,
            "metric": self.headline.name,
            "higher_is_better": self.headline.higher_is_better,
            "scores": dict(self.scores),
            "firing_rate": dict(self.firing_rate),
            "spikes_per_sample": self.spikes_per_sample,
            "engine": self.engine,
        }


def validated(
    network: nn.Module | Graph,
    batches: Iterable[Batch],
    task: Task,
    *,
    engine: str = engines.AUTO,
    tick: Callable[[int], None] = lambda samples: None,
) -> Validation:
    """Run a network, or a graph of any level, on labelled samples, where it is and at its own delay."""
    run_on = _Run(network, engine)
    metric, samples = task.metric(), 0
    with torch.no_grad(), plain_arithmetic(), run_on.prepared():
        for batch in batches:
            for x, labels in trees.portions([batch], run_on.portion):
                metric.update(run_on.outputs(x), labels)
                samples += trees.sample_count(x)
                tick(trees.sample_count(x))
    firing = run_on.firing
    return Validation(
        task.headline,
        samples,
        metric.result(),
        firing.rate if firing else {},
        sum(firing.spikes.values()) / max(1, samples) if firing else 0.0,
        run_on.engine_used,
    )


class _Run:
    """One network and how it is run; of an SNN with its spikes."""

    def __init__(self, network: nn.Module | Graph, engine: str) -> None:
        self.network = network if isinstance(network, Graph) else unwrapped(network)
        self.engine = engine
        self.engine_used = ""
        is_snn = isinstance(network, Graph) and network.level is Level.SPIKING
        self.firing = Firing(network) if is_snn and isinstance(network, Graph) else None

    def prepared(self) -> Any:
        """Within it a module is in eval mode."""
        return nullcontext() if isinstance(self.network, Graph) else reading(self.network)

    @property
    def portion(self) -> int:
        """How many samples are run at once: as evaluation does, whatever the batches."""
        if self.firing is None:
            return 1024
        graph = self.firing.graph
        return max(1, PORTION_ELEMENTS // (graph.widest * graph.timing.timesteps))

    def outputs(self, x: Inputs) -> Outputs:
        """What it gives, in real numbers."""
        if isinstance(self.network, nn.Module):
            return trees.call(self.network, x)
        x = trees.to(x, self.network.device or "cpu")
        if self.firing is not None:
            return self._simulated(self.firing, x)
        if self.network.level is Level.QUANTIZED:
            return run_counts(integers(self.network), trees.map_leaves(Tensor.double, x))
        return run(self.network, x)

    def _simulated(self, firing: Firing, x: Inputs) -> Outputs:
        found = engines.run(firing.graph, Request(x, counts=True), self.engine)
        self.engine_used = found.engine
        firing.add(found.counts or {}, trees.sample_count(x))
        return found.outputs


# By name -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ValidateRequest:
    """A network by name, or the path of an SNN in the place of its name."""

    settings: Settings
    schedule: Schedule | None = None  # of an SNN: not its own delay, by name ...
    delay: int | None = None  # ... or by number


@dataclass(frozen=True)
class ValidateReport(Report):
    """What it scored."""

    SCHEMA = "ann2snn/validate/1"

    network: str
    dataset: str
    validation: Validation
    timesteps: int | None = None  # of an SNN
    delay: int | None = None
    notes: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """The document."""
        return {
            "network": self.network,
            "dataset": self.dataset,
            "kind": "ann" if self.timesteps is None else "snn",
            "timesteps": self.timesteps,
            "delay": self.delay,
            **self.validation.facts(),
            "notes": list(self.notes),
        }


def validate(request: ValidateRequest, progress: Progress = SILENT) -> ValidateReport:
    """Score the network that a name stands for, or the SNN in a `.pth`, on its test set."""
    if request.settings.network.endswith(".pth"):
        return _snn(request, progress)
    return _ann(request, progress)


def _ann(request: ValidateRequest, progress: Progress) -> ValidateReport:
    settings = request.settings
    _refuse_idle(settings, OF_THE_SNN, "an ANN, which has no steps")
    for name in ("schedule", "delay"):
        if getattr(request, name) is not None:
            raise _idle(name, "an ANN, which has no steps")
    progress.begin("load the network and the data")
    prepared = prepare.by_name(settings)
    notes = (prepared.weights_line, *prepared.notes)
    found = _scored(on_samples(prepared.network, settings), prepared.data, settings, progress)
    return ValidateReport(prepared.name, prepared.dataset, found, notes=notes)


def _snn(request: ValidateRequest, progress: Progress) -> ValidateReport:
    settings = request.settings
    _refuse_idle(settings, OF_THE_ANN, "an SNN, which has its weights")
    prepare.refuse_unknown_names(settings)
    progress.begin("load the SNN and the data")
    path = Path(settings.network)
    snn = saved.load(
        path,
        schedule=request.schedule,
        delay=request.delay,
        encoding=settings.timing.encoding,
        rules=settings.rules,
        progress=progress,
    )
    samples = snn.samples(settings)
    graph = snn.graph.to(devices.pick(settings.run.device))
    found = _scored(graph, samples, settings, progress)
    notes = (
        *snn.file_notes,
        *snn.dataset_notes(samples.name),
        *encoding_notes(snn.graph),
        snn.note,
        *samples.notes,
    )
    timing = graph.timing
    return ValidateReport(str(path), samples.name, found, timing.timesteps, timing.delay, notes)


def _scored(network: nn.Module | Graph, samples: Any, settings: Settings, progress: Progress) -> Validation:
    size, workers = settings.data.test_batch_size, settings.data.num_workers
    progress.begin("validate", samples.test_size, "samples")
    return validated(
        network,
        samples.test_batches(size, workers),
        task_named(samples.task),
        engine=settings.run.engine,
        tick=progress.advance,
    )


def _refuse_idle(settings: Settings, names: Iterable[str], what: str) -> None:
    for dotted in names:
        key = KEYS[dotted]
        if key.of(settings) != key.default:
            raise _idle(key.flag, what)


def _idle(flag: str, what: str) -> UsageError:
    where = str(Setting(flag))
    return UsageError(f"{Setting(flag)} does nothing for {what}", where=where, remedy="leave it out")
