"""What one exported call says of itself: its operator, its module, its result."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Node as FxNode

from ann2snn_cli.errors import UnsupportedNetwork
from ann2snn_cli.ir.ops import BatchSize
from ann2snn_cli.ir.rules import Value
from ann2snn_cli.stages.trace.forms import widened

_LAYERS = ("torch.nn.modules", "torch.nn.utils.parametrize.Parametrized", "torch.ao.nn")  # torch's own


@dataclass(frozen=True)
class Module:
    """Where in the user's network a call was made."""

    path: str  # "layer1.0"
    leaf: str  # the same where the module is torch's own (nn.Conv2d), else ""
    label: str  # what to show a user: the module, for a bare function call also its line


def module_of(call: FxNode) -> Module:
    """Find the module whose forward made the call."""
    stack = [entry for entry in call.meta.get("nn_module_stack", {}).values() if isinstance(entry, tuple)]
    if not stack:
        return Module("", "", "")
    path, kind = stack[-1]
    path = re.sub(r"@\d+", "", str(path)).removeprefix("L['self'].").removeprefix("L['self']")
    path = re.sub(r"_modules\['([^']+)'\]", r"\1", path).strip(".")
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    if kind.startswith(_LAYERS) and path:
        return Module(path, path, path)
    lines = re.findall(r'File "([^"]+)", line (\d+)', call.meta.get("stack_trace") or "")
    own = [f"{file.rsplit('/', 1)[-1]}:{line}" for file, line in lines if "/torch/" not in file]
    return Module(path, "", " ".join(filter(None, (path, f"({own[-1]})" if own else ""))))


def target_of(call: FxNode) -> str:
    """Name the operator: "aten.relu.default"."""
    overload = call.target
    if isinstance(overload, torch._ops.OpOverload):
        return f"{overload.namespace}.{overload._opname}.{overload._overloadname}"
    return str(overload)


def result_of(call: FxNode) -> Value:
    """Describe the tensor that the call gives; sizes that follow the batch are left out of the shape."""
    tensor = call.meta["val"]
    sizes = tuple(size for size in tensor.shape[1:] if isinstance(size, int))
    keeps = tensor.dim() == len(sizes) + 1 and _is_batch(tensor.shape[0])
    return Value(sizes, widened(tensor.dtype), keeps)


def _is_batch(size: Any) -> bool:
    return isinstance(size, torch.SymInt) and size.node.expr.is_Symbol


def batch_size(size: Any) -> int | BatchSize:
    """Read a size as a function of the batch: exported sizes are expressions of it, here at most linear."""
    if isinstance(size, int):
        return size
    expression = size.node.expr
    if len(expression.free_symbols) != 1:
        raise UnsupportedNetwork(
            "the batches of several inputs are joined to one",
            remedy="call the layers once for each input, and join what they give: torch.cat([f(a), f(b)], 1)",
        )
    (symbol,) = expression.free_symbols
    offset = int(expression.subs(symbol, 0))
    return BatchSize(int(expression.subs(symbol, 1)) - offset, offset)
