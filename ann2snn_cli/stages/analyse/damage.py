"""What a conversion damages: how far the network's answers moved, measured on samples it was calibrated with.

Of every output, and of every population and read-out on the way, the relative error of what varies between
samples: with d = converted − float and f the float value, both with their mean over the samples taken out,
‖d‖ / ‖f‖. An error that is the same for all samples is no loss of information, and a value that is nearly the
same for all samples (a class token) hides no loss behind its size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ann2snn_cli import trees
from ann2snn_cli.ir.contract import Reset
from ann2snn_cli.ir.engine import Request, Run
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import Integrate, IntegrateFire, Population, Synapse
from ann2snn_cli.ir.run import run
from ann2snn_cli.ir.validate import theorem_holds
from ann2snn_cli.types import Inputs

PORTION_ELEMENTS = 1 << 22  # of all nodes together, at once: the values of a few samples in both networks
LIMIT = 0.25
ROUNDING = 1e-6  # of float32, relative


@dataclass(frozen=True)
class Damage:
    """Relative errors against the float network, and the first layer that is off by more than the limit."""

    quantized: float | None  # of the worst output; None: there is no quantized network to compare
    snn: float
    layer: str = ""  # as the user knows it
    layer_error: float = 0.0
    in_time: bool = False  # the quantized network is right there: the error is one of timing
    limit: float = LIMIT
    resets_to_zero: bool = False
    has_float_weights: bool = False
    weight_bits: int | None = None  # of the layer that has most; None: no layer has weights
    is_channel_wise: bool = False  # has a population thresholds of its channels?

    @property
    def is_large(self) -> bool:
        """Is an answer of the network off by more than the limit?"""
        return max(self.snn, self.quantized or 0.0) > self.limit


@dataclass
class _Moments:
    """Sums over samples, element by element, from which centred norms follow."""

    samples: int = 0
    sums: list[Tensor] = field(default_factory=list)  # of f, f², d, d²

    def add(self, wanted: Tensor, got: Tensor) -> None:
        """Take in a batch."""
        f = wanted.to(torch.float64, copy=True)  # large: both are squared where they are
        d = got.to(torch.float64, copy=True).sub_(f)
        found = [f.sum(0), f.square_().sum(0), d.sum(0), d.square_().sum(0)]
        self.sums = [a + b for a, b in zip(self.sums, found, strict=True)] if self.sums else found
        self.samples += len(wanted)

    def relative_error(self) -> float:
        """‖d‖ / ‖f‖, both centred; 0 where nothing varies and nothing is wrong."""
        f, ff, d, dd = self.sums
        size = float((ff - f.square() / self.samples).clamp_min(0).sum())
        error = float((dd - d.square() / self.samples).clamp_min(0).sum())
        if error <= ROUNDING**2 * max(1.0, float(ff.sum())):
            return 0.0
        return (error / size) ** 0.5 if size > 0 else float("inf")


def damage(
    floats: Graph, spiking: Graph, batches: Iterable[Inputs], engine: Run, closed_form: Graph | None = None
) -> Damage:
    """Compare SPIKING `spiking` with the float network, a graph below SPIKING with the same layers.

    The quantized network is the closed form of `closed_form`, or of `spiking` itself.
    """
    quantized: dict[str, _Moments] = {}
    snn: dict[str, _Moments] = {}
    compares = theorem_holds(spiking) or spiking.has_float_weights
    closed = _subtracting(closed_form or spiking)
    values_of_one = sum(math.prod(node.shape) for node in spiking.nodes if _measured(spiking, node.name))
    for x in trees.portions(batches, max(1, PORTION_ELEMENTS // max(1, values_of_one))):
        wanted = _float_values(floats, spiking, x)
        x = trees.map_leaves(Tensor.double, x)
        if compares:
            _add(closed, closed.timing.timesteps, x, wanted, quantized, engine)
        _add(spiking, spiking.timing.delay, x, wanted, snn, engine)
    ops = [node.op for node in spiking.nodes]
    return replace(
        _judged(spiking, quantized, snn),
        resets_to_zero=spiking.timing.reset_mode is Reset.ZERO,
        has_float_weights=spiking.has_float_weights,
        weight_bits=max((op.bits or 0 for op in ops if isinstance(op, Synapse)), default=None),
        is_channel_wise=any(isinstance(op, IntegrateFire) and op.threshold.numel() > 1 for op in ops),
    )


def _measured(spiking: Graph, name: str) -> bool:
    return name in spiking.by_name and isinstance(spiking[name].op, Population | Integrate)


def _float_values(floats: Graph, spiking: Graph, x: Inputs) -> dict[str, Tensor]:
    """In float32: what is measured are differences a thousand times as large as what it rounds."""
    values: dict[str, Tensor] = {}

    def watch(node: Node, value: Tensor) -> None:
        if _measured(spiking, node.name) or node.name in floats.outputs:
            values[node.name] = value

    with torch.no_grad():
        run(floats, trees.map_leaves(Tensor.float, x), watch)
    return values


def _subtracting(spiking: Graph) -> Graph:
    """The SNN that is the quantized network at the delay T: reset by subtraction."""
    if spiking.timing.reset_mode is Reset.SUBTRACTION:
        return spiking  # with all that is proved of it
    return replace(spiking, contract=replace(spiking.timing, reset_mode=Reset.SUBTRACTION))


def _add(
    spiking: Graph,
    delay: int,
    x: Inputs,
    wanted: dict[str, Tensor],
    moments: dict[str, _Moments],
    engine: Run,
) -> None:
    found = engine(spiking, Request(x, delay, counts=True))
    values = dict(zip(spiking.outputs, found.outputs, strict=True))
    for name, counts in (found.counts or {}).items():
        values[name] = counts.double() * spiking[name].known_unit / spiking.timing.timesteps
    for name, value in values.items():
        if name in wanted:
            moments.setdefault(name, _Moments()).add(wanted[name], value)


def _judged(spiking: Graph, quantized: dict[str, _Moments], snn: dict[str, _Moments]) -> Damage:
    by_quantization = {name: moments.relative_error() for name, moments in quantized.items()}
    by_snn = {name: moments.relative_error() for name, moments in snn.items()}
    of_quantized = (
        max((by_quantization[name] for name in spiking.outputs), default=0.0) if quantized else None
    )
    found = Damage(of_quantized, max(by_snn[name] for name in spiking.outputs))
    if not found.is_large:
        return found
    for node in spiking.nodes:
        error = max(by_quantization.get(node.name, 0.0), by_snn.get(node.name, 0.0))
        if error > LIMIT:
            in_time = by_quantization.get(node.name, error) <= LIMIT
            return Damage(found.quantized, found.snn, node.source or node.name, error, in_time)
    return found
