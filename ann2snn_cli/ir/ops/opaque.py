"""Any other torch operator, run as it is on real numbers; over time by temporal difference (SPEC 6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ann2snn_cli.errors import InvalidGraph
from ann2snn_cli.ir import allowed
from ann2snn_cli.ir.ops.base import Activity, Held, Integers, Op, Place, unbounded
from ann2snn_cli.types import Shape

NAMES = {  # what a reader calls these operators
    "_softmax": "Softmax",
    "_safe_softmax": "Softmax",
    "addcmul": "Scale",
    "batch_norm": "BatchNorm",
    "convolution": "Conv",
    "gelu": "GELU",
    "layer_norm": "LayerNorm",
    "linear": "Linear",
    "native_layer_norm": "LayerNorm",
    "scaled_dot_product_attention": "Attention",
    "softmax": "Softmax",
}


@dataclass(frozen=True)
class Ref:
    """A place in the arguments of an `Opaque` that takes the value of its i-th input."""

    input: int


@dataclass(frozen=True)
class BatchSize:
    """A size in the arguments of an `Opaque` that follows the batch: factor·batch + offset."""

    factor: int
    offset: int


@dataclass(frozen=True, eq=False)
class Opaque(Op):
    """y = target(*args, **kwargs); the target is on the list in `ir/allowed.py`, or it is refused."""

    target: str  # "aten.gelu.default"
    args: tuple[Any, ...]  # plain values, tensors, `Ref` and `BatchSize`, nested in tuples
    kwargs: tuple[tuple[str, Any], ...] = ()
    output: int | None = None  # which of several results
    dtypes: tuple[str | None, ...] = ()  # of each input: "bool" or "int64" where it must not be a float

    def __post_init__(self) -> None:
        allowed.check(self.target, self.args, dict(self.kwargs))
        if unknown := [name for name in self.dtypes if name is not None and name not in _TYPES]:
            raise InvalidGraph(f"{self.target} is to read a value as {unknown[0]!r}, which is no type of it")

    @property
    def gives_reals(self) -> bool:
        """Real numbers, and nothing else."""
        return True

    @property
    def operator(self) -> str:
        """The operator's own name, without its overload."""
        return self.target.split(".")[1]

    @property
    def is_named(self) -> bool:
        """Is it a layer as people name them, and not a piece of one?"""
        return self.operator in NAMES

    @property
    def kind(self) -> str:
        """The name a reader sees: that of the layer, else the operator's own."""
        return NAMES.get(self.operator, self.operator)

    @property
    def makes_whole(self) -> bool:
        """Does it make whole numbers of real ones, such as tokens for an embedding?"""
        wanted = dict(self.kwargs).get("dtype")
        is_type = isinstance(wanted, torch.dtype) and not (wanted.is_floating_point or wanted.is_complex)
        return self.operator in ("_to_copy", "to") and is_type and wanted != torch.bool

    @property
    def _creates(self) -> bool:
        """Does it make a tensor of sizes alone, on a device that it is told?"""
        operator: Any = allowed.operator(self.target)
        takes_device = any(each.name == "device" for each in operator._schema.arguments)
        return takes_device and not _reads(self.args)

    def details(self) -> str:
        """The operator in full."""
        return self.target

    def real(self, xs: list[Tensor], shape: Shape) -> Tensor:
        """The operator on these values. Where a `BatchSize` occurs, the last input is the sample."""
        names = self.dtypes or (None,) * len(xs)
        real = next((x.dtype for x in xs if x.is_floating_point()), None)
        resolve = _filling_in([_typed(x, name) for x, name in zip(xs, names, strict=True)], real)
        operator = allowed.operator(self.target)
        named = {key: resolve(arg) for key, arg in self.kwargs}
        if self._creates and xs:
            named["device"] = xs[-1].device
        result = operator(*map(resolve, self.args), **named)
        value: Tensor = result if self.output is None else result[self.output]
        return value

    def integers(self, units: list[Tensor], place: Place) -> Integers:
        """It passes on real values themselves: their unit is 1."""
        return self, units[0].new_ones(())

    def train(self, trains: list[Tensor], place: Place) -> Activity:
        """t·f(X(t)) − (t−1)·f(X(t−1)), X(t) the running mean of what came in."""
        sums = [train.cumsum(0) for train in trains]
        emitted: list[Tensor] = []
        before: Tensor | float = 0.0
        for t in range(1, place.steps + 1):
            now = self._number(_means(place, [total[t - 1] for total in sums], t), place) * t
            emitted.append(now - before)
            before = now
        return Activity(torch.stack(emitted))

    def advance(self, xs: list[Tensor], held: Held, step: int, place: Place) -> tuple[Tensor, Held]:
        """The same difference; it holds the sums of what came in, and t·f of their means."""
        so_far = [held[f"sum_{i}"] + x for i, x in enumerate(xs)] if held else xs
        now = self._number(_means(place, so_far, step), place) * step
        return now - held["given"] if held else now, {
            **{f"sum_{i}": x for i, x in enumerate(so_far)},
            "given": now,
        }

    def sums(self, xs: list[Tensor], place: Place) -> Tensor:
        """f of the mean, T times."""
        return self._number(_means(place, xs, place.steps), place) * place.steps

    def _number(self, xs: list[Tensor], place: Place) -> Tensor:
        """What it gives as numbers that can be added up: of true and false 1 and 0."""
        value = self.real(xs, place.shape)
        return value if value.is_complex() or xs[0].is_complex() else value.to(xs[0].dtype)

    def span(self, spans: list[Tensor], place: Place) -> Tensor:
        """Nothing is known of it."""
        return unbounded(place)


def _means(place: Place, sums: list[Tensor], steps: int) -> list[Tensor]:
    """The real values that sums over so many steps stand for."""
    pairs = zip(place.feeders, sums, strict=True)
    return [total * feeder.known_unit.to(total.dtype) / steps for feeder, total in pairs]


def _reads(args: Any) -> bool:
    """Is there a tensor, or the place of one, in these arguments?"""
    return any(map(_reads, args)) if isinstance(args, tuple) else isinstance(args, Ref | Tensor)


_WHOLE = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_TYPES = {str(dtype).removeprefix("torch."): dtype for dtype in _WHOLE}


def _typed(x: Tensor, name: str | None) -> Tensor:
    """A value in the type that the operator takes: conditions and indices travel as numbers."""
    return x if name is None or not x.is_floating_point() else x.round().to(_TYPES[name])


def _filling_in(xs: list[Tensor], real: torch.dtype | None) -> Callable[[Any], Any]:
    """`real` is the type that constants are computed in; None: their own."""
    batch = xs[-1].shape[0]

    def resolve(value: Any) -> Any:
        if isinstance(value, Ref):
            return xs[value.input]
        if isinstance(value, BatchSize):
            return value.factor * batch + value.offset
        if isinstance(value, tuple):
            return [resolve(item) for item in value]
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.to(real or value.dtype)
        if isinstance(value, torch.dtype) and value.is_floating_point:
            return real or value  # of zeros, such as recurrent layers start from
        return value

    return resolve
