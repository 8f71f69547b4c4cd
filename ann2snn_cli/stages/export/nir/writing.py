"""A SPIKING graph as a NIR file, and beside it the table of what the file does not say."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ann2snn_cli.errors import BadFile, UsageError, as_words, spelled
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import Conv, Input, Integrate, IntegrateFire, Linear, Op, Scale
from ann2snn_cli.stages.export.files import as_sealed_json, is_our_json, refuse_loss, sha256_of
from ann2snn_cli.stages.export.nir.draft import NirDraft, Sources
from ann2snn_cli.stages.export.nir.flavors import TABLE, Flavor
from ann2snn_cli.stages.export.nir.layers import LAYERS
from ann2snn_cli.stages.export.nir.losses import NirLoss, of_network
from ann2snn_cli.stages.export.nir.neurons import outputs, population, readout
from ann2snn_cli.stages.export.nir.refusals import refuse
from ann2snn_cli.stages.export.replacement import clear, replacing

SCHEMA = "ann2snn/nir-loss/1"
ADVISORY = "advisory: NIR lets no reader rely on metadata"

_TRANSLATIONS: dict[type[Op], Callable[[NirDraft, Node, Any], Sources]] = {
    **LAYERS,
    IntegrateFire: population,
    Integrate: readout,
}


def write(graph: Graph, path: Path, *, flavor: str = "plain", overwrite: bool = False) -> list[NirLoss]:
    """Write a SPIKING graph, and the loss table in NAME.nir.loss.json: both or none. Same graph, same bytes.

    Refuses, all at once, the layers that NIR cannot say.
    """
    draft, table = drafted(graph, path, flavor=flavor, overwrite=overwrite), loss_file(path)
    content = _bytes(draft, flavor)
    losses = [*of_network(graph, draft.flavor), *draft.losses]
    with replacing(path.parent, path.name, overwrite=overwrite) as new:
        (new.place / path.name).write_bytes(content)
        (new.place / table.name).write_bytes(as_sealed_json(_document(draft, flavor, losses, content)))
    return losses


def drafted(graph: Graph, path: Path, *, flavor: str = "plain", overwrite: bool = False) -> NirDraft:
    """What is to be written, or its refusal; nothing is written yet."""
    if flavor not in TABLE:
        raise UsageError(f"there is no flavor {flavor!r} of NIR", remedy=f"choose one of {', '.join(TABLE)}")
    clear(path.parent, path.name)
    refuse_loss(loss_file(path), is_ours=is_our_json, overwrite=overwrite, setting="save_dir")
    refuse_loss(path, is_ours=is_ours, is_unchanged=is_unchanged, overwrite=overwrite, setting="save_dir")
    return translated(graph, flavor)


def loss_file(path: Path) -> Path:
    """Where the loss table of a .nir lies."""
    return path.with_name(f"{path.name}.loss.json")


def is_ours(path: Path) -> bool:
    """Is there a loss table beside it? (Not every flavor may carry a mark of ours.)"""
    return path.is_file() and is_our_json(loss_file(path))


def is_unchanged(path: Path) -> bool:
    """Does the loss table know its content?"""
    known: object = json.loads(loss_file(path).read_text("utf-8")).get("sha256")
    return known == sha256_of(path)


def flavor_of(path: Path) -> Flavor:
    """The flavor of a .nir that `write` made."""
    if not is_ours(path) or not is_unchanged(path):
        raise BadFile(
            "it is not the file that its loss table describes", where=str(path), remedy="export it again"
        )
    return TABLE[json.loads(loss_file(path).read_text("utf-8"))["contract"]["flavor"]]


def translated(graph: Graph, flavor: str) -> NirDraft:
    """All nodes and edges, and what was lost on the way."""
    draft = NirDraft(graph.to("cpu"), TABLE[flavor])
    refuse(draft)
    for node in draft.graph.nodes:
        draft.values[node.name] = _TRANSLATIONS[type(node.op)](draft, node, node.op)
    outputs(draft)
    return draft


# The file ------------------------------------------------------------------------------------------


class _Stripped:
    """The content of a graph without what came with nir 1.0.6: `nir.write` asks for `to_dict` only."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content

    def to_dict(self) -> dict[str, Any]:
        nodes = {
            name: {key: value for key, value in node.items() if key != "v_reset"}
            for name, node in self.content["nodes"].items()
        }
        return {**self.content, "nodes": nodes}


def _bytes(draft: NirDraft, flavor: str) -> bytes:
    metadata = (
        {"ann2snn": {"note": ADVISORY, **_contract(draft.graph, flavor)}} if draft.flavor.current else {}
    )
    graph: Any = draft.library.NIRGraph(nodes=draft.nodes, edges=draft.edges, metadata=metadata)
    buffer = io.BytesIO()
    draft.library.write(buffer, graph if draft.flavor.current else _Stripped(graph.to_dict()))
    return buffer.getvalue()


def _contract(graph: Graph, flavor: str) -> dict[str, Any]:
    return {
        "flavor": flavor,
        **graph.timing.to_plain(),
        "comparator": ">=",
        "order": "integrate, compare, reset",
    }


# The loss table ------------------------------------------------------------------------------------


def _document(draft: NirDraft, flavor: str, losses: list[NirLoss], content: bytes) -> dict[str, Any]:
    graph = draft.graph
    synapses = graph.of(Conv, Linear, Scale)
    return {
        "schema": SCHEMA,
        "sha256": hashlib.sha256(content).hexdigest(),
        "contract": _contract(graph, flavor),
        "inputs": {draft.names[node.name]: _coding(node) for node in graph.inputs},
        "populations": {draft.names[node.name]: node.name for node in graph.of(IntegrateFire)},
        "outputs": {name: _decoding(node) for name, node in draft.outputs.items()},
        "weight_bits": {node.name: getattr(node.op, "bits", None) for node in synapses},
        "losses": [asdict(loss) | {"remedy": spelled(loss.remedy, as_words)} for loss in losses],
    }


def _coding(node: Node) -> dict[str, Any]:
    assert isinstance(node.op, Input)
    return {"layer": node.name, "unit": node.op.unit, "low": node.op.low, "high": node.op.high}


def _decoding(node: Node) -> dict[str, Any]:
    """The real value of 1, by output or for all: value = sum over the steps / T · unit."""
    return {"layer": node.name, "unit": node.known_unit.flatten().tolist()}
