"""A user's own decisions about populations: the clip of each, by the key "clip" of a table of rules.

def clip(layer):
    "An `Activations` of `ir/populations.py` -> the largest activation that T spikes stand for."
    return layer.percentile(99) if layer.name == "relu1" else layer.largest

RULES = {"clip": clip}
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from ann2snn_cli.errors import UsageError
from ann2snn_cli.ir.own_rule import OwnRule
from ann2snn_cli.ir.populations import Activations


@dataclass(frozen=True)
class ClipRule(OwnRule):
    """Sets the clips of all populations, in the place of the mode."""

    def __call__(self, layer: Activations) -> Tensor:
        """A number above 0, [], or one for each channel, [channels, 1, ...], in float64."""
        given = self.run(layer, layer.name)
        clip = _as_tensor(given)
        if clip is None:
            raise self._refused(layer, f"gave a {type(given).__name__}")
        if clip.numel() == 1:
            clip = clip.reshape(())
        elif clip.shape not in (layer.channels, (max(layer.channels, default=1),)):
            raise self._refused(layer, f"gave numbers of shape {tuple(clip.shape)}")
        wrong = clip[~(clip.isfinite() & (clip > 0))]
        if wrong.numel():
            raise self._refused(layer, f"gave {float(wrong[0]):g}")
        shape = layer.channels if clip.dim() else ()
        return clip.reshape(shape).to(layer.largest_by_channel.device)

    def _refused(self, layer: Activations, what: str) -> UsageError:
        return UsageError(
            f"the rule for {self.target}, a function of yours, {what} at {layer.name}",
            where=self.reference.shown,
            remedy=f"return a number above 0, or one for each channel, of shape {layer.channels}",
        )


def _as_tensor(given: Any) -> Tensor | None:
    """Real numbers in float64; None for anything else."""
    if isinstance(given, Real) and not isinstance(given, bool):
        return torch.tensor(float(given), dtype=torch.float64)
    if not hasattr(given, "__array__"):
        return None
    try:
        tensor = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        return None
    if tensor.dtype == torch.bool or tensor.is_complex() or not tensor.numel():
        return None
    return tensor.detach().to(torch.float64)
