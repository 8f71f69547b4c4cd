"""Readers of nodes that move values and change none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from onnx import NodeProto, TensorProto
from torch import Tensor

from ann2snn_cli.ir.ops import Gather, Integrate, Permute, Reshape
from ann2snn_cli.stages.trace.common import moved, stays, type_of
from ann2snn_cli.stages.trace.onnx.as_torch import as_torch
from ann2snn_cli.stages.trace.onnx.constants import ANY_BATCH, evaluate, grows_with_batch
from ann2snn_cli.stages.trace.onnx.draft import Call, OnnxDraft, PieceReader, Reader, Reading, Refused
from ann2snn_cli.types import Shape

_REAL = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}


def _same(draft: OnnxDraft, call: Call) -> Reading:
    return Reading(None, (draft.value(call),))


def _cast(draft: OnnxDraft, call: Call) -> Reading:
    if call.attributes["to"] not in _REAL:
        raise Refused("it rounds values to integers")
    value = draft.number(call)
    if type_of(value) is None:
        return _same(draft, call)
    return as_torch(draft, call, "aten._to_copy.default", self=value, dtype=torch.float32)


def _dropout(draft: OnnxDraft, call: Call) -> Reading:
    training = draft.optional(call, 2)
    if training is not None and training.any():
        raise Refused("it is in training mode: export with network.eval()")
    return _same(draft, call)


# Shapes: with the batch in front, as the file counts them ------------------------------------------


def _shaped(draft: OnnxDraft, call: Call, whole: Sequence[int]) -> Reading:
    """The value in another shape, given with its batch axis; that axis must stay the first and whole."""
    before, after = draft.shape_of(call), tuple(int(n) for n in whole[1:])
    if not whole or whole[0] != draft.batch or math.prod(after) != math.prod(before):
        raise Refused("it moves values between samples: the first axis must stay the batch")
    return Reading(None if after == before else Reshape(), (draft.value(call),), after)


def _whole_shape(draft: OnnxDraft, call: Call) -> Shape:
    return (draft.batch, *draft.shape_of(call))


def _reshape(draft: OnnxDraft, call: Call) -> Reading:
    whole = _whole_shape(draft, call)
    wanted = [int(n) for n in draft.constant(call, 1)]
    if not call.attributes.get("allowzero", 0):
        wanted = [whole[axis] if n == 0 else n for axis, n in enumerate(wanted)]
    if -1 in wanted:
        rest = math.prod(n for n in wanted if n != -1)
        wanted[wanted.index(-1)] = math.prod(whole) // rest if rest else 0
    return _shaped(draft, call, wanted)


def _flatten(draft: OnnxDraft, call: Call) -> Reading:
    whole = _whole_shape(draft, call)
    axis = int(call.attributes.get("axis", 1))
    axis += len(whole) if axis < 0 else 0  # the axis may be the rank itself
    return _shaped(draft, call, (math.prod(whole[:axis]), math.prod(whole[axis:])))


def _squeeze(draft: OnnxDraft, call: Call) -> Reading:
    whole = _whole_shape(draft, call)
    axes = draft.axes(call, len(whole))
    if axes is None:
        axes = tuple(axis for axis, n in enumerate(whole) if n == 1)
    if 0 in axes:
        raise Refused("it drops the batch axis: export with a batch of its own, or name the axes to squeeze")
    return _shaped(draft, call, [n for axis, n in enumerate(whole) if axis not in axes])


def _unsqueeze(draft: OnnxDraft, call: Call) -> Reading:
    whole = list(_whole_shape(draft, call))
    count = np.size(draft.setting(call, "axes", 1))
    axes = draft.axes(call, len(whole) + count) or ()
    if 0 in axes:
        raise Refused("it puts an axis before the batch")
    for axis in axes:
        whole.insert(axis, 1)
    return _shaped(draft, call, whole)


def _transpose(draft: OnnxDraft, call: Call) -> Reading:
    rank = len(draft.shape_of(call)) + 1
    order = call.ints("perm", tuple(reversed(range(rank))))
    if order[0] != 0:
        raise Refused("it moves the batch axis, which must stay the first")
    if order == tuple(range(rank)):
        return _same(draft, call)
    return Reading(Permute(tuple(axis - 1 for axis in order[1:])), (draft.value(call),))


# The rest: what they do to the positions is what they do ---------------------------------------------


def _piece(draft: OnnxDraft, call: Call, index: int) -> Reading:
    """One of the results of a node, by evaluating the node on the positions."""
    samples = 2 if draft.batch == ANY_BATCH else draft.batch
    numbers = [number for number in range(1, len(call.proto.input)) if draft.given(call, number)]
    known = {call.proto.input[number]: draft.constant(call, number) for number in numbers}
    if any(grows_with_batch(array) for array in known.values()):
        raise Refused("its sizes grow with the batch")
    known = {
        name: np.where(array == ANY_BATCH, samples, array).astype(array.dtype)
        for name, array in known.items()
    }
    source = call.proto.input[0]

    def move(places: Tensor) -> Tensor:
        results = evaluate(call.proto, {source: places.numpy(), **known}, draft.opset)
        return torch.from_numpy(results[index].astype(np.float64))

    gather = moved(move, draft.shape_of(call), samples)
    if gather is None:
        raise Refused("it moves values between samples")
    return Reading(None if stays(gather, draft.shape_of(call)) else gather, (draft.value(call),))


def move(draft: OnnxDraft, call: Call) -> Reading:
    """The first result of a node that moves values."""
    return _piece(draft, call, 0)


def _pad(draft: OnnxDraft, call: Call) -> Reading:
    """Padding with another constant than 0: zeros, and the constant as their bias."""
    value = draft.setting(call, "value", 2)
    constant = 0.0 if value is None else float(np.ravel(value)[0])
    if call.attributes.get("mode", "constant") != "constant" or constant == 0:
        return move(draft, call)
    zeros = NodeProto()
    zeros.CopyFrom(call.proto)
    if "value" in call.attributes:
        next(each for each in zeros.attribute if each.name == "value").f = 0.0
    else:
        del zeros.input[2:3]
        zeros.input.insert(2, "")
    moved_only = move(draft, replace(call, proto=zeros))
    if not isinstance(moved_only.op, Gather):
        return moved_only
    padded = draft.before(call, "pad", moved_only.op, moved_only.inputs[0], tuple(moved_only.op.index.shape))
    return Reading(Integrate(constant * (moved_only.op.index < 0).float()), (padded,))


def _gather(draft: OnnxDraft, call: Call) -> Reading:
    """One index drops its axis, several are a choice of channels, rows or columns."""
    if int(call.attributes.get("axis", 0)) % (len(draft.shape_of(call)) + 1) == 0:
        raise Refused("it chooses among the samples of a batch")
    return move(draft, call)


READERS: dict[str, Reader] = {
    "Identity": _same,
    "Cast": _cast,
    "Dropout": _dropout,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Slice": move,
    "Gather": _gather,
    "Pad": _pad,
    "Tile": move,
    "DepthToSpace": move,
    "SpaceToDepth": move,
}

PIECE_READERS: dict[str, PieceReader] = {"Split": _piece}
