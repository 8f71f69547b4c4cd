"""Split: a FLOAT graph in three, before, within and after a part that layers name.

before: what the part does not reach; it gives what the other two read.
part:   the named layers, and bare functions between them; what it reads are its inputs.
after:  what the part reaches; its outputs are those of the whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from ann2snn_cli.errors import UnsupportedNetwork, UsageError
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import Add, Input, Relu, Synapse
from ann2snn_cli.lookup import unknown


@dataclass(frozen=True, eq=False)
class Split:
    """A graph in three. Values go by the names of the nodes that gave them in the whole."""

    before: Graph
    part: Graph
    after: Graph

    @property
    def is_whole(self) -> bool:
        """Is the part the whole network?"""
        return set(self.part.outputs) == set(self.after.outputs) and not _computes(self.before)


def split(graph: Graph, layers: Sequence[str]) -> Split:
    """The graph around the part that these layers are: names of submodules, or globs of them."""
    chosen = _closed(graph, _named(graph, layers), layers)
    if not any(isinstance(graph[name].op, Relu | Synapse) for name in chosen):
        raise UsageError(
            f"the layers {', '.join(layers)} have neither weights nor activations that could spike",
            remedy="name a convolution, a linear layer or an activation too",
        )
    reached = _reach(graph, chosen, forwards=True)
    names = {
        "before": [n.name for n in graph if n.name not in chosen and n.name not in reached],
        "part": [n.name for n in graph if n.name in chosen],
        "after": [n.name for n in graph if n.name in reached and n.name not in chosen],
    }
    return Split(
        _piece(graph, names["before"], [*names["part"], *names["after"]]),
        _piece(graph, names["part"], names["after"]),
        _piece(graph, names["after"], []),
    )


def _piece(graph: Graph, names: Sequence[str], readers: Sequence[str]) -> Graph:
    """These nodes as a graph: what they read from elsewhere are inputs, what `readers` read are outputs."""
    own = set(names)
    read = {name for reader in readers for name in graph[reader].inputs}
    wanted = [node.name for node in graph if node.name in own and node.name in {*read, *graph.outputs}]
    outer = {name for each in names for name in graph[each].inputs} - own
    if set(wanted) == set(graph.outputs):
        wanted = list(graph.outputs)
    if not readers:  # the last piece gives all outputs of the whole, in their order
        outer |= {name for name in graph.outputs if name not in own}
        wanted = list(graph.outputs)
    inputs = [replace(graph[name], op=Input(), inputs=()) for name in graph.by_name if name in outer]
    return Graph((*inputs, *(graph[name] for name in names)), tuple(wanted))


def _computes(graph: Graph) -> bool:
    return any(not isinstance(node.op, Input) for node in graph)


# Which nodes ---------------------------------------------------------------------------------------


def _named(graph: Graph, layers: Sequence[str]) -> set[str]:
    """The nodes inside these layers; refused if one of the names matches none."""
    if isinstance(layers, str) or not layers:
        what = "no layer is named" if not layers else f"the layers are one text, {layers!r}"
        raise UsageError(what, remedy="give a list of names, as in ['backbone.*', 'neck.conv1']")
    names = {node.name: _prefixes(node) for node in graph if not isinstance(node.op, Input)}
    known = dict.fromkeys(prefix for prefixes in names.values() for prefix in prefixes)
    found: set[str] = set()
    for pattern in layers:
        matched = {name for name, own in names.items() if any(fnmatchcase(each, pattern) for each in own)}
        if not matched:
            raise unknown("layer", str(pattern), known)
        found |= matched
    return found


def _prefixes(node: Node) -> list[str]:
    """`layer1.0.conv`: itself and the modules around it; of a second call, `conv:2`, both names."""
    plain = re.sub(r":\d+$", "", node.name)
    parts = plain.split(".")
    return [*(".".join(parts[: end + 1]) for end in range(len(parts))), node.name]


def _closed(graph: Graph, chosen: set[str], layers: Sequence[str]) -> set[str]:
    """With the bare functions between them; refused where a layer lies between them that is not named."""
    between = _reach(graph, chosen, forwards=True) & _reach(graph, chosen, forwards=False)
    missing = [graph[name] for name in graph.by_name if name in between - chosen]
    left_out = dict.fromkeys(node.source for node in missing if not _is_function(node))
    if not left_out:
        return chosen | between
    sums = [n for n in graph if n.name in chosen | between and isinstance(n.op, Add)]
    halves = [n for n in sums if {name in chosen for name in n.inputs} == {True, False}]
    if halves:
        reason = f"cut a residual in half, whose branches are added in {halves[0].source or halves[0].name}"
    else:
        again = next(n for n in graph if n.name in chosen and set(n.inputs) & (between - chosen))
        reason = f"are not one piece: {again.source or again.name} reads what left them"
    raise UnsupportedNetwork(
        f"the layers {reason}",
        where=", ".join(left_out),
        remedy=f"name what lies between them too: {', '.join([*layers, *left_out])}",
    )


def _is_function(node: Node) -> bool:
    """Is it a bare call in a forward(), which no module names?"""
    return not node.source or "(" in node.source


def _reach(graph: Graph, chosen: Iterable[str], *, forwards: bool) -> set[str]:
    """The nodes that some of these reach, themselves left out unless another one reaches them."""
    start, found = set(chosen), set[str]()
    for node in graph.nodes if forwards else reversed(graph.nodes):
        near = node.inputs if forwards else [each.name for each in graph.users[node.name]]
        if any(name in start or name in found for name in near):
            found.add(node.name)
    return found
