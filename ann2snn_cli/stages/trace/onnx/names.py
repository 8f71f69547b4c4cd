"""What a user calls a node: the module of a PyTorch network where an exporter wrote it down."""

from __future__ import annotations

import ast
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from onnx import NodeProto

from ann2snn_cli.stages.trace.onnx.draft import kind_of

SCOPES = "pkg.torch.onnx.name_scopes"  # "['', 'layer1', 'layer1.0', 'relu_1']": torch.export's names


@dataclass(frozen=True)
class Place:
    """Where in the network a node stands."""

    path: str  # of the module, "layer1.0"
    word: str  # which of its calls

    @property
    def whole(self) -> str:
        """Both, "layer1.0.relu_1"."""
        return ".".join(filter(None, (self.path, self.word)))


def names_and_labels(nodes: Sequence[NodeProto], weights: Collection[str]) -> list[tuple[str, str]]:
    """For each node the name of the node it becomes, and what to show a user.

    A module that holds no other module is its own name, if one kind of operator is all it needed.
    """
    owners = [_owner(node, weights) for node in nodes]
    places = [place_of(node) for node in nodes]
    kinds: dict[str, set[str]] = {}
    for node, place in zip(nodes, places, strict=True):
        kinds.setdefault(place.path, set()).add(kind_of(node))
    outer = {path[:end] for path in kinds for end in range(len(path)) if path[end] == "."}

    def named(owner: str, place: Place) -> tuple[str, str]:
        if owner:
            return owner, owner
        leaf = bool(place.path) and place.path not in outer
        name = place.path if leaf and len(kinds[place.path]) == 1 else place.whole
        return name, place.path if leaf else place.whole

    return [named(owner, place) for owner, place in zip(owners, places, strict=True)]


def place_of(node: NodeProto) -> Place:
    """The path of a node: by the exporter's metadata, a name with slashes, or the name or output as it is."""
    scopes = _scopes(node)
    if len(scopes) > 1:
        return Place(scopes[-2], scopes[-1])
    if "/" not in node.name:
        return Place("", node.name or node.output[0])
    parts: list[str] = []
    for part in node.name.strip("/").split("/"):
        if parts and part.startswith(f"{parts[-1]}."):
            parts.pop()  # layer1/layer1.0: a Sequential's name is repeated in its children's
        parts.append(part)
    return Place(".".join(parts[:-1]), parts[-1])


def _scopes(node: NodeProto) -> list[str]:
    for entry in node.metadata_props:
        if entry.key == SCOPES:
            try:
                return [str(scope) for scope in ast.literal_eval(entry.value)]
            except (SyntaxError, ValueError, TypeError):
                return []
    return []


def _owner(node: NodeProto, weights: Collection[str]) -> str:
    """The module whose weights the node reads, by their name: "conv1" of "conv1.weight"."""
    owned = [name for name in node.input[1:] if name in weights and name.endswith(".weight")]
    return owned[0].removesuffix(".weight") if owned else ""
