"""Readers of layers with weights: convolutions, matrix products, batch norm."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ann2snn_cli.ir.ops import BatchNorm, Conv, Linear, Opaque, Ref
from ann2snn_cli.stages.trace.onnx.as_torch import as_torch
from ann2snn_cli.stages.trace.onnx.draft import Call, OnnxDraft, Reader, Reading, Refused, tensor
from ann2snn_cli.stages.trace.onnx.file import Array
from ann2snn_cli.stages.trace.onnx.windows import Windows, shifted
from ann2snn_cli.types import Shape


def _conv(draft: OnnxDraft, call: Call) -> Reading:
    weight, bias = _weight_and_bias(draft, call)
    windows = Windows.of(call, draft.shape_of(call), tuple(weight.shape[2:]))
    source, padding = draft.value(call), windows.begin
    if not windows.even:
        source = shifted(draft, call, source, windows.begin, windows.end)
        padding = (0,) * windows.rank
    op = Conv(
        weight, bias, windows.stride, padding, windows.dilation, call.attributes.get("group", 1),
        output_padding=(0,) * windows.rank,
    )  # fmt: skip
    return Reading(op, (source,))


def _conv_transposed(draft: OnnxDraft, call: Call) -> Reading:
    """Where it pads unevenly the whole result is computed, and what the padding covers is cut off."""
    weight, bias = _weight_and_bias(draft, call)
    spatial, kernel = draft.shape_of(call)[1:], tuple(weight.shape[2:])
    windows = Windows.of(call, draft.shape_of(call), kernel)
    added = call.ints("output_padding", (0,) * windows.rank)
    whole = tuple(
        s * (n - 1) + d * (k - 1) + 1 + a
        for n, k, s, d, a in zip(spatial, kernel, windows.stride, windows.dilation, added, strict=True)
    )
    begin, end = _cut_off(call, whole, spatial, windows)
    even = begin == end and min(begin) >= 0
    groups = call.attributes.get("group", 1)
    op = Conv(
        weight,
        bias,
        windows.stride,
        begin if even else (0,) * windows.rank,
        windows.dilation,
        groups,
        transposed=True,
        output_padding=added,
    )
    if even:
        return Reading(op, (draft.value(call),))
    shape = (weight.shape[1] * groups, *whole)
    conv = draft.add(op, (draft.value(call),), shape, call.name, call.label)
    cut = shifted(draft, call, conv, tuple(-b for b in begin), tuple(-e for e in end), word="cut")
    return Reading(None, (cut,))


def _cut_off(call: Call, whole: Shape, spatial: Shape, windows: Windows) -> tuple[Shape, Shape]:
    """How much of the whole result is cut off at each end: `pads`, or what the wanted shape leaves over."""
    mode = call.attributes.get("auto_pad", "NOTSET")
    if mode.startswith("SAME"):
        wanted = tuple(n * s for n, s in zip(spatial, windows.stride, strict=True))
    elif "output_shape" not in call.attributes:
        return windows.begin, windows.end
    wanted = call.ints("output_shape", ())[-windows.rank :] if "output_shape" in call.attributes else wanted
    over = [have - want for have, want in zip(whole, wanted, strict=True)]
    if min(over) < 0:
        raise Refused(f"its output of {wanted} is larger than what its windows reach, {whole}")
    half = tuple(each // 2 for each in over)
    rest = tuple(each - each // 2 for each in over)
    return (half, rest) if mode == "SAME_UPPER" else (rest, half)


def _weight_and_bias(draft: OnnxDraft, call: Call) -> tuple[Tensor, Tensor | None]:
    bias = draft.optional(call, 2)
    return tensor(draft.constant(call, 1)), None if bias is None else tensor(bias)


def _gemm(draft: OnnxDraft, call: Call) -> Reading:
    """Y = α·A·B + β·C, with A the value and B, C known."""
    if call.attributes.get("transA", 0):
        raise Refused("its transA mixes the samples of a batch")
    given = draft.constant(call, 1)
    rows = given if call.attributes.get("transB", 0) else given.T  # [out, in]
    bias = draft.optional(call, 2)
    if bias is not None:
        bias = _row(bias, len(rows)) * call.attributes.get("beta", 1.0)
    weight = tensor(rows * call.attributes.get("alpha", 1.0))
    return Reading(Linear(weight, None if bias is None else tensor(bias)), (draft.value(call),))


def _row(bias: Array, length: int) -> Array:
    if bias.ndim == 2 and bias.shape[0] == 1:
        bias = bias[0]
    if bias.ndim > 1:
        raise Refused("its C differs from sample to sample")
    return np.broadcast_to(bias, (length,))


def _matmul(draft: OnnxDraft, call: Call) -> Reading:
    """x·W and W·x are linear layers; a product of two values stays opaque."""
    if draft.is_value(call, 0) and draft.is_value(call, 1):
        shapes = [draft.shape_of(call, index) for index in (0, 1)]
        if len(shapes[0]) != len(shapes[1]) or len(shapes[0]) < 2:
            raise Refused("it multiplies values across the batch")
        product = Opaque("aten.matmul.default", (Ref(0), Ref(1)))
        return Reading(product, (draft.value(call, 0), draft.value(call, 1)))
    if draft.is_value(call, 1):
        left = tensor(draft.constant(call, 0))
        if left.dim() != 2 or len(draft.shape_of(call, 1)) < 2:
            raise Refused(
                "its first factor is a constant that is no matrix for the last two axes of a sample"
            )
        return as_torch(draft, call, "aten.matmul.default", self=left, other=draft.number(call, 1))
    weight = draft.constant(call, 1)
    if weight.ndim != 2:
        raise Refused(f"its second factor has {weight.ndim} axes: a matrix [in, out] can be read")
    return Reading(Linear(tensor(weight.T)), (draft.value(call),))


def _batch_norm(draft: OnnxDraft, call: Call) -> Reading:
    if call.attributes.get("training_mode", 0):
        raise Refused("it is in training mode: export with network.eval()")
    if not call.attributes.get("spatial", 1):
        raise Refused("it normalizes every position on its own (spatial=0)")
    weight, bias, mean, var = (tensor(draft.constant(call, index)) for index in (1, 2, 3, 4))
    op = BatchNorm(weight, bias, mean, var, float(call.attributes.get("epsilon", 1e-5)))
    return Reading(op, (draft.value(call),))


READERS: dict[str, Reader] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transposed,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
}
