"""Verify: replay a vector pack with independent twins, and say where the first difference is."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ann2snn_cli.errors import BadFile, UsageError
from ann2snn_cli.lookup import chosen, unknown
from ann2snn_cli.packs import diff
from ann2snn_cli.twins import TWINS, Simulator
from ann2snn_cli.twins.replay import (
    MANIFEST,
    Damaged,
    Outcome,
    Pack,
    Problem,
    problems,
    read,
    values_to_check,
)


@dataclass(frozen=True)
class Run:
    """What one backend found. `skipped` says why it did not run; `failed` why it came to no result."""

    backend: str
    version: str = ""
    samples: tuple[str, ...] = ()
    expected: int = 0  # values to check
    outcome: Outcome | None = None
    seconds: float = 0.0
    skipped: str = ""
    failed: str = ""

    @property
    def agrees(self) -> bool:
        """Did it look at everything and find no difference?"""
        done = self.outcome
        return done is not None and done.mismatches == 0 and done.checked == self.expected


@dataclass(frozen=True)
class Verification:
    """The state of a pack: what is wrong with its files, and what the twins say."""

    problems: tuple[Problem, ...]
    runs: tuple[Run, ...]
    pack: Pack | None = None

    @property
    def ok(self) -> bool:
        """Whole files, at least one twin that ran, and none that disagrees."""
        ran = [run for run in self.runs if not run.skipped]
        return not self.problems and bool(ran) and all(run.agrees for run in ran)


def backends_named(names: Sequence[str]) -> list[str]:
    """The backends a user asks for; `all` is every one. Refuses unknown names and those that cannot run."""
    asked = chosen("backend", names, ["all", *TWINS])
    if "all" in asked:
        return list(TWINS)
    for name in asked:
        if reason := TWINS[name].unavailable():
            raise UsageError(f"the backend {name} cannot run here", remedy=reason)
    return asked


def verify_pack(
    folder: Path,
    backends: Sequence[str],
    *,
    samples: Sequence[str] = (),
    max_clocks: int | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Verification:
    """Check the files, then let every backend replay the samples (none named: all).

    A simulator of hardware takes as many samples as fit into `max_clocks`, or into its usual ones.
    """
    damage = problems(folder)
    try:
        pack = read(folder)
        replayed = _samples(pack, samples)
    except Damaged as error:
        return Verification(tuple(dict.fromkeys([*damage, *error.problems])), ())
    runs = tuple(_run(name, pack, replayed, max_clocks, tell) for name in backends)
    return Verification(tuple(damage), runs, pack)


def differences(one: Path, other: Path) -> tuple[Pack, diff.Comparison]:
    """Where a pack differs from another pack, or from a simulator's log; the pack comes too."""
    try:
        pack = read(one)
        if (other / MANIFEST).is_file():
            return pack, diff.packs(pack, read(other))
        return pack, diff.log(pack, other)
    except Damaged as error:
        raise BadFile(
            "it cannot be compared: " + str(error),
            where=f"{one}, {other}",
            remedy="give a vector pack, and a second one, or a log as `ann2snn diff --help` describes it",
        ) from error


def _samples(pack: Pack, names: Sequence[str]) -> tuple[str, ...]:
    every = [sample["name"] for sample in pack.manifest["samples"]]
    if strange := [name for name in names if name not in every]:
        raise unknown("sample", strange[0], every)
    return tuple(names) or tuple(every)


def _run(
    name: str, pack: Pack, samples: tuple[str, ...], max_clocks: int | None, tell: Callable[[str], None]
) -> Run:
    twin, fitting = TWINS[name], samples
    if reason := twin.unavailable():
        return Run(name, skipped=reason)
    if isinstance(twin, Simulator):
        clocks, most = twin.clocks(pack), max_clocks or twin.default_clocks
        fitting = samples[: most // clocks]
        if not fitting:
            what = f"one sample takes about {clocks:,} clocks, more than {most:,}: --max_clocks N"
            return Run(name, skipped=what)
    tell(f"{name}: {len(fitting)} of {len(samples)} samples")
    expected = sum(values_to_check(pack, sample) for sample in fitting)
    start, outcome, failed = time.perf_counter(), None, ""
    try:
        with tempfile.TemporaryDirectory(prefix="ann2snn_") as work:
            outcome = twin.verify(pack, fitting, Path(work))
    except Damaged as error:
        failed = str(error)
    return Run(name, twin.version(), fitting, expected, outcome, time.perf_counter() - start, failed=failed)
