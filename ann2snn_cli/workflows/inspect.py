"""Inspect: the graph of a network, or of a converted network, node by node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ann2snn_cli.config import KEYS, Settings
from ann2snn_cli.errors import Setting, UsageError
from ann2snn_cli.ir import show
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.ir.registers import Register, registers
from ann2snn_cli.stages.export import replacement
from ann2snn_cli.workflows import prepare
from ann2snn_cli.workflows.report import SILENT, Progress, Report
from ann2snn_cli.workflows.saved import file_notes, read


@dataclass(frozen=True)
class InspectRequest:
    """A network by name, or the path of an SNN in the place of its name."""

    settings: Settings


@dataclass(frozen=True, eq=False)
class InspectReport(Report):
    """The graph; of an SNN also its contract, where it comes from, and the registers it needs."""

    SCHEMA = "ann2snn/inspect/1"

    name: str
    graph: Graph
    contract: Mapping[str, Any] | None = None
    provenance: Mapping[str, Any] | None = None
    registers: tuple[Register, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def headers(self) -> tuple[str, ...]:
        """The columns of `rows`."""
        return tuple(show.HEADERS if self.registers is None else show.REGISTER_HEADERS)

    @property
    def rows(self) -> list[Any]:
        """A row a node."""
        if self.registers is None:
            return list(show.rows(self.graph))
        return list(show.rows_with_registers(self.graph, list(self.registers)))

    @property
    def parameters(self) -> int:
        """How many weights there are."""
        return show.parameters(self.graph)

    @property
    def neurons(self) -> int:
        """How many neurons there are."""
        return show.neurons(self.graph)

    @property
    def real_line(self) -> str:
        """What runs on real numbers, in words."""
        return show.real_line(show.real_operators(self.graph))

    def facts(self) -> dict[str, Any]:
        """The document."""
        document: dict[str, Any] = {
            "level": self.graph.level.name,
            "parameters": self.parameters,
            "neurons": self.neurons,
            "real_operators": show.real_operators(self.graph),
        }
        if self.registers is not None:
            document |= {"contract": self.contract, "provenance": self.provenance}
            document["registers"] = [asdict(register) for register in self.registers]
            document["notes"] = list(self.notes)
        nodes = [dict(zip(show.HEADERS, row, strict=True)) for row in show.rows(self.graph)]
        return {**document, "nodes": nodes}


def inspect(request: InspectRequest, progress: Progress = SILENT) -> InspectReport:
    """The graph that a name or a `.pth` stands for."""
    if request.settings.network.endswith(".pth"):
        _refuse_idle_settings(request.settings)
        replacement.finish(Path(request.settings.network), progress.line)
        return _snn(Path(request.settings.network), request.settings.rules)
    progress.begin("trace and fold")
    outline = prepare.outline(request.settings)
    for note in outline.notes:
        progress.line(f"note: {note}")
    graph = outline.folded()
    return InspectReport(outline.name, graph)


def _refuse_idle_settings(settings: Settings) -> None:
    """An SNN is shown as it was converted: settings would change nothing."""
    for key in KEYS.values():
        holder = getattr(settings, key.section) if key.section else settings
        if key.dotted not in ("network", "rules") and getattr(holder, key.name) != key.default:
            raise UsageError(
                f"{Setting(key.flag)} does nothing for an SNN: it is shown as it was converted",
                where=str(Setting(key.flag)),
                remedy="leave it out, or convert the network with it",
            )


def _snn(path: Path, rules: str) -> InspectReport:
    graph, provenance = read(path, rules)
    contract = graph.timing.to_plain()
    return InspectReport(str(path), graph, contract, provenance, tuple(registers(graph)), file_notes(path))
