"""Build the bench with a simulator, run samples, read the reports."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ann2snn_cli.twins import programs
from ann2snn_cli.twins.replay import Damaged, Outcome, Pack, Problem
from ann2snn_cli.twins.report import parse
from ann2snn_cli.twins.verilog.bench import bench
from ann2snn_cli.twins.verilog.files import miscounted
from ann2snn_cli.twins.verilog.refusals import refuse

BENCH = "bench.v"
FOLDER = Path(__file__).parent
Command = list[str | Path]


@dataclass(frozen=True)
class Tool:
    """A simulator."""

    programs: tuple[str, ...]  # that must be on the PATH
    remedy: str
    version: tuple[str, ...]  # the command that tells it
    build: Callable[[list[str]], Command]  # from the Verilog files, within the work folder
    simulation: Command  # what was built, within the work folder


def _iverilog(files: list[str]) -> Command:
    return ["iverilog", "-g2005", "-s", "bench", "-o", "bench.vvp", *files]


def _verilator(files: list[str]) -> Command:
    options = ["--binary", "--timing", "-Wno-fatal", "--top-module", "bench", "-o", "bench", "-Mdir", "built"]
    return ["verilator", *options, *files]


TOOLS = {
    "iverilog": Tool(
        ("iverilog", "vvp"),
        "install Icarus Verilog (apt-get install iverilog)",
        ("iverilog", "-V"),
        _iverilog,
        ["vvp", "-n", "bench.vvp"],
    ),
    "verilator": Tool(
        ("verilator", "make"),
        "install Verilator 5 or later with make and a C++ compiler (apt-get install verilator make g++)",
        ("verilator", "--version"),
        _verilator,
        [Path("built") / "bench"],
    ),
}


def unavailable(tool: str = "iverilog") -> str:
    """Why it cannot run here, with the remedy; nothing if it can."""
    missing = [name for name in TOOLS[tool].programs if shutil.which(name) is None]
    if missing:
        return f"{' and '.join(missing)} not found: {TOOLS[tool].remedy}"
    if tool == "verilator" and int((re.findall(r"\d+", version(tool)) or ["0"])[0]) < 5:
        return f"{version(tool)} has no --timing: {TOOLS[tool].remedy}"
    return ""


def version(tool: str = "iverilog") -> str:
    """The first line that it says about itself."""
    done = programs.run(TOOLS[tool].version)
    return next(iter(done.stdout.splitlines()), f"{tool} that does not tell its version").strip()


def sources(pack: Pack) -> dict[str, str]:
    """The modules, the bench of this pack, a Makefile and a README, by file name.

    Raises `Damaged` with all that the modules cannot do.
    """
    fixed = [*sorted(FOLDER.glob("*.v")), FOLDER / "Makefile", FOLDER / "README.md"]
    return {path.name: path.read_text("utf-8") for path in fixed} | {BENCH: bench(pack)}


def verify(pack: Pack, samples: Sequence[str], work: Path, tool: str = "iverilog") -> Outcome:
    """Build the bench in `work`, run the samples one by one, compare everything that is recorded.

    Raises `Damaged` for files with missing or superfluous words, a bench that does not build, and a run that
    ends without a whole report. A simulation of many clocks takes long: ask `cycles` first.
    """
    refuse(pack)
    if damage := list(miscounted(pack, samples)):
        raise Damaged(damage)
    texts = sources(pack)
    for name, text in texts.items():
        (work / name).write_text(text, encoding="utf-8")
    _build(TOOLS[tool].build([name for name in texts if name.endswith(".v")]), work)
    outcome = Outcome()
    for sample in samples:
        outcome.add(parse(_run(TOOLS[tool], pack, sample, work), pack, [sample], BENCH))
    return outcome


def _build(command: Command, work: Path) -> None:
    done = programs.run(command, work=work)
    if done.returncode:
        said = done.stderr.splitlines() or done.stdout.splitlines()
        first = next((line for line in said if "rror" in line), " ".join(said[-1:]))
        raise Damaged([Problem(BENCH, f"{command[0]} does not build it: {first}")])


def _run(tool: Tool, pack: Pack, sample: str, work: Path) -> str:
    """All that the simulation of a sample prints. That it ends well, its RESULT line shows."""
    (program, *options) = tool.simulation
    given = [f"+pack={pack.folder.resolve()}", f"+sample={sample}"]
    command: Command = [work / program if isinstance(program, Path) else program, *options, *given]
    return programs.run(command, work=work, together=True).stdout
