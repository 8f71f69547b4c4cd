"""Rules: what a call of a torch operator becomes. This is where activations plug in.

A rule is a function of one `Call`. It gives one of

    an op       the call is this op, and reads what the call reads
    a value     what `call.add(...)` gave: a small composition; or `call.input`: the call changes nothing
    None        there is nothing to say: the call stays `Opaque`, and torch itself runs it

How the op is calibrated, what neurons it becomes and how large it can get are methods of the op's class, so a
rule may also give an op of a class of its own. A file of rules is plain Python:

    from ann2snn_cli.ir.ops import Add, Relu

    def leaky(call):
        "LeakyReLU is relu(x) - slope·relu(-x): two populations."
        slope = call["negative_slope"]
        positive = call.add(Relu(), call.input)
        negative = call.add(Relu(), call.scale(call.input, -1.0))
        return call.add(Add(), positive, call.scale(negative, -slope))

    RULES = {"aten.leaky_relu.default": leaky}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from ann2snn_cli.errors import InvalidGraph, UsageError
from ann2snn_cli.ir.ops import Gather, Op, Scale, map_tensors
from ann2snn_cli.types import Shape

_Entry = TypeVar("_Entry")


@dataclass(frozen=True, eq=False)
class Value:
    """What a call reads or gives: the value of one node."""

    shape: Shape  # of one sample: [channels, ...], the batch is left out
    dtype: torch.dtype = torch.float32
    keeps_batch: bool = True  # its first axis is the batch, and no other axis depends on the batch


@dataclass(frozen=True, eq=False)
class Added:
    """A node that a rule added."""

    op: Op
    inputs: tuple[Value, ...]
    value: Value


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a torch operator in the network, as its rule sees it.

    An argument is a `Value` where it depends on the sample, else what the network gave: a tensor, a number, a
    tuple; a size that follows the batch is a `BatchSize`.
    """

    target: str  # "aten.leaky_relu.default"
    arguments: Mapping[str, Any]  # by the names in torch's schema of the operator, defaults filled in
    result: Value
    output: int | None = None  # which one is asked for, of an operator that gives several results
    source: str = ""  # the layer, in the user's words
    added: list[Added] = field(default_factory=list)
    makers: Mapping[Value, Call] = field(
        default_factory=dict, repr=False
    )  # of values read so far, their calls

    def __getitem__(self, name: str) -> Any:
        """An argument by its name in torch's schema."""
        if name not in self.arguments:
            there_are = ", ".join(self.arguments)
            raise UsageError(
                f"{self.target} has no argument {name!r}",
                where=self.source,
                remedy=f"choose from: {there_are}",
            )
        return self.arguments[name]

    @property
    def inputs(self) -> tuple[Value, ...]:
        """The values that the call reads, each once, in the order of its arguments."""
        return tuple(dict.fromkeys(leaf for leaf in leaves(dict(self.arguments)) if isinstance(leaf, Value)))

    @property
    def input(self) -> Value:
        """The first value that the call reads: what an activation is applied to."""
        return self.inputs[0]

    @property
    def shape(self) -> Shape:
        """The shape of one sample of the result."""
        return self.result.shape

    @property
    def keeps_batch(self) -> bool:
        """Is the first axis of the result the batch, and no other axis touched by it?"""
        return self.result.keeps_batch

    def maker(self, value: Any) -> Call | None:
        """The call that gave a value; None for the sample, and for what a rule added on the way."""
        return self.makers.get(value) if isinstance(value, Value) else None

    def add(self, op: Op, *inputs: Value, shape: Shape | None = None) -> Value:
        """Add a node that reads `inputs`; `shape` is needed where the op does not tell it (`Reshape`)."""
        if strangers := [type(each).__name__ for each in inputs if not isinstance(each, Value)]:
            raise UsageError(
                f"{op.kind} is to read a {strangers[0]}, which is no value of the network",
                where=self.source,
                remedy="add() takes an op and the values it reads: call.input, or what add() gave",
            )
        given = shape_after(op, [each.shape for each in inputs], shape, self.source)
        value = Value(given, self.result.dtype, all(each.keeps_batch for each in inputs))
        self.added.append(Added(op, inputs, value))
        return value

    def scale(self, value: Value, weight: Any, bias: Any = 0.0) -> Value:
        """Add weight·value + bias; both are numbers, or tensors that broadcast to one sample."""
        factor, shift = (torch.as_tensor(term, dtype=value.dtype) for term in (weight, bias))
        op = affine(factor, shift, value.shape)
        if op is None:
            raise UsageError(
                f"the weight or bias does not fit a value of shape {value.shape}",
                where=self.source,
                remedy="scale() takes numbers, or tensors that broadcast to one sample",
            )
        return self.add(op, value)


