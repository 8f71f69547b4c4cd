"""Where a conversion loses accuracy: over time, and layer by layer by its cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ann2snn_cli import pipeline
from ann2snn_cli.config import Hardware, Settings
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.stages.analyse.errors import LayerError, layer_errors
from ann2snn_cli.stages.simulate import simulate

LAYER_SAMPLES = 256  # of the test set


@dataclass(frozen=True)
class Accuracies:
    """What a conversion for so many timesteps scores, in fractions of 1."""

    timesteps: int
    quantized: float | None
    stepwise: float | None
    layerwise: float | None


@dataclass(frozen=True, eq=False)
class Analysis:
    """What was measured; `graph` is the conversion that was asked for, the last of the ladder."""

    graph: Graph
    ann: float | None
    by_timesteps: tuple[Accuracies, ...]
    layers: tuple[LayerError, ...]
    layer_samples: int


def ladder(timesteps: int) -> list[int]:
    """1, 2, 4, ... and T itself."""
    return sorted({2**k for k in range(timesteps.bit_length()) if 2**k <= timesteps} | {timesteps})


def analyse(
    network: nn.Module,
    data: pipeline.Samples,
    settings: Settings,
    hardware: Hardware | None,
    device: torch.device | str,
    *,
    tell: Callable[[str], None] = lambda line: None,
) -> Analysis:
    """Convert anew for every step of the ladder; compare the last layer by layer with the float network."""
    rows: list[Accuracies] = []
    ann: float | None = None
    for steps in ladder(settings.threshold.timesteps):
        asked = replace(settings, threshold=replace(settings.threshold, timesteps=steps))
        graph = pipeline.convert(network, data, asked, hardware=hardware, device=device).graph
        batches = data.test_batches(settings.data.test_batch_size)
        score = pipeline.evaluate(graph, batches, network=network, device=device)
        pipeline.refuse_mismatch(graph, score)
        ann = score.ann.accuracy
        scores = (score.quantized.accuracy, score.stepwise.accuracy, score.layerwise.accuracy)
        rows.append(Accuracies(steps, *scores))
        shown = "no class scores" if scores[1] is None else f"stepwise {100 * scores[1]:.2f} %"
        tell(f"T = {steps}: {shown}")
    tell("errors by layer")
    x = next(iter(data.test_batches(LAYER_SAMPLES)))[0]
    pooling = pipeline.pooling_of(settings, hardware)
    floats = pipeline.prepare(network, data.input_shape, settings, pooling).to(device)
    graph_there = graph.to(device)
    parts = torch.split(x.to(device), settings.data.test_batch_size)
    errors = layer_errors(floats, graph_there, parts, lambda part: spike_counts(graph_there, part))
    return Analysis(graph, ann, tuple(rows), tuple(errors), len(x))


def spike_counts(graph: Graph, x: Tensor) -> dict[str, Tensor]:
    """What every population and read-out passes on over all steps, at the graph's own delay."""
    return dict(simulate(graph, x, counts=True).counts or {})
