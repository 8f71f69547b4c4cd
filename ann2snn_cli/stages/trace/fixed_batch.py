"""A network that runs with one batch size only: said in words, with the user's own line."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ann2snn_cli.errors import UnsupportedNetwork

_LOGGER = "torch.fx.experimental.symbolic_shapes"  # told of a size that is fixed, below the line that does it
_FIXED = re.compile(r"set_replacement \w+ = \d+\b")
_OURS = str(Path(__file__).parents[2])


def fixes_batch(error: Exception) -> bool:
    """Did torch.export end with this because a batch may have one size only? (No other size is free.)"""
    return "Constraints violated" in str(error)


def fixed_batch(export_again: Callable[[], object], otherwise: str) -> UnsupportedNetwork:
    """The error; its place is the line that fixes the size, found in a second export, or `otherwise`."""
    return UnsupportedNetwork(
        "forward() takes the number of samples for a plain number, so the network is fixed to one batch size",
        where=_line_of(export_again) or otherwise,
        remedy="write x.shape[0] instead of len(x), int(x.shape[0]) or a number of samples, and operations "
        "on the whole batch instead of a Python loop over it (`for sample in x`)",
    )


class _Watch(logging.Handler):
    """Keeps the user's line that was running when a size was fixed for the first time."""

    line = ""

    def emit(self, record: logging.LogRecord) -> None:
        if not self.line and _FIXED.match(record.getMessage()):
            self.line = _running_line()


def _running_line() -> str:
    """The innermost line that is neither torch's nor the logger's; "" where ours comes first."""
    foreign = ("/torch/", "/sympy/", "/logging/")
    for frame in reversed(traceback.extract_stack()):
        if frame.filename == __file__ or any(part in frame.filename for part in foreign):
            continue
        is_users = not frame.filename.startswith((_OURS, "<"))
        return f"{frame.filename}:{frame.lineno} in {frame.name}" if is_users else ""
    return ""


def _line_of(export_again: Callable[[], object]) -> str:
    logger, watch = logging.getLogger(_LOGGER), _Watch()
    level, propagates = logger.level, logger.propagate
    logger.addHandler(watch)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # nobody else asked for this
    try:
        with suppress(Exception):  # it is known to fail
            export_again()
    finally:
        logger.removeHandler(watch)
        logger.setLevel(level)
        logger.propagate = propagates
    return watch.line
