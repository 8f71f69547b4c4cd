"""Networks by name or path: what a network's file says of itself, and building it by the file's own code."""

from __future__ import annotations

import ast
import copy
import inspect
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ann2snn_cli import lookup
from ann2snn_cli.catalog.files import CHECKPOINT, NETWORK, Entry, find, known
from ann2snn_cli.data import SOURCES
from ann2snn_cli.errors import BadFile, Setting, UnsupportedNetwork, UsageError
from ann2snn_cli.lookup import Reference

if TYPE_CHECKING:
    from torch import nn

    from ann2snn_cli.types import InputShapes, Shape

BUILD = "def build(input_shape, classes)"
ONNX = ".onnx"


@dataclass(frozen=True)
class NetworkSpec:
    """A network that can be built, and what its file says of it."""

    name: str
    path_or_module: str
    builder: str
    dataset: str  # its default dataset; "" where it names none
    hardware: str  # its default hardware; "" where it names none
    trained: bool  # build() gives the final weights: there is no checkpoint to load
    origin: str  # "bundled", "here", "path" or "module"

    @property
    def is_onnx(self) -> bool:
        """Is it an ONNX file: weights and all, no code?"""
        return not self.builder

    def build(self, input_shape: Shape | InputShapes, classes: int) -> nn.Module:
        """The network for samples of this shape (without the batch), by the file's own code.

        Of several inputs it is a tuple of shapes in order, or a dict by name.
        """
        from torch import nn

        if self.is_onnx:
            from ann2snn_cli.stages.trace import load_onnx
            from ann2snn_cli.types import input_shapes

            return load_onnx(self.path_or_module, input_shapes(input_shape))
        reference = Reference(self.path_or_module, self.builder, self.origin == "module")
        builder = lookup.load(reference, BUILD)
        called_with = f"input_shape={input_shape}, classes={classes}"
        remedy = f"{self.builder} must work when it is called with {called_with}"
        with lookup.users_code(reference, UnsupportedNetwork, remedy):
            network = _call(builder, reference, input_shape, classes)
        if not isinstance(network, nn.Module):
            raise UsageError(
                f"{self.builder} gave a {type(network).__name__}, not a torch.nn.Module",
                where=reference.shown,
                remedy=f"return the network from {BUILD}",
            )
        return network


def network(name: str) -> NetworkSpec:
    """The network `NAME`, `path.py`, `path.py:builder`, `package.module:builder` or `path.onnx`."""
    if name.lower().endswith(ONNX):
        return _network_of_onnx(Path(name).expanduser())
    if name.lower().endswith(CHECKPOINT.suffix):
        raise UsageError(
            "a .pth holds numbers, and no network's code",
            where=name,
            remedy=f"name the network, and give trained weights with {Setting('ann_weight', name)}; of an "
            "SNN `ann2snn simulate`, `inspect`, `verify` and `export` take the .pth",
        )
    source, builder = lookup.split_reference(name)
    in_module = lookup.is_dotted_name(source) and not source.endswith(".py")
    if builder and in_module and source not in known(NETWORK):
        return _network_of_module(source, builder)
    entry = find(NETWORK, source)
    constants = _constants(entry.path)
    shown_name = entry.path.stem if builder in ("", "build") else builder
    return _spec(shown_name, str(entry.path), builder or "build", constants, entry.origin)


def checkpoint_name(network: str, dataset: str) -> str:
    """`mnist_cnn-digits`; of data in a file or folder its name stands for them: `my_net-flowers`."""
    kind, _, rest = dataset.partition(":")
    own = Path(rest).stem if kind in SOURCES else Path(dataset).name.replace(".py:", "_")
    return f"{network}-{re.sub(r'[^A-Za-z0-9_]', '_', own)}"


def default_checkpoint(spec: NetworkSpec, dataset: str) -> Path | None:
    """`NAME-DATASET.pth` in ./checkpoints, or the bundled one for a bundled network; else None."""
    name = checkpoint_name(spec.name, dataset)
    return next((entry.path for entry in _checkpoints(spec) if entry.name == name), None)


def other_checkpoints(spec: NetworkSpec) -> list[Entry]:
    """Checkpoints of the network, whatever they were trained on."""
    return [entry for entry in _checkpoints(spec) if entry.name.rpartition("-")[0] == spec.name]


