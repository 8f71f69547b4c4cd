"""Readers of arithmetic: sums of values, affine maps with constants, concatenation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ann2snn_cli.ir.ops import Add, Concat, Opaque, Ref
from ann2snn_cli.ir.rules import affine
from ann2snn_cli.stages.trace.onnx.draft import Call, OnnxDraft, Reader, Reading, Refused, tensor
from ann2snn_cli.types import Shape

Terms = Callable[[Tensor], tuple[Tensor, Tensor]]  # of a constant: the w and b of w·x + b

_ONE, _ZERO = torch.ones(()), torch.zeros(())


def _binary(target: str, constant_right: Terms | None, constant_left: Terms | None) -> Reader:
    """An affine map where one side is known (and the map is one), else torch's own function."""

    def read(draft: OnnxDraft, call: Call) -> Reading:
        if draft.is_value(call, 0) and draft.is_value(call, 1):
            return _of_values(draft, call, target)
        left = draft.is_value(call, 0)
        source, terms = (0, constant_right) if left else (1, constant_left)
        constant = tensor(draft.constant(call, 1 - source))
        shape = draft.shape_of(call, source)
        if not _spreads_over(tuple(constant.shape), shape):
            raise Refused(
                f"a constant of shape {tuple(constant.shape)} does not fit a sample of shape {shape}"
            )
        opaque = Opaque(target, (Ref(0), constant) if left else (constant, Ref(0)))
        op = opaque if terms is None else affine(*terms(constant), shape)
        return Reading(op, (draft.value(call, source),))

    return read


def _spreads_over(constant: Shape, sample: Shape) -> bool:
    """Does a constant broadcast to every sample alike, without making it larger?"""
    if len(constant) == len(sample) + 1 and constant[0] == 1:  # the batch's axis
        constant = constant[1:]
    fits = len(constant) <= len(sample)
    return fits and all(n in (1, m) for n, m in zip(reversed(constant), reversed(sample), strict=False))


def _of_values(draft: OnnxDraft, call: Call, target: str) -> Reading:
    shapes = [draft.shape_of(call, index) for index in (0, 1)]
    if len(shapes[0]) != len(shapes[1]):
        raise Refused(f"it spreads values of shape {shapes[0]} and {shapes[1]} over each other's batch")
    same = shapes[0] == shapes[1] and call.kind == "Add"
    op = Add() if same else Opaque(target, (Ref(0), Ref(1)))
    return Reading(op, (draft.value(call, 0), draft.value(call, 1)))


def _sum(draft: OnnxDraft, call: Call) -> Reading:
    sources = tuple(draft.value(call, index) for index in range(len(call.proto.input)))
    if len({draft.shapes[source] for source in sources}) > 1:
        raise Refused("it adds values of different shapes")
    return Reading(Add(), sources)


def _neg(draft: OnnxDraft, call: Call) -> Reading:
    return Reading(affine(-_ONE, _ZERO, draft.shape_of(call)), (draft.value(call),))


def _concat(draft: OnnxDraft, call: Call) -> Reading:
    sources = tuple(draft.value(call, index) for index in range(len(call.proto.input)))
    axis = int(call.attributes["axis"]) % (len(draft.shapes[sources[0]]) + 1)
    if axis == 0:
        raise Refused("it puts samples together along the batch")
    if axis == 1:
        return Reading(Concat(), sources)
    refs = tuple(Ref(index) for index in range(len(sources)))
    return Reading(Opaque("aten.cat.default", (refs, axis)), sources)


READERS: dict[str, Reader] = {
    "Add": _binary("aten.add.Tensor", lambda c: (_ONE, c), lambda c: (_ONE, c)),
    "Sub": _binary("aten.sub.Tensor", lambda c: (_ONE, -c), lambda c: (-_ONE, c)),
    "Mul": _binary("aten.mul.Tensor", lambda c: (c, _ZERO), lambda c: (c, _ZERO)),
    "Div": _binary("aten.div.Tensor", lambda c: (1 / c, _ZERO), None),
    "Pow": _binary("aten.pow.Tensor_Tensor", None, None),
    "Sum": _sum,
    "Neg": _neg,
    "Concat": _concat,
}
