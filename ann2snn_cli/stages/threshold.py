"""Threshold: QUANTIZED -> SPIKING. Integer weights, thresholds, biases and initial potentials (SPEC 2, 3)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.integers import integers
from ann2snn_cli.ir.ops import FLOAT_BITS, Synapse, map_tensors
from ann2snn_cli.ir.verify import stage


@stage(Level.QUANTIZED, Level.SPIKING)
def threshold(graph: Graph) -> Graph:
    """Needs QUANTIZED; gives SPIKING: what a chip is loaded with, as integers (floats at 32 bits)."""
    with torch.no_grad():
        spiking = integers(graph)
    return spiking.with_nodes(_stored(node) for node in spiking.nodes)


def _stored(node: Node) -> Node:
    """Integers as integers, weights on one grid in 8 bits."""
    if isinstance(node.op, Synapse) and node.op.bits != FLOAT_BITS and node.op.multiplier is None:
        return replace(node, op=replace(node.op, weight=node.op.weight.to(torch.int8)))
    return replace(node, op=map_tensors(node.op, _whole)) if not node.op.gives_reals else node


def _whole(values: Tensor) -> Tensor:
    """Store as int64 where all are integers (they are not at 32 bits, nor in sums of real numbers)."""
    return values.to(torch.int64) if torch.equal(values, values.round()) else values
