"""`ann2snn simulate`: run a converted network on its test set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ann2snn_cli.commands.options import json_option, settings_options
from ann2snn_cli.commands.render import Progress, emit, percent, table
from ann2snn_cli.commands.snn import data_of, load_snn
from ann2snn_cli.config import Settings


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
    from ann2snn_cli import devices, pipeline

    graph, provenance = load_snn(snn, schedule)
    samples = data_of(graph, provenance, settings, snn)
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
        "delay": graph.timing.delay,
        "timesteps": graph.timing.timesteps,
        "accuracy": {
            "quantized": result.quantized.accuracy,
            "stepwise": result.stepwise.accuracy,
            "layerwise": result.layerwise.accuracy,
        },
        "accuracy_by_step": [score.accuracy for score in result.by_step],
        "latency_steps": lasts.timesteps + lasts.depth * graph.timing.delay,
        "latency": lasts.report(),
        "firing_rate": result.firing_rate(graph),
        "spikes_per_sample": sum(result.spikes.values()) / max(1, result.samples),
    }
    emit(document, as_json, lambda: _text(document))


def _text(document: dict[str, Any]) -> str:
    title = (
        f"{document['snn']} on {document['dataset']}: {document['test_samples']} test samples, "
        f"delay {document['delay']}, {document['timesteps']} timesteps"
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
