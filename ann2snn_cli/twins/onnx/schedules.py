"""The two schedules: what happens in time, and how it is written as a graph.

Layers see their values flat, the batch first. Stepwise that is one step of every sample, [batch, ...], and
the graph is the body of a Scan whose states are the potentials, counts and running sums. Layerwise the steps
lie in the batch, [T·batch, ...], and every population has a Scan of its own for its T firing steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from onnx import TensorProto, ValueInfoProto, helper

from ann2snn_cli.twins.onnx.arithmetic import Arithmetic
from ann2snn_cli.twins.onnx.draft import Dimensions, Draft, plus
from ann2snn_cli.twins.replay import Array

STEPS, BATCH = "T", "batch"  # the symbolic sizes
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Population:
    """The parameters of neurons that fire, as arrays of the graph's numbers."""

    shape: Shape
    threshold: Array
    bias: Array
    initial: Array


@dataclass(frozen=True)
class Rule:
    """Of the contract, what a neuron does when it is compared."""

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


class Schedule(Protocol):
    """What layers ask of a schedule. Values are names of wide numbers, flat."""

    def running(self, name: str, shape: Shape) -> str:
        """The sum over all steps up to and including each."""

    def growth(self, name: str, shape: Shape) -> str:
        """What each step has more than the one before; the first, more than 0."""

    def fire(self, drive: str, of: Population) -> tuple[str, str]:
        """(spikes, potentials after the reset) of a population."""

    def show(self, name: str, called: str, element: int, shape: Shape) -> None:
        """Make it an output of the model, [T, batch, ...]."""

    def show_total(self, name: str, called: str, shape: Shape) -> None:
        """Make its sum over all steps an output of the model, [batch, ...]."""


# Stepwise ------------------------------------------------------------------------------------------


@dataclass
class State:
    """What is remembered from step to step."""

    what: str  # LAYER/potential, LAYER/sum or LAYER/previous
    shape: Shape
    initial: Array
    before: str  # its value when a step begins
    after: str = ""  # and when it ends
    total: str = ""  # the output that its last value is


@dataclass
class Stepwise:
    """All layers, one step. With `zero_start` every state is 0 before the first step."""

    draft: Draft
    numbers: Arithmetic
    rule: Rule
    zero_start: bool = False
    states: list[State] = field(default_factory=list)
    shown: list[tuple[str, str, int, Shape]] = field(default_factory=list)  # (name, called, element, shape)
    _sums: dict[str, State] = field(default_factory=dict)

    def _remember(self, what: str, shape: Shape, initial: Array) -> State:
        what = self.draft.name(what)
        self.states.append(State(what, shape, initial, self.draft.unique(f"state/{what}")))
        return self.states[-1]

    def _nothing(self) -> Array:
        return np.zeros((), self.numbers.kind)

    def running(self, name: str, shape: Shape) -> str:
        """A state to which every step is added."""
        if name not in self._sums:
            self._sums[name] = state = self._remember("sum", shape, self._nothing())
            state.after = self.draft.node("Add", state.before, name)
        return self._sums[name].after

    def growth(self, name: str, shape: Shape) -> str:
        """A state that holds the step before."""
        state = self._remember("previous", shape, self._nothing())
        state.after = name
        return self.draft.node("Sub", name, state.before)

    def fire(self, drive: str, of: Population) -> tuple[str, str]:
        """V ← V + drive + B, compare, reset; V is the state (with `zero_start`, V − V0 is)."""
        draft, offset = self.draft, of.initial if self.zero_start else self._nothing()
        state = self._remember("potential", of.shape, of.initial - offset)
        before = plus(draft, state.before, offset)
        potential = draft.node("Add", before, plus(draft, drive, of.bias))
        spikes, after = self.rule.fire(draft, self.numbers, potential, of.threshold)
        state.after = plus(draft, after, -offset)
        return spikes, after

    def show(self, name: str, called: str, element: int, shape: Shape) -> None:
        """An output of every step."""
        self.shown.append((name, called, element, shape))

    def show_total(self, name: str, called: str, shape: Shape) -> None:
        """A running sum, whose last value is an output."""
        self.running(name, shape)
        self._sums[name].total = called

    def totals(self) -> list[State]:
        """The states whose last values are outputs."""
        return [state for state in self.states if state.total]

    def inputs(self) -> list[ValueInfoProto]:
        """The states before the step."""
        return [info(state.before, self.numbers.element, (BATCH, *state.shape)) for state in self.states]

    def outputs(self, under: str = "") -> list[ValueInfoProto]:
        """The states after the step, then what is shown, with `under` before its names."""
        after = [
            (state.after, f"next/{state.what}", self.numbers.element, state.shape) for state in self.states
        ]
        shown = [(name, f"{under}{called}", element, shape) for name, called, element, shape in self.shown]
        return [self._output(*each) for each in after + shown]

    def _output(self, name: str, called: str, element: int, shape: Shape) -> ValueInfoProto:
        """A value of its own, since none may be two outputs."""
        return info(self.draft.node("Identity", name, called=called), element, (BATCH, *shape))


