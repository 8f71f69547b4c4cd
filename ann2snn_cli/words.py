"""Words that every part of the tool forms in the same way."""

from __future__ import annotations


def count_of(number: int, noun: str, plural: str = "") -> str:
    """So many of a thing, in words: `1 sample`, `1,797 samples`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
