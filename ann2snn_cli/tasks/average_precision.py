"""Mean average precision by pycocotools, as the field reports it. The only home of pycocotools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

from ann2snn_cli.errors import UsageError

Boxes = Sequence[
    Mapping[str, Any]
]  # as COCO's annotations: image_id, category_id, bbox, area, iscrowd; score


def refuse_without_library() -> None:
    """Raise where pycocotools is not installed."""
    try:
        import pycocotools.cocoeval  # noqa: F401
    except ImportError:
        raise UsageError(
            "detection is scored by pycocotools, which is not installed",
            remedy="pip install pycocotools (or ann2snn[coco])",
        ) from None


def average_precision(true: Boxes, found: Boxes, images: int) -> dict[str, float | None]:
    """The mean over IoU of 0.50 to 0.95, and that at 0.50 and 0.75; None where no box is to be found.

    Images are 1 to `images`, also those without a box. Classes that no true box has are left out of means.
    """
    numbers: dict[str, float | None] = dict.fromkeys(("map", "map_50", "map_75"))
    if not any(not each["iscrowd"] for each in true):
        return numbers
    refuse_without_library()
    from pycocotools.cocoeval import COCOeval

    with redirect_stdout(StringIO()):  # it prints what it does
        evaluation = COCOeval(_as_coco(true, images), _as_coco(found, images), "bbox")
        evaluation.params.imgIds = list(range(1, images + 1))
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(numbers, evaluation.stats, strict=False)}


def _as_coco(boxes: Boxes, images: int) -> Any:
    from pycocotools.coco import COCO

    coco = COCO()
    kinds = sorted({each["category_id"] for each in boxes})
    coco.dataset = {
        "images": [{"id": number} for number in range(1, images + 1)],
        "categories": [{"id": kind} for kind in kinds],
        "annotations": [dict(each) | {"id": number} for number, each in enumerate(boxes, start=1)],
    }
    coco.createIndex()
    return coco
