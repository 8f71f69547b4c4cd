"""The neuron: the one definition of firing, reset and rounding (SPEC 1 and 5)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ann2snn_cli.ir.contract import Reset


class _StraightThrough(torch.autograd.Function):
    """The value of one tensor, exactly, with the gradient of another."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class _Count(torch.autograd.Function):
    """`clamp_(floor_(V/θ), 0, T)` with its gradients, in a third of the passes over the largest tensors."""

    @staticmethod
    def forward(ctx: Any, potential: Tensor, threshold: Tensor, timesteps: int) -> Tensor:
        ratio = potential / threshold
        ctx.save_for_backward(ratio, threshold)
        ctx.timesteps, ctx.shape = timesteps, potential.shape
        return ratio.floor().clamp_(0, timesteps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        ratio, threshold = ctx.saved_tensors
        # Where 0 <= ⌊V/θ⌋ <= T: this operator takes the ends of its range for outside.
        below = -torch.finfo(ratio.dtype).tiny
        within = torch.ops.aten.hardtanh_backward(gradient, ratio, below, ctx.timesteps + 1)
        of_threshold = None
        if ctx.needs_input_grad[1]:
            of_threshold = -(ratio / threshold).mul_(within).sum_to_size(threshold.shape)
        of_potential = (within / threshold).sum_to_size(ctx.shape) if ctx.needs_input_grad[0] else None
        return of_potential, of_threshold, None


def straight_through(x: Tensor, value: Tensor) -> Tensor:
    """`value`, with the gradient passed on to `x`. (x + (value − x) would be off in the last bits.)"""
    if not x.requires_grad:
        return value
    passed: Tensor = _StraightThrough.apply(x, value.detach())
    return passed


def round_(x: Tensor) -> Tensor:
    """Round half to even; the gradient passes straight through."""
    return straight_through(x, torch.round(x))


def floor_(x: Tensor) -> Tensor:
    """Round down; the gradient passes straight through."""
    return straight_through(x, torch.floor(x))


def clamp_(x: Tensor, low: float, high: float) -> Tensor:
    """Clamp; the gradient passes within the bounds and on them. (torch.clamp's stops on them.)"""
    clamped = torch.clamp(x, low, high)
    if not x.requires_grad:  # most are not, and large tensors are slow to compare
        return clamped
    within = (x >= low) & (x <= high)
    return straight_through(torch.where(within, x, x.detach()), clamped)


def fire(potential: Tensor, threshold: Tensor, reset_mode: Reset) -> tuple[Tensor, Tensor]:
    """Compare, then reset: (spikes, potential after the reset).

    s ← 1 if V ≥ θ else 0;   V ← V − s·θ (subtraction)   or   V ← V·(1 − s) (zero).
    """
    spikes = (potential >= threshold).to(potential.dtype)
    if reset_mode is Reset.SUBTRACTION:
        return spikes, torch.addcmul(potential, spikes, threshold, value=-1)
    return spikes, potential * (1 - spikes)


def count(potential: Tensor, threshold: Tensor, timesteps: int) -> Tensor:
    """How often a neuron fires in `timesteps` steps that holds all of its charge and resets by subtraction.

    N = clip(⌊V/θ⌋, 0, T): the theorem of the delay D = T. Differentiable, for finetuning.
    """
    if not (potential.requires_grad or threshold.requires_grad):
        return torch.clamp((potential / threshold).floor_(), 0, timesteps)
    counts: Tensor = _Count.apply(potential, threshold, timesteps)
    return counts
