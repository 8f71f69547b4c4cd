"""The rules of each level, as a table: a wrong graph fails where it was made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ann2snn_cli.errors import InvalidGraph
from ann2snn_cli.ir.bounds import EXACT_FLOAT64, bounds
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.grid import largest_code
from ann2snn_cli.ir.integers import FLOAT_BITS, is_float
from ann2snn_cli.ir.ops import (
    Add,
    BatchNorm,
    Conv,
    Input,
    Integrate,
    IntegrateFire,
    Linear,
    Opaque,
    Relu,
    Scale,
)
from ann2snn_cli.ir.spikes import real_valued

Rule = tuple[str, Callable[[Graph, Node], bool]]  # what holds, and whether it does for a node
_Kind = TypeVar("_Kind")


def verify(graph: Graph) -> Graph:
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
            remedy="this is a fault of ann2snn: please report it with the network",
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
    return node.name not in graph.outputs or isinstance(node.op, Relu | IntegrateFire | Integrate | Opaque)


def _no_bias(graph: Graph, node: Node) -> bool:
    return not isinstance(node.op, Conv | Linear | Scale) or node.op.bias is None


def _knows_its_grid(graph: Graph, node: Node) -> bool:
    if not isinstance(node.op, Conv | Linear | Scale):
        return True
    return node.op.bits == FLOAT_BITS or (node.op.bits is not None and node.op.step is not None)


def _on_grid(graph: Graph, node: Node) -> bool:
    """|q| ≤ 2^(b−1)−1, and ±1 only at one bit."""
    if not isinstance(node.op, Conv | Linear | Scale) or node.op.bits == FLOAT_BITS:
        return True
    if node.op.bits is None:
        return False
    codes = node.op.weight.abs()
    lowest = 1 if node.op.bits == 1 else 0
    return (
        not codes.is_floating_point()
        and int(codes.min()) >= lowest
        and int(codes.max()) <= largest_code(node.op.bits)
    )


def _counts_in_integers(graph: Graph, node: Node) -> bool:
    if is_float(graph):
        return True
    op = node.op
    if isinstance(op, IntegrateFire):
        return not any(value.is_floating_point() for value in (op.threshold, op.bias, op.initial))
    if isinstance(op, Add) and op.weights is not None and node.name not in real_valued(graph):
        return not any(weight.is_floating_point() for weight in op.weights)
    return True


def _threshold_at_least_one(op: IntegrateFire) -> bool:
    return op.threshold.is_floating_point() or bool((op.threshold >= 1).all())


_RULES: dict[Level, tuple[Rule, ...]] = {
    Level.FOLDED: (
        ("no batch norm is left", _unless(BatchNorm)),
        ("biases live in the neurons", _no_bias),
        ("an output is a population, a read-out or opaque", _ends_well),
    ),
    Level.CALIBRATED: (
        ("every population has its clip", _every(Relu, lambda op: op.relays or op.clip is not None)),
        ("every input has its unit", _every(Input, lambda op: op.unit is not None)),
    ),
    Level.QUANTIZED: (("every synapse has its bit width and step", _knows_its_grid),),
    Level.SPIKING: (
        ("every ReLU has become neurons", _unless(Relu)),
        ("every node has its unit", lambda graph, node: node.unit is not None),
        ("weights are integers on their grid", _on_grid),
        ("neurons count in integers", _counts_in_integers),
        ("thresholds are 1 or more", _every(IntegrateFire, _threshold_at_least_one)),
        ("an addition has its integer weights", _every(Add, lambda op: op.weights is not None)),
    ),
}


def verify_exact(graph: Graph) -> Graph:
    """The graph itself, after it is proved that float64 carries its integers exactly (real numbers aside)."""
    real = real_valued(graph)
    spilling = {
        graph[name].source or name: None
        for delay in sorted({0, graph.timing.delay, graph.timing.timesteps})
        for name, bound in bounds(graph, delay).items()
        if name not in real
        and not any(feeder in real for feeder in graph[name].inputs)
        and bound.largest >= EXACT_FLOAT64
    }
    if spilling:
        raise InvalidGraph(
            f"sums may exceed 2^53 in {', '.join(spilling)}", remedy="lower --weight_bitwidth or --timesteps"
        )
    return graph
