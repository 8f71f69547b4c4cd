"""The graph as read so far: what the readers of single calls look things up in and add nodes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch.fx import Node as FxNode

from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import Op

Shape = tuple[int, ...]

Reading = tuple[Op | None, tuple[FxNode, ...]]  # an op and the calls it reads; None hands on its input


@dataclass
class Nodes:
    """Our nodes so far, each with a name of its own: what the readers of every kind of network add to."""

    nodes: list[Node] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)

    def add(self, op: Op, inputs: tuple[str, ...], shape: Shape, name: str, source: str) -> str:
        """A new node; gives its name, with a number where it is taken."""
        unique, again = name, 2
        while unique in self.shapes:
            unique, again = f"{name}:{again}", again + 1
        self.nodes.append(Node(unique, op, inputs, shape, source))
        self.shapes[unique] = shape
        return unique

    def graph(self) -> Graph:
        """What was drafted, as a graph."""
        return Graph(tuple(self.nodes), tuple(self.outputs))


@dataclass
class Draft(Nodes):
    """The nodes of an exported program; each call's value is a node's name or a constant."""

    names: dict[FxNode, str] = field(default_factory=dict)
    constants: dict[FxNode, Any] = field(default_factory=dict)

    def value(self, argument: Any) -> Any:
        """An argument with constants filled in; a node of the graph stays an fx node."""
        if isinstance(argument, FxNode):
            return self.constants.get(argument, argument)
        if isinstance(argument, list | tuple):
            return tuple(self.value(item) for item in argument)
        return argument

    def arguments(self, call: FxNode) -> dict[str, Any]:
        """The call's arguments by the names in the operator's schema, defaults filled in."""
        schema = call.target._schema  # type: ignore[union-attr]
        values = {item.name: item.default_value for item in schema.arguments if item.has_default_value()}
        values.update({item.name: arg for item, arg in zip(schema.arguments, call.args, strict=False)})
        values.update(call.kwargs)
        return {name: self.value(value) for name, value in values.items()}

    def is_value(self, argument: Any) -> bool:
        """Is this the value of a node of our graph?"""
        return isinstance(argument, FxNode) and argument in self.names
