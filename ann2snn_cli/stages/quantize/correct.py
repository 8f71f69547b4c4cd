"""Correct biases where there is no training: b_c += E[a_float − a_quantized]_c, layer by layer (SPEC 8).

The quantized activations are those of real spikes in the schedule that will be used, below layers that are
corrected already, so the errors of timing are mended as well as those of rounding.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ann2snn_cli.ir.bounds import exact_dtype
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.integers import integer_node, integers, real_bias
from ann2snn_cli.ir.ops import Input, Integrate, IntegrateFire, Linear, Relu
from ann2snn_cli.ir.run import bind_inputs, count_node, encode, real
from ann2snn_cli.ir.trains import Trains, plain_arithmetic

TRAIN_ELEMENTS = 1 << 26  # all samples are held at once: as many as keep the widest spike train below this
SAMPLES = 256


def correct_biases(graph: Graph, x: Tensor, schedule: str, *, trained: bool = False) -> Graph:
    """Needs QUANTIZED; gives QUANTIZED with biases that undo the mean error on the samples `x`.

    The error is the distance to the float network (the same graph: its weights are the master copy), or,
    after training, to the quantized network that was trained: then it is the error of timing alone.
    """
    with torch.no_grad(), plain_arithmetic():
        return _Correction(graph, x[: _affordable(graph)], schedule, trained).run()


def _affordable(graph: Graph) -> int:
    widest = max(math.prod(node.shape) for node in graph.nodes)
    return max(1, min(SAMPLES, TRAIN_ELEMENTS // (widest * graph.timing.timesteps)))


class _Correction:
    """The wanted and the spiking network, walked side by side."""

    def __init__(self, graph: Graph, x: Tensor, schedule: str, trained: bool) -> None:
        self.graph = graph
        self.trained = trained
        self.spiking = integers(graph)
        self.rules = Trains(self.spiking, schedule, exact_dtype(self.spiking))
        self.given = bind_inputs(graph, x.double())

    def run(self) -> Graph:
        values: dict[str, Tensor] = {}  # of the wanted network: real numbers, or counts of the trained one
        trains: dict[str, Tensor] = {}
        corrected: dict[str, Node] = {}
        for node in self.graph.nodes:
            values[node.name] = self._wanted(node, [values[name] for name in node.inputs])
            if isinstance(node.op, Input):
                trains[node.name] = self.rules.present(node.op, self.given[node.name])
            else:
                corrected[node.name], trains[node.name] = self._node(
                    node, [trains[name] for name in node.inputs], self._meaning(node, values[node.name])
                )
            for name in {*node.inputs, node.name}:
                if self.graph.last_use[name] == node.name:
                    del values[name], trains[name]
        return self.graph.with_nodes(corrected.get(node.name, node) for node in self.graph.nodes)

    def _wanted(self, node: Node, values: list[Tensor]) -> Tensor:
        if isinstance(node.op, Input):
            x = self.given[node.name]
            return encode(node.op, x) * self.graph.timing.timesteps if self.trained else x
        if self.trained:
            return count_node(self.spiking, self.spiking[node.name], values)
        return real(node, values)

    def _meaning(self, node: Node, value: Tensor) -> Tensor:
        """The real number that a value of the wanted network stands for."""
        return value * self.spiking[node.name].worth / self.graph.timing.timesteps if self.trained else value

    def _node(self, node: Node, trains: list[Tensor], wanted: Tensor) -> tuple[Node, Tensor]:
        spiking = self.spiking[node.name]
        train = self.rules.compute(spiking, trains).train
        if not isinstance(node.op, Relu | Integrate) or (isinstance(node.op, Relu) and node.op.relays):
            return node, train
        error = _by_channel(wanted - train.mean(0) * spiking.worth, features_last=self._reads_linear(node))
        units = [self.spiking[name].worth for name in node.inputs]
        assert isinstance(spiking.op, IntegrateFire | Integrate)
        better = replace(node, op=replace(node.op, bias=real_bias(self.graph, spiking.op, units[0]) + error))
        op, unit = integer_node(self.graph, better, units)
        return better, self.rules.compute(replace(spiking, op=op, unit=unit), trains).train

    def _reads_linear(self, node: Node) -> bool:
        return any(isinstance(feeder.op, Linear) for feeder in self.graph.fed_by(node))


def _by_channel(error: Tensor, *, features_last: bool) -> Tensor:
    """The mean over the batch and all axes but the channels, laid out to broadcast to the node's shape."""
    channel = error.dim() - 1 if features_last else 1
    mean: Tensor = error.mean([axis for axis in range(error.dim()) if axis != channel], keepdim=True)
    return mean[0]
