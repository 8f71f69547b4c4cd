"""A population as a rule of a user's own sees it: a `Layer`, and once it is calibrated its `Activations`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ann2snn_cli.ir.histogram import Histogram
from ann2snn_cli.types import Shape


@dataclass(frozen=True)
class Layer:
    """Neurons that take the place of one call of an activation."""

    name: str  # as reports call it: "relu1"
    source: str  # the module in the network
    shape: Shape  # of one sample: [channels, ...]
    limit: float | None  # the largest activation it can have: 6 of ReLU6


@dataclass(frozen=True, eq=False)
class Activations(Layer):
    """What the calibration set showed of a population, by its float values."""

    timesteps: int
    histogram: Histogram
    by_mode: Callable[[str], float]  # the clip that a mode such as "99.9%", "mse" or "0.5" would choose
    largest_by_channel: Tensor  # float64, [channels, 1, ...]; of a silent channel that of all

    @property
    def largest(self) -> float:
        """The largest activation."""
        return self.histogram.largest

    @property
    def mean(self) -> float:
        """The mean, zeros included; of every value the middle of its bin."""
        histogram = self.histogram
        total = histogram.zeros + int(histogram.counts.sum())
        middles = histogram.edges - histogram.edges[0] / 2
        return float((middles * histogram.counts).sum()) / max(1, total)

    def percentile(self, percent: float) -> float:
        """What so many percent of all activations, zeros included, do not exceed; if 0, the largest."""
        return self.histogram.percentile(percent) or self.largest

    @property
    def channels(self) -> Shape:
        """The shape of a tensor with one number for each channel."""
        return tuple(self.largest_by_channel.shape)


class Extremes:
    """The largest value of each channel, over samples and places."""

    def __init__(self, axis: int) -> None:
        self.axis = axis + 1  # behind the batch
        self.found: Tensor | None = None

    def add(self, values: Tensor) -> None:
        """Take in a batch, [batch, ...]."""
        if len(values):
            others = [axis for axis in range(1, values.dim()) if axis != self.axis]
            largest = values.amax([0, *others], keepdim=True)[0].double()
            self.found = largest if self.found is None else torch.maximum(self.found, largest)

    def by_channel(self, largest: float) -> Tensor:
        """One number above 0 for each channel, where `largest` is that of all."""
        if self.found is None:
            return torch.tensor(largest, dtype=torch.float64)
        return torch.where(self.found > 0, self.found, torch.full_like(self.found, largest))
