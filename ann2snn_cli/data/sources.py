"""Data of any kind as one of three: tensors in memory, a Dataset read item by item, a stream of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
)

from ann2snn_cli import trees
from ann2snn_cli.data.given import (
    FORMS,
    ONE_LENGTH,
    TO_TENSOR,
    is_numbers,
    kind,
    read_batch,
    with_labels,
)
from ann2snn_cli.data.samples import TensorSplit, kept
from ann2snn_cli.errors import Ann2SnnError, BadData, WrongKind
from ann2snn_cli.tasks import AUTO, task_of
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


def source_of(given: Any, batch_size: int, task: str) -> TensorSplit | DatasetSplit | Stream:
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
