"""`ann2snn diff`: where two vector packs differ, or a pack and a simulator's log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ann2snn_cli.commands.groups import grouped
from ann2snn_cli.commands.options import report_options
from ann2snn_cli.commands.render import ProgressBar, show
from ann2snn_cli.words import count_of

if TYPE_CHECKING:
    from ann2snn_cli.workflows.diff import DiffReport


@grouped()
@click.argument("one", metavar="PACK", type=click.Path(path_type=Path))
@click.argument("other", metavar="PACK|LOG", type=click.Path(path_type=Path))
@report_options
def command(one: Path, other: Path, as_json: bool) -> int:
    """Find the first difference between two vector packs, or a pack and a simulator's log.

    A log is a CSV with the columns sample, layer, step, neuron, and spike or potential (steps count from 1,
    neurons are flat indices from 0), or a folder of memory files named as in a pack's expect/. Any part of a
    run will do. A difference exits with 4.

    \b
    ann2snn diff old_snn_pack new_snn_pack
    ann2snn diff example_net_snn_pack rtl_log.csv
    """
    from ann2snn_cli.workflows.diff import DiffRequest, diff

    with ProgressBar() as progress:
        report = diff(DiffRequest(one, other), progress)
    show(report, as_json, lambda: _text(report))
    return 0 if report.comparison.same else 4


def _text(report: DiffReport) -> str:
    found = report.comparison
    activity = found.activity
    compared = count_of(activity.checked, "value")
    counted = f"{compared} (spikes and potentials) compared, {activity.mismatches:,} different"
    networks = f"networks DIFFER in {len(found.network)}, " if found.network else ""
    title = f"{report.one} | {report.other}: {'the same, ' if found.same else networks}{counted}"
    first = [f"first difference: {report.first}"] if report.first else []
    return "\n".join([title, *found.network, *first])
