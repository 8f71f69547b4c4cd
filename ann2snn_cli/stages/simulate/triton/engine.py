"""The engine of neurons in Triton: a population's neurons over all steps in one kernel, on a GPU.

What charges them, and everything else, is computed as the folded engine does, whose sums are exact on a GPU
too: 8-bit integers, or plain sums (`ir/precision.py`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib.util import find_spec

import torch
from torch import Tensor

from ann2snn_cli.ir.engine import Request, Simulation
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import IntegrateFire, MaxPool
from ann2snn_cli.ir.ops.moves import Move
from ann2snn_cli.stages.simulate.portions import (
    Passed,
    Plan,
    Portion,
    device_of,
    read_by_outputs_alone,
    run_portions,
)
from ann2snn_cli.stages.simulate.triton import neurons
from ann2snn_cli.stages.simulate.triton.neurons import LARGEST, Fired, Types

INTERPRETER = "TRITON_INTERPRET"  # of the environment, when Triton is imported: 1 runs kernels on a CPU


def is_interpreted() -> bool:
    """Does Triton's interpreter run kernels, on any device, to test them? It is slow."""
    return os.environ.get(INTERPRETER) == "1"


class TritonEngine:
    """Runs what has populations of integers, on a GPU, and answers every request."""

    name = "triton"

    def refusal(self, graph: Graph, request: Request) -> str:
        """It needs a GPU, and Triton, which comes with torch on Linux."""
        device = device_of(graph, request)
        if device.type != "cuda" and not is_interpreted():
            return f"it runs on a GPU, and the network is on {device}"
        if graph.has_float_weights:
            return "the network has float weights"
        if not any(_is_whole(graph, node) for node in graph):
            return "the network has no populations of integers"
        if find_spec("triton") is None:
            return "Triton is not installed"
        return neurons.problem(device)

    def run(self, graph: Graph, request: Request) -> Simulation:
        """Needs SPIKING; gives what was asked for, exactly."""
        plan = TritonPlan(graph, request, read_by_outputs_alone(graph, request))
        return run_portions(self.name, plan, TritonPortion)


@dataclass(eq=False)
class TritonPlan(Plan):
    """In which types the kernel runs which populations."""

    types: dict[str, Types] = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = [node for node in self.graph if _is_whole(self.graph, node)]
        self.types = {node.name: self._types(node) for node in whole}

    def admit(self, node: Node, revised: Node) -> None:
        """Another bias: 64 bits where 32 may not hold what it makes of the potential."""
        super().admit(node, revised)
        if node.name in self.types:
            self.types[node.name] = self._types(node, self.change(node, revised))

    def _types(self, node: Node, change: float = 0.0) -> Types:
        """32 bits where they hold every potential: then also a charge and a bias, which are parts of it."""
        potential = self.bounds[node.name].potential
        assert potential is not None
        return Types(
            torch.int32 if potential.reach + change < LARGEST[torch.int32] else torch.int64,
            self._read_as(node),
            self.dtypes[node.name] if self.place(node).keeps_potentials else None,
        )

    def _read_as(self, node: Node) -> torch.dtype:
        """The type in which all nodes that read its train read it; bytes where they differ."""
        read = {
            torch.uint8
            if isinstance(user.op, Move | MaxPool) or self.product(user) is not None
            else self.dtypes[user.name]
            for user in self.graph.users[node.name]
            if user.name not in self.summed  # those read counts
        }
        return read.pop() if len(read) == 1 else torch.uint8


class TritonPortion(Portion):
    """A few samples on their way through the kernel."""

    plan: TritonPlan

    def compute(self, node: Node) -> Passed:
        """By the kernel, where it can."""
        types = self.plan.types.get(node.name)
        if types is None:
            return super().compute(node)
        assert isinstance(node.op, IntegrateFire)
        return neurons.fire(node.op, self.values[node.inputs[0]].train, self.plan.contract, types)

    def total(self, node: Node, passed: Passed) -> Tensor:
        """The kernel has counted spikes already."""
        if isinstance(passed, Fired):
            return passed.counts.to(self.plan.total_dtype(node))
        return super().total(node, passed)


def _is_whole(graph: Graph, node: Node) -> bool:
    """Is it a population that adds up integers?"""
    return isinstance(node.op, IntegrateFire) and not graph.real.intersection((node.name, *node.inputs))
