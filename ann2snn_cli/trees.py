"""Trees of tensors: a tensor, or a tuple, list or dict of trees. Labels are trees, and so are samples.

Tensors of a tree share their first axis, the samples: `index`, `cat` and `sample_count` are about that axis.
`call` is the one place that says how a network is given samples with several inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ann2snn_cli.errors import BadData
from ann2snn_cli.types import Inputs, Outputs

T = TypeVar("T")  # a tree: what comes out is built like what went in


def call(network: nn.Module, x: Inputs) -> Outputs:
    """What a network gives for samples: `network(x)`, a tuple as `network(*x)`, a dict as `network(**x)`.

    The outputs are always a tuple: the tensors in what the network gives, in order.
    """
    arguments = as_taken(network, x)
    given = network(**arguments) if isinstance(arguments, Mapping) else network(*arguments)
    return tuple(leaves(given, "the network's output"))


def as_taken(network: nn.Module, x: Inputs) -> Sequence[Tensor] | Mapping[str, Tensor]:
    """The arguments for a network: real numbers in the type of its weights, and where they are.

    They are copies: a network may change its input in place.
    """
    weights = [each for each in network.parameters() if each.is_floating_point()]
    like = weights[0] if weights else None

    def taken(values: Tensor) -> Tensor:
        if like is None:
            return values.clone()
        dtype = like.dtype if values.is_floating_point() else values.dtype
        return values.to(like.device, dtype, copy=True)

    return map_leaves(taken, [x] if isinstance(x, Tensor) else x)


def named_leaves(tree: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the tree, called as Python would write it: `y`, `y[0]`, `y['boxes']`."""
    if isinstance(tree, Tensor):
        yield name, tree
    elif isinstance(tree, Mapping):
        for key, part in tree.items():
            yield from named_leaves(part, f"{name}[{key!r}]")
    elif isinstance(tree, tuple | list):
        for place, part in enumerate(tree):
            yield from named_leaves(part, f"{name}[{place}]")
    else:
        remedy = "give tensors, or tuples, lists and dicts of tensors"
        raise BadData(f"{name} is no tensor but of type {type(tree).__name__}", remedy=remedy)


def leaves(tree: Any, name: str = "it") -> list[Tensor]:
    """The tensors of the tree, in order."""
    return [leaf for _, leaf in named_leaves(tree, name)]


def map_leaves(function: Callable[[Tensor], Any], tree: T) -> T:
    """The tree with each tensor replaced by what the function makes of it."""
    mapped: T = _joined(lambda parts: function(parts[0]), [tree])
    return mapped


def index(tree: T, which: Tensor | slice | int) -> T:
    """The samples with these indices; of a single number, that sample without the samples' axis."""
    return map_leaves(lambda leaf: leaf[which], tree)


def cat(trees: Sequence[T]) -> T:
    """The samples of all these trees, one after the other. The trees are built alike."""
    joined: T = _joined(torch.cat, trees)
    return joined


def portions(batches: Iterable[T], size: int) -> Iterator[T]:
    """The same samples in the same order, so many at a time; the last may be fewer."""
    held: list[T] = []  # fewer than a portion, from as many batches
    count = 0
    for batch in batches:
        held, count = [*held, batch], count + sample_count(batch)
        if count < size:
            continue
        whole = cat(held) if len(held) > 1 else held[0]
        for start in range(0, count - size + 1, size):
            yield index(whole, slice(start, start + size))
        held, count = [index(whole, slice(count - count % size, None))], count % size
    if count:
        yield cat(held)


def to(tree: T, device: torch.device | str) -> T:
    """The tree on this device."""
    return map_leaves(lambda leaf: leaf.to(device), tree)


def sample_count(tree: Any, name: str = "x") -> int:
    """How many samples the tree holds; BadData if its tensors do not agree."""
    first, count = "", 0
    for where, leaf in named_leaves(tree, name):
        if leaf.dim() == 0:
            raise BadData(
                f"{where} is a single number", remedy="the first axis counts samples: [samples, ...]"
            )
        if not first:
            first, count = where, len(leaf)
        elif len(leaf) != count:
            what = f"{count} samples in {first} and {len(leaf)} in {where}"
            raise BadData(what, remedy="give all of them the same samples")
    if not first:
        raise BadData(f"{name} holds no tensor", remedy="give at least one tensor")
    return count


def _joined(function: Callable[[list[Tensor]], Any], trees: Sequence[Any]) -> Any:
    """One tree of several that are built alike, each tensor made of those in its place."""
    first = trees[0]
    if isinstance(first, Mapping):
        return {key: _joined(function, [tree[key] for tree in trees]) for key in first}
    if isinstance(first, tuple | list):
        parts = [_joined(function, [tree[place] for tree in trees]) for place in range(len(first))]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    leaves(first)  # refuses what is no tensor
    return function(list(trees))
