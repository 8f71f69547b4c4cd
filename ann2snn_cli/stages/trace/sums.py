"""Readers of arithmetic: sums of values, affine maps with constants, concatenation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Node as FxNode

from ann2snn_cli.ir.ops import Add, Batch, Concat
from ann2snn_cli.stages.trace.calls import keeps_batch, shape_of
from ann2snn_cli.stages.trace.common import affine
from ann2snn_cli.stages.trace.draft import Draft, Reading
from ann2snn_cli.stages.trace.opaque import opaque


def _add(draft: Draft, call: FxNode) -> Reading:
    a = draft.arguments(call)
    left, right = a["self"], a["other"]
    if a.get("alpha", 1) != 1 or not keeps_batch(call):
        return opaque(draft, call)
    if draft.is_value(left) and draft.is_value(right):
        same = left.meta["val"].shape == right.meta["val"].shape
        return (Add(), (left, right)) if same else opaque(draft, call)
    value, constant = (left, right) if draft.is_value(left) else (right, left)
    return _affine(draft, call, value, 1.0, constant)


def _sub(draft: Draft, call: FxNode) -> Reading:
    a = draft.arguments(call)
    if a.get("alpha", 1) == 1 and not draft.is_value(a["other"]):
        return _affine(draft, call, a["self"], 1.0, -a["other"])
    return opaque(draft, call)


def _mul(draft: Draft, call: FxNode) -> Reading:
    a = draft.arguments(call)
    left, right = a["self"], a["other"]
    if draft.is_value(left) and draft.is_value(right):
        return opaque(draft, call)
    value, constant = (left, right) if draft.is_value(left) else (right, left)
    return _affine(draft, call, value, constant, 0.0)


def _div(draft: Draft, call: FxNode) -> Reading:
    a = draft.arguments(call)
    if draft.is_value(a["self"]) and not draft.is_value(a["other"]):
        return _affine(draft, call, a["self"], 1.0 / a["other"], 0.0)
    return opaque(draft, call)


def _affine(draft: Draft, call: FxNode, value: Any, weight: Any, bias: Any) -> Reading:
    """w·x + b with constants that broadcast to one sample: a `Scale`."""
    same_shape = draft.is_value(value) and value.meta["val"].shape == call.meta["val"].shape
    if (
        not same_shape
        or not keeps_batch(call)
        or any(isinstance(item, FxNode | Batch) for item in (weight, bias))
    ):
        return opaque(draft, call)
    weight, bias = (torch.as_tensor(term, dtype=call.meta["val"].dtype) for term in (weight, bias))
    op = affine(weight, bias, shape_of(call))
    return opaque(draft, call) if op is None else (op, (value,))


def _concat(draft: Draft, call: FxNode) -> Reading:
    a = draft.arguments(call)
    if a["dim"] % call.meta["val"].dim() != 1 or not all(draft.is_value(item) for item in a["tensors"]):
        return opaque(draft, call)
    return Concat(), a["tensors"]


READERS: dict[str, Callable[[Draft, FxNode], Reading]] = {
    "aten.add.Tensor": _add,
    "aten.sub.Tensor": _sub,
    "aten.mul.Tensor": _mul,
    "aten.div.Tensor": _div,
    "aten.cat.default": _concat,
}
