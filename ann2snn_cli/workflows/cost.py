"""What stepping a network will take, told before it is done: time by a measured forward, memory by shapes."""

from __future__ import annotations

import time
from collections.abc import Iterable

import torch

from ann2snn_cli.ir.graph import Graph, Level
from ann2snn_cli.ir.memory import step_bytes
from ann2snn_cli.ir.run import run, run_counts
from ann2snn_cli.stages.simulate.portions import portion_size
from ann2snn_cli.words import count_of

STEP = 0.5  # of a forward: what a step of a sample takes, measured with the networks that ship


def line(graph: Graph, timesteps: int, samples: int, delays: Iterable[int]) -> str:
    """About what it takes to step so many samples at each delay; T has a closed form: no steps."""
    stepped = samples * len({delay for delay in delays if delay != timesteps})
    seconds = STEP * forward_seconds(graph) * timesteps * stepped
    size = portion_size(graph, timesteps) * timesteps * step_bytes(graph)
    return (
        f"{count_of(stepped, 'sample')} to step, {timesteps:,} steps each: about {_duration(seconds)} "
        f"and {size / 1e9:.1f} GB of memory"
    )


def forward_seconds(graph: Graph) -> float:
    """How long one sample takes through the network once."""
    forward = run_counts if graph.level is Level.SPIKING else run
    x = {
        node.name: torch.zeros(1, *node.shape, dtype=torch.float64, device=graph.device)
        for node in graph.inputs
    }
    found = []
    with torch.no_grad():
        for _ in range(3):
            start = time.perf_counter()
            forward(graph, x)
            found.append(time.perf_counter() - start)
    return min(found)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.0f} h"
