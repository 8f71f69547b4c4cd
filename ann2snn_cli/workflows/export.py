"""Export: a converted network for others, in their formats.

Nothing here imports torch until an SNN is exported: the help of the command names the formats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ann2snn_cli.config import Schedule, Settings, delay_name
from ann2snn_cli.errors import Ann2SnnError, Setting, UsageError
from ann2snn_cli.lookup import chosen
from ann2snn_cli.twins import PROGRAMS
from ann2snn_cli.words import count_of
from ann2snn_cli.workflows.report import SILENT, FileEntry, Progress, Report

if TYPE_CHECKING:
    from ann2snn_cli.stages.export.nir import NirLoss
    from ann2snn_cli.workflows.saved import Saved

NIR_SAMPLES = 8  # replayed in a reader


@dataclass(frozen=True)
class ExportRequest:
    """An SNN, the formats, and how much of it a vector pack records."""

    snn: Path
    formats: tuple[str, ...] = ("pack",)
    schedule: Schedule | None = None  # not its own delay, by name ...
    delay: int | None = None  # ... or by number
    samples: int = 10  # in a pack, of the test set
    corners: bool = True  # in a pack
    layers: tuple[str, ...] = ()  # recorded in a pack; none named: all
    steps: int | None = None  # recorded in a pack, the first so many; None: all
    potentials: bool = True
    flavor: str = "plain"  # of NIR
    replay: bool = False  # the NIR file, in the readers that are installed
    save_dir: Path = Path()
    settings: Settings = field(default_factory=Settings)
    overwrite: bool = False


@dataclass(frozen=True)
class Agreement:
    """How a reader of NIR fires, beside us."""

    reader: str
    layer: str
    spikes: int  # of ours
    replayed: int  # of its own
    share: float  # of both, at the same neurons and steps


@dataclass(frozen=True)
class Exported:
    """What one format gave."""

    files: tuple[FileEntry, ...]
    notes: tuple[str, ...] = ()
    losses: tuple[NirLoss, ...] | None = None  # what NIR cannot say; None: no NIR was asked for
    agreement: tuple[Agreement, ...] | None = None  # None: nothing was replayed


@dataclass(frozen=True)
class ExportReport(Report):
    """What was written."""

    SCHEMA = "ann2snn/export/1"

    snn: Path
    delay: int
    timesteps: int
    parts: tuple[Exported, ...]
    file_notes: tuple[str, ...] = ()  # what to know of the SNN's own file

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """Those of all formats."""
        return tuple(file for part in self.parts for file in part.files)

    @property
    def notes(self) -> tuple[str, ...]:
        """That of the SNN's file, and those of all formats."""
        return (*self.file_notes, *(note for part in self.parts for note in part.notes))

    @property
    def losses(self) -> tuple[NirLoss, ...] | None:
        """What NIR cannot say."""
        return next((part.losses for part in self.parts if part.losses is not None), None)

    @property
    def agreement(self) -> tuple[Agreement, ...] | None:
        """How readers of NIR fire."""
        return next((part.agreement for part in self.parts if part.agreement is not None), None)

    def facts(self) -> dict[str, Any]:
        """The document."""
        document: dict[str, Any] = {
            "snn": self.snn,
            "delay": self.delay,
            "schedule": delay_name(self.delay, self.timesteps),
            "timesteps": self.timesteps,
            "files": [asdict(file) for file in self.files],
            "notes": list(self.notes),
        }
        for name in ("losses", "agreement"):
            rows = getattr(self, name)
            document |= {name: [asdict(row) for row in rows]} if rows is not None else {}
        return document


Write = Callable[[ExportRequest, "Saved", Progress], Exported]
Refuse = Callable[[ExportRequest, "Saved"], None]


def _refuse_nothing(request: ExportRequest, snn: Saved) -> None:
    """A format that takes every network."""


@dataclass(frozen=True)
class Exporter:
    """One format. Names that share a `write` are one result: a pack with programs is one folder."""

    name: str
    what: str  # in one line, for the help text
    write: Write
    refuse: Refuse = _refuse_nothing  # what it cannot write, before anything is simulated or written
    options: tuple[str, ...] = ()  # the fields of a request that mean something to it


EXPORTERS: dict[str, Exporter] = {}


def register(*exporters: Exporter) -> None:
    """Make formats known by their names. A name that is taken is refused."""
    for exporter in exporters:
        if EXPORTERS.get(exporter.name, exporter) != exporter:
            raise UsageError(f"there is a format called {exporter.name!r} already", remedy="choose another")
        EXPORTERS[exporter.name] = exporter


