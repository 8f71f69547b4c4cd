"""What NIR, or a flavor of it, cannot say: all of it at once, in the user's own words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ann2snn_cli.errors import Setting, UnsupportedNetwork
from ann2snn_cli.ir.graph import Node
from ann2snn_cli.ir.ops import (
    Add,
    AvgPool,
    Concat,
    Conv,
    Gather,
    Input,
    Integrate,
    IntegrateFire,
    Linear,
    MaxPool,
    Op,
    Opaque,
    Permute,
    Reshape,
    Scale,
)
from ann2snn_cli.stages.export.nir.draft import NirDraft
from ann2snn_cli.stages.export.nir.layers import (
    absorbed,
    by_channel,
    copies,
    flattened,
    keeps_memory_order,
    picks,
)
from ann2snn_cli.stages.export.nir.neurons import remaining


def refuse(draft: NirDraft) -> None:
    """Refuse the network if any of its layers cannot be said."""
    if draft.graph.has_float_weights:
        raise UnsupportedNetwork(
            "its weights are floats, and a NIR file of ours holds integers",
            remedy=f"convert with a {Setting('weight_bitwidth')} of 1 to 8",
        )
    layers: dict[str, list[str]] = {}  # by reason
    for node in draft.graph:
        if reason := _reason(draft, node):
            layers.setdefault(reason, []).append(node.source or node.name)
    if layers:
        words = [f"{reason}: {', '.join(found)}" for reason, found in layers.items()]
        raise UnsupportedNetwork(
            "NIR cannot say all of its layers; " + "; ".join(words),
            where=", ".join(name for found in layers.values() for name in dict.fromkeys(found)),
            remedy="replace these layers, or hand over the .pth or the vectors, which hold every network",
        )


def _reason(draft: NirDraft, node: Node) -> str:
    rule = _RULES.get(type(node.op))
    return rule(draft, node, node.op) if rule is not None else _absent(draft, node, node.op)


def _absent(draft: NirDraft, node: Node, op: Op) -> str:
    return f"there is no {op.kind}"


def _input(draft: NirDraft, node: Node, op: Input) -> str:
    return "" if op.is_constant else f"it is shown as {op.encoding}, and there is one stimulus for all steps"


def _conv(draft: NirDraft, node: Node, op: Conv) -> str:
    if op.transposed:
        return "there is no transposed convolution"
    return _axes(draft, len(op.kernel))


def _axes(draft: NirDraft, axes: int) -> str:
    """Is there a convolution with so many axes? Without axes it is an Affine."""
    if axes == 0 or f"Conv{axes}d" in draft.flavor.nodes:
        return ""
    return f"there is no convolution with {axes} axes" + (" in this flavor" if axes == 1 else "")


def _linear(draft: NirDraft, node: Node, op: Linear) -> str:
    return "" if len(node.shape) == 1 else "a linear layer takes one axis, flatten before it"


def _scale(draft: NirDraft, node: Node, op: Scale) -> str:
    has_bias = absorbed(draft, node).bias is not None
    return _multiplied(draft, node, op.weight) if has_bias or "Scale" not in draft.flavor.nodes else ""


def _multiplied(draft: NirDraft, node: Node, *values: Tensor | None) -> str:
    """May these numbers stand in a convolution of one tap?"""
    if not node.shape:
        return "there is no axis"
    if any(value is not None and by_channel(value, node.shape) is None for value in values):
        return f"numbers that differ within a channel ({Setting('flavor', 'composite')} has them)"
    return _axes(draft, len(node.shape) - 1)


def _add(draft: NirDraft, node: Node, op: Add) -> str:
    return "" if "Scale" in draft.flavor.nodes else _multiplied(draft, node, *op.weights or ())


def _concat(draft: NirDraft, node: Node, op: Concat) -> str:
    return _axes(draft, len(node.shape) - 1)


def _pool(draft: NirDraft, node: Node, op: AvgPool) -> str:
    return _axes(draft, len(op.kernel))


def _reshape(draft: NirDraft, node: Node, op: Reshape | Permute | Gather) -> str:
    (feeder,) = draft.graph.fed_by(node)
    known = feeder.shape == node.shape or flattened(feeder.shape, node.shape)
    return "" if known else f"{feeder.shape} to {node.shape} is no flattening, and NIR has no other reshape"


def _permute(draft: NirDraft, node: Node, op: Permute) -> str:
    (feeder,) = draft.graph.fed_by(node)
    if not keeps_memory_order(op, feeder.shape):
        return "axes in another order"
    return _reshape(draft, node, op)


def _gather(draft: NirDraft, node: Node, op: Gather) -> str:
    (feeder,) = draft.graph.fed_by(node)
    if copies(op, feeder.shape):
        return _reshape(draft, node, op)
    if picks(op, feeder.shape) is None:
        return "a selection that is neither whole channels nor every n-th row"
    return _axes(draft, len(node.shape) - 1)


def _neurons(draft: NirDraft, node: Node, op: IntegrateFire | Integrate) -> str:
    if (
        isinstance(op, IntegrateFire)
        and draft.flavor.uniform
        and bool((op.threshold != op.threshold.flatten()[0]).any())
    ):
        return f"thresholds that differ by channel (convert with {Setting('channel_wise', False)})"
    gain, bias = remaining(draft, node, op)
    is_summed = isinstance(op, Integrate) and "I" not in draft.flavor.nodes
    if draft.flavor.composite or (gain == 1 and bias is None and not is_summed):
        return ""
    return _multiplied(draft, node, bias)


_RULES: dict[type[Op], Callable[[NirDraft, Node, Any], str]] = {
    Conv: _conv,
    Linear: _linear,
    Scale: _scale,
    Add: _add,
    Concat: _concat,
    AvgPool: _pool,
    MaxPool: lambda draft, node, op: "there is no max pooling",
    Reshape: _reshape,
    Permute: _permute,
    Gather: _gather,
    IntegrateFire: _neurons,
    Integrate: _neurons,
    Opaque: _absent,
    Input: _input,
}
