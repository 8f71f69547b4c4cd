"""What a use case works on, found once: the network, its weights, the data, the hardware, the device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from ann2snn_cli import catalog, data, devices, lookup, pipeline
from ann2snn_cli.catalog import NetworkSpec, Weights
from ann2snn_cli.config import KEYS, Hardware, Settings, load_hardware
from ann2snn_cli.data import Data
from ann2snn_cli.data.collect import collect
from ann2snn_cli.errors import Setting, UnsupportedNetwork, UsageError
from ann2snn_cli.ir.contract import Encoding
from ann2snn_cli.ir.graph import Graph, Level
from ann2snn_cli.stages.check import rule_names
from ann2snn_cli.stages.simulate import AUTO, ENGINES
from ann2snn_cli.stages.trace import materialised, unwrapped
from ann2snn_cli.types import InputShapes, Loss
from ann2snn_cli.words import count_of
from ann2snn_cli.workflows import weights as weighing


@dataclass(frozen=True, eq=False)
class Outline:
    """What shapes alone decide on: settings with every default filled in, the network, the hardware."""

    settings: Settings
    name: str
    network: nn.Module
    input_shapes: InputShapes
    hardware: Hardware | None
    rules: pipeline.Rules

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of how the network was read."""
        return pipeline.notes_of(self.network)

    def folded(self) -> Graph:
        """The network as a FOLDED graph, with the pooling that was asked for."""
        pooling = pipeline.pooling_of(self.settings, self.hardware)
        return pipeline.prepare(self.network, self.input_shapes, self.settings, pooling, rules=self.rules)


