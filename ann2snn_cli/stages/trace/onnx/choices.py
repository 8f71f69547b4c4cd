"""Readers of comparisons, and of what is chosen by them."""

from __future__ import annotations

from typing import Any

from ann2snn_cli.ir.rules import Value
from ann2snn_cli.stages.trace.onnx.as_torch import as_torch
from ann2snn_cli.stages.trace.onnx.draft import Call, OnnxDraft, Reader, Reading, Refused


def _compare(target: str, turned: str) -> Reader:
    """Two values, or a value and a constant, whichever side that is on."""

    def read(draft: OnnxDraft, call: Call) -> Reading:
        left, right = (draft.argument(call, index) for index in (0, 1))
        _refuse_other_shapes(left, right)
        if isinstance(left, Value):
            return as_torch(draft, call, target, self=left, other=right)
        return as_torch(draft, call, turned, self=right, other=left)

    return read


def _where(draft: OnnxDraft, call: Call) -> Reading:
    condition, yes, no = (draft.argument(call, index) for index in (0, 1, 2))
    if not isinstance(condition, Value):
        raise Refused("its condition is a constant, which must be one of true and false")
    _refuse_other_shapes(condition, yes, no)
    return as_torch(draft, call, "aten.where.self", condition=condition, self=yes, other=no)


def _not(draft: OnnxDraft, call: Call) -> Reading:
    return as_torch(draft, call, "aten.logical_not.default", self=draft.number(call))


def _both(target: str) -> Reader:
    def read(draft: OnnxDraft, call: Call) -> Reading:
        left, right = (draft.number(call, index) for index in (0, 1))
        _refuse_other_shapes(left, right)
        return as_torch(draft, call, target, self=left, other=right)

    return read


def _refuse_other_shapes(*arguments: Any) -> None:
    ranks = {len(each.shape) for each in arguments if isinstance(each, Value)}
    if len(ranks) > 1:
        raise Refused("it spreads values over each other's batch")
    (rank,) = ranks
    if any(each.dim() > rank + (each.shape[:1] == (1,)) for each in arguments if not isinstance(each, Value)):
        raise Refused("a constant of it does not fit a sample")


READERS: dict[str, Reader] = {
    "Greater": _compare("aten.gt.Tensor", "aten.lt.Tensor"),
    "GreaterOrEqual": _compare("aten.ge.Tensor", "aten.le.Tensor"),
    "Less": _compare("aten.lt.Tensor", "aten.gt.Tensor"),
    "LessOrEqual": _compare("aten.le.Tensor", "aten.ge.Tensor"),
    "Equal": _compare("aten.eq.Tensor", "aten.eq.Tensor"),
    "Where": _where,
    "Not": _not,
    "And": _both("aten.logical_and.default"),
    "Or": _both("aten.logical_or.default"),
}
