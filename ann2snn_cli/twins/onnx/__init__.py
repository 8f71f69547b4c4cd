"""The ONNX twin: the network as one integer graph of standard operators, and a replay of packs with it.

The graph takes any number of steps and samples, and is exact in any runtime.
"""

from ann2snn_cli.twins.onnx.network import model
from ann2snn_cli.twins.onnx.running import unavailable, verify, version

__all__ = ["model", "unavailable", "verify", "version"]