@dataclass(frozen=True, eq=False)
class Prepared:
    """All that a conversion needs: settings with every default filled in, and what they name."""

    settings: Settings
    name: str
    network: nn.Module
    data: pipeline.Samples
    hardware: Hardware | None
    device: torch.device
    dataset: str = ""  # "" where nobody can load the data again by a name
    weights: Weights | None = None  # where they came from; None: they came with the network
    loss: Loss | None = None  # of finetuning; None: that of the task
    rules: pipeline.Rules = field(default_factory=dict)  # the user's own, by torch operator

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of how the data were read."""
        notes: tuple[str, ...] = getattr(self.data, "notes", ())
        return (*notes, *self._calibration_notes())

    def _calibration_notes(self) -> list[str]:
        """What to know where more samples are asked for than there are to train on."""
        key, asked = KEYS["data.calibration_samples"], self.settings.data.calibration_samples
        there_are: int | None = getattr(self.data, "train_size", None)
        if there_are is None or asked <= there_are or asked == key.default:
            return []
        return [
            f"{Setting(key.flag, asked)}: there are {count_of(there_are, 'training sample')}, all are used"
        ]

    def folded(self) -> Graph:
        """The network as a FOLDED graph, with the pooling that was asked for."""
        pooling = pipeline.pooling_of(self.settings, self.hardware)
        shapes = self.data.input_shapes
        return pipeline.prepare(self.network, shapes, self.settings, pooling, rules=self.rules)


@dataclass(frozen=True, eq=False)
class Named(Prepared):
    """All of it found by name: the dataset has sizes and classes too."""

    data: Data

    @property
    def weights_line(self) -> str:
        """Which weights the network has, for a log and a report."""
        return weighing.described(self.weights) if self.weights else ""


def shown_shape(shapes: InputShapes) -> Any:
    """The shape of the one input; of several a list, or a dict by name."""
    if isinstance(shapes, dict):
        return shapes
    return shapes[0] if len(shapes) == 1 else list(shapes)


# By name -------------------------------------------------------------------------------------------


def outline(settings: Settings, *, default_hardware: str = "none") -> Outline:
    """The network that the settings name, without data; the hardware where neither they nor it name one."""
    spec = catalog.network(settings.network)
    settings, hardware = _completed(settings, spec, default_hardware)
    rules = catalog.load_rules(settings.rules)
    shapes, classes = data.shapes_of(settings.data.dataset, settings.data.data_dir, settings.data.task)
    return Outline(settings, spec.name, _built(settings, spec, shapes, classes), shapes, hardware, rules)


def by_name(settings: Settings, *, trained: bool = True) -> Named:
    """All that the settings name; not `trained`: the network keeps the weights that build() gives it."""
    spec = catalog.network(settings.network)
    if spec.is_onnx:
        weighing.refuse_for_onnx(settings, spec, trained)
    settings, hardware = _completed(settings, spec, "none")
    device = devices.pick(settings.run.device)
    rules = catalog.load_rules(settings.rules)
    samples = data.load(settings.data.dataset, settings.data.data_dir, settings.data.task)
    samples = samples.with_test_samples(settings.data.test_samples)
    samples = samples.with_augmentation(settings.finetune.augment)
    network = _built(settings, spec, samples.input_shapes, samples.classes)
    weights = weighing.load(settings, spec, network) if trained else None
    found = (spec.name, network.to(device), samples, hardware, device, samples.name, weights)
    return Named(settings, *found, rules=rules)


def _completed(
    settings: Settings, spec: NetworkSpec, default_hardware: str
) -> tuple[Settings, Hardware | None]:
    refuse_unknown_names(settings)
    hardware = _hardware(settings, spec.hardware or default_hardware)
    settings = replace(settings, data=replace(settings.data, dataset=_dataset_name(settings, spec)))
    _refuse_idle_allow(settings, hardware)
    name = settings.check.hardware
    if name == "auto":
        name = hardware.name if hardware else "none"
    return replace(settings, check=replace(settings.check, hardware=name)), hardware


def refuse_unknown_names(settings: Settings) -> None:
    """Refuse rules of hardware, and engines, that do not exist."""
    for rule in settings.check.allow:
        if rule not in rule_names():
            raise _with_place(lookup.unknown("hardware rule", rule, rule_names()), "allow")
    refuse_unknown_engine(settings.run.engine)


def refuse_unknown_engine(engine: str) -> None:
    """Refuse an engine that does not exist."""
    if engine not in (AUTO, *ENGINES):
        raise _with_place(lookup.unknown("engine", engine, [AUTO, *ENGINES]), "engine")


def _with_place(error: UsageError, name: str) -> UsageError:
    error.where = str(Setting(name))
    return error


def _hardware(settings: Settings, default: str) -> Hardware | None:
    """The hardware that was asked for; `auto` is the default."""
    name = default if settings.check.hardware == "auto" else settings.check.hardware
    return None if name == "none" else load_hardware(catalog.hardware_file(name))


def _refuse_idle_allow(settings: Settings, hardware: Hardware | None) -> None:
    """Without limits there is none that may be broken."""
    if settings.check.allow and hardware is None:
        raise UsageError(
            f"{Setting('allow', settings.check.allow)} does nothing: no hardware is named",
            where=str(Setting("allow")),
            remedy=f"name it with {Setting('hardware')}, or leave {Setting('allow')} out",
        )


def _dataset_name(settings: Settings, spec: NetworkSpec) -> str:
    """The dataset that was asked for, else the network's own."""
    name = data.full_name(settings.data.dataset or spec.dataset)
    if not name:
        raise UsageError(
            f"network {spec.name!r} names no dataset",
            remedy=f"give one with {Setting('dataset')}"
            + ("" if spec.is_onnx else ", or set DATASET in its file"),
        )
    return name


def _built(settings: Settings, spec: NetworkSpec, shapes: InputShapes, classes: int) -> nn.Module:
    torch.manual_seed(settings.run.seed)
    shapes = pipeline.shown_in_a_step(shapes, settings)
    shape = shapes[0] if isinstance(shapes, tuple) and len(shapes) == 1 else shapes
    try:
        network = spec.build(shape, classes)
    except UnsupportedNetwork as error:
        if settings.timing.shown is Encoding.FRAMES:
            error.remedy += f"; with {Setting('encoding', 'frames')} the first axis of a sample is time"
        raise
    return materialised(unwrapped(network), shapes)


# Given as objects ----------------------------------------------------------------------------------

