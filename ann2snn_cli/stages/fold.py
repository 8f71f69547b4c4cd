"""Fold: FLOAT -> FOLDED, the same function in a normal form.

1. Batch norm goes into the synapses before it when nothing else reads them, else it becomes a `Scale`.
2. ReLU after max pooling moves before it (max commutes with every monotone function), so pooling sees spikes.
3. Biases leave the synapses and go where charge is integrated: to the population, or an `Integrate` node.
4. Every output is a population, an `Integrate` (the read-out of the last layer), or opaque.
"""

from __future__ import annotations

from dataclasses import replace

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
    last: dict[str, str] = {}  # a synapse -> the last batch norm that it holds, whose readers count
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
    pools = [node for node in graph.nodes if node.op.monotone]
    for pool in reversed(pools):  # from the last on, so that a ReLU passes them all
        readers = graph.users[pool.name]
        if len(readers) == 1 and isinstance(readers[0].op, Relu) and pool.name not in graph.outputs:
            (relu,) = readers
            (before,) = graph.fed_by(graph[pool.name])
            first = replace(relu, inputs=(before.name,), shape=before.shape)
            changes: dict[str, tuple[Node, ...]] = {
                relu.name: (replace(graph[pool.name], inputs=(relu.name,)),),
                pool.name: (first,),
            }
            graph = _replace_nodes(graph, changes, {relu.name: pool.name})
    return graph


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
    """Move each `Integrate` down: through additions, into the next `Integrate`, into the population."""
    nodes: list[Node] = []
    falling: dict[str, Node] = {}  # by the name that its reader knows: an `Integrate` on its way down
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        arrived = [falling[name] for name in node.inputs if name in falling]
        past = {name: falling[name].inputs[0] for name in node.inputs if name in falling}
        known_as, node = node.name, _reading(node, renamed | past)
        if arrived and isinstance(node.op, Add):  # (a + b) + c = (a + c) + b: it keeps its name behind
            nodes.append(node)
            node = _together(arrived[1:], replace(arrived[0], inputs=(node.name,), shape=node.shape))
        else:
            node = _together(arrived, node)
        if isinstance(node.op, Integrate) and _can_fall(graph, known_as):
            falling[known_as] = node
            continue
        nodes.append(node)
        if node.name != known_as:
            renamed[known_as] = node.name
    return graph.with_nodes(nodes, outputs=tuple(renamed.get(name, name) for name in graph.outputs))


def _can_fall(graph: Graph, name: str) -> bool:
    readers = graph.users[name]
    takes_it = len(readers) == 1 and isinstance(readers[0].op, Relu | Integrate | Add)
    return takes_it and name not in graph.outputs


def _together(arrived: list[Node], node: Node) -> Node:
    """The node with the biases of those that arrived added to its own."""
    for each in arrived:
        assert isinstance(each.op, Integrate)
        assert isinstance(node.op, Relu | Integrate)
        biases = [bias for bias in (each.op.bias, node.op.bias) if bias is not None]
        node = replace(node, op=replace(node.op, bias=sum(biases[1:], biases[0]) if biases else None))
    return node


# Rewriting -----------------------------------------------------------------------------------------


def _reading(node: Node, renamed: dict[str, str]) -> Node:
    return replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))


def _replace_nodes(graph: Graph, changes: dict[str, tuple[Node, ...]], renamed: dict[str, str]) -> Graph:
    """Put other nodes in the place of some; the readers of a renamed node follow it."""
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes.extend(changes[node.name] if node.name in changes else (_reading(node, renamed),))
    return graph.with_nodes(nodes, outputs=tuple(renamed.get(name, name) for name in graph.outputs))
