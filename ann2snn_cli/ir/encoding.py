"""How a network is shown its samples: a property of its inputs, which every level of a graph carries."""

from __future__ import annotations

from dataclasses import replace
from weakref import WeakKeyDictionary

from ann2snn_cli.ir.contract import Encoding
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.ir.ops import Input


def encoding_of(graph: Graph) -> Encoding:
    """The encoding of its samples; of all inputs it is the same."""
    ops = [node.op for node in graph.inputs if isinstance(node.op, Input)]
    return Encoding(ops[0].encoding) if ops else Encoding.DIRECT


def encoded(graph: Graph, encoding: Encoding, seed: int = 0) -> Graph:
    """The same graph, shown its samples so: the same value each time, with all that was proved of it."""
    known = _ENCODED.setdefault(graph, {})
    if (encoding, seed) not in known:
        known[encoding, seed] = _encoded(graph, encoding, seed)
    return known[encoding, seed] or graph


_ENCODED: WeakKeyDictionary[Graph, dict[tuple[Encoding, int], Graph | None]] = WeakKeyDictionary()


def _encoded(graph: Graph, encoding: Encoding, seed: int) -> Graph | None:
    """None: it is shown them so already."""
    ops = {node.name: node.op for node in graph.inputs if isinstance(node.op, Input)}
    if all((op.encoding, op.seed) == (encoding.value, seed) for op in ops.values()):
        return None
    return graph.with_ops({name: replace(op, encoding=encoding.value, seed=seed) for name, op in ops.items()})


def step_by_step(graph: Graph) -> Graph:
    """The graph that is shown one step at a time: its frames one by one, as images."""
    return encoded(graph, Encoding.DIRECT) if encoding_of(graph) is Encoding.FRAMES else graph