# Settings that say what is given anyway, or what a use case on the command line does.
OF_THE_COMMAND_LINE = {
    "network": "the network itself is given",
    "ann_weight": "the network is given with its weights",
    "allow_other_dataset": "the network is given with its weights",
    "data.dataset": "the data themselves are given",
    "data.data_dir": "the data themselves are given",
    "data.test_batch_size": "nothing is tested here",
    "data.test_samples": "nothing is tested here",
    "save.save_file": "the SNN is returned: snn.save(path) writes it",
    "save.output_dir": "the SNN is returned: snn.save(path) writes it",
    "save.vectors": "the SNN is returned: save it, and `ann2snn export` writes a vector pack",
}


def collected(given: Any, settings: Settings) -> Any:
    """Whatever a user holds as data, as the pipeline asks for them under these settings."""
    found = collect(
        given,
        samples=settings.data.calibration_samples,
        seed=settings.run.seed,
        epochs=settings.finetune.epochs,
        batch_size=settings.data.batch_size,
        task=settings.data.task,
    )
    augment = settings.finetune.augment
    if augment is None:
        return found
    if not isinstance(found, Data):
        raise UsageError(
            f"{Setting('augment', augment)} does nothing: the data make their own batches",
            where=str(Setting("augment")),
            remedy="leave it out",
        )
    return found.with_augmentation(augment)


def from_objects(
    network: nn.Module,
    samples: pipeline.Samples,
    settings: Settings,
    *,
    hardware: Hardware | str | None = None,
    device: torch.device | str | None = None,
    loss: Loss | None = None,
    rules: pipeline.Rules | str | None = None,
    given: Iterable[str] = (),
) -> Prepared:
    """A network and data in memory; hardware and device are those of the settings unless given.

    Settings that cannot mean anything here are refused: those named in `given`, and those that differ from
    their defaults.
    """
    if getattr(getattr(network, "graph", None), "level", None) is Level.SPIKING:
        raise UsageError(
            "the network is an SNN already", remedy="give the trained network that it was made of"
        )
    _refuse_meaningless(settings, given)
    refuse_unlabelled(samples, settings)
    refuse_unknown_names(settings)
    if hardware is not None and settings.check.hardware != "auto":
        raise UsageError(
            "the hardware is given twice",
            where=f"{Setting('hardware')} and settings.check.hardware",
            remedy="give it once",
        )
    if not isinstance(hardware, Hardware):
        asked = replace(settings, check=replace(settings.check, hardware=hardware or settings.check.hardware))
        hardware = _hardware(asked, default="none")
    _refuse_idle_allow(settings, hardware)
    if not isinstance(device, torch.device):
        device = devices.pick(settings.run.device if device is None else str(device))
    devices.use_threads(settings.run.threads)
    if not isinstance(rules, Mapping):
        rules = catalog.load_rules(rules or settings.rules)
    network = unwrapped(network)
    name = type(network).__name__
    return Prepared(settings, name, network, samples, hardware, device, loss=loss, rules=rules)


def refuse_unlabelled(samples: pipeline.Samples, settings: Settings) -> None:
    """Samples that nobody labelled would all be trained towards class 0."""
    if settings.finetune.epochs and not getattr(samples, "labelled", True):
        raise UsageError(
            "samples without labels cannot be finetuned on",
            remedy=f"give (x, labels) as data, or {Setting('finetune_epochs', 0)}",
        )


def _refuse_meaningless(settings: Settings, given: Iterable[str]) -> None:
    given = set(given)
    for dotted, reason in OF_THE_COMMAND_LINE.items():
        key = KEYS[dotted]
        if dotted in given or key.of(settings) != key.default:
            raise UsageError(
                f"{key.flag} means nothing here: {reason}",
                where=str(Setting(key.flag)),
                remedy="leave it out",
            )


def pipelined(
    prepared: Prepared, listener: pipeline.Listener | None = None, delays: Iterable[int] = ()
) -> pipeline.Conversion:
    """What the pipeline makes of it, with graphs of their own for other delays."""
    return pipeline.convert(
        prepared.network,
        prepared.data,
        prepared.settings,
        hardware=prepared.hardware,
        device=prepared.device,
        loss=prepared.loss,
        rules=prepared.rules,
        listener=listener,
        delays=delays,
    )
