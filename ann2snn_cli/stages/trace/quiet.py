"""What torch prints while it exports a network: where the export fails, our error says it in a few lines."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import TextIO


@contextmanager
def quiet() -> Iterator[None]:
    """Drop what is written to stderr, torch's warnings and graphs; not what other threads write."""
    with redirect_stderr(_OfOthers(sys.stderr)):
        yield


class _OfOthers(io.TextIOBase):
    """A stream that passes on what other threads write than the one that made it."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.own = stream, threading.get_ident()

    def write(self, text: str) -> int:
        """Write it, unless it comes from the thread that is to be quiet."""
        return len(text) if threading.get_ident() == self.own else self.stream.write(text)

    def flush(self) -> None:
        """What was passed on."""
        self.stream.flush()
