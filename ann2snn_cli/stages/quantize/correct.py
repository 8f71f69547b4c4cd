"""Correct biases where there is no training: b_c += E[a_float − a_quantized]_c, layer by layer (SPEC 8).

The quantized activations are those of real spikes with the delay that will be used, behind layers that are
corrected already, so the errors of timing are undone as well as those of rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ann2snn_cli import trees
from ann2snn_cli.ir.engine import Request, Run
from ann2snn_cli.ir.graph import Graph, Level, Node, channel_axis
from ann2snn_cli.ir.integers import integers
from ann2snn_cli.ir.ops import Integrate, Op, Population, Relu
from ann2snn_cli.ir.precision import plain_arithmetic
from ann2snn_cli.ir.run import run, run_counts
from ann2snn_cli.ir.validate import stage
from ann2snn_cli.types import Inputs, Outputs

TRAIN_ELEMENTS = 1 << 26  # all samples are held at once: as many as keep the widest spike train below this
SAMPLES = 256


@dataclass(frozen=True, eq=False)
class Aim:
    """What a network is to give on the samples: its outputs, and the mean of every channel."""

    outputs: Outputs
    means: Mapping[str, Tensor]  # of every population and read-out


@stage(Level.QUANTIZED, Level.QUANTIZED)
def correct_biases(
    graph: Graph,
    x: Inputs,
    engine: Run,
    *,
    aim: Aim,
    delay: int | None = None,
    tick: Callable[[], None] = lambda: None,
    tell: Callable[[Outputs], None] = lambda outputs: None,
) -> Graph:
    """Needs QUANTIZED; gives QUANTIZED with biases that undo the mean error on the samples `x`.

    All of them are held at once: `affordable` says how many that may be. The error is the distance to the
    aim, of `float_aim` or `trained_aim`. `tick` is called after every population and read-out; `tell` is told
    the outputs that the corrected network gives.
    """
    with torch.no_grad(), plain_arithmetic():
        spiking = integers(graph)
        corrected: dict[str, Op] = {}

        def revise(node: Node, counts: Tensor) -> Node:
            tick()
            if not _is_corrected(graph[node.name].op):
                return node
            mean = by_channel(counts * node.known_unit / graph.timing.timesteps, graph, node)
            better = _with_error_added(graph, spiking, node, aim.means[node.name] - mean)
            corrected[node.name] = better.op
            units = [spiking[name].known_unit for name in node.inputs]
            op, unit = better.op.integers(units, graph.place(better))
            return replace(node, op=op, unit=unit)

        tell(engine(spiking, Request(x, delay, revise=revise)).outputs)
    return graph.with_ops(corrected)


def _is_corrected(op: Op) -> bool:
    """A population that hands on what it pools has no bias of its own."""
    return isinstance(op, Relu | Integrate) and not (isinstance(op, Relu) and op.inherits_clip)


def affordable(graph: Graph, x: Inputs) -> Inputs:
    """Of the samples those that biases are corrected with."""
    number = max(1, min(SAMPLES, TRAIN_ELEMENTS // (graph.widest * graph.timing.timesteps)))
    return trees.index(x, slice(number))


def float_aim(graph: Graph, x: Inputs) -> Aim:
    """The float network: the same graph, whose weights are the master copy. It has no delay.

    In float32: a mean is off by a millionth at most, and a bias is rounded to a hundredth of a threshold.
    """
    means: dict[str, Tensor] = {}

    def watch(node: Node, value: Tensor) -> None:
        if _is_corrected(node.op):
            means[node.name] = by_channel(value, graph, node).double()

    with torch.no_grad(), plain_arithmetic():
        return Aim(run(graph, trees.map_leaves(Tensor.float, x), watch), means)


def trained_aim(graph: Graph, x: Inputs, fired: Mapping[str, Tensor] | None = None) -> Aim:
    """The quantized network that was trained: what is left is the error of timing alone.

    In float64, which holds its integers. `fired`: counts it was trained on that are not in closed form.
    """
    means: dict[str, Tensor] = {}

    def watch(node: Node, counts: Tensor) -> None:
        if _is_corrected(graph[node.name].op):
            means[node.name] = by_channel(counts * node.known_unit / graph.timing.timesteps, graph, node)

    with torch.no_grad(), plain_arithmetic():
        return Aim(run_counts(integers(graph), trees.map_leaves(Tensor.double, x), watch, fired), means)


def _with_error_added(graph: Graph, spiking: Graph, node: Node, error: Tensor) -> Node:
    """The node of QUANTIZED whose bias is what its integers stand for, plus the error."""
    original = graph[node.name]
    assert isinstance(original.op, Relu | Integrate)
    assert isinstance(node.op, Population | Integrate)
    unit = spiking[node.inputs[0]].known_unit
    return replace(
        original, op=replace(original.op, bias=node.op.real_bias(unit, spiking.place(node)) + error)
    )


def by_channel(values: Tensor, graph: Graph, node: Node) -> Tensor:
    """The mean over the batch and all axes but the channels, laid out to broadcast to the node's shape."""
    channel = 1 + channel_axis(graph, node)
    mean: Tensor = values.mean([axis for axis in range(values.dim()) if axis != channel], keepdim=True)
    return mean[0]
