"""A user's own data: .npz files, and what a loader returns."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ann2snn_cli import lookup
from ann2snn_cli.claims import LARGE, MOST_COMPRESSED, refuse_zip_bomb
from ann2snn_cli.data.samples import Data, from_tensors, split_indices
from ann2snn_cli.errors import BadData, BadFile
from ann2snn_cli.lookup import Reference
from ann2snn_cli.types import Batch

Pair = tuple[Tensor, Tensor]  # x and y
FOUR = ("x_train", "y_train", "x_test", "y_test")
LOADER = "def loader(): return x_train, y_train, x_test, y_test"
MOST_CLASSES = 2**20
ASKED = (
    "save x and y, or x_train, y_train, x_test and y_test: x uint8 (0 to 255) or floats, [samples, channels, "
    "height, width] or [samples, height, width]; y whole numbers from 0"
)


def load_npz(path: Path, name: str) -> Data:
    """Arrays of a .npz file: x and y (80 % to train on, the rest to test), or the two splits apart.

    `classes`, if it is there, says how many there are; else the highest label does.
    """
    arrays = {key: _tensor(key, value, str(path)) for key, value in _read(path).items()}
    classes = _classes(arrays.pop("classes"), str(path)) if "classes" in arrays else 0
    if set(FOUR) <= set(arrays):
        train, test = (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])
    elif {"x", "y"} <= set(arrays):
        train, test = _halves(arrays["x"], arrays["y"], str(path))
    else:
        raise BadData(f"it holds {', '.join(arrays) or 'nothing'}", where=str(path), remedy=ASKED)
    return from_tensors(name, _images(train), _images(test), where=str(path), classes=classes)


def load_own(reference: Reference, name: str) -> Data:
    """What the user's function gives: x_train, y_train, x_test, y_test (arrays or tensors), or a Data.

    Several inputs are a tuple of arrays in order or a dict by name, and so may labels be.
    """
    loader = lookup.load(reference, LOADER)
    remedy = f"{reference.attribute} is called with nothing: {LOADER}"
    with lookup.users_code(reference, BadData, remedy):
        given = loader()
    if isinstance(given, Data):
        return given
    if not isinstance(given, tuple | list) or len(given) != 4:
        word = f"{len(given)} values" if isinstance(given, tuple | list) else f"a {type(given).__name__}"
        raise BadData(f"{reference.attribute} gave {word}", where=reference.shown, remedy=f"write {LOADER}")
    parts = [_tensors(key, value, reference.shown) for key, value in zip(FOUR, given, strict=True)]
    train, test = _images((parts[0], parts[1])), _images((parts[2], parts[3]))
    return from_tensors(name, train, test, where=reference.shown)


def _classes(given: Tensor, where: str) -> int:
    """How many classes the file says there are."""
    if given.numel() != 1 or given.is_floating_point() or given.is_complex():
        raise BadData("classes is not one whole number", where=where, remedy=ASKED)
    if not 0 <= int(given) <= MOST_CLASSES:
        what = f"it claims {int(given):,} classes, more than {MOST_CLASSES:,} or fewer than 0"
        raise BadData(what, where=where, remedy=ASKED)
    return int(given)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise zipfile.BadZipFile
            _refuse_claims(path)
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                return dict(archive)
    except BadFile as error:
        raise BadData(error.what, where=error.where, remedy=error.remedy) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadData(f"cannot read it: {reason}", where=str(path), remedy="correct the path") from None
    except _DAMAGE as error:
        what = (
            "it holds pickled objects" if "allow_pickle" in str(error) else "it is damaged, or no .npz file"
        )
        raise BadData(what, where=str(path), remedy=f"write it with numpy.savez; {ASKED}") from None


_DAMAGE = (
    ValueError, EOFError, KeyError, TypeError, AttributeError, RuntimeError, zipfile.BadZipFile, zlib.error
)  # fmt: skip


def _refuse_claims(path: Path) -> None:
    """Raise where arrays are larger than what is stored of them, or what is stored is nearly nothing."""
    refuse_zip_bomb(path, MOST_COMPRESSED, at_least=LARGE)
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as array:
                version = np.lib.format.read_magic(array)
                read_header = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shape, _, kind = read_header(array)
            if kind.hasobject:
                raise ValueError("allow_pickle is False")
            if any(size < 0 for size in shape) or prod(shape) * kind.itemsize > member.file_size:
                what = f"{member.filename} claims {'x'.join(map(str, shape))} numbers and holds fewer"
                raise BadFile(what, where=str(path), remedy=f"write it with numpy.savez; {ASKED}")


def _tensor(key: str, value: Any, where: str) -> Tensor:
    try:
        return torch.as_tensor(value).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadData(f"{key} is no array of numbers: {error}", where=where, remedy=ASKED) from None


def _tensors(key: str, value: Any, where: str) -> Any:
    """A tensor of an array; of a dict, or of a tuple of arrays, the same built of tensors."""
    if isinstance(value, Mapping):
        return {name: _tensors(f"{key}[{name!r}]", part, where) for name, part in value.items()}
    if isinstance(value, tuple) and any(getattr(part, "ndim", 0) for part in value):
        return tuple(_tensors(f"{key}[{place}]", part, where) for place, part in enumerate(value))
    return _tensor(key, value, where)


def _halves(x: Tensor, y: Tensor, where: str) -> tuple[Pair, Pair]:
    if x.dim() == 0 or y.dim() == 0 or len(x) != len(y):
        what = f"x and y differ in length: {tuple(x.shape)} and {tuple(y.shape)}"
        raise BadData(what, where=where, remedy="give one label a sample")
    train, test = split_indices(len(x), where)
    return (x[train], y[train]), (x[test], y[test])


def _images(split: Batch) -> Batch:
    """[samples, height, width] are grey images: they have one channel. Several inputs stay as they are."""
    x, y = split
    return (x[:, None], y) if isinstance(x, Tensor) and x.dim() == 3 else (x, y)
