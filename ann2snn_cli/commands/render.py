"""How results and progress look: results on stdout, as text or as one JSON document; progress on stderr."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from ann2snn_cli.commands.flags import as_flag, in_flags
from ann2snn_cli.errors import UsageError

if TYPE_CHECKING:
    from ann2snn_cli.workflows.report import Report

LOUDNESS = "ann2snn.loudness"  # of a context
SECONDS_BETWEEN_LINES = 15.0  # at most, in a log
PACES = 15  # of the last steps, whose median is the usual one
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"  # with our own remaining time: tqdm's jumps


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


def percent(fraction: float | None) -> str:
    """`0.9711` as `97.11 %`; a dash where there is no number."""
    return "-" if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.2f} %"


class Loudness(Enum):
    """How much of the work is told on stderr."""

    QUIET = 0
    USUAL = 1
    VERBOSE = 2


def set_loudness(context: click.Context, wanted: Loudness) -> None:
    """Keep what -q or -v asks for; both at once are refused."""
    if context.meta.setdefault(LOUDNESS, wanted) is not wanted:
        raise UsageError("-q and -v contradict each other", where=context.command_path, remedy="give one")


def loudness() -> Loudness:
    """What the command that runs was asked for."""
    context = click.get_current_context(silent=True)
    return context.meta.get(LOUDNESS, Loudness.USUAL) if context else Loudness.USUAL


def say(line: str, least: Loudness = Loudness.USUAL) -> None:
    """One line of progress, where the command is to be so loud."""
    if loudness().value >= least.value:
        note(line)


def note(line: str) -> None:
    """One line on stderr, however loud. Where that is full, or nobody reads it, the work goes on."""
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
    moved: float = 0.0  # when it was told of steps the last time
    paces: deque[float] = field(default_factory=lambda: deque(maxlen=PACES))  # seconds a step

    def advance(self, count: int, now: float) -> None:
        """So many steps more are done. How long the first took is not counted: it warms up."""
        if self.done and count > 0:
            self.paces.append((now - self.moved) / count)
        self.done, self.moved = self.done + count, now

    def left(self) -> str:
        """The remaining time at the usual pace, coarsely; "" where nobody knows."""
        if not self.steps or not self.paces:
            return ""
        return f"{coarsely(statistics.median(self.paces) * max(0, self.steps - self.done))} left"

    def __str__(self) -> str:
        """Elapsed and remaining time: what a log is told."""
        facts = [f"{tqdm.format_interval(time.monotonic() - self.began)} elapsed", self.left()]
        if self.steps:
            facts.insert(0, f"{self.done} of {self.steps} {self.unit}".rstrip())
        return f"{self.label}: {', '.join(fact for fact in facts if fact)}"


def coarsely(seconds: float) -> str:
    """A time that is estimated, no finer than it is known: about 25 s, about 4 min, about 2 h."""
    if seconds < 10:
        return "a few seconds"
    if seconds < 90:
        return f"about {5 * round(seconds / 5)} s"
    minutes = round(seconds / 60)
    return f"about {minutes} min" if minutes < 90 else f"about {round(minutes / 60)} h"


class ProgressBar:
    """A bar on stderr; where stderr is no terminal, plain lines: no 15 seconds pass without one.

    With -q there is neither; with -v each part says how long it took.

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
        self._loudness = loudness()  # a thread of its own has no context to ask
        self._log = _LogLines(self.line)
        self._ended = threading.Event()
        self._clock = threading.Thread(target=self._watch_the_clock, daemon=True)

    def __enter__(self) -> ProgressBar:
        self._clock.start()
        self._log.begin(logging.DEBUG if self._loudness is Loudness.VERBOSE else logging.INFO)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._log.end()
        self._close()

    def begin(self, label: str, steps: int | None = None, unit: str = "") -> None:
        """A part of the work begins that takes so many steps: a line, and a new bar."""
        self._close()
        self.line(label)
        self._part = _Part(label, steps, unit, time.monotonic())
        # disable=None is tqdm's own way to say: only on a terminal.
        self._bar = tqdm(
            total=steps,
            desc=label,
            unit=f" {unit}" if unit else "",
            disable=True if self._loudness is Loudness.QUIET else None,
            leave=False,
            dynamic_ncols=True,
            bar_format=BAR if steps else "{desc}: {elapsed}",
        )

    def advance(self, count: int = 1) -> None:
        """So many steps more are done."""
        if self._part is not None and self._bar is not None:
            self._part.advance(count, time.monotonic())
            self._bar.set_postfix_str(self._part.left(), refresh=False)
            self._bar.update(count)

    def line(self, text: str) -> None:
        """A plain line, above the bar if there is one; none where the command is to be quiet."""
        if self._loudness is Loudness.QUIET:
            return
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
        part, self._part = self._part, None
        if part is not None and self._loudness is Loudness.VERBOSE:
            self.line(f"{part.label}: took {time.monotonic() - part.began:.1f} s")
        if self._bar is not None:
            self._bar.close()


class _LogLines(logging.Handler):
    """What the package logs, such as a download, as lines of progress."""

    def __init__(self, line: Callable[[str], None]) -> None:
        super().__init__()
        self._line, self._logger = line, logging.getLogger("ann2snn_cli")
        self._before = self._logger.level

    def begin(self, level: int) -> None:
        """From now on, of this level and above."""
        self._logger.setLevel(level)
        self._logger.addHandler(self)

    def end(self) -> None:
        """Leave the logger as it was."""
        self._logger.removeHandler(self)
        self._logger.setLevel(self._before)

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        self._line(record.getMessage())


def _color() -> bool | None:
    return False if os.environ.get("NO_COLOR") else None  # None: click asks the stream


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
