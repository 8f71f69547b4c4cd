"""The rules of each level, as a table, and the contracts of stages: a wrong graph fails where it was made."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from ann2snn_cli.errors import InvalidGraph, Setting
from ann2snn_cli.ir.bounds import bounds_by_delay
from ann2snn_cli.ir.contract import Reset
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.grid import largest_code
from ann2snn_cli.ir.ops import (
    FLOAT_BITS,
    Add,
    BatchNorm,
    Input,
    Integrate,
    Opaque,
    Population,
    Relu,
    Synapse,
)
from ann2snn_cli.ir.precision import EXACT_FLOAT64

Rule = tuple[str, Callable[[Graph, Node], bool]]  # what holds, and whether it does for a node
_Kind = TypeVar("_Kind")
_Arguments = ParamSpec("_Arguments")
Stage = Callable[Concatenate[Graph, _Arguments], Graph]


def stage(needs: Level, gives: Level) -> Callable[[Stage[_Arguments]], Stage[_Arguments]]:
    """Hold a stage to its contract: the level of the graph it takes, the rules of the graph it gives."""

    def decorate(transform: Stage[_Arguments]) -> Stage[_Arguments]:
        @wraps(transform)
        def held(graph: Graph, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Graph:
            given = transform(require(graph, needs, transform.__name__), *args, **kwargs)
            return validate(require(given, gives, f"what {transform.__name__} gives"))

        return held

    return decorate


def require(graph: Graph, level: Level, who: str) -> Graph:
    """The graph itself, if it is at this level."""
    if graph.level != level:
        raise InvalidGraph(f"{who} takes a graph at level {level.name}, not {graph.level.name}")
    return graph


def validate(graph: Graph) -> Graph:
    """The graph itself, after every rule of its level was held against every node."""
    broken = [
        f"{node.name} ({node.op.kind}): {text}"
        for level, rules in _RULES.items()
        if _applies(level, graph.level)
        for text, holds in rules
        for node in graph.nodes
        if not holds(graph, node)
    ]
    if broken:
        raise InvalidGraph(
            f"a graph at level {graph.level.name} breaks its rules: " + "; ".join(broken[:10]),
        )
    return graph


def _applies(rule: Level, graph: Level) -> bool:
    """Rules hold from their level on, but those of CALIBRATED and QUANTIZED end where integers begin."""
    return rule == graph or (rule < graph and (rule == Level.FOLDED or graph < Level.SPIKING))


def _unless(*kinds: type) -> Callable[[Graph, Node], bool]:
    return lambda graph, node: not isinstance(node.op, kinds)


def _every(kind: type[_Kind], holds: Callable[[_Kind], bool]) -> Callable[[Graph, Node], bool]:
    return lambda graph, node: holds(node.op) if isinstance(node.op, kind) else True


def _ends_well(graph: Graph, node: Node) -> bool:
    return node.name not in graph.outputs or isinstance(node.op, Relu | Population | Integrate | Opaque)


def _knows_its_grid(op: Synapse) -> bool:
    return op.bits == FLOAT_BITS or (op.bits is not None and op.step is not None)


def _on_grid(op: Synapse) -> bool:
    """|q| ≤ 2^(b−1)−1, and ±1 only at one bit; of branches the weights are m·q."""
    if op.bits == FLOAT_BITS:
        return True
    if op.bits is None or op.weight.is_floating_point():
        return False
    codes = op.weight.abs()
    if op.multiplier is not None:
        if bool((op.multiplier < 1).any()) or bool((codes % op.multiplier != 0).any()):
            return False
        codes = codes // op.multiplier
    return int(codes.min()) >= (1 if op.bits == 1 else 0) and int(codes.max()) <= largest_code(op.bits)


def _counts_in_integers(graph: Graph, node: Node) -> bool:
    if graph.has_float_weights:
        return True
    op = node.op
    if isinstance(op, Population):
        return not any(value.is_floating_point() for value in (op.threshold, op.bias, op.initial))
    if isinstance(op, Add) and op.weights is not None and node.name not in graph.real:
        return not any(weight.is_floating_point() for weight in op.weights)
    return True


def _threshold_at_least_one(op: Population) -> bool:
    return op.threshold.is_floating_point() or bool((op.threshold >= 1).all())


_RULES: dict[Level, tuple[Rule, ...]] = {
    Level.FOLDED: (
        ("no batch norm is left", _unless(BatchNorm)),
        ("biases live in the neurons", _every(Synapse, lambda op: op.bias is None)),
        ("an output is a population, a read-out or opaque", _ends_well),
    ),
    Level.CALIBRATED: (
        ("every population has its clip", _every(Relu, lambda op: op.inherits_clip or op.clip is not None)),
        ("every input has its unit", _every(Input, lambda op: op.unit is not None)),
    ),
    Level.QUANTIZED: (("every synapse has its bit width and step", _every(Synapse, _knows_its_grid)),),
    Level.SPIKING: (
        ("every ReLU has become neurons", _unless(Relu)),
        ("every node has its unit", lambda graph, node: node.unit is not None),
        ("weights are integers on their grid", _every(Synapse, _on_grid)),
        ("neurons count in integers", _counts_in_integers),
        ("thresholds are 1 or more", _every(Population, _threshold_at_least_one)),
        ("an addition has its integer weights", _every(Add, lambda op: op.weights is not None)),
    ),
}


def validate_exact(graph: Graph) -> Graph:
    """The graph itself, after it is proved that float64 carries its integers exactly (real numbers aside)."""
    if found := dict.fromkeys(graph[name].source or name for name in spilling(graph)):
        raise InvalidGraph(
            f"sums may exceed 2^53 in {', '.join(found)}",
            remedy=f"lower {Setting('weight_bitwidth')} or {Setting('timesteps')}",
        )
    return graph


def spilling(graph: Graph) -> dict[str, None]:
    """The nodes whose integers may exceed 2^53, for no delay, for the graph's own, or for the delay T."""
    found = bounds_by_delay(graph, {0, graph.timing.delay, graph.timing.timesteps}).values()
    return {
        node.name: None
        for node in graph.nodes
        if not graph.real.intersection((node.name, *node.inputs))
        and any(bound[node.name].largest >= EXACT_FLOAT64 for bound in found)
    }


def theorem_holds(graph: Graph) -> bool:
    """Is the SNN of delay T the quantized network exactly? Not with zero reset, floats or opaque nodes."""
    return not theorem_exception(graph)


def theorem_exception(graph: Graph) -> str:
    """Why the SNN of delay T need not be the quantized network exactly; empty where it must be."""
    if graph.timing.reset_mode is not Reset.SUBTRACTION:
        return (
            "the quantized network is that of a reset by subtraction; a reset to zero throws away what "
            "exceeds the threshold, so layerwise a neuron fires once or not at all"
        )
    inexact = "the two add up real numbers in another order, so their last digits differ"
    if graph.has_float_weights:
        return f"weights are floats ({Setting('weight_bitwidth', FLOAT_BITS)}): {inexact}"
    opaque = dict.fromkeys(node.source or node.name for node in graph.nodes if node.op.gives_reals)
    return f"there are real numbers behind {', '.join(opaque)}: {inexact}" if graph.real else ""
