"""Readers of pooling, and of means, sums and extremes over axes."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from ann2snn_cli.ir.ops import AvgPool, MaxPool
from ann2snn_cli.stages.trace.common import mean_of_all
from ann2snn_cli.stages.trace.onnx.as_torch import as_torch
from ann2snn_cli.stages.trace.onnx.draft import Call, OnnxDraft, Reader, Reading, Refused
from ann2snn_cli.stages.trace.onnx.windows import Windows, repeated, shifted
from ann2snn_cli.types import Shape


def _max_pool(draft: OnnxDraft, call: Call) -> Reading:
    if call.attributes.get("storage_order", 0):
        raise Refused("it counts its places by columns (storage_order=1)")
    windows, source = _windows(draft, call), draft.value(call)
    if _as_torch_pads(windows):
        op = MaxPool(windows.kernel, windows.stride, windows.begin, windows.dilation, windows.ceil)
        return Reading(op, (source,))
    padded = repeated(draft, call, source, windows)
    return Reading(MaxPool(windows.kernel, windows.stride, (0,) * windows.rank, windows.dilation), (padded,))


def _avg_pool(draft: OnnxDraft, call: Call) -> Reading:
    """Windows at the border may hold fewer values than the others."""
    windows, source = _windows(draft, call), draft.value(call)
    if max(windows.dilation) > 1:
        raise Refused("its windows have gaps (dilations)")
    counted = _values_in_windows(windows, bool(call.attributes.get("count_include_pad", 0)))
    padding = windows.begin
    if not (_as_torch_pads(windows) and not windows.ceil):
        source, padding = shifted(draft, call, source, windows.begin, windows.reach), (0,) * windows.rank
    same = bool((counted == math.prod(windows.kernel)).all())
    return Reading(AvgPool(windows.kernel, windows.stride, padding, None if same else counted), (source,))


def _values_in_windows(windows: Windows, with_padding: bool) -> torch.Tensor:
    """What each window's sum is divided by, [1, windows...]; what is beyond the padding never counts."""

    def pad(x: torch.Tensor, begin: Shape, end: Shape, value: float) -> torch.Tensor:
        return F.pad(
            x, [n for pair in zip(reversed(begin), reversed(end), strict=True) for n in pair], value=value
        )

    x = pad(torch.ones(windows.spatial), windows.begin, windows.end, float(with_padding))
    rest = tuple(reach - end for reach, end in zip(windows.reach, windows.end, strict=True))
    x = pad(x, (0,) * windows.rank, rest, 0.0)
    for axis, (extent, stride) in enumerate(zip(windows.kernel, windows.stride, strict=True)):
        x = x.unfold(axis, extent, stride).sum(-1)
    return x[None]


def _windows(draft: OnnxDraft, call: Call) -> Windows:
    return Windows.of(call, draft.shape_of(call), call.ints("kernel_shape", ()))


def _as_torch_pads(windows: Windows) -> bool:
    return windows.even and all(2 * pad <= k for pad, k in zip(windows.begin, windows.kernel, strict=True))


def _global_avg_pool(draft: OnnxDraft, call: Call) -> Reading:
    return Reading(mean_of_all(draft.shape_of(call)[1:]), (draft.value(call),))


def _global_max_pool(draft: OnnxDraft, call: Call) -> Reading:
    kernel = draft.shape_of(call)[1:]
    ones, zeros = (1,) * len(kernel), (0,) * len(kernel)
    return Reading(MaxPool(kernel, kernel, zeros, ones), (draft.value(call),))


def _over_axes(target: str, word: str) -> Reader:
    """torch's own, over all axes or those that are named."""

    def read(draft: OnnxDraft, call: Call) -> Reading:
        rank = len(draft.shape_of(call)) + 1
        axes = draft.axes(call, rank)
        if not axes and call.attributes.get("noop_with_empty_axes", 0):
            return Reading(None, (draft.value(call),))
        if not axes or 0 in axes:
            raise Refused(f"it takes the {word} over the batch")
        keep = bool(call.attributes.get("keepdims", 1))
        return as_torch(draft, call, target, self=draft.number(call), dim=list(axes), keepdim=keep)

    return read


READERS: dict[str, Reader] = {
    "MaxPool": _max_pool,
    "AveragePool": _avg_pool,
    "GlobalMaxPool": _global_max_pool,
    "GlobalAveragePool": _global_avg_pool,
    "ReduceMean": _over_axes("aten.mean.dim", "mean"),
    "ReduceSum": _over_axes("aten.sum.dim_IntList", "sum"),
    "ReduceMax": _over_axes("aten.amax.default", "maximum"),
    "ReduceMin": _over_axes("aten.amin.default", "minimum"),
}
