"""Diff: where two vector packs differ, or a pack and a simulator's log."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ann2snn_cli.errors import BadFile, MissingFile
from ann2snn_cli.packs import diff as comparing
from ann2snn_cli.packs.diff import Comparison
from ann2snn_cli.stages.export import replacement
from ann2snn_cli.twins.replay import MANIFEST, Damaged, read
from ann2snn_cli.workflows.report import SILENT, Progress, Report
from ann2snn_cli.workflows.verify import refuse_no_pack


@dataclass(frozen=True)
class DiffRequest:
    """A pack, and another one or a log."""

    one: Path
    other: Path


@dataclass(frozen=True, eq=False)
class DiffReport(Report):
    """What differs: the network first, then the first spike or potential."""

    SCHEMA = "ann2snn/diff/1"

    one: Path
    other: Path
    comparison: Comparison
    first: str  # the first difference of the activity, in words; "" where there is none

    def facts(self) -> dict[str, Any]:
        """The document."""
        activity = self.comparison.activity
        return {
            "one": self.one,
            "other": self.other,
            "same": self.comparison.same,
            "network": self.comparison.network,
            "checked": activity.checked,
            "mismatches": activity.mismatches,
            "first": None if activity.first is None else asdict(activity.first) | {"text": self.first},
        }


def diff(request: DiffRequest, progress: Progress = SILENT) -> DiffReport:
    """Compare a pack with another pack, or with a simulator's log."""
    one, other = request.one, request.other
    for each in (one, other):
        replacement.finish(each, progress.line)
    refuse_no_pack(one)
    if not other.exists():
        raise MissingFile("it does not exist", where=str(other), remedy="give another pack, or a log")
    try:
        pack = read(one)
        is_pack = (other / MANIFEST).is_file()
        found = comparing.packs(pack, read(other)) if is_pack else comparing.log(pack, other)
    except Damaged as error:
        raise BadFile(
            "it cannot be compared: " + str(error),
            where=f"{one}, {other}",
            remedy="give a vector pack, and a second one, or a log: ann2snn diff says what it holds",
        ) from error
    first = found.activity.first
    return DiffReport(one, other, found, "" if first is None else comparing.describe(pack, first))
