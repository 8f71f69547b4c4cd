"""The network in an ONNX file as a torch module: it runs, and it carries the graph that was read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ann2snn_cli.errors import UnsupportedNetwork
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.ir.run import run
from ann2snn_cli.types import Shape


class OnnxNetwork(nn.Module):
    """A network read from an ONNX file. It has no parameters to train: it is as the file gives it."""

    def __init__(self, graph: Graph, path: Path, sha256: str, notes: tuple[str, ...]) -> None:
        super().__init__()
        self.graph = graph  # FLOAT
        self.path = path
        self.sha256 = sha256  # of the file, followed by the files its weights lie in
        self.notes = notes  # what was decided when it was read

    def forward(self, *samples: Tensor, **by_name: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The outputs for samples in order or by name; a tuple if there are several."""
        outputs = run(self.graph, by_name or samples)
        return outputs[0] if len(outputs) == 1 else outputs

    def traced(self, input_shapes: Sequence[Shape] | Mapping[str, Shape]) -> Graph:
        """The graph, for samples of the shapes it was read for: in the order of its inputs, or by name."""
        by_name, given = {node.name: node.shape for node in self.graph.inputs}, _tuples(input_shapes)
        own = by_name if isinstance(given, dict) else list(by_name.values())
        if given != own:
            raise UnsupportedNetwork(
                f"it was read for samples of shape {_words(own)}, not {_words(given)}",
                where=str(self.path),
                remedy="give the samples the shape that the network takes",
            )
        return self.graph

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> OnnxNetwork:
        """Follow `.to(device)`. The precision is that of the samples."""
        self.graph = self.graph.to(fn(torch.zeros(())).device)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


def load_onnx(
    path: Path | str, input_shapes: Sequence[Shape] | Mapping[str, Shape] | None = None
) -> OnnxNetwork:
    """The network in an ONNX file, for samples of these shapes: in order or by name, without the batch.

    The shapes may be left out where the file gives them. Files of weights are looked for beside it.
    """
    # Here, so that those who bring an nn.Module need not wait for onnx.
    from ann2snn_cli.stages.trace.onnx.file import read_file
    from ann2snn_cli.stages.trace.onnx.reader import read

    file = read_file(Path(path))
    graph, notes = read(file, input_shapes)
    return OnnxNetwork(graph, file.path, file.sha256, notes)


def _tuples(shapes: Sequence[Shape] | Mapping[str, Shape]) -> list[Shape] | dict[str, Shape]:
    if isinstance(shapes, Mapping):
        return {name: tuple(shape) for name, shape in shapes.items()}
    return [tuple(shape) for shape in shapes]


def _words(shapes: list[Shape] | dict[str, Shape]) -> str:
    if isinstance(shapes, list):
        return ", ".join(map(str, shapes))
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())
