"""A NIR graph in the making, and the names of its nodes."""

from __future__ import annotations

import keyword
import re
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.stages.export.nir.flavors import Flavor
from ann2snn_cli.stages.export.nir.library import library
from ann2snn_cli.stages.export.nir.losses import NirLoss

Sources = tuple[str, ...]  # NIR nodes; what arrives over several edges is summed


def names(graph: Graph) -> dict[str, str]:
    """The NIR node that stands for each node of ours: for a population, the one that gives its spikes."""
    found: dict[str, str] = {}
    for node in graph.nodes:
        found[node.name] = _free(_safe(node.name), set(found.values()))
    return found


def _safe(name: str) -> str:
    """A name that no reader stumbles over: they become attributes of torch modules."""
    name = re.sub(r"\W", "_", name)
    taken = keyword.iskeyword(name) or name.startswith("_") or hasattr(nn.ModuleDict(), name)
    return f"n_{name}" if taken or name[:1].isdigit() else name


def _free(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    return next(other for count in range(2, len(taken) + 3) if (other := f"{name}_{count}") not in taken)


def array(values: Tensor, shape: tuple[int, ...] | None = None) -> Any:
    """The numbers as numpy's float32, or float64 where float32 would change one; spread over `shape`."""
    exact = values.detach().cpu().to(torch.float64)
    exact = exact if shape is None else exact.expand(shape)
    narrow = exact.to(torch.float32)
    chosen = narrow if torch.equal(narrow.to(torch.float64), exact) else exact
    return np.ascontiguousarray(chosen.numpy())


def extent(shape: tuple[int, ...]) -> Any:
    """A shape as nir wants it."""
    return np.array(shape, dtype=np.int64)


class Geometry(NamedTuple):
    """Where a convolution reads."""

    before: tuple[int, ...]  # the shape of what it reads: [channels, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    def fields(self, axes: int) -> dict[str, Any]:
        """Write extents as nir does: numbers for one axis, tuples for two."""
        values = {"input_shape": self.before[1:], "stride": self.stride}
        values |= {"padding": self.padding, "dilation": self.dilation}
        return {key: value[0] if axes == 1 else value for key, value in values.items()}


class NirDraft:
    """Collects NIR nodes, edges and losses while the graph is walked in order."""

    def __init__(self, graph: Graph, flavor: Flavor) -> None:
        self.graph = graph
        self.flavor = flavor
        self.library = library()
        self.names = names(graph)
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.values: dict[str, Sources] = {}  # by node of ours: where its value comes from
        self.outputs: dict[str, Node] = {}  # by NIR node
        self.losses: list[NirLoss] = []

    def fed(self, node: Node) -> Sources:
        """Where the only input of `node` comes from."""
        (feeder,) = node.inputs
        return self.values[feeder]

    def put(self, node: Node, kind: str, sources: Sources, role: str = "", **fields: Any) -> str:
        """Add a NIR node fed by `sources`; the one without a role carries the name of `node`."""
        name = self.names[node.name]
        if role:
            name = _free(f"{name}_{role}", {*self.nodes, *self.names.values()})
        metadata = {"source": node.source} if self.flavor.current and node.source else {}
        self.nodes[name] = getattr(self.library, kind)(metadata=metadata, **fields)
        self.edges += [(source, name) for source in sources]
        return name

    def scaled(self, node: Node, sources: Sources, by: Tensor, role: str = "") -> str:
        """Add a Scale: every value times its own number."""
        return self.put(node, "Scale", sources, role, scale=array(by, node.shape))

    def mixed(
        self,
        node: Node,
        sources: Sources,
        matrix: Tensor,
        bias: Tensor | None,
        role: str = "",
        *,
        before: tuple[int, ...],
        stride: tuple[int, ...] | None = None,
    ) -> str:
        """Add y = M·x + b over the channels, place by place: an Affine, or a convolution of one tap."""
        axes = len(before) - 1
        geometry = Geometry(before, stride or (1,) * axes, (0,) * axes, (1,) * axes)
        return self.convolved(node, sources, matrix.reshape(*matrix.shape, *[1] * axes), bias, geometry, role)

    def convolved(
        self,
        node: Node,
        sources: Sources,
        weight: Tensor,
        bias: Tensor | None,
        geometry: Geometry,
        role: str = "",
    ) -> str:
        """Add a convolution without groups: nir's own type check knows no others. Without axes: an Affine."""
        axes = weight.dim() - 2
        biases = weight.new_zeros(len(weight)) if bias is None else bias
        fields: dict[str, Any] = {"weight": array(weight), "bias": array(biases)}
        if axes:
            fields |= {"groups": 1, **geometry.fields(axes)}
        return self.put(node, f"Conv{axes}d" if axes else "Affine", sources, role, **fields)

    def lose(self, node: Node, what: str, effect: str, remedy: str) -> None:
        """Add a row to the loss table."""
        self.losses.append(NirLoss(node.name, node.source, what, effect, remedy))
