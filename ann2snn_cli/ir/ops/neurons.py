"""Where currents end and biases live: populations, as a ReLU and as neurons that fire, and read-outs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ann2snn_cli.errors import InvalidGraph
from ann2snn_cli.ir import neuron
from ann2snn_cli.ir.contract import Rounding
from ann2snn_cli.ir.neuron import floor_, round_
from ann2snn_cli.ir.ops.accumulator import Accumulator
from ann2snn_cli.ir.ops.base import Activity, Held, Integers, Op, Place, cast, constant_span, unbounded, union
from ann2snn_cli.ir.ops.pools import AvgPool
from ann2snn_cli.ir.ops.population import Neuron, Population, half, has_no_end
from ann2snn_cli.ir.span import Span
from ann2snn_cli.ir.units import EXACT, fraction_bits
from ann2snn_cli.types import Shape

COARSE_THRESHOLD = 32  # below this θ is too coarse: fraction bits refine it ...
FINE_THRESHOLD = 256  # ... to at least this


@dataclass(frozen=True, eq=False)
class Relu(Op):
    """y = min(max(x + bias, 0), limit): what becomes a population of neurons."""

    limit: float | None = None  # 6 for ReLU6
    bias: Tensor | None = None  # FOLDED: broadcasts to the node's shape
    clip: Tensor | None = None  # CALIBRATED: the largest activation it will represent, []
    inherits_clip: bool = False  # behind a pooling of spikes: its clip is that of what is pooled
    neuron: Neuron | None = None  # of a user's own, in the place of integrate-and-fire
    clip_rule: Callable[[Any], Tensor] | None = None  # a user's own, from its activations; None: the mode

    fires = True

    def details(self) -> str:
        """Its limit, and neurons of a user's own."""
        limit = [] if self.limit is None else [f"at most {self.limit:g}"]
        return ", ".join([*limit, *([f"neurons {self.neuron.kind}"] if self.neuron else [])])

    def real(self, xs: list[Tensor], shape: Shape) -> Tensor:
        """The rectifier."""
        x = xs[0] if self.bias is None else xs[0] + cast(self.bias, xs[0])
        return torch.clamp(x, 0, self.limit) if self.limit is not None else torch.relu(x)

    def integers(self, units: list[Tensor], place: Place) -> Integers:
        """θ = max(1, round(A/unit)), then the snap A := θ·unit; A is shared by the spikes of a step."""
        (unit,) = units
        clip = self._clip(unit, place) / (self.neuron.most if self.neuron else 1)
        bits = 0 if place.has_float_weights else _bits_of(clip, unit)
        fine = unit / 2**bits
        if place.has_float_weights:
            threshold = clip / unit
        else:
            threshold = torch.clamp_min(round_(clip * 2**bits / unit), 1)
        bias, initial = _charges(self.bias, fine, half(threshold, place), place)
        if self.neuron is None:
            return IntegrateFire(threshold, bias, initial, bits), threshold * fine
        own = replace(self.neuron, threshold=threshold, bias=bias, initial=initial, fraction_bits=bits)
        return own, threshold * fine

    def _clip(self, unit: Tensor, place: Place) -> Tensor:
        """The real activation that T spikes stand for, before θ is rounded."""
        if self.inherits_clip:
            pool = place.feeders[0].op
            assert isinstance(pool, AvgPool)
            return unit * pool.count
        if self.clip is None:
            raise InvalidGraph(f"the population {place.node.name!r} has no clip yet", where=place.node.source)
        return self.clip.to(torch.float64)


def own_neuron(op: Op) -> Neuron | None:
    """The neurons of a user's own that a population has, or will have."""
    return op.neuron if isinstance(op, Relu) else op if isinstance(op, Neuron) else None


def _bits_of(clip: Tensor, unit: Tensor) -> int:
    exact = (clip / unit).detach()
    is_integer = bool(((exact - exact.round()).abs() <= EXACT * exact).all())
    smallest = float(COARSE_THRESHOLD) if is_integer else float(exact.min())
    return fraction_bits(smallest, COARSE_THRESHOLD, FINE_THRESHOLD)


def _charges(bias: Tensor | None, unit: Tensor, half: Tensor, place: Place) -> tuple[Tensor, Tensor]:
    """The bias at every step and the potential before the first (SPEC 1, 2).

    B_total = round(T·b/unit) is split into B = ⌊B_total/T⌋ and a remainder that joins V0, so over T steps the
    bias is exact. A chip that cannot preset V drops the remainder (`rounding` bias or none).
    """
    contract = place.contract
    whole = torch.zeros_like(unit) if bias is None else contract.timesteps * bias.to(torch.float64) / unit
    if place.has_float_weights:
        return whole / contract.timesteps, half
    whole = round_(whole)
    if contract.rounding is Rounding.BIAS:
        whole = whole + half
    each = floor_(whole / contract.timesteps)
    if contract.rounding is Rounding.POTENTIAL:
        return each, half + (whole - contract.timesteps * each)
    return each, torch.zeros_like(each)


