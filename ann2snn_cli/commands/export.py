"""`ann2snn export`: a converted network for others, in their formats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ann2snn_cli.commands.groups import grouped
from ann2snn_cli.commands.options import delay_options, overwrite_option, report_options, settings_options
from ann2snn_cli.commands.render import ProgressBar, percent, show
from ann2snn_cli.commands.tables import files_table, table
from ann2snn_cli.config import Schedule, Settings
from ann2snn_cli.workflows.export import EXPORTERS

if TYPE_CHECKING:
    from ann2snn_cli.stages.export.nir import NirLoss
    from ann2snn_cli.workflows.export import Agreement, ExportReport


@grouped(epilog="\b\nFormats:\n" + "\n".join(f"  {each.name:8} {each.what}" for each in EXPORTERS.values()))
@click.argument("snn", metavar="SNN.pth", type=click.Path(path_type=Path))
@click.option("--format", "formats", multiple=True, default=("pack",), metavar="NAME",
              help=f"{', '.join(EXPORTERS)}; repeatable.  [default: pack]")  # fmt: skip
@delay_options
@click.option(
    "--samples", type=click.IntRange(0), default=10, show_default=True, help="Test samples in a pack."
)
@click.option("--corners/--no_corners", default=True, help="Corner cases in a pack.  [default: on]")
@click.option("--layers", multiple=True, metavar="NAME", help="Record only this layer; repeatable.")
@click.option("--steps", type=click.IntRange(1), metavar="N", help="Record only the first N steps.")
@click.option("--potentials/--no_potentials", default=True, help="Potentials too.  [default: on]")
@click.option(
    "--flavor", default="plain", metavar="NAME", help="Of NIR, for a reader that needs another form."
)
@click.option(
    "--replay", is_flag=True, help="Replay the NIR file in an installed reader, and report agreement."
)
@click.option("--output_dir", "--save_dir", "save_dir", type=click.Path(path_type=Path), default=Path(),
              help="Folder for all of them.  [default: here]")  # fmt: skip
@settings_options(
    "data.dataset", "data.data_dir", "data.task", "data.test_batch_size", "run.engine", "run.threads"
)
@overwrite_option
@report_options
def command(
    snn: Path,
    formats: tuple[str, ...],
    schedule: Schedule | None,
    delay: int | None,
    samples: int,
    corners: bool,
    layers: tuple[str, ...],
    steps: int | None,
    potentials: bool,
    flavor: str,
    replay: bool,
    save_dir: Path,
    settings: Settings,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a converted network for others: vector pack, ONNX, NIR, C, Verilog.

    \b
    ann2snn export example_net_snn.pth --format pack
    ann2snn export example_net_snn.pth --format c --format verilog --format onnx
    """
    from ann2snn_cli.workflows.export import ExportRequest, export

    request = ExportRequest(
        snn, formats, schedule, delay, samples, corners, layers, steps, potentials, flavor, replay, save_dir,
        settings, overwrite,
    )  # fmt: skip
    with ProgressBar() as progress:
        report = export(request, progress)
    show(report, as_json, lambda: _text(report))


def _text(report: ExportReport) -> str:
    parts = [
        f"{report.snn}: {report.timesteps} timesteps, delay {report.delay}",
        files_table(report.files),
        _losses(report.losses) if report.losses else "",
        _agreements(report.agreement) if report.agreement else "",
        "\n".join(f"note: {line}" for line in report.notes),
    ]
    return "\n\n".join(part for part in parts if part)


def _losses(losses: tuple[NirLoss, ...]) -> str:
    """A row a loss; layers that lose the same share it."""
    layers: dict[tuple[str, str], list[str]] = {}
    for loss in losses:
        layers.setdefault((loss.effect, loss.remedy), []).append(loss.layer or "network")
    whats = {(loss.effect, loss.remedy): loss.what.split(", up to ")[0] for loss in losses}
    rows = [[", ".join(names), whats[key], *key] for key, names in layers.items()]
    return "what NIR does not say:\n\n" + table(["layer", "lost", "effect", "remedy"], rows)


def _agreements(rows: tuple[Agreement, ...]) -> str:
    cells = [[row.reader, row.layer, row.spikes, row.replayed, percent(row.share)] for row in rows]
    return table(["reader", "population", "our spikes", "its spikes", "agreement"], cells)
