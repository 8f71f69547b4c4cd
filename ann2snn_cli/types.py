"""The words for what passes between rooms: shapes, samples, labels, loss, metric, a report of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

from torch import Tensor

Shape = tuple[int, ...]  # of one sample or one value of it: without the batch's axis
InputShapes = tuple[Shape, ...] | dict[str, Shape]  # of a network's inputs, in order or by name
Inputs = Tensor | Sequence[Tensor] | Mapping[str, Tensor]  # of one input, of several in order, or by name
Outputs = tuple[Tensor, ...]  # a network's, always a tuple
Labels = Any  # any tree of tensors (trees.py) with a sample an index; which one it is, the task knows
Batch = tuple[Inputs, Labels]
Batches = Iterable[Batch]

Loss = Callable[[Outputs, Labels], Tensor]  # a single number, to be made small


class Metric(Protocol):
    """How good outputs are: it is shown batch after batch, then asked."""

    def update(self, outputs: Outputs, labels: Labels) -> None:
        """Count a batch."""

    def result(self) -> dict[str, float | None]:
        """The numbers by name, the headline first; None where there is no such number."""


@dataclass(frozen=True)
class Headline:
    """The number of a metric that stands for all of them, and how it is read."""

    name: str  # as in the metric's result
    is_share: bool = True  # a fraction of 1, shown as percent
    higher_is_better: bool = True

    @property
    def heading(self) -> str:
        """Over a column of them; what most readers expect, that more is better, is not said."""
        return self.name if self.higher_is_better else f"{self.name} (lower is better)"

    def shown(self, value: float | None, name: str = "") -> str:
        """It in words, or another number of the same metric by its name."""
        if value is None:
            return "-"
        return f"{100 * value:.2f} %" if self.is_share and name in ("", self.name) else f"{value:.4g}"


@dataclass(frozen=True)
class EpochReport:
    """How far an epoch of training or finetuning is; when it is done, what the metric says of it."""

    epoch: int  # from 1
    epochs: int
    lr: float
    samples: int = 0  # seen in this epoch
    loss: float = 0.0  # mean over them, while the weights were still changing
    results: Mapping[str, float | None] = field(default_factory=dict)  # the metric's; empty until it is done
    done: bool = False

    def after(self, loss: float, samples: int) -> EpochReport:
        """The report with one batch more: its mean loss and its number of samples."""
        seen = self.samples + samples
        return replace(self, samples=seen, loss=(self.loss * self.samples + loss * samples) / seen)

    def ended(self, metric: Metric) -> EpochReport:
        """The report of the whole epoch."""
        return replace(self, results=metric.result(), done=True)


def input_shapes(shapes: Shape | InputShapes) -> InputShapes:
    """The shape of each input, in order or by name; a shape alone is that of the one input."""
    if isinstance(shapes, Mapping):
        return {name: tuple(shape) for name, shape in shapes.items()}
    if any(isinstance(shape, Sequence) for shape in shapes):
        return tuple(tuple(shape) for shape in cast(tuple[Shape, ...], shapes))
    return (tuple(cast(Shape, shapes)),)


def without_time(shapes: InputShapes) -> InputShapes:
    """Of samples that are [T, ...] the shape of one of their frames."""
    if isinstance(shapes, Mapping):
        return {name: shape[1:] for name, shape in shapes.items()}
    return tuple(shape[1:] for shape in shapes)
