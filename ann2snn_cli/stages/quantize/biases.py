"""Biases for one delay after another: corrected, and kept only if outputs come nearer (SPEC 8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from ann2snn_cli import trees
from ann2snn_cli.ir.contract import Reset
from ann2snn_cli.ir.engine import Request, Run
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.ir.ops import Integrate, Relu
from ann2snn_cli.stages.quantize.correct import Aim, affordable, correct_biases, float_aim, trained_aim
from ann2snn_cli.types import Inputs, Outputs


@dataclass(frozen=True)
class Correction:
    """Whether biases that were corrected for a delay were kept, and why: the mean error of an output."""

    delay: int
    kept: bool
    error_before: float
    error_after: float
    samples: int  # of the calibration set

    @property
    def note(self) -> str:
        """In words."""
        if not self.error_before:
            return (
                f"no bias to correct for a delay of {self.delay}: {self.samples} samples have exact outputs"
            )
        return (
            f"bias correction for a delay of {self.delay} {'kept' if self.kept else 'not kept'}: mean output "
            f"error {self.error_before:.4g} -> {self.error_after:.4g} on {self.samples} calibration samples"
        )


@dataclass(frozen=True, eq=False)
class Means:
    """What a correction is handed by the pipeline."""

    threshold: Callable[[Graph], Graph]  # QUANTIZED -> SPIKING
    engine: Run
    simulate: Callable[[Graph, Inputs], Outputs]  # of a SPIKING graph
    begin: Callable[[str, int], None]  # is told what begins, and of how many ticks
    tick: Callable[[], None]


@dataclass(eq=False)
class Biases:
    """A QUANTIZED graph, and what it becomes for a delay.

    Without training corrected biases undo rounding and timing at once; after it, timing alone.
    """

    graph: Graph
    x: Inputs
    means: Means
    is_wanted: bool = True  # False: all biases stay as they are
    is_trained: bool = False
    floats: Graph | None = None  # the float network, where the weights of `graph` are no longer its own
    spikes_of: int | None = None  # the delay on whose spikes it was trained; None: on counts in closed form
    corrections: dict[int, Correction] = field(default_factory=dict)
    _rounding: tuple[Graph, Correction] | None = None
    _aim: Aim | None = None  # the same for every delay

    def trained(self, graph: Graph, spikes_of: int | None = None) -> Biases:
        """The same of the graph after training."""
        return Biases(graph, self.x, self.means, self.is_wanted, is_trained=True, spikes_of=spikes_of)

    def for_rounding(self) -> Graph:
        """The graph whose closed form, the quantized network, is nearest: what finetuning begins with."""
        if self.is_trained or not self.is_wanted:
            return self.graph
        return self._for_closed_form()[0]

    def for_delay(self, delay: int) -> Graph:
        """The graph with biases for this delay. One that was trained is right for the delay T as it is.

        So it is for the one on whose spikes it was trained.
        """
        contract = self.graph.timing.with_delay(delay)
        graph, is_lossless = replace(self.graph, contract=contract), delay == contract.timesteps
        if not self.is_wanted or (self.is_trained and (is_lossless or delay == self.spikes_of)):
            return graph
        if is_lossless and contract.reset_mode is Reset.SUBTRACTION:
            graph, self.corrections[delay] = self._for_closed_form()
            return replace(graph, contract=contract)
        graph, self.corrections[delay] = self._better(graph)
        return graph

    def _for_closed_form(self) -> tuple[Graph, Correction]:
        """Corrected for the delay T and reset by subtraction, whatever the contract."""
        if self._rounding is None:
            own = self.graph.timing
            closed_form = replace(own, reset_mode=Reset.SUBTRACTION, delay=own.timesteps)
            graph, correction = self._better(replace(self.graph, contract=closed_form))
            self._rounding = replace(graph, contract=own), correction
        return self._rounding

    def _better(self, graph: Graph) -> tuple[Graph, Correction]:
        """The corrected graph if its outputs are nearer to those it stands for, and what was decided."""
        delay, means = graph.timing.delay, self.means
        ticks = (
            len(self.graph.of(Relu, Integrate)) + 1
        )  # each layer that is corrected, and what it was before
        means.begin(f"correct biases for a delay of {delay}", ticks)
        x, told = affordable(graph, self.x), list[Outputs]()
        if self._aim is None:
            of_floats = not self.is_trained
            self._aim = (
                float_aim(self.floats or graph, x) if of_floats else trained_aim(graph, x, self._fired(x))
            )
        aim = self._aim
        corrected = correct_biases(graph, x, means.engine, aim=aim, tick=means.tick, tell=told.append)
        before = _distance(means.simulate(means.threshold(graph), x), aim.outputs)
        means.tick()
        after = _distance(told[0], aim.outputs)
        correction = Correction(delay, after < before, before, after, trees.sample_count(x))
        return (corrected if correction.kept else graph), correction

    def _fired(self, x: Inputs) -> Mapping[str, Tensor] | None:
        """The counts that training saw; None for those in closed form."""
        if self.spikes_of is None:
            return None
        request = Request(x, self.spikes_of, counts=True)
        return self.means.engine(self.means.threshold(self.graph), request).counts


def _distance(found: Outputs, wanted: Outputs) -> float:
    """The mean error of an output, summed over the outputs."""
    return sum(float((a.double() - b.double()).abs().mean()) for a, b in zip(found, wanted, strict=True))
