"""What a task is. Inherit from `Task` or not: only the members count."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from ann2snn_cli.types import Headline, Labels, Metric, Outputs


class Task(Protocol):
    """What labels mean: how wrong outputs are, how good they are, and what they predict."""

    @property
    def name(self) -> str:
        """What a dataset calls it, such as "classification"."""

    @property
    def headline(self) -> Headline:
        """The metric's number that stands for all of them, its first, and how it is read."""

    def loss(self, outputs: Outputs, labels: Labels) -> Tensor:
        """What training makes small: a mean over the samples, as a tensor of one number."""

    def metric(self) -> Metric:
        """A metric that has seen nothing yet."""

    def prediction(self, outputs: Outputs) -> Tensor | None:
        """The class of each sample, [batch]; None where samples have no one class."""
        return None

    def count_classes(self, labels: Labels, most: int) -> int:
        """What `build` is told of these labels: the number of classes, or of numbers in a target; else 0.

        Labels that the task cannot learn are a BadData that calls them `y`; so are classes beyond `most`.
        """
        return 0