def export(request: ExportRequest, progress: Progress = SILENT) -> ExportReport:
    """Write the SNN in every format that is asked for."""
    from ann2snn_cli.stages.export import files
    from ann2snn_cli.workflows import saved

    formats = _formats(request.formats)
    _refuse_idle_options(request, formats)
    _refuse_idle_settings(request, formats)
    _refuse_empty_pack(request, formats)
    files.refuse_unwritable(request.save_dir, "save_dir")
    progress.begin("load the SNN")
    snn = saved.load(request.snn, schedule=request.schedule, delay=request.delay, progress=progress)
    request = replace(request, formats=tuple(formats))
    for refuse in dict.fromkeys(EXPORTERS[name].refuse for name in formats):
        refuse(request, snn)
    writes = dict.fromkeys(EXPORTERS[name].write for name in formats)
    parts = tuple(write(request, snn, progress) for write in writes)
    contract = snn.graph.timing
    return ExportReport(request.snn, contract.delay, contract.timesteps, parts, snn.file_notes)


def _formats(names: tuple[str, ...]) -> list[str]:
    found = chosen("format", names, EXPORTERS)
    if not found:
        raise UsageError("no format is named", remedy=f"name one: {', '.join(EXPORTERS)}")
    return found


def _refuse_idle_options(request: ExportRequest, formats: list[str]) -> None:
    """An option that no chosen format knows would do nothing: it is refused."""
    known: dict[str, list[str]] = {}
    for name, each in EXPORTERS.items():
        for option in each.options:
            known.setdefault(option, []).append(name)
    used = {option for name in formats for option in EXPORTERS[name].options}
    default = ExportRequest(request.snn)
    for option, names in known.items():
        if option not in used and getattr(request, option) != getattr(default, option):
            given = Setting(option, getattr(request, option))
            raise UsageError(
                f"{given} does nothing for the format {', '.join(formats)}",
                remedy=f"leave it out, or ask for the format {' or '.join(names)} too",
            )


def _refuse_idle_settings(request: ExportRequest, formats: list[str]) -> None:
    """The same for data and engine, which only a recording or a replay needs."""
    if request.replay or any(EXPORTERS[name].write is _pack for name in formats):
        return
    data, run, plain = request.settings.data, request.settings.run, Settings()
    for name, given, default in (
        ("dataset", data.dataset, plain.data.dataset),
        ("data_dir", data.data_dir, plain.data.data_dir),
        ("test_batch_size", data.test_batch_size, plain.data.test_batch_size),
        ("engine", run.engine, plain.run.engine),
    ):
        if given != default:
            raise UsageError(
                f"{Setting(name, given)} does nothing for the format {', '.join(formats)}",
                remedy="leave it out, or ask for the format pack too",
            )


def _refuse_empty_pack(request: ExportRequest, formats: list[str]) -> None:
    """A pack without samples proves nothing."""
    if (
        not request.samples
        and not request.corners
        and any(EXPORTERS[name].write is _pack for name in formats)
    ):
        raise UsageError(
            "a vector pack without samples has nothing to compare",
            where=f"{Setting('samples', 0)} {Setting('corners', False)}",
            remedy=f"leave {Setting('corners', False)} out, or record test samples: {Setting('samples', 1)}",
        )


def _path(request: ExportRequest, ending: str) -> Path:
    """Where a result lies: NAME is that of the SNN."""
    return request.save_dir / f"{request.snn.stem}{ending}"


def _entry(path: Path, what: str) -> FileEntry:
    from ann2snn_cli.stages.export.files import size_of

    return FileEntry(f"{path}/" if path.is_dir() else str(path), size_of(path), what)


def _refuse_pack(request: ExportRequest, snn: Saved) -> None:
    from ann2snn_cli.stages.export import pack, replacement

    folder = _path(request, "_pack")
    replacement.clear(folder.parent, folder.name)
    replacement.refuse_loss_in(folder, overwrite=request.overwrite, setting="save_dir")
    pack.refuse_in_the_way(folder, {*PROGRAMS} & {*request.formats})
    pack.refuse(snn.graph)
    pack.Extent(request.layers, request.steps, request.potentials).chosen(snn.graph)


