"""Readers of layers: convolution, linear, batch norm, rectifiers, pooling."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.fx import Node as FxNode

from ann2snn_cli.ir.ops import AvgPool, BatchNorm, Conv, Linear, MaxPool, Relu, Reshape
from ann2snn_cli.stages.trace.calls import ints, keeps_batch, module_of, source_of
from ann2snn_cli.stages.trace.common import mean_of_all, rectifier
from ann2snn_cli.stages.trace.draft import Draft, Reading
from ann2snn_cli.stages.trace.opaque import opaque


def _conv(draft: Draft, call: FxNode) -> Reading:
    a = draft.arguments(call)
    if isinstance(a["weight"], FxNode) or (isinstance(a["bias"], FxNode) and draft.is_value(a["bias"])):
        return opaque(draft, call)
    rank = a["weight"].dim() - 2
    dilation, padding = ints(a["dilation"], rank), a["padding"]
    if isinstance(padding, str):
        total = [d * (k - 1) for d, k in zip(dilation, a["weight"].shape[2:], strict=True)]
        if padding == "same" and any(extent % 2 for extent in total):
            return opaque(draft, call)  # torch pads one side more: rare, and exact as it is
        padding = [extent // 2 for extent in total] if padding == "same" else [0] * rank
    op = Conv(
        a["weight"], a["bias"], ints(a["stride"], rank), ints(padding, rank), dilation, a["groups"],
        output_padding=(0,) * rank,
    )  # fmt: skip
    return op, (source_of(call),)


def _conv_transposed(draft: Draft, call: FxNode) -> Reading:
    a = draft.arguments(call)
    if isinstance(a["weight"], FxNode):
        return opaque(draft, call)
    rank = a["weight"].dim() - 2
    op = Conv(
        a["weight"],
        a["bias"],
        ints(a["stride"], rank),
        ints(a["padding"], rank),
        ints(a["dilation"], rank),
        a["groups"],
        transposed=True,
        output_padding=ints(a["output_padding"], rank),
    )
    return op, (source_of(call),)


def _linear(draft: Draft, call: FxNode) -> Reading:
    a = draft.arguments(call)
    if not isinstance(a["weight"], Tensor) or not keeps_batch(call) or a["weight"].dim() != 2:
        return opaque(draft, call)
    return Linear(a["weight"], a["bias"]), (a["input"],)


def _batch_norm(draft: Draft, call: FxNode, index: int = 0) -> Reading:
    a = draft.arguments(call)
    mean, var = a["running_mean"], a["running_var"]
    if not isinstance(mean, Tensor) or not isinstance(var, Tensor):
        return opaque(draft, call)
    weight = a["weight"] if a["weight"] is not None else torch.ones_like(mean)
    bias = a["bias"] if a["bias"] is not None else torch.zeros_like(mean)
    return BatchNorm(weight, bias, mean, var, float(a["eps"])), (a["input"],)


def _relu(draft: Draft, call: FxNode) -> Reading:
    return Relu(), (source_of(call),)


def _relu6(draft: Draft, call: FxNode) -> Reading:
    return Relu(limit=6.0), (source_of(call),)


def _clamp(low: str, high: str) -> Callable[[Draft, FxNode], Reading]:
    """clamp(0, c) and hardtanh(0, c) are rectifiers with a limit; other ranges are not."""

    def read(draft: Draft, call: FxNode) -> Reading:
        a = draft.arguments(call)
        floor, top = a.get(low), a.get(high)
        if isinstance(floor, FxNode | Tensor) or isinstance(top, FxNode | Tensor) or floor is None:
            return opaque(draft, call)
        op = rectifier(floor, top)
        return opaque(draft, call) if op is None else (op, (source_of(call),))

    return read


def _avg_pool(draft: Draft, call: FxNode) -> Reading:
    a = draft.arguments(call)
    rank = call.meta["val"].dim() - 2
    kernel = ints(a["kernel_size"], rank)
    stride = ints(a["stride"], rank) if a["stride"] else kernel
    padding = ints(a["padding"], rank)
    divides_by_area = a["count_include_pad"] or not any(padding)
    if not divides_by_area or a["ceil_mode"] or a.get("divisor_override") is not None:
        return opaque(draft, call)
    return AvgPool(kernel, stride, padding), (a["self"],)


def _adaptive_avg_pool(draft: Draft, call: FxNode) -> Reading:
    """Windows of one size where the input divides evenly; else they differ and it stays as it is."""
    a = draft.arguments(call)
    source = a["self"].meta["val"].shape[2:]
    target = call.meta["val"].shape[2:]
    if any(not isinstance(size, int) for size in (*source, *target)) or any(
        n % m for n, m in zip(source, target, strict=True)
    ):
        return opaque(draft, call)
    kernel = tuple(n // m for n, m in zip(source, target, strict=True))
    return mean_of_all(kernel), (a["self"],)


def _mean(draft: Draft, call: FxNode) -> Reading:
    """The mean over all spatial axes is average pooling (with the axes dropped, a reshape would follow)."""
    a = draft.arguments(call)
    shape = a["self"].meta["val"].shape
    axes = sorted(axis % len(shape) for axis in a["dim"] or ())
    if axes != list(range(2, len(shape))) or len(shape) not in (3, 4, 5):
        return opaque(draft, call)
    if not a["keepdim"]:
        return _mean_dropped(draft, call)
    kernel = tuple(int(size) for size in shape[2:])
    return mean_of_all(kernel), (a["self"],)


def _mean_dropped(draft: Draft, call: FxNode) -> Reading:
    """x.mean((2, 3)): the pooling is its own node, the reshape carries the call's name."""
    source = source_of(call)
    shape = source.meta["val"].shape
    kernel = tuple(int(size) for size in shape[2:])
    module = module_of(call)
    pool = draft.add(
        mean_of_all(kernel),
        (draft.names[source],),
        (int(shape[1]), *[1] * len(kernel)),
        ".".join(filter(None, (module.path, "mean"))),
        module.label,
    )
    draft.names[call] = pool
    return Reshape(), (call,)


