"""The reference engine: SPEC 1, 4, 5 and 6, one step after the other, nothing clever.

Values travel as spike trains: one tensor for every step, axes [timesteps, batch, channels, ...]. In both
schedules each node turns the trains of its inputs into its own; they differ in what neurons, max pooling
and opaque nodes do (`_STEPWISE`, `_LAYERWISE`). Integers are carried in a floating type that holds them
exactly (`ir/bounds.py` proves it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ann2snn_cli.ir import neuron
from ann2snn_cli.ir.bounds import exact_dtype
from ann2snn_cli.ir.graph import Graph, Node, sweep
from ann2snn_cli.ir.ops import Input, Integrate, IntegrateFire, MaxPool, Op, Opaque
from ann2snn_cli.ir.run import Inputs, bind_inputs, decode, encode, is_linear, linear, means, opaque, pool_geometry
from ann2snn_cli.ir.spikes import spiking_nodes

TRAIN_ELEMENTS = 1 << 25  # samples are taken a few at a time, so that the widest train stays below this


@dataclass(frozen=True, eq=False)
class Observation:
    """What one node's neurons did, for some samples."""

    node: Node
    spikes: Tensor  # [timesteps, batch, ...]; what it passed on, for neurons that never fire
    potentials: Tensor  # [timesteps, batch, ...], after the reset; layerwise: in the firing steps


Watch = Callable[[Observation], None]


@dataclass(frozen=True, eq=False)
class Simulation:
    """What came out, in real numbers: by output, then by step (what the network says if stopped there)."""

    outputs: tuple[Tensor, ...]  # after the last step, [batch, ...]
    by_step: tuple[Tensor, ...] = field(repr=False)  # [timesteps, batch, ...]


def simulate(graph: Graph, x: Inputs, *, schedule: str | None = None, watch: Watch | None = None) -> Simulation:
    """Needs SPIKING. `schedule` is the graph's own unless given; `watch` is shown every population's doing."""
    engine = _Engine(graph, schedule or graph.timing.schedule, watch)
    given = bind_inputs(graph, x)
    parts = [engine.run(part) for part in _portions(graph, given)]
    by_step = tuple(torch.cat(pieces, dim=1) for pieces in zip(*parts, strict=True))
    return Simulation(tuple(values[-1] for values in by_step), by_step)


