"""D = T: a population in one pass over its sums; over bytes, with its convolution and what is added to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import Add, Conv, IntegrateFire
from ann2snn_cli.stages.simulate import int8
from ann2snn_cli.stages.simulate.onednn import Ending, PackedConv
from ann2snn_cli.stages.simulate.portions import Plan
from ann2snn_cli.types import Shape

EXACT = 2**24  # integers up to this are exact in float32


@dataclass(frozen=True, eq=False)
class Layer:
    """What a population reads, and how its counts come of it."""

    conv: PackedConv | None  # None: it is given the sums
    ending: Ending
    reads: tuple[str, ...]  # what is convolved, and what is added to it
    inner: tuple[str, ...]  # nodes that nobody else reads

    def counts(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Of all samples, in bytes."""
        if self.conv is None:
            return self.ending.counts(x)
        x = x.to(torch.uint8)
        if other is None:
            return self.conv.counts(x, self.ending)
        return self.conv.counts_with(x, other, self.ending)


def layer_of(plan: Plan, fire: Node) -> Layer | None:
    """The layer that ends in this population, where its counts are exact."""
    if not isinstance(fire.op, IntegrateFire) or plan.graph.has_float_weights or fire.name in plan.graph.real:
        return None
    found = (_made(plan, fire, *terms) for terms in _terms(plan.graph, fire))
    return next((layer for layer in found if layer is not None), _of_sums(plan, fire))


def _of_sums(plan: Plan, fire: Node) -> Layer | None:
    (feeder,) = plan.graph.fed_by(fire)
    if feeder.name in plan.graph.real or plan.spans(feeder)[1].reach >= EXACT:
        return None
    ending = _ending(plan, fire, [feeder], [torch.ones(())])
    return None if ending is None else Layer(None, ending, (feeder.name,), ())


def _terms(graph: Graph, fire: Node) -> Iterator[tuple[tuple[str, ...], list[Node], list[Tensor]]]:
    """Names of inner nodes; a convolution, and what is added to it; and what each counts for."""
    (feeder,) = graph.fed_by(fire)
    if isinstance(feeder.op, Conv):
        yield (feeder.name,), [feeder], [torch.ones(())]
    elif isinstance(feeder.op, Add) and len(set(feeder.inputs)) == 2 and _is_inner(graph, feeder):
        assert feeder.op.weights is not None
        nodes, weights = list(graph.fed_by(feeder)), list(feeder.op.weights)
        yield (feeder.name, nodes[0].name), nodes, weights
        yield (feeder.name, nodes[1].name), nodes[::-1], weights[::-1]


def _made(
    plan: Plan, fire: Node, inner: tuple[str, ...], nodes: list[Node], weights: list[Tensor]
) -> Layer | None:
    assert isinstance(fire.op, IntegrateFire)
    conv, *others = nodes
    if not isinstance(conv.op, Conv) or not _is_inner(plan.graph, conv):
        return None
    if any(node.name in plan.graph.real for node in nodes):
        return None
    packed, ending = int8.packed_conv(conv.op, *plan.spans(conv)), _ending(plan, fire, nodes, weights)
    if packed is None or ending is None:
        return None
    return Layer(packed, ending, (*conv.inputs, *(node.name for node in others)), inner)


def _ending(plan: Plan, fire: Node, nodes: list[Node], weights: list[Tensor]) -> Ending | None:
    """What makes counts of the sums of these nodes."""
    assert isinstance(fire.op, IntegrateFire)
    op, steps = fire.op, plan.contract.timesteps
    factors = [weight * 2**op.fraction_bits for weight in weights]
    if nodes[0].name not in plan.summed:  # the same at every step, it is computed once
        factors[0] = factors[0] * steps
    values = [_by_channel(value, fire.shape) for value in (op.threshold, op.bias, op.initial, *factors)]
    known = [value for value in values if value is not None]
    reach = max((plan.bounds[node.name].total.reach for node in nodes[1:]), default=0.0)
    if len(known) < len(values) or reach >= EXACT:
        return None
    threshold, bias, initial, factor, *shares = known
    share = shares[0] if shares else None
    return Ending.of(threshold, initial + steps * bias, factor, share, reach, steps)


def _is_inner(graph: Graph, node: Node) -> bool:
    """Does one node alone read it?"""
    return len(graph.users[node.name]) == 1 and node.name not in graph.outputs


def _by_channel(value: Tensor, shape: Shape) -> Tensor | None:
    """One number for each channel, in float64; None where there are more."""
    whole = value.reshape(*[1] * (len(shape) - value.dim()), *value.shape)
    if prod(whole.shape[1:]) != 1:
        return None
    return whole.flatten().double().expand(shape[0])
