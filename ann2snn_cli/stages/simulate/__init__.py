"""Simulate: run a SPIKING graph by an engine. `reference.py` is the one that every other must equal."""

from __future__ import annotations

from ann2snn_cli.errors import UsageError
from ann2snn_cli.ir.engine import Engine, Request, Simulation, Watch
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.stages.simulate.folded import CountsEngine, FoldedEngine
from ann2snn_cli.stages.simulate.fused import FusedEngine
from ann2snn_cli.stages.simulate.reference import ReferenceEngine
from ann2snn_cli.types import Inputs

AUTO = "auto"

ENGINES: dict[str, Engine] = {}  # `auto` asks them in this order: the first that does not refuse answers


def register(*engines: Engine) -> None:
    """Make engines known by their names. A name that is taken is refused."""
    for engine in engines:
        if engine.name in (AUTO, *ENGINES):
            raise UsageError(f"there is an engine {engine.name!r} already", remedy="choose another name")
        ENGINES[engine.name] = engine


register(CountsEngine(), FusedEngine(), FoldedEngine(), ReferenceEngine())


def run(graph: Graph, request: Request, engine: str = AUTO) -> Simulation:
    """Let an engine answer a request; `auto` takes the first that can."""
    reasons = []
    for name in ENGINES if engine == AUTO else _named(engine):
        reason = ENGINES[name].refusal(graph, request)
        if not reason:
            return ENGINES[name].run(graph, request)
        reasons.append(f"{name}: {reason}")
    remedy = "" if engine == AUTO else f"use {AUTO}"
    raise UsageError(f"no engine can run this network: {'; '.join(reasons)}", remedy=remedy)


def _named(engine: str) -> tuple[str]:
    if engine not in ENGINES:
        raise UsageError(
            f"there is no engine {engine!r}", remedy=f"engines are: {AUTO}, {', '.join(ENGINES)}"
        )
    return (engine,)


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


__all__ = ["AUTO", "ENGINES", "Request", "Simulation", "register", "run", "simulate"]
