"""A few samples at a time, node by node, all steps of a node at once: what the quick engines share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Protocol

import torch
from torch import Tensor

from ann2snn_cli import trees
from ann2snn_cli.ir.bounds import Bound, bounds
from ann2snn_cli.ir.contract import Contract, Reset
from ann2snn_cli.ir.engine import Request, Simulation
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.memory import refuse_too_long
from ann2snn_cli.ir.ops import Activity, Add, AvgPool, Input, Integrate, IntegrateFire, MaxPool, Synapse
from ann2snn_cli.ir.ops.base import LinearOp, Place
from ann2snn_cli.ir.ops.moves import Move
from ann2snn_cli.ir.precision import EXACT_FLOAT32, exact_dtypes, plain_arithmetic
from ann2snn_cli.ir.run import bind_inputs
from ann2snn_cli.ir.span import Span
from ann2snn_cli.stages.simulate import int8, pools
from ann2snn_cli.stages.simulate.answer import joined

TRAIN_ELEMENTS = 1 << 22  # of the widest layer at once: a few samples, whose trains fit a large cache
COUNTED_ELEMENTS = 1 << 16  # of neurons that are counted at once on a CPU
TRAIN_ELEMENTS_ON_A_GPU = 1 << 25  # and so many that a GPU is busy


class Passed(Protocol):
    """What a node passes on; of neurons also their potentials, if they were asked for."""

    @property
    def train(self) -> Tensor:
        """[T, batch, ...]; or [1, batch, ...]: one step, where all are the same, or the sum of all."""

    @property
    def potentials(self) -> Tensor | None:
        """[T, batch, ...]."""


def read_by_outputs_alone(graph: Graph, request: Request) -> frozenset[str]:
    """Nodes of which only the sum over all steps counts: no population reads what they pass on."""
    summed: set[str] = set()
    if request.by_step or request.watch is not None:
        return frozenset()
    for node in reversed(graph.nodes):
        users = graph.users[node.name]
        if not isinstance(node.op, IntegrateFire) and all(user.name in summed for user in users):
            summed.add(node.name)
    return frozenset(summed)


def constant(graph: Graph) -> frozenset[str]:
    """Nodes that pass on the same at every step: samples, and what is linear in these alone."""
    found: set[str] = set()
    for node in graph.nodes:
        passes = isinstance(node.op, LinearOp) and found.issuperset(node.inputs)
        if passes or (isinstance(node.op, Input) and node.op.is_constant):
            found.add(node.name)
    return frozenset(found)


def run_portions(name: str, plan: Plan, kind: type[Portion]) -> Simulation:
    """Take the samples a portion at a time through the graph; what came out, under the engine's name."""
    graph, request = plan.graph, plan.request
    given = bind_inputs(graph, request.inputs)
    if plan.has_trains:
        refuse_too_long(graph, next(iter(given.values())).device)
    with torch.no_grad(), plain_arithmetic():
        portions = [kind(plan, part) for part in _portions(plan, given)]
        # Who revises a node has to see all samples of it: then all portions go on node by node.
        for together in [portions] if request.revise is not None else [[portion] for portion in portions]:
            for node in graph.nodes:
                if node.name in plan.reads:
                    _advance(plan, node, together)
    return joined(graph, request, [(part.outputs, part.counts) for part in portions], name)


def _advance(plan: Plan, node: Node, portions: list[Portion]) -> None:
    values = [portion.compute(node) for portion in portions]
    if isinstance(node.op, IntegrateFire | Integrate) and plan.request.revise is not None:
        totals = [portion.total(node, value) for portion, value in zip(portions, values, strict=True)]
        revised = plan.request.revise(node, torch.cat(totals))
        if revised is not node:
            plan.admit(node, revised)
            values = [portion.compute(revised) for portion in portions]
    for portion, value in zip(portions, values, strict=True):
        portion.keep(node, value)


