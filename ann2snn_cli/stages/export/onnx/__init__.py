"""ONNX out: the network as an integer graph over all steps, and one step of it in floats where that is exact.

    models.py     what a file holds: a graph, its meaning in words, the contract as metadata
    step.py       the graph of one step, and the proof that floats are exact in it; floats.py: its numbers
    writing.py    the files

The integer graph is that of the twin (`twins/onnx`), which is verified against every vector pack; the step
graph is written by the same rules of the layers, in other numbers.
"""

from ann2snn_cli.stages.export.onnx.models import network_model, step_model
from ann2snn_cli.stages.export.onnx.writing import drafted, is_ours, step_file, write

__all__ = ["drafted", "is_ours", "network_model", "step_file", "step_model", "write"]
