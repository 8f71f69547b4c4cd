"""The answer of an engine, put together from those of portions of the samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ann2snn_cli.ir.engine import Request, Simulation
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.ir.run import decode

Part = tuple[
    dict[str, Tensor], dict[str, Tensor]
]  # sums of the outputs, or by step so far; counts of neurons


def joined(graph: Graph, request: Request, parts: Sequence[Part], engine: str) -> Simulation:
    """Sums become real numbers, and portions one batch."""
    outputs, counts = parts[0]
    counts = {name: torch.cat([part[1][name] for part in parts]) for name in counts}
    axis = 1 if request.by_step else 0
    sums = {name: torch.cat([part[0][name] for part in parts], dim=axis) for name in outputs}
    asked = counts if request.counts else None
    if not request.by_step:
        return Simulation(decode(graph, sums), counts=asked, engine=engine)
    by_step = tuple(_running_means(graph, name, sums[name]) for name in graph.outputs)
    return Simulation(tuple(values[-1] for values in by_step), by_step, asked, engine)


def _running_means(graph: Graph, name: str, sums: Tensor) -> Tensor:
    """value(t) = Σ up to t · unit / t: rounded as `decode` does, so that equal sums are equal values."""
    elapsed = torch.arange(1, len(sums) + 1, device=sums.device).reshape(-1, *[1] * (sums.dim() - 1))
    return sums * graph[name].known_unit.double() / elapsed
