"""Synapses, sums and moves in NIR. Where NIR or a reader has no node for one, it is a convolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

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
    Op,
    Permute,
    Reshape,
    Scale,
)
from ann2snn_cli.stages.export.nir.draft import Geometry, NirDraft, Sources, extent

SAME = "none: the same values"


class Absorbed(NamedTuple):
    """What a synapse takes over from the neurons that alone read it: 2^fraction_bits, and their bias."""

    gain: int
    bias: Tensor | None  # [channels]


def absorbed(draft: NirDraft, node: Node) -> Absorbed:
    """NIR has no fraction bits, and its biases live in the synapses."""
    readers = draft.graph.users[node.name]
    if not isinstance(node.op, Conv | Linear | Scale) or len(readers) != 1:
        return Absorbed(1, None)
    (reader,) = readers
    if not isinstance(reader.op, IntegrateFire | Integrate):
        return Absorbed(1, None)
    gain = 2**reader.op.fraction_bits if isinstance(reader.op, IntegrateFire) else 1
    has_bias = isinstance(node.op, Conv | Linear) or "Scale" not in draft.flavor.nodes
    return Absorbed(gain, by_channel(reader.op.bias, node.shape) if has_bias else None)


def by_channel(values: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    """One number a channel, [channels]; None if they differ within a channel (or there are none)."""
    if values is None or not shape:
        return None
    rows = values.expand(shape).reshape(shape[0], -1)
    return rows[:, 0] if torch.equal(rows, rows[:, :1].expand_as(rows)) else None


def _input(draft: NirDraft, node: Node, op: Input) -> Sources:
    return (draft.put(node, "Input", (), input_type={"input": extent(node.shape)}),)


# Synapses ------------------------------------------------------------------------------------------


def _conv(draft: NirDraft, node: Node, op: Conv) -> Sources:
    (feeder,) = draft.graph.fed_by(node)
    gain, bias = absorbed(draft, node)
    if op.groups > 1:
        draft.lose(
            node, f"{op.groups} groups: nir's own type check refuses them",
            f"{SAME}; written with {op.groups} times the weights, the others 0",
            "leave out zeros when reading",
        )  # fmt: skip
    geometry = Geometry(feeder.shape, op.stride, op.padding, op.dilation)
    return (draft.convolved(node, draft.fed(node), _dense(op) * gain, bias, geometry),)


def _dense(op: Conv) -> Tensor:
    """The weight without groups: zeros where a group does not read."""
    weight = op.weight.to(torch.int64)
    outs, ins = weight.shape[0] // op.groups, weight.shape[1]
    dense = weight.new_zeros(weight.shape[0], op.in_channels, *op.kernel)
    for group in range(op.groups):
        rows = slice(group * outs, (group + 1) * outs)
        dense[rows, group * ins : (group + 1) * ins] = weight[rows]
    return dense


def _linear(draft: NirDraft, node: Node, op: Linear) -> Sources:
    (feeder,) = draft.graph.fed_by(node)
    gain, bias = absorbed(draft, node)
    weight = op.weight.to(torch.int64) * gain
    return (draft.mixed(node, draft.fed(node), weight, bias, before=feeder.shape),)


def _scale(draft: NirDraft, node: Node, op: Scale) -> Sources:
    gain, bias = absorbed(draft, node)
    return (multiplied(draft, node, draft.fed(node), op.weight.to(torch.int64) * gain, bias),)


def multiplied(
    draft: NirDraft, node: Node, sources: Sources, by: Tensor, bias: Tensor | None = None, role: str = ""
) -> str:
    """y = by·x (+ bias), channel by channel: a Scale, else a convolution with a diagonal weight."""
    if "Scale" in draft.flavor.nodes and bias is None:
        return draft.scaled(node, sources, by, role)
    channels = by_channel(by, node.shape)
    assert channels is not None, "refusals.py lets no other pass"
    return draft.mixed(node, sources, torch.diag(channels), bias, role, before=node.shape)


# Sums ----------------------------------------------------------------------------------------------


def _add(draft: NirDraft, node: Node, op: Add) -> Sources:
    """Fan-in sums. NIR allows one edge between two nodes, so a value that is added twice takes a detour."""
    assert op.weights is not None
    _lose_join(draft, node)
    total: Sources = ()
    for name, weight in zip(node.inputs, op.weights, strict=True):
        sources = draft.values[name]
        if not bool((weight == 1).all()) or set(sources) & set(total):
            sources = (multiplied(draft, node, sources, weight, role="branch"),)
        total += sources
    return total


def _lose_join(draft: NirDraft, node: Node) -> None:
    if not draft.flavor.joins and len(node.inputs) > 1:
        draft.lose(
            node, "that all branches come before their sum",
            f"{draft.flavor.reader} may run what follows before a branch: that one is a step late or missing",
            "read the file with nirtorch.nir_to_torch",
        )  # fmt: skip


def _concat(draft: NirDraft, node: Node, op: Concat) -> Sources:
    draft.lose(
        node, "a concatenation", f"{SAME}; written as a sum of convolutions that place channels", "none"
    )
    _lose_join(draft, node)
    total: Sources = ()
    start = 0
    for feeder in draft.graph.fed_by(node):
        channels = feeder.shape[0]
        matrix = torch.zeros(node.shape[0], channels, dtype=torch.int64)
        matrix[start : start + channels] = torch.eye(channels, dtype=torch.int64)
        sources = draft.values[feeder.name]
        total += (draft.mixed(node, sources, matrix, None, "part", before=feeder.shape),)
        start += channels
    return total


def _pool(draft: NirDraft, node: Node, op: AvgPool) -> Sources:
    """The integer sum of each window."""
    (feeder,) = draft.graph.fed_by(node)
    if _has_sum_pool(draft, op):
        shapes = {"kernel_size": op.kernel, "stride": op.stride, "padding": op.padding}
        fields = {key: extent(value) for key, value in shapes.items()}
        return (draft.put(node, "SumPool2d", draft.fed(node), **fields),)
    draft.lose(node, "a sum pooling as such", f"{SAME}; written as a convolution of ones", "none")
    channels = feeder.shape[0]
    ones = torch.eye(channels, dtype=torch.int64).reshape(channels, channels, *[1] * len(op.kernel))
    weight = ones.expand(-1, -1, *op.kernel)
    geometry = Geometry(feeder.shape, op.stride, op.padding, (1,) * len(op.kernel))
    return (draft.convolved(node, draft.fed(node), weight, None, geometry),)


def _has_sum_pool(draft: NirDraft, op: AvgPool) -> bool:
    if "SumPool2d" not in draft.flavor.nodes or len(op.kernel) != 2:
        return False
    # s/n·n is s again in floating point for n = 2^i + 2^j (Kahan), and not for every other n.
    return not draft.flavor.rounds or (not any(op.padding) and op.area.bit_count() <= 2)


# Moves ---------------------------------------------------------------------------------------------


def _reshape(draft: NirDraft, node: Node, op: Reshape | Permute) -> Sources:
    """Nothing, or a Flatten of some axes."""
    (feeder,) = draft.graph.fed_by(node)
    if feeder.shape == node.shape:
        return draft.fed(node)
    axes = flattened(feeder.shape, node.shape)
    assert axes is not None, "refusals.py lets no other pass"
    fields: dict[str, Any] = {
        "input_type": {"input": extent(feeder.shape)},
        "start_dim": axes[0],
        "end_dim": axes[1],
    }
    return (draft.put(node, "Flatten", draft.fed(node), **fields),)


def flattened(before: tuple[int, ...], after: tuple[int, ...]) -> tuple[int, int] | None:
    """The first and the last axis that a Flatten joins, the last one as -1."""
    merged = len(before) - len(after) + 1
    for start in range(len(after)):
        joined = before[start : start + merged]
        size = torch.Size(joined).numel()
        if merged > 1 and (*before[:start], size, *before[start + merged :]) == after:
            return start, -1 if start + merged == len(before) else start + merged - 1
    return None


def keeps_memory_order(op: Permute, shape: tuple[int, ...]) -> bool:
    """Does the permutation move axes of one element only?"""
    moved = [axis for axis in op.order if shape[axis] > 1]
    return moved == sorted(moved)


def _gather(draft: NirDraft, node: Node, op: Gather) -> Sources:
    (feeder,) = draft.graph.fed_by(node)
    if copies(op, feeder.shape):
        return _reshape(draft, node, Reshape())
    picked = picks(op, feeder.shape)
    assert picked is not None, "refusals.py lets no other pass"
    matrix, stride = picked
    draft.lose(node, "a slice or padding as such", f"{SAME}; written as a convolution that picks", "none")
    return (draft.mixed(node, draft.fed(node), matrix, None, before=feeder.shape, stride=stride),)


def copies(op: Gather, before: tuple[int, ...]) -> bool:
    """Is it the same values in the same order?"""
    return torch.equal(op.index.flatten(), torch.arange(torch.Size(before).numel()))


def picks(op: Gather, before: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...]] | None:
    """Channels and every n-th row and column, as (matrix, stride); None where it is something else."""
    after = tuple(op.index.shape)
    if len(after) != len(before):
        return None
    stride = tuple(-(-size // kept) for size, kept in zip(before[1:], after[1:], strict=True))
    grid = torch.arange(torch.Size(before).numel()).reshape(before)
    every_nth = (slice(None), *(slice(None, None, step) for step in stride))
    grid = grid[every_nth]  # [in, ...]
    if grid.shape[1:] != after[1:]:
        return None
    every, wanted = grid.reshape(len(grid), -1), op.index.reshape(after[0], -1)
    matrix = (wanted[:, None, :] == every[None]).all(-1).to(torch.int64)  # [out, in]
    known = matrix.sum(1) == 1
    return (matrix, stride) if bool((known | (wanted == -1).all(1)).all()) else None


LAYERS: dict[type[Op], Callable[[NirDraft, Node, Any], Sources]] = {
    Input: _input,
    Conv: _conv,
    Linear: _linear,
    Scale: _scale,
    Add: _add,
    Concat: _concat,
    AvgPool: _pool,
    Reshape: _reshape,
    Permute: _reshape,
    Gather: _gather,
}
