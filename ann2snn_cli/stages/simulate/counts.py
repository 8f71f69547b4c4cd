"""The engine `counts`, D = T: a population's count has a closed form, so it takes one forward, whatever T.

On a CPU a convolution and the population behind it are one pass over bytes, where that is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from ann2snn_cli.ir.contract import Reset
from ann2snn_cli.ir.engine import Request, Simulation
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import Activity
from ann2snn_cli.stages.simulate.layers import Layer, layer_of
from ann2snn_cli.stages.simulate.portions import (
    Passed,
    Plan,
    Portion,
    constant,
    device_of,
    run_portions,
)


class CountsEngine:
    """Runs what resets by subtraction and integrates all of its input before it fires."""

    name = "counts"

    def refusal(self, graph: Graph, request: Request) -> str:
        """It knows no steps: neither other delays, nor trains."""
        contract = graph.timing.with_delay(request.delay)
        if contract.delay != contract.timesteps:
            return f"a closed form holds for the delay {contract.timesteps} alone"
        if contract.reset_mode is not Reset.SUBTRACTION:
            return "a closed form holds for reset by subtraction alone"
        if request.by_step or request.watch is not None:
            return "spikes are asked for step by step"
        return ""

    def run(self, graph: Graph, request: Request) -> Simulation:
        """Needs SPIKING; gives what was asked for, exactly."""
        plan = CountsPlan(graph, request, frozenset(node.name for node in graph.nodes) - constant(graph))
        return run_portions(self.name, plan, CountsPortion)


@dataclass(eq=False)
class CountsPlan(Plan):
    """Which populations end a layer that is computed in one pass."""

    layers: dict[str, Layer] = field(init=False)

    def _reads(self) -> dict[str, tuple[str, ...]]:
        """A layer reads for the nodes within it. Whose bias may yet change is computed node by node."""
        self.layers = {}
        if self.request.revise is None and device_of(self.graph, self.request).type == "cpu":
            found = ((node.name, layer_of(self, node)) for node in self.graph.nodes)
            self.layers = {name: layer for name, layer in found if layer is not None}
        inner = {name for layer in self.layers.values() for name in layer.inner}
        return {
            node.name: self.layers[node.name].reads if node.name in self.layers else node.inputs
            for node in self.graph.nodes
            if node.name not in inner
        }


@dataclass(eq=False)
class CountsPortion(Portion):
    """A few samples, of which sums are enough."""

    plan: CountsPlan

    def compute(self, node: Node) -> Passed:
        """Of a layer the counts at its end."""
        layer = self.plan.layers.get(node.name)
        if layer is None:
            return super().compute(node)
        read, *others = layer.reads
        x = self.values[read].train[0]
        return Activity(layer.counts(x, *(self._added(name) for name in others))[None])

    def _added(self, name: str) -> Tensor:
        """Bytes as they are."""
        passed = self.values[name]
        is_sum = name in self.plan.summed
        return passed.train[0] if is_sum else self.total(self.plan.graph[name], passed)
