"""The C99 twin: a plain C program replays the pack in 64-bit integers.

The sources in `c/` are the same for every network; `network.h`, made by `c_tables.py` from the manifest, says
which one it is. The program reads the pack's memory files when it runs. docs/vector-pack.md describes what it
reads, `c/README.md` what it prints.

A program that does not build, run or report as it should is a raised `Damaged`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ann2snn_cli.twins import programs
from ann2snn_cli.twins.c_tables import tables
from ann2snn_cli.twins.replay import Damaged, Outcome, Pack, Problem
from ann2snn_cli.twins.report import parse

PROGRAM = "replay.c"
FLAGS = ("-std=c99", "-O2")
HAND_WRITTEN = ("layers", "windows", "memory")
FILES = (PROGRAM, *(f"{name}.{kind}" for name in HAND_WRITTEN for kind in "ch"), "Makefile", "README.md")


def unavailable() -> str:
    """Why it cannot run here, with the remedy; nothing if it can."""
    return programs.no_c_compiler()


def version() -> str:
    """Name the compiler: the first line that it says about itself."""
    done = programs.run([*programs.c_compiler(), "--version"])
    return next(iter(done.stdout.splitlines()), "a compiler that does not tell its version")


def sources(pack: Pack) -> dict[str, str]:
    """The program for this pack, by file name: everything to build and run it by hand.

    Raises `Damaged` with all that the program cannot do.
    """
    folder = Path(__file__).parent / "c"
    fixed = {name: (folder / name).read_text("utf-8") for name in FILES}
    return fixed | {"network.h": tables(pack)}


def verify(pack: Pack, samples: Sequence[str], work: Path) -> Outcome:
    """Build the program in `work`, replay the samples, compare everything that is recorded."""
    for name, text in sources(pack).items():
        (work / name).write_text(text, encoding="utf-8")
    program = _build(work)
    done = programs.run([program, pack.folder.resolve(), *samples])
    if done.returncode not in (0, 1):
        raise Damaged(list(_problems(done.stderr, done.returncode)))
    outcome = parse(done.stdout, pack, samples, PROGRAM)
    if done.returncode != (outcome.mismatches > 0):
        raise Damaged([Problem(PROGRAM, f"it ended with status {done.returncode} against its own report")])
    return outcome


def _build(work: Path) -> Path:
    program = work / "replay"
    inputs = [work / name for name in FILES if name.endswith(".c")]
    command: list[str | Path] = [*programs.c_compiler(), *FLAGS, "-o", program, *inputs]
    done = programs.run(command)
    if done.returncode:
        said = done.stderr.splitlines()
        first = next((line for line in said if "error" in line), " ".join(said[-1:]))
        raise Damaged([Problem(PROGRAM, f"it does not compile: {first}")])
    return program


def _problems(errors: str, status: int) -> Iterator[Problem]:
    """The lines `ERROR FILE: WHAT`, or how else it ended."""
    named = [line.removeprefix("ERROR ") for line in errors.splitlines() if line.startswith("ERROR ")]
    for line in named:
        file, _, what = line.partition(": ")
        yield Problem(file, what)
    if not named:
        yield Problem(PROGRAM, f"it ended with status {status}: {errors.strip()[-200:] or 'it said nothing'}")
