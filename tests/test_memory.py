"""What a conversion holds in memory: it follows the network, not the samples it is calibrated with."""

import weakref
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ann2snn_cli import pipeline
from ann2snn_cli.workflows import damage, prepare
from ann2snn_cli.workflows.convert import converted


class Live(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive and were made in it, each storage once."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: Counter[int] = Counter()  # alive, by address of their storage
        self.sizes: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run it, and note what it made."""
        found = func(*args, **(kwargs or {}))
        given = [leaf for leaf in tree_leaves((args, kwargs)) if _has_storage(leaf)]
        before = {leaf.untyped_storage().data_ptr() for leaf in given}
        for leaf in tree_leaves(found):
            if _has_storage(leaf) and not any(leaf is each for each in given):
                self._note(leaf, before)
        return found

    def _note(self, tensor: Tensor, before: set[int]) -> None:
        address, size = tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()
        if address in before and address not in self.sizes:
            return  # a view of what was there
        if not self.tensors[address]:
            self.sizes[address] = size
            self.now += size
            self.peak = max(self.peak, self.now)
        self.tensors[address] += 1
        weakref.finalize(tensor, self._drop, address)

    def _drop(self, address: int) -> None:
        self.tensors[address] -= 1
        if not self.tensors[address]:
            self.now -= self.sizes.pop(address)


def _has_storage(leaf):
    """Weights that oneDNN packed have none that can be seen."""
    return isinstance(leaf, Tensor) and not leaf.is_mkldnn


def peak(network, data, settings, samples, batch_size, monkeypatch):
    """The most bytes that are alive at once in a conversion with so many samples."""
    settings = replace(
        settings, data=replace(settings.data, calibration_samples=samples, batch_size=batch_size)
    )
    prepared = prepare.from_objects(network, data, settings, device="cpu")
    folded = prepared.folded()
    monkeypatch.setattr(pipeline, "prepare", lambda *args, **options: folded)  # what torch.export holds aside
    with Live() as live:
        converted(prepared)
    return live.peak


class Samples:
    """Images of 1x32x32, cut to what is asked for."""

    input_shapes = ((1, 32, 32),)
    task = "classification"
    train_size = 512

    def __init__(self) -> None:
        self.x = torch.rand(self.train_size, 1, 32, 32, generator=torch.Generator().manual_seed(0))

    def calibration_batches(self, samples, batch_size, seed, num_workers=0):
        """The first of them."""
        return ((x, torch.zeros(len(x))) for x in self.x[:samples].split(batch_size))


def test_memory_follows_neither_the_samples_nor_their_batches(training_free, monkeypatch):
    """Four times the samples, in batches four times as large: the same bytes."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 8, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 14 * 14, 4),
    ).eval()  # fmt: skip
    monkeypatch.setattr(pipeline, "CORRECTION_SAMPLES", 32)
    monkeypatch.setattr(damage, "SAMPLES", 512)

    few, many = (peak(network, Samples(), training_free(), count, count, monkeypatch) for count in (128, 512))

    assert many == pytest.approx(few, rel=0.02)
