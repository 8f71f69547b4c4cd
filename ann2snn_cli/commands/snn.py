"""What commands on a converted network share: reading it, the data it was made for, packs of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ann2snn_cli.config import Settings

if TYPE_CHECKING:
    from ann2snn_cli.data import Data
    from ann2snn_cli.ir.graph import Graph


def load_snn(path: Path, schedule: str | None = None) -> tuple[Graph, dict[str, Any]]:
    """The graph in a `.pth`, in another schedule if one is given, and its provenance."""
    from ann2snn_cli.stages.export import pth

    graph, provenance = pth.load(path)
    if schedule:
        delay = graph.timing.timesteps if schedule == "layerwise" else 0
        graph = replace(graph, contract=graph.timing.with_delay(delay))
    return graph, provenance


def data_of(graph: Graph, provenance: dict[str, Any], settings: Settings, path: Path) -> Data:
    """The dataset asked for, else the one it was converted with; refused if its samples do not fit."""
    from ann2snn_cli import data
    from ann2snn_cli.errors import BadData

    samples = data.load(settings.data.dataset or provenance["dataset"], settings.data.data_dir)
    shapes = [node.shape for node in graph.inputs]
    if shapes != [tuple(samples.input_shape)]:
        raise BadData(
            f"the samples of {samples.name} have the shape {tuple(samples.input_shape)}, "
            f"the network takes {', '.join(map(str, shapes))}",
            where=str(path),
            remedy="give the data it was made for with --dataset",
        )
    return samples


def origin(provenance: dict[str, Any], dataset: str) -> dict[str, str]:
    """Where a pack comes from, for its manifest."""
    from ann2snn_cli.commands import tool_version

    return {"tool": f"ann2snn {tool_version()}", "network": provenance["network"], "dataset": dataset}
