"""ann2snn: turns a trained network into a spiking network, and proves that it is the same network.

import ann2snn_cli
snn = ann2snn_cli.convert(network, x, weight_bitwidth=4, timesteps=16)
snn(x); print(snn); snn.save("my_snn.pth"); ann2snn_cli.load("my_snn.pth")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ann2snn_cli.version import tool_version

if TYPE_CHECKING:
    from ann2snn_cli.by_stage import fuse_batch_norms as fuse_batch_norms
    from ann2snn_cli.by_stage import quantize_and_finetune as quantize_and_finetune
    from ann2snn_cli.by_stage import replace_activations as replace_activations
    from ann2snn_cli.by_stage import set_weights_and_thresholds as set_weights_and_thresholds
    from ann2snn_cli.by_stage import validate as validate
    from ann2snn_cli.config import Hardware as Hardware
    from ann2snn_cli.config import Provenance as Provenance
    from ann2snn_cli.config import Settings as Settings
    from ann2snn_cli.errors import Ann2SnnError as Ann2SnnError
    from ann2snn_cli.errors import BadData as BadData
    from ann2snn_cli.errors import BadFile as BadFile
    from ann2snn_cli.errors import BadWeights as BadWeights
    from ann2snn_cli.errors import HardwareViolations as HardwareViolations
    from ann2snn_cli.errors import InvalidGraph as InvalidGraph
    from ann2snn_cli.errors import UnsupportedNetwork as UnsupportedNetwork
    from ann2snn_cli.errors import UsageError as UsageError
    from ann2snn_cli.errors import VerificationMismatch as VerificationMismatch
    from ann2snn_cli.snn import DamageWarning as DamageWarning
    from ann2snn_cli.snn import SpikingNetwork as SpikingNetwork
    from ann2snn_cli.snn import convert as convert
    from ann2snn_cli.snn import load as load
    from ann2snn_cli.transformer import SNNTransformer as SNNTransformer

    __version__: str

__all__ = [
    "Ann2SnnError",
    "BadData",
    "BadFile",
    "BadWeights",
    "DamageWarning",
    "Hardware",
    "HardwareViolations",
    "InvalidGraph",
    "Provenance",
    "SNNTransformer",
    "Settings",
    "SpikingNetwork",
    "UnsupportedNetwork",
    "UsageError",
    "VerificationMismatch",
    "__version__",
    "convert",
    "fuse_batch_norms",
    "load",
    "quantize_and_finetune",
    "replace_activations",
    "set_weights_and_thresholds",
    "validate",
]

_HOMES = {  # those of by_stage, snn and transformer need torch
    "by_stage": (
        "fuse_batch_norms", "quantize_and_finetune", "replace_activations", "set_weights_and_thresholds",
        "validate",
    ),
    "config": ("Hardware", "Provenance", "Settings"),
    "snn": ("DamageWarning", "SpikingNetwork", "convert", "load"),
    "transformer": ("SNNTransformer",),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """The API is imported when it is used: the command line's --help must not wait for torch."""
    if name == "__version__":
        return tool_version()
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((home for home, names in _HOMES.items() if name in names), "errors")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    """The public names, and nothing that is only here to import them."""
    return __all__
