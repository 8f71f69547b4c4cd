"""Analyse: where a conversion loses accuracy, over time, and layer by layer by its cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ann2snn_cli import trees
from ann2snn_cli.catalog import Weights
from ann2snn_cli.config import Schedule, Settings, as_dict, delay_name
from ann2snn_cli.errors import as_argument
from ann2snn_cli.ir import show
from ann2snn_cli.ir.contract import Encoding
from ann2snn_cli.pipeline import Conversion, Listener
from ann2snn_cli.stages.analyse import pictures
from ann2snn_cli.stages.analyse.errors import LayerError, layer_errors
from ann2snn_cli.stages.simulate import simulate
from ann2snn_cli.types import Headline, Inputs
from ann2snn_cli.workflows import convert, prepare
from ann2snn_cli.workflows.evaluate import ANN, Evaluation
from ann2snn_cli.workflows.folders import ResultFolder, as_csv
from ann2snn_cli.workflows.prepare import Named
from ann2snn_cli.workflows.report import SILENT, Progress, Report, Spell

LAYER_SAMPLES = 256  # of the test set


@dataclass(frozen=True)
class AnalyseRequest:
    """A network and data by name."""

    settings: Settings
    save_dir: Path | None = None  # None: NETWORK_analysis
    overwrite: bool = False
    spell: Spell = as_argument  # how settings are named in the manifest that is written


@dataclass(frozen=True)
class AnalyseReport(Report):
    """What was measured; the last of the conversions is the one that was asked for."""

    SCHEMA = "ann2snn/analyse-error/1"

    network: str
    dataset: str
    delay: int
    timesteps: int
    samples: int
    headline: Headline
    ann: float | None
    weights: Weights | None
    by_timesteps: tuple[Mapping[str, Any], ...]  # timesteps, and the headline of every variant
    layers: tuple[LayerError, ...]
    layer_samples: int
    real_operators: Mapping[str, Sequence[str]]  # by kind, the layers that pass on real numbers, no spikes
    settings: Settings
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()  # files that lay in the folder and were removed, or kept

    @property
    def has_scores(self) -> bool:
        """Is there a number to draw over time?"""
        return self.ann is not None

    def facts(self) -> dict[str, Any]:
        """The document."""
        return {
            "network": self.network,
            "dataset": self.dataset,
            "delay": self.delay,
            "schedule": delay_name(self.delay, self.timesteps),
            "test_samples": self.samples,
            "metric": self.headline.name,
            "higher_is_better": self.headline.higher_is_better,
            "ann": self.ann,
            "weights": self.weights.to_plain() if self.weights else {},
            self.headline.name: [dict(row) for row in self.by_timesteps],
            "layers": [asdict(error) for error in self.layers],
            "layer_samples": self.layer_samples,
            "real_operators": dict(self.real_operators),
            "files": list(self.files),
            "notes": list(self.notes),
            "settings": as_dict(self.settings),
        }


def ladder(timesteps: int) -> list[int]:
    """1, 2, 4, ... and T itself."""
    return sorted({2**k for k in range(timesteps.bit_length()) if 2**k <= timesteps} | {timesteps})


def analyse(request: AnalyseRequest, progress: Progress = SILENT) -> AnalyseReport:
    """Convert anew for every step of the ladder, compare the last layer by layer, and write the figures."""
    progress.begin("load the network and the data")
    prepared = prepare.by_name(request.settings)
    folder = ResultFolder.of(prepared, "analysis", request.save_dir, request.overwrite)
    folder.refuse_loss(progress)
    for line in (prepared.weights_line, *prepared.notes):
        progress.line(line)
    report = _measured(prepared, progress)
    score = report.headline.name
    contents = _contents(report)
    if not report.has_scores:
        progress.line(f"no {score} picture: the outputs are none of which there is one")
    report = replace(report, files=tuple(folder.path / name for name in contents))
    notes = folder.write(contents, report.to_json(request.spell), progress)
    return replace(report, notes=notes)


def _measured(prepared: Named, progress: Progress) -> AnalyseReport:
    timesteps = prepared.settings.timing.timesteps
    rows: list[Mapping[str, Any]] = []
    has_frames = prepared.settings.timing.shown is Encoding.FRAMES  # samples are of T steps, and no fewer
    for steps in [timesteps] if has_frames else ladder(timesteps):
        conversion, score = _converted(prepared, steps, progress)
        rows.append({"timesteps": steps} | {k: v for k, v in score.headlines.items() if k != ANN})
        own = delay_name(conversion.graph.timing.delay, steps)
        progress.line(f"T = {steps}: {own} {_shown(score.headline, score.headlines[own])}")
    progress.begin("errors by layer", LAYER_SAMPLES, "samples")
    layers, count = _layers(prepared, conversion, progress)
    return AnalyseReport(
        prepared.name,
        prepared.dataset,
        conversion.graph.timing.delay,
        timesteps,
        score.samples,
        score.headline,
        score.headlines[ANN],
        prepared.weights,
        tuple(_filled(rows)),
        tuple(layers),
        count,
        show.real_operators(conversion.graph),
        prepared.settings,
    )


def _converted(prepared: Named, steps: int, progress: Progress) -> tuple[Conversion, Evaluation]:
    """The conversion for so many timesteps, and what it scores; a delay is kept as far as there are steps."""
    timing = prepared.settings.timing
    delay = None if timing.delay is None else min(timing.delay, steps)
    schedule = timing.schedule if timing.delay is None else None
    asked = replace(
        prepared.settings, timing=replace(timing, timesteps=steps, delay=delay, schedule=schedule)
    )

    def begin(label: str, ticks: int | None) -> None:
        progress.begin(f"T = {steps}: {label}", ticks)

    listener = Listener(begin, tick=progress.advance)
    conversion = prepare.pipelined(replace(prepared, settings=asked), listener, delays=(0, steps))
    evaluation = convert.evaluated(
        replace(prepared, settings=asked), conversion, progress, f"T = {steps}: evaluate"
    )
    return conversion, evaluation


def _shown(headline: Headline, score: float | None) -> str:
    return f"has no {headline.name}" if score is None else f"{headline.name} {headline.shown(score)}"


def _filled(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Every row with every column: a delay between 0 and T is another one at every T."""
    columns = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in columns} for row in rows]


