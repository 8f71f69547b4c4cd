"""Every error this tool raises on purpose: what happened, where, and the remedy.

Ann2SnnError                 exit code 1
├── UnsupportedNetwork         a network that cannot be traced or converted
├── BadWeights                 a checkpoint that does not fit, or holds NaN
├── BadFile                    a file that is missing, damaged, or not ours
├── BadData                    a dataset that is absent or malformed
├── InvalidGraph               a graph that breaks the rules of its level (our own fault)
├── UsageError                 exit code 2: a wrong name, value or setting
├── HardwareViolations         exit code 3: a limit of the chip is broken
└── VerificationMismatch       exit code 4: two twins disagree
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class Ann2SnnError(Exception):
    """What happened, where (in the user's own words: a layer, a file, a key), and what to do."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        where = f" ({self.where})" if self.where else ""
        remedy = f"\n  remedy: {self.remedy}" if self.remedy else ""
        return f"{self.what}{where}{remedy}"


class UnsupportedNetwork(Ann2SnnError):
    """A network that cannot be traced or converted."""


class BadWeights(Ann2SnnError):
    """A checkpoint that does not fit the network, or holds values no network can use."""


class BadFile(Ann2SnnError):
    """A file that is missing, damaged, unreadable, or not one of ours."""


class BadData(Ann2SnnError):
    """A dataset that is absent or malformed."""


class InvalidGraph(Ann2SnnError):
    """A graph that breaks the rules of its level: a fault of this tool, found where it was made."""


class UsageError(Ann2SnnError):
    """A wrong name, value or setting."""

    exit_code = 2


class HardwareViolations(Ann2SnnError):
    """The network breaks limits of the hardware; `violations` lists every one."""

    exit_code = 3

    def __init__(self, what: str, violations: Sequence[object], *, where: str = "", remedy: str = "") -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.violations = tuple(violations)


class VerificationMismatch(Ann2SnnError):
    """Two implementations of the same arithmetic disagree."""

    exit_code = 4
