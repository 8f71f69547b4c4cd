"""Quantize: CALIBRATED -> QUANTIZED. Every synapse gets its bit width and the steps of its grids (SPEC 2)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ann2snn_cli.errors import BadWeights
from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.integers import branches, integers
from ann2snn_cli.ir.ops import Add, Op, Synapse
from ann2snn_cli.ir.units import UnitsDiffer
from ann2snn_cli.ir.validate import stage


@stage(Level.CALIBRATED, Level.QUANTIZED)
def quantize(
    graph: Graph, contract: Contract, *, weight_bitwidth: int = 4, channel_wise: bool = False
) -> Graph:
    """Needs CALIBRATED; gives QUANTIZED: every weight lies on its b-bit grid once its step is applied.

    The float weights stay as the master copy. Where values of different unit meet in one weight, an `Add` of
    one input brings them to one unit first.
    """
    _refuse_not_finite(graph)
    ops = {n.name: replace(n.op, bits=weight_bitwidth) for n in graph.nodes if isinstance(n.op, Synapse)}
    graph = graph.with_ops(ops, level=Level.QUANTIZED, contract=contract)
    while True:
        try:
            return _with_steps(graph, channel_wise)
        except UnitsDiffer as error:
            graph = _with_one_unit(graph, error)


@stage(Level.QUANTIZED, Level.QUANTIZED)
def with_bits(graph: Graph, bits: int, *, channel_wise: bool = False) -> Graph:
    """Needs QUANTIZED; gives QUANTIZED: the same master weights on grids of so many bits."""
    synapses = [(node.name, node.op) for node in graph.nodes if isinstance(node.op, Synapse)]
    return _with_steps(graph.with_ops({name: replace(op, bits=bits) for name, op in synapses}), channel_wise)


def _with_steps(graph: Graph, channel_wise: bool) -> Graph:
    """Steps are chosen in order: a layer absorbs the units that follow from the steps before it."""
    labels = branches(graph)
    chosen: dict[str, Op] = {}

    def choose(node: Node, units: list[Tensor]) -> Node:
        if not isinstance(node.op, Synapse):
            return node
        chosen[node.name] = node.op.quantized(
            units, labels[node.inputs[0]], graph.place(node), channel_wise=channel_wise
        )
        return replace(node, op=chosen[node.name])

    with torch.no_grad():
        integers(graph, choose)
    return graph.with_ops(chosen)


def _with_one_unit(graph: Graph, error: UnitsDiffer) -> Graph:
    """An `Add` of one input before the node in whose weights values of different unit would meet."""
    (reader,) = (node for node in graph.nodes if node.name == error.name)
    (before,) = graph.fed_by(reader)
    name = f"{reader.name}.unit"
    if isinstance(before.op, Add) and len(before.inputs) == 1:
        raise error  # it is there already and did not help
    nodes: list[Node] = []
    for node in graph.nodes:
        if node is reader:
            nodes.append(Node(name, Add(), (before.name,), before.shape, before.source))
            node = replace(node, inputs=(name,))
        nodes.append(node)
    return graph.with_nodes(nodes)


def _refuse_not_finite(graph: Graph) -> None:
    synapses = [(node, node.op) for node in graph.nodes if isinstance(node.op, Synapse)]
    bad = [
        node.source or node.name
        for node, op in synapses
        if not all(bool(values.isfinite().all()) for values in (op.weight, op.bias) if values is not None)
    ]
    if bad:
        raise BadWeights(
            "weights or biases are not finite numbers",
            where=", ".join(bad),
            remedy="check the checkpoint: training may have diverged",
        )
