"""Simulate: run a saved SNN on its test set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ann2snn_cli import devices
from ann2snn_cli.config import Schedule, Settings, delay_name
from ann2snn_cli.ir.contract import Encoding
from ann2snn_cli.ir.encoding import encoding_notes, encoding_of
from ann2snn_cli.ir.engine import Request
from ann2snn_cli.stages.simulate import refuse_unable
from ann2snn_cli.tasks import task_named
from ann2snn_cli.workflows import cost, saved
from ann2snn_cli.workflows.evaluate import Evaluation, delays_of, evaluate, refuse_mismatch
from ann2snn_cli.workflows.latency import Latency, latency
from ann2snn_cli.workflows.prepare import refuse_unknown_names
from ann2snn_cli.workflows.report import SILENT, Progress, Report


@dataclass(frozen=True)
class SimulateRequest:
    """The file of an SNN, and at which delay: by number, by name, or its own."""

    snn: Path
    settings: Settings
    schedule: Schedule | None = None
    delay: int | None = None
    seed: int | None = None  # of spikes by chance; None: that of the conversion


@dataclass(frozen=True)
class SimulateReport(Report):
    """What it scored."""

    SCHEMA = "ann2snn/simulate/1"

    snn: Path
    dataset: str
    delay: int
    delays: tuple[int, ...]  # all that were run
    latency: Latency
    evaluation: Evaluation
    own_delay: int  # that it was converted for
    notes: tuple[str, ...]
    encoding: Encoding = Encoding.DIRECT

    def facts(self) -> dict[str, Any]:
        """The document."""
        return {
            "snn": self.snn,
            "dataset": self.dataset,
            "delay": self.delay,
            "own_delay": self.own_delay,
            "schedule": delay_name(self.delay, self.latency.timesteps),
            "timesteps": self.latency.timesteps,
            "encoding": str(self.encoding),
            **self.evaluation.facts(),
            f"{self.evaluation.headline.name}_by_step": list(self.evaluation.by_step),
            "latency_steps": self.latency.steps(self.delay),
            "latency": self.latency.facts(self.delays),
            "notes": list(self.notes),
        }


def simulate(request: SimulateRequest, progress: Progress = SILENT) -> SimulateReport:
    """Run a saved SNN on the dataset it was converted with, or on another one of the same shape."""
    settings = request.settings
    refuse_unknown_names(settings)
    progress.begin("load the SNN and the data")
    snn = saved.load(
        request.snn,
        schedule=request.schedule,
        delay=request.delay,
        encoding=settings.timing.encoding,
        seed=request.seed,
        rules=settings.rules,
        progress=progress,
    )
    refuse_unable(snn.graph, Request(()), settings.run.engine)
    samples = snn.samples(settings)
    for line in samples.notes:
        progress.line(line)
    size, workers = settings.data.test_batch_size, settings.data.num_workers
    progress.line(cost.line(snn.graph, samples.test_size, delays_of(snn.graph), settings.run.engine))
    progress.begin("simulate", samples.test_size, "samples")
    evaluation = evaluate(
        snn.graph,
        samples.test_batches(size, workers),
        task_named(samples.task),
        device=devices.pick(settings.run.device),
        engine=settings.run.engine,
        tick=progress.advance,
    )
    refuse_mismatch(snn.graph, evaluation)
    delay = snn.graph.timing.delay
    return SimulateReport(
        request.snn,
        samples.name,
        delay,
        delays_of(snn.graph),
        latency(snn.graph),
        evaluation,
        snn.own_delay,
        (*snn.file_notes, *snn.dataset_notes(samples.name), *encoding_notes(snn.graph), snn.note),
        encoding_of(snn.graph),
    )
