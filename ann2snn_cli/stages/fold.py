"""Fold: FLOAT -> FOLDED, the same function in a normal form.

1. Batch norm goes into the synapses before it when nothing else reads them, else it becomes a `Scale`.
2. ReLU after max pooling moves before it (max commutes with every monotone function), so pooling sees spikes.
3. Biases leave the synapses and go where charge is integrated: to the population, or an `Integrate` node.
4. Every output is a population, an `Integrate` (the read-out of the last layer), or opaque.
"""

from __future__ import annotations

import operator
from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor

from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import (
    Add,
    AvgPool,
    BatchNorm,
    Conv,
    Integrate,
    Linear,
    Opaque,
    Relu,
    Scale,
    Synapse,
    per_channel,
)
from ann2snn_cli.ir.validate import stage


@stage(Level.FLOAT, Level.FOLDED)
def fold(graph: Graph, *, batch_norm: bool = True) -> Graph:
    """Needs FLOAT; gives FOLDED: no batch norm, no bias outside the neurons, the same function.

    With `batch_norm` False no batch norm is merged into the weights before it; all become affine nodes.
    """
    graph = _fold_batch_norms(graph, merge=batch_norm)
    graph = _drop_repeated_relus(graph)
    graph = _rectify_before_pooling(graph)
    graph = _detach_biases(graph)
    graph = _read_out(graph)
    graph = _sink_biases(graph)
    return graph.with_nodes(graph.nodes, level=Level.FOLDED)


@stage(Level.FOLDED, Level.FOLDED)
def spiking_pools(graph: Graph) -> Graph:
    """Give every average pooling of spikes neurons of its own, for cores that carry only spikes (SPEC 6)."""
    nodes: list[Node] = []
    renamed: dict[str, str] = {}
    spikes: set[str] = set()
    for node in graph.nodes:
        node = _reading(node, renamed)
        nodes.append(node)
        passes = node.op.keeps_spikes and all(name in spikes for name in node.inputs)
        if passes or node.op.fires:
            spikes.add(node.name)
        readers = graph.users[node.name]
        has_neurons = len(readers) == 1 and isinstance(readers[0].op, Relu)
        if isinstance(node.op, AvgPool) and node.inputs[0] in spikes and not has_neurons:
            name = f"{node.name}.neurons"
            nodes.append(Node(name, Relu(inherits_clip=True), (node.name,), node.shape, node.source))
            renamed[node.name] = name
            spikes.add(name)
    return graph.with_nodes(nodes, outputs=tuple(renamed.get(name, name) for name in graph.outputs))


# 1. Batch norm -------------------------------------------------------------------------------------


def _fold_batch_norms(graph: Graph, *, merge: bool) -> Graph:
    nodes: dict[str, Node] = {}
    taken_over: dict[str, str] = {}  # a batch norm that is gone -> the synapse that holds it now
    last: dict[str, str] = {}  # of such a synapse the last of them: its readers are the synapse's now
    for node in graph.nodes:
        node = _reading(node, taken_over)
        if isinstance(node.op, BatchNorm):
            (before,) = node.inputs
            owner = nodes[before]
            alone = len(graph.users[last.get(before, before)]) == 1 and before not in graph.outputs
            if merge and alone and isinstance(owner.op, Conv | Linear) and _channels_agree(owner):
                nodes[before] = replace(owner, op=_merge(owner.op, node.op))
                taken_over[node.name], last[before] = before, node.name
                continue
            node = replace(node, op=_affine(node.op, len(node.shape)))
        nodes[node.name] = node
    outputs = tuple(taken_over.get(name, name) for name in graph.outputs)
    return graph.with_nodes(nodes.values(), outputs=outputs)


def _channels_agree(owner: Node) -> bool:
    """A linear layer's channels are its last axis, a batch norm's the first: they agree on flat features."""
    return not isinstance(owner.op, Linear) or len(owner.shape) == 1


