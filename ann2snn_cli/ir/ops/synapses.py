"""The ops that multiply and add: convolution, linear, scale, and addition; and batch norm, which becomes one.

A synapse absorbs the units of what it reads before it is quantized, W' = W·A_in, channel by channel (SPEC 2).
Branches that meet in one synapse have a grid each, q_k = round(W'_k/α_k), joined by integers
m_k = round(α_k/α).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ann2snn_cli.errors import InvalidGraph
from ann2snn_cli.ir.grid import choose_step, largest_code, to_grid
from ann2snn_cli.ir.ops.base import FLOAT_BITS, Integers, LinearOp, Op, Place, cast, each, union
from ann2snn_cli.ir.span import Span
from ann2snn_cli.ir.units import UnitsDiffer, along, apart, compress, multipliers
from ann2snn_cli.types import Shape

_CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}
_Self = TypeVar("_Self", bound="Synapse")

WIDEST_RATIO = 2**12  # of the largest weight of a `Scale`, in a branch, to the smallest kept


@dataclass(frozen=True, eq=False)
class Synapse(LinearOp):
    """Base of the ops with weights.

    QUANTIZED: `step` is the real value of 1 of the grid; `branch` (int64) and `multiplier` broadcast to the
    weight. SPIKING: `weight` holds integers, of branches m_k·q.
    """

    weight: Tensor
    bias: Tensor | None = None  # [out]; gone at FOLDED, where biases live in the neurons

    bits: int | None = field(default=None, kw_only=True)
    step: Tensor | None = field(default=None, kw_only=True)  # [] or [out]; of branches [branches, ...]
    branch: Tensor | None = field(default=None, kw_only=True)  # whose values each weight reads
    multiplier: Tensor | None = field(default=None, kw_only=True)  # of branches: m_k

    def details(self) -> str:
        """Its bit width."""
        return "" if self.bits is None else f"{self.bits} bits"

    # how values by channel lie along the weight

    def by_input(self, values: Tensor, place: Place) -> Tensor:
        """Values of what it reads, laid so that they broadcast to the weight."""
        raise self._refusal("by input")

    def _along(self, values: Tensor, place: Place, axis: int) -> Tensor:
        """The values along one axis of what it reads; UnitsDiffer where they differ along another one."""
        found = along(values, axis, place.feeders[0].shape)
        if found is None:
            raise UnitsDiffer(place.node.name, place.label)
        return found

    def by_output(self, values: Tensor) -> Tensor:
        """Values by output channel, [out], laid so that they broadcast to the weight."""
        return values.reshape(-1, *[1] * (self.weight.dim() - 1))

    def by_row(self, weight: Tensor) -> Tensor:
        """The weights, or the like, with a row for each output channel."""
        return weight.reshape(weight.shape[0], -1)

    def by_weight(self, steps: Tensor) -> Tensor:
        """Steps or multipliers as each weight has them: one, or one an output channel, or a branch."""
        if self.branch is None:
            return steps.reshape(()) if steps.numel() == 1 else self.by_output(steps)
        if steps.dim() == 1:
            return steps[self.branch]
        place = torch.arange(steps.shape[1], device=steps.device)
        return steps[self.branch, self.by_output(place)]

    # real numbers and integers

    def absorb(self, unit: Tensor, place: Place) -> Tensor:
        """W' = W·A_in, in float64."""
        weight = self.weight.to(torch.float64)
        return weight * (unit.reshape(()) if unit.numel() == 1 else self.by_input(unit, place))

    def quantized(
        self: _Self, units: list[Tensor], labels: Tensor, place: Place, *, channel_wise: bool
    ) -> _Self:
        """The op, which knows its bit width, with the steps of SPEC 2, one for each branch that it reads."""
        if self.bits == FLOAT_BITS:
            return replace(self, step=None, branch=None)
        op = replace(self, step=None, branch=self._branches(units[0], labels, place))
        return replace(op, step=op._steps(op.absorb(units[0], place), channel_wise=channel_wise))

    def _branches(self, unit: Tensor, labels: Tensor, place: Place) -> Tensor | None:
        """The branch that each weight reads; None where all that it reads has one unit or is one branch."""
        if unit.numel() == 1 or labels.numel() == 1:
            return None
        _, places = torch.unique(self.by_input(labels, place), return_inverse=True)
        return places if int(places.max()) > 0 else None

    def _steps(self, absorbed: Tensor, *, channel_wise: bool) -> Tensor:
        assert self.bits is not None
        by_channel = channel_wise and absorbed.dim() > 0
        rows = self.by_row(absorbed) if by_channel else absorbed.reshape(1, -1)
        if self.branch is None:
            found = choose_step(rows, self.bits)
            return found if by_channel else found[0]
        branch = self.branch.expand(absorbed.shape)
        branch = self.by_row(branch) if by_channel else branch.reshape(1, -1)
        steps = [choose_step(rows, self.bits, branch == k) for k in range(int(branch.max()) + 1)]
        return torch.stack(steps if by_channel else [step[0] for step in steps])

    def integers(self, units: list[Tensor], place: Place) -> Integers:
        """Codes on the grid, times the multipliers of the branches; floats stay W'."""
        weight = self.absorb(units[0], place)
        if self.bits == FLOAT_BITS:
            return replace(self, weight=weight, step=None), weight.new_ones(())
        if self.bits is None:
            raise InvalidGraph(f"{place.node.name!r} has no bit width yet", where=place.node.source)
        step = self.step if self.step is not None else self._steps(weight, channel_wise=False)
        step = step.to(torch.float64)
        codes = to_grid(weight, self.by_weight(step), self.bits)
        if self.branch is None:
            return replace(self, weight=codes, step=None), self._unit(step, place)
        found, finest = multipliers(list(step), step.amin(0))
        factors = self.by_weight(torch.stack(found))
        op = replace(self, weight=codes * factors, multiplier=factors, step=None, branch=None)
        return op, self._unit(finest, place)

    def _unit(self, step: Tensor, place: Place) -> Tensor:
        return step if step.numel() == 1 else per_channel(step, self, len(place.shape))

    def branches(self, labels: list[Tensor], place: Place) -> Tensor | None:
        """Output channels that read the same branches are one branch: all are, unless there are groups."""
        if labels[0].numel() == 1:
            return None
        try:
            read = self.by_input(labels[0], place)
        except UnitsDiffer:
            return None
        _, kinds = torch.unique(self.by_row(read.expand(self.weight.shape)), dim=0, return_inverse=True)
        return None if int(kinds.max()) == 0 else self._unit(apart(kinds), place)

    # bounds

    def span(self, spans: list[Tensor], place: Place) -> Tensor:
        """[W⁺·l + W⁻·h, W⁺·h + W⁻·l] = (W·(h + l) ∓ |W|·(h − l)) / 2, by its own equation."""
        magnitudes = replace(self, weight=self.weight.abs())
        exact = not self.weight.is_floating_point()
        return _centred(self.linear, magnitudes.linear, spans, place, exact=exact)

    def adds_per_spike(self, spans: Sequence[Span]) -> Span:
        """Its weights."""
        return Span.of(self.weight)


