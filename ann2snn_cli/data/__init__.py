"""Datasets by name: packaged, public, a user's own. Torch is imported when one is loaded, not to list them.

samples.py    `Data`: two splits, and their batches for training, testing and calibration
packaged.py   digits and debug0..2: no download, no folder
public.py     MNIST, Fashion-MNIST, CIFAR through torchvision
located.py    where public data lie: unpacked, packed, cached, or still to be downloaded
folder.py     images in class folders
masks.py      images with masks
coco.py       images with boxes, in COCO's format
arrays.py     .npz files, and what a user's loader returns
given.py      one batch in any form as tensors: of the data, and of what an SNN is called with
collect.py    whatever users hold as data: tensors, arrays, batches, a torch Dataset, a DataLoader
sources.py    what they hold as one of three: tensors, a Dataset whose items are read, a stream of batches
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ann2snn_cli import lookup
from ann2snn_cli.errors import Setting, UsageError
from ann2snn_cli.lookup import Reference

if TYPE_CHECKING:
    from ann2snn_cli.data.samples import Data as Data
    from ann2snn_cli.types import InputShapes, Shape


@dataclass(frozen=True)
class Dataset:
    """A dataset that goes by a name. Its shapes are known without it: a check of a network needs no more."""

    name: str
    description: str
    shapes: Shape | InputShapes  # of one sample: of its input; of several inputs a tuple, or a dict by name
    classes: int  # 0 where its task has none
    load: Callable[[str, Path], Data]  # of the name, and of the folder where public data lie


DATASETS: dict[str, Dataset] = {}


def register(*datasets: Dataset) -> None:
    """Make datasets known by their names. A name that is taken is refused."""
    for each in datasets:
        if DATASETS.get(each.name, each) is not each:
            raise UsageError(f"there is a dataset {each.name!r} already", remedy="choose another name")
        DATASETS[each.name] = each


def _packaged(name: str, root: Path) -> Data:
    from ann2snn_cli.data import packaged

    return packaged.LOADERS[name]()


def _public(name: str, root: Path) -> Data:
    from ann2snn_cli.data import public

    return public.load(name, root)


register(
    Dataset(
        "digits", "1,797 real handwritten digits, scaled to 1x28x28; packaged with scikit-learn",
        (1, 28, 28), 10, _packaged,
    ),
    Dataset("mnist", "70,000 handwritten digits, 1x28x28", (1, 28, 28), 10, _public),
    Dataset("fashion_mnist", "70,000 garments, 1x28x28", (1, 28, 28), 10, _public),
    Dataset("cifar10", "60,000 photographs in 10 classes, 3x32x32, normalised", (3, 32, 32), 10, _public),
    Dataset("cifar100", "60,000 photographs in 100 classes, 3x32x32, normalised", (3, 32, 32), 100, _public),
    Dataset("debug0", "one sample of ones, 1x4x4", (1, 4, 4), 1, _packaged),
    Dataset("debug1", "one sample of ones, 1x8x8", (1, 8, 8), 1, _packaged),
    Dataset("debug2", "one sample of ones, 1x1x1", (1, 1, 1), 1, _packaged),
)  # fmt: skip

SOURCES = ("folder", "segmentation", "coco", "npz")  # of data that go by a path
OTHERWISE = (
    "; or give folder:PATH (images in class folders), segmentation:PATH (images and masks), coco:PATH "
    "(images and boxes), npz:PATH (samples and labels), or path.py:loader"
)


def full_name(name: str) -> str:
    """A name as it is written here: CIFAR-10 is cifar10, a folder is folder:PATH and a file.npz npz:PATH."""
    if name in DATASETS or ":" in name:
        return name
    known = {_bare(each): each for each in DATASETS}
    if _bare(name) in known:
        return known[_bare(name)]
    if name.endswith(".npz"):
        return f"npz:{name}"
    return f"folder:{name}" if name and Path(name).expanduser().is_dir() else name


def _bare(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def load(name: str, data_dir: str = "", task: str = "auto") -> Data:
    """The dataset of this name; `data_dir` holds the public ones (default: ANN2SNN_DATA, else ./data).

    The split into train and test is the same whatever the seed of a run: nothing tested was trained on.
    `task` says what labels mean where they may mean several things; data that are for another are refused.
    """
    from ann2snn_cli.tasks import refuse_other_task

    refuse_unknown(name)
    name = full_name(name)
    found = _loaded(name, data_dir, task)
    refuse_other_task(found.task, task, name)
    return found


def _loaded(name: str, data_dir: str, task: str) -> Data:
    source, colon, rest = name.partition(":")
    if colon and source in SOURCES:
        return _from_path(source, name, rest, task)
    if name in DATASETS:
        root = Path(data_dir or os.environ.get("ANN2SNN_DATA") or "data").expanduser()
        return DATASETS[name].load(name, root)
    own, function = lookup.split_reference(name)
    return _from_code(name, own, function or "load", task)


def refuse_unknown(name: str) -> None:
    """Raise for a name that can stand for no data; none are loaded."""
    source, colon, _ = full_name(name).partition(":")
    own, function = lookup.split_reference(name)
    is_code = own.endswith(".py") or (function and lookup.is_dotted_name(own))
    if not ((colon and source in SOURCES) or source in DATASETS or is_code):
        raise lookup.unknown("dataset", name, DATASETS, OTHERWISE)


def shapes_of(name: str, data_dir: str = "", task: str = "auto") -> tuple[InputShapes, int]:
    """The shapes of the inputs of a sample, and the number of classes; data known by name are not loaded."""
    name = full_name(name)
    if name in DATASETS:
        from ann2snn_cli.types import input_shapes

        return input_shapes(DATASETS[name].shapes), DATASETS[name].classes
    samples = load(name, data_dir, task)
    return samples.input_shapes, samples.classes


def same_dataset(one: str, other: str) -> bool:
    """Whether two names mean the same data: `npz:my.npz` is `npz:./my.npz`."""
    return one == other or _located(one) == _located(other)


def _located(name: str) -> tuple[str, str]:
    """A name with its path, if it has one, made absolute."""
    name = full_name(name)
    kind, colon, path = name.partition(":")
    if colon and kind in SOURCES:
        return kind, str(Path(path).expanduser().resolve())
    source, function = lookup.split_reference(name)
    return (function, str(Path(source).expanduser().resolve())) if source.endswith(".py") else ("", name)


def _from_path(kind: str, name: str, path: str, task: str) -> Data:
    from ann2snn_cli.data import arrays, coco, folder, masks

    if not path:
        raise UsageError(
            f"{name!r} names no path", where=str(Setting("dataset")), remedy=f"write {kind}:PATH"
        )
    place = Path(path).expanduser()
    if kind == "npz":
        return arrays.load_npz(place, name, task)
    return {"folder": folder.load, "segmentation": masks.load, "coco": coco.load}[kind](place, name)


def _from_code(name: str, source: str, function: str, task: str) -> Data:
    from ann2snn_cli.data import arrays

    in_module = not source.endswith(".py")
    path = Path(source).expanduser()
    if not in_module and not path.is_file():
        remedy = "correct the path; path.py:loader names a function that gives the data"
        raise UsageError("the dataset's file does not exist", where=str(path), remedy=remedy)
    return arrays.load_own(Reference(source if in_module else str(path), function, in_module), name, task)


def __getattr__(attribute: str) -> Any:
    """`Data` is for a user's loader; it is found on demand because it needs torch."""
    if attribute == "Data":
        from ann2snn_cli.data.samples import Data

        return Data
    raise AttributeError(f"module {__name__!r} has no attribute {attribute!r}")
