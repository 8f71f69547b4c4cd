"""What a file claims to hold, held against its own size: before it is read, and before it is built upon.

A few bytes can claim terabytes: a zip of zeros, a tensor whose strides are 0, a list of lists that share
their parts. What an honest file holds it has bytes for.
"""

from __future__ import annotations

import mmap
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

from ann2snn_cli.errors import BadFile

MOST_VALUES = 2**24  # of Python in a file, those that are shared counted each time
MOST_DEPTH = 100
LARGE = 2**29  # bytes: below, what a file claims does no harm
MOST_COMPRESSED = 100  # times: images of real data take a tenth or so
MOST_PICKLE = 2**26  # bytes that may describe tensors
REMEDY = "do not trust the file: no honest one is made so"

# The one function that torch's safe loader calls and that makes as much as a number says.
_ALLOCATES = re.compile(rb"c(builtins|__builtin__)\nbytearray\n")


def torch_content(path: Path) -> Any:
    """What a torch file holds; no code in it is run. BadFile for false claims, else torch's own errors."""
    import torch

    refuse_torch_claims(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is refused anyhow
        content = torch.load(path, map_location="cpu", weights_only=True)
    refuse_large(content, path)
    return content


def refuse_torch_claims(path: Path) -> None:
    """Look at a torch file from outside. Torch compresses nothing: its parts are no larger than the file."""
    refuse_sparse(path)
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            if path.stat().st_size:
                _refuse_allocation(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), path)
        return
    refuse_zip_bomb(path)
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith(".pkl"):
                if member.file_size > MOST_PICKLE:
                    raise _false(f"its description alone has {member.file_size:,} bytes", path)
                _refuse_allocation(archive.read(member), path)


def refuse_sparse(path: Path) -> None:
    """Raise BadFile where a large file has next to nothing on the disk: the rest would be read as zeros."""
    facts = path.stat()
    kept = 512 * getattr(facts, "st_blocks", facts.st_size)  # not known everywhere
    if facts.st_size > LARGE and facts.st_size > MOST_COMPRESSED * kept:
        raise _false(f"it has {kept:,} bytes on the disk and claims to hold {facts.st_size:,}", path)


def refuse_zip_bomb(path: Path, times: int = 1, at_least: int = 0) -> None:
    """Raise BadFile where a zip would unpack to more than `times` its bytes, and to more than `at_least`."""
    refuse_sparse(path)
    with zipfile.ZipFile(path) as archive:
        claimed = sum(member.file_size for member in archive.infolist())
    size = path.stat().st_size
    if claimed > max(times * size, at_least):
        raise _false(f"it has {size:,} bytes and claims to hold {claimed:,}", path)


def refuse_large(content: Any, path: Path) -> None:
    """Raise BadFile for more values than a file can hold, or tensors that are larger than the file."""
    size = path.stat().st_size
    seen: dict[int, int] = {}

    def count(value: Any, depth: int) -> int:
        if hasattr(value, "element_size") and value.numel() * value.element_size() > size:
            shape = "x".join(map(str, value.shape))
            raise _false(f"a tensor of {shape} values is claimed by a file of {size:,} bytes", path)
        if not isinstance(value, dict | list | tuple | set):
            return 1
        if depth > MOST_DEPTH:
            raise _false(f"it is nested more than {MOST_DEPTH} deep", path)
        if id(value) not in seen:
            parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
            seen[id(value)] = 1 + sum(count(part, depth + 1) for part in parts)
        return seen[id(value)]

    if count(content, 0) > MOST_VALUES:
        raise _false(f"it claims to hold more than {MOST_VALUES:,} values", path)


def _refuse_allocation(content: bytes | mmap.mmap, path: Path) -> None:
    if _ALLOCATES.search(content):
        raise _false("it asks for memory that it does not fill", path)


def _false(what: str, path: Path) -> BadFile:
    return BadFile(what, where=str(path), remedy=REMEDY)
