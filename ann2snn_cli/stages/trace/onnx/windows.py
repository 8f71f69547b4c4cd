"""The geometry of windows that slide over a map: padding by number or by name, even or not."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ann2snn_cli.ir.ops import Gather
from ann2snn_cli.stages.trace.common import padded
from ann2snn_cli.stages.trace.onnx.draft import Call, OnnxDraft, Refused
from ann2snn_cli.types import Shape


@dataclass(frozen=True)
class Windows:
    """Where the windows of a convolution or a pooling lie on a map; one number for each spatial axis."""

    spatial: Shape  # of the map
    kernel: Shape
    stride: Shape
    dilation: Shape
    begin: Shape  # padding
    end: Shape
    ceil: bool = False  # a last window may reach beyond the padding

    @classmethod
    def of(cls, call: Call, shape: Shape, kernel: Shape) -> Windows:
        """The windows of a call on a sample of this shape."""
        spatial, ones = shape[1:], (1,) * len(kernel)
        if len(spatial) != len(kernel):
            raise Refused(f"its window has {len(kernel)} axes, its input has the shape {shape}")
        stride, dilation = call.ints("strides", ones), call.ints("dilations", ones)
        mode = call.attributes.get("auto_pad", "NOTSET")
        if mode.startswith("SAME"):
            begin, end = _same(mode, spatial, kernel, stride, dilation)
            return cls(spatial, kernel, stride, dilation, begin, end)
        pads = (0,) * 2 * len(kernel) if mode == "VALID" else call.ints("pads", (0,) * 2 * len(kernel))
        begin, end = pads[: len(kernel)], pads[len(kernel) :]
        ceil = bool(call.attributes.get("ceil_mode", 0))
        return cls(spatial, kernel, stride, dilation, begin, end, ceil)

    @property
    def rank(self) -> int:
        """How many spatial axes there are."""
        return len(self.kernel)

    @property
    def even(self) -> bool:
        """Is the padding the same at both ends, as torch's convolutions take it?"""
        return self.begin == self.end and min(self.begin) >= 0

    @property
    def spans(self) -> Shape:
        """The extent of a window, with the gaps of its dilation."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def counts(self) -> Shape:
        """How many windows there are; none begins in the padding at the end."""
        counts = []
        for n, b, e, s, span in zip(self.spatial, self.begin, self.end, self.stride, self.spans, strict=True):
            count = math.ceil((n + b + e - span) / s) + 1 if self.ceil else (n + b + e - span) // s + 1
            counts.append(count - 1 if self.ceil and (count - 1) * s >= n + b else count)
        return tuple(counts)

    @property
    def reach(self) -> Shape:
        """How far the last window lies beyond the map: the padding at the end that is needed."""
        return tuple(
            (count - 1) * s + span - b - n
            for count, n, b, s, span in zip(
                self.counts, self.spatial, self.begin, self.stride, self.spans, strict=True
            )
        )


def _same(mode: str, spatial: Shape, kernel: Shape, stride: Shape, dilation: Shape) -> tuple[Shape, Shape]:
    """As many windows as strides fit into the map; UPPER puts the odd one of the padding at the end."""
    total = [
        max((math.ceil(n / s) - 1) * s + d * (k - 1) + 1 - n, 0)
        for n, k, s, d in zip(spatial, kernel, stride, dilation, strict=True)
    ]
    less, more = tuple(each // 2 for each in total), tuple(each - each // 2 for each in total)
    return (less, more) if mode == "SAME_UPPER" else (more, less)


def shifted(draft: OnnxDraft, call: Call, source: str, begin: Shape, end: Shape, word: str = "pad") -> str:
    """The map with zeros at its ends, or cut off where a number is negative."""
    if not any((*begin, *end)):
        return source
    shape = draft.shapes[source]
    gather = padded(shape, begin, end)
    return draft.before(call, word, gather, source, tuple(gather.index.shape))


def repeated(draft: OnnxDraft, call: Call, source: str, windows: Windows) -> str:
    """The map with values of its own beyond its ends, so that no window's maximum changes.

    A place p beyond an end is given the value of the nearest place inside that is p modulo the dilation: a
    window that covers p covers that one too.
    """
    shape = draft.shapes[source]
    index = torch.arange(math.prod(shape)).reshape(shape)
    axes = zip(windows.spatial, windows.begin, windows.reach, windows.dilation, strict=True)
    for axis, (n, begin, reach, dilation) in enumerate(axes, start=1):
        places = torch.arange(-begin, n + reach)
        inside = torch.where(places < 0, places % dilation, places)
        inside = torch.where(places >= n, n - dilation + (places - n) % dilation, inside)
        if not bool(((inside >= 0) & (inside < n)).all()):
            raise Refused("one of its windows holds nothing but padding")
        index = index.index_select(axis, inside)
    return draft.before(call, "pad", Gather(index), source, tuple(index.shape))
