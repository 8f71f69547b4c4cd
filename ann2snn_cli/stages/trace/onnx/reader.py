"""The walk over the nodes of the file: what each becomes, and all that cannot be read, at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from onnx import NodeProto, checker

from ann2snn_cli.errors import BadWeights, UnsupportedNetwork
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import map_tensors
from ann2snn_cli.ir.rules import merged, shape_after
from ann2snn_cli.stages.trace.onnx import activations, choices, layers, moves, pools, resizing, sums
from ann2snn_cli.stages.trace.onnx.constants import fold, is_constant
from ann2snn_cli.stages.trace.onnx.draft import (
    Call,
    OnnxDraft,
    PieceReader,
    Reader,
    Reading,
    Refused,
    kind_of,
)
from ann2snn_cli.stages.trace.onnx.file import OnnxFile, first_line
from ann2snn_cli.stages.trace.onnx.inputs import bind
from ann2snn_cli.stages.trace.onnx.merge import merge_affine
from ann2snn_cli.stages.trace.onnx.names import names_and_labels, place_of
from ann2snn_cli.types import Shape

_READERS: dict[str, Reader] = merged(
    layers.READERS,
    pools.READERS,
    activations.READERS,
    choices.READERS,
    sums.READERS,
    moves.READERS,
    resizing.READERS,
)
_PIECE_READERS: dict[str, PieceReader] = moves.PIECE_READERS  # nodes with several results

_HANDS_ON = {"Identity", "Dropout"}

_UNKNOWN = "there is no reader for this operator"
_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul")
_REMEDIES = {
    **dict.fromkeys(_QUANTIZED, "give the network before it was quantized: quantizing is what is done here"),
    **dict.fromkeys(("If", "Loop", "Scan"), "export it without control flow, for inputs of fixed sizes"),
}


def read(
    file: OnnxFile, input_shapes: Sequence[Shape] | Mapping[str, Shape] | None = None
) -> tuple[Graph, tuple[str, ...]]:
    """The network as a graph, FLOAT, and what a user should know of how it was read.

    `input_shapes` are one sample's, in order or by name; without them the file must give every size but the
    batch.
    """
    nodes = _needed(file.model.graph.node, [each.name for each in file.model.graph.output])
    walk = _Walk(file, nodes)
    bind(file, walk.draft, input_shapes)
    for proto, (name, label) in zip(nodes, walk.names(), strict=True):
        walk.visit(proto, name, label)
    walk.refuse_problems()
    return _checked(file, walk.graph()), tuple(walk.draft.notes)


def _needed(nodes: Sequence[NodeProto], outputs: Sequence[str]) -> list[NodeProto]:
    """The nodes that the outputs depend on, in order."""
    wanted, needed = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            needed.append(node)
    return needed[::-1]


def _ends(nodes: Sequence[NodeProto], outputs: Sequence[str]) -> set[str]:
    """The values that are an output, perhaps by way of nodes that hand them on, and are read nowhere else."""
    uses = Counter([*outputs, *(name for node in nodes for name in node.input)])
    ends = {name for name in outputs if uses[name] == 1}
    for node in reversed(nodes):
        if node.op_type in _HANDS_ON and node.output[0] in ends and uses[node.input[0]] == 1:
            ends.add(node.input[0])
    return ends


@dataclass
class _Walk:
    """Visits the nodes in order and collects ours in the draft."""

    file: OnnxFile
    nodes: Sequence[NodeProto]
    draft: OnnxDraft = field(init=False)
    ends: set[str] = field(init=False)
    live: set[str] = field(default_factory=set)  # what follows from the sample's values
    broken: set[str] = field(default_factory=set)  # what nodes that cannot be read would have given
    problems: list[tuple[Call, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draft = OnnxDraft(opset=self.file.opset, constants=dict(self.file.weights))
        self.ends = _ends(self.nodes, [each.name for each in self.file.model.graph.output])

    def names(self) -> list[tuple[str, str]]:
        """The name and label of every node. Those that compute constants have no say in the others'."""
        self.live.update(self.draft.names)
        names = [(place_of(node).whole, place_of(node).whole) for node in self.nodes]
        places = []
        for place, node in enumerate(self.nodes):
            if kind_of(node) != "Shape" and self.live.intersection(node.input):
                self.live.update(node.output)
                places.append(place)
        given = names_and_labels([self.nodes[place] for place in places], self.draft.constants)
        for place, name_and_label in zip(places, given, strict=True):
            names[place] = name_and_label
        return names

    def visit(self, proto: NodeProto, name: str, label: str) -> None:
        """Read one node, or note why not."""
        call = Call.of(proto, name, label, proto.output[0] in self.ends)
        try:
            if self.broken.intersection(proto.input):
                self.broken.update(proto.output)
                if proto.output[0] in self.live:
                    self._refuse_unknown(call)
            else:
                self._read(call)
        except Refused as refused:
            self.problems.append((call, str(refused)))
            self.broken.update(proto.output)

    def _read(self, call: Call) -> None:
        proto, draft = call.proto, self.draft
        for name in filter(None, proto.input):
            if name not in draft.names and name not in draft.constants:
                raise Refused(f"it reads {name!r}, a result that is not computed here")
        if is_constant(proto, draft.constants):
            draft.constants.update(zip(proto.output, fold(proto, draft.constants, draft.opset), strict=False))
        elif call.kind == "Shape":
            whole = np.array((draft.batch, *draft.shape_of(call)), dtype=np.int64)
            chosen = slice(call.attributes.get("start", 0), call.attributes.get("end"))
            draft.constants[proto.output[0]] = whole[chosen]
        else:
            self._refuse_unknown(call)
            self._refuse_invalid(call)
            self._read_value(call)

    def _refuse_unknown(self, call: Call) -> None:
        if call.kind not in {*_READERS, *_PIECE_READERS, "Shape"}:
            raise Refused(_UNKNOWN)

    def _refuse_invalid(self, call: Call) -> None:
        """Check a node by its operator's schema. (The whole model's refuses files that all runtimes take.)"""
        context = type(checker.DEFAULT_CONTEXT)()
        context.ir_version = checker.DEFAULT_CONTEXT.ir_version
        context.opset_imports = {"": self.draft.opset}
        try:
            checker.check_node(call.proto, context)
        except checker.ValidationError as error:
            raise Refused(f"it is not valid: {first_line(error)}") from error

    def _read_value(self, call: Call) -> None:
        try:
            if call.kind in _PIECE_READERS:
                for index, output in enumerate(call.proto.output):
                    self._emit(call, _PIECE_READERS[call.kind](self.draft, call, index), output)
            else:
                self._emit(call, _READERS[call.kind](self.draft, call), call.proto.output[0])
        except Refused:
            raise
        except Exception as error:  # torch, numpy and Python each have their own for sizes that do not fit
            raise Refused(f"its sizes or attributes do not fit: {first_line(error)}") from error

    def _emit(self, call: Call, reading: Reading, output: str) -> None:
        if reading.op is None:
            self.draft.names[output] = reading.inputs[0]
            return
        shape = reading.shape
        if shape is None:
            shape = shape_after(reading.op, [self.draft.shapes[name] for name in reading.inputs])
        node = self.draft.add(reading.op, reading.inputs, shape, call.name, call.label)
        self.draft.names[output] = node
        if reading.value is not None:
            self.draft.bind(reading.value, node)

    def refuse_problems(self) -> None:
        """Raise if there are any: one error for all."""
        if not self.problems:
            return
        found: dict[str, list[str]] = {}
        for call, why in self.problems:
            own = call.proto.name
            shown = f"{call.label} ({own})" if own not in ("", call.label) else call.label
            found.setdefault(f"{call.kind}: {why}", []).append(shown)
        lines = [f"{problem}: {', '.join(nodes)}" for problem, nodes in found.items()]
        count = len(self.problems)
        raise UnsupportedNetwork(
            "\n  ".join([f"{count} of its nodes cannot be read", *lines]),
            where=str(self.file.path),
            remedy=_remedy([call.kind for call, why in self.problems if why is _UNKNOWN]),
        )

    def graph(self) -> Graph:
        """What was read, with biases and scales in the layers they belong to."""
        for output in self.file.model.graph.output:
            if output.name in self.draft.names:
                self.draft.outputs.append(self.draft.names[output.name])
        if not self.draft.outputs:
            raise UnsupportedNetwork(
                "the network's output does not depend on its input",
                where=str(self.file.path),
                remedy="export what the layers computed",
            )
        return merge_affine(self.draft.graph())


def _remedy(unknown: Collection[str]) -> str:
    otherwise = "change these layers in the network and export it again"
    words = [_REMEDIES.get(kind, otherwise) for kind in unknown] or [otherwise]
    if unknown:
        words.append(f"what can be read: {', '.join(sorted({*_READERS, *_PIECE_READERS}))}")
    return "; ".join(dict.fromkeys(words))


def _checked(file: OnnxFile, graph: Graph) -> Graph:
    """The graph itself, if all its numbers are numbers."""
    bad: list[str] = []

    def look(node: Node) -> None:
        def note(value: torch.Tensor) -> torch.Tensor:
            if not bool(torch.isfinite(value).all()):
                bad.append(node.source)
            return value

        map_tensors(node.op, note)

    for node in graph.nodes:
        look(node)
    if bad:
        raise BadWeights(
            f"the weights hold NaN or infinite values: {', '.join(dict.fromkeys(bad))}",
            where=str(file.path),
            remedy="the training diverged: export an earlier checkpoint, or train with a lower learning rate",
        )
    return graph
