"""What all tests share: one core for each process of the suite, and a small network with its data."""

import gc
import os
import signal
from dataclasses import dataclass, replace

import pytest
import torch
from file_server import file_server
from torch import nn

from ann2snn_cli.config import Settings

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)
gc.freeze()  # torch's millions of objects are searched for cycles no more
gc.set_threshold(50_000)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell starts what is in the background so
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Memory:
    """A dataset of tensors: what the pipeline asks of one, and no more."""

    x: torch.Tensor
    y: torch.Tensor
    task: str = "classification"

    @property
    def input_shapes(self):
        """Of the one input."""
        return (tuple(self.x.shape[1:]),)

    def train_batches(self, batch_size, seed, epoch, num_workers=0):
        """In another order each time."""
        order = torch.randperm(len(self.x), generator=torch.Generator().manual_seed(seed + epoch))
        for part in order.split(batch_size):
            yield self.x[part], self.y[part]

    def test_batches(self, batch_size, num_workers=0):
        """In order."""
        return zip(self.x.split(batch_size), self.y.split(batch_size), strict=True)

    def calibration_batches(self, samples, batch_size, seed, num_workers=0):
        """All of them."""
        return self.test_batches(batch_size)


@pytest.fixture
def small_data() -> Memory:
    """48 images of 2x6x6 in 3 classes."""
    random = torch.Generator().manual_seed(0)
    y = torch.arange(48) % 3
    return Memory(torch.rand(48, 2, 6, 6, generator=random) * (0.4 + 0.3 * y.reshape(-1, 1, 1, 1)), y)


@pytest.fixture
def small_network() -> nn.Module:
    """conv, batch norm, ReLU, average pooling, conv, ReLU, linear: random weights."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3),
    ).eval()  # fmt: skip


@pytest.fixture
def training_free():
    """Settings without training and with 5 steps, but for what is named: `finetune={"epochs": 1}`."""

    def made(**sections) -> Settings:
        settings = Settings()
        for section, values in ({"finetune": {"epochs": 0}, "timing": {"timesteps": 5}} | sections).items():
            settings = replace(settings, **{section: replace(getattr(settings, section), **values)})
        return settings

    return made


@pytest.fixture
def server():
    """A web server on this machine: `server.files["/a"] = b"..."`, then `server.url + "/a"`."""
    with file_server() as running:
        yield running
