"""The `.pth`: a plain dict of tensors and Python values, which `torch.load` reads by its safe default."""

from __future__ import annotations

import io
import pickle
import reprlib
import sys
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields
from math import isfinite
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from ann2snn_cli.claims import torch_content
from ann2snn_cli.errors import (
    Ann2SnnError,
    BadFile,
    InvalidGraph,
    MissingFile,
    Setting,
    UnsupportedNetwork,
    UsageError,
)
from ann2snn_cli.ir.allowed import refusal_of_tensor
from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import OPS, BatchSize, Op, Ref, is_registered, own_neuron
from ann2snn_cli.ir.plausible import refuse_implausible
from ann2snn_cli.ir.validate import validate
from ann2snn_cli.stages.export.files import NO_SEAL, SEAL, sealed, write_file

FORMAT = "ann2snn/snn"
VERSION = 2


def save(
    graph: Graph,
    provenance: dict[str, Any],
    path: Path,
    *,
    overwrite: bool = False,
    setting: str = "save_file",
) -> Path:
    """Write a SPIKING graph. Same graph and provenance, same bytes."""
    refuse_unknown_ops(graph)
    content = as_bytes(to_plain(graph, provenance))
    return write_file(path, content, is_ours=is_ours, overwrite=overwrite, setting=setting)


def refuse_unknown_ops(graph: Graph) -> None:
    """Refuse, at any level, an op that could not be read back: of a population its neurons."""
    for node in graph.nodes:
        op = own_neuron(node.op) or node.op
        if not is_registered(type(op)):
            raise UnsupportedNetwork(
                f"an op {op.kind} that is not registered cannot be read back from a .pth",
                where=node.source or node.name,
                remedy="register it in the file that defines it: ann2snn_cli.ir.ops.register("
                + op.kind
                + ")",
            )


def as_bytes(content: dict[str, Any]) -> bytes:
    """A torch file that holds its own hash, as the comment that every zip may end with."""
    buffer = io.BytesIO()  # torch.save puts a file's name into its bytes, but not a buffer's
    torch.save(_unshared(content), buffer)
    seal = f"{SEAL}: {NO_SEAL}".encode()
    without_comment = buffer.getvalue()[:-2]  # the two bytes that say how long it is
    return sealed(without_comment + len(seal).to_bytes(2, "little") + seal)


def load(path: Path) -> tuple[Graph, dict[str, Any]]:
    """The SPIKING graph in a file, and its provenance."""
    content = read(path)
    if content.get("format") != FORMAT:
        raise BadFile(
            "it is no SNN of ann2snn", where=str(path), remedy="write one with: ann2snn convert NETWORK"
        )
    try:
        if content["version"] != VERSION:
            raise _of_another_version(content["version"], path)
        graph = validate(refuse_implausible(from_plain(content)))
        return graph, _provenance(content["provenance"])
    except UnsupportedNetwork as error:  # an operator that is not on the list
        raise BadFile(
            error.what,
            where=str(path),
            remedy="do not trust the file: ann2snn writes no such operator; convert the network again",
        ) from error
    except (*_DAMAGE, InvalidGraph, UsageError) as error:
        raise BadFile(
            f"its content is damaged: {_said(error)}", where=str(path), remedy="convert the network again"
        ) from error


_DAMAGE = (LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError, AssertionError)


def _said(error: Exception) -> str:
    """What an error says, in one line."""
    if isinstance(error, Ann2SnnError):
        return error.what
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    return (str(error).splitlines() or [type(error).__name__])[0]


def _provenance(value: Any) -> dict[str, Any]:
    """Where it comes from, in plain values: reports print them."""

    def is_plain(each: Any) -> bool:
        if isinstance(each, dict):
            return all(isinstance(key, str) for key in each) and all(map(is_plain, each.values()))
        if isinstance(each, list | tuple):
            return all(map(is_plain, each))
        return each is None or isinstance(each, str | int | float)

    if not isinstance(value, dict) or not is_plain(value):
        raise ValueError("its provenance is no table of words and numbers")
    return value


def _of_another_version(version: Any, path: Path) -> BadFile:
    if not isinstance(version, int):
        raise ValueError(f"its version is {version!r}")
    what = f"its format is version {version}, this ann2snn reads version {VERSION}"
    remedy = "update ann2snn" if version > VERSION else "convert the network again"
    return BadFile(what, where=str(path), remedy=remedy)


def read(path: Path) -> dict[str, Any]:
    """The plain dict in a `.pth`, read safely."""
    if not path.is_file():
        what = "it is a folder, and no file" if path.is_dir() else "there is no such file"
        raise MissingFile(what, where=str(path), remedy="check the path (ann2snn convert writes one)")
    try:
        content = torch_content(path)
    except BadFile:
        raise
    except Exception as error:  # of damaged files torch raises pickle's, zip's, its own and built-in errors
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
            raise BadFile(
                "it holds pickled code, which is not loaded",
                where=str(path),
                remedy="give a file that ann2snn wrote (a trained network's state dict goes to "
                f"{Setting('ann_weight')})",
            ) from error
        raise BadFile(
            "it is damaged or no torch file",
            where=str(path),
            remedy="write it again, or copy it again in full",
        ) from error
    return content if isinstance(content, dict) else {}


