"""The rules that shapes and settings decide: what a chip computes, its input lines, what may leave a core.

Where they decide on a register too, the verdict has the name that `registers.py` gives it after conversion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ann2snn_cli.config import Hardware
from ann2snn_cli.errors import Setting
from ann2snn_cli.ir.contract import Pooling
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import (
    FLOAT_BITS,
    Add,
    AvgPool,
    BatchNorm,
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
    own_neuron,
)
from ann2snn_cli.stages.check.verdict import Verdict, layer_of


@dataclass(frozen=True)
class Grid:
    """What the settings say of the weights."""

    bits: int
    channel_wise: bool = False


# What the chip can compute -------------------------------------------------------------------------

_OP_NAMES: dict[type[Op], str] = {
    Linear: "linear",
    AvgPool: "avg_pool",
    MaxPool: "max_pool",
    Add: "add",
    Concat: "concat",
    Reshape: "reshape",
    Permute: "reshape",
    Gather: "reshape",
    Scale: "scale",
    BatchNorm: "scale",
    Opaque: "opaque",
}

_EVERYWHERE = (Input, Relu, IntegrateFire, Integrate)  # every chip has an input and neurons

_OP_REMEDIES = {
    "max_pool": "use average pooling, or a convolution with stride 2",
    "scale": "put the batch norm right behind a convolution or linear layer that nothing else reads; an "
    "average pooling, where its windows do not overhang the map",
    "opaque": "replace it by convolution, linear, average pooling, addition and ReLU",
}

_OWN_NEURON = "let the rule for neurons give None for this layer"


def _op_name(op: Op) -> str | None:
    if isinstance(op, Conv):
        return "transposed_conv" if op.transposed else "conv"
    if (neuron := own_neuron(op)) is not None:
        return neuron.kind
    return None if isinstance(op, _EVERYWHERE) else _OP_NAMES.get(type(op), op.kind)


def op_is_known(graph: Graph, node: Node, hardware: Hardware, grid: Grid) -> Iterator[Verdict]:
    """The chip computes this op; one that it was never asked about it does not."""
    name = _op_name(node.op)
    if isinstance(node.op, Opaque) and node not in graph.real_operators:
        return  # a piece of a layer whose name stands there
    if name is not None and name not in hardware.ops:
        shown = f"{name} {node.op.kind}" if isinstance(node.op, Opaque) else name
        remedy = _OWN_NEURON if own_neuron(node.op) else _OP_REMEDIES.get(name, "")
        yield Verdict("op", layer_of(node), shown, ", ".join(hardware.ops), False, remedy)


def bits_fit(graph: Graph, node: Node, hardware: Hardware, grid: Grid) -> Iterator[Verdict]:
    """The chip's weights are wide enough."""
    if isinstance(node.op, Conv | Linear | Scale):
        limit = hardware.max_weight_bitwidth
        remedy = f"{Setting('weight_bitwidth', limit)} or fewer"
        yield Verdict("weight_bitwidth", layer_of(node), grid.bits, limit, grid.bits <= limit, remedy)


# The input lines of a core -------------------------------------------------------------------------


@dataclass(frozen=True)
class _FanIn:
    """What one neuron reads: channels of a window."""

    channels: int
    kernel: tuple[int, ...]
    groups: int
    choices: tuple[int, ...]  # other numbers of groups that the layer could have


