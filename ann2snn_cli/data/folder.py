"""Images in class folders: PATH/CLASS/image.png, or PATH/train/CLASS/... and PATH/test/CLASS/...

Read when they are wanted. Grey if the first image is, else RGB; all are resized to the first image's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ann2snn_cli import trees
from ann2snn_cli.data.samples import Data, split_indices, split_note
from ann2snn_cli.errors import BadData, MissingData
from ann2snn_cli.types import Batch, Labels
from ann2snn_cli.words import count_of

# of files that are cut short, by PIL
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
LAYOUT = "lay the images out as PATH/CLASS/image.png, or PATH/train/CLASS/... and PATH/test/CLASS/..."


@dataclass(frozen=True)
class Form:
    """The mode and size that every image is converted to."""

    mode: str  # "L" or "RGB"
    width: int
    height: int

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(channels, height, width)."""
        return (1 if self.mode == "L" else 3, self.height, self.width)


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """Images in files, with their labels in memory."""

    paths: tuple[Path, ...]
    labels: Labels
    form: Form

    @property
    def size(self) -> int:
        """How many images there are."""
        return len(self.paths)

    def batches(self, order: Sequence[Tensor], num_workers: int, seed: int) -> Iterator[Batch]:
        """Those images, read by `num_workers` threads (decoding releases Python's lock)."""
        for indices in order:
            wanted = [self.paths[index] for index in indices.tolist()]
            yield (
                stacked(lambda path: pixels(path, self.form), wanted, num_workers),
                trees.index(self.labels, indices),
            )


def stacked(read: Callable[[Path], Tensor], paths: Sequence[Path], num_workers: int) -> Tensor:
    """What is read of each file, one after the other; by so many threads."""
    if num_workers < 2:
        return torch.stack([read(path) for path in paths])
    with ThreadPoolExecutor(num_workers) as pool:
        return torch.stack(list(pool.map(read, paths)))


def load(root: Path, name: str) -> Data:
    """The images under `root`; without train/ and test/, 80 % are to train on, always the same."""
    if not root.is_dir():
        what = "it is a file, and no folder of images" if root.exists() else "the folder does not exist"
        raise MissingData(what, where=str(root), remedy=f"correct the path; {LAYOUT}")
    parts = (root / "train", root / "test")
    notes: tuple[str, ...] = ()
    if all(part.is_dir() for part in parts):
        classes = _classes(parts[0])
        (train_paths, train_labels), (test_paths, test_labels) = (_labelled(part, classes) for part in parts)
    else:
        classes = _classes(root)
        paths, labels = _labelled(root, classes)
        train, test = split_indices(len(paths), str(root))
        notes = (split_note(train, test),)
        train_paths, train_labels = [paths[index] for index in train], labels[train]
        test_paths, test_labels = [paths[index] for index in test], labels[test]
    form = form_of(train_paths[0])
    notes = (*notes, *form_notes(form, [*train_paths, *test_paths]))
    splits = (
        ImageSplit(tuple(train_paths), train_labels, form),
        ImageSplit(tuple(test_paths), test_labels, form),
    )
    return Data(name, form.input_shape, len(classes), *splits, class_names=tuple(classes), notes=notes)


def _classes(folder: Path) -> list[str]:
    names = [each.name for each in visible(folder) if each.is_dir()]
    if not names:
        raise BadData("there are no class folders in it", where=str(folder), remedy=LAYOUT)
    return names


def _labelled(folder: Path, classes: list[str]) -> tuple[list[Path], Tensor]:
    """Every image with its label, in the order of the names."""
    if strange := [each.name for each in visible(folder) if each.is_dir() and each.name not in classes]:
        remedy = "train/ and test/ must have the same class folders"
        raise BadData(f"train/ has no class {strange[0]!r}", where=str(folder), remedy=remedy)
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = [path for path in visible(folder / name) if path.suffix.lower() in SUFFIXES]
        paths += found
        labels += [label] * len(found)
    if empty := [name for label, name in enumerate(classes) if label not in labels]:
        remedy = f"put images ({', '.join(SUFFIXES)}) into it, or remove it"
        raise BadData("a class folder holds no images", where=str(folder / empty[0]), remedy=remedy)
    return paths, torch.tensor(labels, dtype=torch.int64)


def visible(folder: Path) -> Iterator[Path]:
    """What is in a folder, in the order of the names, but for hidden files; nothing where there is none."""
    if not folder.is_dir():
        return iter(())
    return iter(sorted(each for each in folder.iterdir() if not each.name.startswith(".")))


def form_of(path: Path) -> Form:
    """The mode and size of an image; only its header is read."""
    with opened(path) as image:
        return Form("L" if image.mode in ("L", "1", "LA") else "RGB", *image.size)


def form_notes(form: Form, paths: Sequence[Path]) -> Iterator[str]:
    """What is done to images of another size or mode than the first, in words; only headers are read."""
    with ThreadPoolExecutor() as pool:
        forms = list(pool.map(form_of, paths))
    sizes = sum((each.width, each.height) != (form.width, form.height) for each in forms)
    modes = sum(each.mode != form.mode for each in forms)
    if sizes:
        size = f"{form.width}x{form.height}"
        yield f"{count_of(sizes, 'image')} of {len(forms):,} resized to {size}, the size of the first"
    if modes:
        change = (
            "turned grey, as the first is" if form.mode == "L" else "turned from grey to RGB, as the first is"
        )
        yield f"{count_of(modes, 'image')} of {len(forms):,} {change}"


def pixels(path: Path, form: Form) -> Tensor:
    """uint8 [channels, height, width]."""
    try:
        with opened(path) as image:
            converted = image.convert(form.mode).resize((form.width, form.height), Image.Resampling.BILINEAR)
    except UNREADABLE as error:
        raise BadData(
            f"cannot read the image: {error}", where=str(path), remedy="replace or remove it"
        ) from None
    values = torch.from_numpy(np.array(converted, dtype=np.uint8))
    return values[None] if form.mode == "L" else values.permute(2, 0, 1)


def opened(path: Path) -> Image.Image:
    """The image in a file of 8 bits a pixel."""
    try:
        image = Image.open(path)
    except UNREADABLE as error:
        raise BadData(
            f"cannot read the image: {error}", where=str(path), remedy="replace or remove it"
        ) from None
    if image.mode[0] in "IF":
        image.close()
        what = f"it is an image of more than 8 bits a pixel (mode {image.mode})"
        raise BadData(what, where=str(path), remedy="save it with 8 bits, or give the values in an .npz file")
    return image
