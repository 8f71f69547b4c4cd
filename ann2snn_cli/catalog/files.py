"""Files that can be named: where each kind lies, finding, listing and copying them. No file is imported."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from ann2snn_cli import downloads, lookup
from ann2snn_cli.errors import BadFile, Setting, UsageError
from ann2snn_cli.stages.export.files import write_file


@dataclass(frozen=True)
class FileKind:
    """Where files of a kind lie, under the bundled root and under the working directory alike."""

    name: str
    folder: str
    suffix: str
    otherwise: str  # what may be given instead of a name


NETWORK = FileKind(
    "network", "networks", ".py", "path.py, path.py:builder, package.module:builder or path.onnx"
)
CONFIG = FileKind("config", "configs", ".yaml", "the path of a YAML file")
HARDWARE = FileKind("hardware", "configs/hardware", ".yaml", "the path of a YAML file")
CHECKPOINT = FileKind("checkpoint", "checkpoints", ".pth", "the path of a .pth file")
KINDS = (NETWORK, CONFIG, HARDWARE, CHECKPOINT)


@dataclass(frozen=True)
class Entry:
    """A file that can be named."""

    name: str
    path: Path
    origin: str  # "bundled" with the tool, "here" in the working directory, or "path" where one was given
    description: str = ""


def bundled(folder: str) -> Path:
    """A folder that came with the tool: inside the package in a wheel, beside it in a source checkout."""
    package = Path(str(files("ann2snn_cli")))
    inside = package / folder
    return inside if inside.is_dir() else package.parent / folder


def config_file(name: str) -> Path:
    """The config of this name or path."""
    return find(CONFIG, name).path


def hardware_file(name: str) -> Path:
    """The hardware description of this name or path."""
    return find(HARDWARE, name).path


def checkpoint_file(name: str) -> Path:
    """The checkpoint of this name or path, or from this address: URL#sha256=HASH."""
    if downloads.is_url(name):
        return downloads.file_of(name, "ann_weight")
    return find(CHECKPOINT, name).path


def list_networks() -> list[Entry]:
    """Every network that can be named, by name."""
    return _listed(NETWORK)


def list_configs() -> list[Entry]:
    """Every config that can be named, by name."""
    return _listed(CONFIG)


def list_hardware() -> list[Entry]:
    """Every hardware description that can be named, by name."""
    return _listed(HARDWARE)


def list_checkpoints() -> list[Entry]:
    """Every checkpoint that can be named, by name."""
    return _listed(CHECKPOINT)


def copy(name: str, target_dir: Path | str = ".", overwrite: bool = False) -> Path:
    """Copy a named file into a folder to edit it there; gives the new path.

    Networks come before configs, hardware and checkpoints of the same name; `example_net.yaml` or
    `configs/example_net` name the others.
    """
    entry = _any_kind(name)
    target = Path(target_dir) / entry.path.name
    if target.exists() and target.resolve() == entry.path.resolve():
        raise UsageError("it is the file itself", where=str(target), remedy="name another folder")
    if target.is_dir() or (target.exists() and not overwrite):
        remedy = "name another folder" if target.is_dir() else f"{Setting('overwrite', True)} replaces it"
        raise BadFile("there is one already", where=str(target), remedy=remedy)
    try:
        write_file(target, entry.path.read_bytes(), is_ours=lambda path: True, overwrite=True)
    except BadFile as error:
        error.remedy = "name another folder"
        raise
    return target


def _any_kind(name: str) -> Entry:
    """Find a file by NAME, NAME.ext or FOLDER/NAME; a plain name that two kinds have means the first kind."""
    spellings: dict[str, Entry] = {}
    for kind in KINDS:
        for stem, entry in known(kind).items():
            for spelling in (stem, stem + kind.suffix):
                spellings.setdefault(spelling, entry)
                spellings[f"{kind.folder}/{spelling}"] = entry
    if name not in spellings:
        names = (stem if kind is NETWORK else stem + kind.suffix for kind in KINDS for stem in known(kind))
        raise lookup.unknown("file", name, names)
    return spellings[name]


def find(kind: FileKind, name: str) -> Entry:
    """The file of this kind that a name or path means; UsageError with what there is."""
    path = Path(name).expanduser()
    # A bare word is a name even where there is a file of that name: `example_net` is not ./example_net.
    if path.is_file() and ("/" in name or os.sep in name or "." in name):
        return Entry(path.stem, path, _origin_of(path, kind))
    there = known(kind)
    if name in there:
        return there[name]
    if "/" in name or os.sep in name or path.suffix == kind.suffix:
        what = "is a folder" if path.is_dir() else "does not exist"
        near = lookup.unknown(kind.name, path.stem, there).remedy
        raise UsageError(f"the {kind.name} file {what}", where=str(path), remedy=f"correct the path; {near}")
    raise lookup.unknown(kind.name, name, there, f"; or give {kind.otherwise}")


def _origin_of(path: Path, kind: FileKind) -> str:
    return "bundled" if path.resolve().parent == bundled(kind.folder).resolve() else "path"


def known(kind: FileKind) -> dict[str, Entry]:
    """List what there is by name; a file in the working directory hides the bundled one of the same name."""
    found: dict[str, Entry] = {}
    for origin, folder in (("bundled", bundled(kind.folder)), ("here", Path(kind.folder))):
        if origin == "here" and folder.is_dir() and folder.resolve() == bundled(kind.folder).resolve():
            continue  # the working directory is the source checkout
        for path in sorted(folder.glob(f"*{kind.suffix}")):
            if path.is_file() and path.name[0] not in "_.":
                found[path.stem] = Entry(path.stem, path, origin)
    return dict(sorted(found.items()))


def _listed(kind: FileKind) -> list[Entry]:
    return [
        Entry(entry.name, entry.path, entry.origin, DESCRIBERS[kind.suffix](entry.path))
        for entry in known(kind).values()
    ]


def _describe_python(path: Path) -> str:
    try:
        docstring = ast.get_docstring(ast.parse(path.read_bytes())) or ""
    except (OSError, SyntaxError, ValueError) as error:
        return f"(unreadable: {type(error).__name__})"
    return docstring.partition("\n")[0]


def _describe_yaml(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        return f"(unreadable: {type(error).__name__})"
    described = re.search(r"^description: *(\S.*)$", text, re.MULTILINE)
    line = described or re.search(r"^# *(\S.*)$", text, re.MULTILINE)
    return line.group(1).strip("\"'") if line else ""


def _describe_checkpoint(path: Path) -> str:
    size_kb = (path.stat().st_size + 1023) // 1024
    network, _, dataset = path.stem.rpartition("-")
    words = f"weights of {network}, trained on {dataset}" if network else "weights"
    return f"{words}, {size_kb} kB"


DESCRIBERS: dict[str, Callable[[Path], str]] = {
    ".py": _describe_python,
    ".yaml": _describe_yaml,
    ".pth": _describe_checkpoint,
}
