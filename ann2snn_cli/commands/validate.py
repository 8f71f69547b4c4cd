"""`ann2snn validate`: what a network, or a converted network, scores by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ann2snn_cli.commands.groups import grouped
from ann2snn_cli.commands.options import delay_options, report_options, settings_options
from ann2snn_cli.commands.render import ProgressBar, show
from ann2snn_cli.commands.tables import table
from ann2snn_cli.config import Schedule, Settings
from ann2snn_cli.words import count_of

if TYPE_CHECKING:
    from ann2snn_cli.workflows.validate import ValidateReport


@grouped()
@settings_options(
    "network", "rules", "ann_weight", "allow_other_dataset", "data.dataset", "data.data_dir", "data.task",
    "data.num_workers", "data.test_batch_size", "data.test_samples", "timing.encoding", "run",
)  # fmt: skip
@delay_options
@report_options
def command(settings: Settings, schedule: Schedule | None, delay: int | None, as_json: bool) -> None:
    """Score a network or a converted network by itself: top-1, loss, firing rates.

    NETWORK is as for convert, or the .pth of an SNN.

    \b
    ann2snn validate example_net
    ann2snn validate example_net_snn.pth
    """
    from ann2snn_cli.workflows.validate import ValidateRequest, validate

    with ProgressBar() as progress:
        report = validate(ValidateRequest(settings, schedule, delay), progress)
    show(report, as_json, lambda: _text(report))


def _text(report: ValidateReport) -> str:
    found = report.validation
    kind = "ANN" if report.timesteps is None else f"SNN, {report.timesteps} timesteps, delay {report.delay}"
    title = f"{report.network} on {report.dataset}: {count_of(found.samples, 'test sample')}, {kind}"
    rows = [[name, found.headline.shown(value, name)] for name, value in found.scores.items()]
    notes = "\n".join(f"note: {line}" for line in report.notes)
    return "\n\n".join(filter(None, [title, table(["metric", "value"], rows), notes, _firing(report)]))


def _firing(report: ValidateReport) -> str:
    found = report.validation
    if report.timesteps is None:
        return ""
    rows = [[name, f"{rate:.4f}"] for name, rate in found.firing_rate.items()]
    if not rows:
        return "no population fires"
    spikes = f"{found.spikes_per_sample:.0f} spikes a sample; engine {found.engine}"
    return f"{table(['population', 'firing rate'], rows)}\n{spikes}"
