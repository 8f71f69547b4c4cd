"""What happens in time, and how it is written as a graph.

Layers see their values flat, the batch first. In the graph of a whole network the steps lie in the batch,
[T·batch, ...], and every population has a Scan of its own. In the graph of one step it is that step of every
sample, [batch, ...], and what is remembered from step to step, the states, are inputs and outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from onnx import ValueInfoProto, helper

from ann2snn_cli.twins.onnx.arithmetic import Arithmetic
from ann2snn_cli.twins.onnx.draft import Dimensions, Draft, plus
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
    """Of the contract, when a neuron is compared for the first time, and what it does whenever it is."""

    delay: int
    comparator: str
    reset_mode: str

    def fire(self, draft: Draft, numbers: Arithmetic, potential: str, threshold: Array) -> tuple[str, str]:
        """(s, V after the reset): s ← V ≥ θ; V ← V − s·θ, or V·(1 − s)."""
        theta = draft.constant(threshold, "threshold")
        fired = draft.node("Greater" if self.comparator == ">" else "GreaterOrEqual", potential, theta)
        if self.reset_mode == "zero":
            after = draft.constant(np.zeros((), numbers.kind))
        else:
            after = draft.node("Sub", potential, theta)
        spikes = draft.node("Cast", fired, to=numbers.spike)
        return spikes, draft.node("Where", fired, after, potential)


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


# One step ------------------------------------------------------------------------------------------


@dataclass
class State:
    """What is remembered from step to step; 0 before the first."""

    what: str  # LAYER/potential, LAYER/sum or LAYER/previous
    shape: Shape
    before: str  # its value when the step begins
    after: str = ""  # and when it ends


@dataclass
class OneStep:
    """One step of all layers, of a network without a firing delay."""

    draft: Draft
    numbers: Arithmetic
    firing: Firing
    states: list[State] = field(default_factory=list)
    shown: list[tuple[str, str, int, Shape]] = field(default_factory=list)  # (name, called, element, shape)
    _sums: dict[str, State] = field(default_factory=dict)

    def _remember(self, what: str, shape: Shape) -> State:
        what = self.draft.name(what)
        self.states.append(State(what, shape, self.draft.unique(f"state/{what}")))
        return self.states[-1]

    def running(self, name: str, shape: Shape) -> str:
        """A state to which every step is added."""
        if name not in self._sums:
            self._sums[name] = state = self._remember("sum", shape)
            state.after = self.draft.node("Add", state.before, name)
        return self._sums[name].after

    def growth(self, name: str, shape: Shape) -> str:
        """A state that holds the step before."""
        state = self._remember("previous", shape)
        state.after = name
        return self.draft.node("Sub", name, state.before)

    def fire(self, drive: str, population: Population) -> tuple[str, str]:
        """V ← V + drive + B, compare, reset; the state is V − V0."""
        draft, state = self.draft, self._remember("potential", population.shape)
        before = plus(draft, state.before, population.initial)
        potential = draft.node("Add", before, plus(draft, drive, population.bias))
        spikes, after = self.firing.fire(draft, self.numbers, potential, population.threshold)
        state.after = plus(draft, after, -population.initial)
        return spikes, after

    def show(self, name: str, called: str, element: int, shape: Shape) -> None:
        """An output of the step."""
        self.shown.append((name, called, element, shape))

    def show_total(self, name: str, called: str, shape: Shape) -> None:
        """The running sum: after the last step it is the total."""
        self.show(self.running(name, shape), called, self.numbers.element, shape)

    def inputs(self) -> list[ValueInfoProto]:
        """The states before the step."""
        return [info(state.before, self.numbers.element, (BATCH, *state.shape)) for state in self.states]

    def outputs(self) -> list[ValueInfoProto]:
        """The states after the step, then what is shown."""
        after = [
            (state.after, f"next/{state.what}", self.numbers.element, state.shape) for state in self.states
        ]
        return [self._output(*each) for each in after + self.shown]

    def _output(self, name: str, called: str, element: int, shape: Shape) -> ValueInfoProto:
        """A value of its own, since none may be two outputs."""
        return info(self.draft.node("Identity", name, called=called), element, (BATCH, *shape))


# Whole trains --------------------------------------------------------------------------------------


@dataclass
class WholeTrains:
    """Layer after layer, each on whole trains in its own steps, with the steps in the batch."""

    draft: Draft
    numbers: Arithmetic
    firing: Firing
    stimulus: str  # [T, batch, ...]
    shown: list[tuple[str, int, Dimensions]] = field(default_factory=list)  # (called, element, shape)

    def _by_step(self, name: str, shape: Shape) -> str:
        """[T·batch, ...] as [T, batch, ...]."""
        lead = self.draft.node("Shape", self.stimulus, start=0, end=2)
        sizes = self.draft.node("Concat", lead, self.draft.sizes(*shape), axis=0)
        return self.draft.node("Reshape", name, sizes)

    def running(self, name: str, shape: Shape) -> str:
        """CumSum along the steps."""
        first = self.draft.constant(np.zeros((), np.int64), "axis")
        return self.draft.reshape(self.draft.node("CumSum", self._by_step(name, shape), first), shape)

    def growth(self, name: str, shape: Shape) -> str:
        """The train, less the same train put off by one step."""
        draft, train, rest = self.draft, self._by_step(name, shape), [0] * (1 + len(shape))
        late = draft.node("Pad", train, draft.sizes(1, *rest, 0, *rest))
        late = draft.node("Slice", late, draft.sizes(0), draft.sizes(-1), draft.sizes(0))
        return draft.reshape(draft.node("Sub", train, late), shape)

    def fire(self, drive: str, population: Population) -> tuple[str, str]:
        """V ← V0 + the charges of D steps; then T times: V ← V + the next charge, compare, reset."""
        draft = self.draft
        charges = self._by_step(plus(draft, drive, population.bias), population.shape)
        potential = self._of_every_sample(population.initial, population.shape)
        if self.firing.delay:
            begin = draft.node(
                "Slice", charges, draft.sizes(0), draft.sizes(self.firing.delay), draft.sizes(0)
            )
            potential = draft.node("Add", potential, self._over_steps(begin))
            charges = self._later(charges, len(population.shape))
        _, spikes, potentials = self._scan(potential, charges, population)
        return draft.reshape(spikes, population.shape), draft.reshape(potentials, population.shape)

    def _of_every_sample(self, values: Array, shape: Shape) -> str:
        """Values that broadcast to a shape, as [batch, *shape]."""
        batch = self.draft.node("Shape", self.stimulus, start=1, end=2)
        sizes = self.draft.node("Concat", batch, self.draft.sizes(*shape), axis=0)
        return self.draft.node("Expand", self.draft.constant(values, "initial"), sizes)

    def _over_steps(self, train: str, called: str = "") -> str:
        """The sum of [steps, batch, ...] over the steps."""
        return self.draft.node("ReduceSum", train, self.draft.sizes(0), keepdims=0, called=called)

    def _later(self, charges: str, rank: int) -> str:
        """The charges of steps D+1 to D+T: there are none behind step T."""
        draft, delay, rest = self.draft, self.firing.delay, [0] * (1 + rank)
        padded = draft.node("Pad", charges, draft.sizes(0, *rest, delay, *rest))
        return draft.node("Slice", padded, draft.sizes(delay), draft.sizes(TO_THE_END), draft.sizes(0))

    def _scan(self, potential: str, charges: str, population: Population) -> list[str]:
        """A Scan over the T firing steps."""
        body = Draft(self.draft.taken, self.draft.layer)
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
        return self.draft.scan(body.graph("fire", inputs, outputs), [potential], [charges])

    def show(self, name: str, called: str, element: int, shape: Shape) -> None:
        """An output of the graph."""
        self.draft.node("Identity", self._by_step(name, shape), called=called)
        self.shown.append((called, element, (STEPS, BATCH, *shape)))

    def show_total(self, name: str, called: str, shape: Shape) -> None:
        """ReduceSum along the steps."""
        self._over_steps(self._by_step(name, shape), called=called)
        self.shown.append((called, self.numbers.element, (BATCH, *shape)))


def info(name: str, element: int, shape: Dimensions) -> ValueInfoProto:
    """A value's name, type and shape in ONNX's words."""
    return helper.make_tensor_value_info(name, element, list(shape))
