"""Weights by the error of what they give, not by their own: least squares, then rounding.

Of a layer y = W x whose inputs will be x̂ in the place of x, all less their means if a bias is to bring these:

    W' = argmin E|W x − W' x̂|² + λ·|W' − W|² = (E[y x̂ᵀ] + λ W)·(E[x̂ x̂ᵀ] + λ)⁻¹

W' goes onto its grid one input after the other, and those to come make up for the error of each (Frantar et
al. 2023, GPTQ). An output whose weights are no worse off when each is rounded by itself has them so.

The moments E[..] are all that is kept of the samples, [groups, inputs, inputs].
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ann2snn_cli.ir.grid import to_grid
from ann2snn_cli.ir.ops import FLOAT_BITS, Conv, Linear, Op, Place, Synapse

MOST_INPUTS = 1 << 13  # of an output: their moments are a square of this side
RIDGE = 1.0  # λ by the mean square of an input; the more, the fewer the samples are
DAMPING = 0.01  # the same, while weights are rounded
BLOCK = 128  # inputs between two updates of all that are still to come
PORTION = 32  # samples at once: each of their inputs is read as often as the kernel is large


@dataclass(frozen=True, eq=False)
class Moments:
    """What is kept of the samples, in float64."""

    inputs: Tensor  # E[x̂ x̂ᵀ], [groups, inputs, inputs]
    both: Tensor  # E[y x̂ᵀ], [groups, outputs, inputs]
    count: int


def can_fit(op: Op) -> bool:
    """Is it a layer whose outputs are sums over so few inputs? (Transposed convolutions are left out.)"""
    if isinstance(op, Conv) and (op.transposed or len(op.kernel) > 2):
        return False
    return isinstance(op, Conv | Linear) and op.weight[0].numel() <= MOST_INPUTS


def moments(op: Conv | Linear, inputs: Tensor, wanted: Tensor, *, centred: bool) -> Moments:
    """Of inputs [samples, ...] and the outputs that they are to give."""
    second = cross = mean = aim = torch.zeros((), dtype=torch.float64, device=inputs.device)
    count = 0
    for x, y in zip(torch.split(inputs, PORTION), torch.split(wanted, PORTION), strict=True):
        read, given = _reads(op, x), _gives(op, y)
        second = second + (read.transpose(1, 2) @ read).double()
        cross = cross + (given.transpose(1, 2) @ read).double()
        mean, aim = mean + read.double().sum(1), aim + given.double().sum(1)
        count += read.shape[1]
    if centred:
        second = second - mean[:, :, None] * mean[:, None] / count
        cross = cross - aim[:, :, None] * mean[:, None] / count
    return Moments(second / count, cross / count, count)


def fitted(op: Synapse, seen: Moments) -> Synapse:
    """The weights of least error; the fewer samples there are, the nearer they stay to what they were."""
    rows = _grouped(op.weight, seen).double()
    share = RIDGE + rows.shape[2] / seen.count
    damped, ridge = _damped(seen.inputs, share)
    best = torch.linalg.solve(damped, (seen.both + ridge * rows).transpose(1, 2)).transpose(1, 2)
    return replace(op, weight=best.reshape(op.weight.shape).to(op.weight))


def rounded(op: Synapse, seen: Moments, unit: Tensor, place: Place) -> Synapse:
    """QUANTIZED, with its steps: the same with weights on their grid, as codes times the real value of 1."""
    if op.bits is None or op.bits == FLOAT_BITS or op.step is None:
        return op
    absorbed = op.absorb(unit, place)
    weight = _grouped(absorbed, seen)
    steps = _grouped(op.by_weight(op.step.double()).expand(absorbed.shape), seen)
    scale = _grouped((unit if unit.numel() == 1 else op.by_input(unit, place)).expand(absorbed.shape), seen)
    sizes = scale[:, :1]  # the same for all outputs of a group
    second = seen.inputs / (sizes.transpose(1, 2) * sizes)
    alone = steps * to_grid(weight, steps, op.bits)
    together = _rounded_together(weight, steps, op.bits, second)
    before, after = (_error(codes - weight, second) for codes in (alone, together))
    best = torch.where((after < before)[..., None], together, alone)
    return replace(op, weight=(best / scale).reshape(op.weight.shape).to(op.weight))


def _rounded_together(weight: Tensor, steps: Tensor, bits: int, second: Tensor) -> Tensor:
    """The values on the grid, [groups, outputs, inputs]: the inputs that vary most come first."""
    order = second.diagonal(dim1=1, dim2=2).argsort(dim=1, descending=True)
    by_input = order[:, None].expand_as(weight)
    left, steps = weight.gather(2, by_input), steps.gather(2, by_input)
    second = second.gather(1, order[:, :, None].expand_as(second)).gather(2, order[:, None].expand_as(second))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(_damped(second, DAMPING)[0]))
    factor = torch.linalg.cholesky(inverse, upper=True)
    found = torch.empty_like(left)
    for start in range(0, left.shape[2], BLOCK):
        block = slice(start, min(start + BLOCK, left.shape[2]))
        errors = torch.zeros_like(left[..., block])
        for place in range(block.start, block.stop):
            found[..., place] = steps[..., place] * to_grid(left[..., place], steps[..., place], bits)
            error = (left[..., place] - found[..., place]) / factor[:, place, place, None]
            errors[..., place - start] = error
            left[..., place : block.stop] -= error[..., None] * factor[:, None, place, place : block.stop]
        left[..., block.stop :] -= errors @ factor[:, block, block.stop :]
    return torch.empty_like(found).scatter_(2, by_input, found)


def _damped(second: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """The moments with a share of their mean added along the diagonal, and how much that is, by group."""
    mean = second.diagonal(dim1=1, dim2=2).mean(1)
    ridge = share * torch.where(mean > 0, mean, torch.ones_like(mean))[:, None, None]
    return second + ridge * torch.eye(second.shape[1], dtype=second.dtype, device=second.device), ridge


def _error(change: Tensor, second: Tensor) -> Tensor:
    """The mean square of what a change of the weights does to each output, [groups, outputs]."""
    return ((change @ second) * change).sum(2)


def _grouped(weight: Tensor, seen: Moments) -> Tensor:
    """[groups, outputs of a group, inputs of a group]."""
    return weight.reshape(len(seen.inputs), -1, seen.inputs.shape[1])


def _reads(op: Conv | Linear, x: Tensor) -> Tensor:
    """What each output is a sum of: [groups, samples and places, inputs]."""
    if isinstance(op, Linear):
        return x.reshape(1, -1, x.shape[-1])
    lacks = 2 - len(op.kernel)  # of one spatial axis, another is added
    fill = {"dilation": (1,), "padding": (0,), "stride": (1,)}
    sizes = {name: (*one * lacks, *getattr(op, name)) for name, one in fill.items()}
    image = x.unsqueeze(2) if lacks else x
    columns = F.unfold(image, (*(1,) * lacks, *op.kernel), **sizes)  # [samples, channels and kernel, places]
    grouped = columns.reshape(len(x), op.groups, -1, columns.shape[2])
    return grouped.permute(1, 0, 3, 2).flatten(1, 2)


def _gives(op: Conv | Linear, y: Tensor) -> Tensor:
    """[groups, samples and places, outputs of a group]."""
    if isinstance(op, Linear):
        return y.reshape(1, -1, y.shape[-1])
    grouped = y.reshape(len(y), op.groups, op.out_channels // op.groups, -1)
    return grouped.permute(1, 0, 3, 2).flatten(1, 2)
