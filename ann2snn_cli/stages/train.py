"""Plain training of the float network, and its accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ann2snn_cli.errors import BadData, UsageError

Batches = Iterable[tuple[Tensor, Tensor]]  # float32 [batch, *input_shape], int64 [batch]


@dataclass(frozen=True)
class Progress:
    """How far training is: given after every batch, and once more, `done`, after every epoch."""

    epoch: int  # from 1
    epochs: int
    lr: float
    samples: int = 0  # seen in this epoch
    loss: float = 0.0  # mean over them
    accuracy: float = 0.0  # of 1, over them, while the weights were still changing
    done: bool = False  # the epoch is complete

    def after(self, loss: float, right: int, samples: int) -> Progress:
        """With one batch more: its mean loss, and how many of its samples were right."""
        seen = self.samples + samples
        return replace(
            self,
            samples=seen,
            loss=(self.loss * self.samples + loss * samples) / seen,
            accuracy=(self.accuracy * self.samples + right) / seen,
        )


def train(
    network: nn.Module,
    batches: Callable[[int], Batches],
    *,
    epochs: int,
    lr: float,
    weight_decay: float,
    seed: int,
    device: torch.device | str,
    progress: Callable[[Progress], None] | None = None,
) -> list[Progress]:
    """Train `network` in place by AdamW; gives one Progress an epoch. It ends in eval mode, on the CPU.

    `batches(epoch)` gives the batches of an epoch, 0 to epochs - 1. The rate falls from `lr` to 0 along half
    a cosine, epoch by epoch. Same weights, batches, seed and machine: same result; the caller's random state
    stays as it was.
    """
    device = torch.device(device)
    network.to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=weight_decay)
    history: list[Progress] = []
    with _own_randomness(seed, device):
        for epoch in range(epochs):
            start = Progress(epoch + 1, epochs, lr * (1 + math.cos(math.pi * epoch / epochs)) / 2)
            for state in _epoch(network, batches(epoch), optimizer, start, device):
                if progress:
                    progress(state)
            history.append(state)
    network.eval().cpu()
    return history


def accuracy(network: nn.Module, batches: Batches, device: torch.device | str) -> float:
    """The fraction of samples whose highest output is at their label. Moves the network to `device`."""
    was_training = network.training
    network.to(device).eval()
    right = seen = 0
    with torch.no_grad():
        for x, y in batches:
            right += _right(network(x.to(device)), y.to(device))
            seen += len(y)
    network.train(was_training)
    if seen == 0:
        raise BadData("there is no sample to test", remedy="give a test split with at least one sample")
    return right / seen


def _epoch(
    network: nn.Module,
    batches: Batches,
    optimizer: torch.optim.Optimizer,
    state: Progress,
    device: torch.device,
) -> Iterator[Progress]:
    for group in optimizer.param_groups:
        group["lr"] = state.lr
    for x, y in batches:
        x, y = x.to(device), y.to(device)
        scores = network(x)
        loss = F.cross_entropy(scores.flatten(1), y)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        state = state.after(loss.item(), _right(scores, y), len(y))
        yield state
        if not math.isfinite(state.loss):
            what = f"training diverged: the loss is {state.loss} in epoch {state.epoch}"
            raise UsageError(what, where="--lr", remedy=f"train with a lower learning rate than {state.lr:g}")
    yield replace(state, done=True)


def _right(scores: Tensor, labels: Tensor) -> int:
    """How many samples have their highest score at their label; a map of scores is read in memory order."""
    return int((scores.flatten(1).argmax(1) == labels).sum())


@contextmanager
def _own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Dropout and the like draw from `seed`, and convolutions choose algorithms that repeat themselves."""
    gpus = [device] if device.type == "cuda" else []
    deterministic = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
    with torch.random.fork_rng(devices=gpus), deterministic:
        torch.manual_seed(seed)
        yield
