"""From the disk to a whole, valid ONNX model, or an error that says what the file lacks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, inliner, numpy_helper

from ann2snn_cli.claims import refuse_sparse
from ann2snn_cli.errors import BadFile, UnsupportedNetwork

OLDEST_OPSET = 7
MOST_NODES = 1_000_000  # with local functions written out
UNREADABLE = "its weights cannot be read"
ROOM = 2**16  # bytes behind a tensor in a file: exporters align them
Array = np.ndarray[Any, Any]

EXPORT = "torch.onnx.export(network, (samples,), 'model.onnx')"


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """A model with its weights loaded and its local functions inlined."""

    path: Path
    model: ModelProto
    weights: dict[str, Array]  # the constants it is stored with, by name
    sha256: str  # of the file, followed by the files its weights lie in

    @property
    def opset(self) -> int:
        """The version of the standard operators."""
        return max(int(each.version) for each in self.model.opset_import if each.domain == "")

    @property
    def inputs(self) -> list[ValueInfoProto]:
        """What the network is given: before IR version 4 its weights are listed as inputs too."""
        return [each for each in self.model.graph.input if each.name not in self.weights]


def read_file(path: Path) -> OnnxFile:
    """The model in a file and in the files of weights beside it."""
    model = _parsed(path)
    beside = _weight_files(model, path)
    try:
        _refuse_claims(model, path)
        onnx.load_external_data_for_model(model, str(path.parent))
        weights = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    except BadFile:
        raise
    except Exception as error:  # its own error, ValueError, OSError, ...: whatever the damage leads to
        raise BadFile(
            f"{UNREADABLE}: {first_line(error)}",
            where=str(path),
            remedy=f"export it again: {EXPORT}",
        ) from error
    digest = hashlib.sha256()
    for each in (path, *beside):
        digest.update(each.read_bytes())
    if model.functions:
        _refuse_endless_calls(model, path)
        model = inliner.inline_local_functions(model)
    file = OnnxFile(path, model, weights, digest.hexdigest())
    _refuse_opset(file)
    return file


def _parsed(path: Path) -> ModelProto:
    remedy = f"give a file written by {EXPORT}"
    try:
        model = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise BadFile(f"cannot read it: {error.strerror or error}", where=str(path), remedy=remedy) from None
    except Exception:  # protobuf's DecodeError, for whatever bytes
        raise BadFile("it is truncated, or not an ONNX file", where=str(path), remedy=remedy) from None
    for each in (*model.graph.node, *model.opset_import):
        if each.domain == "ai.onnx":  # another name of the standard operators
            each.domain = ""
    if not model.graph.node or not any(each.domain == "" for each in model.opset_import):
        raise BadFile("it holds no network", where=str(path), remedy=remedy)
    return model


def _weight_files(model: ModelProto, path: Path) -> list[Path]:
    """The files beside the model that hold its weights; all of them exist."""
    names = {
        entry.value
        for tensor in _tensors(model)
        if tensor.data_location == TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    beside = [path.parent / name for name in sorted(names)]
    if missing := [str(each) for each in beside if not each.is_file()]:
        raise BadFile(
            f"its weights lie in another file, which is not there: {', '.join(missing)}",
            where=str(path),
            remedy="keep the files of an export together under the names it gave them; or write one file: "
            "torch.onnx.export(..., external_data=False)",
        )
    return beside


def _refuse_claims(model: ModelProto, path: Path) -> None:
    """Raise where tensors claim other sizes than are stored, before any is read."""
    room: dict[str, int] = {}  # by file beside the model: the bytes of the tensors in it, and some more
    for tensor in _tensors(model):
        if any(size < 0 for size in tensor.dims):
            raise _lies(f"{UNREADABLE}: {tensor.name!r} has a negative size", path)
        if tensor.data_location == TensorProto.EXTERNAL:
            given = {entry.key: entry.value for entry in tensor.external_data}
            each = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
            size, place = prod(tensor.dims) * each, given["location"]
            stored = size if each > 1 else size // 4  # there are numbers of 4 and of 2 bits
            if int(given.get("length", "0")) > size or stored > (path.parent / place).stat().st_size:
                raise _lies(f"{UNREADABLE}: {tensor.name!r} has {size:,} bytes, {place} others", path)
            room[place] = room.get(place, 0) + size + ROOM
    for place, most in room.items():
        refuse_sparse(path.parent / place)
        if (size := (path.parent / place).stat().st_size) > most:
            raise _lies(f"{UNREADABLE}: {place} has {size:,} bytes, more than {most:,} of weights", path)


def _refuse_endless_calls(model: ModelProto, path: Path) -> None:
    """Raise where local functions, each calling others, stand for more nodes than any network has."""
    bodies = {(each.domain, each.name): each.node for each in model.functions}
    counted: dict[tuple[str, str], int] = {}

    def count(nodes: Iterable[NodeProto], depth: int) -> int:
        total = 0
        for node in nodes:
            call = (node.domain, node.op_type)
            if call in bodies and call not in counted:
                if depth > len(bodies):
                    raise _lies(f"its function {node.op_type!r} calls itself", path)
                counted[call] = count(bodies[call], depth + 1)
            total += counted.get(call, 1)
        return total

    if (nodes := count(model.graph.node, 0)) > MOST_NODES:
        raise _lies(f"its functions stand for {nodes:,} nodes", path)


def _lies(what: str, path: Path) -> BadFile:
    return BadFile(what, where=str(path), remedy=f"export it again: {EXPORT}")


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    yield from model.graph.initializer
    for node in [*model.graph.node, *(node for function in model.functions for node in function.node)]:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors


def _refuse_opset(file: OnnxFile) -> None:
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= file.opset <= newest:
        raise UnsupportedNetwork(
            f"it is written in opset {file.opset}; opsets {OLDEST_OPSET} to {newest} can be read",
            where=str(file.path),
            remedy="update onnx: pip install -U onnx"
            if file.opset > newest
            else "export it again with opset_version=18, or convert it with onnx.version_converter",
        )


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
