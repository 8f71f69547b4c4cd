"""The damage a conversion does, measured on calibration samples, and what to say of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

from ann2snn_cli import trees
from ann2snn_cli.config import MOST_WEIGHT_BITS
from ann2snn_cli.errors import Setting
from ann2snn_cli.pipeline import Conversion
from ann2snn_cli.stages import simulate as engines
from ann2snn_cli.stages.analyse.damage import Damage, damage
from ann2snn_cli.types import Inputs
from ann2snn_cli.workflows.prepare import Prepared

SAMPLES = 64  # of the calibration set: with ten outputs each, the figure is right to a twentieth of itself


def batches(prepared: Prepared) -> int:
    """How many batches of samples it is measured on, if there are as many."""
    data = prepared.settings.data
    return -(-min(SAMPLES, data.calibration_samples) // data.batch_size)


def measured(prepared: Prepared, conversion: Conversion, tick: Callable[[], None] = lambda: None) -> Damage:
    """How far the SNN and its quantized network are from the float network."""
    settings = prepared.settings
    drawn = prepared.data.calibration_batches(
        min(SAMPLES, settings.data.calibration_samples),
        settings.data.batch_size,
        settings.run.seed,
        settings.data.num_workers,
    )
    graphs = (conversion.folded, conversion.graph, conversion.quantized)
    floats, spiking, quantized = (graph.to(prepared.device) for graph in graphs)

    def samples() -> Iterator[Inputs]:
        for x, _ in drawn:
            yield trees.to(x, prepared.device)
            tick()

    engine = partial(engines.run_or_auto, engine=settings.run.engine)
    return damage(floats, spiking, samples(), engine, quantized)


def facts(found: Damage) -> dict[str, Any]:
    """Give plain Python, with the warning where there is one."""
    return {**asdict(found), "is_large": found.is_large, "warning": warning(found)}


def warning(found: Damage) -> str:
    """What is wrong, where it begins and what to try; empty where the damage is below the limit."""
    if not found.is_large:
        return ""
    size = "constant in the network" if math.isinf(found.layer_error) else _percent(found.layer_error)
    where = f", first at {found.layer} ({size})" if found.layer else ""
    if found.resets_to_zero:
        other = Setting("reset_mode", "subtraction")
        return f"{off_by(_worst(found))}{where}: try {other}, which keeps what a reset to zero throws away"
    later = f"a larger {Setting('delay')} or more {Setting('timesteps')}"
    return f"{off_by(_worst(found))}{where}: try {later if found.in_time else _finer(found)}"


def _finer(found: Damage) -> str:
    """What makes numbers finer, of that which is not so already."""
    ways = []
    if not found.has_float_weights:
        if (found.weight_bits or 0) < MOST_WEIGHT_BITS:
            ways.append(f"a larger {Setting('weight_bitwidth')}")
        if not found.is_channel_wise:
            ways.append(str(Setting("channel_wise", True)))
    ways.append(f"more {Setting('timesteps')}")
    return f"{', '.join(ways)} or another {Setting('mode')}"


def measured_line(found: Damage) -> str:
    """The damage in a line, large or not."""
    if math.isinf(worst := _worst(found)):
        return off_by(worst)
    quantized = (
        "" if found.quantized is None else f", of the quantized network {_percent(found.quantized, 2)}"
    )
    return f"relative error of what varies between samples: of the SNN {_percent(found.snn, 2)}{quantized}"


def off_by(error: float) -> str:
    """How far the outputs are off, in a sentence."""
    if math.isinf(error):
        return "the outputs vary between samples, where those of the network are the same for all of them"
    return f"the outputs are off by {_percent(error)} of what varies between samples"


def _worst(found: Damage) -> float:
    return max(found.snn, found.quantized or 0.0)


def _percent(fraction: float, digits: int = 0) -> str:
    return f"{100 * fraction:.{digits}f} %"
