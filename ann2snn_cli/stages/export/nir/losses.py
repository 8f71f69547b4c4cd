"""What a NIR file does not say of a network: one row a fact, in the order of the layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ann2snn_cli.errors import Setting
from ann2snn_cli.ir.bounds import bounds
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.ir.ops import Input
from ann2snn_cli.ir.precision import EXACT_FLOAT32
from ann2snn_cli.stages.export.nir.flavors import Flavor


@dataclass(frozen=True)
class NirLoss:
    """One thing that the file does not say, or says in another form."""

    layer: str  # the node in the graph; "" is the whole network
    source: str  # the module in the user's own network
    what: str
    effect: str
    remedy: str


def of_network(graph: Graph, flavor: Flavor) -> Iterator[NirLoss]:
    """What is lost whatever the layers are."""
    contract = graph.timing
    yield NirLoss(
        "", "", f"the number of steps, {contract.timesteps}", "a reader runs as long as it is fed",
        f"present the sample {contract.timesteps} times",
    )  # fmt: skip
    for node in graph.inputs:
        assert isinstance(node.op, Input)
        yield NirLoss(
            node.name, node.source, "the coding of the input", "real pixels give other currents",
            f"present clamp(round(x / {node.op.unit!r}), {node.op.low}, {node.op.high}) at every step",
        )  # fmt: skip
    yield NirLoss(
        "", "", "the time step",
        "NIR is continuous in time; a reader that delays a layer or scales by its own dt fires otherwise",
        f"one Euler step a presentation, dt = {1 / flavor.resistance:g}, all layers within the step",
    )  # fmt: skip
    yield NirLoss(
        "", "", "that all numbers are integers, and their widths",
        "none in floating point that is wide enough",
        "weight_bits stand in this table's file; the vector pack has all widths",
    )  # fmt: skip
    yield from _wide(graph)
    if contract.delay:
        yield NirLoss(
            "", "", f"the firing delay of {contract.delay}", "a reader fires at once: the counts differ",
            f"convert with {Setting('delay', 0)}, or hand over the .pth",
        )  # fmt: skip
    yield from (NirLoss("", "", *row) for row in flavor.known)


def _wide(graph: Graph) -> Iterator[NirLoss]:
    largest = max(bound.largest for bound in bounds(graph, 0).values())
    if largest >= EXACT_FLOAT32:
        yield NirLoss(
            "", "", f"sums that may reach {largest:.0f}", "a reader that computes in float32 may round them",
            "let the reader compute in float64",
        )  # fmt: skip
