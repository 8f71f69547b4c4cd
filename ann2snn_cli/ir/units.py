"""Units: the real value of 1 of what a node passes on, and how they travel and meet (SPEC 2 and 3).

A unit is a tensor: [] where it is the same everywhere, else [channels, 1, ...] or of the node's shape.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ann2snn_cli.errors import UnsupportedNetwork
from ann2snn_cli.ir.neuron import round_

FINE_MULTIPLIER = 64  # an integer multiplier rounded to this or more is right to 0.8 %
MAX_FRACTION_BITS = 8
EXACT = 1e-9  # a ratio as near to an integer as this, relatively, is that integer


class UnitsDiffer(UnsupportedNetwork):
    """Values of different unit meet in one weight, along an axis that the weight does not tell apart."""

    def __init__(self, name: str, label: str) -> None:
        super().__init__(
            "values of different unit meet in one weight, which no integer can absorb",
            where=label,
            remedy="join the branches along the channels, or quantize with one step a layer",
        )
        self.name = name


def along(unit: Tensor, axis: int, shape: tuple[int, ...]) -> Tensor | None:
    """The units along one axis; None where they differ along another one too."""
    unit = unit.expand(shape).movedim(axis, 0).reshape(shape[axis], -1)
    return unit[:, 0] if torch.equal(unit, unit[:, :1].expand_as(unit)) else None


def compress(unit: Tensor) -> Tensor:
    """The same units with as few numbers as possible: [], else [channels, 1, ...], else all.

    NaN marks places that always hold 0 (padding): any unit fits them. They get one that is there, of the same
    row, else of the same column, for constants may be added to them later.
    """
    rows = unit.reshape(unit.shape[0], -1) if unit.dim() else unit.reshape(1, 1)
    known = ~rows.isnan()
    first = known.to(torch.int8).argmax(dim=1)
    by_row = rows[torch.arange(rows.shape[0], device=rows.device), first]
    if bool(((rows == by_row[:, None]) | ~known).all()):
        valid = by_row[~by_row.isnan()]
        if valid.numel() == 0 or bool((valid == valid[0]).all()):
            return valid[0] if valid.numel() else torch.ones((), dtype=unit.dtype, device=unit.device)
        unit = by_row.reshape(-1, *[1] * (unit.dim() - 1))
    return _filled(unit)


def _filled(unit: Tensor) -> Tensor:
    """NaN replaced by the first that is none along the first axis, else by the first of all."""
    known = ~unit.isnan()
    first = known.to(torch.int8).argmax(dim=0, keepdim=True)
    unit = torch.where(known, unit, unit.gather(0, first))
    return torch.where(unit.isnan(), unit[~unit.isnan()][0], unit)


def apart(labels: Tensor) -> Tensor:
    """Labels of branches that begin at a node: negative numbers, the same where `labels` are the same."""
    kinds: Tensor = torch.unique(labels, return_inverse=True)[1]
    return -1.0 - kinds.double()


def multipliers(units: list[Tensor], finest: Tensor) -> tuple[list[Tensor], Tensor]:
    """Integers m_i = round(unit_i/α) that bring units to one unit α, `finest` or a power of two below it."""
    ratios = [(unit / finest).detach() for unit in units]
    inexact = [ratio[(ratio - ratio.round()).abs() > EXACT * ratio] for ratio in ratios]
    smallest = min((float(ratio.min()) for ratio in inexact if ratio.numel()), default=float(FINE_MULTIPLIER))
    alpha = finest / 2 ** fraction_bits(smallest, coarse=FINE_MULTIPLIER, fine=FINE_MULTIPLIER)
    return [round_(unit / alpha) for unit in units], alpha


def fraction_bits(value: float, coarse: float, fine: float) -> int:
    """The fewest bits that bring a value below `coarse` up to `fine`."""
    if value >= coarse:
        return 0
    return next((bits for bits in range(MAX_FRACTION_BITS) if value * 2**bits >= fine), MAX_FRACTION_BITS)
