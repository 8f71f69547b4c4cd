"""Check: Graph, Hardware -> list[Verdict]. One function a rule, every violation at once, no compute (SPEC 7).

`check` needs shapes and settings only and runs before anything is trained; `check_registers` looks at the
integers of a SPIKING graph. The last convolution or linear layer behind the last population, and what follows
it, is read out beside the chip and is not checked, unless the hardware says that its final linear layer is on
the chip.

    shapes.py       the rules that shapes and settings decide
    registers.py    the rules on the widths of registers

A new rule is a function and its line below, under the name of its verdicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ann2snn_cli.config import Hardware
from ann2snn_cli.errors import UsageError
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.stages.check import registers, shapes
from ann2snn_cli.stages.check.shapes import Grid, channel_limit
from ann2snn_cli.stages.check.verdict import Verdict, violations

ShapeRule = Callable[[Graph, Node, Hardware, Grid], Iterator[Verdict]]
RegisterRule = Callable[[Graph, Node, Hardware], Iterator[Verdict]]

SHAPE_RULES: dict[str, ShapeRule] = {
    "op": shapes.op_is_known,
    "weight_bitwidth": shapes.bits_fit,
    "in_channels": shapes.channels_fit,
    "conv_needs_relu": shapes.neurons_follow,
    "pooling": shapes.spikes_are_pooled,
    "channel_wise_threshold": shapes.thresholds_are_one,
    "potential_bits": shapes.numbers_are_whole,
}
REGISTER_RULES: dict[str, RegisterRule] = {
    "threshold_bits": registers.threshold_fits,
    "bias_bits": registers.bias_fits,
    "channel_wise_threshold": registers.one_threshold,
    "weight_code_bits": registers.codes_fit,
    "potential_bits": registers.potentials_fit,
}


def register(name: str, *, shapes: ShapeRule | None = None, registers: RegisterRule | None = None) -> None:
    """Make a rule known by the name of its verdicts. A name that is taken is refused."""
    if name in rule_names():
        raise UsageError(f"there is a hardware rule called {name!r} already", remedy="choose another name")
    if shapes is not None:
        SHAPE_RULES[name] = shapes
    if registers is not None:
        REGISTER_RULES[name] = registers


def rule_names() -> tuple[str, ...]:
    """What verdicts are called: the names that a user may allow to be broken."""
    return tuple(dict.fromkeys((*SHAPE_RULES, *REGISTER_RULES)))


def check(
    graph: Graph, hardware: Hardware, weight_bitwidth: int, *, channel_wise: bool = False
) -> list[Verdict]:
    """Needs FOLDED or later; gives every verdict that shapes and settings decide, layer by layer."""
    grid = Grid(weight_bitwidth, channel_wise)
    nodes = [node for node in graph.nodes if _on_chip(graph, hardware, node)]
    return [
        verdict
        for node in nodes
        for rule in SHAPE_RULES.values()
        for verdict in rule(graph, node, hardware, grid)
    ]


def check_registers(graph: Graph, hardware: Hardware) -> list[Verdict]:
    """Needs SPIKING; gives the verdicts on register widths."""
    nodes = [node for node in graph.nodes if _on_chip(graph, hardware, node)]
    return [
        verdict
        for node in nodes
        for rule in REGISTER_RULES.values()
        for verdict in rule(graph, node, hardware)
    ]


_SYNAPSES = ("Conv", "ConvTranspose", "Linear")  # as ops of ours, and as operators of real numbers


def _on_chip(graph: Graph, hardware: Hardware, node: Node) -> bool:
    """All but the read-out: the last synapses and what follows them, with no population at or behind them."""
    if hardware.final_linear_on_chip or node.op.fires:
        return True
    return any(after.op.fires or after.op.kind in _SYNAPSES for after in _behind(graph, node))


def _behind(graph: Graph, node: Node) -> list[Node]:
    """The nodes that this one reaches, itself left out."""
    reached: dict[str, Node] = {}
    todo = list(graph.users[node.name])
    while todo:
        here = todo.pop()
        if here.name not in reached:
            reached[here.name] = here
            todo.extend(graph.users[here.name])
    return list(reached.values())


__all__ = [
    "REGISTER_RULES",
    "SHAPE_RULES",
    "Grid",
    "Verdict",
    "channel_limit",
    "check",
    "check_registers",
    "register",
    "rule_names",
    "violations",
]
