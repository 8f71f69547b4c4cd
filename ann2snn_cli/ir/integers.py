"""From real parameters to integers: SPEC 2 and 3, one rule an op, differentiable.

`integers(graph)` reads a QUANTIZED graph and gives the SPIKING one in float64 tensors that hold integers.
Finetuning calls it at every step and backpropagates through it; `stages/threshold.py` calls it once and
stores the result. So the network that is trained is the network that is exported.

Every node gets a `unit`, the real value of 1: a synapse's is its step α, a population's its amplitude
A = θ·unit of what comes in. A synapse absorbs the units of its input before it is quantized
(W' = W·A_in), which makes concat, pooling and the input's scale exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from ann2snn_cli.errors import InvalidGraph, UnsupportedNetwork
from ann2snn_cli.ir.contract import Rounding
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.grid import choose_step, to_grid
from ann2snn_cli.ir.neuron import floor_, round_
from ann2snn_cli.ir.ops import (
    SYNAPSES,
    Add,
    AvgPool,
    Concat,
    Conv,
    Gather,
    Input,
    Integrate,
    IntegrateFire,
    Linear,
    MaxPool,
    Op,
    Opaque,
    Permute,
    Relu,
    Reshape,
    Scale,
    per_channel,
)
from ann2snn_cli.ir.spikes import real_valued

FLOAT_BITS = 32  # weight_bitwidth 32: no quantization, the same network in floats
COARSE_THRESHOLD = 32  # below this θ is too coarse: fraction bits refine it ...
FINE_THRESHOLD = 256  # ... to at least this
FINE_MULTIPLIER = 64  # an identity synapse rounded to this or more is right to 0.8 %
MAX_FRACTION_BITS = 8

_Synapse = TypeVar("_Synapse", Conv, Linear, Scale)


# Weights -------------------------------------------------------------------------------------------


def absorb(node: Node, op: Conv | Linear | Scale, unit: Tensor, shape: tuple[int, ...]) -> Tensor:
    """W' = W·A_in, channel by channel; `shape` is the input's."""
    weight = op.weight.to(torch.float64)
    if unit.numel() == 1:
        return weight * unit.reshape(())
    if isinstance(op, Scale):
        return weight * unit
    if isinstance(op, Linear):
        return weight * _along(node, unit, len(shape) - 1, shape)
    units = _along(node, unit, 0, shape)
    spatial = [1] * len(op.kernel)
    if op.transposed:
        return weight * units.reshape(-1, 1, *spatial)
    grouped = weight.reshape(op.groups, -1, *weight.shape[1:]) * units.reshape(op.groups, 1, -1, *spatial)
    return grouped.reshape(weight.shape)


def _along(node: Node, unit: Tensor, axis: int, shape: tuple[int, ...]) -> Tensor:
    """The units along one axis, which must be all that they depend on."""
    unit = unit.expand(shape).movedim(axis, 0).reshape(shape[axis], -1)
    if not torch.equal(unit, unit[:, :1].expand_as(unit)):
        raise UnsupportedNetwork(
            "values of different scale meet in one weight, which no integer can absorb",
            where=node.source or node.name,
            remedy="convert without --channel_wise, or join the branches along the channels",
        )
    return unit[:, 0]


def _weights_by_row(op: Conv | Linear | Scale, weight: Tensor) -> Tensor:
    """The weight with output channels along dimension 0 (a transposed convolution holds them in 1)."""
    if not (isinstance(op, Conv) and op.transposed):
        return weight
    grouped = weight.reshape(op.groups, -1, *weight.shape[1:])  # [groups, in/groups, out/groups, k...]
    return grouped.transpose(1, 2).reshape(op.out_channels, -1)


def _steps_by_weight(op: Conv | Linear | Scale, step: Tensor) -> Tensor:
    """The step of every weight: [] stays; [out] is laid along the weight's output channels."""
    if step.numel() == 1:
        return step.reshape(())
    if isinstance(op, Conv) and op.transposed:
        spatial = [1] * len(op.kernel)
        by_group = step.reshape(op.groups, 1, -1, *spatial)  # [groups, in/groups, out/groups, k...]
        by_group = by_group.expand(-1, op.weight.shape[0] // op.groups, *[-1] * (1 + len(spatial)))
        return by_group.reshape(op.weight.shape[0], -1, *spatial)
    return step.reshape(-1, *[1] * (op.weight.dim() - 1))


def synapse_step(node: Node, op: Conv | Linear | Scale, absorbed: Tensor, channel_wise: bool) -> Tensor:
    """The step that SPEC 2 gives a synapse: [] or [out]."""
    if op.bits is None:
        raise InvalidGraph(f"{node.name!r} has no bit width yet", where=node.source)
    return choose_step(_weights_by_row(op, absorbed), op.bits, rows=channel_wise and absorbed.dim() > 0)


def _synapse(graph: Graph, node: Node, op: _Synapse, units: list[Tensor]) -> tuple[Op, Tensor]:
    (feeder,) = graph.fed_by(node)
    weight = absorb(node, op, units[0], feeder.shape)
    if op.bits == FLOAT_BITS:
        return replace(op, weight=weight, step=None), _constant(graph, 1.0)
    step = op.step if op.step is not None else synapse_step(node, op, weight, channel_wise=False)
    step = step.to(torch.float64)
    assert op.bits is not None
    codes = to_grid(weight, _steps_by_weight(op, step), op.bits)
    return replace(op, weight=codes, step=None), per_channel(
        step, op, len(node.shape)
    ) if step.numel() > 1 else step


# Units that travel ---------------------------------------------------------------------------------


def _compress(unit: Tensor) -> Tensor:
    """The same units with as few numbers as possible: [], else [channels, 1, ...], else all.

    NaN marks places that always hold 0 (padding): any unit fits them.
    """
    rows = unit.reshape(unit.shape[0], -1) if unit.dim() else unit.reshape(1, 1)
    known = ~rows.isnan()
    first = known.to(torch.int8).argmax(dim=1)
    by_row = rows[torch.arange(rows.shape[0], device=rows.device), first]
    if bool(((rows == by_row[:, None]) | ~known).all()):
        valid = by_row[~by_row.isnan()]
        if valid.numel() == 0 or bool((valid == valid[0]).all()):
            return valid[0] if valid.numel() else torch.ones((), dtype=unit.dtype, device=unit.device)
        rows = by_row[:, None]
        unit = by_row.reshape(-1, *[1] * (unit.dim() - 1))
    return torch.where(unit.isnan(), torch.ones_like(unit), unit)


def _input(graph: Graph, node: Node, op: Input, units: list[Tensor]) -> tuple[Op, Tensor]:
    if op.unit is None:
        raise InvalidGraph(f"the input {node.name!r} has no unit yet")
    return op, _constant(graph, op.unit)


def _reshape(graph: Graph, node: Node, op: Reshape, units: list[Tensor]) -> tuple[Op, Tensor]:
    (feeder,) = graph.fed_by(node)
    return op, _compress(units[0].expand(feeder.shape).reshape(node.shape)) if units[0].dim() else units[0]


def _permute(graph: Graph, node: Node, op: Permute, units: list[Tensor]) -> tuple[Op, Tensor]:
    (feeder,) = graph.fed_by(node)
    return op, _compress(units[0].expand(feeder.shape).permute(op.order)) if units[0].dim() else units[0]


def _gather(graph: Graph, node: Node, op: Gather, units: list[Tensor]) -> tuple[Op, Tensor]:
    if units[0].dim() == 0:
        return op, units[0]
    (feeder,) = graph.fed_by(node)
    flat = torch.cat([units[0].expand(feeder.shape).flatten(), units[0].new_full((1,), torch.nan)])
    return op, _compress(flat[op.index])


def _concat(graph: Graph, node: Node, op: Concat, units: list[Tensor]) -> tuple[Op, Tensor]:
    if all(unit.dim() == 0 and bool(unit == units[0]) for unit in units):
        return op, units[0]
    shapes = [feeder.shape for feeder in graph.fed_by(node)]
    return op, _compress(torch.cat([unit.expand(shape) for unit, shape in zip(units, shapes, strict=True)]))


def _avg_pool(graph: Graph, node: Node, op: AvgPool, units: list[Tensor]) -> tuple[Op, Tensor]:
    return op, _spatially_constant(graph, node, units[0]) / op.area


def _max_pool(graph: Graph, node: Node, op: MaxPool, units: list[Tensor]) -> tuple[Op, Tensor]:
    return op, _spatially_constant(graph, node, units[0])


def _spatially_constant(graph: Graph, node: Node, unit: Tensor) -> Tensor:
    if unit.dim() == 0:
        return unit
    (feeder,) = graph.fed_by(node)
    return per_channel(_along(node, unit, 0, feeder.shape), node.op, len(node.shape))


def _opaque(graph: Graph, node: Node, op: Opaque, units: list[Tensor]) -> tuple[Op, Tensor]:
    return op, _constant(graph, 1.0)


def _add(graph: Graph, node: Node, op: Add, units: list[Tensor]) -> tuple[Op, Tensor]:
    """Integer weights m_i = round(unit_i/α) on identity synapses, α the finest unit or a part of it."""
    if node.name in real_valued(graph) or is_float(graph):
        return replace(op, weights=tuple(units)), _constant(graph, 1.0)
    finest = units[0]
    for unit in units[1:]:
        finest = torch.minimum(finest, unit)
    ratios = [(unit / finest).detach() for unit in units]
    inexact = [ratio[(ratio - ratio.round()).abs() > 1e-9 * ratio] for ratio in ratios]
    smallest = min((float(ratio.min()) for ratio in inexact if ratio.numel()), default=float(FINE_MULTIPLIER))
    bits = _fraction_bits(smallest, coarse=FINE_MULTIPLIER, fine=FINE_MULTIPLIER)
    alpha = finest / 2**bits
    return replace(op, weights=tuple(round_(unit / alpha) for unit in units)), alpha


def _fraction_bits(value: float, coarse: float, fine: float) -> int:
    """The fewest bits that bring a value below `coarse` up to `fine`."""
    if value >= coarse:
        return 0
    return next((bits for bits in range(MAX_FRACTION_BITS) if value * 2**bits >= fine), MAX_FRACTION_BITS)


# Neurons -------------------------------------------------------------------------------------------


def _clip(graph: Graph, node: Node, op: Relu, unit: Tensor) -> Tensor:
    """The real activation that T spikes stand for, before θ is rounded."""
    if op.relays:
        (pool,) = graph.fed_by(node)
        assert isinstance(pool.op, AvgPool)
        return unit * pool.op.area  # the amplitude of the population that was pooled
    if op.clip is None:
        raise InvalidGraph(f"the population {node.name!r} has no clip yet", where=node.source)
    return op.clip.to(torch.float64)


def _relu(graph: Graph, node: Node, op: Relu, units: list[Tensor]) -> tuple[Op, Tensor]:
    """θ = max(1, round(A/unit)), then the snap A := θ·unit."""
    (unit,) = units
    clip = _clip(graph, node, op, unit)
    if is_float(graph):
        threshold, bits = clip / unit, 0
    else:
        exact = (clip / unit).detach()
        is_integer = bool(((exact - exact.round()).abs() <= 1e-9 * exact).all())
        smallest = float(COARSE_THRESHOLD) if is_integer else float(exact.min())
        bits = _fraction_bits(smallest, COARSE_THRESHOLD, FINE_THRESHOLD)
        threshold = torch.clamp_min(round_(clip * 2**bits / unit), 1)
    fine = unit / 2**bits
    half = threshold / 2 if is_float(graph) else floor_(threshold / 2)
    bias, initial = _bias(graph, op.bias, fine, half)
    return IntegrateFire(threshold, bias, initial, bits), threshold * fine


def _integrate(graph: Graph, node: Node, op: Integrate, units: list[Tensor]) -> tuple[Op, Tensor]:
    (unit,) = units
    if op.bias is None:
        return op, unit
    if node.name in real_valued(graph):  # real numbers take a real bias
        return Integrate(op.bias.to(torch.float64) / unit, torch.zeros_like(unit)), unit
    bias, initial = _bias(graph, op.bias, unit, torch.zeros_like(unit))
    return Integrate(bias, initial), unit


def _bias(graph: Graph, bias: Tensor | None, unit: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """The bias at every step and the potential before the first (SPEC 1, 2).

    B_total = round(T·b/unit) is split into B = ⌊B_total/T⌋ and a remainder that joins V0, so over T steps the
    bias is exact. A chip that cannot preset V drops the remainder (`rounding` bias or none).
    """
    contract = graph.timing
    whole = torch.zeros_like(unit) if bias is None else contract.timesteps * bias.to(torch.float64) / unit
    if is_float(graph):
        return whole / contract.timesteps, half
    whole = round_(whole)
    if contract.rounding is Rounding.BIAS:
        whole = whole + half
    each = floor_(whole / contract.timesteps)
    if contract.rounding is Rounding.POTENTIAL:
        return each, half + (whole - contract.timesteps * each)
    return each, torch.zeros_like(each)


def real_bias(graph: Graph, op: IntegrateFire | Integrate, unit: Tensor) -> Tensor:
    """The real bias that a neuron's integers stand for, as rounded; `unit` is that of its input."""
    if op.bias is None or op.initial is None:
        return torch.zeros_like(unit)
    steps, fraction, half = graph.timing.timesteps, 0, torch.zeros_like(op.initial)
    if isinstance(op, IntegrateFire):
        fraction, half = (
            op.fraction_bits,
            op.threshold / 2 if is_float(graph) else torch.floor(op.threshold / 2),
        )
    whole = steps * op.bias + op.initial
    if graph.timing.rounding is not Rounding.NONE or is_float(graph):  # then half a threshold is in it
        whole = whole - half
    bias: Tensor = whole * unit / 2**fraction / steps
    return bias


# The walk ------------------------------------------------------------------------------------------

_RULES: dict[type[Op], Callable[[Graph, Node, Any, list[Tensor]], tuple[Op, Tensor]]] = {
    Input: _input,
    Conv: _synapse,
    Linear: _synapse,
    Scale: _synapse,
    Add: _add,
    Concat: _concat,
    AvgPool: _avg_pool,
    MaxPool: _max_pool,
    Reshape: _reshape,
    Permute: _permute,
    Gather: _gather,
    Relu: _relu,
    Integrate: _integrate,
    Opaque: _opaque,
}


def integers(graph: Graph, visit: Callable[[Graph, Node, list[Tensor]], Node] | None = None) -> Graph:
    """Needs QUANTIZED; gives SPIKING, in float64 tensors that hold integers (or floats, at 32 bits).

    `visit` may replace a node just before its rule is applied, when the units of its inputs are known:
    that is how `stages/quantize` chooses the steps.
    """
    units: dict[str, Tensor] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        given = [units[name] for name in node.inputs]
        if visit is not None:
            node = visit(graph, node, given)
        op, unit = integer_node(graph, node, given)
        units[node.name] = unit
        nodes.append(replace(node, op=op, unit=unit))
    return graph.with_nodes(nodes, level=Level.SPIKING)


def integer_node(graph: Graph, node: Node, units: list[Tensor]) -> tuple[Op, Tensor]:
    """One node's integer op and the unit of what it passes on, given the units of its inputs."""
    return _RULES[type(node.op)](graph, node, node.op, units)


def _constant(graph: Graph, value: float) -> Tensor:
    """A unit of one number, where the graph's tensors are."""
    device = next((node.op.weight.device for node in graph.nodes if isinstance(node.op, SYNAPSES)), None)
    return torch.tensor(value, dtype=torch.float64, device=device)


def is_float(graph: Graph) -> bool:
    """Are its weights floats (32 bits: no quantization)?"""
    return any(isinstance(node.op, SYNAPSES) and node.op.bits == FLOAT_BITS for node in graph.nodes)