@dataclass(frozen=True, eq=False)
class IntegrateFire(Population):
    """A population of integrate-and-fire neurons, SPEC 1 and 5. SPIKING only.

    V ← V + 2^fraction_bits·x + bias for the T steps of its input; after D of them, T times:
    s ← V ≥ threshold;  V ← V − s·threshold (or V·(1 − s)).
    """

    threshold: Tensor  # integers; [] or broadcasting to the node's shape
    bias: Tensor  # integers, at every step of the input
    initial: Tensor  # integers: the potential before the first step
    fraction_bits: int = 0

    def step(self, potential: Tensor, threshold: Tensor, place: Place) -> tuple[Tensor, Tensor]:
        """At most one spike, and the reset of the contract."""
        return neuron.fire(potential, threshold, place.contract.reset_mode)

    def sums(self, xs: list[Tensor], place: Place) -> Tensor:
        """N = clip(⌊(V0 + 2^fraction_bits·U + T·B)/θ⌋, 0, T)."""
        charge = self.charge(xs[0], place)
        return neuron.count(charge, cast(self.threshold, charge), place.steps)

    def span(self, spans: list[Tensor], place: Place) -> Tensor:
        """Spikes."""
        return constant_span(place, 0, 1)

    def potential(self, spans: list[Tensor], place: Place) -> Tensor | None:
        """All that lies in its accumulator."""
        if has_no_end(spans):
            return unbounded(place)
        scaled = spans[0] * 2**self.fraction_bits
        whole = not place.has_float_weights and not self.threshold.is_floating_point()
        held = Accumulator(
            scaled[0], scaled[1], self.bias, self.initial, self.threshold, int(whole), place.contract
        )
        return held.extremes()


@dataclass(frozen=True, eq=False)
class Integrate(Op):
    """y = x + bias: neurons that never fire. They read out the last layer, and carry biases elsewhere.

    SPIKING: at step t it passes on its input plus `bias`, at the first step also `initial`; summed over the
    steps that is the potential V of a neuron that never resets.
    """

    bias: Tensor | None = None
    initial: Tensor | None = None  # SPIKING

    def real(self, xs: list[Tensor], shape: Shape) -> Tensor:
        """x + bias."""
        return xs[0] if self.bias is None else xs[0] + cast(self.bias, xs[0])

    def integers(self, units: list[Tensor], place: Place) -> Integers:
        """The bias in units of its input, split as that of a population; real numbers take a real bias."""
        (unit,) = units
        if self.bias is None:
            return self, unit
        if place.is_real:
            return Integrate(self.bias.to(torch.float64) / unit, torch.zeros_like(unit)), unit
        bias, initial = _charges(self.bias, unit, torch.zeros_like(unit), place)
        return Integrate(bias, initial), unit

    def branches(self, labels: list[Tensor], place: Place) -> Tensor | None:
        """A bias is added in the units that are there: a value stays in its branch."""
        return labels[0]

    def train(self, trains: list[Tensor], place: Place) -> Activity:
        """Input plus bias, and the initial charge with the first step; V is the sum so far."""
        train = trains[0] if self.bias is None else trains[0] + cast(self.bias, trains[0])
        if self.initial is not None:
            train = torch.cat([train[:1] + cast(self.initial, train), train[1:]])
        return Activity(train, train.cumsum(0) if place.keeps_potentials else None)

    def advance(self, xs: list[Tensor], held: Held, step: int, place: Place) -> tuple[Tensor, Held]:
        """Input plus bias, and the initial charge in the first step; it holds nothing."""
        y = xs[0] if self.bias is None else xs[0] + cast(self.bias, xs[0])
        return (y if self.initial is None or step > 1 else y + cast(self.initial, y)), held

    def sums(self, xs: list[Tensor], place: Place) -> Tensor:
        """U + T·B + V0."""
        drive = xs[0]
        if self.bias is not None:
            drive = drive + cast(place.steps * self.bias, drive)
        return drive if self.initial is None else drive + cast(self.initial, drive)

    def span(self, spans: list[Tensor], place: Place) -> Tensor:
        """Input, bias and, at the first step, the initial charge: any of them may be added first."""
        low, high = spans[0]
        for charge in (self.bias, self.initial):
            if charge is not None:
                low, high = low + charge.clamp(max=0), high + charge.clamp(min=0)
        return torch.stack([low, high])

    def potential(self, spans: list[Tensor], place: Place) -> Tensor | None:
        """All that it adds up: a neuron whose threshold is out of reach, and which nothing delays."""
        if has_no_end(spans):
            return unbounded(place)
        nothing = spans[0].new_zeros(())
        bias, initial = (nothing if value is None else value for value in (self.bias, self.initial))
        contract = replace(place.contract, delay=0)
        never = spans[0].new_tensor(torch.inf)
        return Accumulator(spans[0][0], spans[0][1], bias, initial, never, 1, contract).extremes()

    def adds_per_spike(self, spans: Sequence[Span]) -> Span:
        """Whatever its synapses add."""
        return union(spans)

    def real_bias(self, unit: Tensor, place: Place) -> Tensor:
        """The real bias that its integers stand for, as rounded; `unit` is that of its input."""
        if self.bias is None or self.initial is None:
            return torch.zeros_like(unit)
        bias: Tensor = (place.steps * self.bias + self.initial) * unit / place.steps
        return bias
