"""Simulate: run a SPIKING graph by an engine. `reference.py` is the one that every other must equal."""

from __future__ import annotations

from dataclasses import replace

from ann2snn_cli.errors import Setting, UsageError
from ann2snn_cli.ir.engine import Engine, Request, Simulation, Watch
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.ir.ops import own_neuron
from ann2snn_cli.stages.simulate.counts import CountsEngine
from ann2snn_cli.stages.simulate.folded import FoldedEngine
from ann2snn_cli.stages.simulate.fused import FusedEngine
from ann2snn_cli.stages.simulate.reference import ReferenceEngine
from ann2snn_cli.stages.simulate.triton import TritonEngine, is_interpreted
from ann2snn_cli.types import Inputs

AUTO = "auto"

ENGINES: dict[str, Engine] = {}  # `auto` asks them in this order: the first that does not refuse answers


def register(*engines: Engine) -> None:
    """Make engines known by their names. A name that is taken is refused."""
    for engine in engines:
        if engine.name in (AUTO, *ENGINES):
            raise UsageError(f"there is an engine {engine.name!r} already", remedy="choose another name")
        ENGINES[engine.name] = engine


register(CountsEngine(), FusedEngine(), TritonEngine(), FoldedEngine(), ReferenceEngine())


def run(graph: Graph, request: Request, engine: str = AUTO) -> Simulation:
    """Let an engine answer a request; `auto` takes the first that can."""
    return ENGINES[chosen(graph, request, engine)].run(graph, request)


def chosen(graph: Graph, request: Request, engine: str = AUTO) -> str:
    """The engine that answers: the one that is asked for, or the first that can."""
    if engine != AUTO:
        refuse_unable(graph, request, engine)
        return engine
    reasons = []
    for name in automatic():
        reason = refusal(graph, request, name)
        if not reason:
            return name
        reasons.append(f"{name}: {reason}")
    raise UsageError(f"no engine can run this network: {'; '.join(reasons)}")


def automatic() -> tuple[str, ...]:
    """The engines that `auto` asks, in order. An interpreted kernel is slow: it runs by its name only."""
    return tuple(name for name in ENGINES if not (name == TritonEngine.name and is_interpreted()))


def run_or_auto(graph: Graph, request: Request, engine: str = AUTO) -> Simulation:
    """Let the engine that is asked for answer where it can, else the first that can."""
    return run(graph, request, able_or_auto(graph, request, engine))


def able_or_auto(graph: Graph, request: Request, engine: str) -> str:
    """The engine that is asked for where it can answer, else `auto`."""
    return AUTO if refusal(graph, request, engine) else engine


def refusal(graph: Graph, request: Request, engine: str) -> str:
    """Why the engine that is asked for cannot answer; empty if it can, or if none is asked for."""
    if engine == AUTO:
        return ""
    named = _named(engine)
    return _own_neurons(graph, engine) or named.refusal(graph, request)


def _own_neurons(graph: Graph, engine: str) -> str:
    """Neurons of a user's own are what their class says, and only the reference engine asks it."""
    own = [(node, neuron) for node in graph.nodes if (neuron := own_neuron(node.op)) is not None]
    if engine == ReferenceEngine.name or not own:
        return ""
    node, neuron = own[0]
    label = node.source or node.name
    return f"{label} has neurons of your own, {neuron.kind}: only {ReferenceEngine.name} runs them"


def refuse_unable(graph: Graph, request: Request, engine: str) -> None:
    """Refuse, before any work, an engine that cannot answer what is asked of it by name."""
    reason = refusal(graph, request, engine)
    if reason:
        steps = graph.timing.timesteps
        elsewhere = "" if refusal(graph, replace(request, delay=steps), engine) else Setting("delay", steps)
        raise UsageError(
            f"the engine {engine} cannot run this: {reason}",
            where=str(Setting("engine", engine)),
            remedy=f"give {Setting('engine', AUTO)}" + (f", or {elsewhere}" if elsewhere else ""),
        )


def _named(engine: str) -> Engine:
    if engine not in ENGINES:
        raise UsageError(f"unknown engine {engine!r}", remedy=f"choose from: {', '.join([AUTO, *ENGINES])}")
    return ENGINES[engine]


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


__all__ = [
    "AUTO", "ENGINES", "Request", "Simulation", "able_or_auto", "automatic", "chosen", "refusal",
    "refuse_unable", "register", "run", "run_or_auto", "simulate",
]  # fmt: skip
