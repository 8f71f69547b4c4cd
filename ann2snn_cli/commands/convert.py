"""`ann2snn convert`: a trained network becomes a checked, integer SNN and its test vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from ann2snn_cli.commands.flags import as_flag
from ann2snn_cli.commands.groups import grouped
from ann2snn_cli.commands.options import overwrite_option, report_options, settings_options
from ann2snn_cli.commands.render import ProgressBar, show
from ann2snn_cli.commands.scores import firing_table, score_table, theorem, whose_biases
from ann2snn_cli.commands.tables import files_table, table
from ann2snn_cli.commands.verdicts import verdict_line, verdict_table
from ann2snn_cli.config import Settings
from ann2snn_cli.errors import Setting, UsageError
from ann2snn_cli.words import count_of

if TYPE_CHECKING:
    from ann2snn_cli.workflows.convert import ConvertReport
    from ann2snn_cli.workflows.convert_part import ConvertPartReport

SECTIONS = (
    "network", "ann_weight", "allow_other_dataset", "rules", "data", "fold", "calibrate", "quantize",
    "finetune", "timing", "neurons", "check", "run", "save",
)  # fmt: skip


@grouped()
@settings_options(*SECTIONS)
@click.option("--strict", is_flag=True, help="Exit with 3 if the SNN is too far from the network.")
@click.option("--resume", is_flag=True, help="Go on with a finetuning that was interrupted.")
@click.option(
    "--layers",
    "spiking_layers",
    multiple=True,
    metavar="NAME",
    help="Only these layers become spiking, by name or glob ('backbone.*'); repeatable. The rest stays.",
)
@click.option(
    "--latency", type=click.IntRange(1), metavar="N",
    help="Choose T (2, 4, 8, ... up to --timesteps) and the delay so that the answer is there after at most "
    "so many steps.",
)  # fmt: skip
@overwrite_option
@report_options
def command(
    settings: Settings,
    strict: bool,
    resume: bool,
    spiking_layers: tuple[str, ...],
    latency: int | None,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Turn a trained network into a checked, integer SNN and its test vectors.

    NETWORK is a name from `ann2snn ls`, path.py, path.py:builder, package.module:builder or model.onnx.

    \b
    ann2snn convert example_net --weight_bitwidth 4 --timesteps 16
    ann2snn convert ./my_net.py --dataset npz:my_data.npz --ann_weight my_net.pth --finetune_epochs 0
    """
    if spiking_layers:
        _refuse_for_a_part({"strict": strict, "resume": resume, "latency": latency or False})
        return _part(settings, spiking_layers, overwrite, as_json)
    from ann2snn_cli.workflows.convert import ConvertRequest, convert

    with ProgressBar() as progress:
        request = ConvertRequest(settings, resume, overwrite, as_flag, latency)
        report = convert(request, progress)
    show(report, as_json, lambda: _text(report))
    return 3 if strict and report.damage.is_large else 0


def _refuse_for_a_part(given: Mapping[str, int | bool]) -> None:
    for name, value in given.items():
        if value:
            raise UsageError(
                f"{Setting(name, value)} does nothing with {Setting('layers')}",
                remedy="leave one of them out",
            )


def _part(settings: Settings, layers: tuple[str, ...], overwrite: bool, as_json: bool) -> int:
    """Only these layers: the mixed network is scored, and the part is written."""
    from ann2snn_cli.workflows.convert_part import ConvertPartRequest, convert_part

    with ProgressBar() as progress:
        report = convert_part(ConvertPartRequest(settings, layers, overwrite), progress)
    show(report, as_json, lambda: _text_of_part(report))
    return 0


def _text_of_part(report: ConvertPartReport) -> str:
    headline = next(iter(report.validations.values())).headline
    timing, names = report.graph.timing, {"ann": "ANN", "quantized": "part quantized", "mixed": "part SNN"}
    rows = [
        [names[name], headline.shown(each.scores[headline.name])] for name, each in report.validations.items()
    ]
    rates = [[name, f"{rate:.4f}"] for name, rate in report.firing_rate.items()]
    parts = [
        f"{', '.join(report.layers)} of {report.network} on {report.dataset}: {timing.timesteps} timesteps, "
        f"delay {timing.delay}",
        table(["", headline.heading], rows),
        table(["population", "firing rate"], rates) if rates else "no population fires",
        "\n".join(f"note: {line}" for line in report.notes),
        files_table(report.files),
    ]
    return "\n\n".join(part for part in parts if part)


def _text(report: ConvertReport) -> str:
    from ann2snn_cli.ir.show import real_line, real_operators
    from ann2snn_cli.workflows.weights import described

    bits = report.settings.quantize.weight_bitwidth
    title = (
        f"{report.network} on {report.dataset}: {count_of(report.evaluation.samples, 'test sample')}, "
        f"{bits}-bit weights, {report.latency.timesteps} timesteps"
    )
    notes = [f"note: {line}" for line in report.notes]
    parts = [
        f"{title}\n{described(report.weights)}" if report.weights else title,
        score_table(report.evaluation, report.latency),
        _written(report),
        theorem(report.evaluation),
        _damage(report),
        _hardware(report),
        firing_table(report.evaluation),
        real_line(real_operators(report.graph)),
        "\n".join(notes),
        "\n".join(f"warning: {line}" for line in report.warnings),
        files_table(report.files),
    ]
    return "\n\n".join(part for part in parts if part)


def _written(report: ConvertReport) -> str:
    """Which row of the table is in the files, and whose biases it has."""
    row = f"written: SNN {report.written.replace('_', ' ')}, D = {report.delay}"
    return f"{row}; {whose_biases(report.settings, some=bool(report.corrections))}"


def _damage(report: ConvertReport) -> str:
    from ann2snn_cli.workflows.damage import measured_line, warning

    found = report.damage
    line = measured_line(found)
    return f"{line}\nwarning: {warning(found)}" if found.is_large else line


def _hardware(report: ConvertReport) -> str:
    hardware = report.hardware
    if hardware.name == "none":
        return "hardware: none, so no limits were checked (--hardware v1 checks those of hardware v1.0)"
    return f"hardware {hardware.name}: {verdict_line(hardware)}\n\n{verdict_table(hardware)}"
