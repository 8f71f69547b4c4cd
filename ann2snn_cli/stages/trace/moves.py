"""Readers of calls that move values and change none."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.fx import Node as FxNode

from ann2snn_cli.ir.ops import Gather, Opaque, Permute, Reshape
from ann2snn_cli.stages.trace.calls import keeps_batch, operator_of, shape_of, source_of
from ann2snn_cli.stages.trace.common import moved, stays
from ann2snn_cli.stages.trace.draft import Draft, Reading
from ann2snn_cli.stages.trace.opaque import opaque


def _reshape(draft: Draft, call: FxNode) -> Reading:
    source = source_of(call)
    if not keeps_batch(call) or not keeps_batch(source):
        return opaque(draft, call)
    return (None if shape_of(call) == shape_of(source) else Reshape()), (source,)


def _permute(draft: Draft, call: FxNode) -> Reading:
    a = draft.arguments(call)
    rank = call.meta["val"].dim()
    if "dims" in a:
        order = [axis % rank for axis in a["dims"]]
    else:
        order = list(range(rank))
        first, second = a["dim0"] % rank, a["dim1"] % rank
        order[first], order[second] = order[second], order[first]
    if order[0] != 0 or not keeps_batch(call):
        return opaque(draft, call)
    return Permute(tuple(axis - 1 for axis in order[1:])), (a["self"],)


def _same(draft: Draft, call: FxNode) -> Reading:
    return None, (source_of(call),)


def _cast(draft: Draft, call: FxNode) -> Reading:
    kept = call.meta["val"].dtype == source_of(call).meta["val"].dtype
    return _same(draft, call) if kept else opaque(draft, call)


def _dropout(draft: Draft, call: FxNode) -> Reading:
    return opaque(draft, call) if draft.arguments(call)["train"] else _same(draft, call)


def _move(draft: Draft, call: FxNode) -> Reading:
    """Run the call on the positions themselves: what comes out says where each value came from."""
    source = source_of(call)
    if not keeps_batch(call) or not keeps_batch(source) or call.all_input_nodes != [source]:
        return opaque(draft, call)
    target = operator_of(call)
    words = {key: draft.value(value) for key, value in call.kwargs.items()}
    gather = moved(lambda places: target(places, *draft.value(call.args[1:]), **words), shape_of(source))
    if gather is None or tuple(gather.index.shape) != shape_of(call):
        return opaque(draft, call)
    return (None if stays(gather, shape_of(source)) else gather), (source,)


def _pad(draft: Draft, call: FxNode) -> Reading:
    a = draft.arguments(call)
    return _move(draft, call) if a.get("value") in (None, 0, 0.0) else opaque(draft, call)


def _split(draft: Draft, call: FxNode, index: int) -> Reading:
    """One piece of a split or chunk: a slice."""
    source = source_of(call)
    a = draft.arguments(call)
    if a.get("dim", 0) == 0 or not keeps_batch(source):
        op, inputs = opaque(draft, call)
        assert isinstance(op, Opaque)
        return Opaque(op.target, op.args, op.kwargs, index), inputs
    shape = shape_of(source)
    places = torch.arange(math.prod(shape)).reshape(1, *shape)
    target = operator_of(call)
    piece = target(places, *draft.value(call.args[1:]), **call.kwargs)[index]
    return Gather(piece[0]), (source,)


READERS: dict[str, Callable[[Draft, FxNode], Reading]] = {
    **dict.fromkeys(["aten.view.default", "aten.reshape.default", "aten._unsafe_view.default"], _reshape),
    **dict.fromkeys(["aten.flatten.using_ints", "aten.unflatten.int"], _reshape),
    **dict.fromkeys(["aten.squeeze.dim", "aten.squeeze.dims", "aten.squeeze.default"], _reshape),
    "aten.unsqueeze.default": _reshape,
    **dict.fromkeys(["aten.permute.default", "aten.transpose.int"], _permute),
    **dict.fromkeys(
        ["aten.slice.Tensor", "aten.select.int", "aten.flip.default", "aten.roll.default"], _move
    ),
    **dict.fromkeys(["aten.expand.default", "aten.repeat.default", "aten.narrow.int"], _move),
    **dict.fromkeys(["aten.pixel_shuffle.default", "aten.pixel_unshuffle.default"], _move),
    **dict.fromkeys(["aten.channel_shuffle.default", "aten.upsample_nearest2d.vec"], _move),
    **dict.fromkeys(["aten.upsample_nearest1d.vec", "aten.upsample_nearest3d.vec"], _move),
    **dict.fromkeys(
        [f"aten.{kind}_pad{n}d.default" for kind in ("reflection", "replication") for n in (1, 2, 3)], _move
    ),
    **dict.fromkeys(["aten.constant_pad_nd.default", "aten.pad.default"], _pad),
    **dict.fromkeys(["aten.clone.default", "aten.contiguous.default", "aten.alias.default"], _same),
    **dict.fromkeys(["aten.lift_fresh_copy.default", "aten.detach.default", "aten.identity.default"], _same),
    **dict.fromkeys(["aten._to_copy.default", "aten.to.dtype", "aten.type_as.default"], _cast),
    **dict.fromkeys(
        ["aten.dropout.default", "aten.feature_dropout.default", "aten.alpha_dropout.default"], _dropout
    ),
}


ITEM_READERS: dict[str, Callable[[Draft, FxNode, int], Reading]] = {
    **dict.fromkeys(["aten.split.Tensor", "aten.split_with_sizes.default", "aten.chunk.default"], _split),
}
