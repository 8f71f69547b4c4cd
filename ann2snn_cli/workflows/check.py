"""Check: every limit of a chip that a network breaks. Shapes and settings decide; nothing is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ann2snn_cli import pipeline
from ann2snn_cli.config import Settings
from ann2snn_cli.errors import Setting, UsageError
from ann2snn_cli.types import InputShapes
from ann2snn_cli.workflows import prepare
from ann2snn_cli.workflows.hardware import HardwareReport, judged
from ann2snn_cli.workflows.report import SILENT, Progress, Report

DEFAULT_HARDWARE = "v1"  # what a network that names no hardware is checked against


@dataclass(frozen=True)
class CheckRequest:
    """A network and a chip by name."""

    settings: Settings


@dataclass(frozen=True)
class CheckReport(Report):
    """What the chip says."""

    SCHEMA = "ann2snn/check/1"

    network: str
    input_shapes: InputShapes
    weight_bitwidth: int
    hardware: HardwareReport

    @property
    def shown_shape(self) -> str:
        """Such as 1x28x28; several inputs with commas between."""
        shapes = self.input_shapes.values() if isinstance(self.input_shapes, dict) else self.input_shapes
        return ", ".join("x".join(map(str, shape)) for shape in shapes)

    def facts(self) -> dict[str, Any]:
        """The document."""
        return {
            "network": self.network,
            "input_shape": prepare.shown_shape(self.input_shapes),
            "weight_bitwidth": self.weight_bitwidth,
            "hardware": self.hardware.facts(),
        }


def check(request: CheckRequest, progress: Progress = SILENT) -> CheckReport:
    """Hold every limit against every layer."""
    progress.begin("trace and fold")
    outline = prepare.outline(request.settings, default_hardware=DEFAULT_HARDWARE)
    for note in outline.notes:
        progress.line(f"note: {note}")
    settings, hardware = outline.settings, outline.hardware
    if hardware is None:
        raise UsageError(
            "no hardware is named",
            remedy=f"name one: {Setting('hardware', 'v1')} (ann2snn ls hardware)",
        )
    graph = outline.folded()
    bits = settings.quantize.weight_bitwidth
    verdicts = pipeline.checked(graph, hardware, settings)
    return CheckReport(
        outline.name, outline.input_shapes, bits, judged(hardware, verdicts, settings.check.allow)
    )
