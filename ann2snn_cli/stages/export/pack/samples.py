"""What is shown to the network: real samples, and corner cases that real ones leave out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ann2snn_cli.ir.contract import Reset
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import Input, IntegrateFire
from ann2snn_cli.ir.ops.base import LinearOp
from ann2snn_cli.stages.export.pack.describe import file_names


@dataclass(frozen=True, eq=False)
class Sample:
    """What every input is shown, in integers, and why it is there."""

    name: str
    kind: str  # real or corner
    what: str
    stimulus: Mapping[str, Tensor]  # by input node: int64, in its shape
    label: int | None = None


@dataclass(frozen=True)
class Absent:
    """A corner case that this network does not have."""

    name: str
    reason: str


def corner_samples(graph: Graph) -> Iterator[Sample | Absent]:
    """The corner cases that need no data, in a fixed order: patterns of all inputs, then drives by each."""
    for name, (what, make) in _PATTERNS.items():
        yield Sample(name, "corner", what, make(graph.inputs))
    names = file_names(graph)
    for node in graph.inputs:
        by = f" by the input {node.name}, the others 0"
        several = len(graph.inputs) > 1
        yield from _by_drive(
            graph, node, _Words(f"_{names[node.name]}", f" {node.name}", by) if several else _Words()
        )


@dataclass(frozen=True)
class _Words:
    """What tells the corner cases of one input from those of the others; nothing where there is one."""

    suffix: str = ""  # of a sample's name
    name: str = ""  # behind "the input"
    by: str = ""  # behind what is said of a drive


# Patterns ------------------------------------------------------------------------------------------

Stimuli = dict[str, Tensor]  # by input node


def _op(node: Node) -> Input:
    assert isinstance(node.op, Input)
    return node.op


def _zero(node: Node) -> Tensor:
    """Zeros, or what is nearest to them among the integers of the input."""
    return torch.zeros(node.shape, dtype=torch.int64).clamp(_op(node).low, _op(node).high)


def _highest(node: Node) -> Tensor:
    return torch.full(node.shape, _op(node).high, dtype=torch.int64)


def _checkerboard(node: Node) -> Tensor:
    places = torch.meshgrid(*(torch.arange(extent) for extent in node.shape), indexing="ij")
    odd = torch.stack(places).sum(0) % 2 == 1
    return torch.where(odd, _op(node).high, _op(node).low).long()


def _pixel(node: Node) -> Tensor:
    x = _zero(node)
    x.view(-1)[_middles(node.shape)[0]] = _op(node).high
    return x


def _each(make: Callable[[Node], Tensor]) -> Callable[[Sequence[Node]], Stimuli]:
    """The same pattern at every input."""
    return lambda nodes: {node.name: make(node) for node in nodes}


def _noise(nodes: Sequence[Node]) -> Stimuli:
    """Drawn by one generator, input after input: no two are alike."""
    draw = torch.Generator().manual_seed(0)
    return {n.name: torch.randint(_op(n).low, _op(n).high + 1, n.shape, generator=draw) for n in nodes}


_PATTERNS: dict[str, tuple[str, Callable[[Sequence[Node]], Stimuli]]] = {
    "zeros": ("every value 0: biases alone", _each(_zero)),
    "max": ("every value the highest", _each(_highest)),
    "checkerboard": ("lowest and highest in turn", _each(_checkerboard)),
    "pixel": (
        "one value of every input, in the middle of its first channel, the highest; the others 0",
        _each(_pixel),
    ),
    "noise": (
        "every value drawn evenly from all that there are: neurons that no image reaches may fire",
        _noise,
    ),
}


# Drives --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Probe:
    """One neuron that reads an input: its drive at a step is Σ weights·x + constant, the others being 0."""

    start: Node  # the input
    node: Node
    neuron: int  # flat index
    weights: Tensor  # of the input's shape, integers in float64
    constant: int  # what the other inputs bring where they cannot be 0

    @property
    def largest(self) -> float:
        """The largest drive that the input can give."""
        op = _op(self.start)
        most = (self.weights.clamp_min(0) * op.high + self.weights.clamp_max(0) * op.low).sum()
        return float(most) + self.constant

    def extreme(self, sign: int) -> Tensor:
        """What the input is shown for the largest drive of that sign."""
        op, towards = _op(self.start), self.weights * sign
        return torch.where(towards > 0, op.high, torch.where(towards < 0, op.low, 0)).long()


def _by_drive(graph: Graph, start: Node, words: _Words) -> Iterator[Sample | Absent]:
    """What drives one neuron as far as the input can, and what brings one exactly to its threshold."""
    probes = list(_probes(graph, start))
    drives = {"drive_positive": ("largest positive", 1), "drive_negative": ("largest negative", -1)}
    if not probes:
        reason = f"no population reads the input{words.name} through linear layers alone"
        yield from (Absent(f"{name}{words.suffix}", reason) for name in (*drives, "tie"))
        return
    others = {node.name: _zero(node) for node in graph.inputs}
    strongest = max(probes, key=lambda probe: probe.largest)
    for name, (what, sign) in drives.items():
        text = f"the {what} drive of neuron {strongest.neuron} of {strongest.node.name}{words.by}"
        stimulus = others | {start.name: strongest.extreme(sign)}
        yield Sample(f"{name}{words.suffix}", "corner", text, stimulus)
    found = _tie(graph, probes)
    if found is None:
        reason = f"no stimulus was found that brings a neuron exactly to its threshold{words.by}"
        yield Absent(f"tie{words.suffix}", reason)
        return
    probe, x = found
    text = f"neuron {probe.neuron} of {probe.node.name} reaches its threshold exactly{words.by}"
    yield Sample(f"tie{words.suffix}", "corner", text, others | {start.name: x})


def _probes(graph: Graph, start: Node) -> Iterator[Probe]:
    """The neuron in the middle of each channel of the first population behind an input."""
    values = {node.name: _zero(node)[None].double() for node in graph.inputs}
    values[start.name] = x = torch.zeros(1, *start.shape, dtype=torch.float64, requires_grad=True)
    for node in graph.nodes:
        if isinstance(node.op, IntegrateFire) and node.inputs[0] in values:
            drive = values[node.inputs[0]][0]
            if not drive.requires_grad:  # it reads other inputs
                continue
            for neuron in _middles(node.shape):
                (weights,) = torch.autograd.grad(drive.flatten()[neuron], x, retain_graph=True)
                yield Probe(start, node, neuron, weights[0], int(drive.flatten()[neuron]))
            return
        if isinstance(node.op, LinearOp) and all(name in values for name in node.inputs):
            values[node.name] = node.op.linear([values[name] for name in node.inputs], node.shape)


def _middles(shape: tuple[int, ...]) -> list[int]:
    """The flat index of the middle of every channel."""
    extent = torch.Size(shape[1:]).numel()
    middle = 0
    for size in shape[1:]:
        middle = middle * size + size // 2
    return [channel * extent + middle for channel in range(shape[0])]


def _tie(graph: Graph, probes: Sequence[Probe]) -> tuple[Probe, Tensor] | None:
    """A neuron, and what brings it exactly to its threshold: here `>=` and `>` differ."""
    for probe in probes:
        for drive in _drives_that_tie(graph, probe):
            x = _with_drive(probe, drive - probe.constant)
            if x is not None:
                return probe, x
    return None


def _drives_that_tie(graph: Graph, probe: Probe) -> Iterator[int]:
    """Integer drives a step that make V = θ when V is compared.

    V must rise up to then, or it is compared for the first time, or it has fired. With D = T a neuron that
    resets by subtraction comes down to θ from n·θ, too.
    """
    op, contract = probe.node.op, graph.timing
    assert isinstance(op, IntegrateFire)
    threshold, bias, initial = (
        int(values.expand(probe.node.shape).flatten()[probe.neuron])
        for values in (op.threshold, op.bias, op.initial)
    )
    scale, steps = 2**op.fraction_bits, contract.timesteps
    soonest = min(contract.delay + 1, steps)
    goals = [(threshold, elapsed) for elapsed in range(soonest, steps + 1)]
    if contract.delay == steps and contract.reset_mode is Reset.SUBTRACTION:
        goals += [(n * threshold, steps) for n in range(2, steps + 1)]
    for goal, elapsed in goals:
        drive, rest = divmod(goal - initial - elapsed * bias, elapsed * scale)
        if rest == 0 and drive > 0 and (elapsed == soonest or scale * drive + bias > 0):
            yield drive


def _with_drive(probe: Probe, drive: int) -> Tensor | None:
    """A stimulus with exactly this Σ weights·x: the largest weights first, as much of each as fits."""
    op, weights = _op(probe.start), probe.weights.flatten()
    x = torch.zeros_like(weights)
    left = drive
    for place in weights.argsort(descending=True, stable=True).tolist():
        weight = int(weights[place])
        if weight <= 0 or left == 0:
            break
        x[place] = min(op.high, left // weight)
        left -= weight * int(x[place])
    return x.reshape(probe.weights.shape).long() if left == 0 and op.low <= 0 else None
