"""`ann2snn train`: train the float network and write a checkpoint that says where it came from."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ann2snn_cli.commands.groups import grouped
from ann2snn_cli.commands.options import overwrite_option, report_options, settings_options
from ann2snn_cli.commands.render import ProgressBar, show
from ann2snn_cli.config import Settings
from ann2snn_cli.config.fields import MOST
from ann2snn_cli.config.recipes import Optimizer
from ann2snn_cli.config.settings import AUGMENT

if TYPE_CHECKING:
    from ann2snn_cli.workflows.train import TrainReport


@grouped()
@settings_options(
    "network", "data.dataset", "data.data_dir", "data.task", "data.num_workers", "data.batch_size",
    "data.test_batch_size", "timing.encoding", "run.seed", "run.device", "run.threads",
)  # fmt: skip
@click.option(
    "--epochs", type=click.IntRange(1, MOST), default=60, show_default=True, help="Epochs of training."
)
@click.option(
    "--optimizer",
    type=click.Choice([each.value for each in Optimizer]),
    default=Optimizer.ADAMW.value,
    show_default=True,
    callback=lambda context, parameter, word: Optimizer(word),
    help="adamw; or sgd, with momentum and a rate that rises and falls step by step: better for CIFAR.",
)
@click.option(
    "--lr",
    type=click.FloatRange(0, min_open=True),
    metavar="X",
    help="Learning rate.  [default: 0.003 of adamw, 0.1 of sgd]",
)
@click.option(
    "--wd",
    type=click.FloatRange(0),
    metavar="X",
    help="Weight decay.  [default: 0.01 of adamw, 0.0005 of sgd]",
)
@click.option("--augment/--no_augment", default=None, help=f"{AUGMENT[0].upper()}{AUGMENT[1:]}.")
@click.option(
    "--bf16",
    is_flag=True,
    help="Multiply in bfloat16, which takes half the time on a CPU with AMX; weights stay float32.",
)
@click.option("--save_file", type=click.Path(path_type=Path), help="The .pth to write.")
@click.option("--output_dir", type=click.Path(path_type=Path), metavar="PATH",
              help="Folder for NETWORK-DATASET.pth.  [default: checkpoints]")  # fmt: skip
@overwrite_option
@report_options
def command(
    settings: Settings,
    epochs: int,
    optimizer: Optimizer,
    lr: float | None,
    wd: float | None,
    augment: bool | None,
    bf16: bool,
    save_file: Path | None,
    output_dir: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train a network and write its checkpoint.

    It goes to checkpoints/NETWORK-DATASET.pth, where `convert` finds it by the names of both.

    \b
    ann2snn train example_net
    ann2snn train ./my_net.py --dataset npz:my_data.npz --epochs 50
    """
    from ann2snn_cli.workflows.train import TrainRequest, train

    request = TrainRequest(
        settings, epochs, lr, wd, save_file, overwrite, output_dir, optimizer, augment, bf16
    )
    with ProgressBar() as progress:
        report = train(request, progress)
    show(report, as_json, lambda: f"{_text(report)}\n  next: {_next(settings, report.file.path)}")


def _text(report: TrainReport) -> str:
    facts = report.provenance
    test, training = map(report.headline.shown, (report.test_score, report.train_score))
    return (
        f"{facts['network']} on {facts['dataset']}: {report.headline.name} {test} on the test set "
        f"(training: {training})\n{report.file.path}  {report.file.bytes} bytes"
    )


def _next(given: Settings, path: str) -> str:
    """The command that converts what was trained, to be typed as it stands."""
    words = ["ann2snn", "convert", given.network]
    words += ["--dataset", given.data.dataset] if given.data.dataset else []
    words += ["--task", given.data.task] if given.data.task != "auto" else []
    return shlex.join([*words, "--ann_weight", path])
