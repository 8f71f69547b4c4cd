"""The reference engine: every node, every step, nothing clever. What the ops say of trains, on samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.engine import Request, Revise, Simulation
from ann2snn_cli.ir.graph import Graph, Node, sweep
from ann2snn_cli.ir.memory import refuse_too_long
from ann2snn_cli.ir.ops import Activity, Input, Integrate, Population
from ann2snn_cli.ir.precision import exact_dtypes, plain_arithmetic
from ann2snn_cli.ir.run import bind_inputs
from ann2snn_cli.stages.simulate.answer import joined

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
        refuse_too_long(graph, next(iter(given.values())).device)
        parts = [_Portion(graph, request, contract, dtypes, part) for part in _portions(graph, given)]
        with torch.no_grad(), plain_arithmetic():
            if request.revise is not None:
                _run_side_by_side(graph, request.revise, parts)
            else:
                for part in parts:
                    part.run()
        return joined(graph, request, [(part.outputs, part.counts) for part in parts], self.name)


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

    def run(self) -> None:
        """Step every node in order; keep what was asked for."""
        for name, train in sweep(self.graph, self.train).items():
            self.keep_output(name, train)

    def keep_output(self, name: str, train: Tensor) -> None:
        """What comes out, summed over the steps."""
        self.outputs[name] = train.double().cumsum(0) if self.request.by_step else train.double().sum(0)

    def train(self, node: Node, trains: list[Tensor]) -> Tensor:
        """What a node passes on; of neurons, what was asked for is kept and shown."""
        if isinstance(node.op, Input):
            steps = self.contract.timesteps
            shown = node.op.shown(self.given[node.name], steps).to(self.dtypes[node.name])
            return shown.expand(steps, *shown.shape[1:])
        activity = self.compute(node, trains)
        if not isinstance(node.op, Population | Integrate):
            return activity.train
        if self.request.watch is not None:
            self.request.watch(node, activity)
        if self.request.counts:
            self.counts[node.name] = activity.train.sum(0)
        return activity.train

    def compute(self, node: Node, trains: list[Tensor]) -> Activity:
        """What its op makes of these trains."""
        dtype = self.dtypes[node.name]
        keep = self.request.watch is not None and self.request.potentials
        place = self.graph.place(node, contract=self.contract, keeps_potentials=keep)
        return node.op.train([train.to(dtype) for train in trains], place)


# Who revises a node has to see all samples of it ----------------------------------------------------

Trains = Callable[[int], Tensor]  # of one node: its train in a portion, by the portion's number


def _run_side_by_side(graph: Graph, revise: Revise, parts: list[_Portion]) -> None:
    """Node by node, all portions of each, before the next node.

    What is kept of them between two nodes are spikes, a byte each. Currents, which only one node reads, are
    computed when it reads them.
    """

    def trains(node: Node, feeders: list[Trains]) -> Trains:
        def train(number: int) -> Tensor:
            return parts[number].train(node, [feeder(number) for feeder in feeders])

        if isinstance(node.op, Population | Integrate):
            return _revised(graph, node, feeders, revise, parts)
        if isinstance(node.op, Input) or len(graph.users[node.name]) == 1:
            return train
        return _kept(map(train, range(len(parts))))

    for name, outcome in sweep(graph, trains).items():
        for number, part in enumerate(parts):
            part.keep_output(name, outcome(number))


def _revised(
    graph: Graph, node: Node, feeders: list[Trains], revise: Revise, parts: list[_Portion]
) -> Trains:
    """The counts of all samples, then the trains of the node that is to go on with."""

    def counts(number: int) -> Tensor:
        return parts[number].compute(node, [feeder(number) for feeder in feeders]).train.sum(0)

    going_on = revise(node, torch.cat([counts(number) for number in range(len(parts))]))

    def train(number: int) -> Tensor:
        found = parts[number].train(going_on, [feeder(number) for feeder in feeders])
        return found.to(torch.uint8) if node.name in graph.spiking else found

    return _kept(map(train, range(len(parts))))


def _kept(trains: Iterable[Tensor]) -> Trains:
    return list(trains).__getitem__


def _portions(graph: Graph, given: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    samples = len(next(iter(given.values())))
    size = max(1, TRAIN_ELEMENTS // (graph.widest * graph.timing.timesteps))
    for start in range(0, max(1, samples), size):  # no samples are one portion too
        yield {name: x[start : start + size] for name, x in given.items()}
