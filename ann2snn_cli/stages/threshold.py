"""Threshold: QUANTIZED -> SPIKING. Integer weights, thresholds, biases and initial potentials (SPEC 2, 3)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ann2snn_cli.errors import Setting, UnsupportedNetwork
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.integers import integers
from ann2snn_cli.ir.ops import FLOAT_BITS, Synapse, map_tensors
from ann2snn_cli.ir.precision import EXACT_FLOAT64
from ann2snn_cli.ir.validate import stage


@stage(Level.QUANTIZED, Level.SPIKING)
def threshold(graph: Graph) -> Graph:
    """Needs QUANTIZED; gives SPIKING: what a chip is loaded with, as integers (floats at 32 bits)."""
    with torch.no_grad():
        spiking = integers(graph)
    if not spiking.has_float_weights:
        _refuse_too_large(spiking)
    return spiking.with_nodes(_stored(node) for node in spiking.nodes)


def _refuse_too_large(graph: Graph) -> None:
    """Thresholds grow with every layer that no ReLU follows; beyond 2^53 float64 holds no more integers."""
    found: dict[str, None] = {}

    def note(node: Node, values: Tensor) -> Tensor:
        if values.numel() and float(values.abs().max()) >= EXACT_FLOAT64:
            found[node.source or node.name] = None
        return values

    for node in graph.nodes:
        if node.name not in graph.real:
            map_tensors(node.op, partial(note, node))
    if found:
        raise UnsupportedNetwork(
            "its integers exceed 2^53",
            where=", ".join(found),
            remedy=f"lower {Setting('weight_bitwidth')}, or put a ReLU between the layers before it; if its "
            "biases are very large beside its weights, check how the network was trained",
        )


def _stored(node: Node) -> Node:
    """Integers as integers, weights on one grid in 8 bits."""
    if isinstance(node.op, Synapse) and node.op.bits != FLOAT_BITS and node.op.multiplier is None:
        return replace(node, op=replace(node.op, weight=node.op.weight.to(torch.int8)))
    return replace(node, op=map_tensors(node.op, _whole)) if not node.op.gives_reals else node


def _whole(values: Tensor) -> Tensor:
    """Store as int64 where all are integers (they are not at 32 bits, nor in sums of real numbers)."""
    return values.to(torch.int64) if torch.equal(values, values.round()) else values
