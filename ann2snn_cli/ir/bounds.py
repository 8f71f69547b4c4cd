"""How large the integers of a SPIKING graph can get, proved from its weights: what a register must hold.

Interval arithmetic, element by element, over all samples. Of what its input passes on in one step, [l, h], a
linear op makes [W⁺·l + W⁻·h, W⁺·h + W⁻·l]. These intervals contain 0, so they hold the sum of any subset of
the synapses too: whatever lies in the accumulator between two additions, in any order.

Exact for integers below 2^53. Real weights are added up in floats: there it holds to a rounding error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ann2snn_cli.ir.contract import Contract, Reset
from ann2snn_cli.ir.graph import Graph, Node, sweep
from ann2snn_cli.ir.ops import (
    Add,
    Conv,
    Input,
    Integrate,
    IntegrateFire,
    Linear,
    MaxPool,
    Op,
    Opaque,
    Scale,
)
from ann2snn_cli.ir.run import linear, max_pool

EXACT_FLOAT64 = 2**53  # integers below this are exact in float64
EXACT_FLOAT32 = 2**22  # in float32 2^24; two bits are kept for convolution algorithms that are not plain sums


@dataclass(frozen=True)
class Span:
    """A closed interval of integers, in floats that hold them, or of real numbers; inf: it has no end."""

    low: float
    high: float

    @property
    def finite(self) -> bool:
        """Does it end on both sides?"""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def bits(self) -> int:
        """The fewest bits of a two's complement register that holds all of it. Needs a finite span.

        n bits hold −2^(n−1) .. 2^(n−1) − 1, so [0, 1] takes 2 and [−1, 0] takes 1.
        """
        low, high = math.floor(self.low), math.ceil(self.high)
        return 1 + max(value.bit_length() for value in (0, high, ~low) if value >= 0)

    @property
    def reach(self) -> float:
        """No sum of some of the terms is larger in magnitude, wherever an engine starts to add them."""
        return max(-self.low, self.high, self.high - self.low)

    def __or__(self, other: Span) -> Span:
        return Span(min(self.low, other.low), max(self.high, other.high))


@dataclass(frozen=True)
class Bound:
    """What is proved of a node, over all samples: the extremes over its elements."""

    passed_on: Span  # what it passes on in one step; 0 is in it, and what any subset of its terms adds up to
    total: Span  # the sum of that over any number of first steps, up to T
    potential: Span | None = None  # neurons: all that lies in the accumulator, also between two additions

    @property
    def largest(self) -> float:
        """No integer that an engine meets at this node is larger in magnitude."""
        spans = (self.passed_on, self.total, self.potential)
        return max(span.reach for span in spans if span is not None)

    def __or__(self, other: Bound) -> Bound:
        potential = None
        if self.potential is not None and other.potential is not None:
            potential = self.potential | other.potential
        return Bound(self.passed_on | other.passed_on, self.total | other.total, potential)


def bounds(graph: Graph, delay: int | None = None) -> dict[str, Bound]:
    """Needs SPIKING; gives what is proved of every node, for the graph's own delay unless one is given.

    Costs about as much as two forwards of one sample, once a graph and delay.
    """
    contract = graph.timing.with_delay(delay)
    known = _PROVED.setdefault(graph, {})
    if contract.delay not in known:
        known[contract.delay] = _prove(graph, contract)
    return known[contract.delay]


def exact_dtype(graph: Graph, delay: int | None = None) -> torch.dtype:
    """The narrowest floating type in which this graph's integers are exact; real numbers take float64."""
    if _has_fractions(graph):
        return torch.float64
    largest = max(bound.largest for bound in bounds(graph, delay).values())
    return torch.float32 if largest < EXACT_FLOAT32 else torch.float64


def _has_fractions(graph: Graph) -> bool:
    return any(
        isinstance(node.op, Conv | Linear | Scale) and node.op.weight.is_floating_point()
        for node in graph.nodes
    )


# The walk ------------------------------------------------------------------------------------------

_PROVED: WeakKeyDictionary[Graph, dict[int, dict[str, Bound]]] = WeakKeyDictionary()  # by delay, by node


