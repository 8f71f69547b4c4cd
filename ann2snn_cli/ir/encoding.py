"""How a network is shown its samples: a property of its inputs, which every level of a graph carries."""

from __future__ import annotations

from dataclasses import replace
from weakref import WeakKeyDictionary

from ann2snn_cli.errors import Setting, UsageError
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


def reencoded(graph: Graph, encoding: Encoding | None, seed: int | None = None) -> Graph:
    """An SNN that is shown its samples otherwise than it was converted for; its own way where none is asked.

    Frames and images have the same integers. An SNN that was converted for spikes takes nothing else. A seed
    is for spikes by chance alone.
    """
    own = encoding_of(graph)
    encoding = encoding or own
    if seed is not None and encoding is not Encoding.POISSON:
        raise UsageError(
            f"{Setting('seed', seed)} does nothing where nothing is left to chance",
            where=str(Setting("seed", seed)),
            remedy=f"give {Setting('encoding', 'poisson')} too, or leave it out",
        )
    seed = _seed_of(graph) if seed is None else seed
    if encoding is own and seed == _seed_of(graph):
        return graph
    if own is Encoding.POISSON and encoding is not own:
        raise UsageError(
            f"the SNN was converted for poisson: its inputs are spikes, and {encoding} has finer numbers",
            where=str(Setting("encoding", encoding)),
            remedy=f"leave it out, or convert the network with {Setting('encoding', encoding)}",
        )
    return refuse_real_spikes(encoded(graph, encoding, seed))


def refuse_real_spikes(graph: Graph) -> Graph:
    """The graph itself, if no input that is shown as real numbers is to be spikes."""
    for node in graph.inputs:
        if isinstance(node.op, Input) and node.op.is_real and node.op.encoding == Encoding.POISSON:
            raise UsageError(
                "spikes by chance are integers, and operators of real numbers are shown this input as it is",
                where=node.source or node.name,
                remedy=f"leave out {Setting('encoding', 'poisson')}, or {Setting('method', 'td')}",
            )
    return graph


def encoding_notes(graph: Graph) -> tuple[str, ...]:
    """How it is shown its samples, for reports; none where they are the same at every step."""
    notes = {
        Encoding.POISSON: f"each sample is shown as spikes by chance (poisson, seed {_seed_of(graph)})",
        Encoding.FRAMES: "each sample is shown as frames, one for each step; the ANN is shown their mean",
    }
    own = encoding_of(graph)
    return (notes[own],) if own in notes else ()


def _seed_of(graph: Graph) -> int:
    return next((node.op.seed for node in graph.inputs if isinstance(node.op, Input)), 0)
