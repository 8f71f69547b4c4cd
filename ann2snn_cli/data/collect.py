"""Whatever users hold as data becomes a `Data`: tensors, arrays, batches, a torch Dataset, a DataLoader.

Tensors and arrays are taken as they are. A Dataset, and a DataLoader that draws from one in the usual way, is
read item by item when items are wanted, in an order that follows from our seed. Of other batches (a list, a
generator, a loader with a sampler of its own) the first ones are kept to calibrate on, no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
)

from ann2snn_cli import trees
from ann2snn_cli.data.checks import check_shapes
from ann2snn_cli.data.given import (
    FORMS,
    ONE_LENGTH,
    PAIRS,
    TO_TENSOR,
    is_numbers,
    kind,
    read_batch,
    with_labels,
)
from ann2snn_cli.data.samples import LABELS_AT_MOST, Data, TensorSplit, kept, split_indices, split_note
from ann2snn_cli.errors import Ann2SnnError, BadData, Setting, UsageError, WrongKind
from ann2snn_cli.tasks import AUTO, Task, refuse_other_task, task_named, task_note, task_of
from ann2snn_cli.types import Batch, Inputs, Labels

END = object()
RAGGED = "stack expects each tensor to be equal size"  # torch, of items that differ in shape


@dataclass(frozen=True, eq=False)
class DatasetSplit:
    """A torch Dataset: its items are read when they are wanted."""

    dataset: Any
    labelled: bool
    task: str = AUTO  # that labels are for; auto: the one that they show
    collate: Callable[[list[Any]], Any] | None = None  # None: torch's own
    workers: int = 0  # where nobody asks for another number

    @property
    def size(self) -> int:
        """How many items there are."""
        return len(self.dataset)

    @cached_property
    def labels(self) -> Labels:
        """Those of all items, which are read for it once."""
        order = torch.split(torch.arange(self.size), 256)
        return trees.cat([labels for _, labels in self.batches(order, self.workers, 0)])

    def batches(self, order: Sequence[Tensor], num_workers: int, seed: int) -> Iterator[Batch]:
        """The items in this order; random choices of a transform follow from the seed."""
        loader = DataLoader(
            self.dataset,
            batch_sampler=[indices.tolist() for indices in order],
            num_workers=num_workers or self.workers,
            collate_fn=self.collate,
        )
        for number, given in enumerate(_seeded(loader, seed)):
            yield with_labels(read_batch(given, f"batch {number}", self.task))


@dataclass(frozen=True, eq=False)
class Stream:
    """Batches one after the other."""

    batches: Iterable[Any]
    what: str  # in words
    once: bool = False  # it cannot be read a second time
    task: str = AUTO  # that labels are for; auto: the one that they show

    def read(self, seed: int) -> Iterator[tuple[Inputs, Labels | None]]:
        """Every batch as samples and labels."""
        task = self.task
        for number, given in enumerate(_seeded(self.batches, seed)):
            x, labels = read_batch(given, f"batch {number}", task)
            task = task if labels is None else task_of(labels, task)  # of all batches that of the first
            yield x, labels


@dataclass(frozen=True, eq=False)
class Streamed(Data):
    """A stream as a dataset: its first samples to calibrate on, all of it in its own batches to train on."""

    stream: Stream | None = None

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
    source = _source(given, batch_size, task)
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
    kept in memory.
    """
    if isinstance(given, Mapping) and set(given) == {"train", "test"}:
        given = (given["train"], given["test"])
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


def _is_split(given: Any) -> bool:
    """Whether it can be a split by itself: samples with their labels."""
    return isinstance(given, Dataset | DataLoader | Iterator | tuple) or (
        isinstance(given, list) and bool(given) and not isinstance(given[0], int | float | str)
    )


def _read_split(given: Any, part: str, where: str, task: str) -> TensorSplit | DatasetSplit:
    try:
        source = _source(given, 128, task)
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


# Kinds ---------------------------------------------------------------------------------------------


