"""The numbers that a graph is written in: integers.

The integer products of ONNX take factors of 8 bits, and in older runtimes unsigned ones only. Both factors
are therefore written in base 256,

    x = Σ 256^i · (digit_i − zero_i)        0 ≤ digit_i ≤ 255,

where zero_i, the operator's zero point, is 0, but 128 for the highest digit of numbers that may be negative.
(A convolution pads with zero points, so padding counts 0 in every digit.) Spikes, stimuli of 8 bits and
weights have one digit. Sums are int32: one on the way may wrap, and the last is right modulo 2^32, so a
result that fits int32 is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from math import prod
from typing import Any, Protocol

import numpy as np
from onnx import TensorProto

from ann2snn_cli.twins.onnx.builder import Builder, Value, flat_index, pick, times, total
from ann2snn_cli.twins.replay import Array, Layer


class Arithmetic(Protocol):
    """What layers need to know of their numbers."""

    kind: type[np.generic]  # of currents and potentials
    element: int  # the same in ONNX's words
    spike: int  # of spikes, in ONNX's words
    lowest: int  # below all that may occur

    def conv(self, model: Builder, x: Value, weight: Array, attributes: dict[str, Any]) -> str:
        """Σ w·x of a convolution; the attributes are those of ONNX's Conv."""

    def conv_transpose(self, model: Builder, x: Value, weight: Array, layer: Layer) -> str:
        """Σ w·x of a transposed convolution."""

    def linear(self, model: Builder, x: Value, weight: Array) -> str:
        """Σ w·x along the last axis; the weight is [out, in]."""


# Integers ------------------------------------------------------------------------------------------


class Integers:
    """int32; spikes are uint8."""

    kind: type[np.generic] = np.int32
    element: int = TensorProto.INT32
    spike: int = TensorProto.UINT8
    lowest: int = -(2**31)

    def conv(self, model: Builder, x: Value, weight: Array, attributes: dict[str, Any]) -> str:
        """ConvInteger, digit by digit."""
        return _by_digits(model, x, weight, lambda *given: model.node("ConvInteger", *given, **attributes))

    def conv_transpose(self, model: Builder, x: Value, weight: Array, layer: Layer) -> str:
        """ONNX has no such operator for integers."""
        return spread_conv(self, model, x, weight, layer)

    def linear(self, model: Builder, x: Value, weight: Array) -> str:
        """MatMulInteger, digit by digit."""
        return _by_digits(model, x, weight.T, lambda *given: model.node("MatMulInteger", *given))


def _by_digits(model: Builder, x: Value, weight: Array, multiply: Callable[..., str]) -> str:
    """Σ_ij 256^(i+j) · multiply(digit i of x, digit j of the weight)."""
    weights = [
        (model.constant(digit, "weight"), _zero(model, zero)) for digit, zero in _weight_digits(weight)
    ]
    terms = []
    for (i, (a, a_zero)), (j, (b, b_zero)) in product(enumerate(_digits(model, x)), enumerate(weights)):
        if i + j < 4:  # 256^4 is 0 modulo 2^32
            factor = np.array(256 ** (i + j), np.int32)
            terms.append(times(model, multiply(a, b, a_zero, b_zero), factor))
    return total(model, terms)


def _zero(model: Builder, zero: int) -> str:
    return model.constant(np.array(zero, np.uint8), "zero_point")


def _digits(model: Builder, x: Value) -> Iterator[tuple[str, str]]:
    """The digits of a value, lowest first, with their zero points."""
    if x.narrow:
        yield x.name, _zero(model, 0)
        return
    rest, signed = x.name, x.low < 0
    for _ in range(_how_many(x.low, x.high) - 1):
        base = model.constant(np.array(256, np.int32))
        digit = model.node("Mod", rest, base)
        yield model.node("Cast", digit, to=TensorProto.UINT8), _zero(model, 0)
        rest = model.node("Div", model.node("Sub", rest, digit), base)
    if signed:
        rest = model.node("Add", rest, model.constant(np.array(128, np.int32)))
    yield model.node("Cast", rest, to=TensorProto.UINT8), _zero(model, 128 * signed)


def _weight_digits(weight: Array) -> Iterator[tuple[Array, int]]:
    """The digits of weights, always with a sign, lowest first, with their zero points."""
    for _ in range(_how_many(min(int(weight.min()), -1), int(weight.max())) - 1):
        yield (weight % 256).astype(np.uint8), 0
        weight = weight // 256
    yield (weight + 128).astype(np.uint8), 128


def _how_many(low: int, high: int) -> int:
    """How many digits numbers of this range have; four hold every int32."""
    below, above = (128, 127) if low < 0 else (0, 255)
    fitting = (n for n in (1, 2, 3) if -below * 256 ** (n - 1) <= low and high < (above + 1) * 256 ** (n - 1))
    return next(fitting, 4)


def geometry(layer: Layer) -> dict[str, Any]:
    """The attributes of ONNX's Conv for a layer."""
    return {
        "kernel_shape": layer["kernel"],
        "strides": layer["stride"],
        "pads": [*layer["padding"], *layer["padding"]],
        "dilations": layer["dilation"],
        "group": layer["groups"],
    }


# Transposed convolutions as convolutions -----------------------------------------------------------


def spread_conv(numbers: Arithmetic, model: Builder, x: Value, weight: Array, layer: Layer) -> str:
    """A convolution of the input, with zeros put between its values, by the mirrored kernel."""
    sizes, index = _spread(layer, x.shape[1:])
    zero = np.zeros((), np.uint8 if x.narrow else numbers.kind)
    shape, name = (x.shape[0], *sizes), pick(model, x.name, (x.shape[0], prod(x.shape[1:])), index, zero)
    spread = replace(x, name=model.reshape(name, shape), shape=shape)
    mirrored = np.flip(weight, axis=tuple(range(2, weight.ndim)))
    swapped = np.concatenate([part.swapaxes(0, 1) for part in np.split(mirrored, layer["groups"])])
    attributes = {name: layer[field] for name, field in (("kernel_shape", "kernel"), ("group", "groups"))}
    return numbers.conv(model, spread, swapped, attributes | {"dilations": layer["dilation"]})


def _spread(layer: Layer, sizes: tuple[int, ...]) -> tuple[tuple[int, ...], Array]:
    """The input's places with zeros (-1) between, around and behind them: (shape, flat indices).

    Along an axis there are out + d·(k − 1) of them; input value i lies at i·stride + d·(k − 1) − padding.
    """
    fields = (layer[name] for name in ("kernel", "stride", "padding", "dilation"))
    shape, axes = [], []
    for out, k, s, p, d in zip(layer["shape"][1:], *fields, strict=True):
        shape.append(out + d * (k - 1))
        place = np.arange(shape[-1]) - (d * (k - 1) - p)
        axes.append(np.where(place % s == 0, place // s, -1))
    return tuple(shape), flat_index(np.ix_(*axes), sizes)
