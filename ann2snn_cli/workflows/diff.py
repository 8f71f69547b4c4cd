"""Diff: where two vector packs differ, or a pack and a simulator's log."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ann2snn_cli.errors import BadFile, MissingFile
from ann2snn_cli.packs import diff as comparing
from ann2snn_cli.packs.diff import Comparison
from ann2snn_cli.stages.export import replacement
from ann2snn_cli.twins.replay import MANIFEST, Damaged, problems, read
from ann2snn_cli.workflows.report import SILENT, Progress, Report
from ann2snn_cli.workflows.verify import refuse_no_pack

A_LOG = (
    "give a second vector pack, a CSV with the columns sample, layer, step, neuron, and spike or potential, "
    "or a folder of memory files named as in the pack's expect/"
)


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
    refuse_no_pack(one, "a file, and no folder of a vector pack")
    if not other.is_dir() and not other.is_file():  # nobody knows when a pipe ends
        what = "it is neither a file nor a folder" if other.exists() else "it does not exist"
        raise MissingFile(what, where=str(other), remedy=A_LOG)
    try:
        pack = read(one)
        is_pack = (other / MANIFEST).is_file()
        found = comparing.packs(pack, read(other)) if is_pack else comparing.log(pack, other)
    except Damaged as error:
        damaged = [each for each in (one, other) if _is_of(each, error)]
        raise BadFile(
            f"it cannot be compared: {error}",
            where=", ".join(map(str, damaged or [other])),
            remedy="export it again, or copy it again in full" if damaged else A_LOG,
        ) from error
    except OSError as error:
        where = str(error.filename or other)
        raise BadFile(f"it cannot be read: {error.strerror}", where=where, remedy=A_LOG) from error
    first = found.activity.first
    return DiffReport(one, other, found, "" if first is None else comparing.describe(pack, first))


def _is_of(folder: Path, error: Damaged) -> bool:
    """Is it a pack, and did this happen because its files are not what its manifest says?"""
    if not (folder / MANIFEST).is_file():
        return False
    return bool({each.file for each in problems(folder)} & {each.file for each in error.problems})
