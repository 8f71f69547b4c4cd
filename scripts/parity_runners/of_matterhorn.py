"""Matterhorn, as the page of its converter says: ann_to_snn(model, dataset), inputs [T, samples, ...]."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from matterhorn_pytorch import snn as spiking
from matterhorn_pytorch.util.converter import ann_to_snn
from torch import nn
from torch.utils import _pytree as trees

from parity_runners.one import NotOffered
from parity_runners.rows import Row

PACKAGE, DATA = "matterhorn_pytorch", "dataset"


def converted(network: nn.Module, data: Any, row: Row) -> nn.Module:
    """Its one mode is max. `pre_process` makes a sample of an item of the data."""
    if row.bits < 8:
        raise NotOffered("no bits of weights: it keeps floats")
    if row.data == "tensor":
        return ann_to_snn(network, data, pre_process=lambda item: item, mode=row.mode).eval()
    return ann_to_snn(network, data, mode=row.mode).eval()


@torch.no_grad()
def run(snn: nn.Module, x: tuple[Any, ...], row: Row) -> tuple[Any, int]:
    """All steps at once, and the mean."""
    calls: list[nn.Module] = []
    for layer in snn.modules():
        if isinstance(layer, spiking.IF):
            layer.register_forward_hook(lambda layer, *_: calls.append(layer))
    outputs = snn(*(each[None].repeat(row.timesteps, *(1 for _ in each.shape)) for each in x))
    return trees.tree_map(lambda each: each.mean(0), outputs), len(calls)


def through_a_file(snn: nn.Module, row: Row) -> Any:
    """The whole module, pickled."""
    with tempfile.TemporaryDirectory() as place:
        torch.save(snn, Path(place) / "snn.pt")
        return torch.load(Path(place) / "snn.pt", weights_only=False)
