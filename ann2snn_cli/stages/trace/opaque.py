"""Calls we have no op for: kept as they are, to be run by torch itself (SPEC 6)."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node as FxNode

from ann2snn_cli.errors import UnsupportedNetwork
from ann2snn_cli.ir.ops import Batch, Opaque, Ref
from ann2snn_cli.stages.trace.calls import batch_size, leaves, module_of, target_of
from ann2snn_cli.stages.trace.draft import Draft, Reading

# A view needs the memory layout of the eager run, which we do not keep.
_VIEWS = dict.fromkeys(["aten.view.default", "aten._unsafe_view.default"], "aten.reshape.default")


def opaque(draft: Draft, call: FxNode) -> Reading:
    """The call itself, with the values it reads as `Ref` and sizes that follow the batch as `Batch`."""
    inputs: list[FxNode] = []

    def freeze(value: Any) -> Any:
        if isinstance(value, FxNode):
            if value in draft.constants:
                return freeze(draft.constants[value])
            if value not in inputs:
                inputs.append(value)
            return Ref(inputs.index(value))
        if isinstance(value, list | tuple):
            return tuple(freeze(item) for item in value)
        if isinstance(value, torch.SymInt):
            return batch_size(value)
        if isinstance(value, torch.device | torch.layout | torch.memory_format):
            return None
        return value

    args = tuple(freeze(arg) for arg in call.args)
    kwargs = tuple((key, freeze(arg)) for key, arg in call.kwargs.items() if freeze(arg) is not None)
    if any(isinstance(leaf, Batch) for leaf in leaves((args, kwargs))):
        inputs.append(next(iter(draft.names)))  # the sample itself, last: it tells the size of the batch
    target = target_of(call)
    if target.count(".") != 2 or not isinstance(call.target, torch._ops.OpOverload):
        raise UnsupportedNetwork(
            f"the network calls {target}, which is no torch operator", where=module_of(call).label,
            remedy="express it with torch operators",
        )  # fmt: skip
    target = target if target.startswith("aten.") else _qualified(call)
    return Opaque(_VIEWS.get(target, target), args, kwargs), tuple(inputs)


def _qualified(call: FxNode) -> str:
    overload = call.target
    assert isinstance(overload, torch._ops.OpOverload)
    return f"{overload.namespace}.{overload._opname}.{overload._overloadname}"
