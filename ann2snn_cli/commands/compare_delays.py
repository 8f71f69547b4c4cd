"""`ann2snn compare-delays`: accuracy against latency, over numbers of steps and firing delays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ann2snn_cli.commands.flags import as_flag
from ann2snn_cli.commands.groups import grouped
from ann2snn_cli.commands.options import overwrite_option, report_options, settings_options
from ann2snn_cli.commands.render import ProgressBar, show
from ann2snn_cli.commands.tables import table
from ann2snn_cli.config import Settings
from ann2snn_cli.words import count_of

if TYPE_CHECKING:
    from ann2snn_cli.workflows.compare_delays import CompareDelaysReport


@grouped()
@settings_options(
    "network", "ann_weight", "allow_other_dataset", "rules", "data", "fold", "calibrate", "quantize",
    "timing.encoding", "neurons", "check", "run", "save.output_dir",
)  # fmt: skip
@click.option(
    "--steps", default="4,8,16,32", show_default=True, metavar="T,T,...",
    help="The numbers of timesteps to compare.",
)  # fmt: skip
@click.option(
    "--save_dir", type=click.Path(path_type=Path), help="Folder for the files.  [default: NETWORK_delays]"
)
@overwrite_option
@report_options
def command(settings: Settings, steps: str, save_dir: Path | None, overwrite: bool, as_json: bool) -> None:
    """Draw accuracy against latency for numbers of timesteps and firing delays.

    Converts the network once for each T, without finetuning, and scores the SNN at delays D of 0, 1, T/4,
    T/2 and T; its answer is there after T + depth x D steps. Writes a picture (PNG) with the ANN and the
    quantized networks as lines, and its numbers (CSV). A star marks what nothing as quick is better than.

    \b
    ann2snn compare-delays example_net
    ann2snn compare-delays mnist_cnn --steps 4,8,16 --weight_bitwidth 8 --mode mse
    """
    from ann2snn_cli.workflows.compare_delays import CompareDelaysRequest, compare_delays

    numbers = tuple(word for word in (word.strip() for word in steps.split(",")) if word)
    with ProgressBar() as progress:
        request = CompareDelaysRequest(settings, numbers, save_dir, overwrite, as_flag)
        report = compare_delays(request, progress)
    show(report, as_json, lambda: _text(report))


def _text(report: CompareDelaysReport) -> str:
    from ann2snn_cli.workflows.weights import described

    headline = report.headline
    title = (
        f"{report.network} on {report.dataset}: {count_of(report.samples, 'test sample')}, no finetuning; "
        f"ANN {headline.heading} {headline.shown(report.ann)}"
    )
    title = f"{title}\n{described(report.weights)}" if report.weights else title
    rows = [
        [
            point.latency,
            point.timesteps,
            point.delay,
            headline.shown(point.score),
            headline.shown(report.quantized[point.timesteps]),
            "*" if point.is_best else "",
        ]
        for point in report.points
    ]
    shown = table(["latency (steps)", "T", "D", headline.heading, "quantized ANN", "best"], rows)
    return "\n\n".join([title, shown, "\n".join(str(path) for path in report.files)])
