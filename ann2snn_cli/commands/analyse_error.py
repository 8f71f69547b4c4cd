"""`ann2snn analyse-error`: accuracy against time, and the error of each layer by its cause."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ann2snn_cli.commands.options import json_option, overwrite_option, settings_options
from ann2snn_cli.commands.render import Progress, emit, note, percent, table
from ann2snn_cli.config import Settings, as_dict

if TYPE_CHECKING:
    from ann2snn_cli.analysis import Analysis
    from ann2snn_cli.commands.bench import Bench

USUAL = "example_net"


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
    from ann2snn_cli import analysis
    from ann2snn_cli.commands.bench import lay_out
    from ann2snn_cli.stages.export import files

    bench = lay_out(settings)
    folder = save_dir or Path(f"{bench.spec.name}_analysis")
    files.refuse_foreign(folder, is_ours=files.is_our_folder, overwrite=overwrite, flag="--save_dir")
    files.refuse_shut(folder.parent, "--save_dir")
    with Progress("analyse") as progress:
        result = analysis.analyse(
            bench.network, bench.data, bench.settings, bench.hardware, bench.device, tell=progress.line
        )
    document = _document(bench, result, folder)
    files.write_folder(folder, lambda place: _fill(place, document, result), overwrite=overwrite)
    emit(document, as_json, lambda: _text(document))


# The result ----------------------------------------------------------------------------------------


def _document(bench: Bench, result: Analysis, folder: Path) -> dict[str, Any]:
    files = ("accuracy.png", "accuracy.csv", "layers.png", "layers.csv")
    return {
        "schema": "ann2snn/analyse-error/1",
        "network": bench.spec.name,
        "dataset": bench.data.name,
        "delay": result.graph.timing.delay,
        "test_samples": bench.data.test_size,
        "ann": result.ann,
        "accuracy": [asdict(row) for row in result.by_timesteps],
        "layers": [asdict(error) for error in result.layers],
        "layer_samples": result.layer_samples,
        "files": [str(folder / name) for name in files],
        "settings": as_dict(bench.settings),
    }


def _fill(place: Path, document: dict[str, Any], result: Analysis) -> None:
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
            f"{name}, T = {result.graph.timing.timesteps}, delay {document['delay']}", result.layers
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
