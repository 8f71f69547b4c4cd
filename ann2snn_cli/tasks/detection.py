"""Detection: boxes with classes; an output is a grid whose cells have a score for each class and a box.

A network gives [samples, classes + 4, rows, columns]. The cell in which the centre of a box lies is to find
it: by the score (before the sigmoid) of its class, and by four numbers, where in the cell the centre is
(x, y, from 0 to 1) and the logarithm of the width and the height, in cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ann2snn_cli.errors import BadData
from ann2snn_cli.tasks.average_precision import average_precision
from ann2snn_cli.types import Headline, Labels, Outputs

NO_BOX = -1  # the class of places that an image has no box for
MOST_BOXES = 100  # an image, as COCO counts them
LARGEST = 8.0  # logarithm: more cells than any grid has
LABELS = (
    "labels are a dict: boxes [samples, boxes, 4], left, top, right and bottom as fractions of the image; "
    "classes [samples, boxes], -1 where there is no box; size [samples, 2], height and width in pixels"
)


class Detection:
    """A focal loss for the scores and L1 for the boxes; mean average precision as COCO defines it."""

    name = "detection"
    headline = Headline("map")

    def loss(self, outputs: Outputs, labels: Mapping[str, Tensor]) -> Tensor:
        """Of every box that counts, the mean; crowds are not trained on."""
        grid = _grid(outputs, labels)
        scores, places = grid[:, :-4], grid[:, -4:].permute(0, 2, 3, 1)
        wanted, heat, at = _targets(labels, scores)
        chance = scores.float().sigmoid().clamp(1e-4, 1 - 1e-4)
        hit = -((1 - chance) ** 2) * chance.log()
        miss = -((1 - heat) ** 4) * chance**2 * (1 - chance).log()
        boxes = F.l1_loss(places[at], wanted, reduction="sum")
        return (torch.where(heat == 1, hit, miss).sum() + boxes) / max(1, len(wanted))

    def metric(self) -> Precision:
        """Mean average precision over IoU of 0.50 to 0.95, that at 0.50 and at 0.75, and mean loss."""
        return Precision()

    def prediction(self, outputs: Outputs) -> Tensor | None:
        """None: a sample has many classes."""
        return None

    def count_classes(self, labels: Labels, most: int) -> int:
        """The highest class and one."""
        _check(labels)
        classes = labels["classes"]
        highest = int(classes.max()) if classes.numel() else NO_BOX
        if classes.numel() and int(classes.min()) < NO_BOX:
            raise BadData(f"y['classes'] holds {int(classes.min())}", remedy=LABELS)
        if highest >= most:
            raise BadData(f"class {highest} is out of range: there are {most}", remedy=LABELS)
        return highest + 1


def _check(labels: Labels) -> None:
    """Refuse what are no boxes."""
    if not isinstance(labels, Mapping) or not {"boxes", "classes", "size"} <= set(labels):
        raise BadData("y holds no boxes", remedy=LABELS)
    boxes, classes, size = (labels[name] for name in ("boxes", "classes", "size"))
    shapes = (boxes.shape[:-1] == classes.shape, boxes.dim() == 3, boxes.shape[-1:] == (4,), size.dim() == 2)
    if not all(shapes) or classes.is_floating_point() or not boxes.is_floating_point():
        raise BadData(
            f"y holds boxes {list(boxes.shape)}, classes {list(classes.shape)}, size {list(size.shape)}",
            remedy=LABELS,
        )
    there = boxes[classes != NO_BOX]
    if bool(((there < 0) | (there > 1)).any()) or bool((there[:, 2:] <= there[:, :2]).any()):
        raise BadData("y['boxes'] holds a box outside its image, or of no area", remedy=LABELS)


def _grid(outputs: Outputs, labels: Mapping[str, Tensor]) -> Tensor:
    """The one output, if it can hold the classes of the labels."""
    shape = list(outputs[0].shape[1:])
    if len(outputs) != 1 or outputs[0].dim() != 4 or shape[0] < 5:
        what = f"the network gives {shape} a sample" if len(outputs) == 1 else f"{len(outputs)} outputs"
        remedy = "give one grid, [classes + 4, rows, columns]: see `ann2snn cp detect_small .`"
        raise BadData(f"{what}, which is no grid of boxes", remedy=remedy)
    classes = labels["classes"]
    if classes.numel() and int(classes.max()) >= shape[0] - 4:
        what = f"class {int(classes.max())} is out of range: the grid has scores for {shape[0] - 4}"
        raise BadData(what, remedy="give the network classes + 4 channels: build() is told how many classes")
    return outputs[0]


def _targets(labels: Mapping[str, Tensor], scores: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Four numbers a box, the wanted score of every cell, and the cell of each box: sample, row, column.

    Around a centre wanted scores fall off with the distance, relative to the size of the box.
    """
    rows, columns = scores.shape[2:]
    boxes, classes = labels["boxes"].to(scores), labels["classes"].to(scores.device)
    counts = classes != NO_BOX
    if "crowd" in labels:
        counts = counts & ~labels["crowd"].to(scores.device)
    sample, _ = counts.nonzero(as_tuple=True)
    box, kind = boxes[counts] * boxes.new_tensor([columns, rows, columns, rows]), classes[counts].long()
    middle, extent = (box[:, :2] + box[:, 2:]) / 2, (box[:, 2:] - box[:, :2]).clamp_min(1e-3)
    column = middle[:, 0].long().clamp(0, columns - 1)
    row = middle[:, 1].long().clamp(0, rows - 1)
    wanted = torch.cat([middle - torch.stack([column, row], 1), extent.log()], 1)
    spread = (extent / 6).clamp_min(1 / 3)
    across = torch.exp(-(((torch.arange(columns).to(box) - column[:, None]) / spread[:, :1]) ** 2) / 2)
    down = torch.exp(-(((torch.arange(rows).to(box) - row[:, None]) / spread[:, 1:]) ** 2) / 2)
    heat = torch.zeros_like(scores)
    for place in range(len(box)):
        one = down[place][:, None] * across[place]
        heat[sample[place], kind[place]] = torch.maximum(heat[sample[place], kind[place]], one)
    return wanted, heat, (sample, row, column)


