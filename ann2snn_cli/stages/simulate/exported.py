"""One time step as a program of torch.export, which runs without ann2snn."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export
from torch.utils._pytree import tree_map

from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.ir.ops import Held
from ann2snn_cli.stages.simulate import stepping
from ann2snn_cli.types import Outputs

Programs = tuple[ExportedProgram, ExportedProgram]  # the first step, and a later one

SAMPLES = 2  # of the example: of one sample torch would take the size for fixed


class Step(nn.Module):
    """The first step, or a later one: what is shown, and what is held -> what is read out, and held then."""

    def __init__(self, graph: Graph, number: int) -> None:
        super().__init__()
        self.graph, self.number = graph, number

    def forward(
        self, given: Mapping[str, Tensor], held: Mapping[str, Held]
    ) -> tuple[Outputs, dict[str, dict[str, Tensor]]]:
        """Outputs are sums over the steps so far, in real numbers: by t they are those of `snn.step`."""
        now = stepping.advanced(self.graph, given, held, self.number)
        sums = ((now[name][stepping.COUNT], self.graph[name].known_unit) for name in self.graph.outputs)
        return tuple(count * unit.double() for count, unit in sums), {name: dict(now[name]) for name in now}


def programs(graph: Graph) -> Programs:
    """Needs SPIKING, D = 0; for any number of samples."""
    stepping.refuse_delay(graph)
    given = {node.name: torch.zeros(SAMPLES, *node.shape, device=graph.device) for node in graph.inputs}
    first = Step(graph, 1)
    with torch.no_grad():
        _, held = first(given, {})
        return _exported(first, (given, {})), _exported(Step(graph, 2), (given, held))


def _exported(step: Step, example: tuple[object, object]) -> ExportedProgram:
    sizes = tree_map(lambda _: {0: Dim.DYNAMIC}, example)
    return export(step, example, dynamic_shapes=sizes)