Rule = Callable[[Call], Op | Value | None]


def leaves(value: Any) -> list[Any]:
    """List all that nested containers hold."""
    if isinstance(value, dict):
        return leaves(list(value.values()))
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


def affine(weight: Tensor, bias: Tensor, shape: Shape) -> Scale | None:
    """Give w·x + b with constants that broadcast to a sample of this shape; None where they do not.

    An axis of length 1 before those of the sample is the batch's.
    """
    terms = [
        term[0] if term.dim() == len(shape) + 1 and term.shape[0] == 1 else term for term in (weight, bias)
    ]
    if any(term.dim() > len(shape) for term in terms):
        return None
    weight, bias = (term.reshape((*[1] * (len(shape) - term.dim()), *term.shape)) for term in terms)
    return Scale(weight, bias if bool((bias != 0).any()) else None)


def shape_after(op: Op, shapes: Iterable[Shape], shape: Shape | None = None, where: str = "") -> Shape:
    """Give the shape of one sample of what the op gives; UsageError if the op does not fit.

    No value is computed. `shape` is the one that is expected, for ops that do not tell it by themselves.
    """
    if isinstance(op, Gather):
        return tuple(op.index.shape)
    shapes = list(shapes)
    samples = [torch.empty(2, *each, device="meta") for each in shapes]
    try:
        result = map_tensors(op, lambda each: each.to("meta")).real(samples, shape or ())
    except (RuntimeError, ValueError, TypeError, IndexError, InvalidGraph) as error:
        words = ", ".join(map(str, shapes))
        raise UsageError(
            f"{op.kind} does not fit a sample of shape {words}: {str(error).splitlines()[0]}",
            where=where,
            remedy="correct the op or what it reads" + ("; or give shape=" if shape is None else ""),
        ) from error
    if result.dim() == 0 or len(result) != 2:
        raise UsageError(
            f"{op.kind} moves values between samples", where=where, remedy="give an op that keeps the batch"
        )
    return tuple(result.shape[1:])


# Registries ----------------------------------------------------------------------------------------


def registry(*entries: tuple[Rule, Iterable[str]]) -> dict[str, Rule]:
    """Build a table of rules by target from (rule, its targets); a target that comes twice is refused."""
    return merged(*({target: rule} for rule, targets in entries for target in targets))


def merged(*tables: Mapping[str, _Entry]) -> dict[str, _Entry]:
    """Join tables into one; a key that is in two of them is refused."""
    whole: dict[str, _Entry] = {}
    for table in tables:
        if twice := [key for key in table if key in whole]:
            raise UsageError(
                f"{', '.join(twice)} is registered twice: "
                f"{name_of(whole[twice[0]])} and {name_of(table[twice[0]])}",
                remedy="keep one of them; a rule of a user's own takes the place of a built-in one for a run",
            )
        whole |= table
    return whole


def name_of(rule: Any) -> str:
    """Name a rule as its author wrote it."""
    return getattr(rule, "__qualname__", type(rule).__name__)
