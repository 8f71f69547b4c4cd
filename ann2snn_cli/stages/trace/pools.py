"""Rules of pooling, and of means, sums and extremes over axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ann2snn_cli.ir import allowed
from ann2snn_cli.ir.ops import AvgPool, MaxPool, Op, Permute, Reshape
from ann2snn_cli.ir.rules import Call, Rule, Value, registry
from ann2snn_cli.stages.trace.common import ints, mean_of_all, padded, windows
from ann2snn_cli.types import Shape

Pool = Callable[[Shape], Op]  # the pooling of windows of this extent, side by side


def _avg_pool(call: Call) -> Op | Value | None:
    """Windows at the border may hold fewer values than the others, and reach beyond the padding."""
    given = call.input
    if not given.keeps_batch or not call.keeps_batch:
        return None
    kernel, stride, padding = _windows(call, len(call.shape) - 1)
    sizes = zip(call.shape[1:], stride, kernel, padding, given.shape[1:], strict=True)
    reach = tuple((count - 1) * s + k - p - n for count, s, k, p, n in sizes)  # beyond the end of the map
    if all(r <= p for r, p in zip(reach, padding, strict=True)):
        return AvgPool(kernel, stride, padding, _divisor(call, AvgPool(kernel, stride, padding), given.shape))
    widened = call.add(padded(given.shape, padding, tuple(max(r, 0) for r in reach)), given)
    pool = AvgPool(kernel, stride, (0,) * len(kernel))
    divisor = _divisor(call, pool, given.shape, padding, reach)
    return call.add(AvgPool(kernel, stride, pool.padding, divisor), widened)


def _divisor(
    call: Call, pool: AvgPool, shape: Shape, begin: Shape | None = None, end: Shape = ()
) -> Tensor | None:
    """The number that the call divides the sum of each window by; None where that is the area of all."""
    ones = torch.ones(1, 1, *shape[1:], dtype=torch.float64)
    mean = allowed.operator(call.target)(ones, **_settings(call))
    if begin is not None:
        index = padded((1, *shape[1:]), begin, tuple(max(each, 0) for each in end))
        ones = index.linear([ones], tuple(index.index.shape))
    divisor = (pool.linear([ones], ()) / mean)[0]
    return None if torch.allclose(divisor, torch.tensor(pool.area, dtype=divisor.dtype)) else divisor


def _settings(call: Call) -> dict[str, object]:
    """The arguments of a call but for its input, which is the first."""
    _, *others = call.arguments.items()
    return dict(others)


def _adaptive_avg_pool(call: Call) -> Op | Value | None:
    """Where the input does not divide evenly, each window is laid out with zeros beside it."""
    given, wanted = call.input.shape[1:], call.shape[1:]
    if not call.keeps_batch or not call.input.keeps_batch:
        return None
    if _divides(given, wanted):
        return mean_of_all(tuple(n // m for n, m in zip(given, wanted, strict=True)))
    taps = [_taps(n, m) for n, m in zip(given, wanted, strict=True)]
    divisor = torch.ones((), dtype=torch.float64)
    for places in taps:
        divisor = divisor[..., None] * (places >= 0).sum(1)
    extents = tuple(places.shape[1] for places in taps)
    pool = AvgPool(extents, extents, (0,) * len(extents), divisor[None])
    return call.add(pool, call.add(windows(call.input.shape, taps), call.input))


def _adaptive_max_pool(call: Call) -> Op | Value | None:
    """The same with a value of the window in place of the zeros."""
    given, wanted = call.input.shape[1:], call.shape[1:]
    if call.output != 0 or not call.keeps_batch or not call.input.keeps_batch:
        return None
    if _divides(given, wanted):
        return _most(tuple(n // m for n, m in zip(given, wanted, strict=True)))
    taps = [_taps(n, m) for n, m in zip(given, wanted, strict=True)]
    taps = [torch.where(places < 0, places[:, :1], places) for places in taps]
    pool = _most(tuple(places.shape[1] for places in taps))
    return call.add(pool, call.add(windows(call.input.shape, taps), call.input))


def _divides(given: Shape, wanted: Shape) -> bool:
    return not any(n % m for n, m in zip(given, wanted, strict=True))


def _taps(given: int, wanted: int) -> Tensor:
    """The places of each window of an adaptive pooling along one axis, [wanted, places], -1 for none."""
    first = torch.arange(wanted) * given // wanted
    last = -(-torch.arange(1, wanted + 1) * given // wanted)
    places = first[:, None] + torch.arange(int((last - first).max()))
    return torch.where(places < last[:, None], places, -1)


def _most(extents: Shape) -> MaxPool:
    return MaxPool(extents, extents, (0,) * len(extents), (1,) * len(extents))


def _max_pool(call: Call) -> Op | None:
    if call.output not in (None, 0):
        return None
    rank = len(call.shape) - 1
    kernel, stride, padding = _windows(call, rank)
    return MaxPool(kernel, stride, padding, ints(call["dilation"], rank), bool(call["ceil_mode"]))


def _windows(call: Call, rank: int) -> tuple[Shape, Shape, Shape]:
    """Kernel, stride and padding; a stride that is left out is the kernel's extent."""
    kernel = ints(call["kernel_size"], rank)
    return kernel, ints(call["stride"], rank) if call["stride"] else kernel, ints(call["padding"], rank)


