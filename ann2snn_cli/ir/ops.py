"""What a node can compute: one small frozen dataclass an op, with its equation.

Values have the axes [batch, channels, ...]; a node's `shape` leaves the batch out. An op serves every
level: the fields that a level fills in are None below it.

    moves   Reshape Permute Gather Concat     they move values and change none
    linear  Conv Linear Scale Add AvgPool     synapses and sums
    neurons Relu IntegrateFire Integrate      where currents end; biases live here
    others  Input MaxPool BatchNorm Opaque
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor

from ann2snn_cli.ir import allowed


@dataclass(frozen=True, eq=False)
class Op:
    """Base of all ops."""

    @property
    def kind(self) -> str:
        """The name a reader sees."""
        return type(self).__name__


@dataclass(frozen=True, eq=False)
class Input(Op):
    """The sample. SPIKING: integers x = clamp(round(image / unit), low, high), at every step the same."""

    unit: float | None = None  # the real value of 1
    low: int = 0
    high: int = 255


@dataclass(frozen=True, eq=False)
class Conv(Op):
    """y = W ⊛ x (+ b): 1, 2 or 3 spatial axes, grouped, transposed.

    SPIKING: `weight` holds the integers q of W·A_in = step·q.
    """

    weight: Tensor  # [out, in/groups, k...]; transposed: [in, out/groups, k...]
    bias: Tensor | None = None  # [out]; gone at FOLDED, where biases live in the neurons
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1
    transposed: bool = False
    output_padding: tuple[int, ...] = (0, 0)
    bits: int | None = None  # QUANTIZED
    step: Tensor | None = None  # QUANTIZED: the real value of one integer unit, [] or [out]

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


@dataclass(frozen=True, eq=False)
class Linear(Op):
    """y = W x (+ b) along the last axis."""

    weight: Tensor  # [out, in]
    bias: Tensor | None = None
    bits: int | None = None
    step: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Scale(Op):
    """y = w·x (+ b), element by element: a depthwise 1x1 convolution, or a batch norm that stays."""

    weight: Tensor  # broadcasts to the node's shape, usually [channels, 1, 1]
    bias: Tensor | None = None
    bits: int | None = None
    step: Tensor | None = None


@dataclass(frozen=True, eq=False)
class BatchNorm(Op):
    """y = weight·(x − mean)/√(var + eps) + bias, channel by channel. FLOAT only."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    var: Tensor
    eps: float


@dataclass(frozen=True, eq=False)
class Add(Op):
    """y = Σ x_i. SPIKING: y = Σ m_i·x_i, identity synapses with integer weights m_i. One input is allowed."""

    weights: tuple[Tensor, ...] | None = None  # SPIKING: each broadcasts to the node's shape


@dataclass(frozen=True, eq=False)
class Concat(Op):
    """The inputs one after the other along the channels."""


@dataclass(frozen=True, eq=False)
class AvgPool(Op):
    """The mean of each window, zeros of the padding included. SPIKING: the integer sum of each window."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]

    @property
    def area(self) -> int:
        """How many values a window holds."""
        area = 1
        for extent in self.kernel:
            area *= extent
        return area


@dataclass(frozen=True, eq=False)
class MaxPool(Op):
    """The maximum of each window. SPIKING stepwise: the gate of SPEC 6 (see `ir/neuron.py`)."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool = False


@dataclass(frozen=True, eq=False)
class Reshape(Op):
    """The same values in the node's shape, in memory order."""


@dataclass(frozen=True, eq=False)
class Permute(Op):
    """The axes in another order: axis i of the result is axis order[i] of the input, the batch left out."""

    order: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Gather(Op):
    """y.flat[i] = x.flat[index.flat[i]], or 0 where the index is -1.

    Slices, padding, flips, repeats, upsampling.
    """

    index: Tensor  # int64, of the node's shape


@dataclass(frozen=True, eq=False)
class Relu(Op):
    """y = min(max(x + bias, 0), limit): what becomes a population of neurons."""

    limit: float | None = None  # 6 for ReLU6
    bias: Tensor | None = None  # FOLDED: broadcasts to the node's shape
    clip: Tensor | None = None  # CALIBRATED: the largest activation it will represent, []
    relays: bool = False  # it hands on a pooled population's amplitude: its clip follows the input


@dataclass(frozen=True, eq=False)
class Integrate(Op):
    """y = x + bias: neurons that never fire. They read out the last layer, and carry biases elsewhere.

    SPIKING: at step t it passes on its input plus `bias`, at the first step also `initial`; summed over the
    steps that is the potential V of a neuron that never resets.
    """

    bias: Tensor | None = None
    initial: Tensor | None = None  # SPIKING


@dataclass(frozen=True, eq=False)
class IntegrateFire(Op):
    """A population of integrate-and-fire neurons, SPEC 1. SPIKING only.

    V ← V + 2^fraction_bits·x + bias;  s ← V ≥ threshold;  V ← V − s·threshold (or V·(1 − s)).
    """

    threshold: Tensor  # integers; [] or broadcasting to the node's shape
    bias: Tensor  # integers, at every step
    initial: Tensor  # integers: the potential before the first step
    fraction_bits: int = 0


@dataclass(frozen=True)
class Ref:
    """In the arguments of an `Opaque`: the value of its i-th input."""

    input: int


@dataclass(frozen=True)
class Batch:
    """In the arguments of an `Opaque`: a size that follows the batch, factor·batch + offset."""

    factor: int
    offset: int


@dataclass(frozen=True, eq=False)
class Opaque(Op):
    """y = target(*args, **kwargs): any other torch operator, run as it is on real numbers (SPEC 6)."""

    target: str  # "aten.gelu.default"
    args: tuple[Any, ...]  # plain values, tensors, `Ref` and `Batch`, nested in tuples
    kwargs: tuple[tuple[str, Any], ...] = ()
    output: int | None = None  # which of several results

    def __post_init__(self) -> None:
        allowed.check(self.target, self.args, dict(self.kwargs))

    @property
    def kind(self) -> str:
        """The name a reader sees: the operator's own."""
        return self.target.split(".")[1]


MOVES = (Reshape, Permute, Gather, Concat)
SYNAPSES = (Conv, Linear, Scale)
NEURONS = (Relu, IntegrateFire, Integrate)


def map_tensors(op: Op, change: Callable[[Tensor], Tensor]) -> Op:
    """The op with every tensor in it replaced by `change(tensor)`."""

    def walk(value: Any) -> Any:
        if isinstance(value, Tensor):
            return change(value)
        if isinstance(value, tuple):
            return tuple(walk(item) for item in value)
        return value

    changes = {item.name: walk(getattr(op, item.name)) for item in fields(op)}
    return replace(op, **changes)


def per_channel(values: Tensor, op: Op, rank: int) -> Tensor:
    """Values by output channel of a synapse, [out], laid so that they broadcast to a node of this rank."""
    if isinstance(op, Linear) or rank == 0:
        return values  # a linear layer's channels are the last axis
    return values.reshape(-1, *[1] * (rank - 1))


__all__ = [
    "MOVES",
    "NEURONS",
    "SYNAPSES",
    "Add",
    "AvgPool",
    "Batch",
    "BatchNorm",
    "Concat",
    "Conv",
    "Gather",
    "Input",
    "Integrate",
    "IntegrateFire",
    "Linear",
    "MaxPool",
    "Op",
    "Opaque",
    "Permute",
    "Ref",
    "Relu",
    "Reshape",
    "Scale",
    "map_tensors",
    "per_channel",
]
