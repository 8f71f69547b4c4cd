"""Convert: a trained network becomes an SNN; it is scored, and all that belongs to it is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ann2snn_cli import pipeline
from ann2snn_cli.catalog import Weights
from ann2snn_cli.config import Provenance, Settings, as_dict, delay_name, to_yaml
from ann2snn_cli.errors import Setting, UsageError, as_argument
from ann2snn_cli.ir import show
from ann2snn_cli.ir.contract import Reset
from ann2snn_cli.ir.encoding import encoding_notes, encoding_of
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.pipeline import Conversion, Listener
from ann2snn_cli.stages import simulate as engines
from ann2snn_cli.stages.analyse.damage import Damage
from ann2snn_cli.stages.export import files, pth
from ann2snn_cli.stages.export import pack as vector_pack
from ann2snn_cli.stages.export.replacement import Change
from ann2snn_cli.stages.quantize.biases import Correction
from ann2snn_cli.tasks import task_named
from ann2snn_cli.types import EpochReport
from ann2snn_cli.version import tool
from ann2snn_cli.workflows import cost, pack, prepare
from ann2snn_cli.workflows import damage as measuring
from ann2snn_cli.workflows.evaluate import QUANTIZED, Evaluation, delays_of, evaluate, refuse_mismatch
from ann2snn_cli.workflows.files import Interrupted, Outputs, named_pth
from ann2snn_cli.workflows.hardware import HardwareReport, judged
from ann2snn_cli.workflows.in_time import on_samples
from ann2snn_cli.workflows.latency import Latency, latency
from ann2snn_cli.workflows.pack import PackRequest
from ann2snn_cli.workflows.prepare import Named, Prepared
from ann2snn_cli.workflows.report import (
    SILENT,
    FileEntry,
    Progress,
    Report,
    Spell,
    epoch_line,
    plain,
)
from ann2snn_cli.workflows.saved import origin
from ann2snn_cli.workflows.within_latency import within_latency

# What measuring the damage and recording a pack ask of an engine, whatever the samples.
STEP_BY_STEP = engines.Request((), watch=lambda node, activity: None, potentials=True)
PACK_BYTES = 256_000_000  # of a pack that nobody asked for by size


@dataclass(frozen=True)
class ConvertRequest:
    """A network and data by name."""

    settings: Settings
    resume: bool = False  # go on with a finetuning that was interrupted
    overwrite: bool = False  # replace files that are not ours
    spell: Spell = as_argument  # how settings are named in the summary that is written
    latency: int | None = None  # the most steps until the answer is there; None: T and D are the settings'


@dataclass(frozen=True, eq=False)
class ConvertReport(Report):
    """What a conversion gave."""

    SCHEMA = "ann2snn/convert/1"

    network: str
    dataset: str
    graph: Graph  # SPIKING
    settings: Settings  # with every default filled in
    weights: Weights | None
    evaluation: Evaluation
    latency: Latency
    damage: Damage
    hardware: HardwareReport
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    corrections: Mapping[int, Correction] = field(default_factory=dict)  # of biases, by delay
    files: tuple[FileEntry, ...] = ()

    @property
    def delay(self) -> int:
        """The firing delay of the SNN that is written."""
        return self.graph.timing.delay

    @property
    def written(self) -> str:
        """The row of the table that is written."""
        return delay_name(self.delay, self.latency.timesteps)

    def facts(self) -> dict[str, Any]:
        """The document: what it scored, what the hardware says, and how to repeat it."""
        return {
            "network": self.network,
            "dataset": self.dataset,
            **self.evaluation.facts(),
            "largest_output_error": self.evaluation.largest_error,
            "timesteps": self.latency.timesteps,
            "encoding": str(encoding_of(self.graph)),
            "delay": self.delay,
            "schedule": self.written,
            "written": self.written,
            "bias_correction": {
                delay_name(delay, self.latency.timesteps): asdict(correction)
                for delay, correction in self.corrections.items()
            },
            "latency_steps": self.latency.steps(self.delay),
            "latency": self.latency.facts(delays_of(self.graph)),
            "damage": measuring.facts(self.damage),
            "real_operators": show.real_operators(self.graph),
            "hardware": self.hardware.facts(),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "weights": self.weights.to_plain() if self.weights else {},
            "settings": as_dict(self.settings),
            "files": [asdict(file) for file in self.files],
        }


def convert(request: ConvertRequest, progress: Progress = SILENT) -> ConvertReport:
    """Convert the network that the settings name, score it on the test set, and write its files."""
    _refuse_idle_resume(request)
    if request.settings.save.save_file:
        named_pth(Path(request.settings.save.save_file))
    progress.begin("load the network and the data")
    prepared, chosen = _in_time(prepare.by_name(request.settings), request, progress)
    outputs = Outputs.of(prepared.settings, prepared.name)
    outputs.clear(progress)
    outputs.refuse_loss(request.overwrite)
    if prepared.settings.save.vectors:
        vector_pack.refuse_in_the_way(outputs.pack)
    prepared = replace(prepared, settings=outputs.named_in(prepared.settings))
    hardware = f"hardware {prepared.hardware.name}" if prepared.hardware else "no hardware limits"
    progress.line(f"{prepared.name} on {prepared.dataset}, {hardware}, device {prepared.device}")
    for line in (prepared.weights_line, *prepared.notes, *chosen):
        progress.line(line)
    state = Interrupted.of(
        outputs.state, prepared.settings, prepared.weights.sha256 if prepared.weights else ""
    )
    if not request.resume:
        state.refuse_loss(overwrite=request.overwrite)
    listener = _listener(prepared, state, request.resume, progress)
    with state.resumable():
        conversion, damage = converted(prepared, listener, delays=(0, prepared.settings.timing.timesteps))
        evaluation = evaluated(prepared, conversion, progress)
    report = _report(prepared, conversion, damage, evaluation)
    report = replace(report, notes=(*chosen, *report.notes))
    provenance = replace(
        provenance_of(prepared, conversion, damage, request.spell),
        notes=tuple(plain([*report.notes, *report.warnings], request.spell)),
        scores=evaluation.facts()["scores"],
        test_samples=evaluation.samples,
    )
    report = _written(report, provenance, prepared, outputs, request, progress)
    state.path.unlink(missing_ok=True)
    return report


def _in_time(prepared: Named, request: ConvertRequest, progress: Progress) -> tuple[Named, tuple[str, ...]]:
    """With T and D for the latency that was asked for, and why these; as it is where none was."""
    if request.latency is None:
        return prepared, ()
    settings, note = within_latency(prepared, request.latency, progress.begin, progress.advance)
    return replace(prepared, settings=settings), (note,)


def _refuse_idle_resume(request: ConvertRequest) -> None:
    if request.resume and not request.settings.finetune.epochs:
        raise UsageError(
            f"{Setting('resume', True)} does nothing without finetuning",
            where=str(Setting("finetune_epochs", 0)),
            remedy=f"leave {Setting('resume')} out, or give the epochs of the run that was interrupted with "
            f"{Setting('finetune_epochs')}",
        )


def converted(
    prepared: Prepared, listener: Listener | None = None, delays: Iterable[int] = ()
) -> tuple[Conversion, Damage]:
    """The conversion itself and the damage it does: of what was found by name, or of objects in Python."""
    tell = listener or Listener()
    conversion = prepare.pipelined(prepared, tell, delays)
    tell.stage("measure the damage", measuring.batches(prepared))
    return conversion, measuring.measured(prepared, conversion, tell.tick)


def provenance_of(
    prepared: Prepared, conversion: Conversion, damage: Damage, spell: Spell = as_argument
) -> Provenance:
    """Where the SNN comes from; its scores are added by who measures them."""
    return Provenance(
        network=prepared.name,
        dataset=prepared.dataset,
        task=task_named(prepared.data.task).name if getattr(prepared.data, "labelled", True) else "",
        weights=prepared.weights.to_plain() if prepared.weights else {},
        settings=as_dict(prepared.settings),
        damage=plain(measuring.facts(damage), spell),
        bias_correction=asdict(conversion.correction) if conversion.correction else {},
        notes=tuple(plain([*prepared.notes, *conversion.notes, *cautions(prepared.settings, damage)], spell)),
        tool=tool(),
    )


def _listener(prepared: Named, state: Interrupted, resume: bool, progress: Progress) -> Listener:

    def epoch(report: EpochReport) -> None:
        progress.line(epoch_line(report, task_named(prepared.data.task).headline))

    def folded(graph: Graph) -> None:
        pth.refuse_unknown_ops(graph)
        progress.line(cost.line(graph, _stepped(prepared), delays_of(graph), prepared.settings.run.engine))

    return Listener(
        progress.begin, epoch, progress.advance, folded, state.save, state.saved() if resume else None
    )


def _stepped(prepared: Named) -> int:
    """How many samples are stepped in all: to correct biases and compare, to measure damage, to score."""
    data = prepared.settings.data
    drawn = min(data.calibration_samples, prepared.data.train_size)
    corrections = 3 * min(pipeline.CORRECTION_SAMPLES, drawn)
    return corrections + min(measuring.SAMPLES, drawn) + prepared.data.test_size


def evaluated(
    prepared: Named,
    conversion: Conversion,
    progress: Progress,
    label: str = "evaluate",
    *,
    by_step: bool = False,
) -> Evaluation:
    """What a conversion scores on the test set; by step, too, where asked for. The theorem must hold."""
    size, workers = prepared.settings.data.test_batch_size, prepared.settings.data.num_workers
    progress.begin(label, prepared.data.test_size, "samples")
    evaluation = evaluate(
        conversion.graph,
        prepared.data.test_batches(size, workers),
        task_named(prepared.data.task),
        network=on_samples(prepared.network, prepared.settings),
        quantized=conversion.quantized,
        by_delay=conversion.by_delay,
        device=prepared.device,
        engine=prepared.settings.run.engine,
        by_step=by_step,
        tick=progress.advance,
    )
    refuse_mismatch(conversion.graph, evaluation)
    return evaluation


def _report(
    prepared: Prepared, conversion: Conversion, damage: Damage, evaluation: Evaluation
) -> ConvertReport:
    hardware = judged(prepared.hardware, conversion.verdicts, prepared.settings.check.allow)
    records = prepared.settings.save.vectors
    other_engine = _other_engine(conversion.graph, prepared.settings.run.engine) if records else []
    shown = encoding_notes(conversion.graph)
    return ConvertReport(
        prepared.name,
        prepared.dataset,
        conversion.graph,
        prepared.settings,
        prepared.weights,
        evaluation,
        latency(conversion.graph),
        damage,
        hardware,
        (
            *prepared.notes,
            *conversion.notes,
            *shown,
            *hardware.notes,
            *other_engine,
        ),
        tuple(cautions(prepared.settings, damage, evaluation)),
        conversion.corrections,
    )


def _other_engine(graph: Graph, engine: str) -> list[str]:
    """What the engine that was asked for could not do, and which did that."""
    reason = engines.refusal(graph, STEP_BY_STEP, engine)
    if not reason:
        return []
    other = engines.chosen(graph, STEP_BY_STEP)
    return [f"engine {other} recorded the vector pack; {engine} cannot: {reason}"]


def cautions(settings: Settings, damage: Damage, evaluation: Evaluation | None = None) -> list[str]:
    """What to know before such an SNN is used, with what it scored, or else how far its outputs are off."""
    if settings.neurons.reset_mode is not Reset.ZERO:
        return []
    found = measuring.off_by(damage.snn)
    if evaluation is not None:
        own = delay_name(settings.timing.firing_delay, settings.timing.timesteps)
        worse = _first_loss(evaluation, own, QUANTIZED)
        if worse is None:
            return []
        found = f"SNN {own}: {worse[0]}, where the quantized network has {worse[1]}"
    finetune = f"{Setting('finetune_epochs')} trains with that loss; " if not settings.finetune.epochs else ""
    return [
        f"a reset to zero throws away what exceeds the threshold: {found}. {finetune}where the chip allows "
        f"it, use {Setting('reset_mode', 'subtraction')}"
    ]


def _first_loss(evaluation: Evaluation, *variants: str) -> tuple[str, str] | None:
    """The first number of a metric that is shown otherwise, of both, if the first variant has the worse."""
    both, headline = [evaluation.scores[variant] for variant in variants], evaluation.headline
    for name in both[0]:
        value, other = (each[name] for each in both)
        shown = headline.shown(value, name), headline.shown(other, name)
        if value is not None and other is not None and shown[0] != shown[1]:
            higher_is_better = headline.higher_is_better if name == headline.name else False
            is_worse = (value < other) == higher_is_better
            return (f"{name} {shown[0]}", f"{name} {shown[1]}") if is_worse else None
    return None


# Files ---------------------------------------------------------------------------------------------


def _written(
    report: ConvertReport,
    provenance: Provenance,
    prepared: Named,
    outputs: Outputs,
    request: ConvertRequest,
    progress: Progress,
) -> ConvertReport:
    """Everything on disk, and entered into the report: all of it, or nothing is changed."""
    with outputs.replaced(request.overwrite) as (new, staging):
        pth.save(report.graph, provenance.to_plain(), new.pth)
        note = _pack(report, prepared, new, provenance, progress)
        if not new.pack.exists() and outputs.pack.is_dir():
            staging.absent.append(new.pack.name)  # that of an earlier SNN is none of this one's
        found = _change_notes(staging.change())
        report = replace(report, notes=(*report.notes, *([note] if note else []), *found))
        new.config.write_bytes(outputs.settings_text(to_yaml(report.settings)))
        report = replace(report, files=outputs.entries(new))
        new.summary.write_bytes(files.as_sealed_json(report.to_json(request.spell)))
    for line in found:
        progress.line(line)
    return report


def _change_notes(change: Change) -> list[str]:
    """What became of files that lay there; and how to have programs in the pack again."""
    removed = {Path(name).parts[1] for name in change.removed}
    again = " ".join(str(Setting("format", language)) for language in pack.LANGUAGES if language in removed)
    return change.notes() + ([f"programs for the new SNN: ann2snn export SNN.pth {again}"] if again else [])


def _pack(
    report: ConvertReport, prepared: Named, new: Outputs, provenance: Provenance, progress: Progress
) -> str:
    """Write the vector pack, unless none is wanted or possible. What is to be said of it?"""
    wanted, refusal = report.settings.save.vectors, pack.refusal(report.graph)
    if wanted == 0 or refusal:
        return refusal if wanted else ""
    facts = origin(provenance, prepared.dataset)
    engine = engines.able_or_auto(report.graph, STEP_BY_STEP, report.settings.run.engine)
    asked = PackRequest(wanted, most_bytes=PACK_BYTES, origin=facts, engine=engine)
    batches = prepared.data.test_batches(report.settings.data.test_batch_size)
    task = task_named(prepared.data.task)
    return pack.write_pack(report.graph, batches, task, new.pack, asked, progress).left_out
