"""What a node of a SPIKING graph makes of spike trains: SPEC 1, 4, 5 and 6, step by step.

A train is a tensor [timesteps, batch, channels, ...], counted in the node's own steps: what a population
fires in steps D+1 to D+T of its input is its train's steps 1 to T. Integers are carried in a floating type
that holds them exactly (`ir/bounds.py` proves it).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ann2snn_cli.ir import neuron
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import Input, Integrate, IntegrateFire, MaxPool, Op, Opaque
from ann2snn_cli.ir.run import encode, is_linear, linear, means, opaque, pool_geometry


@dataclass(frozen=True, eq=False)
class Activity:
    """What a node passed on, and for neurons their potentials, [timesteps, batch, ...].

    Potentials are those after the reset of each of the T firing steps.
    """

    train: Tensor
    potentials: Tensor | None = None


class Trains:
    """Computes node after node of one SPIKING graph, with one firing delay."""

    def __init__(
        self, graph: Graph, delay: int | None, dtype: torch.dtype, *, keep_potentials: bool = False
    ) -> None:
        contract = graph.timing.with_delay(delay)
        self.graph = graph
        self.steps = contract.timesteps
        self.delay = contract.delay
        self.reset_mode = contract.reset_mode
        self.dtype = dtype
        self.keep_potentials = keep_potentials

    def present(self, op: Input, x: Tensor) -> Tensor:
        """The sample, encoded once and shown at every step."""
        now = encode(op, x).to(self.dtype)
        return now.expand(self.steps, *now.shape)

    def compute(self, node: Node, trains: list[Tensor]) -> Activity:
        """What `node` makes of the trains of its inputs."""
        if is_linear(node.op):
            return Activity(self._linear(node, trains))
        return _RULES[type(node.op)](self, node, node.op, trains)

    def _linear(self, node: Node, trains: list[Tensor]) -> Tensor:
        """A linear op acts on every step alike, so the steps may lie in the batch."""
        flat = linear(node, [train.flatten(0, 1) for train in trains])
        if self.dtype == torch.float32:
            flat = flat.round()  # on some devices a float32 convolution is a sum of products only almost
        return self.by_step(flat)

    def by_step(self, flat: Tensor) -> Tensor:
        """[timesteps·batch, ...] as [timesteps, batch, ...]."""
        return flat.reshape(self.steps, len(flat) // self.steps, *flat.shape[1:])


def plain_arithmetic() -> AbstractContextManager[None]:
    """No TF32 in convolutions: it keeps 10 bits of a factor."""
    context: AbstractContextManager[None] = torch.backends.cudnn.flags(allow_tf32=False)
    return context


# Neurons -------------------------------------------------------------------------------------------


def _fire(of: Trains, node: Node, op: IntegrateFire, trains: list[Tensor]) -> Activity:
    """Integrate D steps with firing switched off; then T times integrate what is left, compare, reset."""
    initial, bias, threshold = (value.to(of.dtype) for value in (op.initial, op.bias, op.threshold))
    charges = trains[0] * 2**op.fraction_bits + bias
    potential = torch.zeros_like(charges[0]) + initial + charges[: of.delay].sum(0)
    spikes, potentials = [], []
    for step in range(of.delay, of.delay + of.steps):
        if step < of.steps:
            potential = potential + charges[step]
        fired, potential = neuron.fire(potential, threshold, of.reset_mode)
        spikes.append(fired)
        if of.keep_potentials:
            potentials.append(potential)
    return Activity(torch.stack(spikes), torch.stack(potentials) if of.keep_potentials else None)


def _integrate(of: Trains, node: Node, op: Integrate, trains: list[Tensor]) -> Activity:
    """Pass on input plus bias, and the initial charge with the first step; V is the sum so far."""
    train = trains[0] if op.bias is None else trains[0] + op.bias.to(of.dtype)
    if op.initial is not None:
        train = torch.cat([train[:1] + op.initial.to(of.dtype), train[1:]])
    return Activity(train, train.cumsum(0) if of.keep_potentials else None)


# Max pooling and opaque nodes ----------------------------------------------------------------------


def _max_pool(of: Trains, node: Node, op: MaxPool, trains: list[Tensor]) -> Activity:
    """The maximum of the sums so far, step by step: over all steps the maximum of the counts."""
    so_far = trains[0].cumsum(0).flatten(0, 1)
    highest = of.by_step(neuron.max_pool(so_far, op.kernel, **pool_geometry(op)))
    return Activity(torch.cat([highest[:1], highest[1:] - highest[:-1]]))


def _opaque(of: Trains, node: Node, op: Opaque, trains: list[Tensor]) -> Activity:
    """Temporal difference: t·f(X(t)) − (t−1)·f(X(t−1)), X(t) the running mean of what came in."""
    sums = [train.cumsum(0) for train in trains]
    emitted: list[Tensor] = []
    before: Tensor | float = 0.0
    for t in range(1, of.steps + 1):
        now = opaque(node, op, means(of.graph, node, [total[t - 1] for total in sums], t)) * t
        emitted.append(now - before)
        before = now
    return Activity(torch.stack(emitted))


_RULES: dict[type[Op], Callable[[Trains, Node, Any, list[Tensor]], Activity]] = {
    IntegrateFire: _fire,
    Integrate: _integrate,
    MaxPool: _max_pool,
    Opaque: _opaque,
}
