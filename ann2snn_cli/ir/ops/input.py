"""The sample, and how it is shown over the steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ann2snn_cli.errors import InvalidGraph
from ann2snn_cli.ir import poisson
from ann2snn_cli.ir.contract import Encoding
from ann2snn_cli.ir.neuron import clamp_, round_, straight_through
from ann2snn_cli.ir.ops.base import Integers, Op, Place, constant_span, unbounded


@dataclass(frozen=True, eq=False)
class Input(Op):
    """The sample. SPIKING: integers x = clamp(round(image / unit), low, high).

    direct   an image, the same integers at every step
    frames   T images a sample, [samples, T, ...]: step t is given the t-th
    poisson  an image; at each step 0, or by chance the largest integer with the sign of its own
             (`ir/poisson.py`), so that the mean is x: 1 where the network was converted for it

    Where only operators of real numbers read it, it is shown as it is.
    """

    unit: float | None = None  # the real value of 1
    low: int = 0
    high: int = 255
    is_real: bool = False  # shown as it is: no integers
    encoding: str = Encoding.DIRECT.value
    seed: int = 0  # of poisson

    def __post_init__(self) -> None:
        if self.encoding not in list(Encoding):
            raise InvalidGraph(f"the encoding {self.encoding!r} is none of {', '.join(Encoding)}")
        if not 0 <= self.seed < 2**32:
            raise InvalidGraph(f"the seed {self.seed} is none from 0 to 2^32 − 1")

    @property
    def is_constant(self) -> bool:
        """Is it the same at every step?"""
        return self.encoding == Encoding.DIRECT

    @property
    def has_frames(self) -> bool:
        """Does a sample hold what is shown at each step, [samples, T, ...]?"""
        return self.encoding == Encoding.FRAMES

    @property
    def gives_reals(self) -> bool:
        """Is it shown as it is?"""
        return self.is_real

    def details(self) -> str:
        """Its encoding, unless it is the usual one."""
        return "" if self.is_constant else self.encoding

    def encode(self, x: Tensor) -> Tensor:
        """The integers of what is shown in one step, where nothing is left to chance.

        In float64 whatever the samples are: a value half-way between two integers has one of them, always.
        The gradient passes straight through, to what computed the samples.
        """
        assert self.unit is not None
        if self.is_real:
            return x
        return clamp_(round_(x.double() / self.unit), self.low, self.high).to(x.dtype)

    def at(self, x: Tensor, step: int) -> Tensor:
        """The integers of step 1, 2, ...; `x` is what is shown in it, [samples, ...]."""
        if self.encoding != Encoding.POISSON:
            return self.encode(x)
        assert self.unit is not None
        values, size = clamp_(x.double() / self.unit, self.low, self.high), max(self.high, -self.low)
        return straight_through(values, size * poisson.spikes(values / size, step, self.seed)).to(x.dtype)

    def shown(self, x: Tensor, steps: int) -> Tensor:
        """The integers of all steps, [T, samples, ...]; [1, samples, ...] where they are the same."""
        if self.has_frames:
            return self.encode(x).movedim(1, 0)
        if self.is_constant:
            return self.encode(x)[None]
        return torch.stack([self.at(x, step) for step in range(1, steps + 1)])

    def total(self, x: Tensor, steps: int) -> Tensor:
        """The sum of these over the steps."""
        return self.encode(x) * steps if self.is_constant else self.shown(x, steps).sum(0)

    def without_time(self, x: Tensor) -> Tensor:
        """What a network that knows no steps is shown: of frames their mean."""
        return x.mean(1) if self.has_frames else x

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
