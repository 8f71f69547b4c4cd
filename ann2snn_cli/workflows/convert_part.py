"""Convert a part: named layers of a network become spiking; the mixed network is scored, the part written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ann2snn_cli import trees
from ann2snn_cli.config import KEYS, Settings, as_dict
from ann2snn_cli.errors import Setting, UsageError
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.stages import simulate as engines
from ann2snn_cli.stages.quantize.finetune import Finetuning
from ann2snn_cli.tasks import task_named
from ann2snn_cli.types import EpochReport
from ann2snn_cli.workflows import pack, prepare
from ann2snn_cli.workflows.files import by_default, named_pth
from ann2snn_cli.workflows.firing import Firing
from ann2snn_cli.workflows.partial import PartialNetwork
from ann2snn_cli.workflows.prepare import Named
from ann2snn_cli.workflows.report import SILENT, FileEntry, Progress, Report, epoch_line
from ann2snn_cli.workflows.validate import Validation, validated


@dataclass(frozen=True)
class ConvertPartRequest:
    """A network and data by name, and the layers that become spiking."""

    settings: Settings
    layers: tuple[str, ...]
    overwrite: bool = False


@dataclass(frozen=True, eq=False)
class ConvertPartReport(Report):
    """What the network scores, with the part quantized and with the part as an SNN."""

    SCHEMA = "ann2snn/convert-part/1"

    network: str
    dataset: str
    layers: tuple[str, ...]
    graph: Graph  # SPIKING, of the part
    settings: Settings
    validations: Mapping[str, Validation]  # ann, quantized, mixed
    firing_rate: Mapping[str, float]
    notes: tuple[str, ...]
    files: tuple[FileEntry, ...]

    def facts(self) -> dict[str, Any]:
        """The document."""
        first = next(iter(self.validations.values()))
        return {
            "network": self.network,
            "dataset": self.dataset,
            "layers": list(self.layers),
            "test_samples": first.samples,
            "metric": first.headline.name,
            "higher_is_better": first.headline.higher_is_better,
            "scores": {name: dict(found.scores) for name, found in self.validations.items()},
            "timesteps": self.graph.timing.timesteps,
            "delay": self.graph.timing.delay,
            "firing_rate": dict(self.firing_rate),
            "notes": list(self.notes),
            "settings": as_dict(self.settings),
            "files": [asdict(file) for file in self.files],
        }


def convert_part(request: ConvertPartRequest, progress: Progress = SILENT) -> ConvertPartReport:
    """Split the network that the settings name, train it if asked for, score it, and write the part's SNN."""
    for name in ("on", "distill", "held_out", "bf16"):
        key = KEYS[f"finetune.{name}"]
        if key.of(request.settings) != key.default:
            raise UsageError(
                f"{Setting(key.flag)} does nothing with {Setting('layers')}", remedy="leave one of them out"
            )
    progress.begin("load the network and the data")
    prepared = prepare.by_name(request.settings)
    named = by_default(prepared.settings, prepared.name)
    path = named_pth(Path(request.settings.save.save_file or f"{named}_part_snn.pth").expanduser())
    progress.begin("quantize the part")
    partial = PartialNetwork(prepared, request.layers)
    _train(partial, prepared, progress)
    partial.eval()
    mixed = partial.generate_ann_snn()
    networks = {"ann": prepared.network, "quantized": partial, "mixed": mixed}
    validations = {name: _scored(name, network, prepared, progress) for name, network in networks.items()}
    firing = _firing(partial, mixed.graph, progress)
    no_pack = pack.refusal(mixed.graph)
    vectors = 0 if no_pack else request.settings.save.vectors
    partial.save(mixed.graph, path, vectors=vectors, overwrite=request.overwrite, progress=progress)
    return ConvertPartReport(
        prepared.name,
        prepared.dataset,
        request.layers,
        mixed.graph,
        prepared.settings,
        validations,
        firing,
        (prepared.weights_line, *prepared.notes, *([no_pack] if no_pack else [])),
        _files(path, bool(vectors)),
    )


def _train(partial: PartialNetwork, prepared: Named, progress: Progress) -> None:
    """The loop that a user would write: the loss of the task, `optimizer`, the rates of finetuning."""
    settings, task = prepared.settings, task_named(prepared.data.task)
    chosen = settings.finetune
    recipe = Finetuning(chosen.epochs, chosen.lr, schedule=chosen.schedule)
    partial.train()
    for epoch in range(recipe.epochs):
        report = EpochReport(epoch + 1, recipe.epochs, recipe.lr_at(epoch))
        progress.begin(f"finetune, epoch {epoch + 1} of {recipe.epochs}")
        for group in partial.optimizer.param_groups:
            group["lr"] = report.lr
        data, metric = settings.data, task.metric()
        for x, labels in prepared.data.train_batches(
            data.batch_size, settings.run.seed, epoch, data.num_workers
        ):
            outputs = partial.outputs(x)
            loss = task.loss(outputs, trees.to(labels, prepared.device))
            partial.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            partial.optimizer.step()
            metric.update(tuple(each.detach() for each in outputs), labels)
            report = report.after(float(loss.detach()), trees.sample_count(x))
        progress.line(epoch_line(report.ended(metric), task.headline))


def _scored(name: str, network: torch.nn.Module, prepared: Named, progress: Progress) -> Validation:
    data, size = prepared.data, prepared.settings.data.test_batch_size
    progress.begin(f"validate: {name}", data.test_size, "samples")
    batches = data.test_batches(size, prepared.settings.data.num_workers)
    return validated(network, batches, task_named(data.task), tick=progress.advance)


def _firing(partial: PartialNetwork, graph: Graph, progress: Progress) -> dict[str, float]:
    """How often the neurons of the part fire on the test set."""
    progress.begin("count the spikes")
    firing, settings = Firing(graph), partial.settings
    for x, _ in partial.samples.test_batches(settings.data.test_batch_size, settings.data.num_workers):
        found = engines.run(graph, engines.Request(x, counts=True), settings.run.engine)
        firing.add(found.counts or {}, trees.sample_count(x))
    return firing.rate


def _files(path: Path, has_pack: bool) -> tuple[FileEntry, ...]:
    found = [FileEntry(str(path), path.stat().st_size, "the SNN of the part")]
    if has_pack:
        what = "its vector pack: parameters, stimuli, expected spikes and potentials"
        found.append(FileEntry(f"{path.with_name(path.stem + '_pack')}/", None, what))
    return tuple(found)
