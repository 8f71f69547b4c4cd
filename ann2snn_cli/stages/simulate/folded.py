"""Engines in torch alone, for any device: layer by layer, all steps of a layer at once, or none at all.

folded   the steps lie in the batch of every convolution; what is the same at every step is computed once;
         what only the outputs read is computed once, on sums; in 8 bits where that is proved exact
counts   D = T: a population's count has a closed form, so it takes one forward, whatever T
"""

from __future__ import annotations

from ann2snn_cli.ir.contract import Reset
from ann2snn_cli.ir.engine import Request, Simulation
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.stages.simulate.portions import (
    Plan,
    Portion,
    constant,
    read_by_outputs_alone,
    run_portions,
)


class FoldedEngine:
    """Runs every graph and answers every request."""

    name = "folded"

    def refusal(self, graph: Graph, request: Request) -> str:
        """It refuses nothing."""
        return ""

    def run(self, graph: Graph, request: Request) -> Simulation:
        """Needs SPIKING; gives what was asked for, exactly."""
        plan = Plan(graph, request, read_by_outputs_alone(graph, request))
        return run_portions(self.name, plan, Portion)


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
        plan = Plan(graph, request, frozenset(node.name for node in graph.nodes) - constant(graph))
        return run_portions(self.name, plan, Portion)
