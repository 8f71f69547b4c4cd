"""Calibrate: FOLDED -> CALIBRATED. Every population learns its clip A, the input its unit (SPEC 3, 4).

The statistics are integer histograms over the whole calibration set. They do not depend on the order of
the samples, on the batch size or on how many processes counted, and need the same memory for any set.

Activations are those of float32, off by about a millionth of the largest of their layer. A bin is at least
1/16384 of that, so a value may be counted beside its own bin, and a percentile be one bin further; a clip is
known to a bin only, in any arithmetic. Samples go through the network in portions of a fixed size, as the
last bits of float32 may follow the size.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ann2snn_cli import trees
from ann2snn_cli.config import Mode, parse_mode
from ann2snn_cli.errors import BadData, BadWeights, Setting
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import Input, Op, Opaque, Relu
from ann2snn_cli.ir.run import run
from ann2snn_cli.ir.validate import stage
from ann2snn_cli.types import Inputs

PORTION_ELEMENTS = 1 << 20  # of the widest layer at once
BINS = 1 << 14  # at least half of them are in use, so a clip is right to 1/8192 of the largest activation


class Histogram:
    """How often values occur: equal bins over [0, 2^k), where k grows with the largest value.

    When a value does not fit, neighbouring bins merge in pairs. Edges nest, so the result is the same as if
    the final range had been known from the start.
    """

    def __init__(self) -> None:
        self.counts = torch.zeros(BINS, dtype=torch.int64)
        self.exponent: int | None = None  # none until a positive value is seen
        self.zeros = 0
        self.largest = 0.0

    def add(self, values: Tensor) -> None:
        """Count values that are not negative."""
        values = values.detach().flatten().float()
        largest = float(values.amax()) if values.numel() else 0.0
        # Signs are quicker to add up than zeros to compare; so many of them float32 adds up exactly.
        zeros = values.numel() - sum(int(part.sign().sum()) for part in torch.split(values, 1 << 24))
        self.zeros += zeros
        if largest <= 0:
            return
        self.largest = max(self.largest, largest)
        self._widen(_exponent(largest))
        assert self.exponent is not None
        # By a power of two: exact, also in float32.
        bins = (values * (BINS / 2.0**self.exponent)).clamp_(max=BINS - 1).to(torch.int16)
        counts = torch.bincount(bins, minlength=BINS).cpu()
        counts[0] -= zeros
        self.counts += counts

    def _widen(self, exponent: int) -> None:
        if self.exponent is None:
            self.exponent = exponent
        while self.exponent < exponent:
            pairs = self.counts.reshape(-1, 2).sum(dim=1)
            self.counts = torch.cat([pairs, torch.zeros(BINS // 2, dtype=torch.int64)])
            self.exponent += 1

    @property
    def edges(self) -> Tensor:
        """The upper edge of each bin."""
        exponent = self.exponent if self.exponent is not None else 0
        return torch.arange(1, BINS + 1, dtype=torch.float64) * 2.0**exponent / BINS

    def percentile(self, percent: float) -> float:
        """The value that `percent` of all values, zeros included, do not exceed (to one bin)."""
        total = self.zeros + int(self.counts.sum())
        rank = percent / 100 * total
        if self.zeros >= rank:
            return 0.0
        reached = self.zeros + self.counts.cumsum(0)
        first = int((reached >= rank).to(torch.int8).argmax())
        return min(float(self.edges[first]), self.largest)


def _exponent(largest: float) -> int:
    """The smallest k with largest < 2^k."""
    return int(torch.frexp(torch.tensor(largest, dtype=torch.float64)).exponent)


# Choices of the clip -------------------------------------------------------------------------------


def clip_of(mode: Mode, histogram: Histogram, timesteps: int) -> float:
    """The real value that T spikes will stand for."""
    if mode.kind in ("percentile", "spikes"):  # on_spikes.py begins with these clips
        return histogram.percentile(mode.value)
    if mode.kind == "mse":
        return _least_error_clip(histogram, timesteps)
    return mode.value * histogram.largest


def _least_error_clip(histogram: Histogram, timesteps: int) -> float:
    """argmin_A Σ (a − Q(a; A, T))² over 256 fractions of the max; Q = (A/T)·clip(⌊a·T/A + ½⌋, 0, T)."""
    values = histogram.edges - histogram.edges[0] / 2
    weights = histogram.counts.double()
    clips = histogram.largest * torch.arange(1, 257, dtype=torch.float64) / 256
    errors = [
        (
            weights
            * (
                values
                - clip / timesteps * torch.clamp((values * timesteps / clip + 0.5).floor(), 0, timesteps)
            )
            ** 2
        ).sum()
        for clip in clips
    ]
    return float(clips[int(torch.stack(errors).argmin())])


# The stage -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Statistics:
    """What the calibration set showed, by node."""

    activations: dict[str, Histogram]
    inputs: dict[str, InputRange]


@dataclass
class InputRange:
    """The extent of the samples, and whether they are whole numbers already."""

    lowest: float = 0.0
    highest: float = 0.0
    whole: bool = True

    def add(self, x: Tensor) -> None:
        """Widen the range by a batch."""
        self.lowest = min(self.lowest, float(x.min()))
        self.highest = max(self.highest, float(x.max()))
        self.whole = self.whole and bool((x == x.round()).all())

    def encoding(self, op: Input) -> Input:
        """8-bit integers: 0..255 where no sample is negative, else −127..127; whole numbers stay so."""
        if op.is_real:
            return replace(op, unit=1.0)
        extent = max(self.highest, -self.lowest)
        if extent == 0:
            raise BadData("every calibration sample is zero", remedy="check the dataset")
        low, high = (0, 255) if self.lowest >= 0 else (-127, 127)
        unit = 1.0 if self.whole and extent <= high else extent / high
        return replace(op, unit=unit, low=low, high=high)


@stage(Level.FOLDED, Level.CALIBRATED)
def calibrate(graph: Graph, batches: Iterable[Inputs], *, mode: str = "99.9%", timesteps: int = 16) -> Graph:
    """Needs FOLDED; gives CALIBRATED: every population has its clip, every input its unit."""
    chosen = parse_mode(mode)
    statistics = observe(graph, batches)
    ops: dict[str, Op] = {}
    for node in graph.nodes:
        if isinstance(node.op, Input):
            ops[node.name] = statistics.inputs[node.name].encoding(node.op)
            _refuse_other_tokens(graph, node, ops[node.name])
        elif isinstance(node.op, Relu) and not node.op.inherits_clip:
            clip = _clip(node.op, statistics.activations[node.name], chosen, timesteps)
            ops[node.name] = replace(node.op, clip=torch.tensor(clip, dtype=torch.float64))
    return graph.with_ops(ops, level=Level.CALIBRATED)


def _refuse_other_tokens(graph: Graph, node: Node, op: Op) -> None:
    """Numbers that the network makes whole, such as tokens, must reach it as they are."""
    if any(isinstance(reader.op, Opaque) and reader.op.makes_whole for reader in graph.users[node.name]):
        assert isinstance(op, Input)
        if op.unit != 1:
            raise BadData(
                f"the network reads whole numbers, and an input carries only {op.low} to {op.high}",
                where=node.source or node.name,
                remedy="give whole numbers in this range; of other tokens convert what is behind the "
                "embedding, and give embedding(x) as the samples",
            )


def _clip(op: Relu, histogram: Histogram, mode: Mode, timesteps: int) -> float:
    clip = clip_of(mode, histogram, timesteps) if histogram.largest > 0 else 0.0
    clip = clip if clip > 0 else histogram.largest  # so few values are positive that the percentile is zero
    clip = clip if clip > 0 else 1.0  # the population was silent: any clip represents its zeros
    return clip if op.limit is None else min(clip, op.limit)


def _are_numbers(node: Node, value: Tensor) -> bool:
    """Finite; of an opaque output not NaN: log(softmax(x)) may well be infinite."""
    return not bool(value.isnan().any() if node.op.gives_reals else value.isfinite().logical_not().any())


def _not_finite(what: str, node: Node) -> BadWeights:
    return BadWeights(
        f"{what} of the network is not a finite number",
        where=node.source or node.name,
        remedy="check the network's weights and the dataset for NaN, Inf and extreme values",
    )


def observe(graph: Graph, batches: Iterable[Inputs]) -> Statistics:
    """Run the calibration set through the real-valued network, in float32, and count its activations."""
    statistics = Statistics(
        {node.name: Histogram() for node in graph.of(Relu)},
        {node.name: InputRange() for node in graph.inputs},
    )

    def watch(node: Node, value: Tensor) -> None:
        if isinstance(node.op, Input):
            statistics.inputs[node.name].add(value)
        elif isinstance(node.op, Relu):
            if value.numel() and not bool(value.amax().isfinite()):  # of values that are not negative, or NaN
                raise _not_finite("an activation", node)
            statistics.activations[node.name].add(value)
        elif node.name in graph.outputs and not _are_numbers(node, value):
            raise _not_finite("an output", node)

    seen = 0
    with torch.no_grad():
        for x in trees.portions(batches, max(1, PORTION_ELEMENTS // graph.widest)):
            run(graph, trees.map_leaves(Tensor.float, x), watch)
            seen += trees.sample_count(x)
    if seen == 0:
        raise BadData(
            "the calibration set is empty",
            remedy=f"raise {Setting('calibration_samples')} or check the dataset",
        )
    return statistics