def _prove(graph: Graph, contract: Contract) -> dict[str, Bound]:
    found: dict[str, Bound] = {}
    whole = not _has_fractions(graph)

    def compute(node: Node, xs: list[Tensor]) -> Tensor:
        passed_on = _passed_on(node, xs)
        potential = None
        if isinstance(node.op, IntegrateFire | Integrate):
            anything = not _finite(xs)
            potential = (
                _anything(node) if anything else _held(_Accumulator.of(contract, node.op, xs[0], whole))
            )
        found[node.name] = _bound(graph, node, passed_on, potential)
        return passed_on

    with torch.no_grad():
        sweep(graph, compute)
    return found


def _bound(graph: Graph, node: Node, passed_on: Tensor, potential: Tensor | None) -> Bound:
    step, steps = _extremes(passed_on), graph.timing.timesteps
    total = Span(steps * step.low, steps * step.high)
    if potential is None:
        return Bound(step, total)
    held = _extremes(potential)
    return Bound(step, held if isinstance(node.op, Integrate) else total, held)


def _extremes(span: Tensor) -> Span:
    return Span(float(span[0].min()), float(span[1].max()))


def _finite(xs: list[Tensor]) -> bool:
    return not any(bool(x.isinf().any()) for x in xs)


# What a node passes on in one step: [2, ...], the lowest and the highest, with 0 between them ---------


def _passed_on(node: Node, xs: list[Tensor]) -> Tensor:
    fires = isinstance(node.op, IntegrateFire)
    if isinstance(node.op, Opaque) or not (fires or _finite(xs)):
        return _anything(node)
    return _RULES.get(type(node.op), _linear)(node, node.op, xs)


def _constant(node: Node, low: float, high: float) -> Tensor:
    ends = torch.tensor([low, high], dtype=torch.float64, device=node.worth.device)
    return ends.reshape(2, *[1] * len(node.shape)).expand(2, *node.shape)


def _anything(node: Node) -> Tensor:
    return _constant(node, -math.inf, math.inf)


def _input(node: Node, op: Input, xs: list[Tensor]) -> Tensor:
    return _constant(node, min(op.low, 0), max(op.high, 0))


def _spikes(node: Node, op: IntegrateFire, xs: list[Tensor]) -> Tensor:
    return _constant(node, 0, 1)


def _linear(node: Node, op: Op, xs: list[Tensor]) -> Tensor:
    """[W⁺·l + W⁻·h, W⁺·h + W⁻·l] = (W·(h + l) ∓ |W|·(h − l)) / 2, by the node's own equation."""
    if not isinstance(op, Conv | Linear | Scale | Add):
        return linear(node, xs)  # sums and moves: the ends go where the values go
    middle = linear(node, [x[1:] + x[:1] for x in xs])
    width = linear(replace(node, op=_magnitudes(op)), [x[1:] - x[:1] for x in xs])
    if not _is_real(op):
        middle, width = middle.round(), width.round()  # some devices add up products only almost
    return torch.cat([middle - width, middle + width]) / 2


def _magnitudes(op: Conv | Linear | Scale | Add) -> Op:
    if isinstance(op, Add):
        assert op.weights is not None
        return replace(op, weights=tuple(weight.abs() for weight in op.weights))
    return replace(op, weight=op.weight.abs())


def _is_real(op: Conv | Linear | Scale | Add) -> bool:
    weights = op.weights if isinstance(op, Add) else (op.weight,)
    return any(weight.is_floating_point() for weight in weights or ())


def _max_pool(node: Node, op: MaxPool, xs: list[Tensor]) -> Tensor:
    """The maximum of the sums so far grows by no more, and no less, than one of its inputs does."""
    low, high = xs[0][:1], xs[0][1:]
    return torch.cat([-max_pool(node, op, [-low]), max_pool(node, op, [high])])


def _integrate(node: Node, op: Integrate, xs: list[Tensor]) -> Tensor:
    """Input, bias and, at the first step, the initial charge: any of them may be added first."""
    low, high = xs[0]
    for charge in (op.bias, op.initial):
        if charge is not None:
            low, high = low + charge.clamp(max=0), high + charge.clamp(min=0)
    return torch.stack([low, high])


_RULES: dict[type[Op], Callable[[Node, Any, list[Tensor]], Tensor]] = {
    Input: _input,
    IntegrateFire: _spikes,
    Integrate: _integrate,
    MaxPool: _max_pool,
}


