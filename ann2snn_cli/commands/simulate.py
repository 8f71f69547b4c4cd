"""`ann2snn simulate`: run a converted network on its test set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ann2snn_cli.commands.options import json_option, settings_options
from ann2snn_cli.commands.render import Progress, emit, percent, table
from ann2snn_cli.config import Settings

if TYPE_CHECKING:
    from ann2snn_cli.data import Data
    from ann2snn_cli.ir.graph import Graph


@click.command()
@click.argument("snn", type=click.Path(path_type=Path))
@settings_options("data", "run")
@click.option("--schedule", type=click.Choice(["stepwise", "layerwise"]), help="Default: the SNN's own.")
@json_option
def command(snn: Path, settings: Settings, schedule: str | None, as_json: bool) -> None:
    """Run a converted network: accuracy against time, firing rates.

    \b
    ann2snn simulate example_net_snn.pth
    """
    from dataclasses import replace

    from ann2snn_cli import data, devices, pipeline
    from ann2snn_cli.stages.export import pth

    graph, provenance = pth.load(snn)
    if schedule:
        graph = replace(graph, contract=replace(graph.timing, schedule=schedule))
    dataset = settings.data.dataset or provenance["dataset"]
    samples = data.load(dataset, settings.data.data_dir)
    _refuse_other_shape(graph, samples, snn)
    size, workers = settings.data.test_batch_size, settings.data.num_workers
    with Progress("simulate", -(-samples.test_size // size), "batch") as progress:
        result = pipeline.evaluate(
            graph,
            samples.test_batches(size, workers),
            device=devices.pick(settings.run.device),
            tick=progress.advance,
        )
    pipeline.refuse_mismatch(graph, result)
    lasts = pipeline.latency(graph)
    document: dict[str, Any] = {
        "schema": "ann2snn/simulate/1",
        "snn": str(snn),
        "dataset": samples.name,
        "test_samples": result.samples,
        "schedule": graph.timing.schedule,
        "timesteps": graph.timing.timesteps,
        "accuracy": {
            "quantized": result.quantized.accuracy,
            "stepwise": result.stepwise.accuracy,
            "layerwise": result.layerwise.accuracy,
        },
        "accuracy_by_step": [score.accuracy for score in result.by_step],
        "latency_steps": lasts.steps(graph.timing.schedule),
        "latency": lasts.report(),
        "firing_rate": result.firing_rate(graph),
        "spikes_per_sample": sum(result.spikes.values()) / max(1, result.samples),
    }
    emit(document, as_json, lambda: _text(document))


def _refuse_other_shape(graph: Graph, samples: Data, snn: Path) -> None:
    from ann2snn_cli.errors import BadData

    shapes = [node.shape for node in graph.inputs]
    if shapes != [tuple(samples.input_shape)]:
        raise BadData(
            f"the samples of {samples.name} have the shape {tuple(samples.input_shape)}, "
            f"the network takes {', '.join(map(str, shapes))}",
            where=str(snn),
            remedy="give the data it was made for with --dataset",
        )


def _text(document: dict[str, Any]) -> str:
    title = (
        f"{document['snn']} on {document['dataset']}: {document['test_samples']} test samples, "
        f"{document['schedule']}, {document['timesteps']} timesteps"
    )
    scores = table(["", "accuracy"], [[name, percent(value)] for name, value in document["accuracy"].items()])
    steps = table(
        ["step", "accuracy"],
        [[step, percent(value)] for step, value in enumerate(document["accuracy_by_step"], start=1)],
    )
    rates = table(
        ["population", "firing rate"],
        [[name, f"{rate:.4f}"] for name, rate in document["firing_rate"].items()],
    )
    return f"{title}\n\n{scores}\n\n{steps}\n\n{rates}\n{document['spikes_per_sample']:.0f} spikes a sample"
