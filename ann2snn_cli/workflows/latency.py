"""What a firing delay costs: steps until an answer is there, steps between two samples (SPEC 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ann2snn_cli.config import delay_name
from ann2snn_cli.ir.graph import Graph


@dataclass(frozen=True)
class Latency:
    """T, and how many populations a sample passes one after the other."""

    timesteps: int
    depth: int  # populations on the longest way through the network

    def steps(self, delay: int) -> int:
        """Steps until a sample's answer is there: every population waits D, then the read-out takes T."""
        return self.timesteps + self.depth * delay

    def facts(self, delays: tuple[int, ...]) -> dict[str, dict[str, int]]:
        """Give, by the delay's name, latency, and steps a sample with potentials buffered twice or once."""
        return {delay_name(delay, self.timesteps): self._facts(delay) for delay in delays}

    def _facts(self, delay: int) -> dict[str, Any]:
        return {
            "delay": delay,
            "latency_steps": self.steps(delay),
            "steps_per_sample": self.timesteps,
            "steps_per_sample_single_buffered": self.timesteps + delay,
        }


def latency(graph: Graph) -> Latency:
    """The latency of a SPIKING graph."""
    return Latency(graph.timing.timesteps, depth(graph))


def depth(graph: Graph) -> int:
    """Populations on the longest way through the network, at any level."""
    found: dict[str, int] = {}
    for node in graph.nodes:
        before = max((found[name] for name in node.inputs), default=0)
        found[node.name] = before + node.op.fires
    return max(found.values(), default=0)
