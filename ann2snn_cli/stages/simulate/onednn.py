"""Counts of neurons in one pass; convolutions of bytes by oneDNN, with or without these counts at their end.

A count is ⌊q/θ⌋, limited to 0 to T, of an integer q = a·U + c, where U is the convolution's sum. That is
round((q − (θ−1)/2)/θ), and what is rounded is never nearer than 1/(2θ) to the middle of two integers. So
float32 may compute it from U, a scale and a bias: `Ending` refuses where its errors could reach that far.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from ann2snn_cli.ir.ops import Conv

WHOLE_VECTOR = 8  # channels of a group; fewer take other ways in oneDNN
LARGEST_COUNT = 255  # that a byte holds
ELEMENTS = 1 << 16  # that stay in a cache
ROUNDINGS, MORE_ROUNDINGS = 3, 5  # of a scale, a product and a sum; with a second summand


def is_trusted(op: Conv) -> bool:
    """Of some dilated and some narrow ones oneDNN gives other numbers, or reads beyond their inputs."""
    _, _, (stride, _, dilation) = with_two_axes(op)
    return max(dilation) == 1 and (op.weight.shape[1] >= WHOLE_VECTOR or stride[0] == stride[1])


def with_two_axes(op: Conv) -> tuple[int, Tensor, list[list[int]]]:
    """How many axes are missing; the weight, and stride, padding and dilation, with two axes.

    Of one spatial axis it is one of two, the first of them 1. A single tap has no dilation.
    """
    missing = 2 - len(op.kernel)
    dilation = [step if taps > 1 else 1 for step, taps in zip(op.dilation, op.kernel, strict=True)]
    geometry = [
        [*[default] * missing, *values]
        for default, values in ((1, op.stride), (0, op.padding), (1, dilation))
    ]
    return missing, op.weight.unsqueeze(2) if missing else op.weight, geometry


def neutral(channels: int) -> tuple[Tensor, Tensor]:
    """Scales of 1 and zero points of 0."""
    return torch.ones(channels), torch.zeros(channels, dtype=torch.int32)


@dataclass(frozen=True, eq=False)
class Ending:
    """What makes counts of sums: clip(round(scale·sum + bias + share·other), 0, most)."""

    scale: Tensor  # of each channel
    bias: Tensor
    share: Tensor | None  # of another summand; None: there is none
    most: int

    def counts(self, sums: Tensor) -> Tensor:
        """Of sums alone, in bytes: of a few samples at once, which stay in a cache."""
        found = torch.empty_like(sums, dtype=torch.uint8)
        size = max(1, ELEMENTS * len(sums) // max(1, sums.numel()))
        scale, bias = (value.reshape(-1, *[1] * (sums.dim() - 2)) for value in (self.scale, self.bias))
        for some, counts in zip(torch.split(sums, size), torch.split(found, size), strict=True):
            counts.copy_(torch.addcmul(bias, some.float(), scale).clamp_(0, self.most).round_())
        return found

    @staticmethod
    def of(
        threshold: Tensor, charge: Tensor, factor: Tensor, share: Tensor | None, others: float, most: int
    ) -> Ending | None:
        """The counts ⌊(factor·sum + share·other + charge)/threshold⌋, where float32 gives them exactly.

        All by channel, in float64; `others` is the largest magnitude of the other summand.
        """
        bias = (charge - (threshold - 1) / 2) / threshold
        scale, part = factor / threshold, None if share is None else share / threshold
        # The scaled sum is no larger than the rest, or the count is 0 or `most` whatever the errors.
        largest = bias.abs() + most + 2 + (0 if part is None else part.abs() * others)
        errors = ROUNDINGS if part is None else MORE_ROUNDINGS
        if most > LARGEST_COUNT or not bool((errors * largest * threshold < 2**23).all()):
            return None
        return Ending(scale.float(), bias.float(), None if part is None else part.float(), most)


class PackedConv:
    """A convolution whose weights are packed as oneDNN wants them. It does not hold its op."""

    def __init__(self, op: Conv) -> None:
        self.missing, weight, self.geometry = with_two_axes(op)
        self.groups = op.groups
        self.ones, self.zeros = neutral(weight.shape[0])
        weight = weight.to(torch.int8)
        self.packed = torch.ops.onednn.qconv_prepack(
            weight, self.ones, 1.0, 0, *self.geometry, self.groups, None
        )

    def __call__(self, x: Tensor) -> Tensor:
        """The sums, in float32."""
        return self._run(x, self.ones, None, torch.float32, "none", [])

    def counts(self, x: Tensor, ending: Ending) -> Tensor:
        """Counts, in bytes."""
        return self._run(x, ending.scale, ending.bias, torch.uint8, "hardtanh", [0.0, float(ending.most)])

    def counts_with(self, x: Tensor, other: Tensor, ending: Ending) -> Tensor:
        """The same with another summand, of integers: in bytes where they are, and have one share."""
        assert ending.share is not None
        share = float(ending.share[0])
        if other.dtype != torch.uint8 or bool((ending.share != share).any()):
            other, share = other.float() * ending.share.reshape(-1, *[1] * (other.dim() - 2)), 1.0
        form = torch.channels_last
        x, other = (value.unsqueeze(2) if self.missing else value for value in (x, other))
        y: Tensor = torch.ops.onednn.qconv2d_pointwise.binary(
            x.contiguous(memory_format=form), 1.0, 0, self.packed, ending.scale, self.zeros,
            other.clone(memory_format=form), ending.bias, *self.geometry, self.groups,
            1.0, 0, other.dtype, share, 0, "sum", 1.0, "relu", [], "",
        )  # fmt: skip
        y = y.clamp_(max=ending.most)
        y = y if y.dtype == torch.uint8 else y.round_().to(torch.uint8)
        return y.squeeze(2) if self.missing else y

    def _run(
        self, x: Tensor, scale: Tensor, bias: Tensor | None, gives: torch.dtype, last: str, ends: list[float]
    ) -> Tensor:
        x = x.unsqueeze(2) if self.missing else x
        y: Tensor = torch.ops.onednn.qconv2d_pointwise(
            x.contiguous(memory_format=torch.channels_last), 1.0, 0, self.packed, scale, self.zeros, bias,
            *self.geometry, self.groups, 1.0, 0, gives, last, ends, "",
        )  # fmt: skip
        return y.squeeze(2) if self.missing else y


@cache
def counts_exactly() -> bool:
    """Do counts come out on this machine as they are defined? Tried once, beside float64."""
    kinds = [(16, 3, 1), (64, 1, 2), (1, 3, 1), (3, 5, 2)]  # channels, kernel, stride
    others = [None, torch.uint8, torch.float32]
    try:
        return all(_is_exact(*kind, dtype) for kind in kinds for dtype in others)
    except (RuntimeError, AttributeError, TypeError):  # another torch, or another processor
        return False


def _is_exact(channels: int, kernel: int, stride: int, dtype: torch.dtype | None) -> bool:
    """Sums that lie densely about every multiple of the thresholds."""
    most, size = 31, 9
    threshold = torch.tensor([997, 1, 64, 5003, 333, 2, 1024, 7, 4999]).double()
    charge = torch.arange(-4, 5).double() * 77
    weight = torch.arange(size * channels * kernel**2).mul(37).remainder(253).sub(126)
    weight = weight.reshape(size, channels, kernel, kernel)
    x = torch.arange(2 * channels * size**2).mul(11).remainder(most + 1).reshape(2, channels, size, size)
    sums = F.conv2d(x.double(), weight.double(), None, stride, kernel // 2) + charge.reshape(-1, 1, 1)
    other = torch.arange(sums.numel()).reshape(sums.shape).mul(13).remainder(most + 1)
    share = None if dtype is None else torch.full_like(charge, 5)
    if share is not None:
        sums += other * share.reshape(-1, 1, 1)
    if dtype == torch.uint8:  # all of one share
        threshold.fill_(997)
    ending = Ending.of(threshold, charge, torch.ones_like(charge), share, most, most)
    assert ending is not None
    conv = PackedConv(Conv(weight, stride=(stride, stride), padding=(kernel // 2, kernel // 2)))
    given, wanted = x.to(torch.uint8), (sums / threshold.reshape(-1, 1, 1)).floor().clamp(0, most)
    found = conv.counts(given, ending) if dtype is None else conv.counts_with(given, other.to(dtype), ending)
    return torch.equal(found.double(), wanted)
