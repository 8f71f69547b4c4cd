"""Keep real: FLOAT -> FLOAT, the same function; what lies beside operators of real numbers is one of them.

Populations cut a graph into regions: all that is joined without a ReLU between. Where a region holds an
operator of real numbers (layer norm, GELU, softmax, attention, ...), its values are real numbers anyway, so
weights on a grid would cost accuracy and save nothing. There every layer with weights becomes the operator of
torch that it is, with the weights of the network: a temporal difference as the others (SPEC 6). A region
without such an operator stays as it is: integers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import BatchNorm, Conv, Input, Integrate, Linear, Op, Opaque, Ref, Scale
from ann2snn_cli.ir.validate import stage


@stage(Level.FLOAT, Level.FLOAT)
def keep_real(graph: Graph) -> Graph:
    """Needs FLOAT; gives FLOAT: beside an operator of real numbers no layer is left to be quantized.

    An input that only such regions read is shown as it is, not in 8 bits.
    """
    kept = _regions_of_reals(graph)
    ops: dict[str, Op] = {}
    for node in graph.nodes:
        if node.name in kept and (operator := _OPERATORS.get(type(node.op))) is not None:
            ops[node.name] = operator(node.op)
        readers = graph.users[node.name]
        if isinstance(node.op, Input) and readers and all(reader.name in kept for reader in readers):
            ops[node.name] = replace(node.op, is_real=True)
    return graph.with_ops(ops)


def _regions_of_reals(graph: Graph) -> set[str]:
    """The nodes of all regions that hold an operator of real numbers."""
    inside = {node.name: node for node in graph.nodes if not _is_border(node)}
    kept: set[str] = set()
    to_visit = [name for name, node in inside.items() if node.op.gives_reals]
    while to_visit:
        name = to_visit.pop()
        if name in inside and name not in kept:
            kept.add(name)
            to_visit += [*inside[name].inputs, *(reader.name for reader in graph.users[name])]
    return kept


def _is_border(node: Node) -> bool:
    return node.op.fires or isinstance(node.op, Input)


def _linear(op: Any) -> Op:
    return Opaque("aten.linear.default", (Ref(0), op.weight, op.bias))


def _conv(op: Any) -> Op:
    extents = (op.stride, op.padding, op.dilation, op.transposed, op.output_padding, op.groups)
    return Opaque("aten.convolution.default", (Ref(0), op.weight, op.bias, *extents))


def _scale(op: Any) -> Op:
    if op.bias is None:
        return Opaque("aten.mul.Tensor", (Ref(0), op.weight))
    return Opaque("aten.addcmul.default", (op.bias, Ref(0), op.weight))


def _batch_norm(op: Any) -> Op:
    statistics = (op.weight, op.bias, op.mean, op.var)
    return Opaque("aten.batch_norm.default", (Ref(0), *statistics, False, 0.0, op.eps, False))


def _integrate(op: Any) -> Op:
    return op if op.bias is None else Opaque("aten.add.Tensor", (Ref(0), op.bias))


_OPERATORS: dict[type[Op], Callable[[Any], Op]] = {
    Linear: _linear,
    Conv: _conv,
    Scale: _scale,
    BatchNorm: _batch_norm,
    Integrate: _integrate,
}
