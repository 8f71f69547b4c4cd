"""What happens in time, and how it is written as a graph.

Layers see their values flat, the batch first. Here the steps lie in the batch, [T·batch, ...], and every
population has a Scan of its own. (The step graph of stages/export/onnx has another `Time`: one step of every
sample, whose states are inputs and outputs.)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from onnx import ValueInfoProto, helper

from ann2snn_cli.twins.onnx.arithmetic import Arithmetic
from ann2snn_cli.twins.onnx.builder import Builder, Dimensions, plus
from ann2snn_cli.twins.replay import Array

STEPS, BATCH = "T", "batch"  # the symbolic sizes
TO_THE_END = 2**63 - 1  # of a Slice
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Population:
    """The parameters of neurons that fire, as arrays of the graph's numbers."""

    shape: Shape
    threshold: Array
    bias: Array
    initial: Array


@dataclass(frozen=True)
class Firing:
    """The part of the contract that says when a neuron is first compared, and what it does then."""

    delay: int
    comparator: str
    reset_mode: str

    def fire(self, model: Builder, numbers: Arithmetic, potential: str, threshold: Array) -> tuple[str, str]:
        """(s, V after the reset): s ← V ≥ θ; V ← V − s·θ, or V·(1 − s)."""
        theta = model.constant(threshold, "threshold")
        fired = model.node("Greater" if self.comparator == ">" else "GreaterOrEqual", potential, theta)
        if self.reset_mode == "zero":
            after = model.constant(np.zeros((), numbers.kind))
        else:
            after = model.node("Sub", potential, theta)
        spikes = model.node("Cast", fired, to=numbers.spike)
        return spikes, model.node("Where", fired, after, potential)


class Time(Protocol):
    """What layers ask of time. Values are names of wide numbers, flat."""

    def running(self, name: str, shape: Shape) -> str:
        """The sum over all steps up to and including each."""

    def growth(self, name: str, shape: Shape) -> str:
        """What each step has more than the one before; the first, more than 0."""

    def fire(self, drive: str, population: Population) -> tuple[str, str]:
        """(spikes, potentials after the reset) of a population."""

    def show(self, name: str, called: str, element: int, shape: Shape) -> None:
        """Make it an output of the model, [T, batch, ...]."""

    def show_total(self, name: str, called: str, shape: Shape) -> None:
        """Make its sum over all steps an output of the model, [batch, ...]."""


# Whole trains --------------------------------------------------------------------------------------


@dataclass
class WholeTrains:
    """Layer after layer, each on whole trains in its own steps, with the steps in the batch."""

    model: Builder
    numbers: Arithmetic
    firing: Firing
    stimulus: str  # of any input: [T, batch, ...]
    shown: list[tuple[str, int, Dimensions]] = field(default_factory=list)  # (called, element, shape)

    def _by_step(self, name: str, shape: Shape) -> str:
        """[T·batch, ...] as [T, batch, ...]."""
        lead = self.model.node("Shape", self.stimulus, start=0, end=2)
        sizes = self.model.node("Concat", lead, self.model.sizes(*shape), axis=0)
        return self.model.node("Reshape", name, sizes)

    def running(self, name: str, shape: Shape) -> str:
        """CumSum along the steps."""
        first = self.model.constant(np.zeros((), np.int64), "axis")
        return self.model.reshape(self.model.node("CumSum", self._by_step(name, shape), first), shape)

    def growth(self, name: str, shape: Shape) -> str:
        """The train, less the same train put off by one step."""
        model, train, rest = self.model, self._by_step(name, shape), [0] * (1 + len(shape))
        late = model.node("Pad", train, model.sizes(1, *rest, 0, *rest))
        late = model.node("Slice", late, model.sizes(0), model.sizes(-1), model.sizes(0))
        return model.reshape(model.node("Sub", train, late), shape)

    def fire(self, drive: str, population: Population) -> tuple[str, str]:
        """V ← V0 + the charges of D steps; then T times: V ← V + the next charge, compare, reset."""
        model = self.model
        charges = self._by_step(plus(model, drive, population.bias), population.shape)
        potential = self._of_every_sample(population.initial, population.shape)
        if self.firing.delay:
            begin = model.node(
                "Slice", charges, model.sizes(0), model.sizes(self.firing.delay), model.sizes(0)
            )
            potential = model.node("Add", potential, self._over_steps(begin))
            charges = self._later(charges, len(population.shape))
        _, spikes, potentials = self._scan(potential, charges, population)
        return model.reshape(spikes, population.shape), model.reshape(potentials, population.shape)

    def _of_every_sample(self, values: Array, shape: Shape) -> str:
        """Values that broadcast to a shape, as [batch, *shape]."""
        batch = self.model.node("Shape", self.stimulus, start=1, end=2)
        sizes = self.model.node("Concat", batch, self.model.sizes(*shape), axis=0)
        return self.model.node("Expand", self.model.constant(values, "initial"), sizes)

    def _over_steps(self, train: str, called: str = "") -> str:
        """The sum of [steps, batch, ...] over the steps."""
        return self.model.node("ReduceSum", train, self.model.sizes(0), keepdims=0, called=called)

    def _later(self, charges: str, rank: int) -> str:
        """The charges of steps D+1 to D+T: there are none behind step T."""
        model, delay, rest = self.model, self.firing.delay, [0] * (1 + rank)
        padded = model.node("Pad", charges, model.sizes(0, *rest, delay, *rest))
        return model.node("Slice", padded, model.sizes(delay), model.sizes(TO_THE_END), model.sizes(0))

    def _scan(self, potential: str, charges: str, population: Population) -> list[str]:
        """A Scan over the T firing steps."""
        body = Builder(self.model.taken, self.model.layer)
        before, charge = body.name("before"), body.name("charge")
        now = body.node("Add", before, charge)
        spikes, after = self.firing.fire(body, self.numbers, now, population.threshold)
        inputs = [info(name, self.numbers.element, (BATCH, *population.shape)) for name in (before, charge)]
        kinds = [
            (after, "next", self.numbers.element),
            (spikes, "spikes", self.numbers.spike),
            (after, "potentials", self.numbers.element),
        ]
        outputs = [
            info(body.node("Identity", name, called=body.name(what)), kind, (BATCH, *population.shape))
            for name, what, kind in kinds
        ]
        return self.model.scan(body.graph("fire", inputs, outputs), [potential], [charges])

    def show(self, name: str, called: str, element: int, shape: Shape) -> None:
        """An output of the graph."""
        self.model.node("Identity", self._by_step(name, shape), called=called)
        self.shown.append((called, element, (STEPS, BATCH, *shape)))

    def show_total(self, name: str, called: str, shape: Shape) -> None:
        """ReduceSum along the steps."""
        self._over_steps(self._by_step(name, shape), called=called)
        self.shown.append((called, self.numbers.element, (BATCH, *shape)))


def info(name: str, element: int, shape: Dimensions) -> ValueInfoProto:
    """A value's name, type and shape in ONNX's words."""
    return helper.make_tensor_value_info(name, element, list(shape))
