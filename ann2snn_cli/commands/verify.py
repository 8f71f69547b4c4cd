"""`ann2snn verify`: replay a vector pack with independent twins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ann2snn_cli.commands.groups import grouped
from ann2snn_cli.commands.options import delay_options, report_options, settings_options
from ann2snn_cli.commands.render import ProgressBar, percent, show
from ann2snn_cli.commands.tables import table
from ann2snn_cli.config import Schedule, Settings

if TYPE_CHECKING:
    from ann2snn_cli.workflows.faults import FaultReport
    from ann2snn_cli.workflows.verify import Run, VerifyReport


@grouped()
@click.argument("source", metavar="PACK|SNN.pth", type=click.Path(path_type=Path))
@click.option(
    "--backend", "backends", multiple=True, default=("all",), metavar="NAME",
    help="numpy, onnx, onnxruntime, c, iverilog, verilator or all; repeatable.  [default: all that can run]",
)  # fmt: skip
@click.option("--sample", "names", multiple=True, metavar="NAME", help="Only this sample; repeatable.")
@click.option("--samples", type=click.IntRange(0),
              help="Of an SNN.pth: so many test samples, and the corner cases.  [default: 8]")  # fmt: skip
@delay_options
@click.option("--faults", type=click.IntRange(1), metavar="N",
              help="Break the network in N ways, and report which the pack notices.")  # fmt: skip
@click.option("--max_clocks", type=click.IntRange(1), metavar="N",
              help="In Verilog, as many samples as fit.  [default: what takes about 20 seconds, beside "
                   "a build of 10 seconds to 2 minutes for Verilator]")  # fmt: skip
@settings_options(
    "data.dataset",
    "data.data_dir",
    "data.task",
    "data.test_batch_size",
    "run.seed",
    "run.engine",
    "run.threads",
)
@report_options
def command(
    source: Path,
    backends: tuple[str, ...],
    names: tuple[str, ...],
    samples: int | None,
    schedule: Schedule | None,
    delay: int | None,
    faults: int | None,
    max_clocks: int | None,
    settings: Settings,
    as_json: bool,
) -> int:
    """Replay a vector pack with independent twins and compare every spike and potential.

    Of an SNN.pth a pack is made first, for the time of the check. The first difference of each backend is
    named by sample, layer, step and neuron; any difference exits with 4, a pack that is damaged, or of which
    nothing was compared, with 1.

    \b
    ann2snn verify example_net_snn_pack
    ann2snn verify example_net_snn_pack --backend c --backend iverilog
    ann2snn verify example_net_snn_pack --faults 200
    """
    from ann2snn_cli.workflows.verify import VerifyRequest, verify

    request = VerifyRequest(source, backends, names, max_clocks, faults, samples, schedule, delay, settings)
    with ProgressBar() as progress:
        report = verify(request, progress)
    show(report, as_json, lambda: _text(report))
    return report.exit_code


def _text(report: VerifyReport) -> str:
    compared = any(not run.skipped for run in report.runs)
    verdict = (
        "verified" if report.ok else "NOT verified" if compared else "NOT verified: nothing was compared"
    )
    title = f"{report.source}: {verdict}"
    parts = [title, _problems(report), _backends(report), _differences(report)]
    parts += [f"note: {line}" for line in report.notes]
    if report.faults is not None:
        parts += [_score(report.faults), _coverage(report.faults)]
    return "\n\n".join(part for part in parts if part)


def _problems(report: VerifyReport) -> str:
    lines = []
    for problem in report.problems:
        owner = " ".join(
            f"{key} {getattr(problem, key)}" for key in ("layer", "sample") if getattr(problem, key)
        )
        lines.append(f"{problem.file}{f' ({owner})' if owner else ''}: {problem.what}")
    return "\n".join(lines)


def _backends(report: VerifyReport) -> str:
    rows = [
        [
            run.backend,
            _verdict(run),
            len(run.samples) if len(run.samples) >= run.asked else f"{len(run.samples)} of {run.asked}",
            run.outcome.checked if run.outcome else 0,
            run.outcome.mismatches if run.outcome else 0,
            run.version,
        ]
        for run in report.runs
    ]
    return table(["backend", "verdict", "samples", "checked", "mismatches", "version"], rows) if rows else ""


def _verdict(run: Run) -> str:
    if run.skipped:
        return "skipped"
    return "agrees" if run.agrees else "FAILED" if run.failed else "DIFFERS"


def _differences(report: VerifyReport) -> str:
    """Why backends did not run, and the first difference of each; those that agree on it share a line."""
    reasons = [(run.backend, run.skipped or run.failed) for run in report.runs]
    lines = [f"{backend}: {reason}" for backend, reason in reasons if reason]
    found: dict[str, list[str]] = {}
    for run in report.runs:
        if run.first:
            found.setdefault(run.first, []).append(run.backend)
    lines += [f"first difference ({', '.join(names)}): {text}" for text, names in found.items()]
    return "\n".join(lines)


def _score(faults: FaultReport) -> str:
    title = (
        f"faults: the pack kills {faults.killed} of {len(faults.verdicts) - faults.equivalent} mutants "
        f"({percent(faults.score)}); {faults.equivalent} more are proved equivalent"
    )
    names = ("layer", "mutants", "killed", "equivalent")
    rows = [[row[name] for name in names] for row in faults.layers]
    idle = " (what it reads is 0 in every sample)"
    lines = [f"survivor: {each.mutant}{idle * each.idle}" for each in faults.survivors]
    return "\n".join([title, "", table(names, rows), *lines])


def _coverage(faults: FaultReport) -> str:
    headers = (
        "population", "neurons", "never fire", "always fire", "never near the threshold", "silent channels",
    )  # fmt: skip
    rows = [
        [
            row.layer,
            row.neurons,
            *(len(neurons) for neurons in (row.never_fire, row.always_fire, row.never_near)),
            " ".join(map(str, row.silent_channels)),
        ]
        for row in faults.coverage
    ]
    return table(headers, rows)
