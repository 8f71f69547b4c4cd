"""Biases and scales that a file keeps as nodes of their own go into the layer before them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import Conv, Linear, Op, Scale
from ann2snn_cli.types import Shape


def merge_affine(graph: Graph) -> Graph:
    """MatMul, Add -> one Linear; Conv, Mul, Add -> one Conv; Sub, Div -> one Scale: the same function.

    Only where nothing else reads the layer, and only by channel (by element after a `Scale`).
    """
    nodes: dict[str, Node] = {}
    gone: dict[str, str] = {}  # a node that was merged -> the one that computes it now
    for node in graph.nodes:
        alone = all(len(graph.users[name]) == 1 and name not in graph.outputs for name in node.inputs)
        node = replace(node, inputs=tuple(gone.get(name, name) for name in node.inputs))
        merged = _merged(nodes[node.inputs[0]], node) if alone and isinstance(node.op, Scale) else None
        if merged is None:
            nodes[node.name] = node
        else:
            (owner,) = node.inputs
            nodes[owner], gone[node.name] = replace(nodes[owner], op=merged), owner
    return graph.with_nodes(nodes.values(), outputs=tuple(gone.get(name, name) for name in graph.outputs))


def _merged(owner: Node, node: Node) -> Op | None:
    assert isinstance(node.op, Scale)
    merge = _MERGERS.get(type(owner.op))
    bias = torch.zeros(()) if node.op.bias is None else node.op.bias
    return None if merge is None else merge(owner.op, node.op.weight, bias, node.shape)


def _into_conv(op: Conv, weight: Tensor, bias: Tensor, shape: Shape) -> Conv | None:
    gain, shift = _along(weight, shape, 0), _along(bias, shape, 0)
    if gain is None or shift is None or (op.transposed and op.groups > 1):
        return None
    ones = [1] * (op.weight.dim() - 2)
    by_output = gain.reshape(1, -1, *ones) if op.transposed else gain.reshape(-1, 1, *ones)
    return replace(op, weight=op.weight * by_output, bias=_shifted(op.bias, gain, shift))


def _into_linear(op: Linear, weight: Tensor, bias: Tensor, shape: Shape) -> Linear | None:
    gain, shift = (_along(term, shape, len(shape) - 1) for term in (weight, bias))
    if gain is None or shift is None:
        return None
    return replace(op, weight=op.weight * gain[:, None], bias=_shifted(op.bias, gain, shift))


def _into_scale(op: Scale, weight: Tensor, bias: Tensor, shape: Shape) -> Scale:
    """w·(w₀·x + b₀) + b."""
    return replace(op, weight=op.weight * weight, bias=_shifted(op.bias, weight, bias))


def _shifted(before: Tensor | None, gain: Tensor, shift: Tensor) -> Tensor | None:
    if before is not None:
        return before * gain + shift
    return shift if bool((shift != 0).any()) else None


def _along(term: Tensor, shape: Shape, axis: int) -> Tensor | None:
    """A term as one number for each place along an axis, [n]; None where it differs along others."""
    term = term.reshape(*[1] * (len(shape) - term.dim()), *term.shape)
    if any(n != 1 for place, n in enumerate(term.shape) if place != axis):
        return None
    return term.flatten().expand(shape[axis]).clone()


_MERGERS: dict[type[Op], Callable[[Any, Tensor, Tensor, Shape], Op | None]] = {
    Conv: _into_conv,
    Linear: _into_linear,
    Scale: _into_scale,
}
