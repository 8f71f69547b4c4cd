"""Rules of layers with weights: convolution, linear, products with a known matrix, batch norm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ann2snn_cli.errors import UnsupportedNetwork
from ann2snn_cli.ir.ops import BatchNorm, Conv, Linear, Op, Permute
from ann2snn_cli.ir.rules import Call, Rule, Value, registry
from ann2snn_cli.stages.trace.common import ints, padded


def _conv(call: Call) -> Op | Value | None:
    weight, bias = call["weight"], call["bias"]
    if not _are_constants(weight, bias):
        return None
    rank = weight.dim() - 2
    stride, dilation = ints(call["stride"], rank), ints(call["dilation"], rank)
    before = after = (0,) * rank
    if call["padding"] == "same":  # torch puts the odd one of the padding at the end
        total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        before, after = tuple(n // 2 for n in total), tuple(n - n // 2 for n in total)
    elif call["padding"] != "valid":
        before = after = ints(call["padding"], rank)
    even = before == after
    padding = before if even else (0,) * rank
    op = Conv(weight, bias, stride, padding, dilation, call["groups"], output_padding=(0,) * rank)
    if even:
        return op
    return call.add(op, call.add(padded(call.input.shape, before, after), call.input))


def _conv_transposed(call: Call) -> Op | None:
    weight, bias = call["weight"], call["bias"]
    if not _are_constants(weight, bias):
        return None
    rank = weight.dim() - 2
    names = ("stride", "padding", "dilation", "output_padding")
    stride, padding, dilation, output_padding = (ints(call[name], rank) for name in names)
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


def _are_constants(weight: Any, bias: Any) -> bool:
    return isinstance(weight, Tensor) and isinstance(bias, Tensor | None)


def _matmul(call: Call) -> Op | Value | None:
    """A product with a known matrix is a linear layer: along the last axis, or from the left."""
    left, right = call.arguments.values()
    if not call.keeps_batch or not call.input.keeps_batch:
        return None
    if isinstance(left, Value) and isinstance(right, Tensor) and right.dim() == 2 and left.shape:
        return Linear(right.T.contiguous())
    if isinstance(right, Value) and isinstance(left, Tensor) and left.dim() == 2 and len(right.shape) > 1:
        rank = len(right.shape)
        turn = Permute((*range(rank - 2), rank - 1, rank - 2))
        return call.add(turn, call.add(Linear(left), call.add(turn, right)))
    return None


RULES: dict[str, Rule] = registry(
    (_conv, [f"aten.conv{n}d.{how}" for n in (1, 2, 3) for how in ("default", "padding")]),
    (_conv_transposed, ["aten.conv_transpose1d.default"]),
    (_conv_transposed, ["aten.conv_transpose2d.input", "aten.conv_transpose3d.input"]),
    (_linear, ["aten.linear.default"]),
    (_matmul, ["aten.matmul.default", "aten.mm.default"]),
    (_batch_norm, ["aten.batch_norm.default", "aten._native_batch_norm_legit_no_training.default"]),
    (_batch_norm, [f"aten._native_batch_norm_legit{how}" for how in (".no_stats", "_functional.default")]),
)
