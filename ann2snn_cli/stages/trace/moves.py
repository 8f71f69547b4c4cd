"""Rules of calls that move values and change none."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ann2snn_cli.ir import allowed
from ann2snn_cli.ir.ops import BatchSize, Gather, Integrate, Op, Permute, Reshape
from ann2snn_cli.ir.rules import Call, Rule, Value, leaves, registry
from ann2snn_cli.stages.trace.common import moved, stays


def _reshape(call: Call) -> Op | Value | None:
    if not call.keeps_batch or not call.input.keeps_batch:
        return None
    return call.input if call.shape == call.input.shape else Reshape()


def _permute(call: Call) -> Op | None:
    rank = len(call.input.shape) + 1
    if "dims" in call.arguments:
        order = [axis % rank for axis in call["dims"]]
    else:
        order = list(range(rank))
        first, second = call["dim0"] % rank, call["dim1"] % rank
        order[first], order[second] = order[second], order[first]
    if order[0] != 0 or not call.keeps_batch:
        return None
    return Permute(tuple(axis - 1 for axis in order[1:]))


def _same(call: Call) -> Value:
    return call.input


def _cast(call: Call) -> Value | None:
    """Real numbers stay what they are, in however many bits the network keeps them."""
    given, wanted = call.input.dtype, call.result.dtype
    real = given.is_floating_point and wanted.is_floating_point
    return call.input if real or given == wanted else None


def _dropout(call: Call) -> Value | None:
    return None if call["train"] else call.input


def _move(call: Call) -> Op | Value | None:
    """Run the call on the positions themselves: what comes out says where each value came from."""
    if not call.keeps_batch or not call.input.keeps_batch or not _reads_one_value(call):
        return None
    gather = moved(lambda places: _again(call, places), call.input.shape)
    if gather is None or tuple(gather.index.shape) != call.shape:
        return None
    return call.input if stays(gather, call.input.shape) else gather


def _pad(call: Call) -> Op | Value | None:
    """Padding with another constant than 0: zeros, and the constant as their bias."""
    constant = call.arguments.get("value")
    if constant in (None, 0, 0.0):
        return _move(call)
    if not isinstance(constant, int | float) or not call.keeps_batch or not _reads_one_value(call):
        return None
    gather = moved(lambda places: _again(call, places, value=0.0), call.input.shape)
    if gather is None or tuple(gather.index.shape) != call.shape:
        return None
    return call.add(
        Integrate(constant * (gather.index < 0).to(call.result.dtype)), call.add(gather, call.input)
    )


def _split(call: Call) -> Op | None:
    """One piece of a split or chunk is a slice."""
    shape = call.input.shape
    if call["dim"] == 0 or not call.input.keeps_batch or not _reads_one_value(call) or call.output is None:
        return None
    places = torch.arange(math.prod(shape)).reshape(1, *shape)
    return Gather(_again(call, places)[call.output][0])


def _again(call: Call, places: Tensor, **changes: Any) -> Any:
    """Run the operator of the call on another tensor in place of its input."""
    _, *others = call.arguments.items()
    return allowed.operator(call.target)(places, **{**dict(others), **changes})


def _reads_one_value(call: Call) -> bool:
    """Does it read its first argument alone, and nothing that follows the batch?"""
    first, *others = call.arguments.values()
    return isinstance(first, Value) and not any(
        isinstance(each, Value | BatchSize) for each in leaves(others)
    )


RULES: dict[str, Rule] = registry(
    (_reshape, ["aten.view.default", "aten.reshape.default", "aten._unsafe_view.default"]),
    (_reshape, ["aten.flatten.using_ints", "aten.unflatten.int", "aten.unsqueeze.default"]),
    (_reshape, ["aten.squeeze.dim", "aten.squeeze.dims", "aten.squeeze.default"]),
    (_permute, ["aten.permute.default", "aten.transpose.int"]),
    (_move, ["aten.slice.Tensor", "aten.select.int", "aten.flip.default", "aten.roll.default"]),
    (_move, ["aten.expand.default", "aten.repeat.default", "aten.narrow.int"]),
    (_move, ["aten.pixel_shuffle.default", "aten.pixel_unshuffle.default", "aten.channel_shuffle.default"]),
    (_move, [f"aten.upsample_nearest{n}d.vec" for n in (1, 2, 3)]),
    (_move, [f"aten.{how}_pad{n}d.default" for how in ("reflection", "replication") for n in (1, 2, 3)]),
    (_pad, ["aten.constant_pad_nd.default", "aten.pad.default"]),
    (_same, ["aten.clone.default", "aten.contiguous.default", "aten.alias.default"]),
    (_same, ["aten.lift_fresh_copy.default", "aten.detach.default", "aten.identity.default"]),
    (_cast, ["aten._to_copy.default", "aten.to.dtype", "aten.type_as.default"]),
    (_dropout, ["aten.dropout.default", "aten.feature_dropout.default", "aten.alpha_dropout.default"]),
    (
        _move,
        ["aten.index.Tensor", "aten.index_select.default", "aten.diagonal.default", "aten.rot90.default"],
    ),
    (
        _move,
        ["aten.tile.default", "aten.repeat_interleave.self_int", "aten.tril.default", "aten.triu.default"],
    ),
    (_move, ["aten.im2col.default", "aten.unfold.default", "aten.broadcast_to.default"]),
    (_move, [f"aten._upsample_nearest_exact{n}d.vec" for n in (1, 2, 3)]),
    (_split, ["aten.unbind.int"]),
    (_split, ["aten.split.Tensor", "aten.split_with_sizes.default", "aten.chunk.default"]),
)
