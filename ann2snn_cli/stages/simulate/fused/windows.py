"""Which pixels a pixel reads: the windows of convolutions and pools of any number of axes, as one table."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ann2snn_cli.ir.ops import AvgPool, Conv, MaxPool
from ann2snn_cli.types import Shape


def windows(op: Conv | AvgPool | MaxPool, read: Shape, made: Shape) -> Tensor:
    """int32 [pixel, tap]: the pixel of `read` that a tap of a pixel of `made` reads; -1: padding.

    The shapes are those of one sample, channels first.
    """
    ones = (1,) * len(op.kernel)
    dilation = ones if isinstance(op, AvgPool) else tuple(op.dilation)
    transposed = isinstance(op, Conv) and op.transposed
    return _table(
        tuple(op.kernel), tuple(op.stride), tuple(op.padding), dilation, transposed, read[1:], made[1:]
    )


@lru_cache(maxsize=256)
def _table(
    kernel: Shape,
    stride: Shape,
    padding: Shape,
    dilation: Shape,
    transposed: bool,
    read: Shape,
    made: Shape,
) -> Tensor:
    axes = len(kernel)
    table = np.zeros((*made, *kernel), dtype=np.int64)
    outside = np.zeros(table.shape, dtype=bool)
    for axis in range(axes):
        pixel = np.arange(made[axis])[:, None]
        tap = np.arange(kernel[axis])[None]
        if transposed:
            place = pixel + padding[axis] - tap * dilation[axis]
            misses = place % stride[axis] != 0
            place = place // stride[axis]
        else:
            place = pixel * stride[axis] - padding[axis] + tap * dilation[axis]
            misses = np.zeros(place.shape, dtype=bool)
        misses = misses | (place < 0) | (place >= read[axis])
        laid = [1] * (2 * axes)
        laid[axis], laid[axes + axis] = made[axis], kernel[axis]
        table = table + place.reshape(laid) * math.prod(read[axis + 1 :])
        outside = outside | misses.reshape(laid)
    table = np.where(outside, -1, table).reshape(math.prod(made), math.prod(kernel))
    return torch.from_numpy(table.astype(np.int32))
