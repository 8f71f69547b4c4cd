"""The reference engine: every node, every step, nothing clever. What `ir/trains.py` defines, on samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ann2snn_cli.ir.bounds import exact_dtype
from ann2snn_cli.ir.graph import Graph, Node, sweep
from ann2snn_cli.ir.ops import NEURONS, Input
from ann2snn_cli.ir.run import Inputs, bind_inputs
from ann2snn_cli.ir.trains import Activity, Trains, plain_arithmetic

# Samples are taken a few at a time: trains that fit a cache are several times faster.
TRAIN_ELEMENTS = 1 << 21

Watch = Callable[[Node, Activity], None]


@dataclass(frozen=True, eq=False)
class Simulation:
    """What came out, in real numbers: by output, then by step (what the network says if stopped there)."""

    outputs: tuple[Tensor, ...]  # after the last step, [batch, ...]
    by_step: tuple[Tensor, ...] = field(repr=False)  # [timesteps, batch, ...]


def simulate(
    graph: Graph,
    x: Inputs,
    *,
    schedule: str | None = None,
    watch: Watch | None = None,
    potentials: bool = True,
) -> Simulation:
    """Needs SPIKING. The schedule is the graph's own unless given.

    `watch` is shown what neurons do, with their potentials unless it does not want them (that is faster).
    """
    keep = watch is not None and potentials
    rules = Trains(graph, schedule or graph.timing.schedule, exact_dtype(graph), keep_potentials=keep)
    given = bind_inputs(graph, x)
    with torch.no_grad(), plain_arithmetic():
        parts = [_run(rules, part, watch) for part in _portions(graph, given)]
    by_step = tuple(torch.cat(pieces, dim=1) for pieces in zip(*parts, strict=True))
    return Simulation(tuple(values[-1] for values in by_step), by_step)


def _run(rules: Trains, given: dict[str, Tensor], watch: Watch | None) -> list[Tensor]:
    """The outputs of a few samples, in real numbers, after every step."""

    def compute(node: Node, trains: list[Tensor]) -> Tensor:
        if isinstance(node.op, Input):
            return rules.present(node.op, given[node.name])
        activity = rules.compute(node, trains)
        if watch is not None and isinstance(node.op, NEURONS):
            watch(node, activity)
        return activity.train

    return [_running_mean(rules.graph, name, train) for name, train in sweep(rules.graph, compute).items()]


def _running_mean(graph: Graph, name: str, train: Tensor) -> Tensor:
    """value(t) = Σ up to t · unit / t: rounded as `decode` does, so that equal sums are equal values."""
    elapsed = torch.arange(1, len(train) + 1, device=train.device).reshape(-1, *[1] * (train.dim() - 1))
    return train.double().cumsum(0) * graph[name].worth.double() / elapsed


def _portions(graph: Graph, given: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    widest = max(torch.Size(node.shape).numel() for node in graph.nodes)
    size = max(1, TRAIN_ELEMENTS // (widest * graph.timing.timesteps))
    samples = len(next(iter(given.values())))
    for start in range(0, samples, size):
        yield {name: x[start : start + size] for name, x in given.items()}
