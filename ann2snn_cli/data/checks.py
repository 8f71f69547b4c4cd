"""What tensors can be a dataset: each way not to be one has its sentence and its remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from ann2snn_cli import trees
from ann2snn_cli.errors import BadData
from ann2snn_cli.ir.allowed import refusal_of_tensor
from ann2snn_cli.types import Inputs, InputShapes, Labels, Shape

_TYPES = "give uint8 (0 to 255) or floats; of tokens what the network's embedding makes of them"
CHANNELS_FIRST = "give x.transpose(0, 3, 1, 2); of a tensor x.permute(0, 3, 1, 2)"


def check_samples(x: Inputs, part: str, where: str) -> int:
    """Refuse what cannot be samples of one input or of several; give how many there are."""
    with _said_of(part, where):
        inputs = _inputs(x)
        for name, values in inputs.items():
            _check_form(values, name)
        samples = trees.sample_count(x)
        for name, values in inputs.items():
            _check_values(values, name)
    return samples


def check_inputs(x: Inputs) -> None:
    """Refuse samples of which an SNN can make nothing: numbers of another kind, NaN, infinite ones."""
    for name, values in _inputs(x).items():
        _check_kind(values, name)
        _check_finite(values, name)


def check_labels(
    labels: Labels, samples: int, part: str, where: str, count_classes: Callable[[Labels], int]
) -> int:
    """Refuse what cannot be labels of so many samples; give the number of classes that the task counts."""
    with _said_of(part, where):
        classes = count_classes(labels)
        trees.sample_count(labels, "y")
        for name, values in trees.named_leaves(labels, "y"):
            if len(values) != samples:
                what = f"{samples} samples in x and {len(values)} labels in {name}"
                raise BadData(what, remedy="give one label a sample")
    return classes


def check_shapes(train: Inputs, test: Inputs, where: str) -> Shape | InputShapes:
    """The shape of a sample, or of each of its inputs: the same in both splits."""
    shapes = [_shapes(x) for x in (train, test)]
    if shapes[0] != shapes[1]:
        what = f"train and test samples differ in shape: {shapes[0]} and {shapes[1]}"
        raise BadData(what, where=where, remedy="give samples of one shape")
    return shapes[0]


def _inputs(x: Inputs) -> dict[str, Tensor]:
    """Each input as an error calls it; inputs within inputs are refused, as no network takes them."""
    parts = [x] if isinstance(x, Tensor) else list(x.values() if isinstance(x, Mapping) else x)
    inputs = dict(trees.named_leaves(x, "x"))
    if not inputs or len(inputs) != len(parts) or not all(isinstance(part, Tensor) for part in parts):
        remedy = "give a tensor, a tuple of tensors in the order of the network's inputs, or a dict by name"
        raise BadData(f"x is a {type(x).__name__} that holds more than tensors, or none", remedy=remedy)
    return inputs


def _shapes(x: Inputs) -> Shape | InputShapes:
    if isinstance(x, Tensor):
        return tuple(x.shape[1:])
    if isinstance(x, Mapping):
        return {name: tuple(values.shape[1:]) for name, values in x.items()}
    return tuple(tuple(values.shape[1:]) for values in trees.leaves(x))


@contextmanager
def _said_of(part: str, where: str) -> Iterator[None]:
    """Errors name the split that is wrong, and the file or the dataset."""
    try:
        yield
    except BadData as error:
        raise BadData(f"{part}: {error.what}", where=where, remedy=error.remedy) from None


def _check_form(x: Tensor, name: str) -> None:
    shape = tuple(x.shape)
    _check_kind(x, name)
    if x.dim() < 2:
        remedy = "the first axis counts samples: [samples, ...]"
        raise BadData(f"{name} has the shape {shape}", remedy=remedy)
    if x.dim() == 4 and x.shape[3] == 3 and x.shape[1] == x.shape[2]:
        raise BadData(f"{name} has its channels last: {shape}", remedy=CHANNELS_FIRST)


def refuse_without_values(x: Tensor, name: str) -> None:
    """Refuse a tensor that is not dense, or holds no values."""
    if why := refusal_of_tensor(x):
        remedy = (
            "give a dense tensor that holds its values (of a sparse one x.to_dense(), of a quantized one "
        )
        raise BadData(f"{name} cannot be used: {why}", remedy=f"{remedy}x.dequantize())")


def _check_kind(x: Tensor, name: str) -> None:
    refuse_without_values(x, name)
    if not x.is_floating_point() and x.dtype != torch.uint8:
        word = str(x.dtype).removeprefix("torch.")
        raise BadData(f"{name} is {word}", remedy=_TYPES)


def _check_values(x: Tensor, name: str) -> None:
    if x.numel() == 0:
        raise BadData(f"{name} is empty: {tuple(x.shape)}", remedy="give at least one sample")
    _check_finite(x, name)


def _check_finite(x: Tensor, name: str) -> None:
    if not x.is_floating_point() or bool((fine := torch.isfinite(x.float())).all()):
        return
    samples = (~fine).reshape(len(x) if x.dim() else 1, -1).any(1)
    first, count = int(samples.nonzero()[0]), int(samples.sum())
    what = (
        f"{name} holds NaN or infinite values in {count} of {len(samples)} samples, first in {name}[{first}]"
    )
    raise BadData(what, remedy="replace them (torch.nan_to_num), or leave those samples out")
