"""Regression: a target of real numbers a sample; an output has as many numbers."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from ann2snn_cli.errors import BadData
from ann2snn_cli.types import Headline, Labels, Outputs


class Regression:
    """Mean squared error, and its root; the first output is the prediction."""

    name = "regression"
    headline = Headline("rmse", is_share=False, higher_is_better=False)

    def loss(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """The mean of the squared errors of all numbers; of several outputs (auxiliary heads), the sum."""
        return torch.stack([F.mse_loss(*_matched(output, labels)) for output in outputs]).sum()

    def metric(self) -> SquaredError:
        """The root of the mean squared error, and mean loss."""
        return SquaredError()

    def prediction(self, outputs: Outputs) -> Tensor | None:
        """None: a target is no class."""
        return None

    def count_classes(self, labels: Labels, most: int) -> int:
        """How many numbers a target has: labels are finite numbers, [samples] or [samples, ...]."""
        remedy = "give numbers, [samples] or [samples, numbers]"
        if not isinstance(labels, Tensor):
            raise BadData(f"y is of type {type(labels).__name__}", remedy=remedy)
        if labels.dim() == 0 or labels.is_complex() or labels.dtype == torch.bool:
            word = str(labels.dtype).removeprefix("torch.")
            raise BadData(f"y is {word} of shape {tuple(labels.shape)}", remedy=remedy)
        wrong = ~torch.isfinite(labels.reshape(len(labels), prod(labels.shape[1:]))).all(1)
        if bool(wrong.any()):
            what = f"y holds NaN or infinite values in {int(wrong.sum())} of {len(labels)} samples"
            first = int(wrong.nonzero()[0])
            raise BadData(f"{what}, first in y[{first}]", remedy="replace them, or leave those samples out")
        return prod(labels.shape[1:])


def _matched(output: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Both as [samples, numbers], in the output's type; refused where one has more numbers a sample."""
    given = output.reshape(len(output), prod(output.shape[1:]))
    wanted = labels.to(output).reshape(len(labels), prod(labels.shape[1:]))
    if given.shape != wanted.shape:
        raise BadData(
            f"the network gives {given.shape[1]} numbers a sample, and y holds {wanted.shape[1]}",
            remedy="give the network an output for each: the classes that build() is told",
        )
    return given, wanted


class SquaredError:
    """The root of the mean squared error of the first output, in the unit of y, and the mean loss."""

    def __init__(self) -> None:
        self.seen = 0  # samples
        self.numbers = 0
        self.squares = self.loss = 0.0  # summed over the numbers, and over the samples

    def update(self, outputs: Outputs, labels: Tensor) -> None:
        """Count a batch."""
        with torch.no_grad():
            given, wanted = _matched(outputs[0].double(), labels)
            self.squares += float(((given - wanted) ** 2).sum())
            self.loss += float(Regression().loss(outputs, labels)) * len(labels)
        self.numbers += wanted.numel()
        self.seen += len(labels)

    def result(self) -> dict[str, float | None]:
        """Both; None where nothing was seen."""
        if not self.numbers:
            return {"rmse": None, "loss": None}
        return {"rmse": (self.squares / self.numbers) ** 0.5, "loss": self.loss / self.seen}
