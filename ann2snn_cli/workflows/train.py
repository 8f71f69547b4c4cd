"""Train: the float network gets weights, in a checkpoint that says where they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ann2snn_cli import catalog, pipeline
from ann2snn_cli.config import Settings
from ann2snn_cli.config.recipes import USUAL, Optimizer, Rates
from ann2snn_cli.config.settings import LARGEST_RATE, refuse_two_places
from ann2snn_cli.data import same_dataset
from ann2snn_cli.errors import BadFile, Setting, UnsupportedNetwork, UsageError
from ann2snn_cli.stages import train as stage
from ann2snn_cli.stages.export import files, pth
from ann2snn_cli.stages.trace import narrow_types
from ann2snn_cli.tasks import Task, task_named
from ann2snn_cli.types import EpochReport, Headline
from ann2snn_cli.workflows import prepare
from ann2snn_cli.workflows.files import named_pth
from ann2snn_cli.workflows.in_time import on_samples
from ann2snn_cli.workflows.prepare import Named
from ann2snn_cli.workflows.report import SILENT, FileEntry, Progress, Report, epoch_line

FORMAT = "ann2snn/ann"


@dataclass(frozen=True)
class TrainRequest:
    """A network and data by name, and the recipe."""

    settings: Settings
    epochs: int = 60
    lr: float | None = None  # None: `rates` says it
    wd: float | None = None
    save_file: Path | None = None  # None: NETWORK-DATASET.pth in output_dir
    overwrite: bool = False
    output_dir: Path | None = None  # None: checkpoints, where `convert` finds it
    optimizer: Optimizer = Optimizer.ADAMW
    augment: bool | None = None  # None: as is usual with the dataset
    bf16: bool = False

    @property
    def rates(self) -> Rates:
        """Those that were asked for, else what is usual with the optimizer."""
        usual = USUAL[self.optimizer]
        return Rates(usual.lr if self.lr is None else self.lr, usual.wd if self.wd is None else self.wd)


@dataclass(frozen=True)
class TrainReport(Report):
    """What the trained network scores."""

    SCHEMA = "ann2snn/train/1"

    provenance: Mapping[str, Any]  # what the checkpoint says of itself
    headline: Headline  # the number of the task's metric that stands for all of them
    train_score: float | None  # the headline, over the last epoch
    loss: float  # of the last epoch
    file: FileEntry

    @property
    def test_score(self) -> float | None:
        """The headline on the test set."""
        score: float | None = self.provenance[f"test_{self.headline.name}"]
        return score

    def facts(self) -> dict[str, Any]:
        """The document."""
        return {
            **self.provenance,
            f"train_{self.headline.name}": self.train_score,
            "loss": self.loss,
            "files": [asdict(self.file)],
        }


def train(request: TrainRequest, progress: Progress = SILENT) -> TrainReport:
    """Train the network that the settings name, test it, and write its checkpoint."""
    refuse_two_places(Setting("save_file", request.save_file), Setting("output_dir", request.output_dir))
    progress.begin("load the network and the data")
    settings = request.settings
    moving = replace(settings, finetune=replace(settings.finetune, augment=request.augment))
    prepared = prepare.by_name(moving, trained=False)
    _refuse_narrow(prepared)
    file = catalog.checkpoint_name(prepared.name, prepared.dataset)
    path = named_pth(request.save_file or (request.output_dir or Path("checkpoints")) / f"{file}.pth")
    files.refuse_loss(path, is_ours=_is_ours, overwrite=request.overwrite)
    _refuse_other_weights(path, prepared, request.overwrite)
    files.refuse_unwritable(path.parent)
    _refuse_numbers(request)
    task = task_named(prepared.data.task)
    for line in prepared.notes:
        progress.line(line)
    last = _trained(prepared, request, task, progress)
    settings = prepared.settings
    progress.begin("test")
    batches = prepared.data.test_batches(settings.data.test_batch_size, settings.data.num_workers)
    scores = stage.measure(on_samples(prepared.network, settings), batches, task.metric(), prepared.device)
    name = task.headline.name
    provenance = {
        "network": prepared.name,
        "dataset": prepared.dataset,
        "input_shape": prepare.shown_shape(pipeline.shown_in_a_step(prepared.data.input_shapes, settings)),
        "task": task.name,
        "classes": prepared.data.classes,
        f"test_{name}": scores[name],
        "epochs": request.epochs,
        "optimizer": str(request.optimizer),
        **asdict(request.rates),
        "augmented": prepared.data.augmented,
        "bf16": request.bf16,
        "batch_size": settings.data.batch_size,
        "seed": settings.run.seed,
    }
    _save(prepared, provenance, path, request.overwrite)
    entry = FileEntry(str(path), path.stat().st_size, "the trained weights")
    return TrainReport(provenance, task.headline, last.results.get(name), last.loss, entry)


def _refuse_narrow(prepared: Named) -> None:
    """Steps of training are too small for numbers of so few bits, and the loss becomes NaN."""
    if types := narrow_types(prepared.network):
        raise UnsupportedNetwork(
            f"its weights are {' and '.join(types)}, and networks of so few bits cannot be trained here",
            where=prepared.name,
            remedy="let build() return network.float(), and forward() keep its values float32 (no .half()); "
            "or train it in float32 elsewhere, and convert it afterwards",
        )


def _refuse_numbers(request: TrainRequest) -> None:
    """NaN and infinity are no rates, and an optimizer has no room for larger ones."""
    for name in ("lr", "wd"):
        value = getattr(request.rates, name)
        if not value <= LARGEST_RATE:
            raise UsageError(
                f"{Setting(name)} is {value}; it must be a number, at most {LARGEST_RATE:g}",
                where=str(Setting(name)),
                remedy="give such a value, or leave it out",
            )


def _trained(prepared: Named, request: TrainRequest, task: Task, progress: Progress) -> EpochReport:
    data, seed = prepared.settings.data, prepared.settings.run.seed
    progress.begin("train", request.epochs * -(-prepared.data.train_size // data.batch_size))

    def show(report: EpochReport) -> None:
        if report.done:
            progress.line(epoch_line(report, task.headline))
        else:
            progress.advance()

    history = stage.train(
        on_samples(prepared.network, prepared.settings),
        lambda epoch: prepared.data.train_batches(data.batch_size, seed, epoch, data.num_workers),
        loss=task.loss,
        metric=task.metric,
        epochs=request.epochs,
        lr=request.rates.lr,
        weight_decay=request.rates.wd,
        seed=seed,
        device=prepared.device,
        progress=show,
        optimizer=request.optimizer,
        samples=prepared.data.train_size,
        bf16=request.bf16,
    )
    return history[-1]


def _save(prepared: Named, provenance: dict[str, Any], path: Path, overwrite: bool) -> None:
    state = {name: tensor.detach().cpu().clone() for name, tensor in prepared.network.state_dict().items()}
    content = pth.as_bytes({"format": FORMAT, "state_dict": state, "provenance": provenance})
    files.write_file(path, content, is_ours=_is_ours, overwrite=overwrite)


def _refuse_other_weights(path: Path, prepared: Named, overwrite: bool) -> None:
    """An earlier training of this network on these data is replaced; other weights stay."""
    if overwrite or not path.exists():
        return
    earlier = pth.read(path).get("provenance", {})
    if earlier.get("network") != prepared.name or not same_dataset(earlier["dataset"], prepared.dataset):
        raise BadFile(
            f"it holds the weights of {earlier.get('network')} trained on {earlier.get('dataset')}",
            where=str(path),
            remedy=f"choose another place with {Setting('save_file')}, or replace it with "
            f"{Setting('overwrite', True)}",
        )


def _is_ours(path: Path) -> bool:
    try:
        return pth.read(path).get("format") == FORMAT
    except BadFile:
        return False
