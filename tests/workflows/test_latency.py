"""Latency: T + depth·D steps for a sample; the depth is that of the longest way through the network."""

import torch
from torch import nn

from ann2snn_cli import pipeline
from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import Input, IntegrateFire, MaxPool
from ann2snn_cli.workflows.latency import Latency, latency


def fires(name: str, *inputs: str) -> Node:
    """A population."""
    one = torch.tensor(1)
    return Node(name, IntegrateFire(one, one, one), inputs, (1, 4, 4), unit=torch.tensor(1.0))


def test_latency_follows_the_longest_way_through_a_residual_network():
    """a -> b -> c joins a: depth 3 with the population behind the join, whatever the shortcut."""
    pool = MaxPool((1, 1), (1, 1), (0, 0), (1, 1))
    graph = Graph(
        (
            Node("x", Input(1.0), (), (1, 4, 4)),
            fires("a", "x"),
            fires("b", "a"),
            Node("pool", pool, ("b",), (1, 4, 4)),
            fires("shortcut", "x"),
            fires("c", "pool"),
        ),
        ("c", "shortcut"),
        Level.SPIKING,
        Contract(8),
    )
    found = latency(graph)
    assert (found.depth, found.steps(0), found.steps(8), found.steps(3)) == (3, 8, 8 + 3 * 8, 8 + 3 * 3)


def test_what_a_delay_costs_is_said_by_its_name():
    """Latency, and steps between two samples with potentials buffered twice or once."""
    facts = Latency(timesteps=8, depth=3).facts((0, 8, 3))
    assert list(facts) == ["stepwise", "layerwise", "delay_3"]
    assert facts["stepwise"] == {
        "delay": 0, "latency_steps": 8, "steps_per_sample": 8, "steps_per_sample_single_buffered": 8,
    }  # fmt: skip
    assert facts["layerwise"]["latency_steps"] == 32
    assert facts["delay_3"] == {
        "delay": 3, "latency_steps": 17, "steps_per_sample": 8, "steps_per_sample_single_buffered": 11,
    }  # fmt: skip


def test_latency_of_a_traced_residual_network(small_data, training_free):
    """conv-relu, conv-relu-conv + shortcut, relu: three populations deep."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.one, self.two = (
                nn.Conv2d(2, 4, 3),
                *(nn.Conv2d(4, 4, 3, padding=1) for _ in range(2)),
            )

        def forward(self, x):
            x = self.stem(x).relu()
            return (x + self.two(self.one(x).relu())).relu()

    torch.manual_seed(0)
    graph = pipeline.convert(Residual().eval(), small_data, training_free()).graph
    assert latency(graph).depth == 3


def test_a_network_without_neurons_takes_one_pass():
    """A linear layer alone."""
    assert Latency(8, 0).steps(8) == 8
