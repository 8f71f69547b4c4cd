"""An interval of numbers: what a value can be."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Span:
    """A closed interval of integers, in floats that hold them, or of real numbers; inf: it has no end."""

    low: float
    high: float

    @classmethod
    def of(cls, values: Tensor) -> Span:
        """From the smallest to the largest of the values."""
        return cls(float(values.min()), float(values.max()))

    @property
    def finite(self) -> bool:
        """Does it end on both sides?"""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def bits(self) -> int:
        """The fewest bits of a two's complement register that holds all of it. Needs a finite span.

        n bits hold −2^(n−1) .. 2^(n−1) − 1, so [0, 1] takes 2 and [−1, 0] takes 1.
        """
        low, high = math.floor(self.low), math.ceil(self.high)
        return 1 + max(value.bit_length() for value in (0, high, ~low) if value >= 0)

    @property
    def reach(self) -> float:
        """No sum of some of the terms is larger in magnitude, wherever an engine starts to add them."""
        return max(-self.low, self.high, self.high - self.low)

    def __or__(self, other: Span) -> Span:
        return Span(min(self.low, other.low), max(self.high, other.high))

    def __mul__(self, other: Span) -> Span:
        products = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Span(min(products), max(products))
