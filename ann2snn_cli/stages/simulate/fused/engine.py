"""The engine of compiled neurons: a population and what charges it in one kernel, on a CPU.

Everything else, first currents and read-outs among it, is computed as the folded engine does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ann2snn_cli.errors import Setting, UnsupportedNetwork
from ann2snn_cli.ir.contract import Reset
from ann2snn_cli.ir.engine import Request, Simulation
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import AvgPool, Integrate, IntegrateFire, MaxPool
from ann2snn_cli.ir.ops.moves import Move
from ann2snn_cli.stages.simulate.fused import interface, native
from ann2snn_cli.stages.simulate.fused.moves import moved
from ann2snn_cli.stages.simulate.fused.packed import (
    Packed,
    channels_of,
    filled,
    laid,
    parameters,
    pixels_of,
)
from ann2snn_cli.stages.simulate.fused.terms import Term, terms
from ann2snn_cli.stages.simulate.fused.windows import windows
from ann2snn_cli.stages.simulate.portions import (
    Passed,
    Plan,
    Portion,
    device_of,
    read_by_outputs_alone,
    run_portions,
)

LARGEST_POTENTIAL = 2**31 - 1
TRAIN_BYTES = 1 << 23  # of the widest layer at once: enough samples for weights to be read seldom


class FusedEngine:
    """Runs what has populations whose potentials are integers of 32 bits, and answers every request."""

    name = "fused"

    def refusal(self, graph: Graph, request: Request) -> str:
        """It needs a C compiler and a CPU."""
        if (device := device_of(graph, request)).type != "cpu":
            return f"it runs on a CPU, and the network is on {device}"
        if graph.has_float_weights:
            return "the network has float weights"
        if not any(node.op.fires for node in graph):
            return "the network has no populations"
        return native.unavailable()

    def run(self, graph: Graph, request: Request) -> Simulation:
        """Needs SPIKING; gives what was asked for, exactly."""
        plan = FusedPlan(graph, request, read_by_outputs_alone(graph, request))
        return run_portions(self.name, plan, FusedPortion)


@dataclass(eq=False)
class FusedPlan(Plan):
    """Which nodes the kernel computes, and which are never computed by themselves."""

    terms: dict[str, list[Term]] = field(init=False)  # of the populations that the kernel runs
    packed: set[str] = field(init=False)  # nodes that pass on bytes

    @property
    def portion_size(self) -> int:
        """How many samples are stepped at once."""
        return max(1, TRAIN_BYTES // (self.graph.widest * self.contract.timesteps))

    def _reads(self) -> dict[str, tuple[str, ...]]:
        """A population reads what its terms read; what nobody reads is left out."""
        self.terms, self.packed = {}, set()
        reads = {}
        for node in self.graph.nodes:
            reads[node.name] = self._admitted(node)
        needed = set(self.graph.outputs)
        for node in reversed(self.graph.nodes):
            if node.name in needed or isinstance(node.op, IntegrateFire | Integrate):
                needed.update((node.name, *reads[node.name]))
        return {name: names for name, names in reads.items() if name in needed}

    def _admitted(self, node: Node) -> tuple[str, ...]:
        """What it reads, if the kernel computes it or if not."""
        if isinstance(node.op, IntegrateFire):
            found = terms(self.graph, node.inputs[0], self.packed)
            if self._fits(node, found):
                self.terms[node.name] = found
                self.packed.add(node.name)
                return tuple(term.reads for term in found)
        elif self._stays_packed(node):
            self.packed.add(node.name)
        return node.inputs

    def admit(self, node: Node, revised: Node) -> None:
        """Another bias may make of a potential what 32 bits do not hold."""
        super().admit(node, revised)
        if node.name in self.terms and not self._holds(node, self.change(node, revised)):
            raise UnsupportedNetwork(
                "a corrected bias is too large for neurons of 32 bits",
                where=node.source or node.name,
                remedy=f"name another engine: {Setting('engine', 'folded')}",
            )

    def _holds(self, node: Node, change: float = 0.0) -> bool:
        potential = self.bounds[node.name].potential
        return potential is not None and potential.reach + change < LARGEST_POTENTIAL

    def _fits(self, node: Node, found: list[Term]) -> bool:
        if not self._holds(node) or not node.shape:
            return False
        currents = [term.reads for term in found if term.kind == interface.CURRENT]
        return not any(
            name in self.graph.real or self.bounds[name].passed_on.reach >= LARGEST_POTENTIAL
            for name in currents
        )

    def _stays_packed(self, node: Node) -> bool:
        if node.name in self.summed or not node.shape or not self.packed.issuperset(node.inputs):
            return False
        bound = self.bounds[node.name].passed_on
        is_small = bound.low >= 0 and bound.high <= interface.LARGEST_INPUT
        pooled = self.graph[node.inputs[0]].shape if node.inputs else ()
        if isinstance(node.op, AvgPool | MaxPool):
            return is_small and len(pooled) == len(node.op.kernel) + 1
        return is_small and isinstance(node.op, Move)


class FusedPortion(Portion):
    """A few samples on their way through the kernel."""

    plan: FusedPlan

    def compute(self, node: Node) -> Passed:
        """By the kernel, where it can."""
        if node.name in self.plan.terms:
            return self._fire(node)
        if node.name not in self.plan.packed:
            return super().compute(node)
        given = [self._packed(name) for name in node.inputs]
        if isinstance(node.op, AvgPool | MaxPool):
            return self._pool(node, node.op, given[0])
        assert isinstance(node.op, Move)
        return moved(node.op, given, node.shape)

    def total(self, node: Node, passed: Passed) -> Tensor:
        """The kernel has counted spikes already."""
        if isinstance(passed, Packed):
            return passed.total.to(self.plan.total_dtype(node))
        return super().total(node, passed)

    def _packed(self, name: str) -> Packed:
        value = self.values[name]
        assert isinstance(value, Packed)
        return value

    def _fire(self, node: Node) -> Packed:
        op, plan = node.op, self.plan
        assert isinstance(op, IntegrateFire)
        steps = plan.contract.timesteps
        readings = [self._reading(term) for term in plan.terms[node.name]]
        images = len(readings[0][1])
        size = (images, pixels_of(node.shape), filled(steps, interface.STEPS))
        channels = filled(channels_of(node.shape), interface.LANES)
        passed = Packed(torch.empty(*size, channels, dtype=torch.uint8), node.shape, steps)
        passed.counts = torch.empty(*size[:2], channels, dtype=torch.int32)
        if plan.place(node).keeps_potentials:
            passed.held = torch.empty(passed.values.shape, dtype=torch.int32)
        threshold = parameters(op.threshold.clamp(max=LARGEST_POTENTIAL), node.shape, LARGEST_POTENTIAL)
        values = [threshold, *(parameters(value, node.shape, 0) for value in (op.bias, op.initial))]
        rows = max(len(value) for value in values)
        values = [value.expand(rows, -1).contiguous() for value in values]
        held = (interface.Term * len(readings))(*(reading[0] for reading in readings))
        request = interface.Population(
            images, size[1], channels, steps, size[2], plan.contract.delay,
            op.fraction_bits, plan.contract.reset_mode is Reset.ZERO, channels if rows > 1 else 0,
            *(value.data_ptr() for value in values), passed.values.data_ptr(), passed.counts.data_ptr(),
            None if passed.held is None else passed.held.data_ptr(), len(readings), held,
        )  # fmt: skip
        native.run("fire", request, images * size[1] * channels // interface.LANES)
        return passed

    def _reading(self, term: Term) -> tuple[interface.Term, Tensor]:
        """A term as the kernel takes it, with the values that it reads, which have to live on."""
        if term.kind == interface.CURRENT:
            node = self.plan.graph[term.reads]
            train = self.values[term.reads].train
            values = laid(train, node.shape, torch.int32, len(train))
            largest = 0
        else:
            values = self._packed(term.reads).values
            largest = max(1, int(self.plan.bounds[term.reads].passed_on.high))
        _, pixels, steps, channels = values.shape
        return interface.Term(
            term.kind, term.taps, term.words, term.run(largest),
            pixels * steps * channels, steps * channels, channels if steps > 1 else 0,
            values.data_ptr(), _pointer(term.sources), _pointer(term.first), _pointer(term.weights),
            _pointer(term.factors),
        ), values  # fmt: skip

    def _pool(self, node: Node, op: AvgPool | MaxPool, given: Packed) -> Packed:
        images, pixels, steps, channels = given.values.shape
        taps = windows(op, given.shape, node.shape)
        values = torch.empty(images, len(taps), steps, channels, dtype=torch.uint8)
        request = interface.Pool(
            images, len(taps), channels, steps, pixels * steps * channels,
            int(self.plan.bounds[node.inputs[0]].total.high),
            taps.shape[1], isinstance(op, MaxPool),
            given.values.data_ptr(), taps.data_ptr(), values.data_ptr(),
        )  # fmt: skip
        native.run("pool", request, images * len(taps))
        return Packed(values, node.shape, given.steps)


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
