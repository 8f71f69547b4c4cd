"""Give every synapse its bit width and the step of its grid (SPEC 2)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ann2snn_cli.errors import BadWeights
from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.integers import FLOAT_BITS, absorb, integers, synapse_step
from ann2snn_cli.ir.ops import SYNAPSES, Conv, Linear, Op, Scale


def quantize(
    graph: Graph, contract: Contract, *, weight_bitwidth: int = 4, channel_wise: bool = False
) -> Graph:
    """Needs CALIBRATED; gives QUANTIZED: every weight lies on its b-bit grid once its step is applied.

    The float weights stay as the master copy. Steps are chosen in order, since a layer absorbs the
    amplitudes of what comes in, which follow from the steps before it.
    """
    _refuse_nan(graph)
    graph = graph.with_ops(
        {node.name: replace(node.op, bits=weight_bitwidth, step=None) for node in graph.of(*SYNAPSES)},  # type: ignore[call-arg]
        level=Level.QUANTIZED,
        contract=contract,
    )
    if weight_bitwidth == FLOAT_BITS:
        return graph
    chosen: dict[str, Op] = {}

    def choose(graph: Graph, node: Node, units: list[Tensor]) -> Node:
        if not isinstance(node.op, Conv | Linear | Scale):
            return node
        (feeder,) = graph.fed_by(node)
        step = synapse_step(node, node.op, absorb(node, node.op, units[0], feeder.shape), channel_wise)
        chosen[node.name] = replace(node.op, step=step)
        return replace(node, op=chosen[node.name])

    with torch.no_grad():
        integers(graph, choose)
    return graph.with_ops(chosen)


def _refuse_nan(graph: Graph) -> None:
    bad = [node.source or node.name for node in graph.of(*SYNAPSES) if not _finite(node.op)]
    if bad:
        raise BadWeights(
            "weights are not finite numbers",
            where=", ".join(bad),
            remedy="check the checkpoint: training may have diverged",
        )


def _finite(op: Op) -> bool:
    assert isinstance(op, Conv | Linear | Scale)
    return bool(torch.isfinite(op.weight).all())
