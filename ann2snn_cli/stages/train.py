"""Plain training of the float network, and what a metric says of it. Loss and metric are the task's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ann2snn_cli import trees
from ann2snn_cli.config.recipes import Optimizer
from ann2snn_cli.errors import BadData, Setting, UsageError
from ann2snn_cli.types import Batches, EpochReport, Loss, Metric

MOMENTUM = 0.9  # of SGD
RISING = 0.1  # the share of all steps in which the rate of SGD rises


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
    optimizer: Optimizer = Optimizer.ADAMW,
    samples: int = 0,
    bf16: bool = False,
) -> list[EpochReport]:
    """Train `network` in place; gives a report an epoch. It ends in eval mode, on the CPU.

    `batches(epoch)` gives the batches of an epoch, 0 to epochs - 1; `metric()` is asked for a new metric an
    epoch. `progress` is told after every batch, and once more, `done`, after every epoch. The rate follows
    `rate`; with SGD it needs to know how many `samples` an epoch has. `bf16`: layers multiply in bfloat16,
    weights stay float32. Same weights, batches, seed and machine: same result; the caller's random state
    stays as it was.
    """
    device = torch.device(device)
    _to_train(network.to(device))
    if bf16:  # pooling and sums in bfloat16 are several times quicker with the channels side by side
        _lay_out(network, torch.channels_last)
    chosen = _optimizer(network, optimizer, lr, weight_decay)
    history: list[EpochReport] = []
    with _own_randomness(seed, device):
        for epoch in range(epochs):
            start = EpochReport(epoch + 1, epochs, lr * rate(optimizer, epoch / epochs))

            def set_rate(seen: int, epoch: int = epoch) -> None:
                done = epoch + (min(1.0, seen / samples) if samples and optimizer is Optimizer.SGD else 0.0)
                for group in chosen.param_groups:
                    group["lr"] = lr * rate(optimizer, done / epochs)

            for state in _epoch(
                network, batches(epoch), chosen, start, loss, metric(), device, set_rate, bf16
            ):
                if progress:
                    progress(state)
            history.append(state)
    _lay_out(network.eval().cpu(), torch.contiguous_format)
    return history


def rate(optimizer: Optimizer, done: float) -> float:
    """The learning rate after this share of the training, of the largest one.

    AdamW: from 1 to 0 along half a cosine, epoch by epoch. SGD, step by step: in a straight line from nearly
    0 to 1 in the first tenth, then along half a cosine to 0.
    """
    if optimizer is Optimizer.SGD:
        if done < RISING:
            return 0.01 + 0.99 * done / RISING
        done = (done - RISING) / (1 - RISING)
    return (1 + math.cos(math.pi * done)) / 2


def _optimizer(
    network: nn.Module, optimizer: Optimizer, lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    if optimizer is Optimizer.ADAMW:
        return torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=weight_decay)
    return torch.optim.SGD(
        network.parameters(), lr=lr, momentum=MOMENTUM, weight_decay=weight_decay, nesterov=True
    )


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
    set_rate: Callable[[int], None],
    bf16: bool,
) -> Iterator[EpochReport]:
    for x, labels in batches:
        x, labels = trees.to(x, device), trees.to(labels, device)
        set_rate(state.samples)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            outputs = trees.call(network, x)
        outputs = tuple(output.float() if output.dtype == torch.bfloat16 else output for output in outputs)
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


def _lay_out(network: nn.Module, memory_format: torch.memory_format) -> None:
    """Of convolutions of images the weights, whose order in memory is that of what they give."""
    for values in network.parameters():
        if values.dim() == 4:
            values.data = values.data.to(memory_format=memory_format)


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
