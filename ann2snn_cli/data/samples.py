"""Samples and their batches. An order follows from a seed, never from batch size or from what ran before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ann2snn_cli.errors import BadData

Batch = tuple[Tensor, Tensor]  # float32 [batch, *input_shape], int64 [batch]; on the CPU
LABELS_AT_MOST = 1000  # more classes than this, and than samples, are a mistake unless `classes` says so


class Split(Protocol):
    """Half of a dataset: labels in memory, samples fetched when they are wanted."""

    @property
    def labels(self) -> Tensor:
        """Int64 [samples]."""

    def fetch(self, indices: Tensor, num_workers: int) -> Tensor:
        """Samples as they are kept: uint8 (0 to 255 for 0 to 1) or float32, [batch, *input_shape]."""


@dataclass(frozen=True, eq=False)
class TensorSplit:
    """Samples in memory, as uint8 where they are images: a quarter of the room."""

    x: Tensor  # uint8 or float32 [samples, *input_shape]
    labels: Tensor

    def fetch(self, indices: Tensor, num_workers: int) -> Tensor:
        """Those samples; memory needs no workers."""
        return self.x[indices]


@dataclass(frozen=True, eq=False)
class Data:
    """A dataset: what a sample looks like, and its two splits."""

    name: str
    input_shape: tuple[int, ...]
    classes: int
    train: Split
    test: Split
    class_names: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()  # per channel of values in 0..1; batches are (x - mean) / std; none: as is
    std: tuple[float, ...] = ()
    augmented: bool = False  # training batches are shifted by up to 4 pixels and mirrored at random

    @property
    def train_size(self) -> int:
        """Samples to train on."""
        return len(self.train.labels)

    @property
    def test_size(self) -> int:
        """Samples to test on."""
        return len(self.test.labels)

    def train_batches(self, batch_size: int, seed: int, epoch: int, num_workers: int = 0) -> Iterator[Batch]:
        """The train split once, in an order (and with shifts) that depend on seed and epoch alone."""
        random = _generator(seed, epoch)
        order = torch.randperm(self.train_size, generator=random)
        for indices in _without_single(torch.split(order, batch_size)):
            x = self.train.fetch(indices, num_workers)
            yield self._scaled(_shifted(x, random) if self.augmented else x), self.train.labels[indices]

    def test_batches(self, batch_size: int, num_workers: int = 0) -> Iterator[Batch]:
        """The test split once, in its own order."""
        return self._batches(self.test, torch.arange(self.test_size), batch_size, num_workers)

    def calibration_batches(
        self, samples: int, batch_size: int, seed: int, num_workers: int = 0
    ) -> Iterator[Batch]:
        """`samples` of the train split (all, where there are fewer), drawn by `seed`, not augmented."""
        chosen = torch.randperm(self.train_size, generator=_generator(seed, -1))[:samples]
        return self._batches(self.train, chosen, batch_size, num_workers)

    def _batches(self, split: Split, order: Tensor, batch_size: int, num_workers: int) -> Iterator[Batch]:
        for indices in torch.split(order, batch_size):
            yield self._scaled(split.fetch(indices, num_workers)), split.labels[indices]

    def _scaled(self, x: Tensor) -> Tensor:
        values = x.float() / 255 if x.dtype == torch.uint8 else x
        if not self.mean:
            return values
        per_channel = (-1, *[1] * (x.dim() - 2))
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
) -> Data:
    """A dataset of tensors in memory: uint8 or floats and whole labels; BadData for what cannot be one."""
    for (x, y), part in ((train, "train"), (test, "test")):
        _check(x, y, part, where or name)
    if train[0].shape[1:] != test[0].shape[1:]:
        shapes = f"{tuple(train[0].shape[1:])} and {tuple(test[0].shape[1:])}"
        remedy = "give samples of one shape"
        raise BadData(f"train and test samples differ in shape: {shapes}", where=where or name, remedy=remedy)
    highest = max(int(train[1].max()), int(test[1].max()))
    most = classes or max(LABELS_AT_MOST, len(train[1]) + len(test[1]))
    if highest >= most:
        remedy = f"labels are 0 to {most - 1} here; number the classes from 0"
        raise BadData(f"label {highest} is out of range", where=where or name, remedy=remedy)
    shape = tuple(train[0].shape[1:])
    splits = [TensorSplit(x if x.dtype == torch.uint8 else x.float(), y.long()) for x, y in (train, test)]
    return Data(name, shape, classes or highest + 1, splits[0], splits[1], class_names)


def split_indices(samples: int, where: str) -> tuple[Tensor, Tensor]:
    """Indices of a train and a test split, 80 to 20: the same ones always."""
    if samples < 2:
        remedy = "give at least two samples, or train and test apart"
        raise BadData(f"{samples} sample cannot be split into train and test", where=where, remedy=remedy)
    order = torch.randperm(samples, generator=_generator(0, -2))
    held_out = max(1, samples // 5)
    return order[held_out:].sort().values, order[:held_out].sort().values


def _check(x: Tensor, y: Tensor, part: str, where: str) -> None:
    complaint, remedy = "", ""
    floats = x.is_floating_point()
    if not floats and x.dtype != torch.uint8:
        complaint, remedy = f"x is {_word(x)}", "give uint8 (0 to 255) or floats"
    elif x.dim() < 2:
        complaint, remedy = (
            f"x has the shape {tuple(x.shape)}",
            "the first axis counts samples: [samples, ...]",
        )
    elif x.dim() == 4 and x.shape[3] == 3 and x.shape[1] == x.shape[2]:
        complaint, remedy = f"x has its channels last: {tuple(x.shape)}", "give x.transpose(0, 3, 1, 2)"
    elif y.dim() != 1 or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        complaint, remedy = f"y is {_word(y)} of shape {tuple(y.shape)}", "give one whole number a sample"
    elif len(x) != len(y):
        complaint, remedy = f"{len(x)} samples in x and {len(y)} labels in y", "give one label a sample"
    elif x.numel() == 0:
        complaint, remedy = f"x is empty: {tuple(x.shape)}", "give at least one sample"
    elif floats and not bool(torch.isfinite(x.float()).all()):
        complaint, remedy = "x holds NaN or infinite values", "replace them, or leave those samples out"
    elif int(y.min()) < 0:
        complaint, remedy = f"label {int(y.min())} is out of range", "number the classes from 0"
    if complaint:
        raise BadData(f"{part}: {complaint}", where=where, remedy=remedy)


def _word(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _generator(seed: int, epoch: int) -> torch.Generator:
    """A stream of its own for every (seed, epoch); negative epochs are for other uses."""
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)


def _without_single(batches: tuple[Tensor, ...]) -> Iterator[Tensor]:
    """A last batch of one sample joins the one before it: batch norm has no variance of a single value."""
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches = (*batches[:-2], torch.cat(batches[-2:]))
    return iter(batches)


def _shifted(x: Tensor, random: torch.Generator, by: int = 4) -> Tensor:
    """Each image moved by up to `by` pixels, black coming in from outside, and half of them mirrored."""
    samples, _, height, width = x.shape
    top, left = torch.randint(2 * by + 1, (2, samples, 1), generator=random)
    mirrored = torch.rand(samples, 1, generator=random) < 0.5
    rows = top + torch.arange(height)  # [samples, height]
    columns = torch.where(mirrored, torch.arange(width).flip(0), torch.arange(width)) + left
    which = torch.arange(samples)[:, None, None]
    framed = F.pad(x, (by, by, by, by))
    return framed[which, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
