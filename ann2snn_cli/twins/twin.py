"""What a twin is asked, and all twins by name. What runs a twin is imported when it is first asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from ann2snn_cli.twins.replay import Outcome, Pack

TWINS: dict[str, Twin] = {}


class Twin(Protocol):
    """An independent implementation of the arithmetic. Its options are fields of its own."""

    @property
    def name(self) -> str:
        """What a user asks for."""

    def unavailable(self) -> str:
        """Why it cannot run here, with the remedy, in one line; empty if it can."""

    def version(self) -> str:
        """The name and version of the program that runs it, in one line."""

    def verify(self, pack: Pack, samples: Sequence[str], work: Path) -> Outcome:
        """Replay samples and compare everything that the pack records; `work` is an empty folder.

        Raises `Damaged`, with the reasons, where it comes to no result.
        """


@runtime_checkable
class Simulator(Twin, Protocol):
    """A twin that simulates hardware clock by clock, and so may take long."""

    @property
    def clocks_per_second(self) -> int:
        """About how many it simulates."""

    @property
    def build(self) -> str:
        """How long it builds a bench before it simulates, in words; empty where that takes no time."""

    def clocks(self, pack: Pack) -> int:
        """About how many clocks one sample takes."""


def register(*twins: Twin) -> None:
    """Make twins known by their names. A name that is taken is refused."""
    for twin in twins:
        if TWINS.get(twin.name, twin) != twin:
            raise ValueError(f"there is a twin called {twin.name!r} already")
        TWINS[twin.name] = twin


# The twins -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Numpy:
    """`replay.py`, which lies in every pack."""

    name: str = "numpy"

    def unavailable(self) -> str:
        """It runs wherever Python and numpy do."""
        return ""

    def version(self) -> str:
        """That of numpy."""
        from ann2snn_cli.twins import replay

        return replay.version()

    def verify(self, pack: Pack, samples: Sequence[str], work: Path) -> Outcome:
        """Replay whole trains, layer by layer."""
        from ann2snn_cli.twins import replay

        return replay.verify(pack, samples)


@dataclass(frozen=True)
class Onnx:
    """One integer graph of standard operators."""

    name: str
    runtime: str  # reference or onnxruntime

    def unavailable(self) -> str:
        """The package that is missing or too old."""
        from ann2snn_cli.twins import onnx

        return onnx.unavailable(self.runtime)

    def version(self) -> str:
        """That of the runtime."""
        from ann2snn_cli.twins import onnx

        return onnx.version(self.runtime)

    def verify(self, pack: Pack, samples: Sequence[str], work: Path) -> Outcome:
        """Write the graph, check it, run it."""
        from ann2snn_cli.twins import onnx

        return onnx.verify(pack, samples, work, self.runtime)


@dataclass(frozen=True)
class C:
    """A C99 program."""

    name: str = "c"

    def unavailable(self) -> str:
        """The compiler that is missing."""
        from ann2snn_cli.twins import c

        return c.unavailable()

    def version(self) -> str:
        """That of the compiler."""
        from ann2snn_cli.twins import c

        return c.version()

    def verify(self, pack: Pack, samples: Sequence[str], work: Path) -> Outcome:
        """Build the program and run it."""
        from ann2snn_cli.twins import c

        return c.verify(pack, samples, work)


@dataclass(frozen=True)
class Verilog:
    """Verilog modules and a bench, in one simulator."""

    name: str  # that of the simulator: iverilog or verilator
    clocks_per_second: int
    build: str = ""

    def unavailable(self) -> str:
        """The programs that are missing or too old."""
        from ann2snn_cli.twins import verilog

        return verilog.unavailable(self.name)

    def version(self) -> str:
        """That of the simulator."""
        from ann2snn_cli.twins import verilog

        return verilog.version(self.name)

    def clocks(self, pack: Pack) -> int:
        """What the simulator is expected to take."""
        from ann2snn_cli.twins import verilog

        return verilog.cycles(pack)

    def verify(self, pack: Pack, samples: Sequence[str], work: Path) -> Outcome:
        """Build the bench and run it, sample by sample."""
        from ann2snn_cli.twins import verilog

        return verilog.verify(pack, samples, work, self.name)


register(Numpy(), Onnx("onnx", "reference"), Onnx("onnxruntime", "onnxruntime"), C())
register(Verilog("iverilog", 140_000), Verilog("verilator", 5_000_000, "10 seconds to 2 minutes"))


# Twins as programs ---------------------------------------------------------------------------------

Program = Callable[["Pack"], Mapping[str, str]]  # of a pack: everything to build and run it, by file name


def _c(pack: Pack) -> Mapping[str, str]:
    from ann2snn_cli.twins import c

    return c.sources(pack)


def _verilog(pack: Pack) -> Mapping[str, str]:
    from ann2snn_cli.twins import verilog

    return verilog.sources(pack)


PROGRAMS: dict[str, Program] = {"c": _c, "verilog": _verilog}  # by the folder of a pack that holds them