def _fan_in(op: Op) -> _FanIn | None:
    if isinstance(op, Conv):
        shared = math.gcd(op.in_channels, op.out_channels)
        choices = tuple(g for g in range(op.groups + 1, shared + 1) if shared % g == 0 and g % op.groups == 0)
        return _FanIn(op.in_channels // op.groups, op.kernel, op.groups, choices)
    if isinstance(op, Linear):
        return _FanIn(op.weight.shape[1], (1,), 1, ())
    if isinstance(op, AvgPool):
        return _FanIn(1, op.kernel, 1, ())
    return None


def channel_limit(hardware: Hardware, kernel: tuple[int, ...], bits: int) -> tuple[int, bool] | None:
    """(how many channels may go in, whether that is derived); None where there is no limit."""
    square = len(kernel) == 2 and kernel[0] == kernel[1]
    published = hardware.in_channels.get(kernel[0], {}).get(bits) if square else None
    if published is not None:
        return published, False
    if hardware.synapse_lines is None:
        return None
    return hardware.synapse_lines // (math.prod(kernel) * bits), True


def channels_fit(graph: Graph, node: Node, hardware: Hardware, grid: Grid) -> Iterator[Verdict]:
    """The input lines of a core reach for all that a neuron reads."""
    fan_in = _fan_in(node.op)
    found = channel_limit(hardware, fan_in.kernel, grid.bits) if fan_in else None
    if fan_in is None or found is None:
        return
    limit, derived = found
    fits = fan_in.channels <= limit
    remedy = "" if fits else _channel_remedies(node, hardware, fan_in, limit)
    yield Verdict("in_channels", layer_of(node), fan_in.channels, limit, fits, remedy, derived)


def _channel_remedies(node: Node, hardware: Hardware, fan_in: _FanIn, limit: int) -> str:
    """The cheapest ways out, computed from the same rule."""
    remedies = []
    for bits in range(hardware.max_weight_bitwidth, 0, -1):
        found = channel_limit(hardware, fan_in.kernel, bits)
        if found is not None and found[0] >= fan_in.channels:
            remedies.append(f"{Setting('weight_bitwidth', bits)} (limit {found[0]})")
            break
    total = fan_in.channels * fan_in.groups
    groups = next((g for g in fan_in.choices if total // g <= limit), None)
    if groups is not None:
        remedies.append(f"groups={groups} ({total // groups} channels each)")
    if isinstance(node.op, AvgPool):
        remedies.append("pool in two stages with smaller windows")
    elif limit > 0:
        unit = "input features" if isinstance(node.op, Linear) else "input channels"
        remedies.append(f"at most {limit * fan_in.groups} {unit}")
    return "; or ".join(remedies) or "use a smaller kernel"


# Only spikes leave a core --------------------------------------------------------------------------


def neurons_follow(graph: Graph, node: Node, hardware: Hardware, grid: Grid) -> Iterator[Verdict]:
    """A convolution or linear layer must end in neurons before anything but moves and sums reads it."""
    if not (hardware.conv_needs_relu and isinstance(node.op, Conv | Linear | Scale)):
        return
    stuck = _first_without_neurons(graph, node)
    if stuck is not None:
        yield Verdict(
            "conv_needs_relu",
            layer_of(node),
            f"its currents reach {layer_of(stuck)}",
            "a ReLU",
            False,
            f"put a ReLU behind {layer_of(node)}",
        )


def _first_without_neurons(graph: Graph, node: Node) -> Node | None:
    for reader in graph.users[node.name]:
        if isinstance(reader.op, Relu | IntegrateFire):
            continue
        passes = isinstance(reader.op, Add | Integrate | Concat | Reshape | Permute | Gather)
        found = _first_without_neurons(graph, reader) if passes else reader
        if found is not None:
            return found
    return node if not graph.users[node.name] else None


def spikes_are_pooled(graph: Graph, node: Node, hardware: Hardware, grid: Grid) -> Iterator[Verdict]:
    """Spiking average pooling needs spikes to pool, not pixels or currents, and neurons that end it."""
    if hardware.pooling is not Pooling.SPIKING or not isinstance(node.op, AvgPool):
        return
    stuck = _first_without_neurons(graph, node)
    if node.inputs[0] not in graph.spiking:
        (feeder,) = graph.fed_by(node)
        what = "the input itself" if isinstance(feeder.op, Input) else f"currents of {layer_of(feeder)}"
        yield Verdict(
            "pooling", layer_of(node), f"it pools {what}", "spikes", False, "put a ReLU before the pooling"
        )
    elif stuck is not None:
        sums = f"its sums reach {layer_of(stuck)}"
        remedy = f"{Setting('pooling', 'spiking')}, or auto"
        yield Verdict("pooling", layer_of(node), sums, "neurons", False, remedy)


# Registers -----------------------------------------------------------------------------------------


def thresholds_are_one(graph: Graph, node: Node, hardware: Hardware, grid: Grid) -> Iterator[Verdict]:
    """A population whose input has several units has as many thresholds, whatever its clip."""
    if hardware.channel_wise_threshold or not isinstance(node.op, Relu) or node.op.inherits_clip:
        return
    if grid.bits == FLOAT_BITS or not _has_several_units(graph, graph[node.inputs[0]], grid):
        return
    remedy = "put the ReLU before the concatenation"
    if grid.channel_wise:
        remedy = f"convert with {Setting('channel_wise', False)}"
    several = "one a channel" if grid.channel_wise else "one a branch"
    yield Verdict("channel_wise_threshold", layer_of(node), several, 1, False, remedy)


def _has_several_units(graph: Graph, node: Node, grid: Grid) -> bool:
    """Does the unit of what it passes on differ by channel? (A `Scale` may do so too: its weights decide.)"""
    if isinstance(node.op, Conv | Linear | Scale):
        return grid.channel_wise and _output_channels(node.op) > 1
    if node.op.gives_reals or isinstance(node.op, Input):
        return False
    if isinstance(node.op, Add) and len(node.inputs) == 1:
        return False  # it brings all to one unit
    several = isinstance(node.op, Concat) and len(set(node.inputs)) > 1
    return several or any(_has_several_units(graph, feeder, grid) for feeder in graph.fed_by(node))


def _output_channels(op: Conv | Linear | Scale) -> int:
    if isinstance(op, Conv):
        return op.out_channels
    return op.weight.shape[0] if isinstance(op, Linear) else op.weight.numel()


def numbers_are_whole(graph: Graph, node: Node, hardware: Hardware, grid: Grid) -> Iterator[Verdict]:
    """A register holds no real numbers: those of float weights, or the potential behind an opaque layer."""
    reads_out = isinstance(node.op, Integrate) and node.name in graph.outputs
    if not (reads_out or isinstance(node.op, Relu)):
        return
    is_real = grid.bits == FLOAT_BITS or any(name in graph.real for name in node.inputs)
    if hardware.potential_bits is not None and is_real:
        yield real_potential(node, hardware.potential_bits)


def real_potential(node: Node, limit: int) -> Verdict:
    """No width holds the potential of this node."""
    remedy = f"{Setting('weight_bitwidth', 8)} or fewer, and no opaque layer before it"
    return Verdict("potential_bits", layer_of(node), "real numbers", limit, False, remedy)
