"""Moves of packed trains: whole pixels and channels where a move keeps them together, else value by value."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional as F

from ann2snn_cli.ir.ops.moves import Concat, Gather, Move
from ann2snn_cli.stages.simulate.fused.interface import LANES
from ann2snn_cli.stages.simulate.fused.packed import Packed, channels_of, filled, pixels_of
from ann2snn_cli.types import Shape

Paths = tuple[Tensor, Tensor]  # of every pixel, and of every channel, the one that it comes from; -1: none


def moved(op: Move, given: list[Packed], shape: Shape) -> Packed:
    """What the move makes of packed trains, packed."""
    steps = given[0].steps
    if isinstance(op, Concat) and all(len(part.shape) == len(shape) for part in given):
        parts = [part.values[..., : channels_of(part.shape)] for part in given]
        return Packed(_filled_up(torch.cat(parts, dim=3)), shape, steps)
    if isinstance(op, Gather):
        paths = _paths(op, given[0].shape, shape)
        if paths is not None:
            return Packed(_along(given[0].values, paths), shape, steps)
    trains = op.linear([part.train.flatten(0, 1) for part in given], shape)
    return Packed.of(trains.reshape(steps, -1, *shape), shape)


_PATHS: WeakKeyDictionary[Gather, Paths | None] = WeakKeyDictionary()


def _paths(op: Gather, read: Shape, made: Shape) -> Paths | None:
    """Where its pixels and channels come from; None where it tears them apart."""
    if op not in _PATHS:
        _PATHS[op] = _find_paths(op.index.reshape(channels_of(made), pixels_of(made)), pixels_of(read))
    return _PATHS[op]


def _find_paths(index: Tensor, pixels: int) -> Paths | None:
    there = index >= 0
    channels = torch.where(there, index // pixels, -1).amax(1)
    places = torch.where(there, index % pixels, -1).amax(0)
    both = (channels >= 0)[:, None] & (places >= 0)
    again = torch.where(both, channels[:, None] * pixels + places, -1)
    return (places, channels) if torch.equal(again, index) else None


def _along(values: Tensor, paths: Paths) -> Tensor:
    places, channels = paths
    found = values
    if not torch.equal(places, torch.arange(values.shape[1])):
        found = values.index_select(1, places.clamp(min=0))
        found[:, places < 0] = 0
    first = int((channels >= 0).to(torch.uint8).argmax())
    count = int((channels >= 0).sum())
    start = int(channels[first])
    behind = filled(len(channels), LANES) - first - count
    if torch.equal(channels[first : first + count], torch.arange(start, start + count)):
        return F.pad(found[..., start : start + count], (first, behind)).contiguous()
    chosen = found.index_select(3, channels.clamp(min=0))
    chosen[..., channels < 0] = 0
    return _filled_up(chosen)


def _filled_up(values: Tensor) -> Tensor:
    missing = filled(values.shape[3], LANES) - values.shape[3]
    return F.pad(values, (0, missing)).contiguous()
