"""A graph as rows of a table: what `print(snn)` and `ann2snn inspect` show."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from ann2snn_cli.ir.ops import Synapse

if TYPE_CHECKING:  # a graph shows itself by `table`
    from ann2snn_cli.ir.graph import Graph
    from ann2snn_cli.ir.registers import Register

HEADERS = ("node", "op", "reads", "shape", "details", "module")
REGISTER_HEADERS = (*HEADERS, "potential, worst case")


def rows(graph: Graph) -> list[tuple[str, ...]]:
    """A row a node, under `HEADERS`."""
    return [
        (
            node.name,
            node.op.kind,
            ", ".join(node.inputs),
            "x".join(map(str, node.shape)),
            node.op.details(),
            node.source,
        )
        for node in graph.nodes
    ]


def table(graph: Graph) -> str:
    """What `print(graph)` prints: the level and the contract in one line, then the rows in columns."""
    columns = list(zip(HEADERS, *rows(graph), strict=True))
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in zip(*columns, strict=True)
    ]
    contract = {} if graph.contract is None else graph.contract.to_plain()
    title = ", ".join([graph.level.name, *(f"{name} {value}" for name, value in contract.items())])
    return "\n".join([f"Graph({title})", *lines])


def rows_with_registers(graph: Graph, registers: Iterable[Register]) -> list[tuple[str, ...]]:
    """The rows, each with the register of its potential as one column more: `REGISTER_HEADERS`."""
    cells = {register.layer: _register(register) for register in registers}
    return [(*row, cells.get(row[0], "")) for row in rows(graph)]


def _register(register: Register) -> str:
    if register.bits is None:
        return "real numbers"
    return f"{register.lowest}..{register.highest} ({register.bits} bits)"


def real_operators(graph: Graph) -> dict[str, list[str]]:
    """What runs on real numbers, and never spikes: the layers, by kind."""
    found: dict[str, list[str]] = {}
    for node in graph.real_operators:
        found.setdefault(node.op.kind, []).append(node.source or node.name)
    return found


def real_line(operators: Mapping[str, Collection[str]]) -> str:
    """The same in words; "" where there are none."""
    counts = ", ".join(f"{len(layers)} {kind}" for kind, layers in operators.items())
    return f"temporal differences in real numbers, which are no spikes: {counts}" if operators else ""


def parameters(graph: Graph) -> int:
    """How many weights the synapses hold."""
    return sum(node.op.weight.numel() for node in graph.nodes if isinstance(node.op, Synapse))


def neurons(graph: Graph) -> int:
    """How many neurons fire."""
    return sum(math.prod(node.shape) for node in graph.nodes if node.op.fires)
