"""`ann2snn analyse-error`: accuracy against time, and the error of each layer by its cause."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ann2snn_cli.commands.flags import as_flag
from ann2snn_cli.commands.groups import grouped
from ann2snn_cli.commands.options import overwrite_option, report_options, settings_options
from ann2snn_cli.commands.render import ProgressBar, percent, show
from ann2snn_cli.commands.scores import whose_biases
from ann2snn_cli.commands.tables import table
from ann2snn_cli.config import Settings
from ann2snn_cli.words import count_of

if TYPE_CHECKING:
    from ann2snn_cli.workflows.analyse import AnalyseReport

DEFAULT_NETWORK = "example_net"


@grouped()
@settings_options(
    "network", "ann_weight", "allow_other_dataset", "rules", "data", "fold", "calibrate", "quantize",
    "finetune", "timing", "neurons", "check", "run", "save.output_dir", default_network=DEFAULT_NETWORK,
)  # fmt: skip
@click.option(
    "--save_dir", type=click.Path(path_type=Path), help="Folder for the files.  [default: NETWORK_analysis]"
)
@overwrite_option
@report_options
def command(settings: Settings, save_dir: Path | None, overwrite: bool, as_json: bool) -> None:
    """Show where a conversion loses accuracy, as pictures and tables.

    Converts the network (example_net, if none is named) anew for each of 1, 2, 4, ... T timesteps, with the
    same settings, and compares the last of these layer by layer with the float network; writes two
    pictures (PNG) and their numbers (CSV).

    \b
    ann2snn analyse-error
    ann2snn analyse-error mnist_cnn --weight_bitwidth 3 --finetune_epochs 0
    """
    from ann2snn_cli.workflows.analyse import AnalyseRequest, analyse

    with ProgressBar() as progress:
        report = analyse(AnalyseRequest(settings, save_dir, overwrite, as_flag), progress)
    show(report, as_json, lambda: _text(report))


def _text(report: AnalyseReport) -> str:
    from ann2snn_cli.ir.show import real_line
    from ann2snn_cli.workflows.weights import described

    headline = report.headline
    title = f"{report.network} on {report.dataset}: ANN {headline.heading} {headline.shown(report.ann)}"
    title = f"{title}\n{described(report.weights)}" if report.weights else title
    about = (
        f"mean error by layer, of the mean float activation ({count_of(report.layer_samples, 'test sample')})"
    )
    files = "\n".join(str(path) for path in report.files)
    over_time = f"{_over_time(report)}\n{whose_biases(report.settings, some=bool(report.layers))}"
    parts = [title, over_time, about, _layers(report), real_line(report.real_operators), files]
    return "\n\n".join(part for part in parts if part)


def _over_time(report: AnalyseReport) -> str:
    columns = list(report.by_timesteps[0])
    rows = [
        [row["timesteps"], *(report.headline.shown(row[name]) for name in columns[1:])]
        for row in report.by_timesteps
    ]
    return table(columns, rows)


def _layers(report: AnalyseReport) -> str:
    rows = [
        [
            error.layer,
            *(percent(value) for value in (error.quantization, error.timing, error.total)),
            "-" if error.firing_rate is None else f"{error.firing_rate:.4f}",
        ]
        for error in report.layers
    ]
    return table(["layer", "quantization", "spike timing", "total", "firing rate"], rows)
