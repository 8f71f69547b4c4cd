"""How scores, latency and spikes are shown, wherever an SNN was evaluated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ann2snn_cli.commands.tables import table
from ann2snn_cli.config import Settings, delay_name
from ann2snn_cli.words import count_of

if TYPE_CHECKING:
    from ann2snn_cli.workflows.evaluate import Evaluation
    from ann2snn_cli.workflows.latency import Latency

NO_SHARE = 1e6  # a difference so many times the largest output: that output is 0
NAMES = {"ann": "ANN", "quantized": "quantized ANN"}


def score_table(evaluation: Evaluation, latency: Latency) -> str:
    """A line a variant: the headline of its metric, its delay D and the steps until its answer is there."""
    delays = {delay_name(delay, latency.timesteps): delay for delay in range(latency.timesteps + 1)}
    rows = []
    for variant, value in evaluation.headlines.items():
        delay = delays.get(variant)
        steps = None if delay is None else latency.steps(delay)
        rows.append([_name(variant), evaluation.headline.shown(value), delay, steps])
    return table(["", evaluation.headline.heading, "D", "latency (steps)"], rows)


def _name(variant: str) -> str:
    return NAMES.get(variant) or f"SNN {variant.replace('_', ' ')}"


def whose_biases(settings: Settings, *, some: bool = True) -> str:
    """What was done to the biases of the rows of a table, each an SNN of its own; `some` have biases."""
    if not (settings.quantize.bias_correction and some):
        return "no biases were corrected, so all rows are of the same network"
    return "the biases of each SNN are corrected for its own D; the quantized ANN has those of D = T"


def theorem(evaluation: Evaluation) -> str:
    """Whether the SNN at D = T is the quantized network, on every sample."""
    differing, samples = evaluation.differing_outputs, evaluation.samples
    if differing == 0:
        return f"layerwise SNN = quantized ANN: the same output on all {count_of(samples, 'test sample')}"
    line = f"layerwise SNN and quantized ANN differ on {differing} of {count_of(samples, 'test sample')}"
    if not evaluation.theorem_exception:
        return line
    difference = evaluation.largest_difference
    is_share = difference < NO_SHARE
    size = f"by up to {difference:.2g} of the largest output" if is_share else "from outputs that are all 0"
    return f"{line}, {size}, which is to be expected: {evaluation.theorem_exception}"


def firing_table(evaluation: Evaluation) -> str:
    """How often the neurons of each population fire, and which engine counted it."""
    rows = [[name, f"{rate:.4f}"] for name, rate in evaluation.firing_rate.items()]
    if not rows:
        return "no population fires"
    total = f"{evaluation.spikes_per_sample:.0f} spikes a sample"
    engine = f"engine {evaluation.engine} ({evaluation.engine_reason})"
    return table(["population", "firing rate"], rows) + f"\n{total}; {engine}"
