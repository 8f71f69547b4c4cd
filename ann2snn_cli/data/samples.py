"""Samples and their batches. An order follows from a seed, never from batch size or from what ran before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ann2snn_cli import trees
from ann2snn_cli.data.checks import check_labels, check_samples, check_shapes
from ann2snn_cli.errors import BadData, Setting, UsageError
from ann2snn_cli.tasks import Task, task_named
from ann2snn_cli.types import Batch, Inputs, InputShapes, Labels, Shape, input_shapes
from ann2snn_cli.words import count_of

LABELS_AT_MOST = 1000  # more classes than this, and than samples, are a mistake unless `classes` says so


class Split(Protocol):
    """Half of a dataset: samples are read when they are wanted."""

    @property
    def size(self) -> int:
        """How many samples there are."""

    @property
    def labels(self) -> Labels:
        """A tree of tensors, [samples, ...]; for classification int64 [samples]."""

    def batches(self, order: Sequence[Tensor], num_workers: int, seed: int) -> Iterator[Batch]:
        """Samples as they are kept and their labels, a batch for each tensor of indices.

        Samples are uint8 (0 to 255 for 0 to 1) or float32, [batch, *input_shape]; several inputs are a tuple
        in the order of the network's inputs, or a dict by their names. What is random follows from the seed.
        """


@dataclass(frozen=True, eq=False)
class TensorSplit:
    """Samples in memory, as uint8 where they are images: a quarter of the room."""

    x: Inputs  # uint8 or float32 [samples, *input_shape]
    labels: Labels
    labelled: bool = True  # False: nobody gave labels, these are zeros

    @property
    def size(self) -> int:
        """How many samples there are."""
        return trees.sample_count(self.labels, "labels")

    def batches(self, order: Sequence[Tensor], num_workers: int, seed: int) -> Iterator[Batch]:
        """Those samples; memory needs no workers, and nothing is random."""
        return ((trees.index(self.x, indices), trees.index(self.labels, indices)) for indices in order)


@dataclass(frozen=True, eq=False)
class PartOfSplit:
    """Some samples of a split, in their order."""

    whole: Split
    chosen: Tensor  # int64: which ones

    @property
    def size(self) -> int:
        """How many samples there are."""
        return len(self.chosen)

    @property
    def labels(self) -> Labels:
        """Of the chosen ones."""
        return trees.index(self.whole.labels, self.chosen)

    def batches(self, order: Sequence[Tensor], num_workers: int, seed: int) -> Iterator[Batch]:
        """Those samples of the whole."""
        return self.whole.batches([self.chosen[indices] for indices in order], num_workers, seed)


@dataclass(frozen=True, eq=False)
class Data:
    """A dataset: what a sample looks like, and its two splits."""

    name: str
    shapes: Shape | InputShapes  # of one sample: of its input; of several inputs a tuple, or a dict by name
    classes: int  # 0 where the task has none
    train: Split
    test: Split
    class_names: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()  # per channel of values in 0..1; batches are (x - mean) / std; none: as is
    std: tuple[float, ...] = ()
    augmented: bool = False  # training images are moved by up to `shift` pixels at random, anew each epoch
    shift: int = 4
    mirrored: bool = False  # a mirrored image has the same label: where they are moved, half are mirrored
    task: str | Task = "classification"  # what labels mean: a name in TASKS, or a task of a user's own
    labelled: bool = True  # False: the labels are zeros that nobody gave, and nothing is trained on them
    notes: tuple[str, ...] = ()  # what a user should know of how the data were read

    def __post_init__(self) -> None:
        task_named(self.task)
        if (self.mean or self.augmented) and len(self.input_shapes) > 1:
            what = f"{self.name} has {len(self.input_shapes)} inputs: mean, std and augmented are for images"
            raise BadData(what, remedy="leave them out, and give samples as the network takes them")
        if self.augmented and (reason := self._reason_to_stay()):
            raise BadData(f"{self.name} is augmented: {reason}", remedy="leave augmented out")

    def _reason_to_stay(self) -> str:
        """Why its images cannot be moved; "" where they can."""
        task, shapes = task_named(self.task), self.input_shapes
        if task.name != "classification":
            return f"its images would move without their labels ({task.name})"
        if len(shapes) > 1 or len(self.input_shape) != 3:
            return "its samples are no images [channels, height, width]"
        return ""

    def with_augmentation(self, wanted: bool | None) -> Data:
        """The same, its training images moved at random or not; None: as is usual with these data."""
        if wanted and (reason := self._reason_to_stay()):
            raise UsageError(
                f"{self.name} cannot be augmented: {reason}",
                where=str(Setting("augment")),
                remedy=f"leave {Setting('augment')} out",
            )
        return self if wanted is None else replace(self, augmented=wanted)

    @property
    def input_shapes(self) -> InputShapes:
        """The shape of each input, without the batch: in order, or by name."""
        return input_shapes(self.shapes)

    @property
    def input_shape(self) -> Shape:
        """The shape of the one input; BadData where there are several."""
        shapes = self.input_shapes
        if len(shapes) != 1:
            what = f"the samples of {self.name} have {len(shapes)} inputs, where one is expected"
            raise BadData(what, remedy="give samples with one input")
        return next(iter(shapes.values())) if isinstance(shapes, Mapping) else shapes[0]

    @property
    def train_size(self) -> int:
        """Samples to train on."""
        return self.train.size

    @property
    def test_size(self) -> int:
        """Samples to test on."""
        return self.test.size

    def held_out(self, share: float, seed: int) -> tuple[Data, Data]:
        """The same without this share of the training samples, and with these as its test split."""
        count = max(1, round(share * self.train_size))
        if count >= self.train_size or not self._can_be_split():
            raise UsageError(
                f"{Setting('held_out', share)}: no part of the training set can be held out",
                where=str(Setting("held_out")),
                remedy="leave it out" + (", or give a smaller share" if self._can_be_split() else ""),
            )
        order = torch.randperm(self.train_size, generator=_generator(seed, -3))
        unseen, seen = (PartOfSplit(self.train, part.sort().values) for part in order.tensor_split((count,)))
        return replace(self, train=seen), replace(self, test=unseen)

    def _can_be_split(self) -> bool:
        return True

    def train_batches(self, batch_size: int, seed: int, epoch: int, num_workers: int = 0) -> Iterator[Batch]:
        """The train split once, in an order (and with shifts) that depend on seed and epoch alone."""
        random = _generator(seed, epoch)
        order = torch.randperm(self.train_size, generator=random)
        parts = _without_single(torch.split(order, batch_size))
        for x, labels in self.train.batches(parts, num_workers, _stream(seed, epoch)):
            if self.augmented:
                x = trees.map_leaves(
                    lambda images: _moved(images, random, self.shift, mirrored=self.mirrored), x
                )
            yield self._scaled(x), labels

    def test_batches(self, batch_size: int, num_workers: int = 0) -> Iterator[Batch]:
        """The test split once, in its own order."""
        order = torch.split(torch.arange(self.test_size), batch_size)
        return self._batches(self.test, order, num_workers, _stream(0, -1))

    def with_test_samples(self, samples: int | None) -> Data:
        """The same with so many test samples: always the same; all where there are fewer, or for None."""
        if samples is None or samples >= self.test_size:
            return self
        drawn = torch.randperm(self.test_size, generator=_generator(0, -3))[:samples]
        return replace(self, test=PartOfSplit(self.test, drawn.sort().values))

    def calibration_batches(
        self, samples: int, batch_size: int, seed: int, num_workers: int = 0
    ) -> Iterator[Batch]:
        """`samples` of the train split (all, where there are fewer), drawn by `seed`, not augmented."""
        chosen = torch.randperm(self.train_size, generator=_generator(seed, -1))[:samples]
        return self._batches(self.train, torch.split(chosen, batch_size), num_workers, _stream(seed, -1))

    def _batches(self, split: Split, order: Sequence[Tensor], num_workers: int, seed: int) -> Iterator[Batch]:
        return ((self._scaled(x), labels) for x, labels in split.batches(order, num_workers, seed))

    def _scaled(self, x: Inputs) -> Inputs:
        values = as_floats(x)
        return trees.map_leaves(self._normalised, values) if self.mean else values

    def _normalised(self, values: Tensor) -> Tensor:
        per_channel = (-1, *[1] * (values.dim() - 2))
        mean, std = (torch.tensor(each).reshape(per_channel) for each in (self.mean, self.std))
        return (values - mean) / std


def from_tensors(
    name: str,
    train: Batch,
    test: Batch,
    *,
    where: str = "",
    classes: int = 0,
    class_names: tuple[str, ...] = (),
    task: str | Task = "classification",
) -> Data:
    """A dataset of tensors in memory: (x, labels) twice; BadData for what cannot be one.

    x is uint8 or floats: a tensor, or for several inputs a tuple in order or a dict by their names. Labels
    are what the task takes: whole numbers for classification, else any tree of tensors.
    """
    meaning, where = task_named(task), where or name
    splits = {"train": train, "test": test}
    samples = {part: check_samples(x, part, where) for part, (x, _) in splits.items()}
    shapes = check_shapes(train[0], test[0], where)
    most = classes or max(LABELS_AT_MOST, sum(samples.values()))
    seen = [
        check_labels(y, samples[part], part, where, lambda labels: meaning.count_classes(labels, most))
        for part, (_, y) in splits.items()
    ]
    _refuse_other_labels(train[1], test[1], where)
    halves = [
        TensorSplit(trees.map_leaves(kept, x), trees.map_leaves(kept_label, y)) for x, y in (train, test)
    ]
    return Data(name, shapes, classes or max(seen), halves[0], halves[1], class_names, task=task)


def _refuse_other_labels(train: Labels, test: Labels, where: str) -> None:
    """Labels of both splits are built alike, and those of a sample have one shape."""
    shapes = [
        {name: tuple(leaf.shape[1:]) for name, leaf in trees.named_leaves(y, "y")} for y in (train, test)
    ]
    if shapes[0] != shapes[1]:
        what = f"labels of train and test differ in shape: {shapes[0]} and {shapes[1]}"
        raise BadData(what, where=where, remedy="give labels of one shape")


def as_floats(x: Inputs) -> Inputs:
    """Samples as networks take them: uint8 are fractions of 255."""
    return trees.map_leaves(lambda leaf: leaf.float() / 255 if leaf.dtype == torch.uint8 else leaf.float(), x)


def split_indices(samples: int, where: str) -> tuple[Tensor, Tensor]:
    """Indices of a train and a test split, 80 to 20: the same ones always."""
    if samples < 2:
        remedy = "give at least two samples, or train and test apart"
        raise BadData(
            f"{count_of(samples, 'sample')} cannot be split into train and test", where=where, remedy=remedy
        )
    order = torch.randperm(samples, generator=_generator(0, -2))
    held_out = max(1, samples // 5)
    return order[held_out:].sort().values, order[:held_out].sort().values


def split_note(train: Tensor, test: Tensor) -> str:
    """What `split_indices` did, in words."""
    counted = count_of(len(train), "sample")
    return f"{counted} to train on, {len(test):,} to test (80 to 20 %, always the same ones)"


def kept(values: Tensor) -> Tensor:
    """Samples as they are kept: uint8, or float32."""
    return values if values.dtype == torch.uint8 else values.float()


def kept_label(values: Tensor) -> Tensor:
    """A whole number a sample is kept as torch's losses take it; maps keep their smaller type."""
    whole = not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)
    return values.long() if whole and values.dim() == 1 else values


def _generator(seed: int, epoch: int) -> torch.Generator:
    """A stream of its own for every (seed, epoch); negative epochs are for other uses."""
    return torch.Generator().manual_seed(_stream(seed, epoch))


def _stream(seed: int, epoch: int) -> int:
    return (seed * 1_000_003 + epoch) % 2**63


def _without_single(batches: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A last batch of one sample joins the one before it: batch norm has no variance of a single value."""
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches = (*batches[:-2], torch.cat(batches[-2:]))
    return batches


def _moved(x: Tensor, random: torch.Generator, by: int, *, mirrored: bool) -> Tensor:
    """Each image moved by up to `by` pixels, black coming in from outside; half of them mirrored, if so."""
    samples, _, height, width = x.shape
    top, left = torch.randint(2 * by + 1, (2, samples, 1), generator=random)
    other_way = (torch.rand(samples, 1, generator=random) < 0.5) & mirrored
    rows = top + torch.arange(height)  # [samples, height]
    columns = torch.where(other_way, torch.arange(width).flip(0), torch.arange(width)) + left
    which = torch.arange(samples)[:, None, None]
    framed = F.pad(x, (by, by, by, by))
    return framed[which, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