# The accumulators of neurons -----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Accumulator:
    """What the neurons of a node are given; an `Integrate` is a neuron whose threshold is out of reach."""

    low: Tensor  # what the synapses add in one step: low ≤ 0 ≤ high
    high: Tensor
    bias: Tensor
    initial: Tensor
    threshold: Tensor
    unfired: Tensor  # the highest potential that does not fire: θ − 1, of real numbers θ
    contract: Contract

    @classmethod
    def of(cls, contract: Contract, op: IntegrateFire | Integrate, span: Tensor, whole: bool) -> _Accumulator:
        """The accumulators of one node, given what its input passes on."""
        nothing = span.new_zeros(())
        bias, initial = (
            nothing if value is None else value.to(span.dtype) for value in (op.bias, op.initial)
        )
        threshold, gap = span.new_tensor(math.inf), 1
        if isinstance(op, IntegrateFire):
            span = span * 2**op.fraction_bits
            gap = int(whole and not op.threshold.is_floating_point())
            threshold = op.threshold.to(span.dtype)
        return cls(span[0], span[1], bias, initial, threshold, threshold - gap, contract)

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


def _held(held: _Accumulator) -> Tensor:
    """The extremes of all that lies in the accumulator, [2, ...].

    Of the D steps before the first that may fire, any part may have been added; of the steps after them, what
    lies there between two steps plus any part of one step. A spike needs V ≥ θ and leaves V − θ or 0, so no
    less than 0.
    """
    steps, delay = held.contract.timesteps, held.contract.delay
    low = held.initial + delay * held.least
    high = held.initial + delay * held.most
    first = _first_spike(held)
    if delay < steps:
        low = torch.minimum(low, _lowest(held, first) + held.least)
        high = torch.maximum(high, _highest(held) + held.most)
    return torch.stack([torch.where(first <= steps, low.clamp(max=0), low), high])


def _first_spike(held: _Accumulator) -> Tensor:
    """How many steps are integrated when the first spike can come; inf if none can.

    That is the least n from max(1, D+1) to T, or T where D = T, with V0 + n·g ≥ θ, g the most a step adds.
    """
    steps, delay = held.contract.timesteps, held.contract.delay
    soonest = min(delay + 1, steps)
    if_it_grows = ((held.threshold - held.initial) / held.gain).ceil().clamp(min=soonest)
    fires_soonest = held.initial + soonest * held.gain >= held.threshold
    return torch.where(held.gain > 0, if_it_grows, torch.where(fires_soonest, float(soonest), math.inf))


def _lowest(held: _Accumulator, first: Tensor) -> Tensor:
    """The lowest potential before one of the T steps.

    It falls by e a step, if at all, from V0 or from the 0 that the first spike may leave.
    """
    last = held.contract.timesteps - 1
    fall = (held.low + held.bias).clamp(max=0)
    fired = torch.where(first <= last, (last - first) * fall, math.inf)
    return torch.minimum(held.initial + last * fall, fired)


def _highest(held: _Accumulator) -> Tensor:
    """The highest potential before one of the T − D steps that may end in a spike.

    D steps of charge come first, V0' = V0 + D·g, with g the most that a step adds. From there
    V ← max(min(V + g, θ − 1), V + g − θ): it does not fire, or it does and subtracts. Not firing first is
    never worse, so the T − D − 1 steps before the last make at most, for some k,
        max(V0', min(V0' + k·g, θ − 1)) + (T − D − 1 − k)·max(g − θ, 0);
    this grows by θ with k until V0' + k·g passes θ − 1 and falls after. Reset to zero has no second term.
    """
    start = held.initial + held.contract.delay * held.gain
    last = held.contract.timesteps - held.contract.delay - 1
    subtracts = held.contract.reset_mode is Reset.SUBTRACTION
    rise = (held.gain - held.threshold).clamp(min=0) * subtracts
    turn = ((held.unfired - start) / held.gain).floor().clamp(0, last)
    turn = torch.where(rise > 0, turn, last)

    def reached(k: Tensor) -> Tensor:
        unfired = torch.minimum(start + k * held.gain, held.unfired)
        return torch.maximum(start, unfired) + (last - k) * rise

    return torch.maximum(reached(turn), reached((turn + 1).clamp(max=last)))
