"""Segmentation: a class at each pixel; an output has a map of scores for each class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ann2snn_cli.errors import BadData
from ann2snn_cli.types import Headline, Labels, Outputs

IGNORED = 255  # the label of pixels that do not count


class Segmentation:
    """Cross entropy a pixel, and mean IoU; the highest score of a pixel is its class."""

    name = "segmentation"
    headline = Headline("mean_iou")

    def loss(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """The mean over the pixels that count; of several outputs (auxiliary heads), the sum."""
        return torch.stack([_cross_entropy(_matched(output, labels), labels) for output in outputs]).sum()

    def metric(self) -> MeanIoU:
        """Mean intersection over union, the share of right pixels, and mean loss."""
        return MeanIoU()

    def prediction(self, outputs: Outputs) -> Tensor | None:
        """None: a sample has many classes."""
        return None

    def count_classes(self, labels: Labels, most: int) -> int:
        """The highest class and one: labels are maps of whole numbers, [samples, height, width]."""
        remedy = f"give a map of classes from 0 a sample, [samples, height, width]; {IGNORED} does not count"
        if not isinstance(labels, Tensor):
            raise BadData(f"y is of type {type(labels).__name__}", remedy=remedy)
        no_number = labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool
        if labels.dim() != 3 or no_number:
            word = str(labels.dtype).removeprefix("torch.")
            raise BadData(f"y is {word} of shape {tuple(labels.shape)}", remedy=remedy)
        counted = labels[labels != IGNORED]
        lowest, highest = (int(counted.min()), int(counted.max())) if len(counted) else (0, -1)
        if lowest < 0:
            raise BadData(f"class {lowest} is out of range", remedy=remedy)
        if highest >= most:
            raise BadData(f"class {highest} is out of range: there are {most}", remedy=remedy)
        return highest + 1


def _matched(output: Tensor, labels: Tensor) -> Tensor:
    """The output, if it has a score of every class at every pixel."""
    if output.dim() != 4 or output.shape[2:] != labels.shape[1:]:
        raise BadData(
            f"the network gives {list(output.shape[1:])} a sample, and its mask is {list(labels.shape[1:])}",
            remedy="end it in a map of [classes, height, width] as large as the image (a 1x1 convolution; "
            "torch.nn.functional.interpolate makes a map larger)",
        )
    counted = labels[labels != IGNORED]
    if len(counted) and int(counted.max()) >= output.shape[1]:
        raise BadData(
            f"class {int(counted.max())} is out of range: the output has {output.shape[1]} scores a pixel",
            remedy="give the network a score for each class: build(input_shape, classes) is told how many",
        )
    return output


def _cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    counted = int((labels != IGNORED).sum())
    sums = F.cross_entropy(scores, labels.long(), ignore_index=IGNORED, reduction="sum")
    return sums / max(1, counted)


class MeanIoU:
    """Mean intersection over union of the first output, over all pixels of all samples at once.

    Classes that no label has are left out of the mean, so that all variants are scored on the same ones: a
    pixel that is taken for such a class is wrong for its own.
    """

    def __init__(self) -> None:
        self.confusion = torch.zeros(0, 0, dtype=torch.int64)  # [label, predicted]
        self.seen = 0
        self.loss = 0.0

    def update(self, outputs: Outputs, labels: Tensor) -> None:
        """Count a batch."""
        with torch.no_grad():
            labels = labels.to(outputs[0].device)
            self.loss += float(Segmentation().loss(outputs, labels)) * len(labels)
            counted, classes = labels != IGNORED, outputs[0].shape[1]
            pairs = labels[counted].long() * classes + outputs[0].argmax(1)[counted]
            found = torch.bincount(pairs, minlength=classes**2).reshape(classes, classes).cpu()
        self.confusion = self.confusion + found if len(self.confusion) else found
        self.seen += len(labels)

    def result(self) -> dict[str, float | None]:
        """All three; None where nothing was seen."""
        right, labelled = self.confusion.diagonal().double(), self.confusion.sum(1)
        there = labelled > 0
        if not bool(there.any()):
            return {"mean_iou": None, "pixel_accuracy": None, "loss": None}
        union = (labelled + self.confusion.sum(0) - self.confusion.diagonal()).double()
        return {
            "mean_iou": float((right[there] / union[there]).mean()),
            "pixel_accuracy": float(right.sum() / labelled.sum()),
            "loss": self.loss / self.seen,
        }
