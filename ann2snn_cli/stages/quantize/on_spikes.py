"""Clips layer by layer, on real spikes: QUANTIZED -> QUANTIZED. The strategy of the origin tool's V1.6.

Each population is shown the spikes of those before it, as they fire at the delay in use. Its clip is the
percentile of what charges its neurons in one step, averaged over the steps and samples. Weights absorb the
clips before them, so they get new steps on the way.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ann2snn_cli import trees
from ann2snn_cli.ir.graph import Graph, Level, Node, sweep
from ann2snn_cli.ir.integers import branches
from ann2snn_cli.ir.ops import Input, Op, Relu, Synapse
from ann2snn_cli.ir.precision import plain_arithmetic
from ann2snn_cli.ir.run import bind_inputs
from ann2snn_cli.ir.validate import stage
from ann2snn_cli.types import Inputs


@stage(Level.QUANTIZED, Level.QUANTIZED)
def clips_on_spikes(graph: Graph, x: Inputs, *, percent: float, channel_wise: bool = False) -> Graph:
    """Needs QUANTIZED; gives QUANTIZED with clips from the spikes that the samples `x` make.

    All samples are held at once, in float64: `affordable` says how many that may be.
    """
    given = bind_inputs(graph, trees.map_leaves(Tensor.double, x))
    labels, units, chosen = branches(graph), dict[str, Tensor](), dict[str, Op]()

    def fire(node: Node, trains: list[Tensor]) -> Tensor:
        place, known = graph.place(node), [units[name] for name in node.inputs]
        op = node.op
        if isinstance(op, Relu) and not op.inherits_clip:
            op = chosen[node.name] = _with_clip(op, trains[0] * known[0], percent)
        elif isinstance(op, Synapse):
            op = chosen[node.name] = op.quantized(
                known, labels[node.inputs[0]], place, channel_wise=channel_wise
            )
        spiking, units[node.name] = op.integers(known, place)
        if isinstance(spiking, Input):
            shown = spiking.shown(given[node.name], place.steps)
            return shown.expand(place.steps, *shown.shape[1:])
        return spiking.train(trains, replace(place, node=replace(node, op=spiking))).train

    with torch.no_grad(), plain_arithmetic():
        sweep(graph, fire)
    return graph.with_ops(chosen)


def _with_clip(op: Relu, currents: Tensor, percent: float) -> Relu:
    """The mean, over steps and samples, of a percentile over neurons; none above 0: as it was."""
    if op.bias is not None:
        currents = currents + op.bias.to(currents)
    rows = currents.flatten(2)  # [timesteps, batch, neurons]
    clip = _quantile(rows, percent / 100).mean()
    if clip <= 0:
        return op
    return replace(op, clip=clip if op.limit is None else clip.clamp(max=op.limit))


def _quantile(rows: Tensor, part: float) -> Tensor:
    """Over the last axis, between the two nearest values; torch's own takes at most 2^24 values."""
    place = part * (rows.shape[-1] - 1)
    low = int(place)
    ordered = rows.sort(-1).values
    high = min(low + 1, rows.shape[-1] - 1)
    found: Tensor = ordered[..., low].lerp(ordered[..., high], place - low)
    return found
