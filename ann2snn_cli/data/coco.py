"""Images with boxes in COCO's format: an annotations JSON beside a folder of images.

PATH/annotations/instances_train2017.json with PATH/train2017/ and instances_val2017.json with PATH/val2017/
(whatever follows `train` and `val`), or PATH/annotations.json with PATH/images/, which is split.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ann2snn_cli.data.folder import Form, ImageSplit, form_notes, form_of
from ann2snn_cli.data.samples import Data, split_indices, split_note
from ann2snn_cli.errors import BadData, MissingData
from ann2snn_cli.tasks.average_precision import refuse_without_library
from ann2snn_cli.tasks.detection import NO_BOX
from ann2snn_cli.words import count_of

LAYOUT = (
    "lay them out as PATH/annotations/instances_train2017.json, PATH/train2017/, PATH/annotations/"
    "instances_val2017.json and PATH/val2017/, or as PATH/annotations.json and PATH/images/"
)
Box = tuple[
    list[float], int, float, bool
]  # left, top, right, bottom as fractions; class, area, is it a crowd


@dataclass(frozen=True, eq=False)
class Annotated:
    """What a file of annotations says."""

    paths: list[Path]
    sizes: list[tuple[int, int]]  # height, width
    boxes: list[list[Box]]
    categories: dict[int, str]  # names by id, in the order of the ids
    notes: tuple[str, ...]


def load(root: Path, name: str) -> Data:
    """The images and boxes under `root`; of one file of annotations 80 % are to train on, always the same."""
    refuse_without_library()
    if not root.is_dir():
        raise MissingData("there is no such folder", where=str(root), remedy=f"correct the path; {LAYOUT}")
    parts = [_part(root, word) for word in ("train", "val")]
    notes: tuple[str, ...] = ()
    if all(parts):
        train, test = (_read(file, images) for file, images in filter(None, parts))
        if train.categories != test.categories:
            what = "its categories are not those of the training set"
            raise BadData(what, where=str(parts[1] and parts[1][0]), remedy="give both the same categories")
        halves = [(each, list(range(len(each.paths)))) for each in (train, test)]
        notes = (*train.notes, *test.notes)
    else:
        whole = _read(root / "annotations.json", root / "images")
        indices = split_indices(len(whole.paths), str(root))
        halves = [(whole, part.tolist()) for part in indices]
        notes = (*whole.notes, split_note(*indices))
    form = form_of(halves[0][0].paths[halves[0][1][0]])
    most = max(1, *(len(whole.boxes[place]) for whole, chosen in halves for place in chosen))
    splits = tuple(_split(whole, chosen, form, most) for whole, chosen in halves)
    names = tuple(halves[0][0].categories.values())
    notes = (*notes, *form_notes(form, [*splits[0].paths, *splits[1].paths]))
    shape, (train_split, test_split) = form.input_shape, splits
    return Data(
        name, shape, len(names), train_split, test_split, class_names=names, task="detection", notes=notes
    )


def _part(root: Path, word: str) -> tuple[Path, Path] | None:
    """The annotations and images of a split; None where there are none."""
    files = sorted((root / "annotations").glob(f"instances_{word}*.json"))
    if not files:
        return None
    return files[0], root / files[0].stem.removeprefix("instances_")


def _split(whole: Annotated, chosen: Sequence[int], form: Form, most: int) -> ImageSplit:
    boxes, area = torch.zeros(len(chosen), most, 4), torch.zeros(len(chosen), most)
    classes, crowd = torch.full(area.shape, NO_BOX), torch.zeros(area.shape, dtype=torch.bool)
    for row, place in enumerate(chosen):
        for column, (box, kind, pixels_in_it, is_crowd) in enumerate(whole.boxes[place]):
            boxes[row, column] = torch.tensor(box)
            classes[row, column], area[row, column], crowd[row, column] = kind, pixels_in_it, is_crowd
    sizes = torch.tensor([whole.sizes[place] for place in chosen])
    labels = {"boxes": boxes, "classes": classes, "area": area, "crowd": crowd, "size": sizes}
    return ImageSplit(tuple(whole.paths[place] for place in chosen), labels, form)


# The file of annotations ---------------------------------------------------------------------------


def _read(file: Path, images: Path) -> Annotated:
    content = _json(file)
    try:
        categories = {int(each["id"]): str(each["name"]) for each in content["categories"]}
        by_id = {each["id"]: place for place, each in enumerate(content["images"])}
        paths = [images / str(each["file_name"]) for each in content["images"]]
        sizes = [_size(path, each, file) for path, each in zip(paths, content["images"], strict=True)]
        categories = dict(sorted(categories.items()))
        boxes, notes = _boxes(content["annotations"], by_id, sizes, list(categories), file)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"it is no file of COCO's annotations: {type(error).__name__} {error}"
        remedy = (
            "give images (id, file_name), categories (id, name), annotations (image_id, category_id, bbox)"
        )
        raise BadData(what, where=str(file), remedy=remedy) from None
    if not paths or not categories:
        what = "it names no image" if categories else "it names no category"
        raise BadData(what, where=str(file), remedy="give at least one")
    return Annotated(paths, sizes, boxes, categories, notes)


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except OSError as error:
        remedy = f"correct the path; {LAYOUT}"
        raise MissingData(f"cannot read it: {error.strerror}", where=str(file), remedy=remedy) from None
    except ValueError as error:
        raise BadData(f"it is no JSON: {error}", where=str(file), remedy="write it anew") from None


def _size(path: Path, image: Mapping[str, Any], file: Path) -> tuple[int, int]:
    """Height and width, as the image itself has them."""
    if not path.is_file():
        remedy = f"put it there, or take it out of {file.name}"
        raise MissingData(f"{file.name} names an image that is not there", where=str(path), remedy=remedy)
    form = form_of(path)
    said = (image.get("height", form.height), image.get("width", form.width))
    if said != (form.height, form.width):
        what = f"it is {form.width}x{form.height}, and {file.name} says {said[1]}x{said[0]}"
        raise BadData(what, where=str(path), remedy="boxes are in pixels of the image: correct one of both")
    return form.height, form.width


def _boxes(
    annotations: Sequence[Mapping[str, Any]],
    by_id: Mapping[Any, int],
    sizes: Sequence[tuple[int, int]],
    categories: Sequence[int],
    file: Path,
) -> tuple[list[list[Box]], tuple[str, ...]]:
    """The boxes of every image, cut off at its border; what was cut or left out, in words."""
    found: list[list[Box]] = [[] for _ in sizes]
    cut = outside = 0
    for each in annotations:
        if each["image_id"] not in by_id:
            what = f"an annotation is of image {each['image_id']}, which is not among its images"
            raise BadData(what, where=str(file), remedy="add the image, or take the annotation out")
        if each["category_id"] not in categories:
            what = f"an annotation is of category {each['category_id']}, which is not among its categories"
            raise BadData(what, where=str(file), remedy="add the category, or take the annotation out")
        place = by_id[each["image_id"]]
        height, width = sizes[place]
        left, top, wide, high = map(float, each["bbox"])
        asked = [left, top, left + wide, top + high]
        inside = [min(max(value, 0.0), most) for value, most in zip(asked, [width, height] * 2, strict=True)]
        if not (inside[0] < inside[2] and inside[1] < inside[3]):
            outside += 1
            continue
        cut += any(abs(a - b) > 1 for a, b in zip(asked, inside, strict=True))
        fractions = [value / most for value, most in zip(inside, [width, height] * 2, strict=True)]
        area = float(each.get("area", (inside[2] - inside[0]) * (inside[3] - inside[1])))
        kind = categories.index(each["category_id"])
        found[place].append((fractions, kind, area, bool(each.get("iscrowd", 0))))
    notes = (
        f"{count_of(cut, 'box', 'boxes')} of {file.name} cut off at the border of the image" if cut else "",
        f"{count_of(outside, 'box', 'boxes')} of {file.name} left out: outside the image, or of no area"
        if outside
        else "",
    )
    return found, tuple(filter(None, notes))
