"""Max pools of spikes in bytes: slices of the running sums, a vector of channels at a time."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from ann2snn_cli.ir.ops import MaxPool
from ann2snn_cli.types import Shape

LARGEST = 255  # sum that a byte holds


def largest(op: MaxPool, train: Tensor, shape: Shape) -> Tensor:
    """What `MaxPool.train` says, of a train of bytes, [T, batch, ...], whose sums over T are bytes too.

    No sum is negative, so zeros as padding never win.
    """
    so_far = train.clone()
    for step in range(1, len(train)):
        so_far[step] += so_far[step - 1]
    for axis, size in enumerate(shape[1:]):
        so_far = _along(op, so_far, axis, size)
    grown = so_far.clone()
    grown[1:] -= so_far[:-1]
    return grown


def _along(op: MaxPool, x: Tensor, axis: int, size: int) -> Tensor:
    """The maximum of the windows of one axis, of which there are so many."""
    kernel, stride, padding, dilation = (
        values[axis] for values in (op.kernel, op.stride, op.padding, op.dilation)
    )
    dim = x.dim() - len(op.kernel) + axis
    span = (size - 1) * stride + 1
    behind = max(0, dilation * (kernel - 1) + span - padding - x.shape[dim])
    if padding or behind:
        x = F.pad(x, [0, 0] * (x.dim() - 1 - dim) + [padding, behind])
    taps = [x.narrow(dim, dilation * tap, span) for tap in range(kernel)]
    return reduce(torch.maximum, (tap[(slice(None),) * dim + (slice(None, None, stride),)] for tap in taps))