def _layers(prepared: Named, conversion: Conversion, progress: Progress) -> tuple[list[LayerError], int]:
    """The errors by layer on some test samples, and how many samples these were."""
    settings, device = prepared.settings, prepared.device
    x = trees.to(next(iter(prepared.data.test_batches(LAYER_SAMPLES)))[0], device)
    floats = conversion.folded.to(device)
    there, quantized = conversion.graph.to(device), conversion.quantized.to(device)
    count, size = trees.sample_count(x), settings.data.test_batch_size
    parts = [trees.index(x, slice(start, start + size)) for start in range(0, count, size)]

    def counts_of(part: Inputs) -> dict[str, Tensor]:
        found = simulate(there, part, counts=True, engine=settings.run.engine).counts or {}
        progress.advance(trees.sample_count(part))
        return dict(found)

    return layer_errors(floats, there, parts, counts_of, quantized), count


# Files ---------------------------------------------------------------------------------------------


def _contents(report: AnalyseReport) -> dict[str, bytes]:
    """The files by name; without scores there is no picture of them."""
    name = f"{report.network} on {report.dataset}, {report.settings.quantize.weight_bitwidth}-bit weights"
    score, found = report.headline.name, dict[str, bytes]()
    if report.ann is not None:
        steps = [row["timesteps"] for row in report.by_timesteps]
        found[f"{score}.png"] = pictures.score_against_timesteps(
            name, report.headline, _curves(report), {"ANN": report.ann}, steps
        )
    found[f"{score}.csv"] = as_csv(report.by_timesteps)
    title = f"{name}, T = {report.timesteps}, D = {report.delay}"
    found["layers.png"] = pictures.error_by_layer(title, report.layers)
    columns, errors = [each.name for each in fields(LayerError)], [asdict(error) for error in report.layers]
    found["layers.csv"] = as_csv(errors, columns)
    return found


def _curves(report: AnalyseReport) -> dict[str, list[float]]:
    return {f"SNN {name}": [row[name.value] for row in report.by_timesteps] for name in Schedule}
