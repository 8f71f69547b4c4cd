"""A node of the file as a call, and the graph as read so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from onnx import NodeProto, helper
from torch import Tensor

from ann2snn_cli.ir import rules
from ann2snn_cli.ir.ops import Op
from ann2snn_cli.ir.rules import Value
from ann2snn_cli.stages.trace.draft import Nodes
from ann2snn_cli.stages.trace.onnx.file import Array
from ann2snn_cli.types import Shape


class Refused(Exception):
    """Why a node cannot be read: one line of an error that names the node."""


@dataclass(frozen=True, eq=False)
class Call:
    """A node of the file."""

    proto: NodeProto
    attributes: Mapping[str, Any]  # as plain values; a tensor stays a TensorProto
    name: str  # of the node it becomes
    label: str  # what a user calls it
    ends: bool  # its value is the network's output and nothing else

    @classmethod
    def of(cls, proto: NodeProto, name: str, label: str, ends: bool) -> Call:
        """The call that a node makes."""
        attributes = {each.name: helper.get_attribute_value(each) for each in proto.attribute}
        plain = {
            key: value.decode() if isinstance(value, bytes) else value for key, value in attributes.items()
        }
        return cls(proto, plain, name, label, ends)

    @property
    def kind(self) -> str:
        """The operator."""
        return kind_of(self.proto)

    def ints(self, name: str, default: Shape) -> Shape:
        """An attribute that is a list of integers."""
        return tuple(int(item) for item in self.attributes.get(name, default))


def kind_of(proto: NodeProto) -> str:
    """The operator of a node, with its domain where that is not ONNX's own."""
    return proto.op_type if proto.domain == "" else f"{proto.domain}.{proto.op_type}"


@dataclass(frozen=True)
class Reading:
    """What a call becomes: an op and the nodes it reads; None for an op hands on the node it reads."""

    op: Op | None
    inputs: tuple[str, ...]
    shape: Shape | None = None  # of a sample of the result, where the op alone does not tell it
    value: Value | None = None  # the result as a rule knows it


@dataclass
class OnnxDraft(Nodes):
    """The nodes of an ONNX graph; each of its values is one of our nodes or a constant."""

    opset: int = 0
    batch: int = 0  # the length of the batch axis in the file's own shape arithmetic
    names: dict[str, str] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)  # what nodes give, as rules know it
    homes: dict[Value, str] = field(default_factory=dict)  # the node of each
    makers: dict[Value, rules.Call] = field(default_factory=dict)

    def given(self, call: Call, index: int) -> bool:
        """Has the call this input? Optional ones may be left out, or have no name."""
        return index < len(call.proto.input) and call.proto.input[index] != ""

    def value(self, call: Call, index: int = 0) -> str:
        """The node that gives an input."""
        name = call.proto.input[index]
        if name not in self.names:
            raise Refused(f"its input {index} is a constant")
        return self.names[name]

    def number(self, call: Call, index: int = 0) -> Value:
        """The same as a rule knows it."""
        return self.value_at(self.value(call, index))

    def argument(self, call: Call, index: int) -> Value | Tensor:
        """An input that is one of our nodes, or known."""
        return self.number(call, index) if self.is_value(call, index) else tensor(self.constant(call, index))

    def value_at(self, node: str) -> Value:
        """What a node gives, as a rule knows it."""
        if node not in self.values:
            self.bind(Value(self.shapes[node]), node)
        return self.values[node]

    def bind(self, value: Value, node: str) -> None:
        """Remember which node gives a value."""
        self.values[node], self.homes[value] = value, node

    def nodes_of(self, values: Sequence[Value]) -> tuple[str, ...]:
        """The nodes that give these values."""
        return tuple(self.homes[value] for value in values)

    def is_value(self, call: Call, index: int) -> bool:
        """Does an input come from one of our nodes?"""
        return self.given(call, index) and call.proto.input[index] in self.names

    def shape_of(self, call: Call, index: int = 0) -> Shape:
        """The shape of one sample of an input."""
        return self.shapes[self.value(call, index)]

    def constant(self, call: Call, index: int) -> Array:
        """An input that must be known."""
        name = call.proto.input[index]
        if name not in self.constants:
            raise Refused(f"its input {index} ({name}) is computed from the sample")
        return self.constants[name]

    def optional(self, call: Call, index: int) -> Array | None:
        """An input that must be known if it is there."""
        return self.constant(call, index) if self.given(call, index) else None

    def setting(self, call: Call, name: str, index: int) -> Any:
        """What older opsets keep in an attribute and newer ones in an input; None where it is in neither."""
        return call.attributes[name] if name in call.attributes else self.optional(call, index)

    def axes(self, call: Call, rank: int) -> Shape | None:
        """The axes that the call names, counted from 0 in an array of this rank, the batch's included."""
        axes = self.setting(call, "axes", 1)
        return None if axes is None else tuple(sorted(int(axis) % rank for axis in np.ravel(axes)))

    def before(self, call: Call, word: str, op: Op, source: str, shape: Shape) -> str:
        """A node that prepares an input of the call."""
        return self.add(op, (source,), shape, f"{call.name}.{word}", call.label)


def tensor(array: Array) -> Tensor:
    """A constant as a parameter."""
    return torch.from_numpy(np.array(array, dtype=np.float32))


Reader = Callable[[OnnxDraft, Call], Reading]
PieceReader = Callable[[OnnxDraft, Call, int], Reading]  # of one of several results
