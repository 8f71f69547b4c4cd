"""ONNX operators that are one of torch's: read by torch's own rule, so that a rule has one home."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ann2snn_cli.ir import allowed, rules
from ann2snn_cli.ir.ops import Op, Opaque, Ref
from ann2snn_cli.ir.rules import Value
from ann2snn_cli.stages.trace.built_in import BUILT_IN
from ann2snn_cli.stages.trace.common import reads_numbers, type_of
from ann2snn_cli.stages.trace.onnx.draft import Call, OnnxDraft, Reading


def as_torch(draft: OnnxDraft, call: Call, target: str, **arguments: Any) -> Reading:
    """What a torch operator becomes by its rule, else opaque; arguments by the names in its schema."""
    described = _described(draft, call, target, arguments)
    rule = BUILT_IN.get(target)
    outcome = None if rule is None else rule(described)
    if outcome is None or not reads_numbers(described, outcome):
        outcome = _opaque(described)
    if isinstance(outcome, Op):
        return _last(draft, described, outcome, described.inputs, described.result)
    for each in described.added:
        if each.value is outcome:
            return _last(draft, described, each.op, each.inputs, outcome)
        name = f"{call.name}.{each.op.kind.lower()}"
        node = draft.add(each.op, draft.nodes_of(each.inputs), each.value.shape, name, call.label)
        draft.bind(each.value, node)
    return Reading(None, draft.nodes_of((outcome,)))


def value_of(draft: OnnxDraft, reading: Reading, call: Call) -> Value:
    """What was read so far, as a value that more can be made of."""
    node = reading.inputs[0]
    if reading.op is not None:
        assert reading.shape is not None
        node = draft.add(reading.op, reading.inputs, reading.shape, f"{call.name}.part", call.label)
        if reading.value is not None:
            draft.bind(reading.value, node)
    return draft.value_at(node)


def _last(draft: OnnxDraft, described: rules.Call, op: Op, inputs: Sequence[Value], value: Value) -> Reading:
    draft.makers[value] = described
    return Reading(op, draft.nodes_of(inputs), value.shape, value)


def _described(draft: OnnxDraft, call: Call, target: str, arguments: dict[str, Any]) -> rules.Call:
    schema = allowed.operator(target)._schema.arguments  # type: ignore[attr-defined]
    given = {item.name: arguments.get(item.name, item.default_value) for item in schema}
    shown = allowed.operator(target)(**{name: _on_meta(value) for name, value in given.items()})
    output = None if isinstance(shown, Tensor) else 0
    first = shown if isinstance(shown, Tensor) else shown[0]
    result = Value(tuple(first.shape[1:]), first.dtype)
    return rules.Call(target, given, result, output, call.label, makers=draft.makers)


def _on_meta(value: Any) -> Any:
    """Shapes and types alone, of two samples."""
    if isinstance(value, Value):
        return torch.empty(2, *value.shape, dtype=value.dtype, device="meta")
    if isinstance(value, Tensor):
        return value.to("meta")
    return [_on_meta(item) for item in value] if isinstance(value, list | tuple) else value


def _opaque(described: rules.Call) -> Opaque:
    described.added.clear()
    inputs = described.inputs

    def freeze(value: Any) -> Any:
        if isinstance(value, Value):
            return Ref(inputs.index(value))
        return tuple(freeze(item) for item in value) if isinstance(value, list | tuple) else value

    schema = allowed.operator(described.target)._schema.arguments  # type: ignore[attr-defined]
    in_order = [item.name for item in schema if not item.kwarg_only]
    args = tuple(freeze(described[name]) for name in in_order)
    named = {item.name: freeze(described[item.name]) for item in schema if item.kwarg_only}
    kwargs = tuple((name, value) for name, value in named.items() if value is not None)
    dtypes = tuple(map(type_of, inputs))
    return Opaque(described.target, args, kwargs, described.output, dtypes if any(dtypes) else ())