def _max_pool(draft: Draft, call: FxNode, index: int = 0) -> Reading:
    a = draft.arguments(call)
    rank = source_of(call).meta["val"].dim() - 2
    kernel = ints(a["kernel_size"], rank)
    stride = ints(a["stride"], rank) if a["stride"] else kernel
    op = MaxPool(kernel, stride, ints(a["padding"], rank), ints(a["dilation"], rank), bool(a["ceil_mode"]))
    return op, (a["self"],)


READERS: dict[str, Callable[[Draft, FxNode], Reading]] = {
    **dict.fromkeys(["aten.conv1d.default", "aten.conv2d.default", "aten.conv3d.default"], _conv),
    **dict.fromkeys(["aten.conv1d.padding", "aten.conv2d.padding", "aten.conv3d.padding"], _conv),
    "aten.conv_transpose1d.default": _conv_transposed,
    "aten.conv_transpose2d.input": _conv_transposed,
    "aten.conv_transpose3d.input": _conv_transposed,
    "aten.linear.default": _linear,
    "aten.batch_norm.default": _batch_norm,
    "aten.relu.default": _relu,
    "aten.relu6.default": _relu6,
    "aten.hardtanh.default": _clamp("min_val", "max_val"),
    "aten.clamp.default": _clamp("min", "max"),
    "aten.clamp_min.default": _clamp("min", "max"),
    **dict.fromkeys([f"aten.avg_pool{n}d.default" for n in (1, 2, 3)], _avg_pool),
    **dict.fromkeys([f"aten.adaptive_avg_pool{n}d.default" for n in (1, 2, 3)], _adaptive_avg_pool),
    "aten.mean.dim": _mean,
    **dict.fromkeys([f"aten.max_pool{n}d.default" for n in (1, 2, 3)], _max_pool),
}


ITEM_READERS: dict[str, Callable[[Draft, FxNode, int], Reading]] = {
    "aten._native_batch_norm_legit_no_training.default": _batch_norm,
    **dict.fromkeys([f"aten.max_pool{n}d_with_indices.default" for n in (1, 2, 3)], _max_pool),
}
