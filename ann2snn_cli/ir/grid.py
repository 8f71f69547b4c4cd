"""The grid of the weights: SPEC 2. Integers of b bits, and the step α, the real value of 1."""

from __future__ import annotations

import torch
from torch import Tensor

from ann2snn_cli.ir.neuron import clamp_, round_, straight_through

MAGNITUDE_BINS = 8192


def largest_code(bits: int) -> int:
    """The largest integer weight of b bits; the grid is symmetric."""
    return 1 if bits == 1 else 2 ** (bits - 1) - 1


def to_grid(weight: Tensor, step: Tensor, bits: int) -> Tensor:
    """q = clamp(round(W'/α)) on −(2^(b−1)−1) … 2^(b−1)−1; at one bit q ∈ {−1, +1}, with 0 → +1."""
    codes = weight / step
    if bits == 1:
        sign = torch.where(codes >= 0, 1.0, -1.0).to(codes.dtype)
        return straight_through(clamp_(codes, -1, 1), sign)
    top = largest_code(bits)
    return clamp_(round_(codes), -top, top)


def choose_step(rows: Tensor, bits: int, present: Tensor | None = None) -> Tensor:
    """The step α of each row of weights, [rows] (SPEC 2); `present` says which weights count, all by default.

    mean|W'| at one bit, the minimiser of the squared error at 2 to 4, max|W'|/(2^(b−1)−1) from 5 on.
    """
    rows = rows.detach()
    if present is not None:
        rows = rows * present  # zeros lie on every grid
    if bits == 1:
        count = rows.shape[1] if present is None else present.sum(dim=1).clamp_min(1)
        step = rows.abs().sum(dim=1) / count
    else:
        step = rows.abs().amax(dim=1) / largest_code(bits)
        if bits <= 4:
            step = _least_squares_step(rows, step, bits)
    spare = step.max() if step.max() > 0 else torch.ones_like(step[0])
    return torch.where(step > 0, step, spare)  # a channel of zeros takes any step


def _least_squares_step(flat: Tensor, widest: Tensor, bits: int) -> Tensor:
    """argmin_α Σ (W' − α·q(W'/α))²: the best of a geometric ladder, then Lloyd's iteration from there."""
    values, counts = _condensed(flat, widest * largest_code(bits))
    best, least = widest, torch.full_like(widest, torch.inf)
    for rung in range(48):  # down to 1/64 of the widest step
        step = widest * 2 ** (-rung / 8)
        error = _squared_error(values, counts, step, bits)
        best, least = torch.where(error < least, step, best), torch.minimum(error, least)
    for _ in range(8):  # for fixed codes the best step is <W', q>/<q, q>
        codes = to_grid(values, _positive(best)[:, None], bits)
        step = (counts * values * codes).sum(dim=1) / (counts * codes.square()).sum(dim=1).clamp_min(1)
        error = _squared_error(values, counts, step, bits)
        best, least = torch.where(error < least, step, best), torch.minimum(error, least)
    return best


def _condensed(flat: Tensor, largest: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's magnitudes as (values, counts); long rows as the means of equal bins, which is exact enough.

    The grid is symmetric, so signs do not matter. The squared error is flat at its minimum: a step found from
    8192 bins is off by 1e-4, its error by less than 1e-7 of the least.
    """
    values = flat.abs()
    if values.shape[1] <= 4 * MAGNITUDE_BINS:
        return values, torch.ones_like(values)
    bins = (values / _positive(largest)[:, None] * (MAGNITUDE_BINS - 1)).long()
    counts = values.new_zeros(len(values), MAGNITUDE_BINS).scatter_add_(1, bins, torch.ones_like(values))
    sums = torch.zeros_like(counts).scatter_add_(1, bins, values)
    return sums / counts.clamp_min(1), counts


def _squared_error(values: Tensor, counts: Tensor, step: Tensor, bits: int) -> Tensor:
    errors = values - step[:, None] * to_grid(values, _positive(step)[:, None], bits)
    return (counts * errors.square()).sum(dim=1)


def _positive(step: Tensor) -> Tensor:
    return torch.where(step > 0, step, torch.ones_like(step))
