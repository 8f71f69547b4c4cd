"""One step at a time: what a network holds between two steps is a value, which can be kept and put back.

Of D = 0: every node passes on, at every step, what it makes of that step. In float64, as integers of any
number of steps are exact there. After T steps of what an engine is shown it is spike for spike the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from ann2snn_cli.errors import BadData, UsageError
from ann2snn_cli.ir.bounds import bounds
from ann2snn_cli.ir.graph import Graph, Node, sweep
from ann2snn_cli.ir.ops import Held, Input, Integrate, Population
from ann2snn_cli.ir.precision import EXACT_FLOAT64, plain_arithmetic
from ann2snn_cli.types import Outputs

FORMAT = "ann2snn/state"
COUNT = "count"  # what a node has passed on so far: of a population its spikes, of a read-out its potential


@dataclass(frozen=True, eq=False)
class State:
    """What a network holds after so many steps: by node, by name, [samples, ...]."""

    step: int = 0
    nodes: Mapping[str, Held] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """Numbers and tensors, for `torch.save`; nothing is shared."""
        nodes = {name: {what: x.clone() for what, x in held.items()} for name, held in self.nodes.items()}
        return {"format": FORMAT, "step": self.step, "nodes": nodes}

    def to(self, device: torch.device | None) -> State:
        """The same on another device."""
        if device is None or all(x.device == device for held in self.nodes.values() for x in held.values()):
            return self
        moved = {name: {what: x.to(device) for what, x in held.items()} for name, held in self.nodes.items()}
        return State(self.step, moved)

    @property
    def samples(self) -> int | None:
        """How many samples it is of; None before the first step."""
        return next((len(x) for held in self.nodes.values() for x in held.values()), None)


def step(graph: Graph, given: Mapping[str, Tensor], state: State) -> tuple[Outputs, State]:
    """Needs SPIKING, D = 0; gives the outputs after this step, count·unit/t, and the state then."""
    number = state.step + 1
    _refuse(graph, given, state)
    with torch.no_grad(), plain_arithmetic():
        now = State(number, advanced(graph, given, state.nodes, number))
        return outputs(graph, now), now


def advanced(
    graph: Graph, given: Mapping[str, Tensor], before: Mapping[str, Held], number: int
) -> dict[str, Held]:
    """What the nodes hold after this step, given what they held before it."""
    nodes: dict[str, Held] = {}

    def compute(node: Node, xs: list[Tensor]) -> Tensor:
        if isinstance(node.op, Input):
            return node.op.at(given[node.name].double(), number)
        held = before.get(node.name, {})
        own = {what: x for what, x in held.items() if what != COUNT}
        y, own_now = node.op.advance(xs, own, number, graph.place(node))
        if _is_counted(graph, node):
            own_now = {**own_now, COUNT: held[COUNT] + y if held else y}
        if own_now:
            nodes[node.name] = own_now
        return y

    sweep(graph, compute)
    return nodes


def outputs(graph: Graph, state: State) -> Outputs:
    """What the network says after the steps so far."""
    elapsed = torch.tensor(state.step)
    sums = [state.nodes[name][COUNT] for name in graph.outputs]
    units = [graph[name].known_unit.double() for name in graph.outputs]
    return tuple(total * unit / elapsed.to(total.device) for total, unit in zip(sums, units, strict=True))


def _is_counted(graph: Graph, node: Node) -> bool:
    return isinstance(node.op, Population | Integrate) or node.name in graph.outputs


def most_steps(graph: Graph) -> int:
    """How many steps are exact: what a node adds up grows by the same at each, at most."""
    largest = max(bound.largest for bound in bounds(graph, 0).values())
    return int(graph.timing.timesteps * EXACT_FLOAT64 / max(1.0, largest)) if isfinite(largest) else 2**53


def refuse_delay(graph: Graph) -> None:
    """What is stepped passes on at every step what it makes of it."""
    if graph.timing.delay:
        raise UsageError(
            f"the SNN fires D = {graph.timing.delay} steps after its input begins, so one step gives no"
            " answer yet",
            remedy="give all steps at once, snn.sequence(x); or convert with the delay 0 (stepwise)",
        )


def _refuse(graph: Graph, given: Mapping[str, Tensor], state: State) -> None:
    refuse_delay(graph)
    samples = len(next(iter(given.values())))
    if state.step >= most_steps(graph):
        raise UsageError(f"after {state.step} steps sums may exceed 2^53", remedy="begin anew: snn.reset()")
    if state.samples not in (None, samples):
        raise BadData(
            f"step {state.step + 1} is of {samples} samples, those before it were of {state.samples}",
            remedy="give the next step of the same samples, or begin anew: snn.reset()",
        )


# States from anywhere -------------------------------------------------------------------------------


def from_plain(plain: Any, graph: Graph) -> State:
    """The state that `State.to_plain` wrote, of this network; BadData for anything else."""
    if not isinstance(plain, Mapping) or plain.get("format") != FORMAT:
        raise _unfit("it is no state of an SNN")
    number, nodes = plain.get("step"), plain.get("nodes")
    if (
        not isinstance(number, int)
        or isinstance(number, bool)
        or number < 0
        or not isinstance(nodes, Mapping)
    ):
        raise _unfit("it lacks its step or its nodes")
    if number == 0:
        return State()
    form = _form(graph)
    if set(nodes) != set(form):
        raise _unfit("it holds other layers than this SNN has")
    held = {name: _held(graph, name, nodes[name], form[name]) for name in form}
    if len({len(x) for each in held.values() for x in each.values()}) != 1:
        raise _unfit("its layers are of different numbers of samples")
    return State(number, held)


def _form(graph: Graph) -> Mapping[str, Held]:
    """What a network holds after a step of one sample of zeros."""
    shapes = {node.name: node.shape for node in graph.inputs}
    zeros = {name: torch.zeros(1, *shape, device=graph.device) for name, shape in shapes.items()}
    return step(graph, zeros, State())[1].nodes


def _held(graph: Graph, name: str, given: Any, form: Held) -> Held:
    """What one node holds, where its computation is."""
    if not isinstance(given, Mapping) or set(given) != set(form):
        raise _unfit(f"{name} holds {', '.join(form)}, and nothing else")
    is_whole = not graph.has_float_weights and not graph.real.intersection((name, *graph[name].inputs))
    for what, like in form.items():
        x = given[what]
        if (
            not isinstance(x, Tensor)
            or x.dtype != like.dtype
            or x.shape[1:] != like.shape[1:]
            or x.dim() == 0
        ):
            raise _unfit(
                f"the {what} of {name} is no tensor [samples, {', '.join(map(str, like.shape[1:]))}]"
            )
        if not bool(x.isfinite().all()) or (is_whole and not torch.equal(x, x.round())):
            raise _unfit(f"the {what} of {name} is no number that this SNN can hold")
    return {what: given[what].to(like.device, copy=True) for what, like in form.items()}


def _unfit(what: str) -> BadData:
    return BadData(
        f"the state cannot be put back: {what}", remedy="give what snn.state was, of the same network"
    )
