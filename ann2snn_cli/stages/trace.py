"""Trace: any nn.Module -> Graph FLOAT, by torch.export. The only home of torch.export.

The exported program is a flat list of ATen calls with the user's module names attached. `_READERS` maps
each call to one of our ops; what has no reader becomes `Opaque` and is still run exactly.
"""

from __future__ import annotations

import math
import operator
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export
from torch.fx import Node as FxNode

from ann2snn_cli.errors import UnsupportedNetwork
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import (
    Add,
    AvgPool,
    Batch,
    BatchNorm,
    Concat,
    Conv,
    Gather,
    Input,
    Linear,
    MaxPool,
    Op,
    Opaque,
    Permute,
    Ref,
    Relu,
    Reshape,
    Scale,
)

Shape = tuple[int, ...]


def trace(network: nn.Module, input_shapes: Sequence[Shape]) -> Graph:
    """Gives FLOAT: the network in eval mode, op by op; `input_shapes` are those of one sample, by argument."""
    program = _export(network, input_shapes)
    reader = _Reader(program)
    for call in program.graph.nodes:
        reader.read(call)
    return Graph(tuple(reader.nodes), tuple(reader.outputs))


def _export(network: nn.Module, input_shapes: Sequence[Shape]) -> ExportedProgram:
    was_training = network.training
    parameter = next(network.parameters(), torch.zeros(()))
    samples = tuple(
        torch.zeros(2, *shape, dtype=parameter.dtype, device=parameter.device) for shape in input_shapes
    )
    network.eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.export's own deprecations are not the user's concern
            _try_eager(network, samples)
            program = export(network, samples, dynamic_shapes=tuple({0: Dim.DYNAMIC} for _ in samples))
            return program.run_decompositions({})
    except UnsupportedNetwork:
        raise
    except Exception as error:
        raise UnsupportedNetwork(
            f"the network cannot be exported: {_first_line(error)}",
            where=_user_line(error, network),
            remedy="forward() must not branch on values (`if x.sum() > 0`, `.item()`) or on the batch size; "
            "use torch.where, or split the network at that point",
        ) from error
    finally:
        network.train(was_training)


def _try_eager(network: nn.Module, samples: tuple[Tensor, ...]) -> None:
    """Run once as it is: what fails here is the network or the shape, not the export."""
    try:
        with torch.no_grad():
            network(*samples)
    except Exception as error:
        shapes = ", ".join(str(tuple(sample.shape[1:])) for sample in samples)
        raise UnsupportedNetwork(
            f"the network does not run on samples of shape {shapes}: {_first_line(error)}",
            where=_user_line(error, network),
            remedy="check the network against the dataset's shape (ann2snn ls shows both)",
        ) from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def _user_line(error: BaseException, network: nn.Module) -> str:
    """The innermost line of the traceback that is not torch's or ours; torch.export quotes one in its message."""
    if quoted := re.findall(r'File "([^"]+)", line (\d+), in (\w+)', str(error)):
        own = [place for place in quoted if "/torch/" not in place[0]]
        if own:
            path, line, function = own[-1]
            return f"{path}:{line} in {function}"
    place, trace_back = type(network).__name__, error.__traceback__
    while trace_back is not None:
        path = trace_back.tb_frame.f_code.co_filename
        if "/torch/" not in path and path != __file__ and not path.startswith("<"):
            place = f"{path}:{trace_back.tb_lineno} in {trace_back.tb_frame.f_code.co_name}"
        trace_back = trace_back.tb_next
    return place


