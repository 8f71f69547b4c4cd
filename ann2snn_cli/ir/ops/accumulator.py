"""How large the potential of a neuron can get, whatever it is sent: what its register must hold (SPEC 7)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ann2snn_cli.ir.contract import Contract, Reset


@dataclass(frozen=True, eq=False)
class Accumulator:
    """The accumulators of the neurons of one node; a read-out's threshold is out of reach."""

    low: Tensor  # what the synapses add in one step: low ≤ 0 ≤ high
    high: Tensor
    bias: Tensor
    initial: Tensor
    threshold: Tensor
    gap: int  # the highest potential that does not fire is θ − gap: 1 of integers, 0 of real numbers
    contract: Contract

    def extremes(self) -> Tensor:
        """The extremes of all that lies in the accumulator, [2, ...].

        Of the D steps before the first that may fire, any part may have been added; of the steps after them,
        what lies there between two steps plus any part of one step. A spike needs V ≥ θ and leaves V − θ or
        0, so no less than 0.
        """
        steps, delay = self.contract.timesteps, self.contract.delay
        low = self.initial + delay * self.least
        high = self.initial + delay * self.most
        first = self._first_spike()
        if delay < steps:
            low = torch.minimum(low, self._lowest(first) + self.least)
            high = torch.maximum(high, self._highest() + self.most)
        return torch.stack([torch.where(first <= steps, low.clamp(max=0), low), high])

    @property
    def least(self) -> Tensor:
        """The least that any part of one step adds, 0 or below."""
        return self.low + self.bias.clamp(max=0)

    @property
    def most(self) -> Tensor:
        """The most that any part of one step adds, 0 or above."""
        return self.high + self.bias.clamp(min=0)

    @property
    def gain(self) -> Tensor:
        """The most that one whole step adds."""
        return self.high + self.bias

    def _first_spike(self) -> Tensor:
        """How many steps are integrated when the first spike can come; inf if none can.

        That is the least n from D+1 (T where D = T) to T with V0 + n·g ≥ θ, g the most that a step adds.
        """
        steps, delay = self.contract.timesteps, self.contract.delay
        soonest = min(delay + 1, steps)
        if_it_grows = ((self.threshold - self.initial) / self.gain).ceil().clamp(min=soonest)
        fires_soonest = self.initial + soonest * self.gain >= self.threshold
        return torch.where(self.gain > 0, if_it_grows, torch.where(fires_soonest, float(soonest), math.inf))

    def _lowest(self, first: Tensor) -> Tensor:
        """The lowest potential before one of the T steps.

        It falls by e a step, if at all, from V0 or from the 0 that the first spike may leave.
        """
        last = self.contract.timesteps - 1
        fall = (self.low + self.bias).clamp(max=0)
        fired = torch.where(first <= last, (last - first) * fall, math.inf)
        return torch.minimum(self.initial + last * fall, fired)

    def _highest(self) -> Tensor:
        """The highest potential before one of the T − D steps that may end in a spike.

        D steps of charge come first, V0' = V0 + D·g, with g the most that a step adds. From there
        V ← max(min(V + g, θ − 1), V + g − θ): it does not fire, or it does and subtracts. Not firing first is
        never worse, so the T − D − 1 steps before the last make at most, for some k,
            max(V0', min(V0' + k·g, θ − 1)) + (T − D − 1 − k)·max(g − θ, 0);
        this grows by θ with k until V0' + k·g passes θ − 1 and falls after. Reset to zero has no second term.
        """
        start = self.initial + self.contract.delay * self.gain
        last = self.contract.timesteps - self.contract.delay - 1
        unfired = self.threshold - self.gap
        subtracts = self.contract.reset_mode is Reset.SUBTRACTION
        rise = (self.gain - self.threshold).clamp(min=0) * subtracts
        turn = ((unfired - start) / self.gain).floor().clamp(0, last)
        turn = torch.where(rise > 0, turn, last)

        def reached(k: Tensor) -> Tensor:
            below = torch.minimum(start + k * self.gain, unfired)
            return torch.maximum(start, below) + (last - k) * rise

        return torch.maximum(reached(turn), reached((turn + 1).clamp(max=last)))
