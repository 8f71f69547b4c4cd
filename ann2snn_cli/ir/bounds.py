"""How large the integers of a SPIKING graph can get, proved from its weights: what a register must hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import (
    MOVES,
    Add,
    AvgPool,
    Conv,
    Input,
    Integrate,
    IntegrateFire,
    Linear,
    MaxPool,
    Op,
    Opaque,
    Scale,
)

EXACT_FLOAT64 = 2**53  # integers below this are exact in float64
EXACT_FLOAT32 = 2**22  # in float32 2^24; two bits are kept for convolution algorithms that are not plain sums


@dataclass(frozen=True)
class Bound:
    """Upper bounds on magnitudes over all samples and steps, in either schedule."""

    passed_on: float  # |Σ over the T steps of what the node passes on|
    potential: float = 0.0  # |V| of its neurons, before the reset


def _largest(values: Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0


def _row_sum(op: Conv | Linear) -> float:
    """The largest Σ|q| over the inputs of one output."""
    weight = op.weight.abs().double()
    if isinstance(op, Conv) and op.transposed:
        grouped = weight.reshape(op.groups, -1, *weight.shape[1:])
        return float(grouped.flatten(3).sum(dim=(1, 3)).max())
    return float(weight.flatten(1).sum(dim=1).max())


def _neuron(op: IntegrateFire | Integrate, drive: float, steps: int) -> float:
    bias = 0.0 if op.bias is None else _largest(op.bias) * steps
    initial = 0.0 if op.initial is None else _largest(op.initial)
    return drive + bias + initial


def _fires(op: IntegrateFire, xs: list[float], steps: int) -> Bound:
    charge = _neuron(op, xs[0] * 2**op.fraction_bits, steps)
    return Bound(steps, charge + _largest(op.threshold))


def _integrates(op: Integrate, xs: list[float], steps: int) -> Bound:
    charge = _neuron(op, xs[0], steps)
    return Bound(charge, charge)


_RULES: dict[type[Op], Callable[[Any, list[float], int], Bound]] = {
    Input: lambda op, xs, steps: Bound(steps * max(abs(op.low), abs(op.high))),
    Conv: lambda op, xs, steps: Bound(_row_sum(op) * xs[0]),
    Linear: lambda op, xs, steps: Bound(_row_sum(op) * xs[0]),
    Scale: lambda op, xs, steps: Bound(_largest(op.weight) * xs[0]),
    Add: lambda op, xs, steps: Bound(sum(_largest(w) * x for w, x in zip(op.weights, xs, strict=True))),
    AvgPool: lambda op, xs, steps: Bound(op.area * xs[0]),
    MaxPool: lambda op, xs, steps: Bound(xs[0]),
    Opaque: lambda op, xs, steps: Bound(math.inf),
    IntegrateFire: _fires,
    Integrate: _integrates,
    **dict.fromkeys(MOVES, lambda op, xs, steps: Bound(max(xs))),
}


def bounds(graph: Graph) -> dict[str, Bound]:
    """Needs SPIKING; gives for every node how large its integers can get."""
    found: dict[str, Bound] = {}
    for node in graph.nodes:
        found[node.name] = _bound(
            node, [found[name].passed_on for name in node.inputs], graph.timing.timesteps
        )
    return found


def _bound(node: Node, xs: list[float], steps: int) -> Bound:
    return _RULES[type(node.op)](node.op, xs, steps)


def exact_dtype(graph: Graph) -> torch.dtype:
    """The narrowest floating type in which this graph's integers are exact; real numbers take float64."""
    largest = max(max(bound.passed_on, bound.potential) for bound in bounds(graph).values())
    return torch.float32 if largest < EXACT_FLOAT32 and not _has_fractions(graph) else torch.float64


def _has_fractions(graph: Graph) -> bool:
    return any(
        isinstance(node.op, Conv | Linear | Scale) and node.op.weight.is_floating_point()
        for node in graph.nodes
    )
