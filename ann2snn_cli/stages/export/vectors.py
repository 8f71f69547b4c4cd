"""Test vectors: integer inputs, and the spikes and potentials expected of every population at every step."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import Input
from ann2snn_cli.ir.run import encode
from ann2snn_cli.ir.trains import Activity
from ann2snn_cli.stages.export.files import MANIFEST, as_json, write_folder

SCHEMA = "ann2snn/vectors/1"


class Recorder:
    """Collects what every population does while samples are simulated: hand it to `simulate` as `watch`."""

    def __init__(self) -> None:
        self.activity: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def __call__(self, node: Node, activity: Activity) -> None:
        """Keep one portion of samples."""
        assert activity.potentials is not None
        self.activity.setdefault(node.name, []).append((activity.train.cpu(), activity.potentials.cpu()))

    def arrays(self, name: str) -> tuple[Tensor, Tensor]:
        """(spikes, potentials) of one population, [timesteps, samples, ...]."""
        spikes, potentials = zip(*self.activity[name], strict=True)
        return torch.cat(spikes, dim=1), torch.cat(potentials, dim=1)


def write(
    graph: Graph, x: Tensor, labels: Tensor, recorder: Recorder, folder: Path, *, overwrite: bool = False
) -> Path:
    """Write the vectors of the samples `x`, whose simulation in the graph's own schedule `recorder` saw."""

    def fill(place: Path) -> None:
        files = {"samples.npz": _samples(graph, x, labels)}
        layers = []
        for index, name in enumerate(recorder.activity):
            spikes, potentials = recorder.arrays(name)
            file = f"{index:03d}_{_safe(name)}.npz"
            files[file] = {"spikes": _narrow(spikes), "potentials": _narrow(potentials)}
            layers.append(_layer(graph[name], file))
        hashes = {file: _save(place / file, arrays) for file, arrays in files.items()}
        (place / MANIFEST).write_bytes(as_json(_manifest(graph, len(x), layers, hashes)))

    return write_folder(folder, fill, overwrite=overwrite)


def _samples(graph: Graph, x: Tensor, labels: Tensor) -> dict[str, Any]:
    (node,) = graph.inputs
    assert isinstance(node.op, Input)
    return {node.name: _narrow(encode(node.op, x.cpu().double())), "label": labels.cpu().numpy()}


def _narrow(values: Tensor) -> Any:
    """The narrowest integers that hold the values; real numbers (behind opaque nodes) stay float64."""
    if not torch.equal(values, values.round()):
        return values.double().numpy()
    lowest, highest = int(values.min()), int(values.max())
    for kind in (np.uint8, np.int8, np.int16, np.int32):
        if np.iinfo(kind).min <= lowest and highest <= np.iinfo(kind).max:
            return values.numpy().astype(kind)
    return values.numpy().astype(np.int64)


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)


def _save(path: Path, arrays: dict[str, Any]) -> str:
    np.savez_compressed(path, **arrays)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _layer(node: Node, file: str) -> dict[str, Any]:
    return {
        "layer": node.name,
        "source": node.source,
        "kind": node.op.kind,
        "shape": list(node.shape),
        "file": file,
    }


def _manifest(
    graph: Graph, samples: int, layers: list[dict[str, Any]], hashes: dict[str, str]
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "contract": asdict(graph.timing)
        | {
            "order": "integrate, compare, reset",
            "comparator": ">=",
            "potentials": "after the reset (layerwise: of each firing step); read-out: the sum so far",
        },
        "axes": {"samples.npz": "[sample, ...]", "layers": "[timestep, sample, ...]"},
        "samples": samples,
        "layers": layers,
        "sha256": hashes,
    }
