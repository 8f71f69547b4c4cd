"""The one value that flows through the house: a graph of nodes, at a level that says how far it has come."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property
from typing import TypeVar

import torch

from ann2snn_cli.errors import InvalidGraph
from ann2snn_cli.ir import show
from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.ops import FLOAT_BITS, Input, Op, Opaque, Place, Synapse, map_tensors


class Level(IntEnum):
    """How far a graph has come; `ir/validate.py` holds the rules of each level."""

    FLOAT = 0  # the user's network, op by op
    FOLDED = 1  # no batch norm; biases sit at the neurons
    CALIBRATED = 2  # every population knows its clip: the largest activation it will represent
    QUANTIZED = 3  # every synapse knows its bit width and step
    SPIKING = 4  # integer weights, thresholds, biases, initial potentials


@dataclass(frozen=True, eq=False)
class Node:
    """One call of one op. A ReLU module used twice is two nodes, so two populations."""

    name: str
    op: Op
    inputs: tuple[str, ...]
    shape: tuple[int, ...]  # of one sample: [channels, ...], the batch is left out
    source: str = ""  # the module in the user's own network
    unit: torch.Tensor | None = None  # SPIKING: the real value of 1; [] or broadcasting to `shape`

    @property
    def known_unit(self) -> torch.Tensor:
        """The unit of a node of a SPIKING graph: value = Σ over the steps / T · unit."""
        if self.unit is None:
            raise InvalidGraph(f"{self.name!r} has no unit yet", where=self.source)
        return self.unit


@dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """Nodes in topological order. Every stage takes one and returns a new one."""

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    level: Level = Level.FLOAT
    contract: Contract | None = None
    by_name: Mapping[str, Node] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        seen: dict[str, Node] = {}
        for node in self.nodes:
            if node.name in seen:
                raise InvalidGraph(f"two nodes are called {node.name!r}", where=node.source)
            missing = [name for name in node.inputs if name not in seen]
            if missing:
                raise InvalidGraph(
                    f"{node.name!r} reads {missing}, defined nowhere before it", where=node.source
                )
            seen[node.name] = node
        if unknown := [name for name in self.outputs if name not in seen]:
            raise InvalidGraph(f"the outputs {unknown} are no nodes")
        object.__setattr__(self, "by_name", seen)

    def __repr__(self) -> str:
        """A table, a row a node."""
        return show.table(self)

    def __getitem__(self, name: str) -> Node:
        return self.by_name[name]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    @cached_property
    def inputs(self) -> tuple[Node, ...]:
        """The nodes that take the sample, in the order of the network's arguments."""
        return tuple(node for node in self.nodes if isinstance(node.op, Input))

    @cached_property
    def users(self) -> Mapping[str, tuple[Node, ...]]:
        """For every node, the nodes that read it (once for each time they do)."""
        users: dict[str, list[Node]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in node.inputs:
                users[name].append(node)
        return {name: tuple(nodes) for name, nodes in users.items()}

    @cached_property
    def last_use(self) -> Mapping[str, str]:
        """For every node, the last node that reads it: past that one its value can be dropped."""
        return {name: users[-1].name if users else name for name, users in self.users.items()}

    def of(self, *kinds: type[Op]) -> tuple[Node, ...]:
        """The nodes whose op is of one of these kinds."""
        return tuple(node for node in self.nodes if isinstance(node.op, kinds))

    @cached_property
    def spiking(self) -> frozenset[str]:
        """The nodes that pass on 0 or 1: populations, and what only moves or selects their spikes."""
        found: set[str] = set()
        for node in self.nodes:
            passes = node.op.keeps_spikes and all(name in found for name in node.inputs)
            if node.op.fires or passes:
                found.add(node.name)
        return frozenset(found)

    @cached_property
    def real(self) -> frozenset[str]:
        """The nodes whose values are real numbers, not integers: opaque ones and what they feed."""
        found: set[str] = set()
        for node in self.nodes:
            reads_reals = any(name in found for name in node.inputs)
            if node.op.gives_reals or (reads_reals and not node.op.fires):
                found.add(node.name)
        return frozenset(found)

    @cached_property
    def real_operators(self) -> tuple[Node, ...]:
        """What runs on real numbers, and never spikes; pieces of a layer that has a name are left out."""
        opaque = [(node, node.op) for node in self.nodes if isinstance(node.op, Opaque)]
        named = {node.source for node, op in opaque if op.is_named}
        return tuple(node for node, op in opaque if op.is_named or node.source not in named)

    @cached_property
    def widest(self) -> int:
        """The most values that a node has, of one sample."""
        return max(math.prod(node.shape) for node in self.nodes)

    @cached_property
    def has_float_weights(self) -> bool:
        """Are its weights floats (32 bits: no quantization)?"""
        return any(isinstance(node.op, Synapse) and node.op.bits == FLOAT_BITS for node in self.nodes)

    @cached_property
    def device(self) -> torch.device | None:
        """Where its weights are, or, of a SPIKING graph without any, its units; None if it has neither."""
        weights = [node.op.weight for node in self.nodes if isinstance(node.op, Synapse)]
        tensors = weights or [node.unit for node in self.nodes if node.unit is not None]
        return tensors[0].device if tensors else None

    def place(self, node: Node, *, contract: Contract | None = None, keeps_potentials: bool = False) -> Place:
        """Where a node stands: what its op may ask of its surroundings."""
        return Place(
            node,
            self.fed_by(node),
            contract or self.timing,
            self.has_float_weights,
            node.name in self.real,
            keeps_potentials,
            self.device,
        )

    @property
    def timing(self) -> Contract:
        """The contract of a graph that has one (QUANTIZED and SPIKING)."""
        if self.contract is None:
            raise InvalidGraph(f"a graph at level {self.level.name} has no contract yet")
        return self.contract

    def with_nodes(self, nodes: Iterable[Node], **changes: object) -> Graph:
        """This graph with other nodes (and outputs, level or contract, by name)."""
        return replace(self, nodes=tuple(nodes), **changes)  # type: ignore[arg-type]

    def with_ops(self, ops: Mapping[str, Op], **changes: object) -> Graph:
        """This graph with the ops of the named nodes replaced."""
        nodes = (replace(node, op=ops[node.name]) if node.name in ops else node for node in self.nodes)
        return self.with_nodes(nodes, **changes)

    def map_tensors(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Graph:
        """This graph with every tensor of every op replaced by `change(tensor)`."""
        return self.with_nodes(
            replace(
                node,
                op=map_tensors(node.op, change),
                unit=None if node.unit is None else change(node.unit),
            )
            for node in self.nodes
        )

    def to(self, device: torch.device | str) -> Graph:
        """This graph on another device; itself where it is there already, with all that was proved of it."""
        moved = False

        def move(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal moved
            there = tensor.to(device)
            moved = moved or there is not tensor
            return there

        graph = self.map_tensors(move)
        return graph if moved else self

    def fed_by(self, node: Node) -> tuple[Node, ...]:
        """The nodes that `node` reads."""
        return tuple(self.by_name[name] for name in node.inputs)


def channel_axis(graph: Graph, node: Node) -> int:
    """Which axis of a sample is that of the channels: behind a linear layer the last, else the first."""
    features_last = any(feeder.op.kind == "Linear" for feeder in graph.fed_by(node))  # torch's own too
    return len(node.shape) - 1 if features_last else 0


Value = TypeVar("Value")


def sweep(graph: Graph, compute: Callable[[Node, list[Value]], Value]) -> dict[str, Value]:
    """Visit the nodes in order, handing each the values of its inputs, and return the outputs' values.

    A value is dropped after its last use, so memory follows the width of the network, not its depth.
    """
    values: dict[str, Value] = {}
    kept: dict[str, Value] = {}
    for node in graph.nodes:
        values[node.name] = compute(node, [values[name] for name in node.inputs])
        if node.name in graph.outputs:
            kept[node.name] = values[node.name]
        for name in {*node.inputs, node.name}:
            if graph.last_use[name] == node.name:
                del values[name]
    return {name: kept[name] for name in graph.outputs}
