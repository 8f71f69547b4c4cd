"""A user's own data: .npz files, and what a loader returns."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ann2snn_cli import lookup, trees
from ann2snn_cli.data.samples import Data, from_tensors, split_indices
from ann2snn_cli.errors import BadData
from ann2snn_cli.lookup import Reference
from ann2snn_cli.types import Batch, Inputs

FOUR = ("x_train", "y_train", "x_test", "y_test")
LOADER = "def loader(): return x_train, y_train, x_test, y_test"
ASKED = (
    "save x and y, or x_train, y_train, x_test and y_test: x uint8 (0 to 255) or floats, [samples, channels, "
    "height, width] or [samples, height, width]; y whole numbers from 0. Of several inputs save each by its "
    "name in the network instead of x"
)


def load_npz(path: Path, name: str) -> Data:
    """Arrays of a .npz file: samples and labels (80 % to train on, the rest to test), or two splits of them.

    Labels are `y`, all other arrays samples: of one input whatever its name, of several by the names of the
    network's inputs. Splits end in `_train` and `_test`. `classes`, if it is there, says how many there are;
    else the highest label does.
    """
    where = str(path)
    arrays = {key: _tensor(key, value, where) for key, value in _read(path).items()}
    classes = int(arrays.pop("classes").max()) if "classes" in arrays else 0
    if {"y_train", "y_test"} <= set(arrays):
        train, test = (_split(arrays, ending, where) for ending in ("_train", "_test"))
    else:
        train, test = _halves(*_labelled(arrays, arrays, where), where)
    return from_tensors(name, _images(train), _images(test), where=where, classes=classes)


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


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise zipfile.BadZipFile
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                return dict(archive)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadData(f"cannot read it: {reason}", where=str(path), remedy="correct the path") from None
    except (ValueError, EOFError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        what = (
            "it holds pickled objects" if "allow_pickle" in str(error) else "it is damaged, or no .npz file"
        )
        raise BadData(what, where=str(path), remedy=f"write it with numpy.savez; {ASKED}") from None


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


def _halves(x: Inputs, y: Tensor, where: str) -> tuple[Batch, Batch]:
    for name, values in trees.named_leaves(x, "x"):
        if values.dim() == 0 or y.dim() == 0 or len(values) != len(y):
            what = f"{name} and y differ in length: {tuple(values.shape)} and {tuple(y.shape)}"
            remedy = "give one label a sample; every array but y and classes is an input of the network"
            raise BadData(what, where=where, remedy=remedy)
    train, test = split_indices(len(y), where)
    return (trees.index(x, train), y[train]), (trees.index(x, test), y[test])


def _images(split: Batch) -> Batch:
    """[samples, height, width] are grey images: they have one channel. Several inputs stay as they are."""
    x, y = split
    return (x[:, None], y) if isinstance(x, Tensor) and x.dim() == 3 else (x, y)
