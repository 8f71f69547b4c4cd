"""How often values occur: integer histograms that do not depend on the order in which values came."""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 1 << 14  # at least half of them are in use, so a clip is right to 1/8192 of the largest activation


class Histogram:
    """How often values occur: equal bins over [0, 2^k), where k grows with the largest value.

    When a value does not fit, neighbouring bins merge in pairs. Edges nest, so the result is the same as if
    the final range had been known from the start.
    """

    def __init__(self) -> None:
        self.counts = torch.zeros(BINS, dtype=torch.int64)
        self.exponent: int | None = None  # none until a positive value is seen
        self.zeros = 0
        self.largest = 0.0

    def add(self, values: Tensor) -> None:
        """Count values that are not negative."""
        values = values.detach().flatten().float()
        largest = float(values.amax()) if values.numel() else 0.0
        # Signs are quicker to add up than zeros to compare; so many of them float32 adds up exactly.
        zeros = values.numel() - sum(int(part.sign().sum()) for part in torch.split(values, 1 << 24))
        self.zeros += zeros
        if largest <= 0:
            return
        self.largest = max(self.largest, largest)
        self._widen(_exponent(largest))
        assert self.exponent is not None
        # By a power of two: exact, also in float32.
        bins = (values * (BINS / 2.0**self.exponent)).clamp_(max=BINS - 1).to(torch.int16)
        counts = torch.bincount(bins, minlength=BINS).cpu()
        counts[0] -= zeros
        self.counts += counts

    def _widen(self, exponent: int) -> None:
        if self.exponent is None:
            self.exponent = exponent
        while self.exponent < exponent:
            pairs = self.counts.reshape(-1, 2).sum(dim=1)
            self.counts = torch.cat([pairs, torch.zeros(BINS // 2, dtype=torch.int64)])
            self.exponent += 1

    @property
    def edges(self) -> Tensor:
        """The upper edge of each bin."""
        exponent = self.exponent if self.exponent is not None else 0
        return torch.arange(1, BINS + 1, dtype=torch.float64) * 2.0**exponent / BINS

    def percentile(self, percent: float) -> float:
        """The value that `percent` of all values, zeros included, do not exceed (to one bin)."""
        total = self.zeros + int(self.counts.sum())
        rank = percent / 100 * total
        if self.zeros >= rank:
            return 0.0
        reached = self.zeros + self.counts.cumsum(0)
        first = int((reached >= rank).to(torch.int8).argmax())
        return min(float(self.edges[first]), self.largest)


def _exponent(largest: float) -> int:
    """The smallest k with largest < 2^k."""
    return int(torch.frexp(torch.tensor(largest, dtype=torch.float64)).exponent)
