"""The pools: average pooling, whose integers are sums, and max pooling, the difference of running maxima."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ann2snn_cli.ir.ops.base import Activity, Held, Integers, LinearOp, Op, Place, cast, each
from ann2snn_cli.ir.units import UnitsDiffer, along, apart
from ann2snn_cli.types import Shape

_AVG_POOL: dict[int, Callable[..., Tensor]] = {2: F.avg_pool2d, 3: F.avg_pool3d}
_MAX_POOL: dict[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def _by_channel(values: Tensor, place: Place, *, strict: bool) -> Tensor:
    """One number a channel: those of a window must agree, unless only the first counts."""
    if values.dim() == 0:
        return values
    (feeder,) = place.feeders
    found = along(values, 0, feeder.shape)
    if found is None and strict:
        raise UnitsDiffer(place.node.name, place.label)
    if found is None:
        found = values.expand(feeder.shape).flatten(1)[:, 0]
    return found.reshape(-1, *[1] * (len(place.shape) - 1))


def _details(kernel: Shape, stride: Shape, padding: Shape) -> str:
    extras = [] if stride == kernel else each("stride", stride, 1)
    return ", ".join(["x".join(map(str, kernel)), *extras, *each("padding", padding, 0)])


@dataclass(frozen=True, eq=False)
class AvgPool(LinearOp):
    """The mean of each window, zeros of the padding included. SPIKING: the integer sum of each window."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    divisor: Tensor | None = None  # below SPIKING, [1, windows...]: how many values count, if not all do

    @property
    def area(self) -> int:
        """How many values a window holds."""
        return math.prod(self.kernel)

    def details(self) -> str:
        """Its window."""
        return _details(self.kernel, self.stride, self.padding)

    def linear(self, xs: list[Tensor], shape: Shape) -> Tensor:
        """The sum of each window."""
        (x,) = xs
        if len(self.kernel) == 1:  # torch's 1d pooling cannot leave the division out
            kernel, stride, padding = (1, *self.kernel), (1, *self.stride), (0, *self.padding)
            return F.avg_pool2d(x.unsqueeze(2), kernel, stride, padding, divisor_override=1).squeeze(2)
        return _AVG_POOL[len(self.kernel)](x, self.kernel, self.stride, self.padding, divisor_override=1)

    @property
    def count(self) -> int | Tensor:
        """The number that the sum of each window is divided by."""
        return self.area if self.divisor is None else self.divisor.to(torch.float64)

    def real(self, xs: list[Tensor], shape: Shape) -> Tensor:
        """The mean of each window."""
        return self.linear(xs, shape) / (self.area if self.divisor is None else cast(self.divisor, xs[0]))

    def integers(self, units: list[Tensor], place: Place) -> Integers:
        """1/area goes into the unit."""
        return replace(self, divisor=None), _by_channel(units[0], place, strict=True) / self.count

    def branches(self, labels: list[Tensor], place: Place) -> Tensor | None:
        """As its units are others now, each branch becomes one of its own; channels stay together."""
        return apart(_by_channel(labels[0], place, strict=False))


@dataclass(frozen=True, eq=False)
class MaxPool(Op):
    """The maximum of each window. SPIKING: by how much the largest sum so far of the window has grown.

    With N_i(t) the sum of input i up to step t it passes on max_i N_i(t) − max_i N_i(t−1): exact at every
    step, of spikes 0 or 1, and the same rule for currents.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool = False

    keeps_spikes = True
    monotone = True

    def details(self) -> str:
        """Its window."""
        return _details(self.kernel, self.stride, self.padding)

    def highest(self, x: Tensor) -> Tensor:
        """The maximum of each window; padding never wins."""
        pool = _MAX_POOL[len(self.kernel)]
        return pool(x, self.kernel, self.stride, self.padding, self.dilation, ceil_mode=self.ceil_mode)

    def real(self, xs: list[Tensor], shape: Shape) -> Tensor:
        """The maximum of each window."""
        return self.highest(xs[0])

    def sums(self, xs: list[Tensor], place: Place) -> Tensor:
        """The maximum of the sums."""
        return self.highest(xs[0])

    def train(self, trains: list[Tensor], place: Place) -> Activity:
        """The difference of running maxima."""
        so_far = trains[0].cumsum(0).flatten(0, 1)
        highest = self.highest(so_far)
        highest = highest.reshape(*trains[0].shape[:2], *highest.shape[1:])
        return Activity(torch.cat([highest[:1], highest[1:] - highest[:-1]]))

    def advance(self, xs: list[Tensor], held: Held, step: int, place: Place) -> tuple[Tensor, Held]:
        """By how much the largest sum has grown; it holds the sums and the largest of each window."""
        so_far = held["sum"] + xs[0] if held else xs[0]
        highest = self.highest(so_far)
        grown = highest - held["largest"] if held else highest
        return grown, {"sum": so_far, "largest": highest}

    def span(self, spans: list[Tensor], place: Place) -> Tensor:
        """The maximum of the sums so far grows by no more, and no less, than one of its inputs does."""
        low, high = spans[0][:1], spans[0][1:]
        return torch.cat([-self.highest(-low), self.highest(high)])

    def integers(self, units: list[Tensor], place: Place) -> Integers:
        """The op itself: of one unit the largest integer is the largest value."""
        return self, _by_channel(units[0], place, strict=True)

    def branches(self, labels: list[Tensor], place: Place) -> Tensor | None:
        """A channel stays in its branch."""
        return _by_channel(labels[0], place, strict=False)
