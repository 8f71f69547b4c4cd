"""Neuron: what one integrate-and-fire neuron does with constant inputs: its rate, its spikes, its potential.

It is made and stepped as those of an SNN are: by the stage that sets thresholds, and by the reference engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ann2snn_cli.config import Settings
from ann2snn_cli.errors import Setting, UsageError, as_argument
from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.engine import Request
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import Activity, Input, IntegrateFire, Relu
from ann2snn_cli.pipeline import contract_of
from ann2snn_cli.stages import simulate as engines
from ann2snn_cli.stages.analyse import pictures
from ann2snn_cli.stages.threshold import threshold as as_integers
from ann2snn_cli.workflows.folders import ResultFolder, as_csv
from ann2snn_cli.workflows.report import SILENT, Progress, Report, Spell

DEFAULT_THRESHOLD = 64
LARGEST = 1 << 31  # of thresholds and inputs: no register of a chip is wider
MOST_INPUTS = 401  # of the curve
SHOWN = (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1)  # inputs whose spikes are drawn, of a threshold
MOST_SHOWN = 8
MOST_TIMESTEPS = 4096  # more spikes than anybody can see


@dataclass(frozen=True)
class NeuronRequest:
    """One neuron; of the settings the timing, the reset and the rounding count."""

    settings: Settings
    threshold: int = DEFAULT_THRESHOLD
    inputs: Sequence[int] = ()  # whose spikes are drawn; none: some up to the threshold
    save_dir: Path | None = None  # None: neuron_experiment
    overwrite: bool = False
    spell: Spell = as_argument


@dataclass(frozen=True)
class Response:
    """What the neuron does with one input: the sum over T steps of its spikes, and each firing step."""

    value: int  # of the input, at every step
    spikes: tuple[int, ...]  # at each of the T firing steps
    potentials: tuple[int, ...]  # after each of them and its reset

    @property
    def count(self) -> int:
        """N."""
        return sum(self.spikes)


@dataclass(frozen=True)
class NeuronReport(Report):
    """Its rate against its input, and its spikes and potentials for a few inputs."""

    SCHEMA = "ann2snn/neuron/1"

    contract: Contract
    threshold: int
    bias: int  # added at every step of the input
    initial: int  # the potential before the first step
    counts: tuple[tuple[int, int], ...]  # input, spikes in T steps
    shown: tuple[Response, ...]
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rates(self) -> list[dict[str, Any]]:
        """A row an input: its spikes, their rate, and the rectifier that the rate stands for."""
        steps = self.contract.timesteps
        return [
            {"input": value, "spikes": count, "rate": count / steps, "clipped_relu": self.relu(value)}
            for value, count in self.counts
        ]

    def relu(self, value: int) -> float:
        """min(max(x/θ, 0), 1)."""
        return min(max(value / self.threshold, 0.0), 1.0)

    @property
    def steps(self) -> list[dict[str, Any]]:
        """A row an input and step; steps count from the first of the input, so firing begins after D."""
        return [
            {"input": each.value, "step": step, "spike": spike, "potential": potential}
            for each in self.shown
            for step, (spike, potential) in enumerate(
                zip(each.spikes, each.potentials, strict=True), start=self.contract.delay + 1
            )
        ]

    def facts(self) -> dict[str, Any]:
        """The document."""
        return {
            **self.contract.to_plain(),
            "threshold": self.threshold,
            "bias": self.bias,
            "initial": self.initial,
            "rates": self.rates,
            "steps": self.steps,
            "files": list(self.files),
            "notes": list(self.notes),
        }


def neuron(request: NeuronRequest, progress: Progress = SILENT) -> NeuronReport:
    """Fire one neuron with many constant inputs; write two pictures and their numbers."""
    contract = contract_of(request.settings)
    _refuse_out_of_range(request, contract)
    folder = ResultFolder(request.save_dir or Path("neuron_experiment"), request.overwrite)
    folder.refuse_loss(progress)
    report = _measured(contract, request.threshold, tuple(request.inputs) or _some(request.threshold))
    contents = _contents(report)
    report = replace(report, files=tuple(folder.path / name for name in contents))
    notes = folder.write(contents, report.to_json(request.spell), progress)
    return replace(report, notes=notes)


def _refuse_out_of_range(request: NeuronRequest, contract: Contract) -> None:
    """All that a flag of its own can be wrong in."""
    where = {
        "threshold": 1 <= request.threshold <= LARGEST,
        "inputs": len(request.inputs) <= MOST_SHOWN
        and all(abs(value) <= LARGEST for value in request.inputs)
        and len(set(request.inputs)) == len(request.inputs),
        "timesteps": contract.timesteps <= MOST_TIMESTEPS,
    }
    what = {
        "threshold": f"a whole number from 1 to {LARGEST}",
        "inputs": f"at most {MOST_SHOWN} different whole numbers, none beyond {LARGEST}",
        "timesteps": f"at most {MOST_TIMESTEPS} here, where each of them is drawn",
    }
    for name, holds in where.items():
        if not holds:
            remedy = f"give {what[name]}"
            raise UsageError(f"{name}: out of range", where=str(Setting(name)), remedy=remedy)


def _some(threshold: int) -> tuple[int, ...]:
    """Inputs that show what there is to see."""
    return tuple(dict.fromkeys(max(1, round(share * threshold)) for share in SHOWN))


def _measured(contract: Contract, threshold: int, shown: tuple[int, ...]) -> NeuronReport:
    curve = _curve(threshold, shown)
    graph = _graph(contract, threshold, min(curve), max(curve))
    op = graph["neuron"].op
    assert isinstance(op, IntegrateFire)
    counts = _activity(graph, curve).train.sum(0).flatten().tolist()
    drawn = _activity(graph, shown)
    assert drawn.potentials is not None
    return NeuronReport(
        contract,
        int(op.threshold),
        int(op.bias),
        int(op.initial),
        tuple(zip(curve, map(int, counts), strict=True)),
        tuple(map(Response, shown, _by_input(drawn.train), _by_input(drawn.potentials))),
    )


def _curve(threshold: int, shown: Sequence[int]) -> tuple[int, ...]:
    """From below 0 to above the threshold: all inputs, or some evenly spaced; and those that are shown."""
    low, high = min(-(threshold // 4), -1, *shown), max(threshold + -(-threshold // 4), *shown)
    count = min(high - low + 1, MOST_INPUTS)
    spaced = {low + (high - low) * number // max(1, count - 1) for number in range(count)}
    return tuple(sorted(spaced | set(shown)))


def _graph(contract: Contract, threshold: int, low: int, high: int) -> Graph:
    """SPIKING: an input, and one neuron with a synapse of weight 1."""
    clip = torch.tensor(float(threshold), dtype=torch.float64)
    nodes = (
        Node("input", Input(1.0, low, high), (), (1,)),
        Node("neuron", Relu(clip=clip), ("input",), (1,), "neuron"),
    )
    return as_integers(Graph(nodes, ("neuron",), Level.QUANTIZED, contract))


def _activity(graph: Graph, values: Sequence[int]) -> Activity:
    """Spikes and potentials, [timesteps, inputs, 1]: those of the definition."""
    found: list[Activity] = []
    x = torch.tensor(values, dtype=torch.float64)[:, None]
    request = Request(x, potentials=True, watch=lambda node, activity: found.append(activity))
    engines.run(graph, request, "reference")
    potentials = [each.potentials for each in found if each.potentials is not None]
    return Activity(torch.cat([each.train for each in found], dim=1), torch.cat(potentials, dim=1))


def _by_input(values: Tensor) -> list[tuple[int, ...]]:
    return [tuple(map(int, column)) for column in values[:, :, 0].T.tolist()]


# Files ---------------------------------------------------------------------------------------------


def _contents(report: NeuronReport) -> dict[str, bytes]:
    timing = report.contract
    title = (
        f"integrate-and-fire neuron, threshold {report.threshold}\n"
        f"T = {timing.timesteps}, D = {timing.delay}, reset: {timing.reset_mode}, rounding: {timing.rounding}"
    )
    rates = report.rates
    inputs, rate, relu = ([row[name] for row in rates] for name in ("input", "rate", "clipped_relu"))
    traces = {each.value: (each.spikes, each.potentials) for each in report.shown}
    spikes = pictures.spikes_and_potentials(title, traces, report.threshold, timing.delay)
    return {
        "rate.png": pictures.rate_against_input(title, inputs, rate, relu, report.threshold),
        "rate.csv": as_csv(rates),
        "spikes.png": spikes,
        "spikes.csv": as_csv(report.steps),
    }
