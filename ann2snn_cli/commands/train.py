"""`ann2snn train`: train the float network and write a checkpoint that says where it came from."""

from __future__ import annotations

import io
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ann2snn_cli.commands.options import json_option, overwrite_option, settings_options
from ann2snn_cli.commands.render import Progress, emit, percent
from ann2snn_cli.config import Settings

if TYPE_CHECKING:
    from ann2snn_cli.commands.bench import Bench
    from ann2snn_cli.types import EpochReport

FORMAT = "ann2snn/ann"


@click.command()
@settings_options("network", "data", "run")
@click.option("--epochs", type=click.IntRange(1), default=60, show_default=True, help="Epochs of training.")
@click.option(
    "--lr", type=click.FloatRange(0, min_open=True), default=0.003, show_default=True, help="Learning rate."
)
@click.option("--wd", type=click.FloatRange(0), default=0.01, show_default=True, help="Weight decay.")
@click.option("--save_file", type=click.Path(path_type=Path), help="Default: checkpoints/NETWORK_ann.pth.")
@overwrite_option
@json_option
def command(
    settings: Settings,
    epochs: int,
    lr: float,
    wd: float,
    save_file: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train a network and write its checkpoint.

    It goes to checkpoints/NETWORK_ann.pth, where `convert` finds it by the network's name.

    \b
    ann2snn train example_net
    ann2snn train ./my_net.py --dataset npz:my_data.npz --epochs 50
    """
    from ann2snn_cli.commands.bench import lay_out
    from ann2snn_cli.commands.outputs import named_pth
    from ann2snn_cli.stages.export import files
    from ann2snn_cli.stages.train import measure
    from ann2snn_cli.tasks import task_named

    bench = lay_out(settings, trained=False)
    path = named_pth(save_file or Path("checkpoints") / f"{bench.spec.name}_ann.pth")
    files.refuse_foreign(path, is_ours=_is_ours, overwrite=overwrite)
    files.refuse_shut(path.parent)
    history = _trained(bench, epochs, lr, wd)
    task = task_named(bench.data.task)
    scores = measure(
        bench.network,
        bench.data.test_batches(bench.settings.data.test_batch_size),
        task.metric(),
        bench.device,
    )
    provenance = {
        "network": bench.spec.name,
        "dataset": bench.data.name,
        "input_shape": list(bench.data.input_shape),
        "classes": bench.data.classes,
        "test_accuracy": scores.get("accuracy"),
        "epochs": epochs,
        "lr": lr,
        "wd": wd,
        "batch_size": bench.settings.data.batch_size,
        "seed": bench.settings.run.seed,
    }
    _save(bench, provenance, path, overwrite)
    document: dict[str, Any] = {
        "schema": "ann2snn/train/1",
        **provenance,
        "train_accuracy": history[-1].results.get("accuracy"),
        "loss": history[-1].loss,
        "files": [{"path": str(path), "bytes": path.stat().st_size, "what": "the trained weights"}],
    }
    emit(document, as_json, lambda: f"{_text(document)}\n  next: {_next(settings, path)}")


def _trained(bench: Bench, epochs: int, lr: float, wd: float) -> list[Any]:
    from ann2snn_cli.stages import train
    from ann2snn_cli.tasks import task_named

    data, task = bench.settings.data, task_named(bench.data.task)
    batches = -(-bench.data.train_size // data.batch_size)
    with Progress("train", epochs * batches) as bar:

        def show(progress: EpochReport) -> None:
            if progress.done:
                score = percent(progress.results.get(task.headline))
                line = f"epoch {progress.epoch}/{epochs}  loss {progress.loss:.4f}  {task.headline} {score}"
                bar.line(line)
            else:
                bar.advance()

        return train.train(
            bench.network,
            lambda epoch: bench.data.train_batches(
                data.batch_size, bench.settings.run.seed, epoch, data.num_workers
            ),
            loss=task.loss,
            metric=task.metric,
            epochs=epochs,
            lr=lr,
            weight_decay=wd,
            seed=bench.settings.run.seed,
            device=bench.device,
            progress=show,
        )


def _save(bench: Bench, provenance: dict[str, Any], path: Path, overwrite: bool) -> None:
    import torch

    from ann2snn_cli.stages.export import files

    state = {name: tensor.detach().cpu().clone() for name, tensor in bench.network.state_dict().items()}
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "state_dict": state, "provenance": provenance}, buffer)
    files.write_file(path, buffer.getvalue(), is_ours=_is_ours, overwrite=overwrite)


def _is_ours(path: Path) -> bool:
    from ann2snn_cli.errors import BadFile
    from ann2snn_cli.stages.export import pth

    try:
        return pth.read(path).get("format") == FORMAT
    except BadFile:
        return False


def _text(document: dict[str, Any]) -> str:
    (file,) = document["files"]
    return (
        f"{document['network']} on {document['dataset']}: {percent(document['test_accuracy'])} of the test "
        f"set (training: {percent(document['train_accuracy'])})\n{file['path']}  {file['bytes']} bytes"
    )


def _next(given: Settings, path: Path) -> str:
    """The command that converts what was trained, to be typed as it stands."""
    words = ["ann2snn", "convert", given.network]
    words += ["--dataset", given.data.dataset] if given.data.dataset else []
    return shlex.join([*words, "--ann_weight", str(path)])
