"""Check: Graph, Hardware -> list[Verdict]. One function a rule, every violation at once, no compute (SPEC 7).

`check` needs shapes only and runs before anything is trained; `check_registers` looks at the integers of a
SPIKING graph. The last convolution or linear layer behind the last population, and what follows it, is read
out beside the chip and is not checked, unless the hardware says that its final linear layer is on the chip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from ann2snn_cli.config import Hardware
from ann2snn_cli.errors import Setting
from ann2snn_cli.ir.bounds import bounds
from ann2snn_cli.ir.contract import Pooling
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import (
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
)
from ann2snn_cli.ir.registers import has_register, potential
from ann2snn_cli.ir.span import Span

# What verdicts are called: the names that a user may allow to be broken.
RULES = (
    "op",
    "weight_bitwidth",
    "in_channels",
    "conv_needs_relu",
    "pooling",
    "threshold_bits",
    "bias_bits",
    "channel_wise_threshold",
    "weight_code_bits",
    "potential_bits",
)


@dataclass(frozen=True)
class Verdict:
    """One limit held against one layer. A violation is a verdict that is not ok."""

    rule: str
    layer: str  # the user's name
    actual: int | str
    limit: int | str
    ok: bool
    remedy: str = ""
    derived: bool = False  # the limit follows from a formula, it is not in the published table
    proof: str = ""  # where `actual` is proved: of what

    @property
    def headroom(self) -> float | None:
        """How much of the limit is free, as a fraction; negative where it is broken."""
        if isinstance(self.actual, int) and isinstance(self.limit, int) and self.limit > 0:
            return 1 - self.actual / self.limit
        return None


def violations(verdicts: Sequence[Verdict], allow: Sequence[str] = ()) -> list[Verdict]:
    """The verdicts that are not ok, but for the rules that are allowed to be broken."""
    return [verdict for verdict in verdicts if not verdict.ok and verdict.rule not in allow]


def check(graph: Graph, hardware: Hardware, weight_bitwidth: int) -> list[Verdict]:
    """Needs FOLDED or later; gives every verdict that shapes alone decide, in the order of the layers."""
    nodes = [node for node in graph.nodes if _on_chip(graph, hardware, node)]
    return [
        verdict
        for node in nodes
        for rule in _SHAPE_RULES
        for verdict in rule(graph, node, hardware, weight_bitwidth)
    ]


def check_registers(graph: Graph, hardware: Hardware) -> list[Verdict]:
    """Needs SPIKING; gives the verdicts on register widths."""
    nodes = [node for node in graph.nodes if _on_chip(graph, hardware, node)]
    return [verdict for node in nodes for rule in _REGISTER_RULES for verdict in rule(graph, node, hardware)]


def _layer(node: Node) -> str:
    return node.source or node.name


def _on_chip(graph: Graph, hardware: Hardware, node: Node) -> bool:
    """All but the read-out: the last synapses and what follows them, with no population at or behind them."""
    if hardware.final_linear_on_chip or isinstance(node.op, Relu | IntegrateFire):
        return True
    return any(isinstance(after.op, Relu | IntegrateFire | Conv | Linear) for after in _behind(graph, node))


def _behind(graph: Graph, node: Node) -> list[Node]:
    """The nodes that this one reaches, itself left out."""
    reached: dict[str, Node] = {}
    todo = list(graph.users[node.name])
    while todo:
        here = todo.pop()
        if here.name not in reached:
            reached[here.name] = here
            todo.extend(graph.users[here.name])
    return list(reached.values())


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

_OP_REMEDIES = {
    "max_pool": "use average pooling, or a convolution with stride 2",
    "scale": "put the batch norm right behind a convolution or linear layer that nothing else reads; an "
    "average pooling, where its windows do not overhang the map",
    "opaque": "replace it by convolution, linear, average pooling, addition and ReLU",
}


def _op_name(op: Op) -> str | None:
    if isinstance(op, Conv):
        return "transposed_conv" if op.transposed else "conv"
    return _OP_NAMES.get(type(op))


def _op_is_known(graph: Graph, node: Node, hardware: Hardware, bits: int) -> Iterator[Verdict]:
    name = _op_name(node.op)
    if name is not None and name not in hardware.ops:
        shown = f"{name} {node.op.kind}" if isinstance(node.op, Opaque) else name
        yield Verdict("op", _layer(node), shown, ", ".join(hardware.ops), False, _OP_REMEDIES.get(name, ""))


def _bits_fit(graph: Graph, node: Node, hardware: Hardware, bits: int) -> Iterator[Verdict]:
    if isinstance(node.op, Conv | Linear | Scale):
        limit = hardware.max_weight_bitwidth
        remedy = f"{Setting('weight_bitwidth', limit)} or fewer"
        yield Verdict("weight_bitwidth", _layer(node), bits, limit, bits <= limit, remedy)


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


def _channels_fit(graph: Graph, node: Node, hardware: Hardware, bits: int) -> Iterator[Verdict]:
    fan_in = _fan_in(node.op)
    found = channel_limit(hardware, fan_in.kernel, bits) if fan_in else None
    if fan_in is None or found is None:
        return
    limit, derived = found
    fits = fan_in.channels <= limit
    remedy = "" if fits else _channel_remedies(node, hardware, fan_in, limit)
    yield Verdict("in_channels", _layer(node), fan_in.channels, limit, fits, remedy, derived)


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


def _neurons_follow(graph: Graph, node: Node, hardware: Hardware, bits: int) -> Iterator[Verdict]:
    """A convolution or linear layer must end in neurons before anything but moves and sums reads it."""
    if not (hardware.conv_needs_relu and isinstance(node.op, Conv | Linear | Scale)):
        return
    stuck = _first_without_neurons(graph, node)
    if stuck is not None:
        yield Verdict(
            "conv_needs_relu",
            _layer(node),
            f"its currents reach {_layer(stuck)}",
            "a ReLU",
            False,
            f"put a ReLU behind {_layer(node)}",
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


def _spikes_are_pooled(graph: Graph, node: Node, hardware: Hardware, bits: int) -> Iterator[Verdict]:
    """Spiking average pooling needs spikes to pool, not pixels or currents, and neurons that end it."""
    if hardware.pooling is not Pooling.SPIKING or not isinstance(node.op, AvgPool):
        return
    stuck = _first_without_neurons(graph, node)
    if node.inputs[0] not in graph.spiking:
        (feeder,) = graph.fed_by(node)
        what = "the input itself" if isinstance(feeder.op, Input) else f"currents of {_layer(feeder)}"
        yield Verdict(
            "pooling", _layer(node), f"it pools {what}", "spikes", False, "put a ReLU before the pooling"
        )
    elif stuck is not None:
        sums = f"its sums reach {_layer(stuck)}"
        remedy = f"{Setting('pooling', 'spiking')}, or auto"
        yield Verdict("pooling", _layer(node), sums, "neurons", False, remedy)


_SHAPE_RULES: tuple[Callable[[Graph, Node, Hardware, int], Iterator[Verdict]], ...] = (
    _op_is_known,
    _bits_fit,
    _channels_fit,
    _neurons_follow,
    _spikes_are_pooled,
)


# Registers -----------------------------------------------------------------------------------------


def _fits(rule: str, node: Node, values: Tensor, bits: int | None, remedy: str) -> Iterator[Verdict]:
    """Signed registers: |value| ≤ 2^(bits−1) − 1."""
    if bits is not None:
        largest, limit = int(values.abs().max()), 2 ** (bits - 1) - 1
        yield Verdict(rule, _layer(node), largest, limit, largest <= limit, remedy)


def _thresholds_fit(graph: Graph, node: Node, hardware: Hardware) -> Iterator[Verdict]:
    if not isinstance(node.op, IntegrateFire):
        return
    remedy = f"fewer {Setting('weight_bitwidth')}, or a lower {Setting('mode')}"
    yield from _fits("threshold_bits", node, node.op.threshold, hardware.threshold_bits, remedy)
    yield from _fits("bias_bits", node, node.op.bias, hardware.bias_bits, remedy)
    if not hardware.channel_wise_threshold:
        different = len(set(node.op.threshold.flatten().tolist()))
        yield Verdict(
            "channel_wise_threshold",
            _layer(node),
            different,
            1,
            different == 1,
            f"convert with {Setting('channel_wise', False)}",
        )


def _codes_fit(graph: Graph, node: Node, hardware: Hardware) -> Iterator[Verdict]:
    """A weight's entry in the codebook holds its fraction bits too."""
    if not isinstance(node.op, Conv | Linear | Scale):
        return
    shift = max(
        (n.op.fraction_bits for n in graph.users[node.name] if isinstance(n.op, IntegrateFire)), default=0
    )
    codes = node.op.weight.long() * 2**shift
    yield from _fits(
        "weight_code_bits",
        node,
        codes,
        hardware.weight_code_bits,
        f"a higher {Setting('mode')} or more {Setting('weight_bitwidth')}",
    )


