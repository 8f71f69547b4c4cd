"""Trace, second way in: an ONNX file -> Graph FLOAT, the same as for an nn.Module.

file.py       from the disk to a whole, valid model, or an error that says what the file lacks
draft.py      a node of the file as a call, and the graph as read so far
reader.py     the walk over the nodes: constants are folded, all that cannot be read is listed at once
layers.py, pools.py, activations.py, sums.py, moves.py    tables: what each operator becomes
constants.py  evaluating nodes whose inputs are known
names.py      what a user calls a node
merge.py      biases and scales that the file keeps as nodes of their own go into the layer before
network.py    the graph as a torch module that runs
"""

from ann2snn_cli.stages.trace.onnx.network import OnnxNetwork, load_onnx

__all__ = ["OnnxNetwork", "load_onnx"]
