"""Classification: one whole number a sample is its class; an output has a score for each class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ann2snn_cli.errors import BadData, Setting
from ann2snn_cli.types import Headline, Labels, Outputs


class Classification:
    """Cross entropy and accuracy; the highest score is the prediction."""

    name = "classification"
    headline = Headline("accuracy")

    def loss(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """Cross entropy; of several outputs (auxiliary heads), the sum. A map has a score for each value."""
        return torch.stack([_cross_entropy(output.flatten(1), labels) for output in outputs]).sum()

    def metric(self) -> Accuracy:
        """Accuracy and mean loss."""
        return Accuracy()

    def prediction(self, outputs: Outputs) -> Tensor | None:
        """The class with the highest score in the first output."""
        return outputs[0].argmax(1) if _are_scores(outputs[0]) else None

    def count_classes(self, labels: Labels, most: int) -> int:
        """The highest label and one: labels are one whole number a sample, 0 to most - 1."""
        remedy = "give one whole number a sample"
        if not isinstance(labels, Tensor):
            raise BadData(f"y is of type {type(labels).__name__}", remedy=remedy)
        no_number = labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool
        if labels.dim() != 1 or no_number:
            word = str(labels.dtype).removeprefix("torch.")
            what = f"y is {word} of shape {tuple(labels.shape)}"
            other = f"; of numbers to be predicted {Setting('task', 'regression')}" if no_number else ""
            raise BadData(what, remedy=f"{remedy}{_HINTS.get(labels.dim(), '')}{other}")
        lowest, highest = (int(labels.min()), int(labels.max())) if len(labels) else (0, -1)
        if lowest < 0:
            raise BadData(f"label {lowest} is out of range", remedy="number the classes from 0")
        if highest >= most:
            remedy = f"labels are 0 to {most - 1} here; number the classes from 0"
            raise BadData(f"label {highest} is out of range", remedy=remedy)
        return highest + 1


def _cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    if len(labels) and int(labels.max()) >= scores.shape[1]:
        what = f"label {int(labels.max())} is out of range: the output has {scores.shape[1]} scores"
        raise BadData(what, remedy="number the classes from 0, or give the network an output for each class")
    return F.cross_entropy(scores, labels)


_HINTS = {1: ": y.long()", 2: ": y.argmax(1) of one-hot labels, y.flatten() of a column"}


class Accuracy:
    """How often the first output's highest score is at the label (top-1), and the mean loss of all outputs.

    None where outputs are no class scores: a map, or a single value. The loss is None, too, where a label
    has no score.
    """

    def __init__(self) -> None:
        self.seen = 0
        self.right = 0
        self.loss = 0.0  # summed over the samples
        self.scored = self.has_loss = True

    def update(self, outputs: Outputs, labels: Tensor) -> None:
        """Count a batch."""
        task = Classification()
        labels = labels.to(outputs[0].device)
        predicted = task.prediction(outputs)
        self.seen += len(labels)
        self.scored = self.scored and predicted is not None
        if predicted is not None:
            self.right += int((predicted == labels).sum())
        self.has_loss = self.has_loss and all(_score_each(output, labels) for output in outputs)
        if self.has_loss:
            with torch.no_grad():
                self.loss += float(task.loss(outputs, labels)) * len(labels)

    def result(self) -> dict[str, float | None]:
        """Both as means over the samples, accuracy as a fraction of 1."""
        accuracy = self.right / self.seen if self.scored and self.seen else None
        return {"accuracy": accuracy, "loss": self.loss / self.seen if self.has_loss and self.seen else None}


def _are_scores(output: Tensor) -> bool:
    return output.dim() == 2 and output.shape[1] > 1


def _score_each(output: Tensor, labels: Tensor) -> bool:
    return _are_scores(output) and (len(labels) == 0 or int(labels.max()) < output.shape[1])
