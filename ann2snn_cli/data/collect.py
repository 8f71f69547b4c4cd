"""Whatever users hold as data becomes a `Data`: tensors, arrays, batches, a torch Dataset, a DataLoader.

Tensors and arrays are taken as they are. A Dataset, and a DataLoader that draws from one in the usual way, is
read item by item when items are wanted, in an order that follows from our seed. Of other batches (a list, a
generator, a loader with a sampler of its own) the first ones are kept to calibrate on, no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    Subset,
)

from ann2snn_cli import trees
from ann2snn_cli.data.checks import check_shapes
from ann2snn_cli.data.given import (
    PAIRS,
    with_labels,
)
from ann2snn_cli.data.samples import LABELS_AT_MOST, Data, TensorSplit, kept, split_indices, split_note
from ann2snn_cli.data.sources import DatasetSplit, Stream, source_of
from ann2snn_cli.errors import BadData, Setting, UsageError, WrongKind
from ann2snn_cli.tasks import AUTO, Task, refuse_other_task, task_named, task_note, task_of
from ann2snn_cli.types import Batch, Inputs, Labels
from ann2snn_cli.words import count_of

SCALE = {"mean": 0.0, "std": 1.0}  # what a loader may say of its samples, and what it means to say nothing


@dataclass(frozen=True, eq=False)
class Streamed(Data):
    """A stream as a dataset: its first samples to calibrate on, all of it in its own batches to train on."""

    stream: Stream | None = None

    def _can_be_split(self) -> bool:
        return False

    def _reason_to_stay(self) -> str:
        return "its batches are trained on as they come"

    def train_batches(self, batch_size: int, seed: int, epoch: int, num_workers: int = 0) -> Iterator[Batch]:
        """The batches as they come."""
        assert self.stream is not None
        for x, labels in self.stream.read(seed * 1_000_003 + epoch):
            yield self._scaled(trees.map_leaves(kept, x)), labels


# For Python ----------------------------------------------------------------------------------------


def collect(
    given: Any, *, samples: int, seed: int = 0, epochs: int = 0, batch_size: int = 128, task: str = AUTO
) -> Any:
    """The data as the pipeline asks for them; what is no data of ours is a WrongKind that names what is.

    Of a stream `samples` are kept, and it is read again for each of the `epochs` of finetuning. `task` says
    what labels mean; for `auto` their kind does.
    """
    if hasattr(given, "calibration_batches"):
        refuse_other_task(given.task, task, getattr(given, "name", "the data"))
        return given
    source = source_of(given, batch_size, task)
    if isinstance(source, Stream):
        return _streamed(source, samples, seed, epochs)
    count = min(samples, source.size)
    notes = []
    if isinstance(source, DatasetSplit):
        notes.append(f"calibrated on {count} of {source.size} samples, drawn from the Dataset by seed {seed}")
        if isinstance(given, DataLoader):
            notes.append(f"the DataLoader's own order and batch size were not used, but {batch_size} a step")
    return _data("samples", source, source, tuple(notes), task=task)


def _streamed(stream: Stream, samples: int, seed: int, epochs: int) -> Data:
    if stream.once and epochs:
        raise UsageError(
            f"{stream.what} can be read once, and each epoch of finetuning reads the data",
            remedy=f"give a list, a Dataset or a DataLoader, or {Setting('finetune_epochs', 0)}",
        )
    first = _first(stream, samples, seed)
    size = first.size
    note = f"calibrated on the first {size} samples of {stream.what}"
    data = _data("samples", first, first, (note,), task=stream.task)
    fields = {name: getattr(data, name) for name in Data.__dataclass_fields__}
    return Streamed(**fields, stream=stream)


def _first(stream: Stream, samples: int | None, seed: int) -> TensorSplit:
    """The first samples of a stream in memory; None: all of them."""
    batches: list[tuple[Inputs, Labels | None]] = []
    seen = 0
    for x, labels in stream.read(seed):
        if batches:
            _refuse_other_form(batches[0], (x, labels), len(batches))
        if samples is not None:
            wanted = slice(samples - seen)
            x, labels = trees.index(x, wanted), None if labels is None else labels[wanted]
        batches.append((trees.map_leaves(kept, x), labels))
        seen += trees.sample_count(x)
        if samples is not None and seen >= samples:
            break
    if not batches:
        raise BadData(f"{stream.what} holds no batch", remedy="give at least one sample")
    labelled = batches[0][1] is not None
    x = trees.cat([x for x, _ in batches])
    labels = trees.cat([labels for _, labels in batches]) if labelled else None
    return TensorSplit(x, with_labels((x, labels))[1], labelled)


def _refuse_other_form(first: tuple[Inputs, Any], other: tuple[Inputs, Any], number: int) -> None:
    try:
        check_shapes(first[0], other[0], "")
    except BadData as error:
        shapes = error.what.partition(": ")[2]
        remedy = f"give samples of one shape; a list is one of batches: {PAIRS}"
        raise BadData(f"batch 0 and batch {number} differ in shape: {shapes}", remedy=remedy) from None
    if (first[1] is None) != (other[1] is None):
        raise BadData(
            f"of batch 0 and batch {number} only one has labels",
            remedy="give labels with all batches, or none",
        )


# For a loader on the command line ------------------------------------------------------------------


def from_loader(given: Any, name: str, where: str, task: str = AUTO) -> Data:
    """What a loader gave, as two labelled splits: (train, test), {"train": ..., "test": ...}, or one of both.

    Of one, 80 % are to train on, always the same. Batches that come one after the other are
    kept in memory. Beside "train" a dict may hold "mean" and "std", a number or one a channel: the network
    is given (x - mean) / std.
    """
    if isinstance(given, Mapping) and "train" in given and set(given) <= {"train", "test", *SCALE}:
        splits = (given["train"], given["test"]) if "test" in given else given["train"]
        return _with_scale(from_loader(splits, name, where, task), given, where)
    if isinstance(given, tuple) and len(given) == 2 and all(map(_is_split, given)):
        train, test = (
            _read_split(each, part, where, task)
            for each, part in zip(given, ("train: ", "test: "), strict=True)
        )
        return _data(name, train, test, (), where, task)
    whole = _read_split(given, "", where, task)
    indices = split_indices(whole.size, where)
    train, test = (_part(whole, each) for each in indices)
    return _data(name, train, test, (split_note(*indices),), where, task)


def _with_scale(data: Data, given: Mapping[str, Any], where: str) -> Data:
    """The data with the mean and the standard deviation that were given, for every channel."""
    if not any(key in given for key in SCALE):
        return data
    mean, std = (_by_channel(key, given, data, where) for key in SCALE)
    if not all(value > 0 for value in std):
        raise BadData(
            "a std is not above 0", where=where, remedy="leave std out, or give that of each channel"
        )
    return replace(data, mean=mean, std=std)


def _by_channel(key: str, given: Mapping[str, Any], data: Data, where: str) -> tuple[float, ...]:
    channels = data.input_shape[0] if data.input_shape else 1
    try:
        values = torch.as_tensor(given.get(key, SCALE[key]), dtype=torch.float64).flatten()
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadData(
            f"{key} is no number: {error}", where=where, remedy="give one for each channel"
        ) from None
    if len(values) not in (1, channels) or not bool(values.isfinite().all()):
        what = f"{key} has {count_of(len(values), 'value')}, and the samples {count_of(channels, 'channel')}"
        raise BadData(what, where=where, remedy="give one finite number for each channel, or one for all")
    return tuple(values.expand(channels).tolist())


def _is_split(given: Any) -> bool:
    """Whether it can be a split by itself: samples with their labels."""
    return isinstance(given, Dataset | DataLoader | Iterator | tuple) or (
        isinstance(given, list) and bool(given) and not isinstance(given[0], int | float | str)
    )


def _read_split(given: Any, part: str, where: str, task: str) -> TensorSplit | DatasetSplit:
    try:
        source = source_of(given, 128, task)
        source = _first(source, None, 0) if isinstance(source, Stream) else source
    except (BadData, WrongKind) as error:
        raise type(error)(f"{part}{error.what}", where=where, remedy=error.remedy) from None
    if not source.labelled:
        raise BadData(f"{part}the samples have no labels", where=where, remedy="give (x, labels)")
    return source


def _part(split: TensorSplit | DatasetSplit, indices: Tensor) -> TensorSplit | DatasetSplit:
    if isinstance(split, DatasetSplit):
        return replace(split, dataset=Subset(split.dataset, indices.tolist()))
    return TensorSplit(trees.index(split.x, indices), trees.index(split.labels, indices))


def _data(
    name: str, train: Any, test: Any, notes: tuple[str, ...], where: str = "", task: str = AUTO
) -> Data:
    """The dataset of two splits; of samples in memory all are checked, of others the first."""
    examples = [_example(split) for split in (train, test)]
    shapes = check_shapes(examples[0][0], examples[1][0], where or name)
    as_bytes = any(leaf.dtype == torch.uint8 for leaf in trees.leaves(examples[0][0]))
    if as_bytes:
        notes = (*notes, "uint8 samples are taken as fractions of 255")
    found = task_of(examples[0][1], task)
    notes = (*notes, *task_note(found, task)) if train.labelled else notes
    classes = _classes(task_named(found), train, test) if where else 0
    return Data(name, shapes, classes, train, test, task=found, labelled=train.labelled, notes=notes)


def _example(split: TensorSplit | DatasetSplit) -> Batch:
    if isinstance(split, TensorSplit):
        return split.x, split.labels
    return next(split.batches([torch.zeros(1, dtype=torch.int64)], 0, 0))


def _classes(task: Task, *splits: TensorSplit | DatasetSplit) -> int:
    """As many as the dataset names, else as its labels show."""
    for split in splits:
        dataset = split.dataset if isinstance(split, DatasetSplit) else None
        while isinstance(dataset, Subset):
            dataset = dataset.dataset
        names = getattr(dataset, "classes", None)
        if isinstance(names, Sequence) and names:
            return len(names)
    most = max(LABELS_AT_MOST, sum(split.size for split in splits))
    return max(task.count_classes(split.labels, most) for split in splits)
