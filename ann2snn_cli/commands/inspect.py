"""`ann2snn inspect`: the graph of a network, or of a converted network, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ann2snn_cli.commands.groups import grouped
from ann2snn_cli.commands.options import report_options, settings_options
from ann2snn_cli.commands.render import ProgressBar, show
from ann2snn_cli.commands.tables import table
from ann2snn_cli.config import Settings

if TYPE_CHECKING:
    from ann2snn_cli.workflows.inspect import InspectReport


@grouped()
@settings_options(
    "network", "rules", "data.dataset", "data.data_dir", "fold", "quantize.method", "neurons.pooling",
    "check.hardware", "run.seed",
)  # fmt: skip
@report_options
def command(settings: Settings, as_json: bool) -> None:
    """Show the graph of a network or of a converted network.

    Of a converted one also, for every population and read-out, the lowest and the highest potential that any
    input can bring about and the bits of a register that holds both, proved from the weights.

    \b
    ann2snn inspect resnet20
    ann2snn inspect example_net_snn.pth
    """
    from ann2snn_cli.workflows.inspect import InspectRequest, inspect

    with ProgressBar() as progress:
        report = inspect(InspectRequest(settings), progress)
    show(report, as_json, lambda: _text(report))


def _text(report: InspectReport) -> str:
    contract = report.contract or {}
    words = ", ".join(f"{name} {value}" for name, value in contract.items())
    title = report.name + (f" ({words})" if words else "")
    counts = f"{report.parameters} weights, {report.neurons} neurons"
    real = f"{report.real_line}\n\n" if report.real_line else ""
    notes = "".join(f"note: {line}\n\n" for line in report.notes)
    title = f"{title}: level {report.graph.level.name}, {counts}"
    return f"{title}\n\n{real}{notes}{table(report.headers, report.rows)}"
