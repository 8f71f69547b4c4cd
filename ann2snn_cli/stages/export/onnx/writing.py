"""The files: NAME.onnx, and NAME_step.onnx beside it where one step is exact in floats."""

from __future__ import annotations

from pathlib import Path

import onnx

from ann2snn_cli.errors import Setting, UnsupportedNetwork
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.stages.export.files import refuse_loss, sealed
from ann2snn_cli.stages.export.onnx.models import PRODUCER, network_model, step_model
from ann2snn_cli.stages.export.pack import describe
from ann2snn_cli.stages.export.replacement import clear, replacing
from ann2snn_cli.twins.replay import Damaged


def write(graph: Graph, path: Path, *, potentials: bool = True, overwrite: bool = False) -> str:
    """Write PATH, and PATH with _step before its suffix where a step is exact in float32: both or none.

    Gives the reason where that second file could not be written; empty where it was.
    """
    network, step = describe(graph), step_file(path)
    content = drafted(graph, path, potentials=potentials, overwrite=overwrite)
    with replacing(path.parent, path.name, overwrite=overwrite) as new:
        (new.place / path.name).write_bytes(content)
        try:
            (new.place / step.name).write_bytes(_bytes(step_model(network)))
        except Damaged as error:
            if not step.exists():
                return str(error)
            new.absent.append(step.name)
            return f"{error} ({step.name}, of an earlier export, was removed)"
    return ""


def drafted(graph: Graph, path: Path, *, potentials: bool = True, overwrite: bool = False) -> bytes:
    """The content of PATH, or its refusal; nothing is written yet."""
    clear(path.parent, path.name)
    for each in (path, step_file(path)):
        refuse_loss(each, is_ours=is_ours, overwrite=overwrite, setting="save_dir")
    try:
        return _bytes(network_model(describe(graph), potentials=potentials))
    except Damaged as error:
        raise UnsupportedNetwork(
            f"it has no ONNX form: {error}",
            remedy=f"lower {Setting('weight_bitwidth')} or {Setting('timesteps')}, or export a pack",
        ) from error


def _bytes(made: onnx.ModelProto) -> bytes:
    content: bytes = made.SerializeToString(deterministic=True)
    return sealed(content)


def step_file(path: Path) -> Path:
    """Where the step graph lies."""
    return path.with_name(f"{path.stem}_step{path.suffix}")


def is_ours(path: Path) -> bool:
    """An ONNX file that this tool wrote."""
    try:
        return path.is_file() and onnx.load(path, load_external_data=False).producer_name == PRODUCER
    except Exception:  # damaged protobuf raises its own errors of many kinds
        return False
