"""`ann2snn neuron`: the firing rate and the spikes of one neuron."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ann2snn_cli.commands.flags import as_flag
from ann2snn_cli.commands.options import json_option, overwrite_option, settings_options
from ann2snn_cli.commands.render import ProgressBar, show
from ann2snn_cli.commands.tables import table
from ann2snn_cli.config import Settings
from ann2snn_cli.errors import Setting, UsageError

if TYPE_CHECKING:
    from ann2snn_cli.workflows.neuron import NeuronReport


@click.command()
@settings_options("timing", "neurons.reset_mode", "neurons.rounding")
@click.option("--threshold", type=int, default=64, show_default=True, help="In units of its input.")
@click.option(
    "--inputs", default="", metavar="N,N,...",
    help="Inputs whose spikes are drawn, whole numbers.  [default: shares of the threshold]",
)  # fmt: skip
@click.option("--save_dir", type=click.Path(path_type=Path), help="Default: neuron_experiment.")
@overwrite_option
@json_option
def command(
    settings: Settings, threshold: int, inputs: str, save_dir: Path | None, overwrite: bool, as_json: bool
) -> None:
    """Draw the firing rate and the spikes of one neuron.

    Gives an integrate-and-fire neuron the same whole number at every step, for many of them; writes its
    firing rate against its input beside the clipped ReLU, and its spikes and potential for a few inputs:
    two pictures (PNG) and their numbers (CSV).

    \b
    ann2snn neuron --threshold 64 --timesteps 16
    ann2snn neuron --reset_mode zero --rounding none --inputs 12,30,50
    """
    from ann2snn_cli.workflows.neuron import NeuronRequest, neuron

    values = _numbers(inputs)
    with ProgressBar() as progress:
        report = neuron(NeuronRequest(settings, threshold, values, save_dir, overwrite, as_flag), progress)
    show(report, as_json, lambda: _text(report))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(",") if word.strip())
    except ValueError:
        where = str(Setting("inputs", text))
        remedy = f"give whole numbers, as in {Setting('inputs', '4,8,12')}"
        raise UsageError("an input is no whole number", where=where, remedy=remedy) from None


def _text(report: NeuronReport) -> str:
    timing = report.contract
    title = (
        f"integrate-and-fire neuron: threshold {report.threshold}, initial potential {report.initial}, bias "
        f"{report.bias}; {timing.timesteps} timesteps, delay {timing.delay}, reset by {timing.reset_mode}"
    )
    rows = [
        [each.value, each.count, f"{each.count / timing.timesteps:.4f}", f"{report.relu(each.value):.4f}",
         "".join(".|"[spike] for spike in each.spikes[:64])]
        for each in report.shown
    ]  # fmt: skip
    shown = table(["input", "spikes", "rate", "clipped ReLU", "by step"], rows)
    return "\n\n".join([title, shown, "\n".join(str(path) for path in report.files)])