@dataclass
class _Reader:
    """Walks the exported calls and collects our nodes; each call's value is a node's name or a constant."""

    program: ExportedProgram
    nodes: list[Node] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    names: dict[FxNode, str] = field(default_factory=dict)
    constants: dict[FxNode, Any] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)

    def read(self, call: FxNode) -> None:
        """Read one call of the exported program."""
        if call.op == "placeholder":
            self._placeholder(call)
        elif call.op == "output":
            self._outputs(call)
        elif call.op == "get_attr":
            self.constants[call] = _attribute(self.program, str(call.target))
        elif call.target is operator.getitem:
            self._item(call)
        elif all(source in self.constants for source in call.all_input_nodes):
            self._constant(call)
        elif not isinstance(call.meta.get("val"), Tensor):
            self._shape_or_tuple(call)
        else:
            self._emit(call, *_READERS.get(_target(call), _opaque)(self, call))

    # what a call refers to

    def value(self, argument: Any) -> Any:
        """An argument with constants filled in; a node of the graph stays an fx node."""
        if isinstance(argument, FxNode):
            return self.constants.get(argument, argument)
        if isinstance(argument, list | tuple):
            return tuple(self.value(item) for item in argument)
        return argument

    def arguments(self, call: FxNode) -> dict[str, Any]:
        """The call's arguments by the names in the operator's schema, defaults filled in."""
        schema = call.target._schema  # type: ignore[union-attr]
        values = {item.name: item.default_value for item in schema.arguments if item.has_default_value()}
        values.update({item.name: arg for item, arg in zip(schema.arguments, call.args, strict=False)})
        values.update(call.kwargs)
        return {name: self.value(value) for name, value in values.items()}

    def is_value(self, argument: Any) -> bool:
        """Is this the value of a node of our graph?"""
        return isinstance(argument, FxNode) and argument in self.names

    # the kinds of calls

    def _placeholder(self, call: FxNode) -> None:
        signature = self.program.graph_signature
        for table in (signature.inputs_to_parameters, signature.inputs_to_buffers):
            if call.name in table:
                self.constants[call] = _state(self.program, table[call.name])
                return
        if call.name in signature.inputs_to_lifted_tensor_constants:
            self.constants[call] = self.program.constants[
                signature.inputs_to_lifted_tensor_constants[call.name]
            ]
            return
        self.names[call] = self._add(Input(), (), _shape(call), call.name, call.name)

    def _outputs(self, call: FxNode) -> None:
        (results,) = call.args
        for result in results if isinstance(results, list | tuple) else (results,):
            if isinstance(result, FxNode) and result in self.names:
                self.outputs.append(self.names[result])
        if not self.outputs:
            raise UnsupportedNetwork(
                "the network's output does not depend on its input", remedy="return what the layers computed"
            )

    def _constant(self, call: FxNode) -> None:
        target: Callable[..., Any] = call.target  # type: ignore[assignment]
        with torch.no_grad():
            args = torch.fx.node.map_arg(call.args, lambda source: self.constants[source])
            kwargs = torch.fx.node.map_arg(call.kwargs, lambda source: self.constants[source])
            if any(isinstance(value, Batch) for value in _leaves((args, kwargs))):
                self._batch_sized(call)
            else:
                self.constants[call] = target(*args, **kwargs)

    def _batch_sized(self, call: FxNode) -> None:
        """A size computed from the batch, or a constant repeated for each sample of it."""
        result = call.meta.get("val")
        if isinstance(result, Tensor):
            self._emit(call, *_opaque(self, call))
        else:
            self.constants[call] = _batch(result)

    def _shape_or_tuple(self, call: FxNode) -> None:
        result = call.meta.get("val")
        if isinstance(result, int | torch.SymInt):
            self.constants[call] = _batch(result)
        # else a tuple of tensors: read where an item of it is taken

    def _item(self, call: FxNode) -> None:
        source, index = call.args
        assert isinstance(source, FxNode) and isinstance(index, int)
        if source in self.constants:
            self.constants[call] = self.constants[source][index]
            return
        reader = _ITEM_READERS.get(_target(source))
        if reader is not None and (index == 0 or reader is _split):
            self._emit(call, *reader(self, source, index))
            return
        op, inputs = _opaque(self, source)
        assert isinstance(op, Opaque)
        self._emit(call, Opaque(op.target, op.args, op.kwargs, index), inputs)

    # our nodes

    def _emit(self, call: FxNode, op: Op | None, inputs: tuple[FxNode, ...]) -> None:
        if op is None:  # the call hands on its input: dropout in eval mode, contiguous, clone
            self.names[call] = self.names[inputs[0]]
            return
        source = _module(call)
        own = call.target is operator.getitem and not isinstance(op, Gather)
        base = str(call.args[0].name) if own and isinstance(call.args[0], FxNode) else call.name
        name = source.leaf or ".".join(filter(None, (source.path, re.sub(r"_\d+$", "", base))))
        self.names[call] = self._add(
            op, tuple(self.names[item] for item in inputs), _shape(call), name, source.label
        )

    def _add(self, op: Op, inputs: tuple[str, ...], shape: Shape, name: str, source: str) -> str:
        unique, again = name, 2
        while unique in self.shapes:
            unique, again = f"{name}:{again}", again + 1
        self.nodes.append(Node(unique, op, inputs, shape, source))
        self.shapes[unique] = shape
        return unique


