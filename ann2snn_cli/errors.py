"""Every error this tool raises on purpose: what happened, where, and the remedy.

Ann2SnnError                 exit code 1
├── UnsupportedNetwork         a network that cannot be traced or converted
├── BadWeights                 a checkpoint that does not fit, or holds NaN
├── BadFile                    a file that is damaged, or not ours
│   ├── DownloadFailed         a file that cannot be fetched, or is another one than was asked for
│   └── MissingFile            exit code 2: none of that name, or a folder in its place
├── BadData                    a dataset that is absent or malformed
│   └── MissingData            exit code 2: no file or folder of that name
├── InvalidGraph               a graph that breaks the rules of its level (our own fault)
├── UsageError                 exit code 2: a wrong name, value or setting
│   └── WrongKind                a value of a kind that is not taken; a TypeError, too
├── HardwareViolations         exit code 3: a limit of the chip is broken
└── VerificationMismatch       exit code 4: two twins disagree

Stopped                      exit code 130 (Ctrl-C) or 143 (SIGTERM): ended by the user

A remedy often names a setting. Which words name it depends on the reader: `--weight_bitwidth 4` on the
command line, `weight_bitwidth=4` in Python. So a text holds the setting itself (`Setting`), and who shows the
text says how it is spelled.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

_SETTING = re.compile(r"‹(\w+)(?:=([^‹›]*))?›")


@dataclass(frozen=True)
class Setting:
    """A setting, and the value to give it, inside a text: f"lower {Setting('weight_bitwidth')}"."""

    name: str  # as flags and the Python API name it
    value: Any = None  # None: the setting as such; else a word, a number, True or False, or a tuple of words

    def __str__(self) -> str:
        return f"‹{as_argument(self)}›"


def as_argument(setting: Setting) -> str:
    """The setting as Python writes it: `weight_bitwidth=4`."""
    value = str(setting.value) if isinstance(setting.value, str) else setting.value  # an enum is its word
    return setting.name if value is None else f"{setting.name}={value!r}"


def as_words(setting: Setting) -> str:
    """The setting in words that neither side owns, for files that both write: `weight_bitwidth 4`."""
    return setting.name if setting.value is None else f"{setting.name} {setting.value}"


def spelled(text: str, spell: Callable[[Setting], str] = as_argument) -> str:
    """The text with every setting in it written out."""

    def write(found: re.Match[str]) -> str:
        name, value = found.groups()
        return spell(Setting(name, None if value is None else ast.literal_eval(value)))

    return _SETTING.sub(write, text)


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
        return spelled(f"{self.what}{self._details()}{where}{remedy}")

    def _details(self) -> str:
        return ""


class UnsupportedNetwork(Ann2SnnError):
    """A network that cannot be traced or converted."""


class BadWeights(Ann2SnnError):
    """A checkpoint that does not fit the network, or holds values no network can use."""


class BadFile(Ann2SnnError):
    """A file that is damaged, unreadable, or not one of ours."""


class DownloadFailed(BadFile):
    """A file that cannot be fetched, or is another one than was asked for."""


class MissingFile(BadFile):
    """A wrong name: there is no such file, or a folder where a file should be."""

    exit_code = 2


class BadData(Ann2SnnError):
    """A dataset that is absent or malformed."""


class MissingData(BadData):
    """A wrong name: there is no such file or folder."""

    exit_code = 2


class InvalidGraph(Ann2SnnError):
    """A graph that breaks the rules of its level: a fault of this tool, found where it was made."""

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        report = "this is a fault of ann2snn: please report it with the network"
        super().__init__(what, where=where, remedy=remedy or report)


class UsageError(Ann2SnnError):
    """A wrong name, value or setting."""

    exit_code = 2


class WrongKind(UsageError, TypeError):
    """A value of a kind that is not taken; the remedy names those that are."""


class HardwareViolations(Ann2SnnError):
    """The network breaks limits of the hardware; `violations` lists every one."""

    exit_code = 3

    def __init__(self, what: str, violations: Sequence[object], *, where: str = "", remedy: str = "") -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.violations = tuple(violations)

    def _details(self) -> str:
        return "".join(f"\n  - {violation_line(violation)}" for violation in self.violations)


def violation_line(violation: Any) -> str:
    """A broken limit in one line: layer, rule, what it is, what it may be, and the remedy."""
    facts = {name: getattr(violation, name, "") for name in ("layer", "rule", "actual", "limit", "remedy")}
    is_clause = str(facts["actual"]).startswith(("it ", "its "))  # "it pools the input itself"
    form = "{actual}, and {rule} asks for {limit}" if is_clause else "{rule} is {actual}, the limit {limit}"
    line = f"{facts['layer']}: {form.format(**facts)}"
    return f"{line}; {facts['remedy']}" if facts["remedy"] else line


class Stopped(KeyboardInterrupt):
    """The user ended it: Ctrl-C, or a signal that asks to end. No fault, so no Ann2SnnError.

    `remedy` says how to go on where that is possible.
    """

    def __init__(self, what: str = "interrupted", *, remedy: str = "", exit_code: int = 130) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.exit_code = exit_code

    @staticmethod
    def told(stopped: KeyboardInterrupt, remedy: str) -> Stopped:
        """The same end, with how to go on."""
        again = stopped if isinstance(stopped, Stopped) else Stopped()
        again.remedy = remedy
        return again


class VerificationMismatch(Ann2SnnError):
    """Two implementations of the same arithmetic disagree."""

    exit_code = 4
