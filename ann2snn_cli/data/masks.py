"""Images with masks: PATH/images/NAME.png and PATH/masks/NAME.png, or both below PATH/train and PATH/test.

A mask has a class at each pixel, from 0, of palette or grey images; pixels of 255 do not count. Images are
read when they are wanted, and resized to the size of the first; masks with them, without mixing classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ann2snn_cli.data.folder import (
    SUFFIXES,
    UNREADABLE,
    Form,
    form_notes,
    form_of,
    opened,
    pixels,
    stacked,
    visible,
)
from ann2snn_cli.data.samples import Data, split_indices, split_note
from ann2snn_cli.errors import BadData, MissingData
from ann2snn_cli.tasks.segmentation import IGNORED
from ann2snn_cli.types import Batch

NAMES = "classes.txt"  # in PATH: a name a line, of class 0, 1, ...
LAYOUT = (
    "lay them out as PATH/images/NAME.png and PATH/masks/NAME.png, or PATH/train/images, PATH/train/masks, "
    "PATH/test/images and PATH/test/masks"
)


@dataclass(frozen=True, eq=False)
class MaskSplit:
    """Images and masks in files."""

    pairs: tuple[tuple[Path, Path], ...]  # image, mask
    form: Form

    @property
    def size(self) -> int:
        """How many images there are."""
        return len(self.pairs)

    @property
    def labels(self) -> Tensor:
        """All masks, which are read for it: uint8 [images, height, width]."""
        return stacked(self._mask, [mask for _, mask in self.pairs], 0)

    def batches(self, order: Sequence[Tensor], num_workers: int, seed: int) -> Iterator[Batch]:
        """Those images and their masks, read by `num_workers` threads."""
        for indices in order:
            images, masks = zip(*(self.pairs[index] for index in indices.tolist()), strict=True)
            x = stacked(lambda path: pixels(path, self.form), images, num_workers)
            yield x, stacked(self._mask, masks, num_workers)

    def _mask(self, path: Path) -> Tensor:
        size = (self.form.width, self.form.height)
        resized = Image.fromarray(read_mask(path)).resize(size, Image.Resampling.NEAREST)
        return torch.from_numpy(np.array(resized))


def load(root: Path, name: str) -> Data:
    """The images and masks under `root`; without train/ and test/, 80 % are to train on, always the same."""
    if not root.is_dir():
        what = "it is a file, and no folder" if root.exists() else "the folder does not exist"
        raise MissingData(what, where=str(root), remedy=f"correct the path; {LAYOUT}")
    parts, notes = (root / "train", root / "test"), tuple[str, ...]()
    if all(part.is_dir() for part in parts):
        train, test = map(_pairs, parts)
    else:
        pairs = _pairs(root)
        indices = split_indices(len(pairs), str(root))
        train, test = ([pairs[place] for place in part] for part in indices)
        notes = (split_note(*indices),)
    form = form_of(train[0][0])
    highest = _highest_class([*train, *test])
    names = _names(root, highest)
    notes = (*notes, *form_notes(form, [image for image, _ in [*train, *test]]))
    splits = (MaskSplit(tuple(train), form), MaskSplit(tuple(test), form))
    classes = len(names) or highest + 1
    return Data(name, form.input_shape, classes, *splits, class_names=names, task="segmentation", notes=notes)


def read_mask(path: Path) -> np.ndarray:
    """uint8 [height, width]: the class of each pixel."""
    try:
        with opened(path) as image:
            if image.mode not in ("L", "P", "1"):
                what = f"a mask has one number a pixel, and this one is {image.mode}"
                raise BadData(
                    what, where=str(path), remedy="save it as a grey or palette PNG, classes from 0"
                )
            return np.array(image, dtype=np.uint8)
    except UNREADABLE as error:
        raise BadData(f"cannot read the mask: {error}", where=str(path), remedy="replace it") from None


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Every image with its mask, in the order of their names."""
    images, masks = (_by_stem(folder / part) for part in ("images", "masks"))
    for one, other, word in ((images, masks, "mask"), (masks, images, "image")):
        lonely = [path for stem, path in one.items() if stem not in other]
        if lonely:
            what = f"{len(lonely)} of {len(one)} have no {word} of the same name, first {lonely[0].name}"
            remedy = f"add the {word}, or remove it; {LAYOUT}"
            raise BadData(what, where=str(lonely[0].parent), remedy=remedy)
    return [(images[stem], masks[stem]) for stem in images]


def _by_stem(folder: Path) -> dict[str, Path]:
    found = [path for path in visible(folder) if path.suffix.lower() in SUFFIXES]
    if not found:
        what = "it holds no images" if folder.is_dir() else "the folder does not exist"
        raise BadData(what, where=str(folder), remedy=LAYOUT)
    by_stem = {path.stem: path for path in found}
    if len(by_stem) < len(found):
        twice = next(path for path in found if by_stem[path.stem] != path)
        raise BadData(f"there are two files called {twice.stem}", where=str(folder), remedy="remove one")
    return by_stem


def _highest_class(pairs: Sequence[tuple[Path, Path]]) -> int:
    """Of all masks; each is held against its image."""

    def highest(pair: tuple[Path, Path]) -> int:
        form, mask = form_of(pair[0]), read_mask(pair[1])
        if mask.shape != (form.height, form.width):
            what = f"the mask is {mask.shape[1]}x{mask.shape[0]}, its image {form.width}x{form.height}"
            raise BadData(what, where=str(pair[1]), remedy="give a mask of the size of its image")
        return int(mask[mask != IGNORED].max(initial=0))

    with ThreadPoolExecutor() as pool:
        return max(pool.map(highest, pairs))


def _names(root: Path, highest: int) -> tuple[str, ...]:
    """What the classes are called, where a file says so."""
    path = root / NAMES
    if not path.is_file():
        return ()
    names = tuple(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip())
    if highest >= len(names):
        what = f"it names {len(names)} classes, and a mask holds class {highest}"
        raise BadData(what, where=str(path), remedy="name every class, one a line; 255 marks what has none")
    return names
