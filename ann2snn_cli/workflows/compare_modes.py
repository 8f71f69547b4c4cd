"""Compare modes: one network converted once for each way of setting thresholds, and scored after every step.

Training-free: what the modes differ in, finetuning would even out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ann2snn_cli.catalog import Weights
from ann2snn_cli.config import KEYS, MODES_TO_COMPARE, Calibrate, Settings, as_dict, delay_name
from ann2snn_cli.config.fields import refuse
from ann2snn_cli.errors import Setting, UsageError, as_argument
from ann2snn_cli.pipeline import Listener
from ann2snn_cli.stages.analyse import pictures
from ann2snn_cli.types import Headline
from ann2snn_cli.words import count_of
from ann2snn_cli.workflows import comparison, convert, prepare
from ann2snn_cli.workflows.evaluate import ANN, QUANTIZED, Evaluation
from ann2snn_cli.workflows.folders import as_csv
from ann2snn_cli.workflows.prepare import Named
from ann2snn_cli.workflows.report import SILENT, Progress, Report, Spell


@dataclass(frozen=True)
class CompareModesRequest:
    """A network and data by name; of the settings neither the mode nor the finetuning counts."""

    settings: Settings
    modes: Sequence[str] = MODES_TO_COMPARE
    save_dir: Path | None = None  # None: NETWORK_modes
    overwrite: bool = False
    spell: Spell = as_argument  # how settings are named in the manifest that is written


@dataclass(frozen=True)
class ModeScores:
    """What the conversion of one mode scores, as the headline of the metric."""

    by_step: tuple[float, ...]  # the SNN's after 1, 2, ... T steps
    quantized: float  # of the quantized network, which has no steps


@dataclass(frozen=True)
class CompareModesReport(Report):
    """Every mode's scores after every step."""

    SCHEMA = "ann2snn/compare-modes/1"

    network: str
    dataset: str
    delay: int
    timesteps: int
    samples: int
    headline: Headline
    ann: float
    by_mode: Mapping[str, ModeScores]
    weights: Weights | None
    settings: Settings
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row a step: the SNN of every mode."""
        return [
            {"step": step} | {mode: scores.by_step[step - 1] for mode, scores in self.by_mode.items()}
            for step in range(1, self.timesteps + 1)
        ]

    def facts(self) -> dict[str, Any]:
        """The document."""
        settings = as_dict(self.settings)
        del settings["calibrate"], settings["finetune"]
        return {
            "network": self.network,
            "dataset": self.dataset,
            "delay": self.delay,
            "schedule": delay_name(self.delay, self.timesteps),
            "timesteps": self.timesteps,
            "test_samples": self.samples,
            "metric": self.headline.name,
            "higher_is_better": self.headline.higher_is_better,
            "ann": self.ann,
            "modes": {
                mode: {"quantized": scores.quantized, f"{self.headline.name}_by_step": list(scores.by_step)}
                for mode, scores in self.by_mode.items()
            },
            "weights": self.weights.to_plain() if self.weights else {},
            "files": list(self.files),
            "notes": list(self.notes),
            "settings": settings,
        }


def compare_modes(request: CompareModesRequest, progress: Progress = SILENT) -> CompareModesReport:
    """Convert for every mode, score after every step, and write a picture and its numbers."""
    modes = _read(request.modes)
    prepared, folder = comparison.begun(request, "modes", progress)
    report = _measured(prepared, modes, progress)
    return comparison.written(report, _contents(report), folder, request.spell, progress)


def _read(modes: Sequence[str]) -> tuple[str, ...]:
    """The modes as they are saved; all wrong ones are refused at once."""
    key, where = KEYS["calibrate.mode"], str(Setting("modes"))
    refuse(mistake for mode in modes if (mistake := key.mistake(mode, where)))
    found = tuple(key.parse(mode) for mode in modes)
    twice = [mode for mode in dict.fromkeys(found) if found.count(mode) > 1]
    if twice or not found:
        what = f"named twice: {', '.join(twice)}" if twice else "no mode is named"
        raise UsageError(
            what, where=where, remedy=f"name each once, as in {Setting('modes', 'max,99.9%,mse')}"
        )
    return found


def _measured(prepared: Named, modes: Sequence[str], progress: Progress) -> CompareModesReport:
    by_mode = {}
    for mode in modes:
        score = _scored(prepared, mode, progress)
        by_mode[mode] = _of_mode(score, prepared.name)
        shown = map(score.headline.shown, (by_mode[mode].by_step[-1], by_mode[mode].quantized))
        progress.line(f"mode {mode}: {score.headline.name} {{}}, quantized network {{}}".format(*shown))
    timing, ann = prepared.settings.timing, score.headlines[ANN]
    assert ann is not None
    return CompareModesReport(
        prepared.name,
        prepared.dataset,
        timing.firing_delay,
        timing.timesteps,
        score.samples,
        score.headline,
        ann,
        by_mode,
        prepared.weights,
        prepared.settings,
    )


def _scored(prepared: Named, mode: str, progress: Progress) -> Evaluation:
    """What the conversion with this mode scores after every step."""
    asked = replace(prepared, settings=replace(prepared.settings, calibrate=Calibrate(mode=mode)))

    def begin(label: str, ticks: int | None) -> None:
        progress.begin(f"mode {mode}: {label}", ticks)

    delays = (0, prepared.settings.timing.timesteps)
    conversion = prepare.pipelined(asked, Listener(begin, tick=progress.advance), delays)
    return convert.evaluated(asked, conversion, progress, f"mode {mode}: evaluate", by_step=True)


def _of_mode(score: Evaluation, network: str) -> ModeScores:
    """Its numbers; refused where the task has none for such outputs."""
    comparison.known(score.headlines[ANN], score.headline, network)
    by_step = (comparison.known(value, score.headline, network) for value in score.by_step)
    return ModeScores(tuple(by_step), comparison.known(score.headlines[QUANTIZED], score.headline, network))


# Files ---------------------------------------------------------------------------------------------


def _contents(report: CompareModesReport) -> dict[str, bytes]:
    """The picture, its numbers, and those that have no steps."""
    score, bits = report.headline.name, report.settings.quantize.weight_bitwidth
    title = (
        f"{report.network} on {report.dataset}\nT = {report.timesteps}, D = {report.delay}, "
        f"{bits}-bit weights, no finetuning, {count_of(report.samples, 'test sample')}"
    )
    picture = pictures.score_against_steps(
        title,
        report.headline,
        {mode: scores.by_step for mode, scores in report.by_mode.items()},
        {mode: scores.quantized for mode, scores in report.by_mode.items()},
        report.ann,
    )
    lines = [{"network": "ann", score: report.ann}]
    lines += [{"network": f"quantized {m}", score: scores.quantized} for m, scores in report.by_mode.items()]
    return {f"{score}.png": picture, f"{score}.csv": as_csv(report.rows), "references.csv": as_csv(lines)}
