"""What one exported call says of itself: its operator, its module, its shape, its batch."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.fx import Node as FxNode

from ann2snn_cli.ir.ops import Batch

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Module:
    """Where in the user's network a call was made."""

    path: str  # "layer1.0"
    leaf: str  # the same where the module is torch's own (nn.Conv2d), else ""
    label: str  # what to show a user: the module, for a bare function call also its line


def module_of(call: FxNode) -> Module:
    """The module whose forward made the call."""
    stack = [entry for entry in call.meta.get("nn_module_stack", {}).values() if isinstance(entry, tuple)]
    if not stack:
        return Module("", "", "")
    path, kind = stack[-1]
    path = re.sub(r"@\d+", "", str(path)).removeprefix("L['self'].").removeprefix("L['self']")
    path = re.sub(r"_modules\['([^']+)'\]", r"\1", path).strip(".")
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    if kind.startswith("torch.nn.modules") and path:
        return Module(path, path, path)
    lines = re.findall(r'File "([^"]+)", line (\d+)', call.meta.get("stack_trace") or "")
    own = [f"{file.rsplit('/', 1)[-1]}:{line}" for file, line in lines if "/torch/" not in file]
    return Module(path, "", " ".join(filter(None, (path, f"({own[-1]})" if own else ""))))


def target_of(call: FxNode) -> str:
    """The operator's name, "aten.relu.default"."""
    return str(call.target)


def operator_of(call: FxNode) -> Callable[..., Any]:
    """The operator itself."""
    assert callable(call.target)
    return call.target


def source_of(call: FxNode) -> FxNode:
    """The value that the call acts on: its first argument."""
    source = call.args[0]
    assert isinstance(source, FxNode)
    return source


def shape_of(call: FxNode) -> Shape:
    """The shape of one sample of the result, sizes that follow the batch left out."""
    return tuple(size for size in call.meta["val"].shape[1:] if isinstance(size, int))


def batch_size(size: Any) -> int | Batch:
    """A size as a function of the batch: exported sizes are symbolic expressions, here at most linear."""
    if isinstance(size, int):
        return size
    expression = size.node.expr
    (symbol,) = expression.free_symbols
    offset = int(expression.subs(symbol, 0))
    return Batch(int(expression.subs(symbol, 1)) - offset, offset)


def keeps_batch(call: FxNode) -> bool:
    """Is the first axis of the result the batch, and no other axis touched by it?"""
    shape = call.meta["val"].shape
    if len(shape) == 0 or not all(isinstance(size, int) for size in shape[1:]):
        return False
    return not isinstance(shape[0], int) and batch_size(shape[0]) == Batch(1, 0)


def leaves(value: Any) -> list[Any]:
    """All that nested containers hold."""
    if isinstance(value, dict):
        return leaves(list(value.values()))
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


def ints(value: Any, rank: int) -> Shape:
    """A list of one or `rank` integers, as `rank` of them."""
    items = (value,) if isinstance(value, int) else tuple(value)
    return items * rank if len(items) == 1 else items
