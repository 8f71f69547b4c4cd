"""How results and progress look: results on stdout, as text or as one JSON document; progress on stderr."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from ann2snn_cli.commands.flags import as_flag, in_flags

if TYPE_CHECKING:
    from ann2snn_cli.workflows.report import FileEntry, Report

SECONDS_BETWEEN_LINES = 15.0  # at most, in a log


def show(report: Report, as_json: bool, text: Callable[[], str]) -> None:
    """Print a report, once: as JSON, or as the text for people."""
    emit(report.to_json(as_flag) if as_json else {}, as_json, text)


def emit(document: dict[str, Any], as_json: bool, text: Callable[[], str]) -> None:
    """Print the result of a command, once: the document, which names its `schema`, or the text for people.

    With --json, `main` keeps everything else off stdout, so the result goes to the stream it put aside.
    """
    context = click.get_current_context(silent=True)
    stream = context.find_root().obj if context else None
    result = to_json(document) if as_json else in_flags(text()).rstrip("\n")
    click.echo(result, file=stream, color=_color())


def to_json(document: dict[str, Any]) -> str:
    """One JSON document. JSON knows no NaN and no infinity: they become null."""
    plain = _finite(document)
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False, default=str)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a path of bytes that are no text, or a terminal without these letters
        text = json.dumps(plain, indent=2, allow_nan=False, default=str)
    return text


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns aligned by hand; a column of numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    columns = list(zip(headers, *cells, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(headers))]
    lines = [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in [list(headers), ["-" * width for width in widths], *cells]
    ]
    return "\n".join(lines)


def files_table(files: Sequence[FileEntry]) -> str:
    """What was written: a line a file."""
    return table(["file", "bytes", "what"], [[file.path, file.bytes, file.what] for file in files])


def percent(fraction: float | None) -> str:
    """`0.9711` as `97.11 %`; a dash where there is no number."""
    return "-" if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.2f} %"


def note(line: str) -> None:
    """One line of progress, on stderr. Where that is full, or nobody reads it, the work goes on."""
    with contextlib.suppress(OSError):
        click.echo(in_flags(line), err=True, color=_color())


@dataclass
class _Part:
    """A part of the work, and how far it is."""

    label: str
    steps: int | None
    unit: str
    began: float
    done: int = 0

    def __str__(self) -> str:
        """Elapsed and remaining time: what a log is told."""
        seconds = time.monotonic() - self.began
        facts = [f"{tqdm.format_interval(seconds)} elapsed"]
        if self.steps:
            facts.insert(0, f"{self.done} of {self.steps} {self.unit}")
        if self.steps and self.done:
            left = seconds / self.done * max(0, self.steps - self.done)
            facts.append(f"about {tqdm.format_interval(left)} left")
        return f"{self.label}: {', '.join(facts)}"


class ProgressBar:
    """A bar on stderr; where stderr is no terminal, plain lines: no 15 seconds pass without one.

    with ProgressBar() as progress:
        progress.begin("finetune", steps=5 * batches)
        progress.advance()
        progress.line("epoch 1/5  loss 0.312  accuracy 96.40 %")
    """

    def __init__(self, seconds: float = SECONDS_BETWEEN_LINES) -> None:
        self._seconds = seconds
        self._bar: tqdm[Any] | None = None
        self._part: _Part | None = None
        self._last_line = time.monotonic()
        self._ended = threading.Event()
        self._clock = threading.Thread(target=self._watch_the_clock, daemon=True)

    def __enter__(self) -> ProgressBar:
        self._clock.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._close()

    def begin(self, label: str, steps: int | None = None, unit: str = "batches") -> None:
        """A part of the work begins that takes so many steps: a line, and a new bar."""
        self._close()
        self.line(label)
        self._part = _Part(label, steps, unit, time.monotonic())
        # disable=None is tqdm's own way to say: only on a terminal.
        self._bar = tqdm(
            total=steps,
            desc=label,
            unit=f" {unit}",
            disable=None,
            leave=False,
            dynamic_ncols=True,
            bar_format=None if steps else "{desc}: {elapsed}",
        )

    def advance(self, count: int = 1) -> None:
        """So many steps more are done."""
        if self._part is not None and self._bar is not None:
            self._part.done += count
            self._bar.update(count)

    def line(self, text: str) -> None:
        """A plain line, above the bar if there is one."""
        self._last_line = time.monotonic()
        with tqdm.external_write_mode():
            note(text)

    def _watch_the_clock(self) -> None:
        """A step may take minutes: the time is told beside the work, not by it."""
        while not self._ended.wait(min(1.0, self._seconds)):
            part, bar = self._part, self._bar
            with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
                if bar is not None and not bar.disable:
                    bar.refresh()
                elif part is not None and time.monotonic() - self._last_line >= self._seconds:
                    self.line(str(part))

    def _close(self) -> None:
        self._part = None
        if self._bar is not None:
            self._bar.close()


def _color() -> bool | None:
    return False if os.environ.get("NO_COLOR") else None  # None: click asks the stream


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else in_flags(str(value))


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float) or str(value).endswith(" %")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
