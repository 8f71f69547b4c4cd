"""Choose T and D for a latency: of the SNNs whose answer is there in time, the one nearest to the network.

Nearest by the mean error of the outputs on training samples, converted without finetuning; no test sample and
no label is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch

from ann2snn_cli import trees
from ann2snn_cli.config import Finetune, Settings
from ann2snn_cli.errors import Setting, UsageError
from ann2snn_cli.ir.engine import Request
from ann2snn_cli.pipeline import Conversion, Listener, some_samples
from ann2snn_cli.stages import simulate as engines
from ann2snn_cli.types import Inputs, Outputs
from ann2snn_cli.workflows import prepare
from ann2snn_cli.workflows.in_time import on_samples
from ann2snn_cli.workflows.latency import depth, latency
from ann2snn_cli.workflows.prepare import Prepared


@dataclass(frozen=True)
class Candidate:
    """One choice, and the mean error of an output."""

    timesteps: int
    delay: int
    latency: int
    error: float

    @property
    def line(self) -> str:
        """In words."""
        return f"T = {self.timesteps}, D = {self.delay}: {self.error:.4g}"


def within_latency(
    prepared: Prepared,
    most: int,
    begin: Callable[[str, int | None], None] = lambda label, ticks: None,
    tick: Callable[[], None] = lambda: None,
) -> tuple[Settings, str]:
    """The settings with the T and the D of the nearest SNN that needs at most `most` steps; and a note.

    T is 2, 4, 8 and so on, up to that of the settings; D is as large as the latency allows, half of it, or 0.
    """
    _refuse(prepared, most)
    layers, found = depth(prepared.folded()), list[Candidate]()
    x = trees.to(some_samples(prepared.data, prepared.settings), prepared.device)
    with torch.no_grad():
        wanted = trees.call(on_samples(prepared.network, prepared.settings).eval(), x)
    for timesteps in _steps(min(most, prepared.settings.timing.timesteps)):
        listener = Listener(partial(_begin, begin, timesteps), tick=tick)
        found += _candidates(prepared, timesteps, most, layers, listener, x, wanted)
    best = min(found, key=lambda each: (each.error, each.latency))
    errors = "; ".join(each.line for each in sorted(found, key=lambda each: each.error))
    note = (
        f"T = {best.timesteps} and D = {best.delay} were chosen for {Setting('latency', most)}, and take "
        f"{best.latency} steps; mean error of an output on {trees.sample_count(x)} training samples, without "
        f"finetuning: {errors}"
    )
    return _timed(prepared, best.timesteps, best.delay).settings, note


def _begin(begin: Callable[[str, int | None], None], timesteps: int, label: str, ticks: int | None) -> None:
    begin(f"T = {timesteps}: {label}", ticks)


def _refuse(prepared: Prepared, most: int) -> None:
    """A latency leaves no delay to choose."""
    timing = prepared.settings.timing
    if most < 1:
        raise UsageError(
            f"the latency is {most}; it must be at least 1 step",
            where=str(Setting("latency", most)),
            remedy="give the most steps that may pass until the answer is there",
        )
    for name, value in (("delay", timing.delay), ("schedule", timing.schedule)):
        if value is not None:
            raise UsageError(
                f"{Setting('latency')} chooses the delay, and {Setting(name, str(value))} gives it",
                remedy="leave one of them out",
            )


def _steps(most: int) -> Iterator[int]:
    """2, 4, 8 and so on below the most, and the most itself."""
    steps = 2
    while steps < most:
        yield steps
        steps *= 2
    yield most


def _timed(prepared: Prepared, timesteps: int, delay: int) -> Prepared:
    timing = replace(prepared.settings.timing, timesteps=timesteps, delay=delay, schedule=None)
    return replace(prepared, settings=replace(prepared.settings, timing=timing))


def _candidates(
    prepared: Prepared,
    timesteps: int,
    most: int,
    layers: int,
    listener: Listener,
    x: Inputs,
    wanted: Outputs,
) -> Iterator[Candidate]:
    largest = min(timesteps, (most - timesteps) // layers) if layers else 0
    asked = _timed(prepared, timesteps, 0)
    asked = replace(asked, settings=replace(asked.settings, finetune=Finetune(epochs=0)))
    delays = dict.fromkeys((0, largest // 2, largest))
    conversion = prepare.pipelined(asked, listener, delays)
    wait = latency(conversion.graph)
    for delay in delays:
        if wait.steps(delay) <= most:  # a pair of populations that the conversion put in is one more
            error = _error(conversion, delay, x, wanted, asked)
            yield Candidate(timesteps, delay, wait.steps(delay), error)


def _error(conversion: Conversion, delay: int, x: Inputs, wanted: Outputs, asked: Prepared) -> float:
    """The mean error of an output, summed over the outputs."""
    graph = conversion.by_delay[delay].to(asked.device)
    found = engines.run_or_auto(graph, Request(x, delay), asked.settings.run.engine).outputs
    return sum(float((a.double() - b.double()).abs().mean()) for a, b in zip(found, wanted, strict=True))
