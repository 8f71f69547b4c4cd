"""What users hold as one batch of samples, as tensors: tensors, numpy arrays, nested lists of numbers, pairs.

The data of a conversion (`collect.py`) and the samples that an SNN is called with are read by the same rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ann2snn_cli import trees
from ann2snn_cli.data.checks import check_inputs, check_labels, check_samples, refuse_without_values
from ann2snn_cli.data.samples import LABELS_AT_MOST, kept_label
from ann2snn_cli.errors import BadData, WrongKind
from ann2snn_cli.tasks import AUTO, task_named, task_of
from ann2snn_cli.types import Batch, Inputs, Labels

FORMS = (
    "give samples x as a tensor or a numpy array; (x, labels); of several inputs {'a': x1, 'b': x2} or "
    "((x1, x2), labels); a list or generator of such batches, as in [(x[:100], labels[:100]), (x[100:], "
    "labels[100:])]; a torch Dataset; or a DataLoader"
)
SAMPLES = (
    "give a tensor, a numpy array or nested lists of numbers; of several inputs one each, in order or by name"
)
PAIRS = "a pair is (x, labels), and of several inputs ((x1, x2), labels)"
TO_TENSOR = "turn images into tensors: Dataset(..., transform=torchvision.transforms.ToTensor())"
TO_NUMBERS = (
    "read what it names, and give its numbers: as x a tensor of them, as label the number of the class"
)
ONE_LENGTH = "cut or pad them to one length: each sample has the same shape"
_NUMBERS = (int, float, np.generic)


def read_samples(given: Any) -> Inputs:
    """What an SNN is called with, as tensors of finite numbers or bytes; WrongKind or BadData for other."""
    x: Inputs = _tensors(given, "x", SAMPLES)
    check_inputs(x)
    return x


def read_batch(given: Any, name: str, asked: str = AUTO) -> tuple[Inputs, Labels | None]:
    """Samples, and labels where there are some; WrongKind or BadData for what is neither.

    Labels are for the task that is asked for; for `auto` the one that they show.
    """
    given, labels = _pair(given, name)
    x = trees.map_leaves(Tensor.cpu, _tensors(given, f"{name}: x", FORMS))
    with _said_of_dicts(given):
        count = check_samples(x, name, "the data")
    if labels is None:
        return x, None
    labels = _tensor(labels, f"{name}: labels", FORMS).cpu()
    if labels.dim() == 0:
        what = f"{name} is a single sample and its label"
        remedy = "a list is one of batches: DataLoader(data, batch_size=128) makes batches of single samples"
        raise BadData(what, remedy=f"{remedy}; {PAIRS}")
    task, most = task_named(task_of(labels, asked)), max(LABELS_AT_MOST, count)
    try:
        check_labels(labels, count, name, "the data", lambda y: task.count_classes(y, most))
    except BadData as error:
        raise BadData(error.what, where=error.where, remedy=f"{error.remedy} ({PAIRS})") from None
    return x, kept_label(labels)


def with_labels(batch: tuple[Inputs, Labels | None]) -> Batch:
    """The batch with zeros for labels where it has none: nothing is ever trained on these."""
    x, labels = batch
    return x, torch.zeros(trees.sample_count(x), dtype=torch.int64) if labels is None else labels


def is_numbers(given: Any) -> bool:
    """Whether it is nested lists of plain numbers: an array that is written out."""
    if not isinstance(given, list | tuple) or not isinstance(_innermost(given), _NUMBERS):
        return False
    return not _is_pair_of_numbers(given) and not _is_pair_of_numbers(given[0])


def _is_pair_of_numbers(given: Any) -> bool:
    """Whether it is samples and their labels, both written out: no array nests deeper in its first part."""
    if not isinstance(given, list | tuple) or len(given) != 2:
        return False
    x, labels = given
    both = isinstance(_innermost(x), _NUMBERS) and isinstance(_innermost(labels), _NUMBERS)
    return both and isinstance(labels, list | tuple) and _depth(x) > _depth(labels)


def kind(given: Any) -> str:
    """What it is, for an error."""
    if given is None:
        return "None"
    if "PIL" in type(given).__module__:
        return "a PIL image"
    if isinstance(given, Tensor):
        return f"a tensor {list(given.shape)}"
    if isinstance(given, np.ndarray):
        return f"an array of {given.dtype}"
    word = type(given).__name__
    if isinstance(given, str):
        return f"of type {word} ({given[:40]!r})"
    if isinstance(given, tuple | list):
        some = [*map(kind, given[:3]), *(["..."] if len(given) > 3 else [])]
        return f"a {word} of {len(given)} ({', '.join(some)})"
    return f"of type {word}"


def _pair(given: Any, name: str) -> tuple[Any, Any]:
    """Samples and labels as they were given; None for labels that were not."""
    if not isinstance(given, tuple | list) or is_numbers(given):
        return given, None
    if not 1 <= len(given) <= 2:
        remedy = "give x, (x, labels) or, of several inputs, ((x1, x2), labels)"
        if len(given) > 2:
            remedy += "; of the first two parts of each batch: [(each[0], each[1]) for each in data]"
        raise BadData(f"{name} is {kind(given)}", remedy=remedy)
    return (given[0], None) if len(given) == 1 else (given[0], given[1])


@contextmanager
def _said_of_dicts(given: Any) -> Iterator[None]:
    """What is wrong with a dict may be that labels are in it: say where they belong."""
    try:
        yield
    except BadData as error:
        if not isinstance(given, Mapping) or not any(map(_may_be_labels, given.values())):
            raise
        keys = [*map(repr, given)]
        example = f"(each[{keys[0]}], each[{keys[-1]}])" if len(keys) > 1 else "(x, labels)"
        remedy = (
            "a dict holds the inputs of a network by their names in forward(), and labels stand beside it, "
            f"({{'a': x1, 'b': x2}}, labels); of one input give pairs: [{example} for each in data]"
        )
        raise BadData(error.what, where=error.where, remedy=remedy) from None


def _may_be_labels(given: Any) -> bool:
    values = torch.as_tensor(given)
    return not values.is_floating_point() and (values.dtype != torch.uint8 or values.dim() < 2)


def _tensors(given: Any, part: str, forms: str) -> Any:
    """Of several inputs a dict or a tuple of tensors."""
    if isinstance(given, Mapping):
        return {str(key): _tensor(value, f"{part}[{key!r}]", forms) for key, value in given.items()}
    if isinstance(given, tuple | list) and not is_numbers(given):
        return tuple(_tensor(value, f"{part}[{place}]", forms) for place, value in enumerate(given))
    return _tensor(given, part, forms)


def _tensor(given: Any, part: str, forms: str) -> Tensor:
    if isinstance(given, Tensor):
        refuse_without_values(given, part)
        return given.detach()
    try:
        if isinstance(given, np.ndarray):
            return torch.from_numpy(np.require(given, requirements=["C", "W"]))
        if isinstance(_innermost(given), _NUMBERS):
            return torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        if not isinstance(given, np.ndarray):
            raise BadData(
                f"{part} is a list whose parts differ in length or kind", remedy=ONE_LENGTH
            ) from None
    raise WrongKind(f"{part} is {kind(given)}", remedy=_remedy(given, forms))


def _remedy(given: Any, forms: str) -> str:
    if "PIL" in type(given).__module__:
        return TO_TENSOR
    given = _innermost(given)
    return f"{TO_NUMBERS}; {forms}" if isinstance(given, str) else forms


def _depth(given: Any) -> int:
    """How deep lists are nested in the first of each."""
    return 1 + _depth(given[0]) if isinstance(given, list | tuple) and given else 0


def _innermost(given: Any) -> Any:
    """The first thing in nested lists."""
    while isinstance(given, list | tuple) and given:
        given = given[0]
    return given
