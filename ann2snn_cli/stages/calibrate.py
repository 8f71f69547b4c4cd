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
from ann2snn_cli.ir.contract import Encoding
from ann2snn_cli.ir.graph import Graph, Level, Node, channel_axis
from ann2snn_cli.ir.histogram import Histogram
from ann2snn_cli.ir.ops import Input, Op, Opaque, Relu
from ann2snn_cli.ir.populations import Activations, Extremes
from ann2snn_cli.ir.run import bind_inputs, run
from ann2snn_cli.ir.validate import stage
from ann2snn_cli.types import Inputs

PORTION_ELEMENTS = 1 << 20  # of the widest layer at once


# Choices of the clip -------------------------------------------------------------------------------


def clip_of(mode: Mode, histogram: Histogram, timesteps: int) -> float:
    """The real value that T spikes will stand for."""
    if mode.kind in ("percentile", "spikes"):  # on_spikes.py begins with these clips
        return histogram.percentile(mode.value)
    if mode.kind in ("mse", "match"):
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
    channels: dict[str, Extremes]  # of populations whose clips a user's own rule sets


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
        """8-bit integers: 0..255 where no sample is negative, else −127..127; whole numbers stay so.

        Of poisson they are spikes: 0 and 1, or −1 to 1, and the largest sample has one at every step.
        """
        if op.is_real:
            return replace(op, unit=1.0)
        extent = max(self.highest, -self.lowest)
        if extent == 0:
            raise BadData("every calibration sample is zero", remedy="check the dataset")
        if op.encoding == Encoding.POISSON:
            return replace(op, unit=extent, low=0 if self.lowest >= 0 else -1, high=1)
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
            ops[node.name] = replace(node.op, clip=_clip(node, node.op, statistics, chosen, timesteps))
    return graph.with_ops(ops, level=Level.CALIBRATED)


def _refuse_other_tokens(graph: Graph, node: Node, op: Op) -> None:
    """Numbers that the network makes whole, such as tokens, must reach it as they are."""
    if any(isinstance(reader.op, Opaque) and reader.op.makes_whole for reader in graph.users[node.name]):
        assert isinstance(op, Input)
        if op.unit != 1 or op.encoding == Encoding.POISSON:
            raise BadData(
                f"the network reads whole numbers, and an input carries only {op.low} to {op.high}",
                where=node.source or node.name,
                remedy="give whole numbers in this range; of other tokens convert what is behind the "
                "embedding, and give embedding(x) as the samples",
            )


def _clip(node: Node, op: Relu, statistics: Statistics, mode: Mode, timesteps: int) -> Tensor:
    histogram = statistics.activations[node.name]
    if histogram.largest <= 0:  # the population was silent: any clip represents its zeros
        clip = torch.tensor(1.0, dtype=torch.float64)
    elif op.clip_rule is None:
        clip = torch.tensor(_clip_by(mode, histogram, timesteps), dtype=torch.float64)
    else:
        clip = op.clip_rule(_activations(node, op, statistics, timesteps))
    return clip if op.limit is None else clip.clamp(max=op.limit)


def _clip_by(mode: Mode, histogram: Histogram, timesteps: int) -> float:
    """The largest value where so few are positive that the percentile is zero."""
    return clip_of(mode, histogram, timesteps) or histogram.largest


def _activations(node: Node, op: Relu, statistics: Statistics, timesteps: int) -> Activations:
    histogram = statistics.activations[node.name]

    def by_mode(text: str) -> float:
        return _clip_by(_mode_of_values(text), histogram, timesteps)

    by_channel = statistics.channels[node.name].by_channel(histogram.largest)
    return Activations(
        node.name, node.source, node.shape, op.limit, timesteps, histogram, by_mode, by_channel
    )


def _mode_of_values(text: str) -> Mode:
    """A mode that needs the values of a population alone."""
    try:
        mode = parse_mode(text)
    except ValueError:
        raise ValueError(f"there is no mode {text!r}") from None
    if mode.kind in ("spikes", "match"):
        raise ValueError(f"{text} goes layer by layer, on spikes: no rule for one layer can ask for it")
    return mode


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
        {
            node.name: Extremes(channel_axis(graph, node))
            for node in graph.nodes
            if isinstance(node.op, Relu) and node.op.clip_rule is not None
        },
    )

    def watch(node: Node, value: Tensor) -> None:
        if isinstance(node.op, Relu):
            if value.numel() and not bool(value.amax().isfinite()):  # of values that are not negative, or NaN
                raise _not_finite("an activation", node)
            statistics.activations[node.name].add(value)
            if node.name in statistics.channels:
                statistics.channels[node.name].add(value)
        elif node.name in graph.outputs and not _are_numbers(node, value):
            raise _not_finite("an output", node)

    seen = 0
    with torch.no_grad():
        for x in trees.portions(batches, max(1, PORTION_ELEMENTS // graph.widest)):
            floats = trees.map_leaves(Tensor.float, x)
            for name, shown in bind_inputs(graph, floats).items():
                statistics.inputs[name].add(shown)
            run(graph, floats, watch)
            seen += trees.sample_count(x)
    if seen == 0:
        raise BadData(
            "the calibration set is empty",
            remedy=f"raise {Setting('calibration_samples')} or check the dataset",
        )
    return statistics
