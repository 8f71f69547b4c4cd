"""Simulate: run a SPIKING graph by an engine. `reference.py` is the one that every other must equal."""

from __future__ import annotations

from ann2snn_cli.errors import UsageError
from ann2snn_cli.ir.engine import Engine, Request, Simulation, Watch
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.ir.run import Inputs
from ann2snn_cli.stages.simulate.reference import ReferenceEngine

AUTO = "auto"

# In the order in which `auto` asks them: the first that does not refuse answers.
ENGINES: dict[str, Engine] = {engine.name: engine for engine in (ReferenceEngine(),)}


def run(graph: Graph, request: Request, engine: str = AUTO) -> Simulation:
    """Let an engine answer a request; `auto` takes the first that can."""
    if engine == AUTO:
        return next(each for each in ENGINES.values() if not each.refusal(graph, request)).run(graph, request)
    if engine not in ENGINES:
        raise UsageError(
            f"there is no engine {engine!r}", remedy=f"engines are: {AUTO}, {', '.join(ENGINES)}"
        )
    if reason := ENGINES[engine].refusal(graph, request):
        raise UsageError(f"the engine {engine} cannot run this network: {reason}", remedy=f"use {AUTO}")
    return ENGINES[engine].run(graph, request)


def simulate(
    graph: Graph,
    x: Inputs,
    *,
    delay: int | None = None,
    engine: str = AUTO,
    by_step: bool = False,
    counts: bool = False,
    watch: Watch | None = None,
    potentials: bool = False,
) -> Simulation:
    """Needs SPIKING; gives the outputs, and what else is asked for, at the graph's own delay unless given."""
    request = Request(x, delay, by_step=by_step, counts=counts, potentials=potentials, watch=watch)
    return run(graph, request, engine)


__all__ = ["AUTO", "ENGINES", "Request", "Simulation", "run", "simulate"]
