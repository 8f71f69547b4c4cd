"""How large the integers of a SPIKING graph can get, proved from its weights: what a register must hold.

Interval arithmetic, element by element, over all samples. Of what its input passes on in one step, [l, h], a
linear op makes [W⁺·l + W⁻·h, W⁺·h + W⁻·l]. These intervals contain 0, so they hold the sum of any subset of
the synapses too: whatever lies in the accumulator between two additions, in any order.

Exact for integers below 2^53. Real weights are added up in floats: there it holds to a rounding error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Graph, Node, sweep
from ann2snn_cli.ir.ops import Integrate
from ann2snn_cli.ir.ops.base import unbounded
from ann2snn_cli.ir.span import Span


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


def bounds(graph: Graph, delay: int | None = None) -> dict[str, Bound]:
    """Needs SPIKING; gives what is proved of every node, for the graph's own delay unless one is given.

    Costs about as much as two forwards of one sample, once a graph and delay.
    """
    delay = graph.timing.with_delay(delay).delay
    return bounds_by_delay(graph, (delay,))[delay]


def bounds_by_delay(graph: Graph, delays: Iterable[int]) -> dict[int, dict[str, Bound]]:
    """The same for several delays at the cost of one: only what a neuron holds depends on when it fires."""
    known = _PROVED.setdefault(graph, {})
    wanted = [graph.timing.with_delay(delay) for delay in delays]
    if missing := [contract for contract in wanted if contract.delay not in known]:
        known.update(_prove(graph, missing))
    return {contract.delay: dict(known[contract.delay]) for contract in wanted}


_PROVED: WeakKeyDictionary[Graph, dict[int, dict[str, Bound]]] = WeakKeyDictionary()  # by delay, by node


def _prove(graph: Graph, contracts: Sequence[Contract]) -> dict[int, dict[str, Bound]]:
    found: dict[int, dict[str, Bound]] = {contract.delay: {} for contract in contracts}

    def compute(node: Node, spans: list[Tensor]) -> Tensor:
        places = [graph.place(node, contract=contract) for contract in contracts]
        has_end = node.op.fires or not any(bool(span.isinf().any()) for span in spans)
        passed_on = node.op.span(spans, places[0]) if has_end else unbounded(places[0])
        for place in places:
            potential, contract = node.op.potential(spans, place), place.contract
            found[contract.delay][node.name] = _bound(node, passed_on, potential, contract.timesteps)
        return passed_on

    with torch.no_grad():
        sweep(graph, compute)
    return found


def _bound(node: Node, passed_on: Tensor, potential: Tensor | None, steps: int) -> Bound:
    step = _extremes(passed_on)
    total = Span(steps * step.low, steps * step.high)
    if potential is None:
        return Bound(step, total)
    held = _extremes(potential)
    return Bound(step, held if isinstance(node.op, Integrate) else total, held)


def _extremes(span: Tensor) -> Span:
    return Span(float(span[0].min()), float(span[1].max()))
