"""A user's own decisions about populations: keys of a table of rules beside those for operators.

    def clip(layer):
        "An `Activations` of `ir/populations.py` -> the largest activation that T spikes stand for."
        return layer.percentile(99) if layer.name == "relu1" else layer.largest

    def neuron(layer):
        "A `Layer` -> neurons of a class of one's own (`Neuron` of `ir/ops`); None: integrate-and-fire."
        return Burst(most=3) if layer.name == "relu1" else None

    RULES = {"clip": clip, "neuron": neuron}

A table may hold one of them, both, or neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from ann2snn_cli.errors import UsageError
from ann2snn_cli.ir.ops import Neuron
from ann2snn_cli.ir.ops.population import MOST_SPIKES
from ann2snn_cli.ir.own_rule import OwnRule
from ann2snn_cli.ir.populations import Activations, Layer


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


@dataclass(frozen=True)
class NeuronRule(OwnRule):
    """Says which populations have neurons of a user's own."""

    def __call__(self, layer: Layer) -> Neuron | None:
        """The neurons of a population, tried with a few potentials; None: integrate-and-fire."""
        given = self.run(layer, layer.name)
        if given is None:
            return None
        if not isinstance(given, Neuron):
            what = f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"
            raise self._refused(layer, f"gave {what}")
        if type(given.most) is not int or not 1 <= given.most <= MOST_SPIKES:
            raise self._refused(layer, f"gave a {given.kind} of at most {given.most!r} spikes a step")
        given.try_out(layer.name)
        return given

    def _refused(self, layer: Layer, what: str) -> UsageError:
        return UsageError(
            f"the rule for {self.target}, a function of yours, {what} at {layer.name}",
            where=self.reference.shown,
            remedy="return a neuron, Burst(most=3) of a class Burst(Neuron), or None; "
            f"most is a whole number from 1 to {MOST_SPIKES}",
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
