"""The sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ann2snn_cli.errors import InvalidGraph
from ann2snn_cli.ir.ops.base import Integers, Op, Place, constant_span, unbounded


@dataclass(frozen=True, eq=False)
class Input(Op):
    """The sample. SPIKING: integers x = clamp(round(image / unit), low, high), at every step the same.

    Where only operators of real numbers read it, it is shown as it is.
    """

    unit: float | None = None  # the real value of 1
    low: int = 0
    high: int = 255
    is_real: bool = False  # shown as it is: no integers

    @property
    def gives_reals(self) -> bool:
        """Is it shown as it is?"""
        return self.is_real

    def encode(self, x: Tensor) -> Tensor:
        """The integers that the chip is given at every step; the sample itself where it is shown as it is.

        In float64 whatever the samples are: a value half-way between two integers has one of them, always.
        """
        assert self.unit is not None
        if self.is_real:
            return x
        return torch.clamp(torch.round(x.double() / self.unit), self.low, self.high).to(x.dtype)

    def integers(self, units: list[Tensor], place: Place) -> Integers:
        """The op itself, and its own unit."""
        if self.unit is None:
            raise InvalidGraph(f"the input {place.node.name!r} has no unit yet")
        return self, torch.tensor(self.unit, dtype=torch.float64, device=place.device)

    def span(self, spans: list[Tensor], place: Place) -> Tensor:
        """From its lowest to its highest integer; of real numbers nothing is known."""
        if self.is_real:
            return unbounded(place)
        return constant_span(place, min(self.low, 0), max(self.high, 0))
