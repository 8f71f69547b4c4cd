"""Plain training of the float network, and what a metric says of it. Loss and metric are the task's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ann2snn_cli import trees
from ann2snn_cli.errors import BadData, Setting, UsageError
from ann2snn_cli.types import Batches, EpochReport, Loss, Metric


def train(
    network: nn.Module,
    batches: Callable[[int], Batches],
    *,
    loss: Loss,
    metric: Callable[[], Metric],
    epochs: int,
    lr: float,
    weight_decay: float,
    seed: int,
    device: torch.device | str,
    progress: Callable[[EpochReport], None] | None = None,
) -> list[EpochReport]:
    """Train `network` in place by AdamW; gives a report an epoch. It ends in eval mode, on the CPU.

    `batches(epoch)` gives the batches of an epoch, 0 to epochs - 1; `metric()` is asked for a new metric an
    epoch. `progress` is told after every batch, and once more, `done`, after every epoch. The rate falls from
    `lr` to 0 along half a cosine, epoch by epoch. Same weights, batches, seed and machine: same result; the
    caller's random state stays as it was.
    """
    device = torch.device(device)
    _to_train(network.to(device))
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=weight_decay)
    history: list[EpochReport] = []
    with _own_randomness(seed, device):
        for epoch in range(epochs):
            start = EpochReport(epoch + 1, epochs, lr * (1 + math.cos(math.pi * epoch / epochs)) / 2)
            for state in _epoch(network, batches(epoch), optimizer, start, loss, metric(), device):
                if progress:
                    progress(state)
            history.append(state)
    network.eval().cpu()
    return history


def _to_train(network: nn.Module) -> None:
    try:
        network.train()
    except NotImplementedError:
        raise UsageError(
            "a network that torch.export gave cannot be trained",
            where=type(network).__name__,
            remedy="give the nn.Module that it was made from",
        ) from None


def measure(
    network: nn.Module, batches: Batches, metric: Metric, device: torch.device | str
) -> dict[str, float | None]:
    """What the metric says of the network in eval mode. Moves the network to `device`."""
    was_training = network.training
    network.to(device).eval()
    seen = 0
    with torch.no_grad():
        for x, labels in batches:
            metric.update(trees.call(network, trees.to(x, device)), trees.to(labels, device))
            seen += trees.sample_count(x)
    network.train(was_training)
    if seen == 0:
        raise BadData("there is no sample to test", remedy="give a test split with at least one sample")
    return metric.result()


def _epoch(
    network: nn.Module,
    batches: Batches,
    optimizer: torch.optim.Optimizer,
    state: EpochReport,
    loss: Loss,
    metric: Metric,
    device: torch.device,
) -> Iterator[EpochReport]:
    for group in optimizer.param_groups:
        group["lr"] = state.lr
    for x, labels in batches:
        x, labels = trees.to(x, device), trees.to(labels, device)
        outputs = trees.call(network, x)
        value = loss(outputs, labels)
        optimizer.zero_grad()
        torch.autograd.backward(value)
        optimizer.step()
        metric.update(tuple(output.detach() for output in outputs), labels)
        state = state.after(value.item(), trees.sample_count(x))
        yield state
        if not math.isfinite(state.loss):
            raise _diverged(f"the loss is {state.loss}", state)
    if not all(bool(values.isfinite().all()) for values in network.state_dict().values()):
        raise _diverged("a weight is no finite number", state)
    yield state.ended(metric)


def _diverged(what: str, state: EpochReport) -> UsageError:
    remedy = f"train with a lower learning rate than {state.lr:g}"
    return UsageError(
        f"training diverged: {what} in epoch {state.epoch}", where=str(Setting("lr")), remedy=remedy
    )


@contextmanager
def _own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Dropout and the like draw from `seed`, and convolutions choose algorithms that repeat themselves."""
    gpus = [device] if device.type == "cuda" else []
    deterministic = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
    with torch.random.fork_rng(devices=gpus), deterministic:
        torch.manual_seed(seed)
        yield