def found_boxes(grid: Tensor, most: int = MOST_BOXES) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes [samples, n, 4] as fractions of the image, their scores and classes [samples, n], the best first.

    A cell is a candidate where no neighbour has a higher score of that class.
    """
    scores, places = grid[:, :-4].double().sigmoid(), grid[:, -4:].double()
    classes, rows, columns = scores.shape[1:]
    scores = scores * (F.max_pool2d(scores, 3, 1, 1) == scores)
    best, at = scores.flatten(1).topk(min(most, classes * rows * columns), 1)
    kind, cell = at // (rows * columns), at % (rows * columns)
    numbers = places.flatten(2).gather(2, cell[:, None].expand(-1, 4, -1))  # [samples, 4, n]
    sides = numbers.new_tensor([columns, rows])[:, None]
    middle = (torch.stack([cell % columns, cell // columns], 1) + numbers[:, :2]) / sides
    half = numbers[:, 2:].clamp(-LARGEST, LARGEST).exp() / sides / 2
    boxes = torch.cat([middle - half, middle + half], 1).clamp(0, 1).transpose(1, 2)
    return boxes, best, kind


class Precision:
    """Found and true boxes of all samples, in pixels, which are compared at the end."""

    def __init__(self) -> None:
        self.seen = 0
        self.loss = 0.0
        self.true: list[dict[str, Any]] = []
        self.found: list[dict[str, Any]] = []

    def update(self, outputs: Outputs, labels: Mapping[str, Tensor]) -> None:
        """Count a batch."""
        with torch.no_grad():
            grid = _grid(outputs, labels)
            labels = {name: values.to(grid.device) for name, values in labels.items()}
            count = len(grid)
            self.loss += float(Detection().loss((grid.float(),), labels)) * count
            boxes, scores, kinds = found_boxes(grid)
        sizes = labels["size"].double().flip(1).repeat(1, 2)[:, None]  # width, height, width, height
        given, pixels = (labels["boxes"].double() * sizes).cpu(), (boxes * sizes).cpu()
        for place in range(count):
            self._true(place, given[place], labels)
            of_sample = zip(
                pixels[place].tolist(), scores[place].tolist(), kinds[place].tolist(), strict=True
            )
            for box, score, kind in of_sample:
                if score > 0:
                    self.found.append(self._entry(place, box, kind) | {"score": score})
        self.seen += count

    def _true(self, place: int, boxes: Tensor, labels: Mapping[str, Tensor]) -> None:
        for number, kind in enumerate(labels["classes"][place].tolist()):
            if kind != NO_BOX:
                entry = self._entry(place, boxes[number].tolist(), kind)
                if "area" in labels:
                    entry["area"] = float(labels["area"][place, number])
                entry["iscrowd"] = int(labels["crowd"][place, number]) if "crowd" in labels else 0
                self.true.append(entry)

    def _entry(self, place: int, box: list[float], kind: int) -> dict[str, Any]:
        left, top, right, bottom = box
        where = [left, top, right - left, bottom - top]
        return {"image_id": self.seen + place + 1, "category_id": kind + 1, "bbox": where,
                "area": where[2] * where[3], "iscrowd": 0}  # fmt: skip

    def result(self) -> dict[str, float | None]:
        """All four; None where there was no box to be found."""
        loss = {"loss": self.loss / self.seen if self.seen else None}
        return {**average_precision(self.true, self.found, self.seen), **loss}
