"""A graph as rows of a table: what `print(snn)` and `ann2snn inspect` show."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor

from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import AvgPool, Conv, IntegrateFire, Linear, MaxPool, Opaque, Relu, Scale
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
            details(node),
            node.source,
        )
        for node in graph.nodes
    ]


def rows_with_registers(graph: Graph, registers: Iterable[Register]) -> list[tuple[str, ...]]:
    """The rows, each with the register of its potential as one column more: `REGISTER_HEADERS`."""
    cells = {register.layer: _register(register) for register in registers}
    return [(*row, cells.get(row[0], "")) for row in rows(graph)]


def _register(register: Register) -> str:
    if register.bits is None:
        return "real numbers"
    return f"{register.lowest}..{register.highest} ({register.bits} bits)"


def details(node: Node) -> str:
    """What else a reader wants to know of a node, in a few words."""
    op = node.op
    if isinstance(op, Conv):
        extras = [f"groups {op.groups}"] * (op.groups > 1) + _each("stride", op.stride, 1)
        extras += _each("padding", op.padding, 0) + _each("dilation", op.dilation, 1)
        return ", ".join(["x".join(map(str, op.kernel)), *extras, *_bits(op)])
    if isinstance(op, Linear | Scale):
        return ", ".join(_bits(op))
    if isinstance(op, AvgPool | MaxPool):
        extras = [] if op.stride == op.kernel else _each("stride", op.stride, 1)
        return ", ".join(["x".join(map(str, op.kernel)), *extras, *_each("padding", op.padding, 0)])
    if isinstance(op, IntegrateFire):
        fraction = f", {op.fraction_bits} fraction bits" if op.fraction_bits else ""
        return f"threshold {_span(op.threshold)}, initial {_span(op.initial)}{fraction}"
    if isinstance(op, Relu):
        return "" if op.limit is None else f"at most {op.limit:g}"
    return op.target if isinstance(op, Opaque) else ""


def _each(word: str, values: tuple[int, ...], usual: int) -> list[str]:
    return [] if all(value == usual for value in values) else [f"{word} {'x'.join(map(str, values))}"]


def _bits(op: Conv | Linear | Scale) -> list[str]:
    return [] if op.bits is None else [f"{op.bits} bits"]


def _span(values: Tensor) -> str:
    """Lowest and highest: integers to their last unit, floats (at 32 bits) to six digits."""
    ends = dict.fromkeys((values.min().item(), values.max().item()))
    return "..".join(f"{end:g}" if isinstance(end, float) else str(end) for end in ends)


def parameters(graph: Graph) -> int:
    """How many weights the synapses hold."""
    return sum(node.op.weight.numel() for node in graph.nodes if isinstance(node.op, Conv | Linear | Scale))


def neurons(graph: Graph) -> int:
    """How many neurons fire."""
    return sum(math.prod(node.shape) for node in graph.of(Relu, IntegrateFire))