def _checkpoints(spec: NetworkSpec) -> list[Entry]:
    """Those that may be taken unasked: a user's own network is given no bundled one, whatever its name."""
    there = [] if spec.trained else known(CHECKPOINT).values()
    return [entry for entry in there if entry.origin != "bundled" or spec.origin == "bundled"]


def _network_of_onnx(path: Path) -> NetworkSpec:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UsageError(f"the ONNX file {what}", where=str(path), remedy="correct the path")
    return NetworkSpec(path.stem, str(path), "", dataset="", hardware="", trained=True, origin="path")


def _network_of_module(module: str, builder: str) -> NetworkSpec:
    reference = Reference(module, builder, in_module=True)
    remedy = "install it, start in the folder it lies in, or give the path of a file: path.py:builder"
    with lookup.users_code(reference, UsageError, remedy):  # finding a.b.c imports a and a.b
        found = find_spec(module)
    if found is None:
        near = lookup.unknown("network", module, known(NETWORK)).remedy
        raise UsageError(f"there is no module {module!r}", where=reference.shown, remedy=f"{remedy}; {near}")
    is_source = found.origin is not None and found.origin.endswith(".py")
    constants = _constants(Path(str(found.origin))) if is_source else {}
    name = module.rpartition(".")[2] if builder == "build" else builder
    return _spec(name, module, builder, constants, "module")


def _spec(name: str, source: str, builder: str, constants: dict[str, Any], origin: str) -> NetworkSpec:
    dataset, hardware = constants.get("DATASET", ""), constants.get("HARDWARE", "")
    return NetworkSpec(name, source, builder, dataset, hardware, constants.get("TRAINED", False), origin)


def _constants(path: Path) -> dict[str, Any]:
    """DATASET, HARDWARE and TRAINED as the file sets them, without running it."""
    try:
        tree = ast.parse(path.read_bytes())
    except OSError as error:
        raise BadFile(f"cannot read it: {error.strerror}", where=str(path), remedy="check the path") from None
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        what = f"{type(error).__name__}: {getattr(error, 'msg', error)}"
        raise UsageError(
            what, where=f"{path}:{line}", remedy=f"correct the file; it must define {BUILD}"
        ) from None
    wanted = {"DATASET": str, "HARDWARE": str, "TRAINED": bool}
    found: dict[str, Any] = {}
    for node in tree.body:
        for name, value in _assigned(node):
            if name in wanted:
                found[name] = _typed(name, value, wanted[name], path)
    return found


def _assigned(node: ast.stmt) -> list[tuple[str, ast.expr]]:
    if isinstance(node, ast.Assign):
        return [(target.id, node.value) for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
        return [(node.target.id, node.value)]
    return []


def _typed(name: str, value: ast.expr, kind: type, path: Path) -> Any:
    constant = value.value if isinstance(value, ast.Constant) else None
    if not isinstance(constant, kind):
        word = {str: "a name in quotes", bool: "True or False"}[kind]
        where = f"{path}:{value.lineno}"
        raise UsageError(
            f"{name} must be {word}", where=where, remedy=f"write {name} = {word}, or leave it out"
        )
    return constant


def _call(builder: Any, reference: Reference, input_shape: Shape | InputShapes, classes: int) -> Any:
    """Call a builder with what it asks for by name: input_shape, classes (or num_classes), or nothing."""
    from torch import nn

    if isinstance(builder, nn.Module):  # a network that the file has built already
        return copy.deepcopy(builder)
    if not callable(builder):
        raise UsageError(
            f"{reference.attribute} is a {type(builder).__name__}, not a function",
            where=reference.shown,
            remedy=f"define {BUILD}",
        )
    offered = {"input_shape": input_shape, "classes": classes, "num_classes": classes}
    parameters = inspect.signature(builder).parameters.values()
    taken = {each.name: offered[each.name] for each in parameters if each.name in offered}
    required = [
        each.name
        for each in parameters
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    if missing := [name for name in required if name not in taken]:
        raise UsageError(
            f"{reference.attribute} asks for {', '.join(missing)}",
            where=reference.shown,
            remedy=f"it is called with input_shape and classes only: write {BUILD}",
        )
    return builder(**taken)
