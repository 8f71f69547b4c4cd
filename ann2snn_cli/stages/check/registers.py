"""The rules on the widths of registers, which the integers of a SPIKING graph decide."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from ann2snn_cli.config import Hardware
from ann2snn_cli.errors import Setting
from ann2snn_cli.ir.bounds import bounds
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import Conv, Linear, Population, Scale
from ann2snn_cli.ir.registers import has_register, potential
from ann2snn_cli.ir.span import Span
from ann2snn_cli.stages.check.shapes import real_potential
from ann2snn_cli.stages.check.verdict import Verdict, layer_of

_SMALLER = f"fewer {Setting('weight_bitwidth')}, or a lower {Setting('mode')}"


def _fits(rule: str, node: Node, values: Tensor, bits: int | None, remedy: str) -> Iterator[Verdict]:
    """Signed registers: |value| ≤ 2^(bits−1) − 1."""
    if bits is not None:
        largest, limit = int(values.abs().max()), 2 ** (bits - 1) - 1
        yield Verdict(rule, layer_of(node), largest, limit, largest <= limit, remedy)


def threshold_fits(graph: Graph, node: Node, hardware: Hardware) -> Iterator[Verdict]:
    """A register holds the threshold."""
    if isinstance(node.op, Population):
        yield from _fits("threshold_bits", node, node.op.threshold, hardware.threshold_bits, _SMALLER)


def bias_fits(graph: Graph, node: Node, hardware: Hardware) -> Iterator[Verdict]:
    """A register holds the bias."""
    if isinstance(node.op, Population):
        yield from _fits("bias_bits", node, node.op.bias, hardware.bias_bits, _SMALLER)


def one_threshold(graph: Graph, node: Node, hardware: Hardware) -> Iterator[Verdict]:
    """One threshold for a whole population, unless the chip has one for each channel."""
    if not isinstance(node.op, Population) or hardware.channel_wise_threshold:
        return
    different = len(set(node.op.threshold.flatten().tolist()))
    remedy = f"convert with {Setting('channel_wise', False)}; a rule of yours may set one clip a layer"
    yield Verdict("channel_wise_threshold", layer_of(node), different, 1, different == 1, remedy)


def codes_fit(graph: Graph, node: Node, hardware: Hardware) -> Iterator[Verdict]:
    """A weight's entry in the codebook holds its fraction bits too."""
    if not isinstance(node.op, Conv | Linear | Scale):
        return
    shift = max(
        (n.op.fraction_bits for n in graph.users[node.name] if isinstance(n.op, Population)), default=0
    )
    codes = node.op.weight.long() * 2**shift
    yield from _fits(
        "weight_code_bits",
        node,
        codes,
        hardware.weight_code_bits,
        f"a higher {Setting('mode')} or more {Setting('weight_bitwidth')}",
    )


def potentials_fit(graph: Graph, node: Node, hardware: Hardware) -> Iterator[Verdict]:
    """The accumulator holds whatever any input can bring about (`ir/bounds.py`)."""
    limit = hardware.potential_bits
    if limit is None or not has_register(graph, node):
        return
    held = potential(graph, node)
    if held is None:
        yield real_potential(node, limit)
        return
    fits = held.bits <= limit
    remedy = "" if fits else _potential_remedies(graph, node, held, limit)
    proof = (
        f"{held.low:.0f}..{held.high:.0f} in {graph.timing.timesteps} timesteps, delay {graph.timing.delay}"
    )
    yield Verdict("potential_bits", layer_of(node), held.bits, limit, fits, remedy, proof=proof)


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
    shift = 2**node.op.fraction_bits if isinstance(node.op, Population) else 1
    return Span(step.low * shift, step.high * shift)
