"""Convert: a trained network becomes an SNN; it is scored, and all that belongs to it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ann2snn_cli import pipeline
from ann2snn_cli.config import Provenance, Settings, as_dict, delay_name, to_yaml
from ann2snn_cli.errors import as_argument
from ann2snn_cli.ir.contract import Reset
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.pipeline import Conversion, Listener
from ann2snn_cli.stages.analyse.damage import Damage
from ann2snn_cli.stages.export import pth
from ann2snn_cli.tasks import task_named
from ann2snn_cli.types import EpochReport
from ann2snn_cli.version import tool
from ann2snn_cli.workflows import cost, pack, prepare
from ann2snn_cli.workflows import damage as measuring
from ann2snn_cli.workflows.evaluate import Evaluation, delays_of, evaluate, refuse_mismatch
from ann2snn_cli.workflows.files import Interrupted, Outputs
from ann2snn_cli.workflows.hardware import HardwareReport, judged
from ann2snn_cli.workflows.latency import Latency, latency
from ann2snn_cli.workflows.pack import PackRequest
from ann2snn_cli.workflows.prepare import Named, Prepared
from ann2snn_cli.workflows.report import SILENT, FileEntry, Progress, Report, Spell, epoch_line, plain
from ann2snn_cli.workflows.saved import origin

PACK_BYTES = 256_000_000  # of a pack that nobody asked for by size

ZERO_RESET = (
    "reset to zero throws away what exceeds the threshold: layerwise a neuron then fires at most once, so "
    "only the stepwise scores are meaningful"
)


@dataclass(frozen=True)
class ConvertRequest:
    """A network and data by name."""

    settings: Settings
    resume: bool = False  # go on with a finetuning that was interrupted
    overwrite: bool = False  # replace files that are not ours
    spell: Spell = as_argument  # how settings are named in the summary that is written


@dataclass(frozen=True, eq=False)
class ConvertReport(Report):
    """What a conversion gave."""

    SCHEMA = "ann2snn/convert/1"

    network: str
    dataset: str
    graph: Graph  # SPIKING
    settings: Settings  # with every default filled in
    weights: Mapping[str, Any]
    evaluation: Evaluation
    latency: Latency
    damage: Damage
    hardware: HardwareReport
    notes: tuple[str, ...]
    files: tuple[FileEntry, ...] = ()

    @property
    def delay(self) -> int:
        """The firing delay of the SNN that is written."""
        return self.graph.timing.delay

    def facts(self) -> dict[str, Any]:
        """The document: what it scored, what the hardware says, and how to repeat it."""
        return {
            "network": self.network,
            "dataset": self.dataset,
            **self.evaluation.facts(),
            "largest_output_error": self.evaluation.largest_error,
            "timesteps": self.latency.timesteps,
            "delay": self.delay,
            "schedule": delay_name(self.delay, self.latency.timesteps),
            "latency_steps": self.latency.steps(self.delay),
            "latency": self.latency.facts(delays_of(self.graph)),
            "damage": measuring.facts(self.damage),
            "hardware": self.hardware.facts(),
            "notes": list(self.notes),
            "weights": dict(self.weights),
            "settings": as_dict(self.settings),
            "files": [asdict(file) for file in self.files],
        }


def convert(request: ConvertRequest, progress: Progress = SILENT) -> ConvertReport:
    """Convert the network that the settings name, score it on the test set, and write its files."""
    progress.begin("load the network and the data")
    prepared = prepare.by_name(request.settings)
    outputs = Outputs.of(prepared.settings, prepared.name)
    outputs.refuse_foreign(request.overwrite)
    prepared = replace(prepared, settings=outputs.named_in(prepared.settings))
    hardware = f"hardware {prepared.hardware.name}" if prepared.hardware else "no hardware limits"
    progress.line(f"{prepared.name} on {prepared.dataset}, {hardware}, device {prepared.device}")
    state = Interrupted.of(
        outputs.state, prepared.settings, prepared.weights.sha256 if prepared.weights else ""
    )
    with state.resumable():
        conversion, damage = converted(prepared, _listener(prepared, state, request.resume, progress))
        evaluation = _evaluated(prepared, conversion.graph, progress)
    report = _report(prepared, conversion, damage, evaluation)
    provenance = replace(
        provenance_of(prepared, conversion, damage, request.spell),
        scores=evaluation.facts()["scores"],
        test_samples=evaluation.samples,
    )
    report = _written(report, provenance, prepared, outputs, request, progress)
    state.path.unlink(missing_ok=True)
    return report


def converted(prepared: Prepared, listener: Listener | None = None) -> tuple[Conversion, Damage]:
    """The conversion itself and the damage it does: of what was found by name, or of objects in Python."""
    tell = listener or Listener()
    conversion = pipelined(prepared, tell)
    tell.stage("measure the damage", measuring.batches(prepared))
    return conversion, measuring.measured(prepared, conversion, tell.tick)


def pipelined(prepared: Prepared, listener: Listener | None = None) -> Conversion:
    """What the pipeline makes of it."""
    return pipeline.convert(
        prepared.network,
        prepared.data,
        prepared.settings,
        hardware=prepared.hardware,
        device=prepared.device,
        loss=prepared.loss,
        rules=prepared.rules,
        listener=listener,
    )


def provenance_of(
    prepared: Prepared, conversion: Conversion, damage: Damage, spell: Spell = as_argument
) -> Provenance:
    """Where the SNN comes from; its scores are added by who measures them."""
    return Provenance(
        network=prepared.name,
        dataset=prepared.dataset,
        task=task_named(prepared.data.task).name,
        weights=prepared.weights.to_plain() if prepared.weights else {},
        settings=as_dict(prepared.settings),
        damage=plain(measuring.facts(damage), spell),
        notes=tuple(plain([*conversion.notes, *_cautions(prepared.settings)], spell)),
        tool=tool(),
    )


def _listener(prepared: Named, state: Interrupted, resume: bool, progress: Progress) -> Listener:

    def epoch(report: EpochReport) -> None:
        progress.line(epoch_line(report))

    def folded(graph: Graph) -> None:
        timing = prepared.settings.timing
        runs = len({0, timing.timesteps, timing.firing_delay})
        progress.line(cost.line(graph, timing.timesteps, prepared.data.test_size, runs))

    return Listener(
        progress.begin, epoch, progress.advance, folded, state.save, state.saved() if resume else None
    )


def _evaluated(prepared: Named, graph: Graph, progress: Progress) -> Evaluation:
    size, workers = prepared.settings.data.test_batch_size, prepared.settings.data.num_workers
    progress.begin("evaluate", prepared.data.test_size, "samples")
    evaluation = evaluate(
        graph,
        prepared.data.test_batches(size, workers),
        task_named(prepared.data.task),
        network=prepared.network,
        device=prepared.device,
        engine=prepared.settings.run.engine,
        tick=progress.advance,
    )
    refuse_mismatch(graph, evaluation)
    return evaluation


def _report(
    prepared: Prepared, conversion: Conversion, damage: Damage, evaluation: Evaluation
) -> ConvertReport:
    return ConvertReport(
        prepared.name,
        prepared.dataset,
        conversion.graph,
        prepared.settings,
        prepared.weights.to_plain() if prepared.weights else {},
        evaluation,
        latency(conversion.graph),
        damage,
        judged(prepared.hardware, conversion.verdicts),
        (*conversion.notes, *_cautions(prepared.settings)),
    )


def _cautions(settings: Settings) -> list[str]:
    return [ZERO_RESET] if settings.neurons.reset_mode is Reset.ZERO else []


# Files ---------------------------------------------------------------------------------------------


def _written(
    report: ConvertReport,
    provenance: Provenance,
    prepared: Named,
    outputs: Outputs,
    request: ConvertRequest,
    progress: Progress,
) -> ConvertReport:
    """Everything on disk, and entered into the report."""
    pth.save(report.graph, provenance.to_plain(), outputs.pth, overwrite=request.overwrite)
    with_pack, note = _pack(report, prepared, outputs, provenance, request.overwrite, progress)
    report = replace(report, notes=(*report.notes, note) if note else report.notes)
    outputs.write_settings(to_yaml(report.settings), request.overwrite)
    report = replace(report, files=outputs.entries(with_pack))
    outputs.write_summary(report.to_json(request.spell), request.overwrite)
    return report


def _pack(
    report: ConvertReport,
    prepared: Named,
    outputs: Outputs,
    provenance: Provenance,
    overwrite: bool,
    progress: Progress,
) -> tuple[bool, str]:
    """Write the vector pack, unless none is wanted or possible. Is there one, and what to say of it?"""
    wanted, refusal = report.settings.save.vectors, pack.refusal(report.graph)
    if wanted == 0 or refusal:
        outputs.remove_pack()
        return False, refusal if wanted else ""
    facts = origin(provenance, prepared.dataset)
    engine = report.settings.run.engine
    asked = PackRequest(wanted, most_bytes=PACK_BYTES, origin=facts, engine=engine)
    batches = prepared.data.test_batches(report.settings.data.test_batch_size)
    task = task_named(prepared.data.task)
    made = pack.write_pack(report.graph, batches, task, outputs.pack, asked, progress, overwrite=overwrite)
    return True, made.left_out