# Names, shapes and constants -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Module:
    path: str  # "layer1.0"
    leaf: str  # the same where the module is torch's own (nn.Conv2d), else ""
    label: str  # what to show a user: the module, for a bare function call also its line


def _module(call: FxNode) -> _Module:
    stack = [entry for entry in call.meta.get("nn_module_stack", {}).values() if isinstance(entry, tuple)]
    if not stack:
        return _Module("", "", "")
    path, kind = stack[-1]
    path = re.sub(r"@\d+", "", str(path)).removeprefix("L['self'].").removeprefix("L['self']")
    path = re.sub(r"_modules\['([^']+)'\]", r"\1", path).strip(".")
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    if kind.startswith("torch.nn.modules") and path:
        return _Module(path, path, path)
    lines = [line for line in re.findall(r'File "([^"]+)", line (\d+)', call.meta.get("stack_trace") or "")]
    own = [f"{file.rsplit('/', 1)[-1]}:{line}" for file, line in lines if "/torch/" not in file]
    return _Module(path, "", " ".join(filter(None, (path, f"({own[-1]})" if own else ""))))


def _target(call: FxNode) -> str:
    return str(call.target)


def _shape(call: FxNode) -> Shape:
    shape = call.meta["val"].shape
    if len(shape) == 0 or isinstance(shape[0], int) or not all(isinstance(size, int) for size in shape[1:]):
        batch = _batch(shape[0]) if len(shape) else None
        if batch is None or any(not isinstance(size, int) for size in shape[1:]):
            return tuple(int(size) for size in shape[1:] if isinstance(size, int))
    return tuple(int(size) for size in shape[1:])


def _batch(size: Any) -> int | Batch:
    """A size as a function of the batch: exported sizes are symbolic expressions, here at most linear."""
    if isinstance(size, int):
        return size
    expression = size.node.expr
    (symbol,) = expression.free_symbols
    offset = int(expression.subs(symbol, 0))
    return Batch(int(expression.subs(symbol, 1)) - offset, offset)


def _keeps_batch(call: FxNode) -> bool:
    """Is the first axis of the result the batch, and no other axis touched by it?"""
    shape = call.meta["val"].shape
    if len(shape) == 0 or not all(isinstance(size, int) for size in shape[1:]):
        return False
    return not isinstance(shape[0], int) and _batch(shape[0]) == Batch(1, 0)


def _state(program: ExportedProgram, name: str) -> Tensor:
    state = program.state_dict[name] if name in program.state_dict else program.constants[name]
    return state.detach()


def _attribute(program: ExportedProgram, target: str) -> Any:
    value: Any = program.graph_module
    for part in target.split("."):
        value = getattr(value, part)
    return value


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return _leaves(list(value.values()))
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]


# Readers: one for each ATen call we have an op for -------------------------------------------------

_Reading = tuple[Op | None, tuple[FxNode, ...]]


def _ints(value: Any, rank: int) -> Shape:
    """A list of one or `rank` integers, as `rank` of them."""
    items = (value,) if isinstance(value, int) else tuple(value)
    return items * rank if len(items) == 1 else items


