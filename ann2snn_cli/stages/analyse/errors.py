"""By how much each layer of the SNN differs from the float network, and by what cause.

Three networks are run on the same samples, population by population:

    float      the FOLDED graph in real numbers
    quantized  the integer network in closed form: weights on their grid, activations clipped to T levels,
               biases as they were before any correction of timing
    spiking    the SNN, step by step, in its own schedule

so |quantized − float| is the error of quantization (weights, clipping, rounding) and |spiking − quantized|
the error of the spikes' timing. Both are given as a fraction of the float activation's mean magnitude.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ann2snn_cli import trees
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import Integrate, Population
from ann2snn_cli.ir.run import run, run_counts
from ann2snn_cli.types import Inputs

CountsOf = Callable[[Inputs], dict[str, Tensor]]


@dataclass(frozen=True)
class LayerError:
    """Mean absolute errors of one population or read-out, relative to the mean |float activation|."""

    layer: str
    source: str
    quantization: float
    timing: float
    total: float
    firing_rate: float | None  # None for a read-out, which never fires


@dataclass
class _Sums:
    size: float = 0.0
    quantization: float = 0.0
    timing: float = 0.0
    total: float = 0.0
    spikes: float = 0.0
    values: int = 0

    def add(self, wanted: Tensor, quantized: Tensor, spiking: Tensor, spikes: float) -> None:
        self.size += float(wanted.abs().sum())
        self.quantization += float((quantized - wanted).abs().sum())
        self.timing += float((spiking - quantized).abs().sum())
        self.total += float((spiking - wanted).abs().sum())
        self.spikes += spikes
        self.values += wanted.numel()


def layer_errors(
    float_graph: Graph,
    spiking: Graph,
    batches: Iterable[Inputs],
    counts_of: CountsOf,
    closed_form: Graph | None = None,
) -> list[LayerError]:
    """The errors of every population and read-out that both graphs have, in order.

    `counts_of(x)` simulates the SNN and gives what each of them passed on over all steps. The quantized
    network is the closed form of `closed_form`, or of `spiking` itself.
    """
    quantized = closed_form or spiking
    float_names = {node.name for node in float_graph.nodes}
    measured = [node for node in spiking.of(Population, Integrate) if node.name in float_names]
    sums = {node.name: _Sums() for node in measured}
    for x in batches:
        _add_batch(float_graph, spiking, quantized, x, sums, counts_of(x))
    return [_layer(node, sums[node.name], spiking.timing.timesteps) for node in measured]


def _add_batch(
    float_graph: Graph,
    spiking: Graph,
    closed_form: Graph,
    x: Inputs,
    sums: dict[str, _Sums],
    counts: dict[str, Tensor],
) -> None:
    wanted: dict[str, Tensor] = {}
    quantized: dict[str, Tensor] = {}

    def see(kept: dict[str, Tensor], node: Node, value: Tensor) -> None:
        if node.name in sums:
            kept[node.name] = value

    x = trees.map_leaves(Tensor.double, x)
    with torch.no_grad():
        run(float_graph, x, lambda node, value: see(wanted, node, value))
        run_counts(closed_form, x, lambda node, value: see(quantized, node, value))
    for name, total in sums.items():
        unit = spiking[name].known_unit / spiking.timing.timesteps
        own = counts[name].double()
        total.add(wanted[name], quantized[name] * unit, own * unit, float(own.sum()))


def _layer(node: Node, sums: _Sums, steps: int) -> LayerError:
    size = sums.size or 1.0
    fires = isinstance(node.op, Population)
    return LayerError(
        node.name,
        node.source,
        sums.quantization / size,
        sums.timing / size,
        sums.total / size,
        sums.spikes / (sums.values * steps) if fires and sums.values else None,
    )
