"""The stages one at a time: the same that `convert` runs in one go, with the graph in hand between them.

    graph = fuse_batch_norms(network, x)                              # FOLDED
    graph = quantize_and_finetune(graph, (x, labels), timesteps=16)   # QUANTIZED
    snn = set_weights_and_thresholds(graph)                           # SPIKING, as a torch module
    validate(network, (x, labels)).accuracy, validate(snn, (x, labels)).loss

What is returned is a new graph; the one that was given stays as it was. Settings have the names of the flags.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from ann2snn_cli import devices, pipeline
from ann2snn_cli.config import KEYS, Provenance, Settings, resolve
from ann2snn_cli.data.collect import collect
from ann2snn_cli.errors import Setting, UsageError
from ann2snn_cli.ir.graph import Graph, Level
from ann2snn_cli.ir.ops import FLOAT_BITS
from ann2snn_cli.lookup import unknown
from ann2snn_cli.pipeline import Rules
from ann2snn_cli.snn import SpikingNetwork
from ann2snn_cli.stages.simulate import AUTO
from ann2snn_cli.tasks import AUTO as AUTO_TASK
from ann2snn_cli.tasks import task_named
from ann2snn_cli.types import Loss
from ann2snn_cli.version import tool
from ann2snn_cli.workflows import prepare
from ann2snn_cli.workflows.validate import Validation, validated

FUSING = {"fold.batch_norm", "neurons.pooling", "quantize.method", "timing.encoding", "run.seed"}
REPLACING = {
    "data.batch_size", "data.calibration_samples", "data.num_workers", "data.task", "calibrate.mode",
    "timing.timesteps",
    "timing.schedule", "timing.delay", "neurons.reset_mode", "neurons.rounding", "quantize.bias_correction",
    "run.seed", "run.device", "run.engine", "run.threads",
}  # fmt: skip
QUANTIZING = REPLACING | {
    "quantize.weight_bitwidth", "quantize.channel_wise", "finetune.epochs", "finetune.lr",
    "finetune.momentum", "finetune.wd", "finetune.augment", "finetune.schedule",
    "finetune.distill", "finetune.held_out", "finetune.bf16", "finetune.on",
}  # fmt: skip
GIVEN_BY = {Level.FOLDED: "fuse_batch_norms", Level.QUANTIZED: "quantize_and_finetune"}


def fuse_batch_norms(
    network: nn.Module, data: Any, *, rules: Rules | str | None = None, **flags: Any
) -> Graph:
    """A trained network -> its graph at level FOLDED: batch norms are in the weights before them.

    Of `data`, of every kind that `convert` takes, only the shape of a sample is read (of a generator its
    first batch). `batch_norm=False` leaves each as an affine node of its own; `pooling="spiking"` gives
    average pooling neurons; with `method="td"` what lies beside attention and the like stays real;
    `encoding` says how a sample is shown; `rules` say what an activation becomes. The network is left as it
    was.
    """
    chosen = chosen_settings("fuse_batch_norms", flags, FUSING)
    samples = collect(data, samples=1)
    return prepare.from_objects(network, samples, chosen, rules=rules).folded()


def quantize_and_finetune(graph: Graph, data: Any, *, loss: Loss | None = None, **flags: Any) -> Graph:
    """A graph at level FOLDED -> QUANTIZED: clips, weights on their grid, training, corrected biases.

    `data` and `loss` are those of `convert`, and so are the flags: weight_bitwidth=4, timesteps=16,
    mode="99.9%", finetune_epochs=5, delay=0, ...; training-free unless `finetune_epochs` is given.
    """
    return _quantized("quantize_and_finetune", graph, data, flags, QUANTIZING, loss)


def set_weights_and_thresholds(graph: Graph) -> SpikingNetwork:
    """A graph at level QUANTIZED -> the SNN: integer weights, thresholds, biases and initial potentials."""
    _refuse_other_level("set_weights_and_thresholds", graph, Level.QUANTIZED)
    return SpikingNetwork(pipeline.set_weights_and_thresholds(graph), Provenance(tool=tool()))


def replace_activations(graph: Graph, data: Any, **flags: Any) -> SpikingNetwork:
    """A graph at level FOLDED -> the SNN with neurons in the place of activations, and its weights as floats.

    The same as 32 bits a weight: what is lost is due to the neurons alone. Flags are those of
    `quantize_and_finetune` without the grid and the training.
    """
    graph = _quantized("replace_activations", graph, data, flags, REPLACING, None, weight_bitwidth=FLOAT_BITS)
    return set_weights_and_thresholds(graph)


def validate(
    network: nn.Module | Graph, data: Any, *, engine: str = AUTO, task: str = AUTO_TASK
) -> Validation:
    """Top-1 and loss of an ANN, of an SNN or of a graph at any level; of an SNN also its firing rates.

    `data` are labelled, of every kind that `convert` takes, and all of them are used: of a dataset of
    `ann2snn_cli.data` the test split. An SNN runs at its own delay; `task` says
    what labels mean where their kind does not. The network is left as it was.
    """
    samples = collect(data, samples=sys.maxsize, task=task)
    if not getattr(samples, "labelled", True):
        raise UsageError("samples without labels cannot be scored", remedy="give (x, labels)")
    if isinstance(network, SpikingNetwork):
        network = network.graph
    is_snn = isinstance(network, Graph) and network.level is Level.SPIKING
    if engine != AUTO and not is_snn:
        raise UsageError(f"{Setting('engine', engine)} does nothing: this is no SNN", remedy="leave it out")
    prepare.refuse_unknown_engine(engine)
    size = Settings().data.test_batch_size
    return validated(network, samples.test_batches(size), task_named(samples.task), engine=engine)


def _quantized(
    who: str,
    graph: Graph,
    data: Any,
    flags: Mapping[str, Any],
    allowed: set[str],
    loss: Loss | None,
    **quantize: Any,
) -> Graph:
    _refuse_other_level(who, graph, Level.FOLDED)
    chosen = chosen_settings(who, flags, allowed)
    chosen = replace(chosen, quantize=replace(chosen.quantize, **quantize))
    samples = prepare.collected(data, chosen)
    prepare.refuse_unlabelled(samples, chosen)
    prepare.refuse_unknown_engine(chosen.run.engine)
    devices.use_threads(chosen.run.threads)
    device = devices.pick(chosen.run.device)
    return pipeline.quantize_and_finetune(graph, samples, chosen, device=device, loss=loss)


def chosen_settings(who: str, flags: Mapping[str, Any], allowed: set[str], epochs: int = 0) -> Settings:
    """The settings of a stage from the flags that it has."""
    dotted = {KEYS[name].flag: name for name in allowed}
    for flag in flags:
        if flag not in dotted:
            raise unknown(f"setting of {who}", flag, dotted)
    return resolve(
        None, [], {"finetune.epochs": epochs} | {dotted[flag]: value for flag, value in flags.items()}
    )


def _refuse_other_level(who: str, graph: Graph, level: Level) -> None:
    what = f"at level {graph.level.name}" if isinstance(graph, Graph) else f"of type {type(graph).__name__}"
    if not isinstance(graph, Graph) or graph.level is not level:
        raise UsageError(
            f"{who} takes a graph at level {level.name}; this is {what}",
            remedy=f"give the graph that {GIVEN_BY[level]} returns",
        )
