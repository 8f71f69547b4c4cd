"""Which values of a graph are spikes, and which are currents or real numbers."""

from __future__ import annotations

from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.ir.ops import MOVES, IntegrateFire, MaxPool, Opaque, Relu


def spiking_nodes(graph: Graph) -> frozenset[str]:
    """The nodes that pass on 0 or 1: populations, and what only moves or gates their spikes."""
    found: set[str] = set()
    for node in graph.nodes:
        passes = isinstance(node.op, (*MOVES, MaxPool)) and all(name in found for name in node.inputs)
        if passes or isinstance(node.op, Relu | IntegrateFire):
            found.add(node.name)
    return frozenset(found)


def real_valued(graph: Graph) -> frozenset[str]:
    """The nodes whose values are real numbers, not integers: opaque ones and what they feed."""
    found: set[str] = set()
    for node in graph.nodes:
        fires = isinstance(node.op, Relu | IntegrateFire)
        if isinstance(node.op, Opaque) or (not fires and any(name in found for name in node.inputs)):
            found.add(node.name)
    return frozenset(found)
