"""A trial of the compiled kernel on this machine: neurons whose spikes and potentials torch computes too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ann2snn_cli.stages.simulate.fused.interface import (
    DENSE,
    LARGEST_INPUT,
    SUMS_OF_16_BITS,
    WORD,
    Population,
    Term,
)

IMAGES, PIXELS, STEPS, DELAY, FILLED, CHANNELS = 2, 3, 14, 2, 16, 16
WORDS, TAPS, SHIFT = 40, 2, 1
SOURCES = ((0, 1), (2, -1), (1, 0))
Run = Callable[[Population, int], None]


def _integers(seed: int, low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed))


@dataclass(eq=False)
class Trial:
    """One population of large weights, inputs and sums, and what it should do."""

    values: Tensor = field(init=False)
    weights: Tensor = field(init=False)
    wanted: tuple[Tensor, Tensor] = field(init=False)
    factors: Tensor = field(default_factory=lambda: _integers(2, -3, 3, CHANNELS))
    bias: Tensor = field(default_factory=lambda: _integers(3, -999, 999, CHANNELS))
    threshold: Tensor = field(default_factory=lambda: _integers(4, 1, 2**18, CHANNELS))

    def __post_init__(self) -> None:
        self.values = _integers(0, 0, LARGEST_INPUT, IMAGES, PIXELS, FILLED, WORDS * WORD)
        self.weights = _integers(1, -128, 127, TAPS, WORDS, CHANNELS, WORD)
        self.values[0] = LARGEST_INPUT  # times these weights: the largest sums that there are
        self.weights[:, :, 0], self.weights[:, :, 1] = 127, -128
        charge = self._charge() * self.factors
        self.wanted = _fire(2**SHIFT * charge[:, :, :STEPS] + self.bias, self.threshold)

    def succeeds(self, run: Run) -> bool:
        """Does the kernel give the right spikes and potentials?"""
        spikes = torch.empty(IMAGES, PIXELS, FILLED, CHANNELS, dtype=torch.uint8)
        held = torch.empty(spikes.shape, dtype=torch.int32)
        size = WORDS * WORD
        read = [self.values.to(torch.uint8), torch.tensor(SOURCES, dtype=torch.int32)]
        laid = [
            *read,
            torch.zeros(1, dtype=torch.int32),
            self.weights.to(torch.int8),
            self.factors.to(torch.int32),
        ]
        term = Term(
            DENSE, TAPS, WORDS, SUMS_OF_16_BITS // (LARGEST_INPUT * 256),
            PIXELS * FILLED * size, FILLED * size, size, *(tensor.data_ptr() for tensor in laid),
        )  # fmt: skip
        neurons = [value.to(torch.int32) for value in (self.threshold, self.bias, torch.zeros(CHANNELS))]
        request = Population(
            IMAGES, PIXELS, CHANNELS, STEPS, FILLED, DELAY, SHIFT, 0, 0,
            *(value.data_ptr() for value in neurons), spikes.data_ptr(), None, held.data_ptr(),
            1, (Term * 1)(term),
        )  # fmt: skip
        run(request, IMAGES * PIXELS)
        found = spikes[:, :, :STEPS], held[:, :, :STEPS]
        return all(
            torch.equal(got.to(torch.int64), right) for got, right in zip(found, self.wanted, strict=True)
        )

    def _charge(self) -> Tensor:
        """[image, pixel, step, channel]: all taps that are there, added up in 64 bits."""
        by_word = self.values.reshape(IMAGES, PIXELS, FILLED, 1, WORDS, WORD)
        charge = torch.zeros(IMAGES, PIXELS, FILLED, CHANNELS, dtype=torch.int64)
        for pixel, taps in enumerate(SOURCES):
            for tap, source in enumerate(taps):
                if source >= 0:
                    charge[:, pixel] += (by_word[:, source] * self.weights[tap].transpose(0, 1)).sum((-1, -2))
        return charge


def _fire(charge: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes and potentials of the steps that fire, reset by subtraction."""
    potential = charge[:, :, :DELAY].sum(2)
    spikes, held = [], []
    for step in range(DELAY, DELAY + STEPS):
        if step < STEPS:
            potential = potential + charge[:, :, step]
        fires = (potential >= threshold).to(torch.int64)
        potential = potential - fires * threshold
        spikes.append(fires)
        held.append(potential)
    return torch.stack(spikes, 2), torch.stack(held, 2)