def _pack(request: ExportRequest, snn: Saved, progress: Progress) -> Exported:
    from ann2snn_cli.stages.export.pack import Extent
    from ann2snn_cli.tasks import task_named
    from ann2snn_cli.workflows import pack, saved

    folder = _path(request, "_pack")
    data = snn.samples(request.settings)
    asked = pack.PackRequest(
        request.samples,
        request.corners,
        Extent(request.layers, request.steps, request.potentials),
        languages=tuple(name for name in pack.LANGUAGES if name in request.formats),
        origin=saved.origin(snn.provenance, data.name),
        engine=request.settings.run.engine,
    )
    batches = data.test_batches(request.settings.data.test_batch_size)
    made = pack.write_pack(
        snn.graph, batches, task_named(data.task), folder, asked, progress, overwrite=request.overwrite
    )
    for line in made.notes:
        progress.line(line)
    notes = (
        *_fewer(request.samples, data.test_size),
        *(f"no sample {each.name}: {each.reason}" for each in made.absent),
        *made.notes,
    )
    return Exported((_entry(folder, f"the vector pack, {count_of(made.samples, 'sample')}"),), notes)


def _fewer(asked: int, there_are: int) -> list[str]:
    """What to know where more test samples are asked for than there are."""
    if asked <= there_are:
        return []
    return [f"there are {count_of(there_are, 'test sample')}, not {asked:,}: the pack holds all of them"]


def _refuse_onnx(request: ExportRequest, snn: Saved) -> None:
    from ann2snn_cli.stages.export import onnx

    path = _path(request, ".onnx")
    onnx.drafted(snn.graph, path, potentials=request.potentials, overwrite=request.overwrite)


def _onnx(request: ExportRequest, snn: Saved, progress: Progress) -> Exported:
    from ann2snn_cli.stages.export import onnx

    path = _path(request, ".onnx")
    progress.begin("write ONNX")
    refused = onnx.write(snn.graph, path, potentials=request.potentials, overwrite=request.overwrite)
    entry = _entry(path, "the network in integers, all steps (ONNX, opset 18)")
    if refused:
        return Exported((entry,), (f"no ONNX graph of one step in floats: {refused}",))
    return Exported((entry, _entry(onnx.step_file(path), "one step of it in floats, proved exact")))


def _refuse_nir(request: ExportRequest, snn: Saved) -> None:
    from ann2snn_cli.stages.export import nir

    nir.drafted(snn.graph, _path(request, ".nir"), flavor=request.flavor, overwrite=request.overwrite)


def _nir(request: ExportRequest, snn: Saved, progress: Progress) -> Exported:
    from ann2snn_cli.stages.export import nir
    from ann2snn_cli.stages.export.nir.writing import loss_file

    path = _path(request, ".nir")
    progress.begin("write NIR")
    losses = nir.write(snn.graph, path, flavor=request.flavor, overwrite=request.overwrite)
    what = f"NIR, flavor {request.flavor}: {nir.FLAVORS[request.flavor]}"
    written = Exported(
        (_entry(path, what), _entry(loss_file(path), "what NIR does not say of it")), losses=tuple(losses)
    )
    if not request.replay:
        return written
    progress.begin("replay NIR in other readers")
    agreement, notes = _replayed(request, snn, path)
    return replace(written, agreement=tuple(agreement), notes=tuple(notes))


def _replayed(request: ExportRequest, snn: Saved, path: Path) -> tuple[list[Agreement], list[str]]:
    """How the spikes of every installed reader agree with ours, population by population."""
    from ann2snn_cli.stages.export import nir
    from ann2snn_cli.stages.simulate import run

    engine = partial(run, engine=request.settings.run.engine)
    x, _ = next(iter(snn.samples(request.settings).test_batches(NIR_SAMPLES)))
    readers = nir.readers()
    installed = {name: version for name, version in readers.items() if version is not None}
    if not installed:
        return [], [f"no reader of NIR is installed, so nothing was replayed (known: {', '.join(readers)})"]
    found, notes = [], []
    for reader, version in installed.items():
        name = f"{reader} {version}"
        try:
            rows = nir.replay(path, snn.graph, x, engine, reader=reader)
        except Ann2SnnError as error:
            notes.append(f"{name} did not replay it: {error.what}")
            continue
        found += [Agreement(name, row.layer, row.spikes, row.replayed, row.share) for row in rows]
    return found, notes


_OF_PACKS = ("samples", "corners", "layers", "steps", "potentials")
_PACKS = (_pack, _refuse_pack, _OF_PACKS)

register(
    Exporter("pack", "a vector pack: parameters, stimuli, expected spikes and potentials", *_PACKS),
    Exporter("c", "a vector pack with a C99 program that replays it", *_PACKS),
    Exporter("verilog", "a vector pack with Verilog modules and a bench that replay it", *_PACKS),
    Exporter(
        "onnx",
        "ONNX: one integer graph over time, and a float graph of one step where that is exact",
        _onnx,
        _refuse_onnx,
        ("potentials",),
    ),
    Exporter("nir", "NIR, and a table of what NIR cannot say", _nir, _refuse_nir, ("flavor", "replay")),
)
