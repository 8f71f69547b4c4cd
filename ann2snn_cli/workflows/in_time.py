"""A network that knows no steps, shown samples that have them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ann2snn_cli.config import Settings
from ann2snn_cli.ir.contract import Encoding


class OfMeans(nn.Module):
    """A network that is shown the mean over the frames of a sample, [samples, T, ...]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *samples: Tensor, **by_name: Tensor) -> Any:
        """What the network gives of the means."""
        return self.network(*map(_mean, samples), **{name: _mean(x) for name, x in by_name.items()})


def _mean(frames: Tensor) -> Tensor:
    return (frames if frames.is_floating_point() else frames.float()).mean(1)


def on_samples(network: nn.Module, settings: Settings) -> nn.Module:
    """The network as it is shown the samples of these settings."""
    return OfMeans(network) if settings.timing.shown is Encoding.FRAMES else network
