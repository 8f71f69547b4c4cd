"""`ann2snn simulate`: run a converted network on its test set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ann2snn_cli.commands.groups import grouped
from ann2snn_cli.commands.options import delay_options, report_options, settings_options
from ann2snn_cli.commands.render import ProgressBar, show
from ann2snn_cli.commands.scores import firing_table, score_table
from ann2snn_cli.commands.tables import table
from ann2snn_cli.config import Schedule, Settings
from ann2snn_cli.words import count_of

if TYPE_CHECKING:
    from ann2snn_cli.workflows.simulate import SimulateReport


@grouped()
@click.argument("snn", type=click.Path(path_type=Path))
@settings_options(
    "rules",
    "data.dataset",
    "data.data_dir",
    "data.task",
    "data.num_workers",
    "data.test_batch_size",
    "data.test_samples",
    "timing.encoding",
    "run.device",
    "run.engine",
    "run.threads",
)
@delay_options
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), metavar="N",
    help="Of spikes by chance (--encoding poisson).  [default: that of the conversion]",
)  # fmt: skip
@report_options
def command(
    snn: Path,
    settings: Settings,
    schedule: Schedule | None,
    delay: int | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """Run a converted network: accuracy against time, firing rates.

    \b
    ann2snn simulate example_net_snn.pth
    ann2snn simulate example_net_snn.pth --delay 4
    """
    from ann2snn_cli.workflows.simulate import SimulateRequest, simulate

    with ProgressBar() as progress:
        report = simulate(SimulateRequest(snn, settings, schedule, delay, seed), progress)
    show(report, as_json, lambda: _text(report))


def _text(report: SimulateReport) -> str:
    evaluation, latency = report.evaluation, report.latency
    title = (
        f"{report.snn} on {report.dataset}: {count_of(evaluation.samples, 'test sample')}, "
        f"{latency.timesteps} timesteps, delay {report.delay}"
    )
    steps = table(
        ["step", evaluation.headline.heading],
        [[step, evaluation.headline.shown(value)] for step, value in enumerate(evaluation.by_step, start=1)],
    )
    notes = "\n".join(f"note: {line}" for line in report.notes)
    return "\n\n".join([title, score_table(evaluation, latency), notes, steps, firing_table(evaluation)])
