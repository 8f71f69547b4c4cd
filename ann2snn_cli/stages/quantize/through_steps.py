"""The forward pass of finetuning through the real time steps: what the neurons of the delay in use fire.

Values are those of the simulation, so that training sees every error of timing: spikes that come too late, or
too early and cannot be taken back, and the charge that a reset to zero throws away. Gradients are those of
the closed form at these values: the number of spikes follows the charge, whatever the order it came in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ann2snn_cli.ir.engine import Request, Run
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.ir.integers import integers
from ann2snn_cli.ir.run import run_counts
from ann2snn_cli.types import Inputs, Outputs


@dataclass(frozen=True)
class ThroughSteps:
    """A forward pass for `finetune`: an engine runs the network as it stands, then gradients follow."""

    threshold: Callable[[Graph], Graph]  # QUANTIZED -> SPIKING
    engine: Run

    def __call__(self, graph: Graph, x: Inputs) -> Outputs:
        """The outputs of the SNN at the graph's own delay and reset."""
        with torch.no_grad():
            fired = self.engine(self.threshold(graph), Request(x, counts=True)).counts
        return run_counts(integers(graph), x, fired=fired)
