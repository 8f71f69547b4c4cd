"""What is shown to the network: real samples, and corner cases that real ones leave out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ann2snn_cli.ir.contract import Reset
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import Input, IntegrateFire
from ann2snn_cli.ir.ops.base import LinearOp


@dataclass(frozen=True, eq=False)
class Sample:
    """One stimulus: the input's integers, and why it is there."""

    name: str
    kind: str  # real or corner
    what: str
    stimulus: Tensor  # int64, in the input's shape
    label: int | None = None


@dataclass(frozen=True)
class Absent:
    """A corner case that this network does not have."""

    name: str
    reason: str


def corner_samples(graph: Graph) -> Iterator[Sample | Absent]:
    """The corner cases that need no data, in a fixed order."""
    (node,) = graph.inputs
    assert isinstance(node.op, Input)
    for name, (what, make) in _PATTERNS.items():
        yield Sample(name, "corner", what, make(node.shape, node.op).long())
    probe = _strongest_neuron(graph)
    if probe is None:
        reason = "no population reads the input through linear layers alone"
        yield from (Absent(name, reason) for name in ("drive_positive", "drive_negative", "tie"))
        return
    for name, what, sign in (
        ("drive_positive", "largest positive", 1),
        ("drive_negative", "largest negative", -1),
    ):
        text = f"the {what} drive of neuron {probe.neuron} of {probe.node.name}"
        towards = probe.weights * sign
        extreme = torch.where(towards > 0, node.op.high, torch.where(towards < 0, node.op.low, 0))
        yield Sample(name, "corner", text, extreme.long())
    yield _tie(graph)


# Patterns ------------------------------------------------------------------------------------------


def _zeros(shape: tuple[int, ...], op: Input) -> Tensor:
    return torch.zeros(shape).clamp(op.low, op.high)


def _full(shape: tuple[int, ...], op: Input) -> Tensor:
    return torch.full(shape, op.high)


def _checkerboard(shape: tuple[int, ...], op: Input) -> Tensor:
    places = torch.meshgrid(*(torch.arange(extent) for extent in shape), indexing="ij")
    odd = torch.stack(places).sum(0) % 2 == 1
    return torch.where(odd, op.high, op.low)


def _pixel(shape: tuple[int, ...], op: Input) -> Tensor:
    x = _zeros(shape, op)
    x.view(-1)[_middles(shape)[0]] = op.high
    return x


def _noise(shape: tuple[int, ...], op: Input) -> Tensor:
    return torch.randint(op.low, op.high + 1, shape, generator=torch.Generator().manual_seed(0))


_PATTERNS: dict[str, tuple[str, Callable[[tuple[int, ...], Input], Tensor]]] = {
    "zeros": ("every value 0: biases alone", _zeros),
    "max": ("every value the highest", _full),
    "checkerboard": ("lowest and highest in turn", _checkerboard),
    "pixel": ("one value, in the middle of the first channel, the highest; the others 0", _pixel),
    "noise": (
        "every value drawn evenly from all that there are: neurons that no image reaches may fire",
        _noise,
    ),
}


# Drives --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Probe:
    """One neuron that reads the input: its drive at a step is Σ weights·x + constant."""

    node: Node
    neuron: int  # flat index
    weights: Tensor  # of the input's shape, integers in float64
    constant: int

    def largest(self, op: Input) -> float:
        """The largest drive that an input can give."""
        return float((self.weights.clamp_min(0) * op.high + self.weights.clamp_max(0) * op.low).sum())


def _probes(graph: Graph) -> Iterator[Probe]:
    """Of the first population behind the input, a neuron in the middle of each channel."""
    (start,) = graph.inputs
    x = torch.zeros(1, *start.shape, dtype=torch.float64, requires_grad=True)
    values: dict[str, Tensor] = {start.name: x}
    for node in graph.nodes:
        if isinstance(node.op, IntegrateFire) and node.inputs[0] in values:
            drive = values[node.inputs[0]][0]
            for neuron in _middles(node.shape):
                (weights,) = torch.autograd.grad(drive.flatten()[neuron], x, retain_graph=True)
                yield Probe(node, neuron, weights[0], int(drive.flatten()[neuron]))
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


def _strongest_neuron(graph: Graph) -> Probe | None:
    (start,) = graph.inputs
    assert isinstance(start.op, Input)
    op = start.op
    return max(_probes(graph), key=lambda probe: probe.largest(op), default=None)


def _tie(graph: Graph) -> Sample | Absent:
    """A stimulus that brings one neuron exactly to its threshold: here `>=` and `>` differ."""
    (start,) = graph.inputs
    assert isinstance(start.op, Input)
    for probe in _probes(graph):
        for drive in _drives_that_tie(graph, probe):
            stimulus = _with_drive(probe, drive - probe.constant, start.op)
            if stimulus is not None:
                text = f"neuron {probe.neuron} of {probe.node.name} reaches its threshold exactly"
                return Sample("tie", "corner", text, stimulus)
    return Absent("tie", "no stimulus was found that brings a neuron exactly to its threshold")


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


def _with_drive(probe: Probe, drive: int, op: Input) -> Tensor | None:
    """A stimulus with exactly this Σ weights·x: the largest weights first, as much of each as fits."""
    weights = probe.weights.flatten()
    x = torch.zeros_like(weights)
    left = drive
    for place in weights.argsort(descending=True, stable=True).tolist():
        weight = int(weights[place])
        if weight <= 0 or left == 0:
            break
        x[place] = min(op.high, left // weight)
        left -= weight * int(x[place])
    return x.reshape(probe.weights.shape).long() if left == 0 and op.low <= 0 else None
