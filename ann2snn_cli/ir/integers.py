"""From real parameters to integers, differentiable: the walk of SPEC 2 and 3.

`integers(graph)` reads a QUANTIZED graph and gives the SPIKING one in float64 tensors that hold integers.
Finetuning calls it at every step and backpropagates through it; `stages/threshold.py` calls it once and
stores the result. So the network that is trained is the network that is exported.

Every node gets a `unit`, the real value of 1: a synapse's is its step α, a population's its amplitude
A = θ·unit of what comes in. What each op makes of the units it reads stands in its class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ann2snn_cli.ir.graph import Graph, Level, Node


def integers(graph: Graph, visit: Callable[[Node, list[Tensor]], Node] | None = None) -> Graph:
    """Needs QUANTIZED; gives SPIKING, in float64 tensors that hold integers (or floats, at 32 bits).

    `visit` may replace a node just before it becomes integers, when the units of its inputs are known:
    that is how `stages/quantize` chooses the steps.
    """
    units: dict[str, Tensor] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        given = [units[name] for name in node.inputs]
        if visit is not None:
            node = visit(node, given)
        op, unit = node.op.integers(given, graph.place(node))
        units[node.name] = unit
        nodes.append(replace(node, op=op, unit=unit))
    return graph.with_nodes(nodes, level=Level.SPIKING)


def branches(graph: Graph) -> dict[str, Tensor]:
    """Which branch each value of each node belongs to, as the place of the node that computed it."""
    found: dict[str, Tensor] = {}
    for place, node in enumerate(graph.nodes):
        labels = node.op.branches([found[name] for name in node.inputs], graph.place(node))
        if labels is None:
            labels = torch.tensor(float(place), dtype=torch.float64, device=graph.device)
        elif bool((labels < 0).any()):  # of its own: numbers between this place and the next
            labels = torch.where(labels < 0, place + labels / (labels.min() - 1), labels)
        found[node.name] = labels
    return found
