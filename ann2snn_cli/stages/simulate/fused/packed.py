"""Trains as the compiled kernel holds them: bytes, [image, pixel, step, channel], a pixel's steps together.

Pixels are what a node has behind its channels, in memory order. Steps are filled up to a multiple of 4 and
channels to one of 16, with zeros.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ann2snn_cli.stages.simulate.fused.interface import LANES, STEPS
from ann2snn_cli.types import Shape


def channels_of(shape: Shape) -> int:
    """How many channels a node of this shape has."""
    return shape[0] if shape else 1


def pixels_of(shape: Shape) -> int:
    """How many pixels a node of this shape has."""
    return math.prod(shape[1:])


def filled(number: int, multiple: int) -> int:
    """The number, filled up."""
    return -(-number // multiple) * multiple


@dataclass(eq=False)
class Packed:
    """What a node passes on: small whole numbers, mostly spikes. Of neurons with what else was asked for."""

    values: Tensor  # uint8 [image, pixel, step, channel], steps and channels filled up
    shape: Shape  # of one sample
    steps: int
    counts: Tensor | None = None  # int32 [image, pixel, channel]: sums over the steps
    held: Tensor | None = None  # int32, as `values`: potentials

    @staticmethod
    def of(train: Tensor, shape: Shape) -> Packed:
        """Pack a train, [T, batch, ...]."""
        return Packed(laid(train, shape, torch.uint8, filled(len(train), STEPS)), shape, len(train))

    @property
    def train(self) -> Tensor:
        """[T, batch, ...]."""
        return self._steps_first(self.values)

    @property
    def potentials(self) -> Tensor | None:
        """[T, batch, ...]."""
        return None if self.held is None else self._steps_first(self.held).double()

    @property
    def total(self) -> Tensor:
        """The sum over the steps, [batch, ...]."""
        counts = self.values.sum(2, dtype=torch.int32) if self.counts is None else self.counts
        by_channel = counts[:, :, : channels_of(self.shape)].transpose(1, 2)
        return by_channel.reshape(len(counts), *self.shape)

    def _steps_first(self, values: Tensor) -> Tensor:
        kept = values[:, :, : self.steps, : channels_of(self.shape)]
        return kept.permute(2, 0, 3, 1).reshape(self.steps, len(values), *self.shape)


def laid(train: Tensor, shape: Shape, dtype: torch.dtype, steps: int) -> Tensor:
    """A train, [T, batch, ...], as [image, pixel, step, channel], filled up to so many steps."""
    count, images = train.shape[:2]
    by_pixel = train.reshape(count, images, channels_of(shape), pixels_of(shape)).permute(1, 3, 0, 2)
    whole = by_pixel.new_zeros(
        (images, pixels_of(shape), steps, filled(channels_of(shape), LANES)), dtype=dtype
    )
    whole[:, :, :count, : channels_of(shape)] = by_pixel
    return whole


def parameters(value: Tensor, shape: Shape, neutral: int) -> Tensor:
    """Numbers that broadcast to a node's shape, as int32 [pixel or 1, channel]; `neutral` where filled up."""
    pixels, channels = pixels_of(shape), channels_of(shape)
    if value.numel() == 1:
        by_pixel = value.reshape(1, 1).expand(1, channels)
    elif value.dim() == len(shape) and value.numel() == value.shape[0]:  # by channel
        by_pixel = value.reshape(1, channels)
    else:
        by_pixel = value.expand(shape).reshape(channels, pixels).T
    whole = torch.full((len(by_pixel), filled(channels, LANES)), neutral, dtype=torch.int32)
    whole[:, :channels] = by_pixel
    return whole
