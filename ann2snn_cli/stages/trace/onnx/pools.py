"""Readers of pooling, and of means over axes."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ann2snn_cli.ir.ops import AvgPool, MaxPool, Opaque, Ref, Reshape, Scale
from ann2snn_cli.stages.trace.common import mean_of_all
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
    """Windows at the border may hold fewer values than the others: their mean is made up for by a factor."""
    windows, source = _windows(draft, call), draft.value(call)
    if max(windows.dilation) > 1:
        raise Refused("its windows have gaps (dilations)")
    counted = _values_in_windows(windows, bool(call.attributes.get("count_include_pad", 0)))
    padding = windows.begin
    if not (_as_torch_pads(windows) and not windows.ceil):
        source, padding = shifted(draft, call, source, windows.begin, windows.reach), (0,) * windows.rank
    pool = AvgPool(windows.kernel, windows.stride, padding)
    if bool((counted == pool.area).all()):
        return Reading(pool, (source,))
    shape = (draft.shapes[source][0], *windows.counts)
    pooled = draft.before(call, "sum", pool, source, shape)
    return Reading(Scale(pool.area / counted), (pooled,))


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


def _reduce_mean(draft: OnnxDraft, call: Call) -> Reading:
    """Over spatial axes it is a pooling; over others it stays opaque."""
    shape, source = draft.shape_of(call), draft.value(call)
    axes = draft.axes(call, len(shape) + 1)
    if not axes and call.attributes.get("noop_with_empty_axes", 0):
        return Reading(None, (source,))
    if not axes or 0 in axes:
        raise Refused("it takes the mean over the batch")
    keep = bool(call.attributes.get("keepdims", 1))
    if axes[0] == 1 or len(shape) > 4:
        return Reading(Opaque("aten.mean.dim", (Ref(0), axes, keep)), (source,))
    pool = mean_of_all(tuple(n if axis in axes else 1 for axis, n in enumerate(shape[1:], start=2)))
    if keep:
        return Reading(pool, (source,))
    kept = tuple(1 if axis in axes else n for axis, n in enumerate(shape, start=1))
    pooled = draft.before(call, "mean", pool, source, kept)
    return Reading(
        Reshape(), (pooled,), tuple(n for axis, n in enumerate(shape, start=1) if axis not in axes)
    )


READERS: dict[str, Reader] = {
    "MaxPool": _max_pool,
    "AveragePool": _avg_pool,
    "GlobalMaxPool": _global_max_pool,
    "GlobalAveragePool": _global_avg_pool,
    "ReduceMean": _reduce_mean,
}
