"""Rules of resizing that computes values between others: fixed weights, the same for every channel."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ann2snn_cli.ir import allowed
from ann2snn_cli.ir.ops import AvgPool, BatchSize, Scale
from ann2snn_cli.ir.rules import Call, Rule, Value, leaves, registry
from ann2snn_cli.stages.trace.common import windows
from ann2snn_cli.types import Shape


def _resize(call: Call) -> Value | None:
    """Each value that comes out is a weighted sum over a window: lay the windows out, weight, and pool."""
    given, (_, *settings) = call.input, call.arguments.items()
    if not given.keeps_batch or not call.keeps_batch:
        return None
    if any(isinstance(each, BatchSize) for each in leaves([value for _, value in settings])):
        return None

    def resize(x: Tensor) -> Tensor:
        resized: Tensor = allowed.operator(call.target)(x, **dict(settings))
        return resized

    matrices = _by_axis(resize, given.shape[1:])
    if not _is_product(resize, matrices, given.shape[1:]):
        return None
    taps, weights = zip(*map(_sparse, matrices), strict=True)
    extents = tuple(places.shape[1] for places in taps)
    factor = torch.ones((), dtype=torch.float64)
    for weight in weights:
        factor = factor[..., None] * weight.flatten()
    laid = call.add(windows(given.shape, taps), given)
    weighted = call.add(Scale((factor * math.prod(extents))[None].to(given.dtype)), laid)
    return call.add(AvgPool(extents, extents, (0,) * len(extents)), weighted)


def _by_axis(resize: Callable[[Tensor], Tensor], extents: Shape) -> list[Tensor]:
    """What it does along each spatial axis, [out, in]: shown maps that differ along that axis alone."""
    found = []
    for axis, extent in enumerate(extents):
        probe = torch.eye(extent, dtype=torch.float64)
        probe = probe.reshape(1, extent, *(extent if each == axis else 1 for each in range(len(extents))))
        shown = resize(probe.expand(1, extent, *extents).contiguous())[0].movedim(axis + 1, 1)
        found.append(shown.flatten(2)[:, :, 0].T)
    return found


def _is_product(resize: Callable[[Tensor], Tensor], matrices: list[Tensor], extents: Shape) -> bool:
    """Is the whole what the axes are, one after the other?"""
    values = torch.rand(extents, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted = resize(values[None, None])[0, 0]
    for axis, matrix in enumerate(matrices):
        values = (
            (matrix @ values.movedim(axis, -2)).movedim(-2, axis) if len(extents) > 1 else matrix @ values
        )
    return torch.allclose(values, wanted)


def _sparse(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The places of each row that are not 0, -1 for none, and their weights; both [out, places]."""
    count = int((matrix != 0).sum(1).max())
    weights, places = matrix.abs().topk(count, dim=1)
    return torch.where(weights > 0, places, -1), matrix.gather(1, places)


_KINDS = ["linear1d", "bilinear2d", "trilinear3d", "bicubic2d"]

RULES: dict[str, Rule] = registry(
    (_resize, [f"aten.upsample_{kind}.vec" for kind in _KINDS]),
    (_resize, [f"aten._upsample_{kind}_aa.vec" for kind in ("bilinear2d", "bicubic2d")]),
)