def portion_size(graph: Graph, steps: int) -> int:
    """How many samples are stepped at once."""
    on_a_gpu = graph.device is not None and graph.device.type == "cuda"
    return max(1, (TRAIN_ELEMENTS_ON_A_GPU if on_a_gpu else TRAIN_ELEMENTS) // (graph.widest * steps))


def device_of(graph: Graph, request: Request) -> torch.device:
    """Where it is computed: where its weights are; without any, where the samples are."""
    if graph.device is not None:
        return graph.device
    return next((x.device for x in trees.leaves(request.inputs)), torch.device("cpu"))


def _portions(plan: Plan, given: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    size, samples = plan.portion_size, len(next(iter(given.values())))
    for start in range(0, max(1, samples), size):  # no samples are one portion too
        yield {name: x[start : start + size] for name, x in given.items()}


@dataclass(eq=False)
class Plan:
    """What is the same for all portions: where sums are enough, and which numbers are exact."""

    graph: Graph
    request: Request
    summed: frozenset[str]
    contract: Contract = field(init=False)
    dtypes: dict[str, torch.dtype] = field(init=False)
    bounds: dict[str, Bound] = field(init=False)
    reads: dict[str, tuple[str, ...]] = field(init=False)  # of every node that is computed, what it reads
    last_reader: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.contract = self.graph.timing.with_delay(self.request.delay)
        self.bounds = bounds(self.graph, self.contract.delay)
        self.dtypes = exact_dtypes(self.graph, self.contract.delay, self.summed)
        self.reads = self._reads()
        self.last_reader = {name: node for node, names in self.reads.items() for name in (node, *names)}

    def _reads(self) -> dict[str, tuple[str, ...]]:
        return {node.name: node.inputs for node in self.graph.nodes}

    @property
    def portion_size(self) -> int:
        """How many samples are stepped at once."""
        return portion_size(self.graph, self.contract.timesteps if self.has_trains else 1)

    @property
    def has_trains(self) -> bool:
        """Is there a node of which every step is computed?"""
        return not self.summed.union(constant(self.graph)).issuperset(node.name for node in self.graph.nodes)

    def place(self, node: Node) -> Place:
        """Where an op stands, with what is asked of it."""
        keep = self.request.watch is not None and self.request.potentials
        return self.graph.place(node, contract=self.contract, keeps_potentials=keep)

    def product(self, node: Node) -> int8.Product | None:
        """The synapse in 8-bit integers, where that is exact."""
        if not isinstance(node.op, Synapse) or node.name in self.graph.real:
            return None
        return int8.product(node.op, *self.spans(node))

    def spans(self, node: Node) -> tuple[Span, Span]:
        """What it is given at once, and what it gives: sums over all steps, or what is passed on in one."""
        given, gives = (self.bounds[name] for name in ((*node.inputs, node.name)[0], node.name))
        return (given.total, gives.total) if node.name in self.summed else (given.passed_on, gives.passed_on)

    def admit(self, node: Node, revised: Node) -> None:
        """Another bias was not in the proof: float64 where it is larger than what the proof leaves free."""
        if self.bounds[node.name].largest + self.change(node, revised) >= EXACT_FLOAT32:
            self.dtypes[node.name] = torch.float64

    def change(self, node: Node, revised: Node) -> float:
        """By how much another bias can change a potential."""
        return sum(
            times * _change(getattr(node.op, name), getattr(revised.op, name))
            for name, times in (("bias", self.contract.timesteps), ("initial", 1))
        )

    def total_dtype(self, node: Node) -> torch.dtype:
        """The narrowest type that holds the sum over all steps of what a node passes on."""
        if node.name in self.summed:
            return self.dtypes[node.name]
        is_small = node.name not in self.graph.real and self.bounds[node.name].total.reach < EXACT_FLOAT32
        return torch.float32 if is_small and not self.graph.has_float_weights else torch.float64


@dataclass(eq=False)
class Portion:
    """A few samples on their way through the graph."""

    plan: Plan
    given: dict[str, Tensor]
    values: dict[str, Passed] = field(default_factory=dict)
    counts: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)

    def compute(self, node: Node) -> Passed:
        """What the node makes of what it reads."""
        plan = self.plan
        dtype = plan.dtypes[node.name]
        if isinstance(node.op, Input):
            given, steps = self.given[node.name], plan.contract.timesteps
            is_summed = node.name in plan.summed
            shown = node.op.total(given, steps)[None] if is_summed else node.op.shown(given, steps)
            return Activity(shown.to(dtype))
        if node.name in plan.summed:
            return Activity(self._of_sums(node)[None])
        trains = [self.values[name].train for name in node.inputs]
        if isinstance(node.op, LinearOp):
            return Activity(self._linear(node, trains))
        if isinstance(node.op, IntegrateFire):
            return _fire(node.op, trains[0], dtype, plan.place(node))
        if self._pools_bytes(node, trains[0]):
            assert isinstance(node.op, MaxPool)
            return Activity(pools.largest(node.op, trains[0], node.shape))
        steps = plan.contract.timesteps
        return node.op.train([_spread(train, steps).to(dtype) for train in trains], plan.place(node))

    def _of_sums(self, node: Node) -> Tensor:
        """Sums of what it reads are enough for it. Counts that fit are bytes."""
        plan, feeders = self.plan, self.plan.graph.fed_by(node)
        if isinstance(node.op, IntegrateFire):
            return self._count(node, feeders[0])
        totals = [
            self.values[feeder.name].train[0]
            if feeder.name in plan.summed
            else self.total(feeder, self.values[feeder.name])
            for feeder in feeders
        ]
        if self._pools_bytes(node, totals[0]):
            assert isinstance(node.op, MaxPool)
            return pools.largest(node.op, totals[0][None], node.shape)[0]
        return self._product(node, totals)

    def _count(self, node: Node, feeder: Node) -> Tensor:
        """How often neurons fire, in closed form: of a few samples at once, which stay in a cache."""
        plan, train = self.plan, self.values[feeder.name].train
        fit = plan.bounds[node.name].total.high <= pools.LARGEST
        counts = torch.empty_like(train[0], dtype=torch.uint8 if fit else plan.dtypes[node.name])
        dtype = torch.promote_types(plan.dtypes[node.name], plan.total_dtype(feeder))
        size = max(1, COUNTED_ELEMENTS // prod(node.shape)) if counts.device.type == "cpu" else len(counts)
        for some, found in zip(torch.split(train, size, 1), torch.split(counts, size), strict=True):
            found.copy_(node.op.sums([self.total(feeder, Activity(some)).to(dtype)], plan.place(node)))
        return counts

    def _pools_bytes(self, node: Node, train: Tensor) -> bool:
        is_pool = isinstance(node.op, MaxPool) and train.dtype == torch.uint8
        return is_pool and self.plan.bounds[node.inputs[0]].total.high <= pools.LARGEST

    def total(self, node: Node, passed: Passed) -> Tensor:
        """The sum over all steps of what a node passed on."""
        train, dtype = passed.train, self.plan.total_dtype(node)
        if node.name in self.plan.summed:  # it is one already
            return train[0].to(dtype)
        if len(train) == 1:
            return train[0].to(dtype) * self.plan.contract.timesteps
        return train.sum(0, dtype=dtype)

    def keep(self, node: Node, passed: Passed) -> None:
        """Hand out what was asked for, and hold what is read later on."""
        plan = self.plan
        if isinstance(node.op, IntegrateFire | Integrate):
            if plan.request.watch is not None:
                shown = _spread(passed.train, plan.contract.timesteps).to(plan.dtypes[node.name])
                plan.request.watch(node, Activity(shown, passed.potentials))
            if plan.request.counts:
                self.counts[node.name] = self.total(node, passed)
        if node.name in plan.graph.outputs:
            self.outputs[node.name] = self._output(node, passed)
        self.values[node.name] = passed
        for name in {*plan.reads[node.name], node.name}:
            if plan.last_reader[name] == node.name:
                del self.values[name]

    def _output(self, node: Node, passed: Passed) -> Tensor:
        if not self.plan.request.by_step:
            return self.total(node, passed).double()
        return _spread(passed.train, self.plan.contract.timesteps).double().cumsum(0)

    def _linear(self, node: Node, trains: list[Tensor]) -> Tensor:
        """The steps lie in the batch."""
        steps = max(len(train) for train in trains)
        flat = self._product(node, [_spread(train, steps).flatten(0, 1) for train in trains])
        return flat.reshape(steps, trains[0].shape[1], *flat.shape[1:])

    def _product(self, node: Node, xs: list[Tensor]) -> Tensor:
        plan, op = self.plan, node.op
        if isinstance(op, Move) and len({x.dtype for x in xs}) == 1:
            return op.linear(xs, node.shape)
        product = plan.product(node)
        if product is not None:
            return product(xs[0].to(torch.uint8)).to(plan.dtypes[node.name])
        xs = [x.to(plan.dtypes[node.name]) for x in xs]
        if not isinstance(op, LinearOp):
            return op.sums(xs, plan.place(node))
        y = _weighted_sum(op, xs) if isinstance(op, Add) else op.linear(xs, node.shape)
        if isinstance(op, Synapse | AvgPool) and y.dtype == torch.float32:
            y.round_()  # as `LinearOp.train` does: on some devices it is a sum of products only almost
        return y


def _weighted_sum(op: Add, xs: list[Tensor]) -> Tensor:
    """What `Add.linear` says, with no tensor between."""
    assert op.weights is not None
    first, *others = zip(op.weights, xs, strict=True)
    y = first[1] * first[0].to(first[1].dtype)
    for weight, x in others:
        y.addcmul_(x, weight.to(x.dtype))
    return y


def _spread(train: Tensor, steps: int) -> Tensor:
    """One step that stands for all, as all."""
    return train if len(train) == steps else train.expand(steps, *train.shape[1:])


def _fire(op: IntegrateFire, charges: Tensor, dtype: torch.dtype, place: Place) -> Activity:
    """What `IntegrateFire.train` says, in buffers that are used again: spikes in bytes, as 0 and 1."""
    contract = place.contract
    steps, delay = contract.timesteps, contract.delay
    initial, bias, threshold = (value.to(dtype) for value in (op.initial, op.bias, op.threshold))
    charges = _spread(charges.to(dtype), steps)
    factor = 2**op.fraction_bits
    potential = torch.zeros_like(charges[0]).add_(initial + delay * bias)
    if delay:
        potential.add_(charges[:delay].sum(0), alpha=factor)
    fired = torch.empty_like(potential)
    spikes = torch.empty_like(charges, dtype=torch.uint8)
    potentials = torch.empty_like(charges) if place.keeps_potentials else None
    for step in range(delay, delay + steps):
        if step < steps:
            potential.add_(charges[step], alpha=factor).add_(bias)
        torch.ge(potential, threshold, out=fired)
        if contract.reset_mode is Reset.SUBTRACTION:
            potential.addcmul_(fired, threshold, value=-1)
        else:
            potential.addcmul_(potential, fired, value=-1)
        spikes[step - delay].copy_(fired)
        if potentials is not None:
            potentials[step - delay].copy_(potential)
    return Activity(spikes, potentials)


def _change(before: Tensor | None, after: Tensor | None) -> float:
    """The largest change of a value; none at all is zero."""
    if before is None or after is None:
        return max((float(each.abs().max()) for each in (before, after) if each is not None), default=0.0)
    return float((after - before).abs().max())