def write_scan(outer: Draft, step: Stepwise, stimulus: str, now: ValueInfoProto) -> None:
    """Put a step, all written, into a Scan over the stimulus; `outer` gets the outputs under their names."""
    body = step.draft.graph("step", [*step.inputs(), now], step.outputs(under="step/"))
    batch = outer.node("Shape", stimulus, start=1, end=2)
    made = outer.scan(body, [_spread(outer, batch, state) for state in step.states], [stimulus])
    for state, last in zip(step.states, made, strict=False):
        if state.total:
            outer.node("Identity", last, called=state.total)
    for (_, called, _, _), train in zip(step.shown, made[len(step.states) :], strict=True):
        outer.node("Identity", train, called=called)


def _spread(outer: Draft, batch: str, state: State) -> str:
    """A state before the first step, the same for every sample."""
    shape = outer.node("Concat", batch, outer.sizes(*state.shape), axis=0)
    return outer.node("Expand", outer.constant(state.initial, f"initial/{state.what}"), shape)


# Layerwise -----------------------------------------------------------------------------------------


@dataclass
class Layerwise:
    """Layer after layer, each on whole trains, with the steps in the batch."""

    draft: Draft
    numbers: Arithmetic
    rule: Rule
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

    def _total(self, name: str, shape: Shape, called: str = "") -> str:
        train = self._by_step(name, shape)
        return self.draft.node("ReduceSum", train, self.draft.sizes(0), keepdims=0, called=called)

    def fire(self, drive: str, of: Population) -> tuple[str, str]:
        """V ← V0 + Σ drive + T·B; then T times: compare, reset."""
        draft = self.draft
        charge = plus(draft, self._total(drive, of.shape), of.initial)
        steps = draft.node("Shape", self.stimulus, start=0, end=1)
        if np.any(of.bias):
            count = draft.node("Cast", steps, to=self.numbers.element)
            charge = draft.node("Add", charge, draft.node("Mul", draft.constant(of.bias, "bias"), count))
        ticks = draft.node(
            "ConstantOfShape", steps, value=helper.make_tensor("", TensorProto.INT32, [1], [0])
        )
        _, spikes, potentials = self._firing(charge, ticks, of)
        return draft.reshape(spikes, of.shape), draft.reshape(potentials, of.shape)

    def _firing(self, charge: str, ticks: str, of: Population) -> list[str]:
        """A Scan of T steps that only fire; the ticks count them."""
        body = Draft(self.draft.taken, self.draft.layer)
        before, tick = body.name("potential"), body.name("tick")
        spikes, after = self.rule.fire(body, self.numbers, before, of.threshold)
        potential = info(before, self.numbers.element, (BATCH, *of.shape))
        inputs = [potential, info(tick, TensorProto.INT32, ())]
        kinds = [
            (after, "next", self.numbers.element),
            (spikes, "spikes", self.numbers.spike),
            (after, "potentials", self.numbers.element),
        ]
        outputs = [
            info(body.node("Identity", name, called=body.name(what)), kind, (BATCH, *of.shape))
            for name, what, kind in kinds
        ]
        return self.draft.scan(body.graph("fire", inputs, outputs), [charge], [ticks])

    def show(self, name: str, called: str, element: int, shape: Shape) -> None:
        """An output of the graph."""
        self.draft.node("Identity", self._by_step(name, shape), called=called)
        self.shown.append((called, element, (STEPS, BATCH, *shape)))

    def show_total(self, name: str, called: str, shape: Shape) -> None:
        """ReduceSum along the steps."""
        self._total(name, shape, called=called)
        self.shown.append((called, self.numbers.element, (BATCH, *shape)))


def info(name: str, element: int, shape: Dimensions) -> ValueInfoProto:
    """A value's name, type and shape in ONNX's words."""
    return helper.make_tensor_value_info(name, element, list(shape))
