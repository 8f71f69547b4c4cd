"""Is the compiled kernel exact on this machine? It is tried on neurons that are also computed in torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ann2snn_cli.stages.simulate.fused import interface

IMAGES, PIXELS, STEPS, DELAY, FILLED, CHANNELS = 2, 3, 6, 2, 8, 16
WORDS, TAPS, SHIFT = 9, 2, 1


def is_exact(run: Callable[[interface.Population, int], None]) -> bool:
    """Does it give the spikes and potentials that it should, of large weights, inputs and sums?"""
    random = torch.Generator().manual_seed(0)

    def integers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, shape, generator=random)

    size = WORDS * interface.WORD
    values = integers(0, interface.LARGEST_INPUT, IMAGES, PIXELS, FILLED, size)
    values[0] = interface.LARGEST_INPUT  # with the weights of the first lanes the largest sums that there are
    weights = integers(-128, 127, TAPS, WORDS, CHANNELS, interface.WORD)
    weights[:, :, 0], weights[:, :, 1] = 127, -128
    sources = torch.tensor([[0, 1], [2, -1], [1, 0]])
    factors, bias = integers(-3, 3, CHANNELS), integers(-999, 999, CHANNELS)
    threshold = integers(1, 2**18, CHANNELS)
    charge = _charge(values, weights, sources) * factors
    wanted = _fire(2**SHIFT * charge[:, :, :STEPS] + bias, threshold)
    spikes = torch.empty(IMAGES, PIXELS, FILLED, CHANNELS, dtype=torch.uint8)
    held = torch.empty(spikes.shape, dtype=torch.int32)
    laid = [
        values.to(torch.uint8),
        sources.to(torch.int32),
        torch.zeros(1, dtype=torch.int32),
        weights.to(torch.int8),
        factors.to(torch.int32),
    ]
    term = interface.Term(
        interface.DENSE, TAPS, WORDS, interface.SUMS_OF_16_BITS // (interface.LARGEST_INPUT * 256),
        PIXELS * FILLED * size, FILLED * size, size, *(tensor.data_ptr() for tensor in laid),
    )  # fmt: skip
    neurons = [value.to(torch.int32) for value in (threshold, bias, torch.zeros(CHANNELS))]
    request = interface.Population(
        IMAGES, PIXELS, CHANNELS, STEPS, FILLED, DELAY, SHIFT, 0, 0,
        *(value.data_ptr() for value in neurons), spikes.data_ptr(), None, held.data_ptr(),
        1, (interface.Term * 1)(term),
    )  # fmt: skip
    run(request, IMAGES * PIXELS)
    found = spikes[:, :, :STEPS], held[:, :, :STEPS]
    return all(torch.equal(got.to(torch.int64), right) for got, right in zip(found, wanted, strict=True))


def _charge(values: Tensor, weights: Tensor, sources: Tensor) -> Tensor:
    """[image, pixel, step, channel]: all taps that are there, added up in 64 bits."""
    by_word = values.reshape(IMAGES, PIXELS, FILLED, 1, WORDS, interface.WORD)
    charge = torch.zeros(IMAGES, PIXELS, FILLED, CHANNELS, dtype=torch.int64)
    for pixel, taps in enumerate(sources.tolist()):
        for tap, source in enumerate(taps):
            if source >= 0:
                charge[:, pixel] += (by_word[:, source] * weights[tap].transpose(0, 1)).sum((-1, -2))
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