def _conv(reader: _Reader, call: FxNode) -> _Reading:
    a = reader.arguments(call)
    if isinstance(a["weight"], FxNode) or (isinstance(a["bias"], FxNode) and reader.is_value(a["bias"])):
        return _opaque(reader, call)
    rank = a["weight"].dim() - 2
    dilation, padding = _ints(a["dilation"], rank), a["padding"]
    if isinstance(padding, str):
        total = [d * (k - 1) for d, k in zip(dilation, a["weight"].shape[2:], strict=True)]
        if padding == "same" and any(extent % 2 for extent in total):
            return _opaque(reader, call)  # torch pads one side more: rare, and exact as it is
        padding = [extent // 2 for extent in total] if padding == "same" else [0] * rank
    op = Conv(
        a["weight"], a["bias"], _ints(a["stride"], rank), _ints(padding, rank), dilation, a["groups"],
        output_padding=(0,) * rank,
    )  # fmt: skip
    return op, (call.args[0],)  # type: ignore[return-value]


def _conv_transposed(reader: _Reader, call: FxNode) -> _Reading:
    a = reader.arguments(call)
    if isinstance(a["weight"], FxNode):
        return _opaque(reader, call)
    rank = a["weight"].dim() - 2
    op = Conv(
        a["weight"],
        a["bias"],
        _ints(a["stride"], rank),
        _ints(a["padding"], rank),
        _ints(a["dilation"], rank),
        a["groups"],
        transposed=True,
        output_padding=_ints(a["output_padding"], rank),
    )
    return op, (call.args[0],)  # type: ignore[return-value]


def _linear(reader: _Reader, call: FxNode) -> _Reading:
    a = reader.arguments(call)
    if not isinstance(a["weight"], Tensor) or not _keeps_batch(call) or a["weight"].dim() != 2:
        return _opaque(reader, call)
    return Linear(a["weight"], a["bias"]), (a["input"],)


def _batch_norm(reader: _Reader, call: FxNode, index: int = 0) -> _Reading:
    a = reader.arguments(call)
    mean, var = a["running_mean"], a["running_var"]
    if not isinstance(mean, Tensor) or not isinstance(var, Tensor):
        return _opaque(reader, call)
    weight = a["weight"] if a["weight"] is not None else torch.ones_like(mean)
    bias = a["bias"] if a["bias"] is not None else torch.zeros_like(mean)
    return BatchNorm(weight, bias, mean, var, float(a["eps"])), (a["input"],)


def _relu(reader: _Reader, call: FxNode) -> _Reading:
    return Relu(), (call.args[0],)  # type: ignore[return-value]


def _relu6(reader: _Reader, call: FxNode) -> _Reading:
    return Relu(limit=6.0), (call.args[0],)  # type: ignore[return-value]


def _clamp(low: str, high: str) -> Callable[[_Reader, FxNode], _Reading]:
    """clamp(0, c) and hardtanh(0, c) are rectifiers with a limit; other ranges are not."""

    def read(reader: _Reader, call: FxNode) -> _Reading:
        a = reader.arguments(call)
        floor, top = a.get(low), a.get(high)
        if floor != 0 or isinstance(top, FxNode | Tensor) or (top is not None and top <= 0):
            return _opaque(reader, call)
        limit = None if top is None or math.isinf(top) else float(top)
        return Relu(limit=limit), (call.args[0],)  # type: ignore[return-value]

    return read


def _add(reader: _Reader, call: FxNode) -> _Reading:
    a = reader.arguments(call)
    left, right = a["self"], a["other"]
    if a.get("alpha", 1) != 1 or not _keeps_batch(call):
        return _opaque(reader, call)
    if reader.is_value(left) and reader.is_value(right):
        same = left.meta["val"].shape == right.meta["val"].shape
        return (Add(), (left, right)) if same else _opaque(reader, call)
    value, constant = (left, right) if reader.is_value(left) else (right, left)
    return _affine(reader, call, value, 1.0, constant)


def _sub(reader: _Reader, call: FxNode) -> _Reading:
    a = reader.arguments(call)
    if a.get("alpha", 1) == 1 and not reader.is_value(a["other"]):
        return _affine(reader, call, a["self"], 1.0, -a["other"])
    return _opaque(reader, call)


def _mul(reader: _Reader, call: FxNode) -> _Reading:
    a = reader.arguments(call)
    left, right = a["self"], a["other"]
    if reader.is_value(left) and reader.is_value(right):
        return _opaque(reader, call)
    value, constant = (left, right) if reader.is_value(left) else (right, left)
    return _affine(reader, call, value, constant, 0.0)


def _div(reader: _Reader, call: FxNode) -> _Reading:
    a = reader.arguments(call)
    if reader.is_value(a["self"]) and not reader.is_value(a["other"]):
        return _affine(reader, call, a["self"], 1.0 / a["other"], 0.0)
    return _opaque(reader, call)


def _affine(reader: _Reader, call: FxNode, value: Any, weight: Any, bias: Any) -> _Reading:
    """w·x + b with constants that broadcast to one sample: a `Scale`."""
    same_shape = reader.is_value(value) and value.meta["val"].shape == call.meta["val"].shape
    if (
        not same_shape
        or not _keeps_batch(call)
        or any(isinstance(item, FxNode | Batch) for item in (weight, bias))
    ):
        return _opaque(reader, call)
    shape = _shape(call)
    terms = [torch.as_tensor(term, dtype=torch.get_default_dtype()) for term in (weight, bias)]
    terms = [term[0] if term.dim() == len(shape) + 1 and term.shape[0] == 1 else term for term in terms]
    if any(term.dim() > len(shape) for term in terms):
        return _opaque(reader, call)
    weight, bias = (term.reshape(*[1] * (len(shape) - term.dim()), *term.shape) for term in terms)
    return Scale(weight, bias if bool((bias != 0).any()) else None), (value,)


def _concat(reader: _Reader, call: FxNode) -> _Reading:
    a = reader.arguments(call)
    if a["dim"] % call.meta["val"].dim() != 1 or not all(reader.is_value(item) for item in a["tensors"]):
        return _opaque(reader, call)
    return Concat(), a["tensors"]


def _avg_pool(reader: _Reader, call: FxNode) -> _Reading:
    a = reader.arguments(call)
    rank = call.meta["val"].dim() - 2
    kernel = _ints(a["kernel_size"], rank)
    stride = _ints(a["stride"], rank) if a["stride"] else kernel
    padding = _ints(a["padding"], rank)
    divides_by_area = a["count_include_pad"] or not any(padding)
    if not divides_by_area or a["ceil_mode"] or a.get("divisor_override") is not None:
        return _opaque(reader, call)
    return AvgPool(kernel, stride, padding), (a["self"],)


def _adaptive_avg_pool(reader: _Reader, call: FxNode) -> _Reading:
    """Windows of one size where the input divides evenly; else they differ and it stays as it is."""
    a = reader.arguments(call)
    source = a["self"].meta["val"].shape[2:]
    target = call.meta["val"].shape[2:]
    if any(not isinstance(size, int) for size in (*source, *target)) or any(
        n % m for n, m in zip(source, target, strict=True)
    ):
        return _opaque(reader, call)
    kernel = tuple(n // m for n, m in zip(source, target, strict=True))
    return AvgPool(kernel, kernel, (0,) * len(kernel)), (a["self"],)


def _mean(reader: _Reader, call: FxNode) -> _Reading:
    """The mean over all spatial axes is average pooling (with the axes dropped, a reshape would follow)."""
    a = reader.arguments(call)
    shape = a["self"].meta["val"].shape
    axes = sorted(axis % len(shape) for axis in a["dim"] or ())
    if axes != list(range(2, len(shape))) or len(shape) not in (3, 4, 5) or not a["keepdim"]:
        return (
            _opaque(reader, call)
            if a["keepdim"] or axes != list(range(2, len(shape)))
            else _mean_dropped(reader, call)
        )
    kernel = tuple(int(size) for size in shape[2:])
    return AvgPool(kernel, kernel, (0,) * len(kernel)), (a["self"],)


def _mean_dropped(reader: _Reader, call: FxNode) -> _Reading:
    """x.mean((2, 3)): the pooling is its own node, the reshape carries the call's name."""
    source = call.args[0]
    assert isinstance(source, FxNode)
    shape = source.meta["val"].shape
    if len(shape) not in (3, 4, 5):
        return _opaque(reader, call)
    kernel = tuple(int(size) for size in shape[2:])
    module = _module(call)
    pool = reader._add(
        AvgPool(kernel, kernel, (0,) * len(kernel)),
        (reader.names[source],),
        (int(shape[1]), *[1] * len(kernel)),
        ".".join(filter(None, (module.path, "mean"))),
        module.label,
    )
    reader.names[call] = pool
    return Reshape(), (call,)


def _max_pool(reader: _Reader, call: FxNode, index: int = 0) -> _Reading:
    a = reader.arguments(call)
    rank = (
        len(
            call.meta["val"][0].shape
            if isinstance(call.meta["val"], tuple | list)
            else call.meta["val"].shape
        )
        - 2
    )
    kernel = _ints(a["kernel_size"], rank)
    stride = _ints(a["stride"], rank) if a["stride"] else kernel
    op = MaxPool(kernel, stride, _ints(a["padding"], rank), _ints(a["dilation"], rank), bool(a["ceil_mode"]))
    return op, (a["self"],)


def _reshape(reader: _Reader, call: FxNode) -> _Reading:
    source = call.args[0]
    assert isinstance(source, FxNode)
    if not _keeps_batch(call) or not _keeps_batch(source):
        return _opaque(reader, call)
    return (None if _shape(call) == _shape(source) else Reshape()), (source,)


def _permute(reader: _Reader, call: FxNode) -> _Reading:
    a = reader.arguments(call)
    rank = call.meta["val"].dim()
    if "dims" in a:
        order = [axis % rank for axis in a["dims"]]
    else:
        order = list(range(rank))
        first, second = a["dim0"] % rank, a["dim1"] % rank
        order[first], order[second] = order[second], order[first]
    if order[0] != 0 or not _keeps_batch(call):
        return _opaque(reader, call)
    return Permute(tuple(axis - 1 for axis in order[1:])), (a["self"],)


def _same(reader: _Reader, call: FxNode) -> _Reading:
    return None, (call.args[0],)  # type: ignore[return-value]


def _cast(reader: _Reader, call: FxNode) -> _Reading:
    kept = call.meta["val"].dtype == call.args[0].meta["val"].dtype  # type: ignore[union-attr]
    return _same(reader, call) if kept else _opaque(reader, call)


def _dropout(reader: _Reader, call: FxNode) -> _Reading:
    return _opaque(reader, call) if reader.arguments(call)["train"] else _same(reader, call)


def _move(reader: _Reader, call: FxNode) -> _Reading:
    """Run the call on the positions themselves: what comes out says where each value came from."""
    source = call.args[0]
    assert isinstance(source, FxNode)
    if not _keeps_batch(call) or not _keeps_batch(source) or call.all_input_nodes != [source]:
        return _opaque(reader, call)
    shape = _shape(source)
    places = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64).reshape(1, *shape)  # 0 marks padding
    target: Callable[..., Tensor] = call.target  # type: ignore[assignment]
    moved = target(
        places, *reader.value(call.args[1:]), **{k: reader.value(v) for k, v in call.kwargs.items()}
    )
    if tuple(moved.shape) != (1, *_shape(call)):
        return _opaque(reader, call)
    index = moved[0].to(torch.int64) - 1
    if moved.shape == places.shape and bool((index.flatten() == torch.arange(index.numel())).all()):
        return None, (source,)
    return Gather(index), (source,)


def _pad(reader: _Reader, call: FxNode) -> _Reading:
    a = reader.arguments(call)
    return _move(reader, call) if a.get("value") in (None, 0, 0.0) else _opaque(reader, call)


def _split(reader: _Reader, call: FxNode, index: int) -> _Reading:
    """One piece of a split or chunk: a slice."""
    source = call.args[0]
    assert isinstance(source, FxNode)
    a = reader.arguments(call)
    if a.get("dim", 0) == 0 or not _keeps_batch(source):
        op, inputs = _opaque(reader, call)
        assert isinstance(op, Opaque)
        return Opaque(op.target, op.args, op.kwargs, index), inputs
    shape = _shape(source)
    places = torch.arange(math.prod(shape)).reshape(1, *shape)
    target: Callable[..., Sequence[Tensor]] = call.target  # type: ignore[assignment]
    piece = target(places, *reader.value(call.args[1:]), **call.kwargs)[index]
    return Gather(piece[0]), (source,)


def _opaque(reader: _Reader, call: FxNode) -> _Reading:
    inputs: list[FxNode] = []

    def freeze(value: Any) -> Any:
        if isinstance(value, FxNode):
            if value in reader.constants:
                return freeze(reader.constants[value])
            if value not in inputs:
                inputs.append(value)
            return Ref(inputs.index(value))
        if isinstance(value, list | tuple):
            return tuple(freeze(item) for item in value)
        if isinstance(value, torch.SymInt):
            return _batch(value)
        if isinstance(value, torch.device | torch.layout | torch.memory_format):
            return None
        return value

    args = tuple(freeze(arg) for arg in call.args)
    kwargs = tuple((key, freeze(arg)) for key, arg in call.kwargs.items() if freeze(arg) is not None)
    if any(isinstance(leaf, Batch) for leaf in _leaves((args, kwargs))):
        inputs.append(next(iter(reader.names)))  # the sample itself, last: it tells the size of the batch
    target = _target(call)
    if target.count(".") != 2 or not isinstance(call.target, torch._ops.OpOverload):
        raise UnsupportedNetwork(
            f"the network calls {target}, which is no torch operator", where=_module(call).label,
            remedy="express it with torch operators",
        )  # fmt: skip
    target = target if target.startswith("aten.") else _qualified(call)
    return Opaque(_VIEWS.get(target, target), args, kwargs), tuple(inputs)


# A view needs the memory layout of the eager run, which we do not keep.
_VIEWS = dict.fromkeys(["aten.view.default", "aten._unsafe_view.default"], "aten.reshape.default")


def _qualified(call: FxNode) -> str:
    overload = call.target
    assert isinstance(overload, torch._ops.OpOverload)
    return f"{overload.namespace}.{overload._opname}.{overload._overloadname}"


_READERS: dict[str, Callable[[_Reader, FxNode], _Reading]] = {
    **dict.fromkeys(["aten.conv1d.default", "aten.conv2d.default", "aten.conv3d.default"], _conv),
    **dict.fromkeys(["aten.conv1d.padding", "aten.conv2d.padding", "aten.conv3d.padding"], _conv),
    "aten.conv_transpose1d.default": _conv_transposed,
    "aten.conv_transpose2d.input": _conv_transposed,
    "aten.conv_transpose3d.input": _conv_transposed,
    "aten.linear.default": _linear,
    "aten.batch_norm.default": _batch_norm,
    "aten.relu.default": _relu,
    "aten.relu6.default": _relu6,
    "aten.hardtanh.default": _clamp("min_val", "max_val"),
    "aten.clamp.default": _clamp("min", "max"),
    "aten.clamp_min.default": _clamp("min", "max"),
    "aten.add.Tensor": _add,
    "aten.sub.Tensor": _sub,
    "aten.mul.Tensor": _mul,
    "aten.div.Tensor": _div,
    "aten.cat.default": _concat,
    **dict.fromkeys([f"aten.avg_pool{n}d.default" for n in (1, 2, 3)], _avg_pool),
    **dict.fromkeys([f"aten.adaptive_avg_pool{n}d.default" for n in (1, 2, 3)], _adaptive_avg_pool),
    "aten.mean.dim": _mean,
    **dict.fromkeys([f"aten.max_pool{n}d.default" for n in (1, 2, 3)], _max_pool),
    **dict.fromkeys(["aten.view.default", "aten.reshape.default", "aten._unsafe_view.default"], _reshape),
    **dict.fromkeys(["aten.flatten.using_ints", "aten.unflatten.int"], _reshape),
    **dict.fromkeys(["aten.squeeze.dim", "aten.squeeze.dims", "aten.squeeze.default"], _reshape),
    "aten.unsqueeze.default": _reshape,
    **dict.fromkeys(["aten.permute.default", "aten.transpose.int"], _permute),
    **dict.fromkeys(
        ["aten.slice.Tensor", "aten.select.int", "aten.flip.default", "aten.roll.default"], _move
    ),
    **dict.fromkeys(["aten.expand.default", "aten.repeat.default", "aten.narrow.int"], _move),
    **dict.fromkeys(["aten.pixel_shuffle.default", "aten.pixel_unshuffle.default"], _move),
    **dict.fromkeys(["aten.channel_shuffle.default", "aten.upsample_nearest2d.vec"], _move),
    **dict.fromkeys(["aten.upsample_nearest1d.vec", "aten.upsample_nearest3d.vec"], _move),
    **dict.fromkeys(
        [f"aten.{kind}_pad{n}d.default" for kind in ("reflection", "replication") for n in (1, 2, 3)], _move
    ),
    **dict.fromkeys(["aten.constant_pad_nd.default", "aten.pad.default"], _pad),
    **dict.fromkeys(["aten.clone.default", "aten.contiguous.default", "aten.alias.default"], _same),
    **dict.fromkeys(["aten.lift_fresh_copy.default", "aten.detach.default", "aten.identity.default"], _same),
    **dict.fromkeys(["aten._to_copy.default", "aten.to.dtype", "aten.type_as.default"], _cast),
    **dict.fromkeys(
        ["aten.dropout.default", "aten.feature_dropout.default", "aten.alpha_dropout.default"], _dropout
    ),
}

# Calls that give a tuple, of which the network takes items.
_ITEM_READERS: dict[str, Callable[[_Reader, FxNode, int], _Reading]] = {
    "aten._native_batch_norm_legit_no_training.default": _batch_norm,
    **dict.fromkeys([f"aten.max_pool{n}d_with_indices.default" for n in (1, 2, 3)], _max_pool),
    **dict.fromkeys(["aten.split.Tensor", "aten.split_with_sizes.default", "aten.chunk.default"], _split),
}
