"""One ONNX graph in the making: nodes in the order they were asked for, equal ones once, every name once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from ann2snn_cli.twins.replay import Array

Dimensions = Sequence[int | str]


@dataclass(frozen=True)
class Value:
    """What a layer passes on, as a value of a graph: [batch, *shape], or of all steps [T·batch, *shape]."""

    name: str
    shape: tuple[int, ...]  # of one sample
    low: int  # the range of its numbers, proved
    high: int
    narrow: bool = False  # it is uint8


@dataclass
class Builder:
    """A graph that grows node by node. `taken` is shared by all graphs of a model, as ONNX's names are."""

    taken: set[str]
    layer: str = ""  # the layer at work: it names what is made
    _nodes: list[NodeProto] = field(default_factory=list)
    _constants: dict[tuple[str, tuple[int, ...], bytes], TensorProto] = field(default_factory=dict)
    _made: dict[str, str] = field(default_factory=dict)

    def unique(self, wanted: str) -> str:
        """A name that no other value of the model has: the one that is wanted, numbered if it is taken."""
        name, number = wanted, 1
        while name in self.taken:
            number += 1
            name = f"{wanted}_{number}"
        self.taken.add(name)
        return name

    def name(self, what: str) -> str:
        """A unique name with the layer at work in it."""
        return self.unique(f"{self.layer}/{what}" if self.layer else what)

    def constant(self, values: Array, what: str = "constant") -> str:
        """A constant tensor of the array's own type."""
        values = np.ascontiguousarray(values).reshape(np.shape(values))
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(values, self.name(what))
        return str(self._constants[key].name)

    def sizes(self, *sizes: int) -> str:
        """A constant list of sizes, axes or indices: what ONNX wants as int64."""
        return self.constant(np.array(sizes, np.int64), "sizes")

    def node(self, op: str, *inputs: str, called: str = "", **attributes: Any) -> str:
        """The value of a node, under its own name if `called` is given."""
        key = repr((op, inputs, called, sorted(attributes.items())))
        if key not in self._made:
            self._made[key] = called or self.name(op)
            self._nodes.append(helper.make_node(op, inputs, [self._made[key]], **attributes))
        return self._made[key]

    def scan(self, body: GraphProto, states: Sequence[str], trains: Sequence[str]) -> list[str]:
        """The values of a Scan over the first axis of `trains`: the last states, then what it wrote."""
        made = [self.unique(f"scan/{output.name}") for output in body.output]
        self._nodes.append(
            helper.make_node("Scan", [*states, *trains], made, body=body, num_scan_inputs=len(trains))
        )
        return made

    def reshape(self, name: str, shape: Sequence[int]) -> str:
        """The same numbers in another shape of one sample."""
        return self.node("Reshape", name, self.sizes(-1, *shape))

    def graph(
        self, name: str, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]
    ) -> GraphProto:
        """The finished graph."""
        return helper.make_graph(self._nodes, name, inputs, outputs, list(self._constants.values()))


def plus(model: Builder, name: str, values: Array) -> str:
    """name + values; adding nothing but zeros makes no node."""
    return model.node("Add", name, model.constant(values)) if np.any(values) else name


def times(model: Builder, name: str, values: Array) -> str:
    """name · values; multiplying by nothing but ones makes no node."""
    return model.node("Mul", name, model.constant(values)) if np.any(values != 1) else name


def total(model: Builder, terms: Sequence[str]) -> str:
    """The sum of all terms."""
    first, *rest = terms
    for term in rest:
        first = model.node("Add", first, term)
    return first


def flat_index(coordinates: Sequence[Array], sizes: Sequence[int]) -> Array:
    """Flat indices into an array of these sizes, or -1 where a coordinate lies outside: one array an axis."""
    axes = list(zip(np.broadcast_arrays(*coordinates), sizes, strict=True))
    inside = np.all([(at >= 0) & (at < size) for at, size in axes], axis=0)
    steps = [prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    flat = np.sum([at * step for (at, _), step in zip(axes, steps, strict=True)], axis=0)
    return np.where(inside, flat, -1)


def pick(model: Builder, name: str, sizes: tuple[int, int], index: Array, outside: Array) -> str:
    """y[n, c, i] = x[n, c, index.flat[i]], or `outside`, a number of x's type, where the index is -1.

    x is seen as so many channels of so many numbers each.
    """
    name = model.reshape(name, sizes)
    if np.any(index < 0):
        name = model.node("Pad", name, model.sizes(0, 0, 0, 0, 0, 1), model.constant(outside))
    places = np.where(index < 0, sizes[1], index).ravel().astype(np.int64)
    return model.node("Gather", name, model.constant(places, "index"), axis=2)
