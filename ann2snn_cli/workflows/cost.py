"""What stepping a network will take, told before it is done: time by a measured forward, memory by shapes."""

from __future__ import annotations

import time
from collections.abc import Iterable

import torch

from ann2snn_cli.ir.encoding import step_by_step
from ann2snn_cli.ir.graph import Graph, Level
from ann2snn_cli.ir.memory import step_bytes
from ann2snn_cli.ir.run import run, run_counts
from ann2snn_cli.stages import simulate as engines
from ann2snn_cli.stages.simulate.portions import portion_size
from ann2snn_cli.words import count_of

# Of a float32 forward: what an engine takes for a step of a sample, about the middle of docs/speed.md.
STEP = {"fused": 0.25, "triton": 0.25, "folded": 0.6, "reference": 1.2}
CLOSED_FORM = 1.0  # the same for all steps at once, where they are not taken
FEW = 16  # samples that are timed, where one is quick
QUICK = 0.05  # seconds


def line(graph: Graph, samples: int, delays: Iterable[int], engine: str = engines.AUTO) -> str:
    """About what it takes to step so many samples at each delay, in a graph that has a contract."""
    timesteps, delays = graph.timing.timesteps, set(delays)
    stepped = samples * len(delays - {timesteps})
    seconds = forward_seconds(graph) * samples * sum(forwards(graph, delay, engine) for delay in delays)
    size = portion_size(graph, timesteps) * timesteps * step_bytes(graph)
    return (
        f"{count_of(stepped, 'sample')} to step, {timesteps:,} steps each: about {_duration(seconds)} "
        f"and {size / 1e9:.1f} GB of memory"
    )


def forwards(graph: Graph, delay: int, engine: str = engines.AUTO) -> float:
    """How many float32 forwards a sample takes at this delay, by the engine that will run it."""
    request = engines.Request((), delay)
    name = engines.chosen(graph, request, engines.able_or_auto(graph, request, engine))
    return CLOSED_FORM if name == "counts" else graph.timing.timesteps * STEP.get(name, 1.0)


def forward_seconds(graph: Graph) -> float:
    """How long a sample takes through the network once, in float32; of a small network one of several."""
    graph = step_by_step(graph)
    one = _seconds(graph, 1)
    return one if one > QUICK else _seconds(graph, FEW) / FEW


def _seconds(graph: Graph, samples: int) -> float:
    forward = run_counts if graph.level is Level.SPIKING else run
    x = {node.name: torch.zeros(samples, *node.shape, device=graph.device) for node in graph.inputs}
    found = []
    with torch.no_grad():
        for _ in range(2):  # the first warms up
            start = time.perf_counter()
            forward(graph, x)
            found.append(time.perf_counter() - start)
    return min(found)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.0f} h"
