"""How often the neurons of each population fire, counted over samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from torch import Tensor

from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.ir.ops import Population


@dataclass(eq=False)
class Firing:
    """The spikes of a SPIKING graph while they are counted."""

    graph: Graph
    samples: int = 0
    spikes: dict[str, int] = field(default_factory=dict)  # by population, over all samples

    def add(self, counts: Mapping[str, Tensor], samples: int) -> None:
        """Count those of a batch."""
        self.samples += samples
        for node in self.graph.of(Population):
            self.spikes[node.name] = self.spikes.get(node.name, 0) + int(counts[node.name].sum())

    @property
    def rate(self) -> dict[str, float]:
        """Spikes of a neuron a step, by population."""
        shown = self.samples * self.graph.timing.timesteps
        return {name: count / (shown * prod(self.graph[name].shape)) for name, count in self.spikes.items()}
