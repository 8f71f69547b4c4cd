"""`ann2snn compare-modes`: accuracy against time for each way of setting thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ann2snn_cli.commands.flags import as_flag
from ann2snn_cli.commands.groups import grouped
from ann2snn_cli.commands.options import overwrite_option, report_options, settings_options
from ann2snn_cli.commands.render import ProgressBar, show
from ann2snn_cli.commands.tables import table
from ann2snn_cli.config import MODES_TO_COMPARE, Settings
from ann2snn_cli.words import count_of

if TYPE_CHECKING:
    from ann2snn_cli.workflows.compare_modes import CompareModesReport


@grouped()
@settings_options(
    "network", "ann_weight", "allow_other_dataset", "rules", "data", "fold", "quantize", "timing", "neurons",
    "check", "run", "save.output_dir",
)  # fmt: skip
@click.option(
    "--modes", default=",".join(MODES_TO_COMPARE), show_default=True, metavar="MODE,MODE,...",
    help="The modes to compare, each as --mode of `ann2snn convert` takes it.",
)  # fmt: skip
@click.option(
    "--save_dir", type=click.Path(path_type=Path), help="Folder for the files.  [default: NETWORK_modes]"
)
@overwrite_option
@report_options
def command(settings: Settings, modes: str, save_dir: Path | None, overwrite: bool, as_json: bool) -> None:
    """Draw accuracy against time for each way of setting thresholds.

    Converts the network once for each mode, without finetuning, and scores the SNN after each of T steps;
    writes a picture (PNG) with the ANN and the quantized networks as lines, and its numbers (CSV).

    \b
    ann2snn compare-modes tutorial_cnn --timesteps 32
    ann2snn compare-modes example_net --modes max,99.9%,mse --delay 4
    """
    from ann2snn_cli.workflows.compare_modes import CompareModesRequest, compare_modes

    names = tuple(word for word in (word.strip() for word in modes.split(",")) if word)
    with ProgressBar() as progress:
        request = CompareModesRequest(settings, names, save_dir, overwrite, as_flag)
        report = compare_modes(request, progress)
    show(report, as_json, lambda: _text(report))


def _text(report: CompareModesReport) -> str:
    from ann2snn_cli.workflows.analyse import ladder
    from ann2snn_cli.workflows.weights import described

    headline = report.headline
    title = (
        f"{report.network} on {report.dataset}: {count_of(report.samples, 'test sample')}, "
        f"{report.timesteps} timesteps, delay {report.delay}, no finetuning; "
        f"ANN {headline.heading} {headline.shown(report.ann)}"
    )
    title = f"{title}\n{described(report.weights)}" if report.weights else title
    files = "\n".join(str(path) for path in report.files)
    return "\n\n".join([title, _table(report, ladder(report.timesteps)), files])


def _table(report: CompareModesReport, steps: Sequence[int]) -> str:
    """A line a mode: after some of the steps, and the quantized network."""
    shown = report.headline.shown
    rows = [
        [mode, *(shown(scores.by_step[step - 1]) for step in steps), shown(scores.quantized)]
        for mode, scores in report.by_mode.items()
    ]
    return table(["mode", *(f"step {step}" for step in steps), "quantized ANN"], rows)
