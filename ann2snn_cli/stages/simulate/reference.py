"""The reference engine: every node, every step, nothing clever. What the ops say of trains, on samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.engine import Request, Simulation
from ann2snn_cli.ir.graph import Graph, Node, sweep
from ann2snn_cli.ir.ops import Activity, Input, Integrate, IntegrateFire
from ann2snn_cli.ir.precision import exact_dtypes, plain_arithmetic
from ann2snn_cli.ir.run import bind_inputs, decode

# Samples are taken a few at a time: trains that fit a cache are several times faster.
TRAIN_ELEMENTS = 1 << 21


class ReferenceEngine:
    """The definition: it runs every graph and answers every request."""

    name = "reference"

    def refusal(self, graph: Graph, request: Request) -> str:
        """It refuses nothing."""
        return ""

    def run(self, graph: Graph, request: Request) -> Simulation:
        """Needs SPIKING; gives what was asked for, exactly."""
        contract = graph.timing.with_delay(request.delay)
        dtypes = exact_dtypes(graph, contract.delay)
        given = bind_inputs(graph, request.inputs)
        whole = request.revise is not None  # who revises a node has to see all samples of it
        with torch.no_grad(), plain_arithmetic():
            parts = [
                _Portion(graph, request, contract, dtypes, part).run()
                for part in _portions(graph, given, whole)
            ]
        return _joined(graph, request, parts)


@dataclass(eq=False)
class _Portion:
    """A few samples on their way through the graph."""

    graph: Graph
    request: Request
    contract: Contract
    dtypes: dict[str, torch.dtype]
    given: dict[str, Tensor]
    counts: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)

    def run(self) -> _Portion:
        """Step every node in order; keep what was asked for."""
        trains = sweep(self.graph, self._train)
        by_step = self.request.by_step
        self.outputs = {
            name: train.double().cumsum(0) if by_step else train.double().sum(0)
            for name, train in trains.items()
        }
        return self

    def _train(self, node: Node, trains: list[Tensor]) -> Tensor:
        if isinstance(node.op, Input):
            shown = node.op.encode(self.given[node.name]).to(self.dtypes[node.name])
            return shown.expand(self.contract.timesteps, *shown.shape)
        activity = self._compute(node, trains)
        if not isinstance(node.op, IntegrateFire | Integrate):
            return activity.train
        if self.request.revise is not None:
            revised = self.request.revise(node, activity.train.sum(0))
            activity = activity if revised is node else self._compute(revised, trains)
        if self.request.watch is not None:
            self.request.watch(node, activity)
        if self.request.counts:
            self.counts[node.name] = activity.train.sum(0)
        return activity.train

    def _compute(self, node: Node, trains: list[Tensor]) -> Activity:
        dtype = self.dtypes[node.name]
        keep = self.request.watch is not None and self.request.potentials
        place = self.graph.place(node, contract=self.contract, keeps_potentials=keep)
        return node.op.train([train.to(dtype) for train in trains], place)


def _joined(graph: Graph, request: Request, parts: list[_Portion]) -> Simulation:
    counts = {name: torch.cat([part.counts[name] for part in parts]) for name in parts[0].counts}
    axis = 1 if request.by_step else 0
    sums = {name: torch.cat([part.outputs[name] for part in parts], dim=axis) for name in parts[0].outputs}
    if not request.by_step:
        return Simulation(decode(graph, sums), counts=counts if request.counts else None)
    by_step = tuple(_running_means(graph, name, sums[name]) for name in graph.outputs)
    outputs = tuple(values[-1] for values in by_step)
    return Simulation(outputs, by_step, counts if request.counts else None)


def _running_means(graph: Graph, name: str, sums: Tensor) -> Tensor:
    """value(t) = Σ up to t · unit / t: rounded as `decode` does, so that equal sums are equal values."""
    elapsed = torch.arange(1, len(sums) + 1, device=sums.device).reshape(-1, *[1] * (sums.dim() - 1))
    return sums * graph[name].known_unit.double() / elapsed


def _portions(graph: Graph, given: dict[str, Tensor], whole: bool) -> Iterator[dict[str, Tensor]]:
    samples = len(next(iter(given.values())))
    size = max(1, samples if whole else TRAIN_ELEMENTS // (graph.widest * graph.timing.timesteps))
    for start in range(0, max(1, samples), size):  # no samples are one portion too
        yield {name: x[start : start + size] for name, x in given.items()}
