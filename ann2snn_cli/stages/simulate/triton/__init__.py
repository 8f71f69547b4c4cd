"""The engine of neurons in Triton, for GPUs. `kernel.py` imports Triton, and is imported when it is run."""

from ann2snn_cli.stages.simulate.triton.engine import TritonEngine, is_interpreted

__all__ = ["TritonEngine", "is_interpreted"]
