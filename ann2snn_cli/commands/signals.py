"""Ctrl-C and SIGTERM end a command: half-written files are removed, programs beside it ended."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from ann2snn_cli.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)
HAS_TIMER = hasattr(signal, "setitimer")  # not so on Windows
AGAIN = 0.05  # seconds until a signal that came in the middle of an import is looked at again
PATIENCE = 100  # times


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt of SIGINT, `Stopped` of SIGTERM, but in the middle of an import.

    What is half imported may swallow an exception, abort the process, or be broken for who imports it next:
    there a signal waits until the import is done, for a few seconds. A second one does not wait.
    """
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    handler = _Handler()
    numbers = (*SIGNALS, signal.SIGALRM) if HAS_TIMER else SIGNALS
    before = [(number, signal.signal(number, handler)) for number in numbers]
    try:
        yield
    finally:
        handler.forget()
        for number, handlers in before:
            signal.signal(number, handlers)


class _Handler:
    """Holds a signal back while something is imported."""

    def __init__(self) -> None:
        self.waiting: int | None = None
        self.left = PATIENCE

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """A signal, or the timer that asks again about one that waits."""
        is_timer = number not in SIGNALS
        if is_timer and self.waiting is None:  # another one's timer
            return
        comes_first = is_timer or self.waiting is None
        number = self.waiting if is_timer and self.waiting is not None else number
        if comes_first and self.left and HAS_TIMER and _is_importing(frame):
            self.waiting, self.left = number, self.left - 1
            signal.setitimer(signal.ITIMER_REAL, AGAIN)
            return
        self.forget()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Stopped("terminated", exit_code=128 + number)

    def forget(self) -> None:
        """Nothing waits, and no timer is left to end a process that has no handler for it."""
        if self.left < PATIENCE:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self.waiting = None


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
