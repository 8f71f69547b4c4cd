"""ann2snn: turns a trained network into a spiking network, and proves that it is the same network.

import ann2snn_cli
snn = ann2snn_cli.convert(network, x, weight_bitwidth=4, timesteps=16)
snn(x); print(snn); snn.save("my_snn.pth"); ann2snn_cli.load("my_snn.pth")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ann2snn_cli.snn import SpikingNetwork as SpikingNetwork
    from ann2snn_cli.snn import convert as convert
    from ann2snn_cli.snn import load as load

__all__ = ["SpikingNetwork", "convert", "load"]


def __getattr__(name: str) -> Any:
    """The API is imported when it is used: the command line's --help must not wait for torch."""
    if name in __all__:
        from ann2snn_cli import snn

        return getattr(snn, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
