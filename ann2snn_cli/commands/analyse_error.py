"""`ann2snn analyse-error`: accuracy against time, and the error of each layer by its cause."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ann2snn_cli.commands.options import json_option, overwrite_option, settings_options
from ann2snn_cli.commands.render import Progress, emit, note, percent, table
from ann2snn_cli.config import Settings, as_dict

if TYPE_CHECKING:
    from ann2snn_cli.commands.bench import Bench
    from ann2snn_cli.ir.graph import Graph
    from ann2snn_cli.stages.analyse.errors import LayerError

USUAL = "example_net"
SAMPLES = 256  # of the test set, for the errors of layers


@click.command()
@settings_options(
    "network", "ann_weight", "data", "fold", "calibrate", "quantize", "finetune", "threshold", "check", "run",
    default_network=USUAL,
)  # fmt: skip
@click.option("--save_dir", type=click.Path(path_type=Path), help="Default: NETWORK_analysis.")
@overwrite_option
@json_option
def command(settings: Settings, save_dir: Path | None, overwrite: bool, as_json: bool) -> None:
    """Show where a conversion loses accuracy, as pictures and tables.

    Converts the network (example_net, if none is named) anew for each of 1, 2, 4, ... T timesteps, with the
    same settings, and compares the last of these layer by layer with the float network; writes two
    pictures (PNG) and their numbers (CSV).

    \b
    ann2snn analyse-error
    ann2snn analyse-error mnist_cnn --weight_bitwidth 3 --finetune_epochs 0
    """
    from ann2snn_cli.commands.bench import lay_out
    from ann2snn_cli.stages.export import files

    bench = lay_out(settings)
    folder = save_dir or Path(f"{bench.spec.name}_analysis")
    files.refuse_foreign(folder, is_ours=files.is_our_folder, overwrite=overwrite)
    files.refuse_shut(folder.parent)
    result = _analysed(bench)
    document = _document(bench, result, folder)
    files.write_folder(folder, lambda place: _fill(place, document, result), overwrite=overwrite)
    emit(document, as_json, lambda: _text(document))


class _Result:
    """What was measured."""

    def __init__(self, graph: Graph, float_graph: Graph) -> None:
        self.graph = graph
        self.float_graph = float_graph
        self.by_timesteps: list[dict[str, Any]] = []
        self.ann: float | None = None
        self.errors: list[LayerError] = []


def _ladder(timesteps: int) -> list[int]:
    """1, 2, 4, ... and T itself."""
    return sorted({2**k for k in range(timesteps.bit_length()) if 2**k <= timesteps} | {timesteps})


def _analysed(bench: Bench) -> _Result:
    import torch

    from ann2snn_cli import pipeline
    from ann2snn_cli.stages.analyse.errors import layer_errors

    graph, _ = _converted(bench, bench.settings)
    float_graph = pipeline.prepare(
        bench.network.cpu(),
        bench.data.input_shape,
        bench.settings,
        pipeline.pooling_of(bench.settings, bench.hardware),
    )
    bench.network.to(bench.device)
    result = _Result(graph, float_graph)
    ladder = _ladder(bench.settings.threshold.timesteps)
    with Progress("timesteps", len(ladder)) as progress:
        for steps in ladder:
            short = replace(bench.settings, threshold=replace(bench.settings.threshold, timesteps=steps))
            converted, score = _converted(bench, short) if steps != graph.timing.timesteps else (graph, None)
            score = score or _score(bench, converted)
            result.ann = score.ann.accuracy
            result.by_timesteps.append(
                {
                    "timesteps": steps,
                    "quantized": score.quantized.accuracy,
                    "stepwise": score.stepwise.accuracy,
                    "layerwise": score.layerwise.accuracy,
                }
            )
            progress.advance()
            progress.line(f"T = {steps}: stepwise {percent(score.stepwise.accuracy)}")
    size = min(SAMPLES, bench.data.test_size)
    x = next(iter(bench.data.test_batches(size)))[0]
    result.errors = layer_errors(float_graph, graph, torch.split(x, bench.settings.data.test_batch_size))
    return result


def _converted(bench: Bench, settings: Settings) -> tuple[Graph, Any]:
    from ann2snn_cli import pipeline

    listener = pipeline.Listener(stage=lambda line: None)
    conversion = pipeline.convert(
        bench.network, bench.data, settings, hardware=bench.hardware, device=bench.device, listener=listener
    )
    return conversion.graph, _score(bench, conversion.graph)


def _score(bench: Bench, graph: Graph) -> Any:
    from ann2snn_cli import pipeline

    batches = bench.data.test_batches(bench.settings.data.test_batch_size)
    return pipeline.evaluate(graph, batches, network=bench.network, device=bench.device)


# The result ----------------------------------------------------------------------------------------


def _document(bench: Bench, result: _Result, folder: Path) -> dict[str, Any]:
    names = ("layer", "source", "quantization", "timing", "total", "firing_rate")
    files = ("accuracy.png", "accuracy.csv", "layers.png", "layers.csv")
    return {
        "schema": "ann2snn/analyse-error/1",
        "network": bench.spec.name,
        "dataset": bench.data.name,
        "schedule": result.graph.timing.schedule,
        "test_samples": bench.data.test_size,
        "ann": result.ann,
        "accuracy": result.by_timesteps,
        "layers": [{name: getattr(error, name) for name in names} for error in result.errors],
        "layer_samples": min(SAMPLES, bench.data.test_size),
        "files": [str(folder / name) for name in files],
        "settings": as_dict(bench.settings),
    }


def _fill(place: Path, document: dict[str, Any], result: _Result) -> None:
    from ann2snn_cli.stages.analyse import pictures
    from ann2snn_cli.stages.export import files

    bits = document["settings"]["quantize"]["weight_bitwidth"]
    name = f"{document['network']} on {document['dataset']}, {bits}-bit weights"
    rows = document["accuracy"]
    if document["ann"] is not None:
        curves = {
            f"SNN {schedule}": [row[schedule] for row in rows] for schedule in ("stepwise", "layerwise")
        }
        picture = pictures.accuracy_against_time(
            name, curves, {"ANN": document["ann"]}, [row["timesteps"] for row in rows]
        )
        (place / "accuracy.png").write_bytes(picture)
    else:
        document["files"] = [path for path in document["files"] if not path.endswith("accuracy.png")]
        note("no accuracy picture: the outputs are no class scores")
    (place / "layers.png").write_bytes(
        pictures.error_by_layer(
            f"{name}, T = {result.graph.timing.timesteps}, {document['schedule']}", result.errors
        )
    )
    (place / "accuracy.csv").write_bytes(_csv(rows))
    (place / "layers.csv").write_bytes(_csv(document["layers"]))
    (place / files.MANIFEST).write_bytes(files.as_json(document))


def _csv(rows: Sequence[dict[str, Any]]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def _text(document: dict[str, Any]) -> str:
    accuracy = table(
        ["timesteps", "quantized", "stepwise", "layerwise"],
        [
            [row["timesteps"], *(percent(row[name]) for name in ("quantized", "stepwise", "layerwise"))]
            for row in document["accuracy"]
        ],
    )
    layers = table(
        ["layer", "quantization", "spike timing", "total", "firing rate"],
        [
            [
                e["layer"],
                percent(e["quantization"]),
                percent(e["timing"]),
                percent(e["total"]),
                _rate(e["firing_rate"]),
            ]
            for e in document["layers"]
        ],
    )
    title = f"{document['network']} on {document['dataset']}: ANN {percent(document['ann'])}"
    about = f"mean error by layer, of the mean float activation ({document['layer_samples']} test samples)"
    return f"{title}\n\n{accuracy}\n\n{about}\n\n{layers}\n\n" + "\n".join(document["files"])


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.4f}"
