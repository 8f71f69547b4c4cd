"""SpikingJelly, as its ann2snn tutorials and examples call it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.ann2snn import (
    Converter,
    RateCodingRecipe,
    STATransformerRecipe,
    TransformerTDEquivalentRecipe,
)
from spikingjelly.activation_based.neuron import BaseNode
from torch import nn
from torch.utils import _pytree as trees

from parity_runners.one import NotOffered
from parity_runners.rows import Row

PACKAGE, DATA = "spikingjelly", "pairs"


def converted(network: nn.Module, data: Any, row: Row) -> nn.Module:
    """By the recipe of the row: ReLUs become neurons, or the operators of transformers are replaced."""
    if row.bits < 8:
        raise NotOffered("no bits of weights: it keeps floats")
    if row.transformer == "sta":
        recipe = STATransformerRecipe(dataloader=data, time_steps=row.timesteps)
    elif row.transformer == "td":
        recipe = TransformerTDEquivalentRecipe(time_steps=row.timesteps)
    else:
        recipe = RateCodingRecipe(dataloader=data, mode=row.mode)
    return Converter(recipe=recipe, device="cpu").convert(network).eval()


@torch.no_grad()
def run(snn: nn.Module, x: tuple[Any, ...], row: Row) -> tuple[Any, int]:
    """Rates: the same input at every step, and the mean. Transformers: once, then zeros, and the sum."""
    calls: list[nn.Module] = []
    for layer in snn.modules():
        if isinstance(layer, BaseNode):
            layer.register_forward_hook(lambda layer, *_: calls.append(layer))
    functional.reset_net(snn)
    if row.transformer:
        functional.set_step_mode(snn, "m")
        later = [torch.zeros(row.timesteps - 1, *each.shape) for each in x]
        outputs = snn(*(torch.cat([each[None], zeros]) for each, zeros in zip(x, later, strict=True)))
        return trees.tree_map(lambda each: each.sum(0), outputs), len(calls)
    total = None
    for _ in range(row.timesteps):
        step = snn(*x)
        total = step if total is None else trees.tree_map(torch.add, total, step)
    return trees.tree_map(lambda each: each / row.timesteps, total), len(calls) // row.timesteps


def through_a_file(snn: nn.Module, row: Row) -> Any:
    """The whole module, pickled."""
    with tempfile.TemporaryDirectory() as place:
        torch.save(snn, Path(place) / "snn.pth")
        return torch.load(Path(place) / "snn.pth", weights_only=False)