# Over axes -----------------------------------------------------------------------------------------


def _mean(call: Call) -> Op | Value | None:
    return _over_axes(call, call.input, mean_of_all)


def _sum(call: Call) -> Value | None:
    axes = _axes(call)
    mean = _over_axes(call, call.input, mean_of_all)
    return None if mean is None else call.scale(mean, math.prod(call.input.shape[axis] for axis in axes))


def _amax(call: Call) -> Value | None:
    return _over_axes(call, call.input, _most) if call.output in (None, 0) else None


def _amin(call: Call) -> Value | None:
    if call.output not in (None, 0) or not _axes(call):
        return None
    most = _over_axes(call, call.scale(call.input, -1.0), _most)
    return None if most is None else call.scale(most, -1.0)


def _axes(call: Call) -> list[int]:
    """The axes that a call goes over, counted in one sample; none if the batch is among them."""
    rank = len(call.input.shape) + 1
    dims = call["dim"] if isinstance(call["dim"], tuple | list) else (call["dim"],)
    axes = sorted(axis % rank - 1 for axis in dims if axis is not None)
    return axes if call.input.keeps_batch and call.keeps_batch and -1 not in axes else []


def _over_axes(call: Call, given: Value, pool: Pool) -> Value | None:
    """Pool whole axes: as they are where they are spatial, else laid behind the others."""
    axes, shape = _axes(call), given.shape
    if not axes:
        return None
    if axes[0] > 0 and len(shape) <= 4:
        extents = tuple(n if axis in axes else 1 for axis, n in enumerate(shape[1:], start=1))
        found = call.add(pool(extents), given)
    else:
        kept = [axis for axis in range(len(shape)) if axis not in axes]
        flat = _size(shape, kept), _size(shape, axes)
        turned = (
            given if [*kept, *axes] == list(range(len(shape))) else call.add(Permute((*kept, *axes)), given)
        )
        laid = turned if turned.shape == flat else call.add(Reshape(), turned, shape=flat)
        found = call.add(pool(flat[1:]), laid)
    return found if found.shape == call.shape else call.add(Reshape(), found, shape=call.shape)


def _size(shape: Shape, axes: Sequence[int]) -> int:
    return math.prod(shape[axis] for axis in axes)


RULES: dict[str, Rule] = registry(
    (_avg_pool, [f"aten.avg_pool{n}d.default" for n in (1, 2, 3)]),
    (_adaptive_avg_pool, [f"aten.adaptive_avg_pool{n}d.default" for n in (1, 2, 3)]),
    (_adaptive_max_pool, [f"aten.adaptive_max_pool{n}d.default" for n in (1, 2, 3)]),
    (_mean, ["aten.mean.dim"]),
    (_sum, ["aten.sum.dim_IntList"]),
    (_amax, ["aten.amax.default", "aten.max.dim"]),
    (_amin, ["aten.amin.default", "aten.min.dim"]),
    (_max_pool, [f"aten.max_pool{n}d.default" for n in (1, 2, 3)]),
    (_max_pool, [f"aten.max_pool{n}d_with_indices.default" for n in (1, 2, 3)]),
)
