"""Pairs: currents that pass through many linear layers are handed on by neurons, relu(x − m) − relu(m − x).

Integers grow with every layer that no ReLU follows; beyond 2^53 float64 holds no more of them. A pair of
populations in between is the same function in real numbers, T levels to either side of 0 in spikes, and
consists of ops that every engine, twin and export has.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor

from ann2snn_cli import trees
from ann2snn_cli.ir.bounds import bounds
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.integers import integers
from ann2snn_cli.ir.ops import Add, Integrate, Op, Population, Relu, Scale, Synapse
from ann2snn_cli.ir.precision import EXACT_FLOAT64
from ann2snn_cli.ir.run import run
from ann2snn_cli.ir.validate import require, spilling, validate
from ann2snn_cli.types import Inputs

ROOM = 4  # a neuron holds somewhat more than what it is sent: its initial charge, and fraction bits


def too_long(quantized: Graph, folded: Graph) -> tuple[str, ...]:
    """The nodes of FOLDED that a pair must follow, judged by its graph at QUANTIZED; none if all fits."""
    require(quantized, Level.QUANTIZED, "too_long")
    if quantized.has_float_weights:
        return ()
    with torch.no_grad():
        spiking = integers(quantized)
    large = spilling(spiking)
    first = [name for name in large if not any(feeder in large for feeder in spiking[name].inputs)]
    if not first:
        return ()
    found = (_original(spiking, each, folded) for each in _places(spiking, first))
    return tuple(dict.fromkeys(each for each in found if each is not None))


def _places(graph: Graph, ends: Collection[str]) -> list[str]:
    """Where to break the chains that end here: before the last synapse whose own currents leave room."""
    currents, known = _behind_synapses(graph), bounds(graph, 0)
    found, seen = list[str](), set[str]()
    todo = [edge for name in reversed(list(ends)) for edge in _edges_into(graph, name)]
    while todo:
        reader, name = todo.pop()
        breaks = isinstance(graph[reader].op, Synapse) and name in currents
        if breaks and known[name].largest * ROOM < EXACT_FLOAT64:
            found.append(name)
        elif name not in seen:
            seen.add(name)
            todo += _edges_into(graph, name)
    return found


def _edges_into(graph: Graph, name: str) -> list[tuple[str, str]]:
    """The node with each current that it reads, from the last on."""
    currents = (
        feeder.name
        for feeder in graph.fed_by(graph[name])
        if feeder.inputs and not isinstance(feeder.op, Population)
    )
    return [(name, each) for each in reversed(list(currents))]


def _behind_synapses(graph: Graph) -> set[str]:
    """The nodes whose currents have been through a layer since the last neurons."""
    found: set[str] = set()
    for node in graph.nodes:
        passes = not isinstance(node.op, Population) and not found.isdisjoint(node.inputs)
        if passes or isinstance(node.op, Synapse):
            found.add(node.name)
    return found


def _original(graph: Graph, name: str, folded: Graph) -> str | None:
    """The node of FOLDED behind one that quantizing may have added."""
    while name not in folded.by_name:
        (name,) = graph[name].inputs
    return None if _is_paired(folded, name) else name


def _is_paired(folded: Graph, name: str) -> bool:
    return f"{name}.pair" in folded.by_name or name.endswith(".pair")


def with_pairs(graph: Graph, names: Collection[str], x: Inputs) -> Graph:
    """Needs FOLDED; gives FOLDED, the same function: a pair of populations follows each of these nodes.

    What it fires is the distance to a constant, the mean over the samples `x` by channel, so that its levels
    are spent on what varies. Neurons that read such a node, and the network's outputs, keep its currents.
    """
    means = _means(graph, names, x)
    nodes: list[Node] = []
    for node in graph.nodes:
        if not isinstance(node.op, Relu):
            node = replace(
                node, inputs=tuple(f"{name}.pair" if name in names else name for name in node.inputs)
            )
        nodes.append(node)
        if node.name in names:
            nodes += _pair(node, means[node.name])
    return validate(require(graph, Level.FOLDED, "with_pairs").with_nodes(nodes))


def _means(graph: Graph, names: Collection[str], x: Inputs) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}

    def watch(node: Node, values: Tensor) -> None:
        if node.name in names:
            mean = values.transpose(0, 1).flatten(1).mean(1) if node.shape else values.mean()
            found[node.name] = mean.reshape(-1, *[1] * (len(node.shape) - 1)) if node.shape else mean

    with torch.no_grad():
        run(graph, trees.map_leaves(Tensor.double, x), watch)
    return found


def _pair(node: Node, mean: Tensor) -> list[Node]:
    """relu(x − m) − relu(m − x) + m = x."""

    def named(word: str, op: Op, *inputs: str) -> Node:
        return Node(f"{node.name}.{word}", op, inputs, node.shape, node.source)

    turn = Scale(torch.full([1] * len(node.shape), -1.0, dtype=mean.dtype))
    return [
        named("positive", Relu(bias=-mean), node.name),
        named("turned", turn, node.name),
        named("negative", Relu(bias=mean), f"{node.name}.turned"),
        named("back", turn, f"{node.name}.negative"),
        named("sum", Add(), f"{node.name}.positive", f"{node.name}.back"),
        named("pair", Integrate(mean), f"{node.name}.sum"),
    ]
