"""Rules of rectifiers, and of what is made of them: each bend of a function is a population of neurons."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ann2snn_cli.ir.ops import Add, Concat, MaxPool, Op, Permute, Relu, Reshape
from ann2snn_cli.ir.rules import Call, Rule, Value, registry
from ann2snn_cli.stages.trace.common import known, rectifier


def _relu(call: Call) -> Op:
    return Relu()


def _relu6(call: Call) -> Op:
    return Relu(limit=6.0)


def _clamp(call: Call) -> Op | Value | None:
    return _between(call, call.arguments.get("min"), call.arguments.get("max"))


def _hardtanh(call: Call) -> Op | Value | None:
    return _between(call, call["min_val"], call["max_val"])


def _between(call: Call, low: Any, high: Any) -> Op | Value | None:
    """min(max(x, low), high): a rectifier that is shifted, and for an upper end alone turned around."""
    if not isinstance(low, int | float | None) or not isinstance(high, int | float | None):
        return None
    low = None if low is None or low == -math.inf else float(low)
    high = None if high is None or high == math.inf else float(high)
    if low is None:
        return call.input if high is None else _at_most(call, call.input, high)
    if high is not None and high <= low:
        return None
    limit = None if high is None else high - low
    return rectifier(low, high) or call.scale(
        call.add(Relu(limit), call.scale(call.input, 1.0, -low)), 1.0, low
    )


def _at_least(call: Call, x: Value, low: Any) -> Value:
    """max(x, low) = relu(x − low) + low."""
    if not bool(torch.as_tensor(low).any()):
        return call.add(Relu(), x)
    return call.scale(call.add(Relu(), call.scale(x, 1.0, -low)), 1.0, low)


def _at_most(call: Call, x: Value, high: Any) -> Value:
    """min(x, high) = high − relu(high − x)."""
    return call.scale(call.add(Relu(), call.scale(x, -1.0, high)), -1.0, high)


def _hardsigmoid(call: Call) -> Value:
    """clip(x/6 + 1/2, 0, 1)."""
    return call.add(Relu(limit=1.0), call.scale(call.input, 1 / 6, 0.5))


def _leaky(call: Call) -> Value:
    return _bent(call, call.input, 1.0, call["negative_slope"])


def _rrelu(call: Call) -> Value | None:
    return None if call["training"] else _bent(call, call.input, 1.0, (call["lower"] + call["upper"]) / 2)


def _prelu(call: Call) -> Value | None:
    slope, shape = call["weight"], call.shape
    if (
        not isinstance(slope, Tensor)
        or not call.keeps_batch
        or not shape
        or slope.numel() not in (1, shape[0])
    ):
        return None
    return _bent(call, call.input, 1.0, slope.reshape(-1, *[1] * (len(shape) - 1)))


def _abs(call: Call) -> Value:
    return _bent(call, call.input, 1.0, -1.0)


def _threshold(call: Call) -> Op | None:
    return Relu() if call["threshold"] == call["value"] == 0 else None


def _bent(call: Call, x: Value, above: Any, below: Any) -> Value:
    """above·x where x > 0, below·x where x < 0: two populations, above·relu(x) − below·relu(−x)."""
    zero = [not bool(torch.as_tensor(slope).any()) for slope in (above, below)]
    sides: list[Value] = []
    if not zero[0] or zero[1]:
        sides.append(_times(call, call.add(Relu(), x), above))
    if not zero[1]:
        sides.append(_times(call, call.add(Relu(), call.scale(x, -1.0)), -below))
    return sides[0] if len(sides) == 1 else call.add(Add(), *sides)


def _times(call: Call, x: Value, factor: Any) -> Value:
    return x if isinstance(factor, float) and factor == 1 else call.scale(x, factor)


# The larger of two ---------------------------------------------------------------------------------


def _maximum(call: Call) -> Value | None:
    return _larger(call, *_two(call))


def _minimum(call: Call) -> Value | None:
    """min(a, b) = −max(−a, −b)."""
    a, b = _two(call)
    if isinstance(a, Value) and isinstance(b, Value) and known(call, a) is None and known(call, b) is None:
        most = _larger(call, call.scale(a, -1.0), call.scale(b, -1.0))
        return None if most is None else call.scale(most, -1.0)
    value, constant = (
        (a, known(call, b)) if isinstance(a, Value) and known(call, a) is None else (b, known(call, a))
    )
    return _at_most(call, value, constant) if _spreads(value, constant) else None


def _two(call: Call) -> tuple[Any, Any]:
    first, second = list(call.arguments.values())[:2]
    return first, second


def _larger(call: Call, a: Any, b: Any) -> Value | None:
    """Max pooling over windows of two: of spikes exact at every step."""
    for value, other in ((a, b), (b, a)):
        if (constant := known(call, other)) is not None and known(call, value) is None:
            return _at_least(call, value, constant) if _spreads(value, constant) else None
    if a.shape != b.shape or not a.shape or not (a.keeps_batch and b.keeps_batch):
        return None
    channels, rest = a.shape[0], math.prod(a.shape[1:])
    both = call.add(Reshape(), call.add(Concat(), a, b), shape=(2, channels, rest))
    pool = MaxPool((2, 1), (2, 1), (0, 0), (1, 1))
    return call.add(Reshape(), call.add(pool, call.add(Permute((1, 0, 2)), both)), shape=a.shape)


def _spreads(value: Any, constant: Any) -> bool:
    """Does a constant fit each sample of a value, without making it larger?"""
    if not isinstance(value, Value) or not value.keeps_batch or constant is None:
        return False
    shape = tuple(torch.as_tensor(constant).shape)
    if len(shape) == len(value.shape) + 1 and shape[0] == 1:  # the batch's axis
        shape = shape[1:]
    fits = zip(reversed(shape), reversed(value.shape), strict=False)
    return len(shape) <= len(value.shape) and all(n in (1, m) for n, m in fits)


# Choices by sign -----------------------------------------------------------------------------------


def _where(call: Call) -> Value | None:
    return _chosen(call, call["condition"], call["self"], call["other"])


def _masked_fill(call: Call) -> Value | None:
    return _chosen(call, call["mask"], call["value"], call["self"])


def _chosen(call: Call, condition: Any, yes: Any, no: Any) -> Value | None:
    """where(x > 0, a·x, b·x) is a rectifier, or two."""
    compared = _sign_of(call, condition)
    if compared is None:
        return None
    x, positive = compared
    slopes = [_slope(call, each, x) for each in ((yes, no) if positive else (no, yes))]
    if None in slopes or slopes[0] == slopes[1]:
        return None
    return _bent(call, x, *slopes)


def times_its_sign(call: Call, left: Any, right: Any) -> Value | None:
    """x·(x > 0) is a rectifier too."""
    for value, condition in ((left, right), (right, left)):
        maker = call.maker(condition)
        if maker is not None and maker.target == "aten._to_copy.default":
            condition = maker.arguments["self"]
        if _sign_of(call, condition) is not None:
            return _chosen(call, condition, value, 0.0)
    return None


_COMPARISONS = {"gt": True, "ge": True, "lt": False, "le": False}


def _sign_of(call: Call, condition: Any) -> tuple[Value, bool] | None:
    """(x, is it true of positive ones?) of a condition that compares x with 0."""
    maker = call.maker(condition)
    name = maker.target.split(".")[1] if maker is not None else ""
    if maker is None or name not in _COMPARISONS:
        return None
    x, bound = maker.arguments["self"], known(call, maker.arguments["other"])
    is_zero = bound is not None and not bool(torch.as_tensor(bound).any())
    return (x, _COMPARISONS[name]) if is_zero and isinstance(x, Value) and x.shape == call.shape else None


def _slope(call: Call, value: Any, x: Value) -> float | None:
    """The number a where the value is a·x; None if it is something else."""
    if value is x:
        return 1.0
    if (constant := known(call, value)) is not None:
        return None if bool(torch.as_tensor(constant).any()) else 0.0
    maker = call.maker(value)
    if maker is None or x not in maker.inputs:
        return None
    if maker.target == "aten.neg.default":
        return -1.0
    if maker.target != "aten.mul.Tensor":
        return None
    factors = [known(call, each) for each in maker.arguments.values() if each is not x]
    if len(factors) != 1 or factors[0] is None or torch.as_tensor(factors[0]).numel() != 1:
        return None
    return float(torch.as_tensor(factors[0]))


RULES: dict[str, Rule] = registry(
    (_relu, ["aten.relu.default"]),
    (_relu6, ["aten.relu6.default"]),
    (_hardtanh, ["aten.hardtanh.default"]),
    (_clamp, ["aten.clamp.default", "aten.clamp_min.default", "aten.clamp_max.default"]),
    (_hardsigmoid, ["aten.hardsigmoid.default"]),
    (_leaky, ["aten.leaky_relu.default"]),
    (_rrelu, ["aten.rrelu.default"]),
    (_prelu, ["aten.prelu.default"]),
    (_abs, ["aten.abs.default"]),
    (_threshold, ["aten.threshold.default"]),
    (_maximum, ["aten.maximum.default", "aten.max.other", "aten.clamp_min.Tensor"]),
    (_minimum, ["aten.minimum.default", "aten.min.other", "aten.clamp_max.Tensor"]),
    (_where, [f"aten.where.{which}" for which in ("self", "ScalarSelf", "ScalarOther", "Scalar")]),
    (_masked_fill, ["aten.masked_fill.Scalar", "aten.masked_fill.Tensor"]),
)
