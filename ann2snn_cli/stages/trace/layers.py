"""Rules of layers: convolution, linear, batch norm, rectifiers, pooling."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ann2snn_cli.errors import UnsupportedNetwork
from ann2snn_cli.ir.ops import AvgPool, BatchNorm, Conv, Linear, MaxPool, Op, Relu, Reshape
from ann2snn_cli.ir.rules import Call, Rule, Value, registry
from ann2snn_cli.stages.trace.common import mean_of_all, rectifier
from ann2snn_cli.types import Shape


def _conv(call: Call) -> Op | None:
    weight, bias = call["weight"], call["bias"]
    if not _are_constants(weight, bias):
        return None
    rank = weight.dim() - 2
    dilation, padding = _ints(call["dilation"], rank), call["padding"]
    if isinstance(padding, str):
        total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        if padding == "same" and any(extent % 2 for extent in total):
            return None  # torch pads one side more: rare, and exact as it is
        padding = [extent // 2 for extent in total] if padding == "same" else [0] * rank
    stride = _ints(call["stride"], rank)
    return Conv(
        weight, bias, stride, _ints(padding, rank), dilation, call["groups"], output_padding=(0,) * rank
    )


def _conv_transposed(call: Call) -> Op | None:
    weight, bias = call["weight"], call["bias"]
    if not _are_constants(weight, bias):
        return None
    rank = weight.dim() - 2
    names = ("stride", "padding", "dilation", "output_padding")
    stride, padding, dilation, output_padding = (_ints(call[name], rank) for name in names)
    return Conv(
        weight, bias, stride, padding, dilation, call["groups"],
        transposed=True, output_padding=output_padding,
    )  # fmt: skip


def _linear(call: Call) -> Op | None:
    weight, bias = call["weight"], call["bias"]
    if not _are_constants(weight, bias) or not call.keeps_batch or weight.dim() != 2:
        return None
    return Linear(weight, bias)


def _batch_norm(call: Call) -> Op | None:
    mean, var = (call.arguments.get(name) for name in ("running_mean", "running_var"))
    trains = call.arguments.get("training", False)
    if call.input.keeps_batch and (trains or mean is None):
        raise UnsupportedNetwork(
            "batch norm takes the statistics of the batch: what a sample gives follows the samples beside it",
            remedy="let it keep running statistics (track_running_stats=True), and use them in eval mode",
        )
    if trains or call.output not in (None, 0) or not isinstance(mean, Tensor) or not isinstance(var, Tensor):
        return None
    weight = call["weight"] if call["weight"] is not None else torch.ones_like(mean)
    bias = call["bias"] if call["bias"] is not None else torch.zeros_like(mean)
    return BatchNorm(weight, bias, mean, var, float(call["eps"])) if _are_constants(weight, bias) else None


def _relu(call: Call) -> Op:
    return Relu()


def _relu6(call: Call) -> Op:
    return Relu(limit=6.0)


def _clamp(call: Call) -> Op | None:
    return _rectifier(call["min"], call.arguments.get("max"))


def _hardtanh(call: Call) -> Op | None:
    return _rectifier(call["min_val"], call["max_val"])


def _rectifier(low: Any, high: Any) -> Op | None:
    """clamp(0, c) and hardtanh(0, c) are rectifiers with a limit; other ranges are not."""
    if not isinstance(low, int | float) or not isinstance(high, int | float | None):
        return None
    return rectifier(low, high)


def _avg_pool(call: Call) -> Op | None:
    rank = len(call.shape) - 1
    kernel, stride, padding = _windows(call, rank)
    divides_by_area = call["count_include_pad"] or not any(padding)
    if not divides_by_area or call["ceil_mode"] or call.arguments.get("divisor_override") is not None:
        return None
    return AvgPool(kernel, stride, padding)


def _adaptive_avg_pool(call: Call) -> Op | None:
    """Windows of one size where the input divides evenly; else they differ and it stays as it is."""
    given, wanted = call.input.shape[1:], call.shape[1:]
    keep_batch = call.keeps_batch and call.input.keeps_batch
    if not keep_batch or any(n % m for n, m in zip(given, wanted, strict=True)):
        return None
    return mean_of_all(tuple(n // m for n, m in zip(given, wanted, strict=True)))


def _mean(call: Call) -> Op | Value | None:
    """The mean over all spatial axes is average pooling, and a reshape where the axes are dropped."""
    given = call.input
    rank = len(given.shape) + 1
    axes = sorted(axis % rank for axis in call["dim"] or ())
    if axes != list(range(2, rank)) or rank not in (3, 4, 5) or not given.keeps_batch:
        return None
    pool = mean_of_all(given.shape[1:])
    return pool if call["keepdim"] else call.add(Reshape(), call.add(pool, given), shape=call.shape)


def _max_pool(call: Call) -> Op | None:
    if call.output not in (None, 0):
        return None
    rank = len(call.shape) - 1
    kernel, stride, padding = _windows(call, rank)
    return MaxPool(kernel, stride, padding, _ints(call["dilation"], rank), bool(call["ceil_mode"]))


def _windows(call: Call, rank: int) -> tuple[Shape, Shape, Shape]:
    """Kernel, stride and padding; a stride that is left out is the kernel's extent."""
    kernel = _ints(call["kernel_size"], rank)
    return kernel, _ints(call["stride"], rank) if call["stride"] else kernel, _ints(call["padding"], rank)


def _are_constants(weight: Any, bias: Any) -> bool:
    return isinstance(weight, Tensor) and isinstance(bias, Tensor | None)


def _ints(value: Any, rank: int) -> Shape:
    """A list of one or `rank` integers, as `rank` of them."""
    items = (value,) if isinstance(value, int) else tuple(value)
    return items * rank if len(items) == 1 else items


RULES: dict[str, Rule] = registry(
    (_conv, [f"aten.conv{n}d.{how}" for n in (1, 2, 3) for how in ("default", "padding")]),
    (_conv_transposed, ["aten.conv_transpose1d.default"]),
    (_conv_transposed, ["aten.conv_transpose2d.input", "aten.conv_transpose3d.input"]),
    (_linear, ["aten.linear.default"]),
    (_batch_norm, ["aten.batch_norm.default", "aten._native_batch_norm_legit_no_training.default"]),
    (_batch_norm, [f"aten._native_batch_norm_legit{how}" for how in (".no_stats", "_functional.default")]),
    (_relu, ["aten.relu.default"]),
    (_relu6, ["aten.relu6.default"]),
    (_hardtanh, ["aten.hardtanh.default"]),
    (_clamp, ["aten.clamp.default", "aten.clamp_min.default"]),
    (_avg_pool, [f"aten.avg_pool{n}d.default" for n in (1, 2, 3)]),
    (_adaptive_avg_pool, [f"aten.adaptive_avg_pool{n}d.default" for n in (1, 2, 3)]),
    (_mean, ["aten.mean.dim"]),
    (_max_pool, [f"aten.max_pool{n}d.default" for n in (1, 2, 3)]),
    (_max_pool, [f"aten.max_pool{n}d_with_indices.default" for n in (1, 2, 3)]),
)
