"""The engine `folded`, in torch alone, for any device: layer by layer, all steps of a layer at once.

The steps lie in the batch of every convolution. What is the same at every step is computed once, and what
only the outputs read once, on sums; in 8 bits where that is proved exact.
"""

from __future__ import annotations

from ann2snn_cli.ir.engine import Request, Simulation
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.stages.simulate.portions import (
    Plan,
    Portion,
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
