"""What reports share: how they become JSON, the files they list, and how far a use case is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ann2snn_cli.errors import Setting, as_argument, spelled

if TYPE_CHECKING:
    from ann2snn_cli.types import EpochReport, Headline

Spell = Callable[[Setting], str]


class Report(ABC):
    """The result of a use case: a frozen dataclass that tables, files and JSON are made from."""

    SCHEMA: ClassVar[str]

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """The content as plain Python, all but the schema."""

    def to_json(self, spell: Spell = as_argument) -> dict[str, Any]:
        """One JSON document; `spell` says how settings are named in it: as Python arguments, or as flags."""
        return {"schema": self.SCHEMA, **plain(self.facts(), spell)}


def plain(value: Any, spell: Spell = as_argument) -> Any:
    """The value fit for JSON: settings in texts spelled out, enums as words, NaN and infinity as null."""
    if isinstance(value, Enum | Path):
        return str(value)
    if isinstance(value, str):
        return spelled(value, spell)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {plain(key, spell): plain(item, spell) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, spell) for item in value]
    return value


@dataclass(frozen=True)
class FileEntry:
    """A file or folder that was written."""

    path: str  # a folder's ends in /
    bytes: int | None  # None where the file cannot know its own size
    what: str


class Progress(Protocol):
    """Who is told how far a use case is."""

    def begin(self, label: str, steps: int | None = None, unit: str = "") -> None:
        """A part of the work begins that takes so many steps; None: nobody knows how many."""

    def advance(self, count: int = 1) -> None:
        """So many steps more are done."""

    def line(self, text: str) -> None:
        """A line for a log."""


class Silent:
    """A Progress that tells nobody."""

    def begin(self, label: str, steps: int | None = None, unit: str = "") -> None:
        """Do nothing."""

    def advance(self, count: int = 1) -> None:
        """Do nothing."""

    def line(self, text: str) -> None:
        """Do nothing."""


SILENT = Silent()


def epoch_line(report: EpochReport, headline: Headline) -> str:
    """How an epoch of training went, for a log."""
    numbers = [
        f"{name} {headline.shown(value, name)}" for name, value in report.results.items() if name != "loss"
    ]
    return "  ".join([f"epoch {report.epoch}/{report.epochs}", f"loss {report.loss:.4f}", *numbers])