def _portions(graph: Graph, given: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    widest = max(torch.Size(node.shape).numel() for node in graph.nodes)
    size = max(1, TRAIN_ELEMENTS // (widest * graph.timing.timesteps))
    samples = len(next(iter(given.values())))
    for start in range(0, samples, size):
        yield {name: x[start : start + size] for name, x in given.items()}


@dataclass
class _Engine:
    graph: Graph
    schedule: str
    watch: Watch | None

    def __post_init__(self) -> None:
        self.steps = self.graph.timing.timesteps
        self.reset_mode = self.graph.timing.reset_mode
        self.dtype = exact_dtype(self.graph)
        self.binary = spiking_nodes(self.graph)
        self.rules = _STEPWISE if self.schedule == "stepwise" else _LAYERWISE

    def run(self, given: dict[str, Tensor]) -> list[Tensor]:
        """The outputs of some samples, in real numbers, after every step."""

        def compute(node: Node, trains: list[Tensor]) -> Tensor:
            if isinstance(node.op, Input):
                now = encode(node.op, given[node.name]).to(self.dtype)
                return now.expand(self.steps, *now.shape)
            if is_linear(node.op):
                return self.linear(node, trains)
            return self.rules[type(node.op)](self, node, node.op, trains)

        with torch.no_grad(), _plain_arithmetic():
            trains = sweep(self.graph, compute)
        return [self.outputs_by_step(name, train) for name, train in trains.items()]

    def outputs_by_step(self, name: str, train: Tensor) -> Tensor:
        """value(t) = Σ up to t / t · unit: the running mean of what came out."""
        elapsed = torch.arange(1, self.steps + 1, device=train.device).reshape(-1, *[1] * (train.dim() - 1))
        return train.double().cumsum(0) / elapsed * self.graph[name].worth.double()

    def linear(self, node: Node, trains: list[Tensor]) -> Tensor:
        """A linear op acts on every step alike, so steps may lie in the batch."""
        flat = linear(node, [train.flatten(0, 1) for train in trains])
        if self.dtype == torch.float32:
            flat = flat.round()  # on some devices float32 convolutions are sums of products only almost
        return flat.unflatten(0, (self.steps, -1))

    def observe(self, node: Node, spikes: list[Tensor], potentials: list[Tensor]) -> Tensor:
        train = torch.stack(spikes)
        if self.watch is not None:
            self.watch(Observation(node, train, torch.stack(potentials)))
        return train


def _plain_arithmetic() -> Any:
    """No TF32: it keeps 10 bits of a factor."""
    return torch.backends.cudnn.flags(allow_tf32=False)


# Neurons -------------------------------------------------------------------------------------------


def _start(engine: _Engine, op: IntegrateFire, train: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(currents, potential, bias, threshold) before the first step."""
    initial, bias, threshold = (value.to(engine.dtype) for value in (op.initial, op.bias, op.threshold))
    return train * 2**op.fraction_bits, torch.zeros_like(train[0]) + initial, bias, threshold


def _fire_stepwise(engine: _Engine, node: Node, op: IntegrateFire, trains: list[Tensor]) -> Tensor:
    """At every step: integrate, compare, reset."""
    currents, potential, bias, threshold = _start(engine, op, trains[0])
    spikes, potentials = [], []
    for current in currents:
        fired, potential = neuron.step(current, potential, bias, threshold, engine.reset_mode)
        spikes.append(fired)
        potentials.append(potential)
    return engine.observe(node, spikes, potentials)


def _fire_layerwise(engine: _Engine, node: Node, op: IntegrateFire, trains: list[Tensor]) -> Tensor:
    """Integrate the whole train with firing gated off, then fire for T steps."""
    currents, potential, bias, threshold = _start(engine, op, trains[0])
    for current in currents:
        potential = potential + current + bias
    spikes, potentials = [], []
    for _ in range(engine.steps):
        fired, potential = neuron.fire(potential, threshold, engine.reset_mode)
        spikes.append(fired)
        potentials.append(potential)
    return engine.observe(node, spikes, potentials)


def _integrate(engine: _Engine, node: Node, op: Integrate, trains: list[Tensor]) -> Tensor:
    """Pass on input plus bias, and the initial charge with the first step; V is the sum so far."""
    train = trains[0] if op.bias is None else trains[0] + op.bias.to(engine.dtype)
    if op.initial is not None:
        train = torch.cat([train[:1] + op.initial.to(engine.dtype), train[1:]])
    return engine.observe(node, list(train), list(train.cumsum(0)))


# Max pooling and opaque nodes ----------------------------------------------------------------------


def _pool_stepwise(engine: _Engine, node: Node, op: MaxPool, trains: list[Tensor]) -> Tensor:
    """Spikes pass the gate of the input that fired most so far; currents have no such gate."""
    (train,) = trains
    if node.inputs[0] not in engine.binary:
        return _pool_layerwise(engine, node, op, trains)
    so_far = train.cumsum(0)
    passed = neuron.max_gate(train.flatten(0, 1), so_far.flatten(0, 1), op.kernel, **pool_geometry(op))
    return passed.unflatten(0, (engine.steps, -1))


def _pool_layerwise(engine: _Engine, node: Node, op: MaxPool, trains: list[Tensor]) -> Tensor:
    """The maximum of the sums so far, step by step: over all steps the maximum of the counts."""
    so_far = trains[0].cumsum(0).flatten(0, 1)
    highest = neuron.max_pool(so_far, op.kernel, **pool_geometry(op)).unflatten(0, (engine.steps, -1))
    return torch.cat([highest[:1], highest[1:] - highest[:-1]])


def _opaque_stepwise(engine: _Engine, node: Node, op: Opaque, trains: list[Tensor]) -> Tensor:
    """Temporal difference: t·f(X(t)) − (t−1)·f(X(t−1)), X(t) the running mean of what came in."""
    sums = [train.cumsum(0) for train in trains]
    emitted: list[Tensor] = []
    before: Tensor | float = 0.0
    for t in range(1, engine.steps + 1):
        now = opaque(node, op, means(engine.graph, node, [total[t - 1] for total in sums], t)) * t
        emitted.append(now - before)
        before = now
    return torch.stack(emitted)


def _opaque_layerwise(engine: _Engine, node: Node, op: Opaque, trains: list[Tensor]) -> Tensor:
    """f of the mean, once; every step carries it."""
    value = opaque(node, op, means(engine.graph, node, [train.sum(0) for train in trains], engine.steps))
    return value.expand(engine.steps, *value.shape)


_STEPWISE: dict[type[Op], Callable[[_Engine, Node, Any, list[Tensor]], Tensor]] = {
    IntegrateFire: _fire_stepwise,
    Integrate: _integrate,
    MaxPool: _pool_stepwise,
    Opaque: _opaque_stepwise,
}

_LAYERWISE: dict[type[Op], Callable[[_Engine, Node, Any, list[Tensor]], Tensor]] = {
    IntegrateFire: _fire_layerwise,
    Integrate: _integrate,
    MaxPool: _pool_layerwise,
    Opaque: _opaque_layerwise,
}
