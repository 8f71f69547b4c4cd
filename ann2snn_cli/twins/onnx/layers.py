"""Every kind of layer as nodes of a graph, in whole numbers of any arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from ann2snn_cli.twins.onnx.arithmetic import Arithmetic, geometry
from ann2snn_cli.twins.onnx.builder import Builder, Value, flat_index, pick, plus, times, total
from ann2snn_cli.twins.onnx.ranges import ranges
from ann2snn_cli.twins.onnx.timing import Population, Time
from ann2snn_cli.twins.replay import Array, Layer, Network


@dataclass(frozen=True)
class Writer:
    """Writes the layers of a network, one after the other, into a model."""

    network: Network
    model: Builder
    numbers: Arithmetic
    time: Time
    potentials: bool  # are they outputs?

    def write(self, stimuli: Mapping[str, str], narrow: Collection[str] = ()) -> None:
        """Everything from the stimuli, flat, to the outputs: by input layer; those in `narrow` are uint8."""
        found, values = ranges(self.network), dict[str, Value]()
        for layer in self.network.layers:
            name, xs = layer["name"], [values[each] for each in layer["inputs"]]
            self.model.layer = name
            is_input = layer["kind"] == "input"
            made = stimuli[name] if is_input else _LAYERS[layer["kind"]](self, layer, xs)
            is_narrow = name in narrow if is_input else self._narrow(layer, xs)
            values[name] = Value(made, tuple(layer["shape"]), *found[name], is_narrow)
        for name in self.network.outputs:
            self.model.layer = name
            self.time.show_total(self.wide(values[name]), f"result/{name}", values[name].shape)

    def _narrow(self, layer: Layer, xs: list[Value]) -> bool:
        """Are the numbers of this layer uint8?"""
        if self.numbers.spike == self.numbers.element:
            return False
        fires = layer["kind"] == "integrate_fire"
        return fires or (layer["kind"] in _MOVES and all(x.narrow for x in xs))

    def wide(self, x: Value) -> str:
        """The value in the numbers of currents and potentials."""
        return self.model.node("Cast", x.name, to=self.numbers.element) if x.narrow else x.name

    def parameter(self, layer: Layer, role: str) -> Array:
        """A parameter in the same numbers."""
        return self.network.parameter(layer, role).astype(self.numbers.kind)

    def number(self, value: int) -> Array:
        """One such number."""
        return np.array(value, self.numbers.kind)

    def show(self, layer: Layer, field: str, name: str, element: int) -> None:
        """Make a value of a layer an output."""
        self.time.show(name, f"{field}/{layer['name']}", element, tuple(layer["shape"]))


# Synapses and sums ---------------------------------------------------------------------------------


def _conv(writer: Writer, layer: Layer, xs: list[Value]) -> str:
    return writer.numbers.conv(
        writer.model, xs[0], writer.network.parameter(layer, "weight"), geometry(layer)
    )


def _conv_transpose(writer: Writer, layer: Layer, xs: list[Value]) -> str:
    return writer.numbers.conv_transpose(
        writer.model, xs[0], writer.network.parameter(layer, "weight"), layer
    )


def _linear(writer: Writer, layer: Layer, xs: list[Value]) -> str:
    return writer.numbers.linear(writer.model, xs[0], writer.network.parameter(layer, "weight"))


def _scale(writer: Writer, layer: Layer, xs: list[Value]) -> str:
    return times(writer.model, writer.wide(xs[0]), writer.parameter(layer, "weight"))


def _add(writer: Writer, layer: Layer, xs: list[Value]) -> str:
    terms = [
        times(writer.model, writer.wide(x), writer.parameter(layer, f"weight.{i}")) for i, x in enumerate(xs)
    ]
    return total(writer.model, terms)


def _sum_pool(writer: Writer, layer: Layer, xs: list[Value]) -> str:
    """A convolution by ones, each channel a sample of its own."""
    (x,) = xs
    single = (1, *x.shape[1:])
    apart = Value(writer.model.reshape(x.name, single), single, x.low, x.high, x.narrow)
    ones = np.ones((1, 1, *layer["kernel"]), np.int64)
    rule = geometry({**layer, "dilation": [1] * len(layer["kernel"]), "groups": 1})
    return writer.model.reshape(writer.numbers.conv(writer.model, apart, ones, rule), layer["shape"])


# Moves ---------------------------------------------------------------------------------------------


def _concat(writer: Writer, layer: Layer, xs: list[Value]) -> str:
    names = [x.name if all(x.narrow for x in xs) else writer.wide(x) for x in xs]
    return writer.model.node("Concat", *names, axis=1)


def _reshape(writer: Writer, layer: Layer, xs: list[Value]) -> str:
    return writer.model.reshape(xs[0].name, layer["shape"])


def _permute(writer: Writer, layer: Layer, xs: list[Value]) -> str:
    return writer.model.node("Transpose", xs[0].name, perm=[0, *(axis + 1 for axis in layer["order"])])


def _gather(writer: Writer, layer: Layer, xs: list[Value]) -> str:
    index = writer.network.parameter(layer, "index")
    zero = np.zeros((), np.uint8 if xs[0].narrow else writer.numbers.kind)
    picked = pick(writer.model, xs[0].name, (1, prod(xs[0].shape)), index, zero)
    return writer.model.reshape(picked, layer["shape"])


_MOVES = ("concat", "reshape", "permute", "gather")


# Max pooling ---------------------------------------------------------------------------------------


def _max_pool(writer: Writer, layer: Layer, xs: list[Value]) -> str:
    """Give the growth of the highest running sum of the window has grown."""
    sums = writer.time.running(writer.wide(xs[0]), xs[0].shape)
    windows = _windows(writer, layer, xs[0], sums, writer.numbers.lowest)
    highest = writer.model.node("ReduceMax", windows, writer.model.sizes(-1), keepdims=0)
    shape = tuple(layer["shape"])
    return writer.time.growth(writer.model.reshape(highest, shape), shape)


def _windows(writer: Writer, layer: Layer, x: Value, name: str, outside: int) -> str:
    """[n, channels, places, taps]: the values of every window; x gives the shape."""
    rank, fields = len(layer["kernel"]), ("stride", "kernel", "dilation", "padding")
    axes = zip(layer["shape"][1:], *(layer[field] for field in fields), strict=True)
    coordinates = [np.add.outer(np.arange(out) * s, np.arange(k) * d) - p for out, s, k, d, p in axes]
    spread = [  # [out, k] with its axes where they belong among [out..., k...]
        each.reshape([n if i % rank == axis else 1 for i, n in enumerate(np.repeat(each.shape, rank))])
        for axis, each in enumerate(coordinates)
    ]
    index = flat_index(spread, x.shape[1:])
    picked = pick(writer.model, name, (x.shape[0], prod(x.shape[1:])), index, writer.number(outside))
    return writer.model.reshape(picked, (x.shape[0], prod(layer["shape"][1:]), prod(layer["kernel"])))


# Neurons -------------------------------------------------------------------------------------------


def _integrate_fire(writer: Writer, layer: Layer, xs: list[Value]) -> str:
    drive = times(writer.model, writer.wide(xs[0]), writer.number(2 ** layer["fraction_bits"]))
    parameters = (writer.parameter(layer, role) for role in ("threshold", "bias", "initial"))
    spikes, potentials = writer.time.fire(drive, Population(tuple(layer["shape"]), *parameters))
    writer.show(layer, "spikes", spikes, writer.numbers.spike)
    if writer.potentials:
        writer.show(layer, "potentials", potentials, writer.numbers.element)
    return spikes


def _integrate(writer: Writer, layer: Layer, xs: list[Value]) -> str:
    """V is V0 and the sum of all that came in; passed on is by how much V grew, the first time from 0."""
    passed, shape = writer.wide(xs[0]), tuple(layer["shape"])
    if "bias" in layer["parameters"]:
        passed = plus(writer.model, passed, writer.parameter(layer, "bias"))
    potentials = writer.time.running(passed, shape)
    if "initial" in layer["parameters"] and np.any(writer.parameter(layer, "initial")):
        potentials = plus(writer.model, potentials, writer.parameter(layer, "initial"))
        passed = writer.time.growth(potentials, shape)
    if writer.potentials:
        writer.show(layer, "potentials", potentials, writer.numbers.element)
    return passed


_LAYERS: dict[str, Callable[[Writer, Layer, list[Value]], str]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "linear": _linear,
    "scale": _scale,
    "add": _add,
    "sum_pool": _sum_pool,
    "max_pool": _max_pool,
    "concat": _concat,
    "reshape": _reshape,
    "permute": _permute,
    "gather": _gather,
    "integrate_fire": _integrate_fire,
    "integrate": _integrate,
}
