"""Rules of arithmetic: sums of values, affine maps with constants, concatenation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ann2snn_cli.ir.ops import Add, Concat, Op, Permute, Reshape
from ann2snn_cli.ir.rules import Call, Rule, Value, affine, registry
from ann2snn_cli.stages.trace.common import moved
from ann2snn_cli.stages.trace.rectifiers import times_its_sign


def _add(call: Call) -> Op | Value | None:
    return _sum(call, call["self"], call["other"], call.arguments.get("alpha", 1))


def _sub(call: Call) -> Op | Value | None:
    return _sum(call, call["self"], call["other"], _negated(call.arguments.get("alpha", 1)))


def _rsub(call: Call) -> Op | Value | None:
    return _sum(call, call["other"], call["self"], _negated(call.arguments.get("alpha", 1)))


def _negated(factor: Any) -> Any:
    return -factor if isinstance(factor, int | float) else factor


def _sum(call: Call, left: Any, right: Any, factor: Any) -> Op | Value | None:
    """left + factor·right, of values or constants."""
    if not isinstance(factor, int | float) or not call.keeps_batch:
        return None
    if isinstance(left, Value) and isinstance(right, Value):
        if not left.keeps_batch or not right.keeps_batch:
            return None
        terms = [_spread(call, left), _spread(call, right if factor == 1 else call.scale(right, factor))]
        return None if terms[0] is None or terms[1] is None else call.add(Add(), terms[0], terms[1])
    if isinstance(left, Value):
        return _affine(call, left, 1.0, factor * right) if _is_constant(right) else None
    return _affine(call, right, factor, left)


def _spread(call: Call, value: Value) -> Value | None:
    """The value in the shape of the result: repeated along the axes where it has one place."""
    if value.shape == call.shape:
        return value
    gather = moved(lambda places: places.expand(len(places), *call.shape), value.shape)
    return None if gather is None or len(value.shape) != len(call.shape) else call.add(gather, value)


def _neg(call: Call) -> Op | None:
    return _affine(call, call["self"], -1.0, 0.0)


def _mul(call: Call) -> Op | Value | None:
    left, right = call["self"], call["other"]
    if isinstance(left, Value) and isinstance(right, Value):
        return times_its_sign(call, left, right)
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
    axis = call["dim"] % (len(call.shape) + 1) - 1
    return _joined(call, parts, axis) if _are_values(call, parts) and axis >= 0 else None


def _stack(call: Call) -> Value | None:
    """A concat of the same values with an axis of one place more."""
    parts = call["tensors"]
    axis = call["dim"] % (len(call.shape) + 1) - 1
    if not _are_values(call, parts) or axis < 0:
        return None
    shape = (*call.shape[:axis], 1, *call.shape[axis + 1 :])
    return _joined(call, [call.add(Reshape(), part, shape=shape) for part in parts], axis)


def _are_values(call: Call, parts: Any) -> bool:
    return call.keeps_batch and all(isinstance(part, Value) and part.keeps_batch for part in parts)


def _joined(call: Call, parts: Any, axis: int) -> Value:
    """Side by side along any axis of a sample: that of the channels is the first."""
    if axis == 0:
        return call.add(Concat(), *parts)
    order = [axis, *(each for each in range(len(call.shape)) if each != axis)]
    back = Permute(tuple(order.index(each) for each in range(len(order))))
    return call.add(back, call.add(Concat(), *(call.add(Permute(tuple(order)), part) for part in parts)))


RULES: dict[str, Rule] = registry(
    (_add, ["aten.add.Tensor", "aten.add.Scalar"]),
    (_sub, ["aten.sub.Tensor", "aten.sub.Scalar"]),
    (_rsub, ["aten.rsub.Scalar", "aten.rsub.Tensor"]),
    (_neg, ["aten.neg.default"]),
    (_mul, ["aten.mul.Tensor", "aten.mul.Scalar"]),
    (_div, ["aten.div.Tensor", "aten.div.Scalar"]),
    (_concat, ["aten.cat.default"]),
    (_stack, ["aten.stack.default"]),
)
