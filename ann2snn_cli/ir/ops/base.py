"""What every op is: its class, its traits, and the questions that stages and engines ask of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import Tensor

from ann2snn_cli.errors import InvalidGraph
from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.span import Span
from ann2snn_cli.types import Shape

if TYPE_CHECKING:
    from ann2snn_cli.ir.graph import Node

Held = Mapping[str, Tensor]  # what a node holds between two steps, [samples, ...] each
Integers = tuple["Op", Tensor]  # the op of SPIKING, and the unit of what it passes on

FLOAT_BITS = 32  # weight_bitwidth 32: no quantization, the same network in floats


@dataclass(frozen=True)
class Activity:
    """What a node passes on, and for neurons their potentials, [timesteps, batch, ...].

    Potentials are those after the reset of each of the T firing steps.
    """

    train: Tensor
    potentials: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Place:
    """Where an op stands in a graph: all that it may ask of its surroundings."""

    node: Node
    feeders: tuple[Node, ...]  # the nodes that it reads
    contract: Contract
    has_float_weights: bool = False  # the graph's weights are floats: 32 bits
    is_real: bool = False  # its values are real numbers: it is opaque, or reads what is
    keeps_potentials: bool = False
    device: torch.device | None = None  # where the graph's tensors are

    @property
    def shape(self) -> Shape:
        """The shape of one sample of what it passes on."""
        return self.node.shape

    @property
    def steps(self) -> int:
        """T."""
        return self.contract.timesteps

    @property
    def label(self) -> str:
        """The layer as the user knows it."""
        return self.node.source or self.node.name


@dataclass(frozen=True, eq=False)
class Op:
    """Base of all ops: a small frozen dataclass with its equation.

    Values have the axes [batch, channels, ...], trains one of time before them; a node's shape has neither.
    An op serves every level: the fields that a level fills in are None below it.
    """

    keeps_spikes: ClassVar[bool] = False  # what comes of 0 and 1 is 0 and 1
    fires: ClassVar[bool] = False  # it is a population, or becomes one
    monotone: ClassVar[bool] = False  # it commutes with every function that never falls

    @property
    def gives_reals(self) -> bool:
        """Does it pass on real numbers whatever it reads?"""
        return False

    @property
    def kind(self) -> str:
        """The name a reader sees."""
        return type(self).__name__

    def details(self) -> str:
        """What else a reader wants to know, in a few words."""
        return ""

    # below SPIKING

    def real(self, xs: list[Tensor], shape: Shape) -> Tensor:
        """Its equation in real numbers; `shape` is that of one sample of the result."""
        raise self._refusal("in real numbers")

    def integers(self, units: list[Tensor], place: Place) -> Integers:
        """The op of SPIKING, and the unit of what it passes on, given the units of what it reads."""
        raise self._refusal("at level SPIKING")

    def branches(self, labels: list[Tensor], place: Place) -> Tensor | None:
        """Which branch each value it passes on belongs to, given that of each value it reads.

        None: it is the start of a branch of its own; negative numbers: of several, told apart by them. Only
        what moves or selects values, or adds a constant, keeps the labels.
        """
        return None

    # SPIKING

    def train(self, trains: list[Tensor], place: Place) -> Activity:
        """What it makes of spike trains, step by step (SPEC 1, 4, 5 and 6)."""
        raise self._refusal("over trains")

    def advance(self, xs: list[Tensor], held: Held, step: int, place: Place) -> tuple[Tensor, Held]:
        """What it passes on in one step of D = 0, 1 or later, and what it holds then, for the next.

        Before the first step it holds nothing. Over T steps it passes on what `train` says.
        """
        raise self._refusal("step by step")

    def sums(self, xs: list[Tensor], place: Place) -> Tensor:
        """What it passes on over all T steps where D = T, given the sums of what it reads, in closed form."""
        raise self._refusal("in closed form")

    def span(self, spans: list[Tensor], place: Place) -> Tensor:
        """[2, ...]: the lowest and the highest it passes on in one step, with 0 between them."""
        raise self._refusal("in intervals")

    def potential(self, spans: list[Tensor], place: Place) -> Tensor | None:
        """[2, ...]: the extremes of all that lies in its accumulator; None where it has none."""
        return None

    def adds_per_spike(self, spans: Sequence[Span]) -> Span:
        """What one spike, or one unit of a current, adds to its values, given the same of what it reads."""
        return Span(1, 1)

    def _refusal(self, what: str) -> InvalidGraph:
        return InvalidGraph(
            f"the op {self.kind} is not defined {what}",
            remedy=f"give the class {self.kind} the method that says it (CONTRIBUTING.md, Add an op)",
        )


class LinearOp(Op):
    """Base of the ops that map sums to sums: they may be applied at every step, or once to the counts."""

    def linear(self, xs: list[Tensor], shape: Shape) -> Tensor:
        """Its equation, in the units of SPIKING."""
        raise self._refusal("as a linear op")

    def real(self, xs: list[Tensor], shape: Shape) -> Tensor:
        """The same in real numbers."""
        return self.linear(xs, shape)

    def sums(self, xs: list[Tensor], place: Place) -> Tensor:
        """The same of sums."""
        return self.linear(xs, place.shape)

    def train(self, trains: list[Tensor], place: Place) -> Activity:
        """The same at every step: the steps may lie in the batch."""
        flat = self.linear([train.flatten(0, 1) for train in trains], place.shape)
        if flat.dtype == torch.float32:  # integers, proved to fit it
            flat = flat.round()  # on some devices a float32 convolution is a sum of products only almost
        return Activity(flat.reshape(*trains[0].shape[:2], *flat.shape[1:]))

    def advance(self, xs: list[Tensor], held: Held, step: int, place: Place) -> tuple[Tensor, Held]:
        """The same at every step, and nothing is held."""
        return self.train([x[None] for x in xs], place).train[0], held

    def span(self, spans: list[Tensor], place: Place) -> Tensor:
        """Sums and moves: the ends go where the values go."""
        return self.linear(spans, place.shape)

    def adds_per_spike(self, spans: Sequence[Span]) -> Span:
        """Whatever what it reads adds."""
        return union(spans)


# Helpers of the families ---------------------------------------------------------------------------


def union(spans: Sequence[Span]) -> Span:
    """The smallest span that holds them all."""
    return reduce(or_, spans)


def constant_span(place: Place, low: float, high: float) -> Tensor:
    """The same interval for every value of a node."""
    ends = torch.tensor([low, high], dtype=torch.float64, device=place.device)
    return ends.reshape(2, *[1] * len(place.shape)).expand(2, *place.shape)


def unbounded(place: Place) -> Tensor:
    """Nothing is known of the values."""
    return constant_span(place, -math.inf, math.inf)


def cast(parameter: Tensor | None, x: Tensor) -> Any:
    """A parameter in the type that values are computed in."""
    return None if parameter is None else parameter.to(x.dtype)


def each(word: str, values: Shape, default: int) -> list[str]:
    """`stride 2x2`, unless every value is the default."""
    return [] if all(value == default for value in values) else [f"{word} {'x'.join(map(str, values))}"]


def map_tensors(op: Op, change: Callable[[Tensor], Tensor]) -> Op:
    """The op with every tensor in it replaced by `change(tensor)`."""

    def walk(value: Any) -> Any:
        if isinstance(value, Tensor):
            return change(value)
        if isinstance(value, tuple):
            return tuple(walk(item) for item in value)
        return map_tensors(value, change) if isinstance(value, Op) else value

    return replace(op, **{item.name: walk(getattr(op, item.name)) for item in fields(op)})


def named_tensors(op: Op) -> Iterator[tuple[str, Tensor]]:
    """The tensors in an op, in the order of `map_tensors`: by the name of its field, in a tuple `name_0`."""

    def walk(value: Any) -> Iterator[Tensor]:
        if isinstance(value, Tensor):
            yield value
        if isinstance(value, tuple):
            for item in value:
                yield from walk(item)

    for item in fields(op):
        value = getattr(op, item.name)
        for place, tensor in enumerate(walk(value)):
            yield item.name if value is tensor else f"{item.name}_{place}", tensor


# The registry --------------------------------------------------------------------------------------

_Kind = TypeVar("_Kind", bound=type[Op])

OPS: dict[str, type[Op]] = {}


def register(*kinds: type[Op]) -> None:
    """Make ops known by their names, to files among others. A name that is taken is refused."""
    for kind in kinds:
        if kind.__name__ in OPS and not is_registered(kind):
            what = f"there is an op {kind.__name__} already"
            raise InvalidGraph(what, remedy="give the class another name")
        OPS[kind.__name__] = kind


def is_registered(kind: type[Op]) -> bool:
    """Is it known by its name? A class of a file that was loaded again is the same one."""
    known = OPS.get(kind.__name__)
    own = (kind.__module__, kind.__qualname__)
    return known is not None and (known.__module__, known.__qualname__) == own
