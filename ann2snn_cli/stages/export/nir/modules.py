"""The nodes of NIR as torch modules, by their documented equations, one Euler step a call.

For nirtorch, which builds, orders and delays, and asks for them: its own Affine forgets the bias, its own
SumPool2d the padding, its own Flatten joins the batch, and it has no neurons.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ann2snn_cli.stages.export.nir.flavors import Flavor


def modules(flavor: Flavor) -> dict[str, Callable[[Any], nn.Module]]:
    """Give modules by the kind of the NIR node. What IF does on a spike depends on nir's version."""
    dt = 1 / flavor.resistance
    return {
        "Affine": lambda node: _Stateless(F.linear, node.weight, node.bias),
        "Flatten": _flatten,
        "I": lambda node: _Integrator(node, dt),
        "IF": lambda node: _Fires(node, dt, subtracts=flavor.resets == "threshold"),
        "Scale": lambda node: _Stateless(torch.mul, node.scale),
        "SumPool2d": _sum_pool,
        "Threshold": lambda node: _Stateless(_above, node.threshold),
    }


class _Stateless(nn.Module):
    def __init__(self, equation: Callable[..., Tensor], *parameters: Any) -> None:
        super().__init__()
        self.equation = equation
        self.values = nn.ParameterList(_parameter(value) for value in parameters)

    def forward(self, x: Tensor) -> Tensor:
        return self.equation(x, *self.values)


class _Integrator(nn.Module):
    """I: v ← v + r·x·dt."""

    def __init__(self, node: Any, dt: float) -> None:
        super().__init__()
        self.gain = _parameter(node.r * dt)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        v = self.gain * x if state is None else state + self.gain * x
        return v, v


class _Fires(_Integrator):
    """IF: v ← v + r·x·dt; z = 1 if v > v_threshold; v ← v_reset where z (nir 1.0.4: v − v_threshold)."""

    def __init__(self, node: Any, dt: float, *, subtracts: bool) -> None:
        super().__init__(node, dt)
        self.threshold, self.reset = _parameter(node.v_threshold), _parameter(node.v_reset)
        self.subtracts = subtracts

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        v, _ = super().forward(x, state)
        spikes = _above(v, self.threshold)
        reset = v - self.threshold if self.subtracts else self.reset
        return spikes, torch.where(spikes > 0, reset, v)


def _above(x: Tensor, threshold: Tensor) -> Tensor:
    return (x > threshold).to(x.dtype)


def _parameter(value: Any) -> nn.Parameter:
    return nn.Parameter(torch.as_tensor(value), requires_grad=False)


def _flatten(node: Any) -> nn.Module:
    """The axes of NIR leave the batch out."""
    start, end = int(node.start_dim), int(node.end_dim)
    return nn.Flatten(start + 1, end + 1 if end >= 0 else end)


def _sum_pool(node: Any) -> nn.Module:
    kernel, stride, padding = (
        tuple(int(size) for size in sizes) for sizes in (node.kernel_size, node.stride, node.padding)
    )
    return _Stateless(lambda x: F.avg_pool2d(x, kernel, stride, padding, divisor_override=1))
