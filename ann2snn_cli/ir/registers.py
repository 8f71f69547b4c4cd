"""The registers that the neurons of a SPIKING graph need, proved from its weights (`ir/bounds.py`)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ann2snn_cli.ir.bounds import bounds
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import Integrate, Population
from ann2snn_cli.ir.span import Span


@dataclass(frozen=True)
class Register:
    """What one population or read-out must hold, in the fewest bits of a two's complement number.

    None where there is nothing to hold, or real numbers, which no width holds.
    """

    layer: str  # the node
    source: str  # the module in the user's own network
    lowest: int | None  # of the potential: whatever the input, also between two additions
    highest: int | None
    bits: int | None
    weight_bits: int | None  # of what one spike adds: the weight with its multiplier and fraction bits
    threshold_bits: int | None
    bias_bits: int | None


def registers(graph: Graph, delay: int | None = None) -> list[Register]:
    """Needs SPIKING; gives the registers node by node, for the graph's own delay unless one is given."""
    return [_register(graph, node, delay) for node in graph.nodes if has_register(graph, node)]


def has_register(graph: Graph, node: Node) -> bool:
    """Does this node keep a potential? A population does, and a read-out; elsewhere currents only pass."""
    reads_out = isinstance(node.op, Integrate) and node.name in graph.outputs
    return reads_out or isinstance(node.op, Population)


def potential(graph: Graph, node: Node, delay: int | None = None) -> Span | None:
    """All that the potential of such a node can be; None: real numbers."""
    span = bounds(graph, delay)[node.name].potential
    return span if span is not None and span.finite and not graph.has_float_weights else None


def _register(graph: Graph, node: Node, delay: int | None) -> Register:
    op = node.op
    assert isinstance(op, Population | Integrate)
    held = potential(graph, node, delay)
    return Register(
        node.name,
        node.source,
        None if held is None else int(held.low),
        None if held is None else int(held.high),
        None if held is None else held.bits,
        None if held is None else _weights(graph, node).bits,
        _bits(op.threshold) if isinstance(op, Population) else None,
        _bits(op.bias),
    )


def _bits(values: Tensor | None) -> int | None:
    return None if values is None or values.is_floating_point() else Span.of(values).bits


def _weights(graph: Graph, node: Node) -> Span:
    """What one spike, or one unit of a current, adds to the values of this node; a spike comes in as 1."""
    return node.op.adds_per_spike(
        [
            Span(1, 1) if isinstance(feeder.op, Population) else _weights(graph, feeder)
            for feeder in graph.fed_by(node)
        ]
    )
