"""What charges a population, as terms of the compiled kernel: what each reads, and its weights as laid there.

Weights wider than 8 bits, of branches on several grids, are split into digits: several terms with factors of
256. A bias never comes here: it lies in the neurons.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import Add, AvgPool, Conv, Linear, Op, Reshape, Scale
from ann2snn_cli.stages.simulate.fused.interface import (
    BY_CHANNEL,
    CURRENT,
    DENSE,
    LANES,
    SUMS_OF_16_BITS,
    WORD,
)
from ann2snn_cli.stages.simulate.fused.packed import channels_of, filled, parameters, pixels_of
from ann2snn_cli.stages.simulate.fused.windows import windows
from ann2snn_cli.types import Shape

ITSELF = None  # the table of what reads the pixel itself


@dataclass(frozen=True, eq=False)
class Term:
    """One of those that are added up; of which values is said by the name of a node."""

    reads: str
    kind: int
    sources: Tensor | None = ITSELF  # int32 [pixel, tap]
    weights: Tensor | None = None  # int8 [block, tap, word, lane, 4], or int32 [tap, channel]
    first: Tensor | None = None  # int32 [block]
    factors: Tensor | None = None  # int32 [channel]
    pair: int = 0  # DENSE: the most that two weights side by side add up to, in magnitude

    @property
    def taps(self) -> int:
        """How many pixels a pixel reads."""
        return 1 if self.sources is None else self.sources.shape[1]

    @property
    def words(self) -> int:
        """How many words of channels a block reads of each of them."""
        return 0 if self.weights is None or self.kind != DENSE else self.weights.shape[2]

    def run(self, largest: int) -> int:
        """How many words of values up to `largest` can be multiplied before sums of pairs leave 16 bits."""
        return max(1, SUMS_OF_16_BITS // max(1, self.pair * largest))


def terms(graph: Graph, name: str, packed: set[str], factor: Tensor | None = None) -> list[Term]:
    """All that a node adds up, times a factor; what cannot be taken apart is one current of its own."""
    node = graph[name]
    found = list(_terms(graph, node, packed, factor))
    factors = _factors(factor, node.shape)
    return found or [Term(name, CURRENT, factors=None if factors is None else factors[0])]


def _terms(graph: Graph, node: Node, packed: set[str], factor: Tensor | None) -> Iterator[Term]:
    factors = _factors(factor, node.shape)
    if node.name in packed:
        yield _by_channel(node.name, torch.ones(1, 1), node.shape, ITSELF, factors)
    elif isinstance(node.op, Add) and node.op.weights is not None and len(graph.users[node.name]) == 1:
        yield from _of_sum(graph, node, packed, factor)
    elif not node.inputs or node.inputs[0] not in packed:
        return
    elif isinstance(node.op, Conv | Linear | Scale | AvgPool):
        read = _read(graph, node, packed)
        parts = _PARTS.setdefault(node.op, {})
        key = (read.shape, node.shape)
        if key not in parts:
            parts[key] = list(_of_synapse(node.op, *key))
        for part, digit in parts[key]:
            yield _multiplied(part, read.name, digit, factors, node.shape)


def _read(graph: Graph, node: Node, packed: set[str]) -> Node:
    """What it reads: a linear layer behind a map that is flattened, the map."""
    read = graph[node.inputs[0]]
    flattens = isinstance(node.op, Linear) and isinstance(read.op, Reshape) and len(read.shape) == 1
    return graph[read.inputs[0]] if flattens and read.inputs[0] in packed else read


Part = tuple[Term, int]  # and the factor of its digit
_PARTS: WeakKeyDictionary[Op, dict[tuple[Shape, Shape], list[Part]]] = WeakKeyDictionary()


def _of_sum(graph: Graph, node: Node, packed: set[str], factor: Tensor | None) -> Iterator[Term]:
    assert isinstance(node.op, Add)
    assert node.op.weights is not None
    weights = [weight if factor is None else weight * factor for weight in node.op.weights]
    if all(_is_by_channel(weight, node.shape) for weight in weights):
        for name, weight in zip(node.inputs, weights, strict=True):
            yield from terms(graph, name, packed, weight)


def _of_synapse(op: Op, read: Shape, made: Shape) -> Iterator[Part]:
    """The terms of one op, that read nothing named yet."""
    if isinstance(op, AvgPool):
        taps = windows(op, read, made)
        yield _by_channel("", torch.ones(taps.shape[1], 1), made, taps, None), 1
    elif isinstance(op, Scale):
        if _is_by_channel(op.weight, made) and read == made:
            yield _by_channel("", op.weight.reshape(1, -1), made, ITSELF, None), 1
    elif isinstance(op, Linear):
        if len(made) == 1:  # it reads all pixels
            weight = op.weight.reshape(len(op.weight), channels_of(read), pixels_of(read))
            yield from _dense(weight, 1, torch.arange(pixels_of(read), dtype=torch.int32)[None])
    elif isinstance(op, Conv) and len(read) == len(op.kernel) + 1:
        weight, taps = _rows(op), windows(op, read, made)
        if op.groups == op.in_channels == op.out_channels:
            yield _by_channel("", weight[:, 0].T, made, taps, None), 1
        else:
            yield from _dense(weight, op.groups, taps)


def _rows(op: Conv) -> Tensor:
    """The weights, [out, in of a group, tap]."""
    rows: Tensor = op.by_row(op.weight)
    return rows.reshape(op.out_channels, -1, math.prod(op.kernel))


def _by_channel(
    reads: str, weights: Tensor, made: Shape, sources: Tensor | None, factors: Tensor | None
) -> Term:
    """Every channel reads itself; `weights` are [tap, channel or 1]."""
    channels = channels_of(made)
    laid = torch.zeros(len(weights), filled(channels, LANES), dtype=torch.int32)
    laid[:, :channels] = weights
    return Term(reads, BY_CHANNEL, sources, laid, factors=None if factors is None else factors[0])


def _dense(weight: Tensor, groups: int, sources: Tensor) -> Iterator[Part]:
    """Weights [out, in of a group, tap], in digits of 8 bits."""
    factor = 1
    rest = weight.to(torch.int64)
    while bool(rest.any()) or factor == 1:
        digit = (rest + 128) % 256 - 128
        laid, first = _in_blocks(digit.to(torch.int8), groups)
        yield Term("", DENSE, sources, laid, first, pair=_largest_pair(laid)), factor
        rest, factor = (rest - digit) // 256, factor * 256


def _in_blocks(weight: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """[block, tap, word, lane, 4], and the first channel that each block reads.

    A block of outputs reads all channels of the groups that its outputs are in; the rest of them is 0.
    """
    made, width, taps = weight.shape
    blocks = filled(made, LANES) // LANES
    lowest = torch.arange(made) // (made // groups) * width  # the first channel that an output reads
    first = lowest[torch.arange(blocks) * LANES] // WORD * WORD
    last = lowest[(torch.arange(1, blocks + 1) * LANES - 1).clamp(max=made - 1)] + width
    words = int((last - first + WORD - 1).max()) // WORD
    first = first.clamp(max=filled(width * groups, LANES) - words * WORD)  # reads nothing behind the channels
    laid = torch.zeros(blocks * LANES, words * WORD, taps, dtype=torch.int8)
    offset = lowest - first[torch.arange(made) // LANES]
    laid[torch.arange(made)[:, None], offset[:, None] + torch.arange(width)] = weight
    by_word = laid.reshape(blocks, LANES, words, WORD, taps).permute(0, 4, 2, 1, 3).contiguous()
    return by_word, first.to(torch.int32)


def _multiplied(part: Term, reads: str, digit: int, factors: Tensor | None, made: Shape) -> Term:
    if factors is None and digit != 1:
        factors = torch.ones(1, filled(channels_of(made), LANES), dtype=torch.int32)
    by_channel = None if factors is None else (factors[0] * digit).contiguous()
    return replace(part, reads=reads, factors=by_channel)


def _largest_pair(weights: Tensor) -> int:
    pairs = weights.to(torch.int16).reshape(-1, 2)
    return int(torch.maximum(pairs.clamp(min=0).sum(-1).max(), -pairs.clamp(max=0).sum(-1).min()))


def _factors(factor: Tensor | None, shape: Shape) -> Tensor | None:
    return None if factor is None else parameters(factor, shape, 0)


def _is_by_channel(value: Tensor, shape: Shape) -> bool:
    return value.numel() == 1 or (value.dim() == len(shape) and value.numel() == value.shape[0])