def _gain_and_shift(norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """BN(x) = gain·x + shift, in float64: gain = weight/√(var + eps), shift = bias − mean·gain."""
    gain = norm.weight.double() / torch.sqrt(norm.var.double() + norm.eps)
    return gain, norm.bias.double() - norm.mean.double() * gain


def _merge(op: Conv | Linear, norm: BatchNorm) -> Conv | Linear:
    gain, shift = _gain_and_shift(norm)
    dtype = op.weight.dtype
    weight = (op.weight.double() * _by_output(op, gain)).to(dtype)
    bias = shift if op.bias is None else op.bias.double() * gain + shift
    return replace(op, weight=weight, bias=bias.to(dtype))


def _by_output(op: Conv | Linear, gain: Tensor) -> Tensor:
    """Gains by output channel, laid so that they broadcast to the weight."""
    trailing = [1] * (op.weight.dim() - 1)
    if not (isinstance(op, Conv) and op.transposed):
        return gain.reshape(-1, *trailing)
    grouped = gain.reshape(op.groups, 1, -1, *trailing[1:])  # [groups, in/groups, out/groups, k...]
    grouped = grouped.expand(-1, op.in_channels // op.groups, *[-1] * len(trailing))
    return grouped.reshape(op.in_channels, -1, *trailing[1:])


def _affine(norm: BatchNorm, rank: int) -> Scale:
    dtype = norm.weight.dtype
    shape = [-1, *[1] * (rank - 1)]
    gain, shift = _gain_and_shift(norm)
    return Scale(gain.to(dtype).reshape(shape), shift.to(dtype).reshape(shape))


# 2. ReLU and max pooling ---------------------------------------------------------------------------


def _drop_repeated_relus(graph: Graph) -> Graph:
    """relu(relu(x)) is one population, unless the second one clips lower."""

    def repeats(node: Node, before: Node) -> bool:
        if not (isinstance(node.op, Relu) and isinstance(before.op, Relu)):
            return False
        return node.op.limit is None or (before.op.limit is not None and before.op.limit <= node.op.limit)

    gone: dict[str, str] = {}
    nodes: dict[str, Node] = {}
    for node in graph.nodes:
        node = _reading(node, gone)
        if len(node.inputs) == 1 and repeats(node, nodes[node.inputs[0]]):
            gone[node.name] = node.inputs[0]
        else:
            nodes[node.name] = node
    return graph.with_nodes(nodes.values(), outputs=tuple(gone.get(name, name) for name in graph.outputs))


def _rectify_before_pooling(graph: Graph) -> Graph:
    """max pooling -> ReLU becomes ReLU -> max pooling where nothing else reads the pooled values."""
    nodes = {node.name: node for node in graph.nodes}  # by the name of the node whose place it has
    readers = {name: [user.name for user in users] for name, users in graph.users.items()}
    places = {name: name for name in nodes}
    outputs = list(graph.outputs)
    pools = [node.name for node in graph.nodes if node.op.monotone]
    for pool in reversed(pools):  # from the last on, so that a ReLU passes them all
        relu = readers[pool][0] if len(readers[pool]) == 1 else ""
        if not relu or pool in outputs or not isinstance(nodes[places[relu]].op, Relu):
            continue
        (before,) = nodes[places[pool]].inputs
        for reader in readers[relu]:
            nodes[places[reader]] = _reading(nodes[places[reader]], {relu: pool})
        outputs = [pool if name == relu else name for name in outputs]
        readers[before] = [relu if name == pool else name for name in readers[before]]
        readers[pool], readers[relu] = readers[relu], [pool]
        first, second = places[pool], places[relu]
        moved, pooled = nodes[second], nodes[first]
        nodes[first] = replace(moved, inputs=(before,), shape=nodes[places[before]].shape)
        nodes[second] = replace(pooled, inputs=(relu,))
        places[pool], places[relu] = second, first
    return graph.with_nodes(nodes.values(), outputs=tuple(outputs))


# 3. Biases -----------------------------------------------------------------------------------------


def _detach_biases(graph: Graph) -> Graph:
    """Every biased synapse becomes the synapse and an `Integrate` node after it, which others now read."""
    nodes: list[Node] = []
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        node = _reading(node, renamed)
        if not isinstance(node.op, Synapse) or node.op.bias is None:
            nodes.append(node)
            continue
        bias = node.op.bias
        if isinstance(node.op, Conv):
            bias = per_channel(bias, node.op, len(node.shape))
        name = f"{node.name}.bias"
        nodes.append(replace(node, op=replace(node.op, bias=None)))
        nodes.append(Node(name, Integrate(bias), (node.name,), node.shape, node.source))
        renamed[node.name] = name
    return graph.with_nodes(nodes, outputs=tuple(renamed.get(name, name) for name in graph.outputs))


def _read_out(graph: Graph) -> Graph:
    """Every output ends in neurons (or is opaque): the last layer's potential is what is read."""
    nodes, renamed = list(graph.nodes), {}
    for name in dict.fromkeys(graph.outputs):
        node = graph[name]
        if not isinstance(node.op, Relu | Integrate | Opaque):
            renamed[name] = f"{name}.readout"
            nodes.append(Node(renamed[name], Integrate(), (name,), node.shape, node.source))
    return graph.with_nodes(nodes, outputs=tuple(renamed.get(name, name) for name in graph.outputs))


def _sink_biases(graph: Graph) -> Graph:
    """Move each `Integrate` down: through an addition, into the next `Integrate`, into the population.

    (a + b) + c = (a + c) + b: it moves behind the addition and keeps its name.
    """
    nodes = dict(graph.by_name)  # as they are now, until they are passed
    behind: dict[str, list[Node]] = {}  # what moves behind an addition
    passed: list[Node] = []
    renamed: dict[str, str] = {}  # an addition -> the `Integrate` that stays behind it, which others read

    def sinks(node: Node, known_as: str) -> bool:
        """Put it into its reader, or behind it; false if it has to stay."""
        (before,), readers = node.inputs, graph.users[known_as]
        reader = nodes[readers[0].name] if len(readers) == 1 else node
        if known_as in graph.outputs or not isinstance(reader.op, Relu | Integrate | Add) or reader is node:
            return False
        inputs = tuple(before if name == known_as else name for name in reader.inputs)
        nodes[reader.name] = replace(reader, inputs=inputs)
        if isinstance(reader.op, Add):
            behind.setdefault(reader.name, []).append(node)
        else:
            nodes[reader.name] = _with_bias_of(node, nodes[reader.name])
        return True

    for name in graph.by_name:
        node = _reading(nodes[name], renamed)
        if isinstance(node.op, Integrate) and sinks(node, name):
            continue
        passed.append(node)
        if name in behind:
            last, *others = (
                replace(each, inputs=(name,), shape=node.shape) for each in reversed(behind[name])
            )
            moved = reduce(_with_bias_of, others, last)
            if not sinks(moved, name):
                passed.append(moved)
                renamed[name] = moved.name
    return graph.with_nodes(passed, outputs=tuple(renamed.get(name, name) for name in graph.outputs))


def _with_bias_of(node: Node, reader: Node) -> Node:
    """The neurons that read an `Integrate`, with its bias added to theirs."""
    assert isinstance(reader.op, Relu | Integrate)
    assert isinstance(node.op, Integrate)
    biases = [bias for bias in (node.op.bias, reader.op.bias) if bias is not None]
    return replace(reader, op=replace(reader.op, bias=reduce(operator.add, biases) if biases else None))


# Rewriting -----------------------------------------------------------------------------------------


def _reading(node: Node, renamed: dict[str, str]) -> Node:
    return replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
