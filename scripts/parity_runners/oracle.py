"""What a row's outputs should be, in eager torch, and the samples it is shown. Knows no tool."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset

from parity_runners.rows import TOKENS, Row

SEED, CALIBRATION = 0, 64
MANY = 64  # steps: with as many the float network is wanted


def network_of(row: Row, seed: int = SEED) -> nn.Module:
    """The network with weights from the seed, and batch norms that have seen samples."""
    torch.manual_seed(seed)
    network = row.build()
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.affine:
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.2)
    network.train()
    with torch.no_grad():
        for _ in range(20):
            network(*samples(row, 32))
    return network.train(row.is_training)


def samples(row: Row, count: int) -> tuple[Tensor, ...]:
    """Images are smooth, from 0 to 1; vectors and tokens are normal."""
    return tuple(_sample(shape, count) for shape in row.shapes)


def _sample(shape: tuple[int, ...], count: int) -> Tensor:
    if len(shape) == 1 or shape == TOKENS:
        return torch.randn(count, *shape)
    coarse = torch.rand(count, shape[0], *(4 for _ in shape[1:]))
    return nn.functional.interpolate(coarse, size=shape[1:])


def calibration(row: Row) -> tuple[Tensor, ...]:
    """The same samples for every tool."""
    torch.manual_seed(SEED + 1)
    return samples(row, CALIBRATION)


def given(row: Row, form: str) -> Any:
    """Calibration samples as this object."""
    x = calibration(row)
    inputs = x if len(x) > 1 else x[0]
    labels = torch.zeros(CALIBRATION, dtype=torch.int64)
    dataset = TensorDataset(*x, labels)
    forms: dict[str, Callable[[], Any]] = {
        "pairs": lambda: [(inputs, labels)],
        "tensors": lambda: [inputs],
        "dicts": lambda: [{"image": inputs, "label": labels}],
        "dicts of others": lambda: [{"img": inputs, "target": labels, "name": ["a"] * CALIBRATION}],
        "tensor": lambda: inputs,
        "dataset": lambda: dataset,
        "loader": lambda: DataLoader(dataset, 32),
    }
    return forms[form]()


def shown(row: Row) -> tuple[Tensor, ...]:
    """What the SNN is asked; the calibration has not seen it."""
    torch.manual_seed(SEED + 2)
    return samples(row, row.samples)


# What is right -------------------------------------------------------------------------------------


def wanted(row: Row) -> list[Tensor]:
    """The outputs of the float network; at a few steps, of what so few can say, rounded up or down."""
    network = network_of(row).eval()
    if isinstance(row.mode, float) and not row.is_nonsense:
        return [_clipped(network, row, lambda x, most: x.clamp(max=most * row.mode))]
    if row.timesteps < MANY:
        return [_clipped(network, row, _levels(row.timesteps, half)) for half in (0.5, 0.0)]
    with torch.no_grad():
        return [flat(network(*shown(row)))]


def _levels(steps: int, half: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, most: (x * steps / most + half).floor().clamp(max=steps) * most / steps


def _clipped(network: nn.Module, row: Row, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The outputs where `change(activations, their largest value in calibration)` follows each nn.ReLU."""
    most: dict[nn.Module, Tensor] = {}
    relus = [each for each in network.modules() if isinstance(each, nn.ReLU)]
    with torch.no_grad(), _hooks(relus, lambda relu, _, x: most.__setitem__(relu, x.max())):
        network(*calibration(row))
    with torch.no_grad(), _hooks(relus, lambda relu, _, x: change(x, most[relu])):
        return flat(network(*shown(row)))


@contextmanager
def _hooks(layers: list[nn.Module], hook: Callable[..., Any]) -> Iterator[None]:
    handles = [layer.register_forward_hook(hook) for layer in layers]
    yield
    for handle in handles:
        handle.remove()


def flat(outputs: Any) -> Tensor:
    """All outputs of each sample in one row."""
    if isinstance(outputs, dict):
        outputs = tuple(outputs.values())
    leaves = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    return torch.cat([leaf.flatten(1) for leaf in leaves], 1).detach().double()


class _Relus(TorchDispatchMode):
    """Counts calls that a population of neurons can stand for: relu, clamp from 0, hardtanh from 0."""

    calls = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__.rstrip("_")
        lowest = [*args[1:2], (kwargs or {}).get("min")][0]
        self.calls += name == "relu" or (name in ("hardtanh", "clamp", "clamp_min") and lowest == 0)
        return function(*args, **(kwargs or {}))


def relus_of(row: Row) -> int:
    """How many populations of neurons an SNN of it has."""
    network = copy.deepcopy(network_of(row)).eval()
    with _Relus() as counted:
        network(*shown(row))
    return counted.calls
