"""A user's own data: .npz files, and what a loader returns."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ann2snn_cli import lookup, trees
from ann2snn_cli.claims import LARGE, MOST_COMPRESSED, refuse_zip_bomb
from ann2snn_cli.data.collect import from_loader
from ann2snn_cli.data.samples import Data, from_tensors, split_indices, split_note
from ann2snn_cli.errors import BadData, BadFile, MissingData, WrongKind
from ann2snn_cli.lookup import Reference
from ann2snn_cli.tasks import AUTO, task_note, task_of
from ann2snn_cli.types import Batch, Inputs

FOUR = ("x_train", "y_train", "x_test", "y_test")
LOADER = "def loader(): return x_train, y_train, x_test, y_test"
MOST_CLASSES = 2**20
ASKED = (
    "save x and y, or x_train, y_train, x_test and y_test: x uint8 (0 to 255) or floats, [samples, channels, "
    "height, width] or [samples, height, width]; y whole numbers from 0, or real numbers for regression. Of "
    "several inputs save each by its name in the network instead of x"
)


def load_npz(path: Path, name: str, asked: str = AUTO) -> Data:
    """Arrays of a .npz file: samples and labels (80 % to train on, the rest to test), or two splits of them.

    Labels are `y`, all other arrays samples: of one input whatever its name, of several by the names of the
    network's inputs. Splits end in `_train` and `_test`. `classes`, if it is there, says how many there are;
    else the highest label does. Which task they are for the labels show, unless one is asked for.
    """
    where = str(path)
    arrays = {key: _tensor(key, value, where) for key, value in _read(path).items()}
    classes = _classes(arrays.pop("classes"), where) if "classes" in arrays else 0
    notes: tuple[str, ...] = ()
    if {"y_train", "y_test"} <= set(arrays):
        train, test = (_split(arrays, ending, where) for ending in ("_train", "_test"))
    else:
        train, test, notes = _halves(*_labelled(arrays, arrays, where), where)
    task = task_of(train[1], asked)
    found = from_tensors(name, _images(train), _images(test), where=where, classes=classes, task=task)
    return replace(found, notes=(*notes, *task_note(task, asked)))


def load_own(reference: Reference, name: str, asked: str = AUTO) -> Data:
    """What the user's function gives: a Data; x_train, y_train, x_test, y_test; or what `from_loader` takes.

    Several inputs are a tuple of arrays in order or a dict by name, and so may labels be.
    """
    loader = lookup.load(reference, LOADER)
    remedy = f"{reference.attribute} is called with nothing: {LOADER}"
    with lookup.users_code(reference, BadData, remedy):
        given = loader()
    if isinstance(given, Data):
        return replace(given, name=name)  # the name that loads it again
    if not isinstance(given, tuple) or len(given) != 4:
        with lookup.users_code(reference, BadData, remedy), _as_bad_data():
            return from_loader(_grey(given), name, reference.shown, asked)
    parts = [_tensors(key, value, reference.shown) for key, value in zip(FOUR, given, strict=True)]
    train, test = _images((parts[0], parts[1])), _images((parts[2], parts[3]))
    task = task_of(train[1], asked)
    found = from_tensors(name, train, test, where=reference.shown, task=task)
    return replace(found, notes=task_note(task, asked))


@contextmanager
def _as_bad_data() -> Iterator[None]:
    """What a loader gives is data, whatever is wrong with it; only what a user passes is of a wrong kind."""
    try:
        yield
    except WrongKind as error:
        raise BadData(error.what, where=error.where, remedy=error.remedy) from error


def _classes(given: Tensor, where: str) -> int:
    """How many classes the file says there are."""
    if given.numel() != 1 or given.is_floating_point() or given.is_complex():
        raise BadData("classes is not one whole number", where=where, remedy=ASKED)
    if not 0 <= int(given) <= MOST_CLASSES:
        what = f"it claims {int(given):,} classes, more than {MOST_CLASSES:,} or fewer than 0"
        raise BadData(what, where=where, remedy=ASKED)
    return int(given)


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise MissingData(f"the .npz file {what}", where=str(path), remedy="correct the path")
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


def _split(arrays: Mapping[str, Tensor], ending: str, where: str) -> Batch:
    """The arrays of one split, without its ending; refused where the other split lacks one."""
    names = {key.removesuffix(end): key for end in ("_train", "_test") for key in arrays if key.endswith(end)}
    for name, key in names.items():
        if missing := {f"{name}_train", f"{name}_test"} - set(arrays):
            what = f"it holds {key} without {missing.pop()}"
            raise BadData(what, where=where, remedy="save every array for both splits")
    return _labelled({name: arrays[f"{name}{ending}"] for name in names}, arrays, where)


def _labelled(found: Mapping[str, Tensor], arrays: Mapping[str, Tensor], where: str) -> Batch:
    """Samples of one input, or of several by name, and their labels."""
    inputs = {name: values for name, values in found.items() if name != "y"}
    if "y" not in found or not inputs:
        raise BadData(f"it holds {', '.join(arrays) or 'nothing'}", where=where, remedy=ASKED)
    return inputs if len(inputs) > 1 else next(iter(inputs.values())), found["y"]


def _halves(x: Inputs, y: Tensor, where: str) -> tuple[Batch, Batch, tuple[str, ...]]:
    for name, values in trees.named_leaves(x, "x"):
        if values.dim() == 0 or y.dim() == 0 or len(values) != len(y):
            what = f"{name} and y differ in length: {tuple(values.shape)} and {tuple(y.shape)}"
            remedy = "give one label a sample; every array but y and classes is an input of the network"
            raise BadData(what, where=where, remedy=remedy)
    train, test = split_indices(len(y), where)
    note = split_note(train, test)
    return (trees.index(x, train), y[train]), (trees.index(x, test), y[test]), (note,)


def _grey(given: Any) -> Any:
    """The same for (x, y) of arrays."""
    if isinstance(given, tuple) and len(given) == 2 and getattr(given[0], "ndim", 0) == 3:
        return given[0][:, None], given[1]
    return given


def _images(split: Batch) -> Batch:
    """[samples, height, width] are grey images: they have one channel. Several inputs stay as they are."""
    x, y = split
    return (x[:, None], y) if isinstance(x, Tensor) and x.dim() == 3 else (x, y)