def is_ours(path: Path) -> bool:
    """Is it an SNN that this tool wrote?"""
    try:
        return path.is_file() and read(path).get("format") == FORMAT
    except BadFile:
        return False


# Plain values --------------------------------------------------------------------------------------


def to_plain(graph: Graph, provenance: dict[str, Any]) -> dict[str, Any]:
    """The graph as tensors and Python values; field by field what `ir/ops.py` says of each op."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "contract": graph.timing.to_plain(),
        "inputs": [node.name for node in graph.inputs],
        "outputs": list(graph.outputs),
        "nodes": [_plain_node(node) for node in graph.nodes],
        "provenance": provenance,
    }


def _unshared(value: Any) -> Any:
    """The same value for pickle, which writes an object once: equal texts as one, containers as several.

    Else the bytes would tell whether two equal words came from one place or, say, from a config and a flag.
    """
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, dict):
        return {_unshared(key): _unshared(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_unshared(item) for item in value)
    return value


def _plain_node(node: Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "op": type(node.op).__name__,
        "inputs": list(node.inputs),
        "shape": list(node.shape),
        "source": node.source,
        "unit": _plain(node.unit),
        "fields": {field.name: _plain(getattr(node.op, field.name)) for field in fields(node.op)},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu().clone(memory_format=torch.contiguous_format)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Ref):
        return {"ref": value.input}
    if isinstance(value, BatchSize):
        return {"batch": [value.factor, value.offset]}
    return value


def from_plain(content: dict[str, Any]) -> Graph:
    """The graph that `to_plain` wrote."""
    entries, outputs, contract = content["nodes"], content["outputs"], content["contract"]
    _need("its nodes", entries, list[dict[str, Any]])
    _need("its outputs", outputs, list[str])
    _need("its contract", contract, dict[str, Any])
    nodes = tuple(_node(entry) for entry in entries)
    return Graph(nodes, tuple(outputs), Level.SPIKING, Contract.from_plain(contract))


_ENTRY = {
    "name": str,
    "op": str,
    "inputs": list[str],
    "shape": list[int],
    "source": str,
    "fields": dict[str, Any],
}


def _node(entry: dict[str, Any]) -> Node:
    for name, kind in _ENTRY.items():
        _need(f"the {name} of a layer", entry[name], kind)
    _need(f"the unit of {entry['name']}", entry["unit"], Tensor | None)
    if entry["op"] not in OPS:
        raise BadFile(
            f"it holds an op {entry['op']}, which is not known here",
            where=entry["source"] or entry["name"],
            remedy=f"name the file that registers it with {Setting('rules')}, in Python import it (it calls "
            "ann2snn_cli.ir.ops.register); or convert the network again",
        )
    op = _op(
        OPS[entry["op"]], {name: _value(value) for name, value in entry["fields"].items()}, entry["name"]
    )
    return Node(
        entry["name"], op, tuple(entry["inputs"]), tuple(entry["shape"]), entry["source"], entry["unit"]
    )


def _value(value: Any) -> Any:
    if isinstance(value, Tensor) and (why := refusal_of_tensor(value)):
        raise ValueError(f"a tensor in it cannot be used: {why}")
    if isinstance(value, list):
        return tuple(_value(item) for item in value)
    if isinstance(value, dict):
        return Ref(value["ref"]) if "ref" in value else BatchSize(*value["batch"])
    return value


def _op(kind: type[Op], given: dict[str, Any], label: str) -> Op:
    """The op with these fields, each of the type that its class declares."""
    declared = get_type_hints(kind)
    for name, value in given.items():
        if name not in declared:
            raise ValueError(f"{label} has a field {name!r}, which is none of a {kind.__name__}")
        _need(f"the {name} of {label}", value, declared[name])
    needed = [each.name for each in fields(kind) if each.default is MISSING]
    if missing := [name for name in needed if name not in given]:
        raise ValueError(f"{label} lacks its {', '.join(missing)}")
    return kind(**given)


def _need(what: str, value: Any, kind: Any) -> None:
    if not _is_of(value, kind):
        shown = "a tensor" if isinstance(value, Tensor) else reprlib.repr(value)
        raise ValueError(f"{what} cannot be {shown}")


def _is_of(value: Any, kind: Any) -> bool:
    """Is a value of this declared type? What a user's own op declares otherwise is left to that op."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(_is_of(value, part) for part in parts)
    if origin is tuple and parts[1:] != (...,):
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(_is_of, value, parts))
    if origin in (tuple, list):
        return isinstance(value, origin) and all(_is_of(item, parts[0]) for item in value)
    if origin in (dict, Mapping):
        return isinstance(value, dict) and all(_is_of(key, parts[0]) for key in value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    if kind is None or kind in (bool, str, dict, Tensor, types.NoneType):
        return value is None if kind in (None, types.NoneType) else isinstance(value, kind)
    return True
