"""The ONNX twin: the network as an ONNX file of standard operators, and a replay of packs with it.

`model` gives the whole network in integers, any number of steps and samples, exact in any runtime.
`step_model` gives one step in float32, for runtimes that are fast in floats, where that is proved exact.
"""

from ann2snn_cli.twins.onnx.models import model, step_model
from ann2snn_cli.twins.onnx.running import unavailable, verify, version

__all__ = ["model", "step_model", "unavailable", "verify", "version"]
