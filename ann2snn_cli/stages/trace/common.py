"""What an nn.Module and an ONNX file have in common: when a call is one of our ops, and with what in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ann2snn_cli.ir.ops import AvgPool, Gather, Op, Relu
from ann2snn_cli.ir.rules import Call, Value
from ann2snn_cli.types import Shape

CONSTANT = "constant"  # what a call that repeats a constant for each sample is described by


def known(call: Call, value: Any) -> Tensor | int | float | None:
    """What an argument is for every sample, if that is known before the sample is."""
    maker = call.maker(value)
    value = maker.arguments.get(CONSTANT) if maker is not None else value
    return value if isinstance(value, Tensor | int | float) else None


def type_of(value: Value) -> str | None:
    """Name the type that an operator must be given a value in; None for real numbers of any width."""
    dtype = value.dtype
    return None if dtype.is_floating_point or dtype.is_complex else str(dtype).removeprefix("torch.")


def reads_numbers(call: Call, outcome: Op | Value) -> bool:
    """Do the ops that a call becomes read numbers? Those of ours take no conditions and no indices."""
    read = list(call.inputs) if isinstance(outcome, Op) else [x for each in call.added for x in each.inputs]
    return not any(type_of(value) for value in read)


def ints(value: Any, rank: int) -> Shape:
    """A list of one or `rank` integers, as `rank` of them."""
    items = (value,) if isinstance(value, int) else tuple(value)
    return items * rank if len(items) == 1 else items


def padded(shape: Shape, begin: Shape, end: Shape) -> Gather:
    """A map with zeros at its ends, or cut off where a number is negative."""
    places = torch.arange(1, math.prod(shape) + 1).reshape(shape)
    amounts = [each for pair in zip(reversed(begin), reversed(end), strict=True) for each in pair]
    return Gather(F.pad(places, amounts) - 1)


def windows(shape: Shape, taps: Sequence[Tensor]) -> Gather:
    """Lay windows side by side: `taps` are, for each spatial axis, [windows, places], -1 for none."""
    index = torch.arange(math.prod(shape)).reshape(shape)
    for axis, places in enumerate(taps, start=1):
        flat = places.flatten()
        none = (flat < 0).reshape([-1 if each == axis else 1 for each in range(index.dim())])
        index = torch.where(none, -1, index.index_select(axis, flat.clamp(min=0)))
    return Gather(index)


def rectifier(low: float, high: float | None) -> Relu | None:
    """Read clamp(x, low, high) where that is a rectifier: from 0 to a limit; None for other ranges."""
    if low != 0 or (high is not None and high <= 0):
        return None
    return Relu(limit=None if high is None or math.isinf(high) else float(high))


def mean_of_all(extents: Shape) -> AvgPool:
    """Give the mean over windows as large as this, side by side: one window where they are the whole map."""
    return AvgPool(extents, extents, (0,) * len(extents))


def moved(move: Callable[[Tensor], Tensor], shape: Shape, samples: int = 2) -> Gather | None:
    """Run a move on the positions themselves: what comes out says where each value came from.

    `move` takes float64 [samples, *shape], where 0 stands for padding. None if it is more than a move within
    each sample.
    """
    size = math.prod(shape)
    places = torch.arange(1, samples * size + 1, dtype=torch.float64).reshape(samples, *shape)
    given = move(places)
    if given.dim() == 0 or len(given) != samples:
        return None
    first = given[0]
    offsets = size * torch.arange(samples, dtype=torch.float64).reshape(-1, *[1] * first.dim())
    if not torch.equal(given, torch.where(first > 0, first + offsets, 0.0)):
        return None  # values change their sample
    return Gather(first.to(torch.int64) - 1)


def stays(gather: Gather, shape: Shape) -> bool:
    """Does every value of a sample of this shape stay where it is?"""
    index = gather.index
    return tuple(index.shape) == shape and bool((index.flatten() == torch.arange(index.numel())).all())
