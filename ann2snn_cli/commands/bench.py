"""What a command works on, found once: the network, its weights, the data, the hardware, the device."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ann2snn_cli.config import Hardware, Settings, load_hardware
from ann2snn_cli.errors import UsageError

if TYPE_CHECKING:
    from torch import device, nn

    from ann2snn_cli.catalog import NetworkSpec
    from ann2snn_cli.data import Data

NO_WEIGHTS = "none"  # --ann_weight none: the weights that build() gives, whatever they are


@dataclass(frozen=True, eq=False)
class Plan:
    """Settings with every default filled in, and the network and hardware they name: shapes only, no data."""

    settings: Settings
    spec: NetworkSpec
    network: nn.Module
    input_shape: tuple[int, ...]
    hardware: Hardware | None


@dataclass(frozen=True, eq=False)
class Bench:
    """A plan with the data at hand and the trained weights in the network."""

    settings: Settings
    spec: NetworkSpec
    network: nn.Module
    hardware: Hardware | None
    data: Data
    device: device
    weights: dict[str, Any]  # where they came from: the checkpoint's file, sha256 and provenance


def plan(settings: Settings, *, usual_hardware: str = "none") -> Plan:
    """What `check` and `inspect` need. Where nobody names a hardware it is `usual_hardware`."""
    from ann2snn_cli import catalog, data

    spec = catalog.network(settings.network)
    settings, hardware = _completed(settings, spec, usual_hardware)
    shape, classes = data.shape_of(settings.data.dataset, settings.data.data_dir)
    return Plan(settings, spec, _built(settings, spec, shape, classes), shape, hardware)


def lay_out(settings: Settings, *, trained: bool = True) -> Bench:
    """What `convert` needs. With `trained` False the network keeps the weights that build() gives it."""
    from ann2snn_cli import catalog, data, devices

    spec = catalog.network(settings.network)
    settings, hardware = _completed(settings, spec, "none")
    device = devices.pick(settings.run.device)
    samples = data.load(settings.data.dataset, settings.data.data_dir)
    network = _built(settings, spec, samples.input_shape, samples.classes)
    weights = _load_weights(settings, spec, network) if trained else {}
    return Bench(settings, spec, network.to(device), hardware, samples, device, weights)


def _completed(
    settings: Settings, spec: NetworkSpec, usual_hardware: str
) -> tuple[Settings, Hardware | None]:
    hardware = hardware_of(settings, spec, usual_hardware)
    settings = replace(settings, data=replace(settings.data, dataset=dataset_of(settings, spec)))
    name = (
        settings.check.hardware
        if settings.check.hardware != "auto"
        else (hardware.name if hardware else "none")
    )
    return replace(settings, check=replace(settings.check, hardware=name)), hardware


def _built(settings: Settings, spec: NetworkSpec, shape: tuple[int, ...], classes: int) -> nn.Module:
    import torch

    torch.manual_seed(settings.run.seed)
    return spec.build(shape, classes).eval()


def dataset_of(settings: Settings, spec: NetworkSpec) -> str:
    """The dataset that was asked for, else the network's own."""
    name = settings.data.dataset or spec.dataset
    if not name:
        raise UsageError(
            f"network {spec.name!r} names no dataset",
            remedy="give one with --dataset, or set DATASET in its file",
        )
    return name


def hardware_of(settings: Settings, spec: NetworkSpec, usual: str = "none") -> Hardware | None:
    """The hardware that was asked for; `auto` is the network's own, or the usual one."""
    from ann2snn_cli import catalog

    name = settings.check.hardware
    if name == "auto":
        name = spec.hardware or usual
    return None if name == "none" else load_hardware(catalog.hardware_file(name))


def _load_weights(settings: Settings, spec: NetworkSpec, network: nn.Module) -> dict[str, Any]:
    from ann2snn_cli import catalog

    if settings.ann_weight == NO_WEIGHTS or (not settings.ann_weight and spec.trained):
        return {"file": "", "sha256": _state_hash(network)}
    if settings.ann_weight:
        return catalog.load_weights(network, catalog.checkpoint_file(settings.ann_weight))
    found = catalog.default_checkpoint(spec)
    if found is None:
        raise UsageError(
            f"there are no trained weights for network {spec.name!r}",
            where=f"checkpoints/{spec.name}_ann.pth",
            remedy=f"train it with: ann2snn train {settings.network}   or give a checkpoint: "
            "--ann_weight FILE (none: the weights that build() gives)",
        )
    return catalog.load_weights(network, found)


def _state_hash(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
