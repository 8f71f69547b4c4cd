"""Which weights a network gets: those trained on the data at hand, never others without a word."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path

import torch
from torch import nn

from ann2snn_cli import catalog
from ann2snn_cli.catalog import NetworkSpec, Weights
from ann2snn_cli.config import AUTO_WEIGHT, NO_WEIGHT, Settings
from ann2snn_cli.data import same_dataset
from ann2snn_cli.errors import Setting, UsageError
from ann2snn_cli.stages.trace import OnnxNetwork
from ann2snn_cli.tasks import AUTO, TASKS, Headline


def load(settings: Settings, spec: NetworkSpec, network: nn.Module) -> Weights:
    """Load the weights that the settings ask for into the network; their dataset is the settings' own."""
    if isinstance(network, OnnxNetwork):
        return Weights(str(network.path), network.sha256)
    asked = settings.ann_weight
    if asked == NO_WEIGHT or (asked == AUTO_WEIGHT and spec.trained):
        return Weights("", _state_hash(network))
    if asked != AUTO_WEIGHT:
        path = catalog.checkpoint_file(asked)
    else:
        path = catalog.default_checkpoint(spec, settings.data.dataset) or _none_there(settings, spec)
    weights = catalog.load_weights(network, path)
    _refuse_other_dataset(weights, settings)
    return weights


def refuse_for_onnx(settings: Settings, spec: NetworkSpec, trained: bool) -> None:
    """An ONNX file is a network with its weights: it takes no others, and is trained no further."""
    if settings.ann_weight != AUTO_WEIGHT:
        raise UsageError(
            "an ONNX file holds its own weights",
            where=str(Setting("ann_weight", settings.ann_weight)),
            remedy=f"leave {Setting('ann_weight')} out; or export the network again with the other weights",
        )
    if not trained:
        raise UsageError(
            "an ONNX file is a trained network",
            where=spec.path_or_module,
            remedy=f"convert it as it is ({Setting('finetune_epochs')} trains it as an SNN), or train the "
            "network it came from and export it again",
        )


def described(weights: Weights) -> str:
    """The weights in a line: where they lie, what they were trained on, and how well."""
    if not weights.path:
        return "weights: those that build() gives"
    if weights.path.endswith(".onnx"):
        return f"weights: those in {weights.path}"
    if not weights.dataset:
        return f"weights: {weights.path}, trained on unknown data (the file does not say)"
    return f"weights: {weights.path}, trained on {weights.dataset}{_score(weights)}"


def _score(weights: Weights) -> str:
    """What the checkpoint says that they scored, by the metric of their task."""
    for name, value in weights.provenance.items():
        if str(name).startswith("test_") and isinstance(value, int | float):
            score = str(name).removeprefix("test_")
            known = (task.headline for task in TASKS.values() if task.headline.name == score)
            return f", {score} {next(known, Headline(score, is_share=False)).shown(value)}"
    return ""


def _none_there(settings: Settings, spec: NetworkSpec) -> Path:
    """Refuse to go on without weights: how to train them, and which there are for other data."""
    dataset = settings.data.dataset
    others = catalog.other_checkpoints(spec)
    also = (
        f"; those in {others[0].path} were trained on other data: {Setting('ann_weight', others[0].name)} "
        f"{Setting('allow_other_dataset', True)} takes them all the same"
        if others
        else ""
    )
    raise UsageError(
        f"there are no weights of network {spec.name!r} trained on {dataset}",
        where=f"checkpoints/{catalog.checkpoint_name(spec.name, dataset)}.pth",
        remedy=f"train it with: {_training(settings)}   or give a checkpoint: {Setting('ann_weight')} FILE "
        f"(none: the weights that build() gives){also}",
    )


def _refuse_other_dataset(weights: Weights, settings: Settings) -> None:
    """Weights of other data convert without an error, and score what chance scores."""
    wanted = settings.data.dataset
    if not weights.dataset or settings.allow_other_dataset or same_dataset(weights.dataset, wanted):
        return
    raise UsageError(
        f"the weights were trained on {weights.dataset}, the data are {wanted}",
        where=weights.path,
        remedy=f"train them with: {_training(settings)}   or, if that is meant, give "
        f"{Setting('allow_other_dataset', True)}",
    )


def _training(settings: Settings) -> str:
    """The command that trains this network on these data."""
    dataset = Setting("dataset", shlex.quote(settings.data.dataset))
    task = f" {Setting('task', settings.data.task)}" if settings.data.task != AUTO else ""
    return f"{shlex.join(['ann2snn', 'train', settings.network])} {dataset}{task}"


def _state_hash(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
