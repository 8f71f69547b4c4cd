"""What a command works on, found once: the network, its weights, the data, the hardware, the device."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ann2snn_cli.commands.render import note
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
    from ann2snn_cli import catalog, data, pipeline

    spec = catalog.network(settings.network)
    settings, hardware = _completed(settings, spec, usual_hardware)
    shape, classes = data.shape_of(settings.data.dataset, settings.data.data_dir)
    network = _built(settings, spec, shape, classes)
    for line in pipeline.notes_of(network):
        note(f"note: {line}")
    return Plan(settings, spec, network, shape, hardware)


def lay_out(settings: Settings, *, trained: bool = True) -> Bench:
    """What `convert` needs. With `trained` False the network keeps the weights that build() gives it."""
    from ann2snn_cli import catalog, data, devices

    spec = catalog.network(settings.network)
    if spec.is_onnx:
        _refuse_weights(settings, spec, trained)
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
            remedy="give one with --dataset" + ("" if spec.is_onnx else ", or set DATASET in its file"),
        )
    return name


def hardware_of(settings: Settings, spec: NetworkSpec, usual: str = "none") -> Hardware | None:
    """The hardware that was asked for; `auto` is the network's own, or the usual one."""
    from ann2snn_cli import catalog

    name = settings.check.hardware
    if name == "auto":
        name = spec.hardware or usual
    return None if name == "none" else load_hardware(catalog.hardware_file(name))


def _refuse_weights(settings: Settings, spec: NetworkSpec, trained: bool) -> None:
    """An ONNX file is a network with its weights: it takes no others, and is trained no further."""
    if settings.ann_weight:
        raise UsageError(
            "an ONNX file holds its own weights",
            where=f"--ann_weight {settings.ann_weight}",
            remedy="leave --ann_weight out; or export the network again with the other weights in it",
        )
    if not trained:
        raise UsageError(
            "an ONNX file is a trained network",
            where=spec.path_or_module,
            remedy="convert it as it is (--finetune_epochs trains it as an SNN), or train the network "
            "it came from and export it again",
        )


def _load_weights(settings: Settings, spec: NetworkSpec, network: nn.Module) -> dict[str, Any]:
    from ann2snn_cli import catalog
    from ann2snn_cli.stages.trace import OnnxNetwork

    if isinstance(network, OnnxNetwork):
        return {"file": network.path.name, "sha256": network.sha256}
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
