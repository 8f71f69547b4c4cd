"""Samples are computed apart from each other: what one of them gives is the same alone and beside others."""

from __future__ import annotations

import torch
from torch import nn

from ann2snn_cli.errors import UnsupportedNetwork
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.ir.run import run
from ann2snn_cli.stages.trace.program import alike, two_samples


def refuse_joined(graph: Graph, network: nn.Module) -> None:
    """Raise where the first of two samples gives something else than by itself: samples run in portions."""
    device = graph.device or "cpu"  # where the network is
    samples = {node.name: two_samples(node.shape).to(device) for node in graph.inputs}
    first = {name: values[:1] for name, values in samples.items()}
    with torch.no_grad():
        together, alone = run(graph, samples), run(graph, first)
    if not all(alike(one[:1], other) for one, other in zip(together, alone, strict=True)):
        raise UnsupportedNetwork(
            "what a sample gives follows the samples beside it",
            where=type(network).__name__,
            remedy="the first axis counts samples in all that forward() computes: attention and recurrent "
            "layers take batch_first=True",
        )