def _potentials_fit(graph: Graph, node: Node, hardware: Hardware) -> Iterator[Verdict]:
    """The accumulator holds whatever any input can bring about (`ir/bounds.py`)."""
    limit = hardware.potential_bits
    if limit is None or not has_register(graph, node):
        return
    held = potential(graph, node)
    if held is None:
        remedy = f"{Setting('weight_bitwidth', 8)} or fewer, and no opaque layer before it"
        yield Verdict("potential_bits", _layer(node), "real numbers", limit, False, remedy)
        return
    fits = held.bits <= limit
    remedy = "" if fits else _potential_remedies(graph, node, held, limit)
    proof = (
        f"{held.low:.0f}..{held.high:.0f} in {graph.timing.timesteps} timesteps, delay {graph.timing.delay}"
    )
    yield Verdict("potential_bits", _layer(node), held.bits, limit, fits, remedy, proof=proof)


def _potential_remedies(graph: Graph, node: Node, held: Span, limit: int) -> str:
    """No delay where that needs less, fewer timesteps where one would fit, and smaller weights."""
    there = potential(graph, node, 0)
    remedies = []
    if there is not None and there.bits < held.bits:
        remedies.append(f"{Setting('delay', 0)} ({there.bits} bits)")
    if graph.timing.timesteps > 1 and _one_step(graph, node).bits <= limit:
        remedies.append(f"fewer {Setting('timesteps')}")
    return "; or ".join([*remedies, f"fewer {Setting('weight_bitwidth')}"])


def _one_step(graph: Graph, node: Node) -> Span:
    """What the synapses add in one step."""
    step = bounds(graph)[node.inputs[0]].passed_on
    shift = 2**node.op.fraction_bits if isinstance(node.op, IntegrateFire) else 1
    return Span(step.low * shift, step.high * shift)


_REGISTER_RULES: tuple[Callable[[Graph, Node, Hardware], Iterator[Verdict]], ...] = (
    _thresholds_fit,
    _codes_fit,
    _potentials_fit,
)
