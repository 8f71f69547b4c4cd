"""The graph as read so far: what single calls are looked up in and add their nodes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch.fx import Node as FxNode

from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import Input, Op
from ann2snn_cli.ir.rules import Call, Value
from ann2snn_cli.stages.trace.calls import batch_size, module_of, result_of, target_of
from ann2snn_cli.stages.trace.forms import widened
from ann2snn_cli.types import Shape


@dataclass
class Nodes:
    """Our nodes so far, each with a name of its own: what every kind of network adds to."""

    nodes: list[Node] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)  # of a name that was taken, the next to try

    def add(self, op: Op, inputs: tuple[str, ...], shape: Shape, name: str, source: str) -> str:
        """Add a node; gives its name, with a number where it is taken."""
        unique, again = name, self.numbers.get(name, 2)
        while unique in self.shapes:
            unique, again = f"{name}:{again}", again + 1
        self.numbers[name] = again
        self.nodes.append(Node(unique, op, inputs, shape, source))
        self.shapes[unique] = shape
        return unique

    def graph(self) -> Graph:
        """Give what was drafted, as a graph, without what no output depends on."""
        used = set(self.outputs)
        for node in reversed(self.nodes):
            if node.name in used:
                used.update(node.inputs)
        kept = (node for node in self.nodes if node.name in used or isinstance(node.op, Input))
        return Graph(tuple(kept), tuple(self.outputs))


@dataclass
class Draft(Nodes):
    """The nodes of an exported program; what each call gives is the value of a node, or a constant."""

    values: dict[FxNode, Value] = field(default_factory=dict)
    names: dict[Value, str] = field(default_factory=dict)  # the node whose value it is
    constants: dict[FxNode, Any] = field(default_factory=dict)
    makers: dict[Value, Call] = field(default_factory=dict)

    def argument(self, argument: Any) -> Any:
        """Give an argument as a rule sees it: values and constants in place of the calls that gave them."""
        if isinstance(argument, FxNode):
            return self.constants.get(argument, self.values.get(argument, argument))
        if isinstance(argument, list | tuple):
            return tuple(self.argument(item) for item in argument)
        return batch_size(argument) if isinstance(argument, torch.SymInt) else widened(argument)

    def call(self, call: FxNode, result: FxNode, output: int | None = None) -> Call:
        """Describe a call to its rule; `result` is the call itself, or the one that takes an item of it."""
        schema = call.target._schema.arguments  # type: ignore[union-attr]
        given = dict(zip((item.name for item in schema), call.args, strict=False)) | dict(call.kwargs)
        arguments = {
            item.name: self.argument(given[item.name]) if item.name in given else item.default_value
            for item in schema
        }
        return Call(
            target_of(call), arguments, result_of(result), output, module_of(call).label, makers=self.makers
        )

    def first_input(self) -> Value:
        """Give the sample: it tells the size of the batch."""
        return next(iter(self.values.values()))
