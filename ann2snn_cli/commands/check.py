"""`ann2snn check`: every limit of a chip that a network breaks, before any training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ann2snn_cli.commands.groups import grouped
from ann2snn_cli.commands.options import report_options, settings_options
from ann2snn_cli.commands.render import ProgressBar, show
from ann2snn_cli.commands.verdicts import verdict_line, verdict_table, violation_list
from ann2snn_cli.config import Settings

if TYPE_CHECKING:
    from ann2snn_cli.workflows.check import CheckReport


@grouped()
@settings_options(
    "network", "rules", "data.dataset", "data.data_dir", "data.task", "fold", "quantize.weight_bitwidth",
    "quantize.method", "quantize.channel_wise", "timing.encoding", "neurons.pooling", "check", "run.seed",
)  # fmt: skip
@report_options
def command(settings: Settings, as_json: bool) -> int:
    """List every limit of a chip that a network breaks.

    Each comes with its remedies; the exit code is 3 if there is any. Shapes and settings decide: nothing is
    trained, no weights are needed. Without --hardware it is the network's own, else v1.

    \b
    ann2snn check example_net
    ann2snn check vgg16 --hardware v1 --weight_bitwidth 2
    """
    from ann2snn_cli.workflows.check import CheckRequest, check

    with ProgressBar() as progress:
        report = check(CheckRequest(settings), progress)
    show(report, as_json, lambda: _text(report))
    return 0 if report.hardware.ok else 3


def _text(report: CheckReport) -> str:
    hardware, broken = report.hardware, report.hardware.violations
    title = (
        f"{report.network} ({report.shown_shape}, {report.weight_bitwidth}-bit weights) "
        f"on hardware {hardware.name}: "
    )
    title += verdict_line(hardware)
    notes = "\n".join(f"note: {line}" for line in hardware.notes)
    parts = [title, verdict_table(hardware), violation_list(broken) if broken else "", notes]
    return "\n\n".join(part for part in parts if part)
