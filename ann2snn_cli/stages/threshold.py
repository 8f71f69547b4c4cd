"""Threshold: QUANTIZED -> SPIKING. Integer weights, thresholds, biases and initial potentials (SPEC 2, 3)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.integers import FLOAT_BITS, integers
from ann2snn_cli.ir.ops import Add, Conv, Integrate, IntegrateFire, Linear, Scale, map_tensors


def threshold(graph: Graph) -> Graph:
    """Needs QUANTIZED; gives SPIKING: what a chip is loaded with, as integers (floats at 32 bits)."""
    with torch.no_grad():
        spiking = integers(graph)
    return spiking.with_nodes(_store(node) for node in spiking.nodes)


def _store(node: Node) -> Node:
    """Integers as integers, in the narrowest type that torch handles well."""
    if isinstance(node.op, Conv | Linear | Scale):
        if node.op.bits == FLOAT_BITS:
            return node
        return replace(node, op=replace(node.op, weight=node.op.weight.to(torch.int8)))
    if isinstance(node.op, IntegrateFire | Integrate | Add):
        return replace(node, op=map_tensors(node.op, _whole))
    return node


def _whole(values: Tensor) -> Tensor:
    """As int64 where all are integers (they are not at 32 bits, nor in sums of real numbers)."""
    return values.to(torch.int64) if torch.equal(values, values.round()) else values