def _centred(
    linear: Callable[[list[Tensor], Shape], Tensor],
    magnitudes: Callable[[list[Tensor], Shape], Tensor],
    spans: list[Tensor],
    place: Place,
    *,
    exact: bool,
) -> Tensor:
    middle = linear([x[1:] + x[:1] for x in spans], place.shape)
    width = magnitudes([x[1:] - x[:1] for x in spans], place.shape)
    if exact:
        middle, width = middle.round(), width.round()  # some devices add up products only almost
    return torch.cat([middle - width, middle + width]) / 2


@dataclass(frozen=True, eq=False)
class Conv(Synapse):
    """y = W ⊛ x (+ b): 1, 2 or 3 spatial axes, grouped, transposed.

    The weight is [out, in/groups, k...]; transposed [in, out/groups, k...].
    """

    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1
    transposed: bool = False
    output_padding: tuple[int, ...] = (0, 0)

    @property
    def kind(self) -> str:
        """The name a reader sees: a transposed convolution is called so."""
        return "ConvTranspose" if self.transposed else "Conv"

    @property
    def out_channels(self) -> int:
        """How many channels come out."""
        return self.weight.shape[1] * self.groups if self.transposed else self.weight.shape[0]

    @property
    def in_channels(self) -> int:
        """How many channels go in."""
        return self.weight.shape[0] if self.transposed else self.weight.shape[1] * self.groups

    @property
    def kernel(self) -> tuple[int, ...]:
        """The kernel's extent along each spatial axis."""
        return tuple(self.weight.shape[2:])

    def details(self) -> str:
        """Its geometry and bit width."""
        extras = [f"groups {self.groups}"] * (self.groups > 1) + each("stride", self.stride, 1)
        extras += each("padding", self.padding, 0) + each("dilation", self.dilation, 1)
        bits = super().details()
        return ", ".join(["x".join(map(str, self.kernel)), *extras, *([bits] if bits else [])])

    def linear(self, xs: list[Tensor], shape: Shape) -> Tensor:
        """Torch's convolution."""
        (x,) = xs
        rank = len(self.kernel)
        weight, bias = cast(self.weight, x), cast(self.bias, x)
        if self.transposed:
            return _CONV_TRANSPOSED[rank](
                x, weight, bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
            )
        return _CONV[rank](x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def by_input(self, values: Tensor, place: Place) -> Tensor:
        """The input channels are the first axis."""
        found = self._along(values, place, 0)
        spatial = [1] * len(self.kernel)
        if self.transposed:
            return found.reshape(-1, 1, *spatial)
        grouped = found.reshape(self.groups, 1, -1).expand(-1, self.out_channels // self.groups, -1)
        return (
            grouped.reshape(self.out_channels, -1, *spatial)
            if self.groups > 1
            else found.reshape(1, -1, *spatial)
        )

    def by_output(self, values: Tensor) -> Tensor:
        """A transposed convolution has its output channels, group by group, in the second axis."""
        if not self.transposed:
            return super().by_output(values)
        spatial = [1] * len(self.kernel)
        by_group = values.reshape(self.groups, 1, -1, *spatial)  # [groups, in/groups, out/groups, k...]
        by_group = by_group.expand(-1, self.weight.shape[0] // self.groups, *[-1] * (1 + len(spatial)))
        return by_group.reshape(self.weight.shape[0], -1, *spatial)

    def by_row(self, weight: Tensor) -> Tensor:
        """A transposed convolution holds its output channels in the second axis."""
        if not self.transposed:
            return super().by_row(weight)
        grouped = weight.reshape(self.groups, -1, *weight.shape[1:])  # [groups, in/groups, out/groups, k...]
        return grouped.transpose(1, 2).reshape(self.out_channels, -1)


@dataclass(frozen=True, eq=False)
class Linear(Synapse):
    """y = W x (+ b) along the last axis; the weight is [out, in]."""

    def linear(self, xs: list[Tensor], shape: Shape) -> Tensor:
        """Torch's linear layer."""
        return F.linear(xs[0], cast(self.weight, xs[0]), cast(self.bias, xs[0]))

    def by_input(self, values: Tensor, place: Place) -> Tensor:
        """The input features are the last axis."""
        return self._along(values, place, -1)[None]


@dataclass(frozen=True, eq=False)
class Scale(Synapse):
    """y = w·x (+ b), element by element: a depthwise 1x1 convolution, or a batch norm that stays.

    The weight broadcasts to the node's shape; usually it is [channels, 1, 1].
    """

    def linear(self, xs: list[Tensor], shape: Shape) -> Tensor:
        """Element by element."""
        y: Tensor = xs[0] * cast(self.weight, xs[0])
        return y if self.bias is None else y + cast(self.bias, xs[0])

    @property
    def is_one_factor(self) -> bool:
        """Is it a change of unit, and perhaps of sign?"""
        return self.weight.numel() == 1 and self.bits != FLOAT_BITS and float(self.weight.detach()) != 0

    def integers(self, units: list[Tensor], place: Place) -> Integers:
        """The integers; of one factor for all values they are its sign, and its size goes into the unit."""
        if not self.is_one_factor:
            return super().integers(units, place)
        weight = self.weight.to(torch.float64)
        return replace(self, weight=weight.sign(), step=None), units[0] * weight.abs().reshape(())

    def by_input(self, values: Tensor, place: Place) -> Tensor:
        """They broadcast as they are."""
        return values

    def branches(self, labels: list[Tensor], place: Place) -> Tensor | None:
        """Each branch becomes one of its own: the units are others now."""
        return apart(labels[0])

    def quantized(self, units: list[Tensor], labels: Tensor, place: Place, *, channel_wise: bool) -> Scale:
        """As of other synapses; a grid a weight where one for all is off by more than half of some weight.

        That weight is all that its channel has. Of weights far below the largest of their branch nothing is
        left: no word holds both. One factor for all values needs no grid: its size goes into the unit.
        """
        if self.is_one_factor:
            return replace(self, step=self.weight.abs().reshape(()), branch=None)
        op = super().quantized(units, labels, place, channel_wise=False)
        if op.bits is None or op.step is None:
            return op
        bits = op.bits
        weight = op.absorb(units[0], place)
        grid = op.by_weight(op.step)
        if bool(((weight - grid * to_grid(weight, grid, bits)).abs() <= weight.abs() / 2).all()):
            return super().quantized(units, labels, place, channel_wise=True) if channel_wise else op
        joined = torch.zeros_like(weight, dtype=torch.int64) if op.branch is None else op.branch
        joined = joined.expand(weight.shape)
        largest = torch.stack([(weight.abs() * (joined == k)).max() for k in range(int(joined.max()) + 1)])
        step = torch.maximum(weight.abs(), largest[joined] / WIDEST_RATIO) / largest_code(bits)
        step = torch.where(step > 0, step, step.max())  # a branch of zeros takes any
        branch = torch.arange(weight.numel(), device=weight.device).reshape(weight.shape)
        return replace(op, step=step.flatten(), branch=branch)


@dataclass(frozen=True, eq=False)
class BatchNorm(Op):
    """y = weight·(x − mean)/√(var + eps) + bias, channel by channel. FLOAT only."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    var: Tensor
    eps: float

    def real(self, xs: list[Tensor], shape: Shape) -> Tensor:
        """Torch's batch norm in eval mode."""
        (x,) = xs
        mean, var, weight, bias = (cast(value, x) for value in (self.mean, self.var, self.weight, self.bias))
        return F.batch_norm(x, mean, var, weight, bias, eps=self.eps)


@dataclass(frozen=True, eq=False)
class Add(LinearOp):
    """y = Σ x_i. SPIKING: y = Σ m_i·x_i, identity synapses with integer weights m_i.

    It brings the values of one input to one unit.
    """

    weights: tuple[Tensor, ...] | None = None  # SPIKING: each broadcasts to the node's shape

    def linear(self, xs: list[Tensor], shape: Shape) -> Tensor:
        """The sum, weighted where it has weights."""
        if self.weights is not None:
            xs = [cast(weight, x) * x for weight, x in zip(self.weights, xs, strict=True)]
        return reduce(operator.add, xs)

    def integers(self, units: list[Tensor], place: Place) -> Integers:
        """m_i = round(unit_i/α), α the finest unit or a part of it; of real numbers the units themselves."""
        if place.is_real or place.has_float_weights:
            return replace(self, weights=tuple(units)), units[0].new_ones(())
        finest = reduce(torch.minimum, units) if len(units) > 1 else units[0].min()
        weights, alpha = multipliers(units, finest)
        return replace(self, weights=tuple(weights)), alpha

    def branches(self, labels: list[Tensor], place: Place) -> Tensor | None:
        """Sums of the same branches are one branch: of one label each, all sums are."""
        if all(label.numel() == 1 for label in labels) or len(labels) == 1:
            return None
        stacked = torch.stack([label.expand(place.shape) for label in labels])
        _, sums = torch.unique(stacked.flatten(1), dim=1, return_inverse=True)
        return compress(apart(sums.reshape(place.shape)))

    def span(self, spans: list[Tensor], place: Place) -> Tensor:
        """The same as of other synapses, by its own equation."""
        assert self.weights is not None
        magnitudes = replace(self, weights=tuple(weight.abs() for weight in self.weights))
        exact = not any(weight.is_floating_point() for weight in self.weights)
        return _centred(self.linear, magnitudes.linear, spans, place, exact=exact)

    def adds_per_spike(self, spans: Sequence[Span]) -> Span:
        """What each branch adds, times its weight."""
        if self.weights is None:
            return union(spans)
        return union([span * Span.of(weight) for span, weight in zip(spans, self.weights, strict=True)])


def per_channel(values: Tensor, op: Op, rank: int) -> Tensor:
    """Values by output channel of a synapse, [out], laid so that they broadcast to a node of this rank."""
    if isinstance(op, Linear) or rank == 0:
        return values  # a linear layer's channels are the last axis
    return values.reshape(-1, *[1] * (rank - 1))
