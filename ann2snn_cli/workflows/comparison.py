"""What comparisons of SNNs share: a network without finetuning, scores that are numbers, and a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ann2snn_cli.config import Finetune, Settings
from ann2snn_cli.errors import UnsupportedNetwork
from ann2snn_cli.types import Headline
from ann2snn_cli.workflows import prepare
from ann2snn_cli.workflows.folders import ResultFolder
from ann2snn_cli.workflows.prepare import Named
from ann2snn_cli.workflows.report import Progress, Report, Spell


class Asked(Protocol):
    """What every comparison is asked."""

    @property
    def settings(self) -> Settings:
        """Of which the finetuning does not count."""

    @property
    def save_dir(self) -> Path | None:
        """The folder for the files."""

    @property
    def overwrite(self) -> bool:
        """Replace files that are not ours."""

    @property
    def spell(self) -> Spell:
        """How settings are named in the manifest that is written."""


Compared = TypeVar("Compared", bound=Report)


def begun(asked: Asked, ending: str, progress: Progress) -> tuple[Named, ResultFolder]:
    """The network and the data, and where the results go: NETWORK_ENDING unless a folder is named."""
    progress.begin("load the network and the data")
    prepared = prepare.by_name(replace(asked.settings, finetune=Finetune(epochs=0)))
    folder = ResultFolder.of(prepared, ending, asked.save_dir, asked.overwrite)
    folder.refuse_loss(progress)
    for line in (prepared.weights_line, *prepared.notes):
        progress.line(line)
    return prepared, folder


def written(
    report: Compared, contents: Mapping[str, bytes], folder: ResultFolder, spell: Spell, progress: Progress
) -> Compared:
    """The report with the files that were written, and what is said of those that lay there."""
    named: dict[str, Any] = {"files": tuple(folder.path / name for name in contents)}
    report = replace(report, **named)  # type: ignore[type-var]  # every report of a comparison has these fields
    named = {"notes": folder.write(contents, report.to_json(spell), progress)}
    return replace(report, **named)  # type: ignore[type-var]


def known(score: float | None, headline: Headline, network: str) -> float:
    """Refused where the task has no number for such outputs."""
    if score is None:
        raise UnsupportedNetwork(
            f"there is no {headline.name} to compare: its outputs are none of which there is one",
            where=network,
            remedy="give a network with a score for each class, or with the numbers of a regression",
        )
    return score
