"""Readers of arithmetic: sums, products and extremes of values and constants, concatenation."""

from __future__ import annotations

from ann2snn_cli.ir.ops import Add
from ann2snn_cli.stages.trace.onnx.as_torch import as_torch, value_of
from ann2snn_cli.stages.trace.onnx.draft import Call, OnnxDraft, Reader, Reading, Refused
from ann2snn_cli.types import Shape


def _binary(target: str) -> Reader:
    """torch's operator, of two values or of one and a constant."""

    def read(draft: OnnxDraft, call: Call) -> Reading:
        if draft.is_value(call, 0) and draft.is_value(call, 1):
            _refuse_other_ranks(draft, call)
        else:
            _refuse_larger(draft, call)
        left, right = (draft.argument(call, index) for index in (0, 1))
        return as_torch(draft, call, target, self=left, other=right)

    return read


def _power(draft: OnnxDraft, call: Call) -> Reading:
    if not (draft.is_value(call, 0) and draft.is_value(call, 1)):
        _refuse_larger(draft, call)
    left, right = (draft.argument(call, index) for index in (0, 1))
    return as_torch(draft, call, "aten.pow.Tensor_Tensor", self=left, exponent=right)


def _refuse_other_ranks(draft: OnnxDraft, call: Call) -> None:
    shapes = [draft.shape_of(call, index) for index in (0, 1)]
    if len(shapes[0]) != len(shapes[1]):
        raise Refused(f"it spreads values of shape {shapes[0]} and {shapes[1]} over each other's batch")


def _refuse_larger(draft: OnnxDraft, call: Call) -> None:
    """A constant must fit each sample."""
    source = 0 if draft.is_value(call, 0) else 1
    constant, shape = tuple(draft.constant(call, 1 - source).shape), draft.shape_of(call, source)
    if not _spreads_over(constant, shape):
        raise Refused(f"a constant of shape {constant} does not fit a sample of shape {shape}")


def _spreads_over(constant: Shape, sample: Shape) -> bool:
    """Does a constant broadcast to every sample alike, without making it larger?"""
    if len(constant) == len(sample) + 1 and constant[0] == 1:  # the batch's axis
        constant = constant[1:]
    fits = len(constant) <= len(sample)
    return fits and all(n in (1, m) for n, m in zip(reversed(constant), reversed(sample), strict=False))


def _sum(draft: OnnxDraft, call: Call) -> Reading:
    sources = tuple(draft.value(call, index) for index in range(len(call.proto.input)))
    if len({draft.shapes[source] for source in sources}) > 1:
        raise Refused("it adds values of different shapes")
    return Reading(Add(), sources)


def _neg(draft: OnnxDraft, call: Call) -> Reading:
    return as_torch(draft, call, "aten.neg.default", self=draft.number(call))


def _extreme(target: str) -> Reader:
    """Of any number of values and constants, two at a time."""

    def read(draft: OnnxDraft, call: Call) -> Reading:
        count = len(call.proto.input)
        values = [draft.number(call, index) for index in range(count) if draft.is_value(call, index)]
        known = [draft.argument(call, index) for index in range(count) if not draft.is_value(call, index)]
        if len({len(value.shape) for value in values}) > 1:
            raise Refused("it spreads values over each other's batch")
        if not all(_spreads_over(tuple(constant.shape), values[0].shape) for constant in known):
            raise Refused(f"its constants do not fit a sample of shape {values[0].shape}")
        reading = Reading(None, draft.nodes_of(values[:1]))
        for other in (*values[1:], *known):
            reading = as_torch(draft, call, target, self=value_of(draft, reading, call), other=other)
        return reading

    return read


def _concat(draft: OnnxDraft, call: Call) -> Reading:
    values = tuple(draft.number(call, index) for index in range(len(call.proto.input)))
    axis = int(call.attributes["axis"]) % (len(values[0].shape) + 1)
    if axis == 0:
        raise Refused("it puts samples together along the batch")
    return as_torch(draft, call, "aten.cat.default", tensors=values, dim=axis)


READERS: dict[str, Reader] = {
    "Add": _binary("aten.add.Tensor"),
    "Sub": _binary("aten.sub.Tensor"),
    "Mul": _binary("aten.mul.Tensor"),
    "Div": _binary("aten.div.Tensor"),
    "Pow": _power,
    "Max": _extreme("aten.maximum.default"),
    "Min": _extreme("aten.minimum.default"),
    "Sum": _sum,
    "Neg": _neg,
    "Concat": _concat,
}
