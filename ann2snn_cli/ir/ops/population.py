"""What all neurons that fire share: how they integrate a train, wait and fire. The base of a user's own."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ann2snn_cli import lookup
from ann2snn_cli.errors import UsageError
from ann2snn_cli.ir.contract import Rounding
from ann2snn_cli.ir.neuron import clamp_, floor_, straight_through
from ann2snn_cli.ir.ops.base import Activity, Held, Op, Place, cast, constant_span, unbounded, union
from ann2snn_cli.ir.span import Span

MOST_SPIKES = 255  # a step: what a byte holds
ONE, NONE = torch.tensor(1), torch.tensor(0)


def half(threshold: Tensor, place: Place) -> Tensor:
    """Half a spike of charge: what a count is rounded by."""
    return threshold / 2 if place.has_float_weights else floor_(threshold / 2)


def has_no_end(spans: list[Tensor]) -> bool:
    """Is one of them infinite?"""
    return any(bool(span.isinf().any()) for span in spans)


class Population(Op):
    """Base of all neurons that fire, SPEC 1 and 5. SPIKING only.

    V ← V + 2^fraction_bits·x + bias for the T steps of its input; after D of them, T times
    (s, V) ← step(V, threshold).
    """

    threshold: Tensor  # integers; [] or broadcasting to the node's shape
    bias: Tensor  # integers, at every step of the input
    initial: Tensor  # integers: the potential before the first step
    fraction_bits: int

    fires = True

    def step(self, potential: Tensor, threshold: Tensor, place: Place) -> tuple[Tensor, Tensor]:
        """Compare, then reset: (spikes, potential after the reset)."""
        raise self._refusal("at a step")

    def details(self) -> str:
        """Its threshold and initial potential."""
        fraction = f", {self.fraction_bits} fraction bits" if self.fraction_bits else ""
        return f"threshold {_ends(self.threshold)}, initial {_ends(self.initial)}{fraction}"

    def train(self, trains: list[Tensor], place: Place) -> Activity:
        """Integrate D steps with firing switched off; then T times integrate what is left, compare, reset."""
        steps, delay = place.steps, place.contract.delay
        initial, bias, threshold = (
            cast(value, trains[0]) for value in (self.initial, self.bias, self.threshold)
        )

        def charge(train: Tensor) -> Tensor:
            charged: Tensor = train * 2**self.fraction_bits + bias
            return charged

        potential = torch.zeros_like(charge(trains[0][0])) + initial + charge(trains[0][:delay]).sum(0)
        spikes = potential.new_empty(steps, *potential.shape)  # written step by step: a train is large
        potentials = torch.empty_like(spikes) if place.keeps_potentials else None
        for step in range(delay, delay + steps):
            if step < steps:
                potential = potential + charge(trains[0][step])
            spikes[step - delay], potential = self.step(potential, threshold, place)
            if potentials is not None:
                potentials[step - delay] = potential
        return Activity(spikes, potentials)

    def advance(self, xs: list[Tensor], held: Held, step: int, place: Place) -> tuple[Tensor, Held]:
        """Integrate, compare, reset; it holds its potential."""
        initial, bias, threshold = (cast(value, xs[0]) for value in (self.initial, self.bias, self.threshold))
        charge = xs[0] * 2**self.fraction_bits + bias
        before = held["potential"] if held else torch.zeros_like(charge) + initial
        spikes, potential = self.step(before + charge, threshold, place)
        return spikes, {"potential": potential}

    def charge(self, drive: Tensor, place: Place) -> Tensor:
        """All that it holds once its whole input is integrated: V0 + 2^fraction_bits·U + T·B."""
        drive = drive * 2**self.fraction_bits if self.fraction_bits else drive
        charged: Tensor = drive + cast(self.initial + place.steps * self.bias, drive)
        return charged

    def adds_per_spike(self, spans: Sequence[Span]) -> Span:
        """What its synapses add, shifted by its fraction bits."""
        shift = 2**self.fraction_bits
        return union(spans) * Span(shift, shift)

    def real_bias(self, unit: Tensor, place: Place) -> Tensor:
        """The real bias that its integers stand for, as rounded; `unit` is that of its input."""
        whole = place.steps * self.bias + self.initial
        if place.contract.rounding is not Rounding.NONE or place.has_float_weights:
            whole = whole - half(self.threshold, place)
        bias: Tensor = whole * unit / 2**self.fraction_bits / place.steps
        return bias


def _ends(values: Tensor) -> str:
    """Lowest and highest: integers to their last unit, floats (at 32 bits) to six digits."""
    ends = dict.fromkeys((values.min().item(), values.max().item()))
    return "..".join(f"{end:g}" if isinstance(end, float) else str(end) for end in ends)


@dataclass(frozen=True, eq=False)
class Neuron(Population):
    """Base of a user's own neurons: a class of theirs says in `fire` what a step is.

        class Burst(Neuron):
            def fire(self, potential, threshold):
                spikes = (potential / threshold).floor().clamp(0, self.most)
                return spikes, potential - spikes * threshold

    At most `most` spikes a step, so `most`·T of them stand for the clip and θ is A/`most`: as many times more
    levels. `fire` leaves a whole potential whole, and between 0 and what it was. What the reset mode says is
    for neurons of ours.
    """

    threshold: Tensor = ONE  # these three are found by the conversion
    bias: Tensor = NONE
    initial: Tensor = NONE
    fraction_bits: int = 0
    most: int = 1  # spikes a step

    def fire(self, potential: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """(spikes, potential after the reset) of a step that has integrated its input already."""
        raise self._refusal("at a step: it has no method fire(potential, threshold)")

    def step(self, potential: Tensor, threshold: Tensor, place: Place) -> tuple[Tensor, Tensor]:
        """What `fire` gives, held against what it may give."""
        return self._fired(potential, threshold, place.label)

    def try_out(self, layer: str) -> None:
        """Fire once at potentials around the threshold, so that a wrong `fire` is found before any work."""
        threshold = torch.tensor(64.0, dtype=torch.float64)
        reach = 64 * (self.most + 1)
        self._fired(torch.arange(-reach, reach + 1, dtype=torch.float64)[None], threshold, layer)

    def _fired(self, potential: Tensor, threshold: Tensor, layer: str) -> tuple[Tensor, Tensor]:
        fire = lookup.Reference(_file_of(type(self)), f"{type(self).__qualname__}.fire")
        remedy = f"the neuron {self.kind} failed at {layer}: correct its fire(potential, threshold)"
        with lookup.users_code(fire, UsageError, remedy):
            given = self.fire(potential.clone(), threshold)
        if why := _nonsense(given, potential, self.most):
            what = f"{self.kind}.fire, a function of yours, {why} at {layer}"
            words = f"0 to {self.most} spikes, and a potential between 0 and what it was"
            raise UsageError(what, where=fire.shown, remedy=f"return (spikes, potential): {words}")
        spikes, after = given
        return spikes.to(potential.dtype), after.to(potential.dtype)

    def sums(self, xs: list[Tensor], place: Place) -> Tensor:
        """T steps of `fire` with the whole charge; the gradient is that of clip(V/θ, 0, most·T)."""
        charge = self.charge(xs[0], place)
        threshold = cast(self.threshold, charge)
        potential, counts = charge.detach(), torch.zeros_like(charge.detach())
        for _ in range(place.steps):
            spikes, potential = self.step(potential, threshold.detach(), place)
            counts = counts + spikes
        return straight_through(clamp_(charge / threshold, 0, self.most * place.steps), counts)

    def span(self, spans: list[Tensor], place: Place) -> Tensor:
        """Spikes."""
        return constant_span(place, 0, self.most)

    def potential(self, spans: list[Tensor], place: Place) -> Tensor | None:
        """All that it may hold: a step leaves no potential further from 0 than it was."""
        if has_no_end(spans):
            return unbounded(place)
        low, high = spans[0] * 2**self.fraction_bits
        least = self.initial.clamp(max=0) + place.steps * (low + self.bias.clamp(max=0))
        most = self.initial.clamp(min=0) + place.steps * (high + self.bias.clamp(min=0))
        return torch.stack([least + torch.zeros_like(low), most + torch.zeros_like(high)])


def _file_of(kind: type) -> str:
    try:
        return inspect.getsourcefile(kind) or kind.__module__
    except (TypeError, OSError):  # typed in, or made by a program
        return kind.__module__


def _nonsense(given: Any, before: Tensor, most: int) -> str:
    """What is wrong with what `fire` gave; empty if nothing is."""
    if not isinstance(given, tuple) or len(given) != 2:
        return f"gave a {type(given).__name__}, not (spikes, potential)"
    for what, values in zip(("spikes", "a potential"), given, strict=True):
        if not isinstance(values, Tensor):
            return f"gave {what} of type {type(values).__name__}"
        if values.shape != before.shape:
            return f"gave {what} of shape {tuple(values.shape)}, where there are {tuple(before.shape)}"
        if bool(values.isnan().any()):
            return f"gave {what} that is NaN"
    spikes, after = (values.to(before.dtype) for values in given)
    if bool(((spikes < 0) | (spikes > most) | (spikes != spikes.round())).any()):
        return f"gave {float(_worst(spikes, most)):g} spikes in a step"
    zero = torch.zeros_like(before)
    if bool(((after < torch.minimum(before, zero)) | (after > torch.maximum(before, zero))).any()):
        return "gave a potential that is further from 0 than it was, or beyond it"
    if bool(((after != after.round()) & (before == before.round())).any()):
        return "gave a potential that is no whole number"
    return ""


def _worst(spikes: Tensor, most: int) -> Tensor:
    """The first that cannot be."""
    return spikes[(spikes < 0) | (spikes > most) | (spikes != spikes.round())][0]
