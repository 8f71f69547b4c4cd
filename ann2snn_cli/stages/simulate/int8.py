"""Convolutions and linear layers in 8-bit integers, by oneDNN on a CPU: exact, and two to four times float32.

Only where a proof says that they are: weights of 8 bits, inputs of 0 to what this machine multiplies without
saturation (it is tried once), and sums below 2^24, which float32, the type of the results, holds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ann2snn_cli.ir.ops import Conv, Linear, Synapse
from ann2snn_cli.ir.span import Span

LARGEST_WEIGHT = 127
LARGEST_SUM = 2**24
FEWEST_CHANNELS = 8  # of fewer float32 is as fast

Product = Callable[[Tensor], Tensor]  # of uint8 values, [batch, ...]


def product(op: Synapse, given: Span, gives: Span) -> Product | None:
    """The op in 8-bit integers, where that is exact for inputs and results within these spans; else None."""
    if not _fits(op) or given.low < 0 or given.high > largest_input() or gives.reach >= LARGEST_SUM:
        return None
    if op not in _PREPARED:
        _PREPARED[op] = _conv(op) if isinstance(op, Conv) else _linear(op)
    return _PREPARED[op]


_PREPARED: WeakKeyDictionary[Synapse, Product] = WeakKeyDictionary()


@cache
def largest_input() -> int:
    """The largest input that this machine multiplies exactly; 0 where there is no such arithmetic.

    Before VNNI two products are added in 16 bits, which saturate.
    """
    weight = torch.full((16, 64, 3, 3), LARGEST_WEIGHT, dtype=torch.int8)
    op = Conv(weight, padding=(1, 1))
    for largest in (255, 128, 1):
        x = torch.full((2, 64, 6, 6), largest, dtype=torch.uint8)
        wanted = op.linear([x.double()], (16, 6, 6))
        flat = Linear(weight.flatten(1))
        try:
            found = torch.equal(_conv(op)(x).double(), wanted) and torch.equal(
                _linear(flat)(x.flatten()[: 2 * 576].reshape(2, 576)).double(), wanted[:, :, 2, 2]
            )
        except (RuntimeError, AttributeError, TypeError):  # another torch, or another processor
            return 0
        if found:
            return largest
    return 0


def _fits(op: Synapse) -> bool:
    weight = op.weight
    if weight.is_floating_point() or weight.device.type != "cpu" or not isinstance(op, Conv | Linear):
        return False
    if isinstance(op, Conv) and (op.transposed or len(op.kernel) > 2 or weight.shape[1] < FEWEST_CHANNELS):
        return False
    return bool(weight.abs().max() <= LARGEST_WEIGHT)


def _conv(op: Conv) -> Product:
    """Of one spatial axis it is one of two, the first of them 1."""
    missing = 2 - len(op.kernel)
    weight = op.weight.to(torch.int8)
    weight = weight.unsqueeze(2) if missing else weight
    stride, padding, dilation = (
        [*[default] * missing, *values]
        for default, values in ((1, op.stride), (0, op.padding), (1, op.dilation))
    )
    ones, zeros = _neutral(weight.shape[0])
    packed = torch.ops.onednn.qconv_prepack(weight, ones, 1.0, 0, stride, padding, dilation, op.groups, None)

    def run(x: Tensor) -> Tensor:
        x = x.unsqueeze(2) if missing else x
        y: Tensor = torch.ops.onednn.qconv2d_pointwise(
            x.contiguous(memory_format=torch.channels_last), 1.0, 0, packed, ones, zeros, None,
            stride, padding, dilation, op.groups, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return y.squeeze(2) if missing else y

    return run


def _linear(op: Synapse) -> Product:
    ones, zeros = _neutral(op.weight.shape[0])
    packed = torch.ops.onednn.qlinear_prepack(op.weight.to(torch.int8).contiguous(), None)

    def run(x: Tensor) -> Tensor:
        y: Tensor = torch.ops.onednn.qlinear_pointwise(
            x.contiguous(), 1.0, 0, packed, ones, zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return y

    return run


def _neutral(channels: int) -> tuple[Tensor, Tensor]:
    """Scales of 1 and zero points of 0."""
    return torch.ones(channels), torch.zeros(channels, dtype=torch.int32)
