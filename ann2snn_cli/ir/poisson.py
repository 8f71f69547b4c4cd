"""Spikes by chance: a rate becomes a train. The same sample, step and seed give the same spikes, everywhere.

Chance is a hash of integers, not a generator: it does not depend on what else is in the batch, on the engine,
the device or the number of processes. Of a sample its rates are hashed, so that other samples have others.
"""

from __future__ import annotations

import torch
from torch import Tensor

RATE_BITS = 24  # of a rate, and of the number that it is compared with

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15: the constants of splitmix64, as signed integers
_FIRST = -4658895280553007687  # 0xBF58476D1CE4E5B9
_SECOND = -7723592293110705685  # 0x94D049BB133111EB


def spikes(rates: Tensor, step: int, seed: int) -> Tensor:
    """−1, 0 or 1 with the sign of each rate, [samples, ...], as often as |rate|, which is cut at 1."""
    chances = (rates.abs().clamp(max=1) * 2**RATE_BITS).round().long()
    signed = (chances * rates.sign().long()).flatten(1)
    places = torch.arange(1, signed.shape[1] + 1, device=rates.device) * _GOLDEN
    of_sample = _mixed(signed * _SECOND + places).sum(1, keepdim=True)
    of_step = _mixed(_mixed(of_sample + _product(seed, _FIRST)) + _product(step, _GOLDEN))
    drawn = _shifted(_mixed(of_step + places), 64 - RATE_BITS)
    fires = drawn.reshape(chances.shape) < chances
    return torch.where(fires, rates.sign(), torch.zeros_like(rates))


def _product(number: int, constant: int) -> int:
    """Modulo 2^64, as tensors of integers multiply."""
    return (number * constant + 2**63) % 2**64 - 2**63


def _mixed(z: Tensor) -> Tensor:
    """Splitmix64: every bit that goes in changes half of those that come out. Products wrap at 64 bits."""
    z = (z ^ _shifted(z, 30)) * _FIRST
    z = (z ^ _shifted(z, 27)) * _SECOND
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """To the right, as of a number without sign."""
    shifted: Tensor = (z >> bits) & (2 ** (64 - bits) - 1)
    return shifted
