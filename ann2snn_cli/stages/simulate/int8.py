"""Convolutions and linear layers in 8-bit integers: by oneDNN on a CPU, exact, and two to four times float32.

On a GPU they are products of 8-bit matrices, summed in 32 bits: exact too, and not tied to an algorithm.

Only where a proof says that they are: weights of 8 bits, inputs of 0 to what this machine multiplies without
saturation (it is tried once), and sums below 2^24, which float32, the type of the results, holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from math import prod
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional as F

from ann2snn_cli.ir.ops import Conv, Linear, Synapse
from ann2snn_cli.ir.span import Span
from ann2snn_cli.stages.simulate.onednn import PackedConv, counts_exactly, is_trusted, neutral, with_two_axes

LARGEST_WEIGHT = 127
LARGEST_SUM = 2**24
MATRIX_STEP, FEWEST_ROWS = 8, 32  # of matrices on a GPU
CPU = torch.device("cpu")

Product = Callable[[Tensor], Tensor]  # of uint8 values, [batch, ...]


def product(op: Synapse, given: Span, gives: Span) -> Product | None:
    """The op in 8-bit integers, where that is exact for inputs and results within these spans; else None."""
    found = _found(op, given)
    if found is None or gives.reach < LARGEST_SUM:
        return found and found[0]
    return _in_halves(*found, int(given.high))


def packed_conv(op: Synapse, given: Span, gives: Span) -> PackedConv | None:
    """The same of a convolution by oneDNN, which makes counts of its sums, too."""
    found = product(op, given, gives)
    return found if isinstance(found, PackedConv) and counts_exactly() else None


def _found(op: Synapse, given: Span) -> tuple[Product, int] | None:
    if given.low < 0:
        return None
    if op not in _PREPARED:  # what is kept of an op may not hold the op itself: it would never be forgotten
        _PREPARED[op] = (_prepared(op), _reach(op.weight)) if _fits(op) else None
    found = _PREPARED[op]
    return None if found is None or given.high > largest_input(op.weight.device) else found


def _in_halves(whole: Product, reach: int, largest: int) -> Product | None:
    """The upper and the lower bits of the inputs each by itself, where the sums of each are small enough."""
    bits = largest.bit_length() // 2
    if reach * max(largest >> bits, 2**bits - 1) >= LARGEST_SUM:
        return None
    return lambda x: whole(x >> bits).double().mul_(2**bits).add_(whole(x & (2**bits - 1)))


def _reach(weight: Tensor) -> int:
    """The largest sum of inputs of 0 to 1, whatever their signs."""
    return int(weight.abs().flatten(1).sum(1, dtype=torch.int64).max())


_PREPARED: WeakKeyDictionary[Synapse, tuple[Product, int] | None] = WeakKeyDictionary()


@cache
def largest_input(device: torch.device = CPU) -> int:
    """The largest input that this machine multiplies exactly; 0 where there is no such arithmetic.

    Before VNNI two products are added in 16 bits, which saturate.
    """
    weight = torch.arange(16 * 576).mul(37).remainder(255).sub(LARGEST_WEIGHT).to(torch.int8)
    weight = weight.reshape(16, 64, 3, 3)
    weight[:4] = LARGEST_WEIGHT
    convs = [Conv(weight.to(device), padding=(1, 1)), Conv(weight[:9, :9].to(device), stride=(2, 1))]
    flat = Linear(weight.flatten(1).to(device))
    for largest in (255, 128, 127, 1):
        x = torch.arange(2 * 64 * 36).remainder(largest + 1).to(torch.uint8).reshape(2, 64, 6, 6)
        x[0] = largest
        try:
            given = [(op, x[:, : op.weight.shape[1]]) for op in convs] + [(flat, x[:, :, :3, :3].flatten(1))]
            if all(_is_exact(op, given) for op, given in given):
                return largest
        except (RuntimeError, AttributeError, TypeError):  # another torch, or another processor
            return 0
    return 0


def _is_exact(op: Synapse, x: Tensor) -> bool:
    """Does it give what float64 gives on a CPU?"""
    on_cpu = replace(op, weight=op.weight.to(CPU))
    found = _prepared(op)(x.to(op.weight.device)).to(CPU)
    return torch.equal(found.double(), on_cpu.linear([x.double()], tuple(found.shape[1:])))


def _fits(op: Synapse) -> bool:
    weight = op.weight
    if weight.is_floating_point() or weight.device.type not in _KINDS or not isinstance(op, Conv | Linear):
        return False
    if isinstance(op, Conv) and (op.transposed or len(op.kernel) > 2 or not _has_kernels(op)):
        return False
    return bool(weight.abs().max() <= LARGEST_WEIGHT)


def _has_kernels(op: Conv) -> bool:
    """Of whole groups of channels on a GPU."""
    if op.weight.device.type == "cpu":
        return is_trusted(op)
    return op.groups == 1 and op.weight.shape[1] >= MATRIX_STEP


def _prepared(op: Synapse) -> Product:
    conv, linear = _KINDS[op.weight.device.type]
    return conv(op) if isinstance(op, Conv) else linear(op)


# By oneDNN ------------------------------------------------------------------------------------------


def _linear(op: Synapse) -> Product:
    ones, zeros = neutral(op.weight.shape[0])
    packed = torch.ops.onednn.qlinear_prepack(op.weight.to(torch.int8).contiguous(), None)

    def run(x: Tensor) -> Tensor:
        y: Tensor = torch.ops.onednn.qlinear_pointwise(
            x.contiguous(), 1.0, 0, packed, ones, zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return y

    return run


# By products of matrices ----------------------------------------------------------------------------


def conv_by_matrices(op: Conv) -> Product:
    """A row for every pixel of every sample: the values that it reads, by tap and channel."""
    missing, weight, ((s, t), (p, q), (d, e)) = with_two_axes(op)
    outs, ins, *kernel = weight.shape
    reach = (d * (kernel[0] - 1) + 1, e * (kernel[1] - 1) + 1)
    filled = -ins % MATRIX_STEP
    matrix = F.pad(weight.permute(0, 2, 3, 1), (0, filled)).flatten(1).to(torch.int8)
    multiply = _multiplied_by(matrix)

    def run(x: Tensor) -> Tensor:
        x = x.unsqueeze(2) if missing else x
        x = F.pad(x.permute(0, 2, 3, 1).view(torch.int8), (0, filled, q, q, p, p))
        read = x.unfold(1, reach[0], s).unfold(2, reach[1], t)[..., ::d, ::e]
        size = read.shape[:3]
        y = multiply(read.permute(0, 1, 2, 4, 5, 3).reshape(prod(size), matrix.shape[1]))
        y = y.reshape(*size, outs).permute(0, 3, 1, 2)
        return y.squeeze(2) if missing else y

    return run


def linear_by_matrices(op: Synapse) -> Product:
    """A row for every sample."""
    outs, ins = op.weight.shape
    filled = -ins % MATRIX_STEP
    multiply = _multiplied_by(F.pad(op.weight.to(torch.int8), (0, filled)))

    def run(x: Tensor) -> Tensor:
        rows = F.pad(x.view(torch.int8), (0, filled)).reshape(prod(x.shape[:-1]), ins + filled)
        return multiply(rows).reshape(*x.shape[:-1], outs)

    return run


def _multiplied_by(matrix: Tensor) -> Product:
    """Rows times [out, in], in float32. cuBLAS wants sizes that are multiples of 8, and more than 16 rows."""
    outs = matrix.shape[0]
    columns = F.pad(matrix, (0, 0, 0, -outs % MATRIX_STEP)).contiguous().t()

    def run(rows: Tensor) -> Tensor:
        count = len(rows)
        rows = F.pad(rows, (0, 0, 0, max(0, FEWEST_ROWS - count)))
        return torch._int_mm(rows, columns)[:count, :outs].to(torch.float32)

    return run


_KINDS: dict[str, tuple[Callable[[Conv], Product], Callable[[Synapse], Product]]] = {
    "cpu": (PackedConv, _linear),
    "cuda": (conv_by_matrices, linear_by_matrices),
}
