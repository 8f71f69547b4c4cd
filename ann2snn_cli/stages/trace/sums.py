"""Rules of arithmetic: sums of values, affine maps with constants, concatenation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ann2snn_cli.ir.ops import Add, Concat, Op
from ann2snn_cli.ir.rules import Call, Rule, Value, affine, registry


def _add(call: Call) -> Op | Value | None:
    left, right = call["self"], call["other"]
    if call.arguments.get("alpha", 1) != 1 or not call.keeps_batch:
        return None
    if isinstance(left, Value) and isinstance(right, Value):
        same = left.keeps_batch and right.keeps_batch and left.shape == right.shape
        return call.add(Add(), left, right) if same else None
    value, constant = (left, right) if isinstance(left, Value) else (right, left)
    return _affine(call, value, 1.0, constant)


def _sub(call: Call) -> Op | None:
    value, constant = call["self"], call["other"]
    if call.arguments.get("alpha", 1) != 1 or not _is_constant(constant):
        return None
    return _affine(call, value, 1.0, -constant)


def _mul(call: Call) -> Op | None:
    left, right = call["self"], call["other"]
    value, constant = (left, right) if isinstance(left, Value) else (right, left)
    return _affine(call, value, constant, 0.0)


def _div(call: Call) -> Op | None:
    value, constant = call["self"], call["other"]
    return _affine(call, value, 1.0 / constant, 0.0) if _is_constant(constant) else None


def _affine(call: Call, value: Any, weight: Any, bias: Any) -> Op | None:
    """w·x + b with constants that broadcast to one sample: a `Scale`."""
    if not isinstance(value, Value) or not _is_constant(weight) or not _is_constant(bias):
        return None
    if not call.keeps_batch or not value.keeps_batch or value.shape != call.shape:
        return None
    dtype = call.result.dtype
    return affine(torch.as_tensor(weight, dtype=dtype), torch.as_tensor(bias, dtype=dtype), call.shape)


def _is_constant(value: Any) -> bool:
    """Is it known before the sample is? (A size that follows the batch is not.)"""
    return isinstance(value, Tensor | int | float)


def _concat(call: Call) -> Value | None:
    parts = call["tensors"]
    if call["dim"] % (len(call.shape) + 1) != 1 or not all(isinstance(part, Value) for part in parts):
        return None
    return call.add(Concat(), *parts) if all(part.keeps_batch for part in parts) else None


RULES: dict[str, Rule] = registry(
    (_add, ["aten.add.Tensor"]),
    (_sub, ["aten.sub.Tensor"]),
    (_mul, ["aten.mul.Tensor"]),
    (_div, ["aten.div.Tensor"]),
    (_concat, ["aten.cat.default"]),
)
