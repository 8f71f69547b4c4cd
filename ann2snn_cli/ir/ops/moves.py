"""The ops that move values and change none: reshape, permute, gather, concat."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ann2snn_cli.ir.ops.base import Integers, LinearOp, Place
from ann2snn_cli.ir.units import compress
from ann2snn_cli.types import Shape


class Move(LinearOp):
    """Base of the moves: units and branches go where the values go."""

    keeps_spikes = True

    def moved(self, values: list[Tensor], place: Place) -> Tensor:
        """A number for each value it passes on, given one for each value it reads; NaN for padding."""
        if all(value.dim() == 0 and bool(value == values[0]) for value in values):
            return values[0]
        laid = [value.expand(feeder.shape)[None] for value, feeder in zip(values, place.feeders, strict=True)]
        return compress(self._placed(laid, place)[0])

    def _placed(self, values: list[Tensor], place: Place) -> Tensor:
        return self.linear(values, place.shape)

    def integers(self, units: list[Tensor], place: Place) -> Integers:
        """The op itself; units travel."""
        return self, self.moved(units, place)

    def branches(self, labels: list[Tensor], place: Place) -> Tensor | None:
        """Labels travel as units do."""
        return self.moved(labels, place)


@dataclass(frozen=True, eq=False)
class Reshape(Move):
    """The same values in the node's shape, in memory order."""

    def linear(self, xs: list[Tensor], shape: Shape) -> Tensor:
        """Keep memory order."""
        return xs[0].reshape(xs[0].shape[0], *shape)


@dataclass(frozen=True, eq=False)
class Permute(Move):
    """The axes in another order: axis i of the result is axis order[i] of the input, the batch left out."""

    order: tuple[int, ...]

    def linear(self, xs: list[Tensor], shape: Shape) -> Tensor:
        """The batch stays first."""
        return xs[0].permute(0, *(axis + 1 for axis in self.order))


@dataclass(frozen=True, eq=False)
class Gather(Move):
    """y.flat[i] = x.flat[index.flat[i]], or 0 where the index is -1.

    Slices, padding, flips, repeats, upsampling.
    """

    index: Tensor  # int64, of the node's shape

    def linear(self, xs: list[Tensor], shape: Shape) -> Tensor:
        """Padding is 0."""
        return self._gathered(xs[0], shape, 0.0)

    def _placed(self, values: list[Tensor], place: Place) -> Tensor:
        return self._gathered(values[0], place.shape, torch.nan)

    def _gathered(self, x: Tensor, shape: Shape, padding: float) -> Tensor:
        """Index -1 reads the padding, which is put behind the input."""
        padded = F.pad(x.flatten(1), (0, 1), value=padding)
        index = self.index.flatten().remainder(padded.shape[1])
        return padded.gather(1, index.expand(len(x), -1)).reshape(x.shape[0], *shape)


@dataclass(frozen=True, eq=False)
class Concat(Move):
    """The inputs one after the other along the channels."""

    def linear(self, xs: list[Tensor], shape: Shape) -> Tensor:
        """Along the first axis behind the batch."""
        return torch.cat(xs, dim=1)
