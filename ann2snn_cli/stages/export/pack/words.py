"""Integers as the text that `$readmemh` reads: one fixed-width hexadecimal word a line."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8)


def digits(bits: int) -> int:
    """Hexadecimal digits of a word."""
    return -(-bits // 4)


def words(values: Array, bits: int, encoding: str) -> bytes:
    """Values in memory order, a word a line: `two's complement`, `unsigned` or `bipolar`."""
    flat = values.ravel().astype(np.int64)
    if encoding == "bipolar":
        assert np.all(np.abs(flat) == 1), "a bipolar value is neither -1 nor 1"
        flat = (flat + 1) // 2
    low, high = (
        (0, 2**bits - 1) if encoding != "two's complement" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    )
    assert flat.size == 0 or (flat.min() >= low and flat.max() <= high), f"values exceed {bits} bits"
    return _lines(flat & (2**bits - 1), digits(bits))


def _lines(values: Array, width: int) -> bytes:
    shifts = np.arange(4 * (width - 1), -1, -4)
    return _text(values[:, None] >> shifts & 15)


def spike_lines(spikes: Array) -> bytes:
    """[steps, neurons] as a line a step: bit i, counted from the right, is neuron i."""
    steps, neurons = spikes.shape
    padded = np.zeros((steps, 4 * digits(neurons)), np.int64)
    padded[:, :neurons] = spikes
    nibbles = padded.reshape(steps, -1, 4) @ np.array([1, 2, 4, 8])
    return _text(nibbles[:, ::-1])


def _text(nibbles: Array) -> bytes:
    """[lines, digits] with a line's end behind each."""
    lines = np.full((nibbles.shape[0], nibbles.shape[1] + 1), ord("\n"), np.uint8)
    lines[:, :-1] = _DIGITS[nibbles]
    return lines.tobytes()