def _source(given: Any, batch_size: int, task: str) -> TensorSplit | DatasetSplit | Stream:
    """Data of any kind as one of three."""
    if isinstance(given, Tensor | np.ndarray | Mapping | tuple) or is_numbers(given):
        if isinstance(given, tuple) and len(given) != 2:
            raise BadData(f"the data are {kind(given)}", remedy=FORMS)
        x, labels = read_batch(given, "the data", task)
        return TensorSplit(trees.map_leaves(kept, x), with_labels((x, labels))[1], labels is not None)
    if isinstance(given, DataLoader):
        return _of_loader(given, task)
    if isinstance(given, IterableDataset):
        return Stream(DataLoader(given, batch_size), "an IterableDataset", task=task)
    if isinstance(given, Dataset):
        return _of_dataset(given, task)
    if isinstance(given, list):
        return Stream(given, "the list of batches", task=task)
    if isinstance(given, Iterator):
        return Stream(given, "the generator", once=True, task=task)
    is_text = isinstance(given, str | bytes | set | frozenset | nn.Module)
    if is_text or not isinstance(given, Iterable):
        by_name = "of a dataset by its name ann2snn_cli.data.load(name)" if isinstance(given, str) else ""
        raise WrongKind(f"the data are {kind(given)}", remedy="; ".join(filter(None, (by_name, FORMS))))
    return Stream(given, f"the {type(given).__name__}", task=task)


def _of_loader(loader: DataLoader[Any], task: str) -> DatasetSplit | Stream:
    """Its dataset, where it draws each item once, one by one; else its batches as they come."""
    sampler: Any = loader.sampler
    usual = type(sampler) is SequentialSampler or (
        type(sampler) is RandomSampler
        and not sampler.replacement
        and sampler.num_samples == len(sampler.data_source)
    )
    if (
        usual
        and type(loader.batch_sampler) is BatchSampler
        and not isinstance(loader.dataset, IterableDataset)
    ):
        return _of_dataset(loader.dataset, task, loader.collate_fn, loader.num_workers)
    return Stream(loader, "a DataLoader in its own order", task=task)


def _of_dataset(dataset: Any, task: str, collate: Any = None, workers: int = 0) -> DatasetSplit:
    size = len(dataset) if hasattr(dataset, "__len__") else None
    if not size:
        what = "the Dataset has no length" if size is None else "the Dataset is empty"
        raise BadData(what, remedy="give it __len__ and at least one item, or an IterableDataset")
    given = next(_seeded(DataLoader(dataset, batch_sampler=[[0]], collate_fn=collate), 0))
    _, labels = read_batch(given, "the first item", task)
    found = task if labels is None else task_of(labels, task)
    return DatasetSplit(dataset, labels is not None, found, collate, workers)


# Reading -------------------------------------------------------------------------------------------


def _seeded(batches: Iterable[Any], seed: int) -> Iterator[Any]:
    """The batches; what is random about them follows from the seed. The random numbers of others stay."""
    generator = torch.Generator().manual_seed(seed % 2**63)
    state, iterator = generator.get_state(), None
    while True:
        with torch.random.fork_rng(devices=[]), _reading():
            torch.set_rng_state(state)
            iterator = iter(batches) if iterator is None else iterator
            batch = next(iterator, END)
            state = torch.get_rng_state()
        if batch is END:
            return
        yield batch


@contextmanager
def _reading() -> Iterator[None]:
    """What a user's own Dataset, transform or generator raises is said to be theirs."""
    try:
        yield
    except Ann2SnnError:
        raise
    except Exception as raised:
        lines = list(chain(str(raised).strip().splitlines(), [""]))
        what = f"reading the data raised {type(raised).__name__}: {lines[0]}"
        if RAGGED in lines[0]:
            what = f"the items of the Dataset differ in shape: {lines[0]}"
        raise BadData(what, remedy=_reading_remedy(str(raised))) from raised


def _reading_remedy(message: str) -> str:
    """What to do about what a Dataset or its collate function raised."""
    if "PIL." in message:
        return TO_TENSOR
    if "default_collate" in message:
        return "let each item of the Dataset be (x, label), as in `return torch.as_tensor(image), int(label)`"
    if RAGGED in message:
        return ONE_LENGTH
    return "correct the Dataset, its transform or its collate function"
