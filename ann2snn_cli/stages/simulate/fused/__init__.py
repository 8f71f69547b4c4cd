"""The engine `fused`: populations and what charges them in one compiled kernel."""

from ann2snn_cli.stages.simulate.fused.engine import FusedEngine

__all__ = ["FusedEngine"]
