"""The seam for engines: what is asked of anything that steps a SPIKING graph, and what it answers.

`stages/simulate` holds the engines, one file each; `reference` is the definition that all others equal, spike
for spike and potential for potential. Who needs counts asks for counts; whole trains are only handed out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import Activity
from ann2snn_cli.types import Inputs

Watch = Callable[[Node, Activity], None]
Revise = Callable[[Node, Tensor], Node]


@dataclass(frozen=True, eq=False)
class Request:
    """A simulation that is asked for.

    `watch(node, activity)` is shown the train of every population and read-out, and its potentials where
    `potentials` asks for them, a portion of the samples at a time, in the order of the samples.
    `revise(node, counts)` is shown the counts of all samples of every population and read-out as soon as they
    are known, and gives the node to go on with: another one is fired again, and what reads it sees that.
    """

    inputs: Inputs
    delay: int | None = None  # of the graph's contract unless given
    by_step: bool = False  # the outputs after every step, not only after the last
    counts: bool = False  # the counts of every population and read-out
    potentials: bool = False
    watch: Watch | None = None
    revise: Revise | None = None


@dataclass(frozen=True, eq=False)
class Simulation:
    """What came out: real numbers, what the network says after so many steps; and counts where asked for."""

    outputs: tuple[Tensor, ...]  # after the last step, [batch, ...]
    by_step: tuple[Tensor, ...] | None = field(default=None, repr=False)  # [timesteps, batch, ...]
    counts: Mapping[str, Tensor] | None = field(
        default=None, repr=False
    )  # by node, [batch, ...]: sums over T
    engine: str = "reference"


Run = Callable[[Graph, Request], Simulation]  # an engine chosen already: what a stage is handed


class Engine(Protocol):
    """One way to run a SPIKING graph."""

    @property
    def name(self) -> str:
        """What `--engine` and reports call it."""

    def refusal(self, graph: Graph, request: Request) -> str:
        """Why it cannot answer this request for this graph; empty if it can."""

    def run(self, graph: Graph, request: Request) -> Simulation:
        """Answer the request."""
