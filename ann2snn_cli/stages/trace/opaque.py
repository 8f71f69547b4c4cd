"""Calls that no rule makes an op of: kept as they are, to be run by torch itself (SPEC 6)."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node as FxNode

from ann2snn_cli.ir import allowed
from ann2snn_cli.ir.ops import BatchSize, Opaque, Ref
from ann2snn_cli.ir.rules import Value, leaves
from ann2snn_cli.stages.trace.calls import target_of
from ann2snn_cli.stages.trace.common import type_of
from ann2snn_cli.stages.trace.draft import Draft

# A view needs the memory layout of the eager run, which we do not keep.
_VIEWS = dict.fromkeys(["aten.view.default", "aten._unsafe_view.default"], "aten.reshape.default")


def opaque(draft: Draft, call: FxNode, output: int | None = None) -> tuple[Opaque, tuple[Value, ...]]:
    """Give the call itself and what it reads; UnsupportedNetwork if its operator is not allowed.

    In its arguments values become `Ref`, and sizes that follow the batch `BatchSize`.
    """
    inputs: list[Value] = []

    def freeze(value: Any) -> Any:
        if isinstance(value, Value):
            if value not in inputs:
                inputs.append(value)
            return Ref(inputs.index(value))
        if isinstance(value, tuple):
            return tuple(freeze(item) for item in value)
        if isinstance(value, torch.device | torch.layout | torch.memory_format):
            return None
        return value

    args = tuple(freeze(draft.argument(value)) for value in call.args)
    named = ((key, freeze(draft.argument(value))) for key, value in call.kwargs.items())
    kwargs = tuple((key, value) for key, value in named if value is not None)
    if any(isinstance(leaf, BatchSize) for leaf in leaves((args, kwargs))):
        inputs.append(draft.first_input())
    target = target_of(call)
    allowed.check(target, args, dict(kwargs))
    dtypes = tuple(map(type_of, inputs))
    dtypes = dtypes if any(dtypes) else ()
    return Opaque(_VIEWS.get(target, target), args, kwargs, output, dtypes), tuple(inputs)
