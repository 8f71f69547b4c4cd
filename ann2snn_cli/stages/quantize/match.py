"""Match: QUANTIZED -> QUANTIZED. Weights, clips and biases, layer by layer, without training.

The float network and the one of integers are run side by side, this one with the spikes that fire at the
delay in use. So each layer is fitted to the inputs that it will have, with all that was lost before it:

    weights   of least error at the layer's output, on their grid (`least_squares.py`)
    clip      argmin_A E[(a − Q(a; A, T))²]: of a layer from its histogram (`calibrate.py`), of a channel here
    bias      b_c += E[a − â]_c

Clips and biases look at the layer alone and at its mean: a clip of least error to the float activation behind
real inputs shrinks what is noisy, layer after layer, and costs accuracy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ann2snn_cli import trees
from ann2snn_cli.ir.contract import Contract, Reset
from ann2snn_cli.ir.graph import Graph, Level, Node, channel_axis, sweep
from ann2snn_cli.ir.integers import branches
from ann2snn_cli.ir.ops import Conv, Input, Integrate, Linear, Op, Place, Relu, Synapse
from ann2snn_cli.ir.precision import plain_arithmetic
from ann2snn_cli.ir.run import bind_inputs
from ann2snn_cli.ir.validate import stage
from ann2snn_cli.stages.quantize import least_squares
from ann2snn_cli.stages.quantize.correct import by_channel
from ann2snn_cli.types import Inputs

FRACTIONS = 32  # of the largest activation: the clips of a channel that are tried


@stage(Level.QUANTIZED, Level.QUANTIZED)
def match(
    graph: Graph,
    x: Inputs,
    *,
    channel_wise: bool = False,
    biases: bool = True,
    tick: Callable[[], None] = lambda: None,
) -> Graph:
    """Needs QUANTIZED, with the float weights; gives QUANTIZED with weights, clips and biases of the samples.

    All samples are held at once: `affordable` says how many that may be. Integers are in float32, where one
    that is too large for it does no harm to a mean. `tick` is called after every node.
    """
    has_reals = graph.has_float_weights or bool(graph.real)
    given = bind_inputs(graph, trees.map_leaves(Tensor.double if has_reals else Tensor.float, x))
    labels, play = branches(graph), _Play(graph.timing)
    units, chosen = dict[str, Tensor](), dict[str, Op]()

    def pass_on(node: Node, pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        place, known = graph.place(node), [units[name] for name in node.inputs]
        floats, trains = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        op = node.op
        if isinstance(op, Input):
            spiking, units[node.name] = op.integers(known, place)
            assert isinstance(spiking, Input)
            return op.without_time(given[node.name]), play.shown(spiking, given[node.name])
        wanted = op.real(floats, node.shape)
        if isinstance(op, Synapse):
            inputs = play.real(trains[0], known[0])
            label = labels[node.inputs[0]]
            op = _synapse(op, inputs, wanted, known, label, place, channel_wise=channel_wise, centred=biases)
        elif isinstance(op, Relu) and channel_wise and not op.inherits_clip:
            op = _with_clips(op, wanted, channel_axis(graph, node), place)
        if isinstance(op, Relu | Integrate) and biases and not (isinstance(op, Relu) and op.inherits_clip):
            spiking, unit = op.integers(known, place)
            error = wanted - play.real(play.train(spiking, trains, place), unit)
            mean = by_channel(error, graph, node).double()
            op = replace(op, bias=mean if op.bias is None else op.bias + mean)
        chosen[node.name] = op
        spiking, units[node.name] = op.integers(known, place)
        tick()
        return wanted, play.train(spiking, trains, place)

    with torch.no_grad(), plain_arithmetic():
        sweep(graph, pass_on)
    return graph.with_ops(chosen)


@dataclass(frozen=True)
class _Play:
    """Trains, or where the counts have a closed form their sums."""

    contract: Contract

    @property
    def is_closed(self) -> bool:
        """Do the counts not depend on when the spikes come?"""
        contract = self.contract
        return contract.delay == contract.timesteps and contract.reset_mode is Reset.SUBTRACTION

    def shown(self, op: Input, x: Tensor) -> Tensor:
        """What the input passes on."""
        steps = self.contract.timesteps
        if self.is_closed:
            return op.total(x, steps)
        train = op.shown(x, steps)
        return train.expand(steps, *train.shape[1:])

    def train(self, op: Op, trains: list[Tensor], place: Place) -> Tensor:
        """What an op of SPIKING passes on."""
        there = replace(place, node=replace(place.node, op=op))
        return op.sums(trains, there) if self.is_closed else op.train(trains, there).train

    def real(self, train: Tensor, unit: Tensor) -> Tensor:
        """The real value that it stands for."""
        total = train if self.is_closed else train.sum(0)
        return total * (unit / self.contract.timesteps).to(total)


def _synapse(
    op: Synapse,
    inputs: Tensor,
    wanted: Tensor,
    units: list[Tensor],
    labels: Tensor,
    place: Place,
    *,
    channel_wise: bool,
    centred: bool,
) -> Synapse:
    """With weights that give what is wanted of these inputs, on their grid."""
    if not (isinstance(op, Conv | Linear) and least_squares.can_fit(op)):
        return op.quantized(units, labels, place, channel_wise=channel_wise)
    seen = least_squares.moments(op, inputs, wanted, centred=centred)
    op = least_squares.fitted(op, seen)
    op = op.quantized(units, labels, place, channel_wise=channel_wise)
    return least_squares.rounded(op, seen, units[0], place)


def _with_clips(op: Relu, wanted: Tensor, axis: int, place: Place) -> Relu:
    """The clip of each channel of least error to its own activations; of a silent one that of the layer."""
    others = [each for each in range(wanted.dim()) if each != axis + 1]
    largest = wanted.amax(others, keepdim=True)[0]
    if op.clip_rule is not None or not bool((largest > 0).any()):
        return op
    largest = torch.where(largest > 0, largest, largest.max())
    levels = place.steps * (op.neuron.most if op.neuron else 1)
    best, least = largest, torch.full_like(largest, torch.inf)
    for fraction in range(1, FRACTIONS + 1):
        clip = largest * fraction / FRACTIONS
        levels_of = torch.clamp((wanted * (levels / clip) + 0.5).floor_(), 0, levels)
        error = (wanted - levels_of * (clip / levels)).square_().mean(others, keepdim=True)[0]
        best, least = torch.where(error < least, clip, best), torch.minimum(error, least)
    return replace(op, clip=best.double())
