"""Readers of element-wise functions, and of softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from ann2snn_cli.ir.ops import Opaque, Ref, Relu, Scale
from ann2snn_cli.stages.trace.onnx.as_torch import as_torch
from ann2snn_cli.stages.trace.onnx.draft import Call, OnnxDraft, Reader, Reading, Refused, tensor
from ann2snn_cli.stages.trace.onnx.file import Array


def _relu(draft: OnnxDraft, call: Call) -> Reading:
    return Reading(Relu(), (draft.value(call),))


def _clip(draft: OnnxDraft, call: Call) -> Reading:
    low = _bound(draft.setting(call, "min", 1), -math.inf)
    high = _bound(draft.setting(call, "max", 2), math.inf)
    return as_torch(draft, call, "aten.clamp.default", self=draft.number(call), min=low, max=high)


def _bound(given: Array | float | None, default: float) -> float:
    """A bound; the largest number of its type is none."""
    if given is None:
        return default
    value = float(np.ravel(given)[0])
    return default if abs(value) >= float(np.finfo(np.float32).max) else value


def _opaque(target: str, **defaults: float) -> Reader:
    """torch's own function, with the node's attributes (or their defaults) in the order given here."""

    def read(draft: OnnxDraft, call: Call) -> Reading:
        settings = (float(call.attributes.get(name, default)) for name, default in defaults.items())
        return Reading(Opaque(target, (Ref(0), *settings)), (draft.value(call),))

    return read


def _hard_sigmoid(draft: OnnxDraft, call: Call) -> Reading:
    """clip(α·x + β, 0, 1): a scale, and a rectifier with a limit."""
    shape = draft.shape_of(call)
    alpha, beta = (
        torch.full([1] * len(shape), float(call.attributes.get(name, default)))
        for name, default in (("alpha", 0.2), ("beta", 0.5))
    )
    scaled = draft.before(call, "scale", Scale(alpha, beta), draft.value(call), shape)
    return Reading(Relu(limit=1.0), (scaled,))


def _prelu(draft: OnnxDraft, call: Call) -> Reading:
    slope = draft.constant(call, 1)
    channels = draft.shape_of(call)[0]
    if (
        slope.size not in (1, channels)
        or slope.shape[-1] not in (1, slope.size)
        or slope.size != max(slope.shape)
    ):
        raise Refused("its slopes differ within a channel")
    return as_torch(draft, call, "aten.prelu.default", self=draft.number(call), weight=tensor(slope.ravel()))


def _leaky(draft: OnnxDraft, call: Call) -> Reading:
    slope = float(call.attributes.get("alpha", 0.01))
    return as_torch(draft, call, "aten.leaky_relu.default", self=draft.number(call), negative_slope=slope)


def _abs(draft: OnnxDraft, call: Call) -> Reading:
    return as_torch(draft, call, "aten.abs.default", self=draft.number(call))


def _gelu(draft: OnnxDraft, call: Call) -> Reading:
    kind = call.attributes.get("approximate", "none")
    op = Opaque("aten.gelu.default", (Ref(0),), (("approximate", kind),))
    return Reading(op, (draft.value(call),))


def _softmax(target: str) -> Reader:
    """As the last node it is left out: it keeps the order of the outputs, so the predictions."""

    def read(draft: OnnxDraft, call: Call) -> Reading:
        rank = len(draft.shape_of(call)) + 1
        by_axis = draft.opset >= 13  # before, it was over all axes from this one on
        axis = int(call.attributes.get("axis", -1 if by_axis else 1)) % rank
        if axis == 0:
            raise Refused("it compares the samples of a batch")
        if call.ends:
            draft.notes.append(
                f"the final {call.kind} ({call.label}) was left out: what is largest stays largest, so the "
                "predictions are the same"
            )
            return Reading(None, (draft.value(call),))
        if not by_axis and axis != rank - 1:
            raise Refused(f"in opset {draft.opset} it is over several axes at once")
        return Reading(Opaque(target, (Ref(0), axis, None)), (draft.value(call),))

    return read


def _layer_norm(draft: OnnxDraft, call: Call) -> Reading:
    shape = draft.shape_of(call)
    axis = int(call.attributes.get("axis", -1)) % (len(shape) + 1)
    if axis == 0:
        raise Refused("it normalizes over the batch")
    scale, bias = draft.constant(call, 1), draft.optional(call, 2)
    over = shape[axis - 1 :]
    args: tuple[Any, ...] = (
        Ref(0),
        over,
        tensor(np.broadcast_to(scale, over)),
        None if bias is None else tensor(np.broadcast_to(bias, over)),
        float(call.attributes.get("epsilon", 1e-5)),
    )
    return Reading(Opaque("aten.layer_norm.default", args), (draft.value(call),))


READERS: dict[str, Reader] = {
    "Relu": _relu,
    "Clip": _clip,
    "PRelu": _prelu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": _leaky,
    "Abs": _abs,
    "Elu": _opaque("aten.elu.default", alpha=1.0),
    "Sigmoid": _opaque("aten.sigmoid.default"),
    "Tanh": _opaque("aten.tanh.default"),
    "Erf": _opaque("aten.erf.default"),
    "Sqrt": _opaque("aten.sqrt.default"),
    "HardSwish": _opaque("aten.hardswish.default"),
    "Softmax": _softmax("aten.softmax.int"),
    "LogSoftmax": _softmax("aten.log_softmax.int"),
    "LayerNormalization": _layer_norm,
}
