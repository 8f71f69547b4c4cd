"""Compare delays: one network converted for several numbers of steps, and scored at several firing delays.

What a delay buys is accuracy, and what it costs is latency: T + depth·D steps until the answer is there. The
conversion is training-free, for every number of steps anew, with biases corrected for every delay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ann2snn_cli.catalog import Weights
from ann2snn_cli.config import KEYS, Settings, as_dict, delay_name
from ann2snn_cli.config.fields import refuse
from ann2snn_cli.errors import Setting, UsageError, as_argument
from ann2snn_cli.pipeline import Listener
from ann2snn_cli.stages.analyse import pictures
from ann2snn_cli.types import Headline
from ann2snn_cli.words import count_of
from ann2snn_cli.workflows import comparison, convert, prepare
from ann2snn_cli.workflows.evaluate import ANN, QUANTIZED
from ann2snn_cli.workflows.folders import as_csv
from ann2snn_cli.workflows.latency import latency
from ann2snn_cli.workflows.prepare import Named
from ann2snn_cli.workflows.report import SILENT, Progress, Report, Spell

STEPS_TO_COMPARE = ("4", "8", "16", "32")


@dataclass(frozen=True)
class CompareDelaysRequest:
    """A network and data by name; of the settings neither steps, delay nor finetuning count."""

    settings: Settings
    steps: Sequence[str] = STEPS_TO_COMPARE
    save_dir: Path | None = None  # None: NETWORK_delays
    overwrite: bool = False
    spell: Spell = as_argument  # how settings are named in the manifest that is written


@dataclass(frozen=True)
class Point:
    """One SNN: what it scores, and when its answer is there."""

    timesteps: int
    delay: int
    latency: int  # steps
    score: float
    is_best: bool = False  # no other that is as quick, or quicker, scores better


@dataclass(frozen=True)
class CompareDelaysReport(Report):
    """Every SNN's score and latency, the quickest first."""

    SCHEMA = "ann2snn/compare-delays/1"

    network: str
    dataset: str
    samples: int
    headline: Headline
    ann: float
    points: Sequence[Point]
    quantized: dict[int, float]  # the quantized network of every T
    weights: Weights | None
    settings: Settings
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row an SNN; `best` where nothing as quick is better."""
        return [
            {
                "timesteps": point.timesteps,
                "delay": point.delay,
                "latency_steps": point.latency,
                self.headline.name: point.score,
                "best": point.is_best,
            }
            for point in self.points
        ]

    def facts(self) -> dict[str, Any]:
        """The document."""
        settings = as_dict(self.settings)
        for section in ("timing", "finetune"):
            del settings[section]
        return {
            "network": self.network,
            "dataset": self.dataset,
            "test_samples": self.samples,
            "metric": self.headline.name,
            "higher_is_better": self.headline.higher_is_better,
            "ann": self.ann,
            "quantized": {str(steps): score for steps, score in self.quantized.items()},
            "snns": self.rows,
            "weights": self.weights.to_plain() if self.weights else {},
            "files": list(self.files),
            "notes": list(self.notes),
            "settings": settings,
        }


def compare_delays(request: CompareDelaysRequest, progress: Progress = SILENT) -> CompareDelaysReport:
    """Convert for every number of steps, score at every delay, and write a picture and its numbers."""
    numbers = _read(request.steps)
    prepared, folder = comparison.begun(request, "delays", progress)
    report = _measured(prepared, numbers, progress)
    return comparison.written(report, _contents(report), folder, request.spell, progress)


def delays_for(timesteps: int) -> tuple[int, ...]:
    """Those that are compared: none, a step, a quarter, half and all of T."""
    return tuple(dict.fromkeys((0, 1, max(1, timesteps // 4), max(1, timesteps // 2), timesteps)))


def _read(steps: Sequence[str]) -> tuple[int, ...]:
    """The numbers of steps; all wrong ones are refused at once."""
    key, where = KEYS["timing.timesteps"], str(Setting("steps"))
    refuse(mistake for each in steps if (mistake := key.mistake(each, where)))
    found = tuple(sorted({int(key.parse(each)) for each in steps}))
    if not found:
        raise UsageError(
            "no number of steps is named", where=where, remedy=f"name some: {Setting('steps', '4,8')}"
        )
    return found


def _measured(prepared: Named, numbers: Sequence[int], progress: Progress) -> CompareDelaysReport:
    points: list[Point] = []
    quantized: dict[int, float] = {}
    for timesteps in numbers:
        timing = replace(prepared.settings.timing, timesteps=timesteps, delay=0, schedule=None)
        asked = replace(prepared, settings=replace(prepared.settings, timing=timing))

        def begin(label: str, ticks: int | None, timesteps: int = timesteps) -> None:
            progress.begin(f"T = {timesteps}: {label}", ticks)

        delays = delays_for(timesteps)
        conversion = prepare.pipelined(asked, Listener(begin, tick=progress.advance), delays)
        found = convert.evaluated(asked, conversion, progress, f"T = {timesteps}: evaluate")
        scores, wait = found.headlines, latency(conversion.graph)
        quantized[timesteps], ann = (
            comparison.known(scores[each], found.headline, prepared.name) for each in (QUANTIZED, ANN)
        )
        for delay in delays:
            score = comparison.known(scores[delay_name(delay, timesteps)], found.headline, prepared.name)
            points.append(Point(timesteps, delay, wait.steps(delay), score))
        best = found.headline.shown(max(point.score for point in points if point.timesteps == timesteps))
        progress.line(f"T = {timesteps}: {found.headline.name} at most {best}")
    return CompareDelaysReport(
        prepared.name,
        prepared.dataset,
        found.samples,
        found.headline,
        ann,
        tuple(_with_best(points, found.headline)),
        quantized,
        prepared.weights,
        prepared.settings,
    )


def _with_best(points: Sequence[Point], headline: Headline) -> Iterator[Point]:
    """The quickest first; of those as quick the best first. The best so far are marked."""
    sign = 1 if headline.higher_is_better else -1
    best: float | None = None
    for point in sorted(points, key=lambda point: (point.latency, -sign * point.score)):
        is_best = best is None or sign * point.score > best
        best = sign * point.score if is_best else best
        yield replace(point, is_best=is_best)


# Files ---------------------------------------------------------------------------------------------


def _contents(report: CompareDelaysReport) -> dict[str, bytes]:
    """The picture, its numbers, and those of the networks that have no steps."""
    score, bits = report.headline.name, report.settings.quantize.weight_bitwidth
    title = (
        f"{report.network} on {report.dataset}\n{bits}-bit weights, no finetuning, "
        f"{count_of(report.samples, 'test sample')}"
    )
    curves = {
        steps: [
            (point.latency, point.score, point.delay) for point in report.points if point.timesteps == steps
        ]
        for steps in report.quantized
    }
    picture = pictures.score_against_latency(title, report.headline, curves, report.quantized, report.ann)
    lines = [{"network": "ann", score: report.ann}]
    lines += [{"network": f"quantized T={steps}", score: value} for steps, value in report.quantized.items()]
    return {f"{score}.png": picture, f"{score}.csv": as_csv(report.rows), "references.csv": as_csv(lines)}
