"""Verify: replay a vector pack with independent twins, and say where the first difference is."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ann2snn_cli.config import Schedule, Settings
from ann2snn_cli.errors import BadFile, MissingFile, Setting, UsageError
from ann2snn_cli.lookup import chosen, unknown
from ann2snn_cli.stages.export import replacement
from ann2snn_cli.twins import TWINS, Simulator
from ann2snn_cli.twins.replay import (
    MANIFEST,
    Damaged,
    Outcome,
    Pack,
    Problem,
    describe,
    problems,
    read,
    values_to_check,
)
from ann2snn_cli.words import count_of
from ann2snn_cli.workflows.faults import FaultReport, judged
from ann2snn_cli.workflows.report import SILENT, Progress, Report

SAMPLES = 8  # of an SNN, besides the corner cases
SECONDS = 20  # about what a hardware simulator simulates at most, unless it is told how many clocks
TEMPORARY_BYTES = 2_000_000_000  # of a pack that is made for one check


@dataclass(frozen=True)
class VerifyRequest:
    """A pack, or an SNN that a pack is made of for the time of the check."""

    source: Path
    backends: tuple[str, ...] = ("all",)
    names: tuple[str, ...] = ()  # of the samples that are replayed; none named: all
    max_clocks: int | None = None  # in hardware simulators; None: what takes SECONDS, without the build
    faults: int | None = None  # break the network in so many ways
    samples: int | None = None  # of an SNN: so many test samples, and the corner cases; None: 8
    schedule: Schedule | None = None  # of an SNN: not its own delay, by name ...
    delay: int | None = None  # ... or by number
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True)
class Run:
    """What one backend found. `skipped` says why it did not run; `failed` why it came to no result."""

    backend: str
    version: str = ""
    samples: tuple[str, ...] = ()
    asked: int = 0  # samples that it was to replay
    expected: int = 0  # values to check
    outcome: Outcome | None = None
    first: str = ""  # the first difference in words
    seconds: float = 0.0
    skipped: str = ""
    failed: str = ""

    @property
    def agrees(self) -> bool:
        """Did it look at everything and find no difference?"""
        done = self.outcome
        return done is not None and done.mismatches == 0 and done.checked == self.expected

    def facts(self) -> dict[str, Any]:
        """Give plain Python; a difference is given with the neuron's coordinates and in words."""
        outcome = self.outcome
        first = outcome.first if outcome else None
        return {
            "backend": self.backend,
            "version": self.version,
            "agrees": self.agrees,
            "skipped": self.skipped,
            "failed": self.failed,
            "samples": list(self.samples),
            "expected": self.expected,
            "checked": outcome.checked if outcome else 0,
            "mismatches": outcome.mismatches if outcome else 0,
            "first": asdict(first) | {"text": self.first} if first else None,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class VerifyReport(Report):
    """The state of a pack: what is wrong with its files, what the twins say, and how good its vectors are."""

    SCHEMA = "ann2snn/verify/1"

    source: Path
    problems: tuple[Problem, ...]
    runs: tuple[Run, ...]
    faults: FaultReport | None = None
    notes: tuple[str, ...] = ()  # what to know of the file of an SNN

    @property
    def ok(self) -> bool:
        """Whole files, at least one twin that ran, and none that disagrees."""
        ran = [run for run in self.runs if not run.skipped]
        return not self.problems and bool(ran) and all(run.agrees for run in ran)

    @property
    def differs(self) -> bool:
        """Did a twin compute something else than the pack holds?"""
        return any(run.outcome is not None and run.outcome.mismatches > 0 for run in self.runs)

    @property
    def exit_code(self) -> int:
        """0 where all is proved, 4 where a twin disagrees, 1 where nothing can be said."""
        return 0 if self.ok else 4 if self.differs else 1

    def facts(self) -> dict[str, Any]:
        """The document."""
        document = {
            "pack": self.source,
            "ok": self.ok,
            "problems": [asdict(problem) for problem in self.problems],
            "backends": [run.facts() for run in self.runs],
            "notes": list(self.notes),
        }
        return document | (self.faults.facts() if self.faults else {})


def verify(request: VerifyRequest, progress: Progress = SILENT) -> VerifyReport:
    """Check the files, then let every backend replay the samples."""
    backends = backends_named(request.backends)
    _refuse_idle_numbers(request, backends)
    with _pack(request, progress) as folder:
        progress.begin("check the files")
        damage = problems(folder)
        try:
            pack = read(folder)
            names = _samples(pack, request.names)
        except Damaged as error:
            return VerifyReport(request.source, tuple(dict.fromkeys([*damage, *error.problems])), ())
        runs = tuple(_run(name, pack, names, request.max_clocks, progress) for name in backends)
        faults = None
        if request.faults is not None:
            progress.begin(f"faults: {request.faults} mutants", len(names), "samples")
            faults = judged(pack, request.faults, request.settings.run.seed, request.names, progress.advance)
        return VerifyReport(request.source, tuple(damage), runs, faults, _file_notes(request.source))


def _file_notes(source: Path) -> tuple[str, ...]:
    if source.is_dir():
        return ()
    from ann2snn_cli.workflows import saved  # torch, which the replay of a pack does without

    return saved.file_notes(source)


def refuse_no_pack(folder: Path, otherwise: str = "neither a vector pack nor an SNN.pth") -> None:
    """Refuse a name that is wrong, and a folder that is none of ours."""
    remedy = "give the folder that ann2snn convert or ann2snn export wrote"
    if not folder.exists():
        raise MissingFile("it does not exist", where=str(folder), remedy=remedy)
    if not folder.is_dir():
        raise BadFile(f"it is {otherwise}", where=str(folder), remedy=remedy)
    if not (folder / MANIFEST).is_file():
        raise BadFile(f"it is no vector pack: there is no {MANIFEST} in it", where=str(folder), remedy=remedy)


def _refuse_idle_numbers(request: VerifyRequest, backends: Sequence[str]) -> None:
    simulators = [name for name in TWINS if isinstance(TWINS[name], Simulator)]
    if request.max_clocks is not None and not set(simulators) & set(backends):
        raise UsageError(
            f"{Setting('max_clocks')} does nothing for {', '.join(backends)}",
            where=str(Setting("max_clocks", request.max_clocks)),
            remedy=f"leave it out, or ask for {' or '.join(simulators)}",
        )
    if request.settings.run.seed != Settings().run.seed and request.faults is None:
        raise UsageError(
            f"{Setting('seed')} does nothing here: it draws the ways to break the network",
            where=str(Setting("seed", request.settings.run.seed)),
            remedy=f"leave it out, or ask for {Setting('faults')}",
        )


def _refuse_idle_options(request: VerifyRequest) -> None:
    """What only a pack that is made of an SNN.pth can be told."""
    plain, data, run = Settings(), request.settings.data, request.settings.run
    settings = {
        "dataset": data.dataset, "data_dir": data.data_dir, "engine": run.engine,
        "test_batch_size": data.test_batch_size,
    }  # fmt: skip
    defaults = {**vars(plain.data), **vars(plain.run)}
    given = {name: value for name, value in settings.items() if value != defaults[name]}
    for name in ("samples", "schedule", "delay"):
        given |= {name: getattr(request, name)} if getattr(request, name) is not None else {}
    for name, value in given.items():
        names = f", and name samples with {Setting('sample')}" if name == "samples" else ""
        raise UsageError(
            f"{Setting(name)} does nothing for a vector pack: it holds what was recorded",
            where=str(Setting(name, value)),
            remedy=f"leave it out{names}; or give the SNN.pth",
        )


def backends_named(names: Sequence[str]) -> list[str]:
    """The backends a user asks for; `all` is every one. Refuses unknown names and those that cannot run."""
    asked = chosen("backend", names, ["all", *TWINS])
    if "all" in asked:
        return list(TWINS)
    for name in asked:
        if reason := TWINS[name].unavailable():
            raise UsageError(f"the backend {name} cannot run here", remedy=reason)
    return asked


def _samples(pack: Pack, names: Sequence[str]) -> tuple[str, ...]:
    every = [sample["name"] for sample in pack.manifest["samples"]]
    if strange := [name for name in names if name not in every]:
        raise unknown("sample", strange[0], every)
    return tuple(names) or tuple(every)


def _run(name: str, pack: Pack, samples: tuple[str, ...], max_clocks: int | None, progress: Progress) -> Run:
    twin, fitting, takes = TWINS[name], samples, ""
    if reason := twin.unavailable():
        return Run(name, skipped=reason)
    if isinstance(twin, Simulator):
        clocks, most = twin.clocks(pack), max_clocks or SECONDS * twin.clocks_per_second
        fitting = samples[: most // max(1, clocks)]  # 0: it refuses the network, and says why
        if not fitting:
            needed = f"one sample takes about {clocks:,} clocks, more than {most:,}"
            return Run(name, skipped=f"{needed}: raise {Setting('max_clocks')}")
        takes = _duration(twin, clocks * len(fitting))
    progress.begin(f"{name}: {len(fitting)} of {count_of(len(samples), 'sample')}{takes}")
    expected = sum(values_to_check(pack, sample) for sample in fitting)
    start, outcome, failed = time.perf_counter(), None, ""
    try:
        with tempfile.TemporaryDirectory(prefix="ann2snn_") as work:
            outcome = twin.verify(pack, fitting, Path(work))
    except Damaged as error:
        failed = str(error)
    first = "" if outcome is None or outcome.first is None else describe(pack, outcome.first)
    seconds = time.perf_counter() - start
    return Run(name, twin.version(), fitting, len(samples), expected, outcome, first, seconds, failed=failed)


def _duration(twin: Simulator, clocks: int) -> str:
    """About how long a simulation takes, told before it begins."""
    build = f"a build of {twin.build}, then " if twin.build else ""
    return f", {build}about {max(1, round(clocks / twin.clocks_per_second))} s"


@contextmanager
def _pack(request: VerifyRequest, progress: Progress) -> Iterator[Path]:
    """The pack itself; of an SNN one made for the time of the check."""
    if request.source.suffix != ".pth" or request.source.is_dir():
        _refuse_idle_options(request)
        replacement.finish(request.source, progress.line)
        refuse_no_pack(request.source)
        yield request.source
        return
    from ann2snn_cli.tasks import task_named
    from ann2snn_cli.workflows import pack, saved  # torch, which the replay of a pack does without

    snn = saved.load(request.source, schedule=request.schedule, delay=request.delay, progress=progress)
    data = snn.samples(request.settings)
    facts = saved.origin(snn.provenance, data.name)
    engine = request.settings.run.engine
    count = SAMPLES if request.samples is None else request.samples
    asked = pack.PackRequest(count, most_bytes=TEMPORARY_BYTES, origin=facts, engine=engine)
    batches = data.test_batches(request.settings.data.test_batch_size)
    with tempfile.TemporaryDirectory(prefix="ann2snn_") as place:
        folder = Path(place) / "pack"
        made = pack.write_pack(snn.graph, batches, task_named(data.task), folder, asked, progress)
        if made.left_out:
            progress.line(made.left_out)
        yield made.folder
