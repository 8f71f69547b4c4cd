"""A SPIKING graph from anywhere: does it make sense? Only then may it be run, counted or written anew.

What a stage of ours made does; `ir/validate.py` holds that. What a file holds may be anything: this is the
one place that looks at all of it, and it allocates nothing that the graph merely claims.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from math import prod

import torch
from torch import Tensor

from ann2snn_cli.errors import Ann2SnnError, InvalidGraph
from ann2snn_cli.ir.allowed import refusal_of_tensor
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import (
    BatchSize,
    Gather,
    Input,
    Opaque,
    Population,
    Ref,
    Reshape,
    Synapse,
    named_tensors,
)
from ann2snn_cli.ir.precision import EXACT_FLOAT64

MOST_VALUES = 2**31  # that all layers pass on in a step
MOST_CREATED = 2**26  # by an operator of torch that reads nothing
MOST_FRACTION_BITS = 32
MOST_BITS = 32

_BATCHES = (2, 3)  # what differs between the two follows the batch

_NUMBERS = (torch.int64, torch.float32, torch.float64)  # sums of narrower integers would wrap
_WEIGHTS = (*_NUMBERS, torch.int8, torch.int16, torch.int32)  # these are cast before they are computed with


def refuse_implausible(graph: Graph) -> Graph:
    """The graph itself; InvalidGraph, naming the first layer, where its fields cannot be true."""
    if not graph.inputs or not graph.outputs:
        raise InvalidGraph("it has no input or no output")
    for node in graph.nodes:
        if why := next(_complaints(node), ""):
            raise InvalidGraph(f"{node.source or node.name}: {why}")
    if (values := sum(prod(node.shape) for node in graph.nodes)) > MOST_VALUES:
        raise InvalidGraph(f"its layers claim {values:,} values a step, more than {MOST_VALUES:,}")
    _refuse_other_shapes(graph)
    return graph


def _complaints(node: Node) -> Iterator[str]:
    """What cannot be true of one node, whatever it reads."""
    op = node.op
    kinds = () if isinstance(op, Opaque) else _NUMBERS  # an operator's own arguments may be of any type
    if not all(0 < size <= MOST_VALUES for size in node.shape):
        yield f"its shape is {node.shape}"
        return
    if node.unit is not None:
        yield from _of_unit(node.unit, node.shape)
    for name, tensor in named_tensors(op):
        taken = _WEIGHTS if isinstance(op, Synapse) and name == "weight" else kinds
        yield from (f"its {name} {why}" for why in _of_numbers(tensor, taken))
    if isinstance(op, Input) and not (op.unit is not None and op.unit > 0 and op.low <= op.high):
        yield f"its samples lie between {op.low} and {op.high}, by units of {op.unit}"
    if isinstance(op, Input) and max(abs(op.low), abs(op.high)) >= 2**31:
        yield f"its samples lie between {op.low} and {op.high}"
    if isinstance(op, Synapse):
        if op.bits is not None and not 1 <= op.bits <= MOST_BITS:
            yield f"its weights have {op.bits} bits"
        if op.multiplier is not None and not _spreads(op.multiplier, tuple(op.weight.shape)):
            yield "its multipliers do not fit its weights"
    if isinstance(op, Population) and not 0 <= op.fraction_bits <= MOST_FRACTION_BITS:
        yield f"it has {op.fraction_bits} fraction bits"
    if isinstance(op, Gather) and (op.index.dtype != torch.int64 or tuple(op.index.shape) != node.shape):
        yield f"its index is not one whole number for each of {node.shape}"


def _of_unit(unit: Tensor, shape: tuple[int, ...]) -> Iterator[str]:
    yield from (f"its unit {why}" for why in _of_numbers(unit))
    if not unit.is_floating_point() or not _spreads(unit, shape) or not bool((unit > 0).all()):
        yield "its unit is not a number above 0 for each value"


def _of_numbers(tensor: Tensor, kinds: Collection[torch.dtype] = _NUMBERS) -> Iterator[str]:
    if why := refusal_of_tensor(tensor):
        yield f"cannot be used: {why}"
        return
    if not kinds:
        return
    if tensor.dtype not in kinds:
        yield f"is of type {tensor.dtype}"
    elif tensor.numel() == 0:
        yield "is empty"
    elif tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        yield "holds NaN or infinite values"
    elif float(tensor.abs().max()) >= EXACT_FLOAT64 or (not tensor.is_floating_point() and _lowest(tensor)):
        yield "holds numbers of more than 53 bits"


def _lowest(tensor: Tensor) -> bool:
    """The lowest integer of all has no magnitude."""
    return bool((tensor == torch.iinfo(tensor.dtype).min).any())


def _spreads(tensor: Tensor, shape: tuple[int, ...]) -> bool:
    try:
        return tuple(tensor.expand(shape).shape) == shape
    except RuntimeError:
        return False


# Shapes --------------------------------------------------------------------------------------------


def _refuse_other_shapes(graph: Graph) -> None:
    """Each layer is asked for its sums of no samples: its shape must be that of what it then gives.

    An operator of torch is asked about two batches without values. What it gives may hold the batch on any
    axis, as inside a recurrent layer: other operators may read that, and nothing else.
    """
    opaque = graph.to("meta") if graph.of(Opaque) else graph
    elsewhere: dict[
        str, list[Tensor]
    ] = {}  # by node, for each of `_BATCHES`: the batch is not its first axis
    for node in graph.nodes:
        if isinstance(node.op, Input):
            continue
        if isinstance(node.op, Opaque):
            shape = _shape_of_opaque(opaque, opaque[node.name], elsewhere)
        else:
            _refuse_moved(node, node.inputs, elsewhere)
            shape = _shape(graph, node)
        if shape != node.shape:
            raise InvalidGraph(f"{node.source or node.name}: its shape is {node.shape}, it gives {shape}")
    for name in graph.outputs:
        _refuse_moved(graph[name], (name,), elsewhere)
    for node in graph.of(Reshape, Gather):
        size = prod(graph.fed_by(node)[0].shape)
        if isinstance(node.op, Reshape) and prod(node.shape) != size:
            raise InvalidGraph(
                f"{node.source or node.name}: its shape {node.shape} does not hold {size} values"
            )
        if isinstance(node.op, Gather) and bool(((node.op.index < -1) | (node.op.index >= size)).any()):
            raise InvalidGraph(f"{node.source or node.name}: its index points beyond what it reads")


def _refuse_moved(node: Node, read: Collection[str], elsewhere: Collection[str]) -> None:
    if not set(read).isdisjoint(elsewhere):
        raise InvalidGraph(f"{node.source or node.name}: it moves values between samples")


def _shape(graph: Graph, node: Node) -> tuple[int, ...]:
    """What the layer gives of no samples."""
    xs = [torch.empty(0, *read.shape, dtype=torch.float64) for read in graph.fed_by(node)]
    sums = _held(node, lambda: node.op.sums(xs, graph.place(node)))
    if sums is None:
        return node.shape
    if sums.dim() == 0 or len(sums) != 0:
        raise InvalidGraph(f"{node.source or node.name}: it moves values between samples")
    return tuple(sums.shape[1:])


def _shape_of_opaque(graph: Graph, node: Node, elsewhere: dict[str, list[Tensor]]) -> tuple[int, ...]:
    """What an operator gives of batches without values, but for the axes that follow the batch."""
    assert isinstance(node.op, Opaque)
    if _creates(node.op) > MOST_CREATED:
        raise InvalidGraph(f"{node.source or node.name}: it makes more than {MOST_CREATED:,} values")
    found: list[Tensor] = []
    for place, many in enumerate(_BATCHES):
        xs = [
            elsewhere[read.name][place]
            if read.name in elsewhere
            else torch.empty(many, *read.shape, device="meta", dtype=torch.float64)
            for read in graph.fed_by(node)
        ]
        sums = _held(node, partial(node.op.sums, xs, graph.place(node)))
        if sums is None:
            return node.shape
        found.append(sums)
    axes = list(zip(*(each.shape for each in found), strict=False))
    if found[0].dim() != found[1].dim() or all(size == other for size, other in axes):
        raise InvalidGraph(f"{node.source or node.name}: it moves values between samples")
    shape = tuple(size for size, other in axes[1:] if size == other)
    if axes[0] != _BATCHES or len(shape) != len(axes) - 1:
        elsewhere[node.name] = found
    return shape


def _creates(op: Opaque) -> float:
    """How many values an operator makes that reads none, about: it is given a list of sizes, or an end."""
    if any(isinstance(arg, Ref | Tensor | BatchSize) for arg in op.args):
        return 0
    sizes = next((arg for arg in op.args if isinstance(arg, tuple)), op.args)
    return prod(max(1.0, abs(size)) for size in sizes if isinstance(size, int | float))


def _held(node: Node, compute: Callable[[], Tensor]) -> Tensor | None:
    """The sums, or in words why there are none; None where nobody can tell without values."""
    try:
        return compute()
    except NotImplementedError:  # torch can run the operator, but not without values
        return None
    except (RuntimeError, ValueError, TypeError, LookupError, AssertionError, OverflowError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error, LookupError):
            first = "it has another number of axes or of inputs"
        raise InvalidGraph(f"{node.source or node.name}: it does not fit what it reads: {first}") from error
    except Ann2SnnError as error:
        raise InvalidGraph(f"{node.source or node.name}: {error.what}") from error
