"""Trace: any nn.Module -> Graph FLOAT, by torch.export; or an ONNX file, by its nodes.

The exported program (`program.py`) is a flat list of ATen calls with the user's module names attached.
`reader.py` walks it; the tables in `layers.py`, `sums.py` and `moves.py` map each call to one of our ops.
What has no reader becomes `Opaque` (`opaque.py`) and is still run exactly. `onnx/` reads ONNX files with
tables of its own; what both share is in `common.py` and `draft.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.stages.trace.onnx import OnnxNetwork, load_onnx
from ann2snn_cli.stages.trace.program import export_program
from ann2snn_cli.stages.trace.reader import Reader
from ann2snn_cli.types import Shape

__all__ = ["OnnxNetwork", "load_onnx", "trace"]


def trace(network: nn.Module, input_shapes: Sequence[Shape] | Mapping[str, Shape]) -> Graph:
    """Gives FLOAT: the network in eval mode, op by op.

    `input_shapes` are one sample's, in the order of the network's arguments or by their names.
    """
    if isinstance(network, OnnxNetwork):
        return network.traced(input_shapes)
    program = export_program(network, input_shapes)
    reader = Reader(program)
    for call in program.graph.nodes:
        reader.read(call)
    return reader.draft.graph()
