"""One step of all layers as a graph in floats: fast on GPUs, and exact where that is proved."""

from __future__ import annotations

from dataclasses import dataclass, field

from onnx import GraphProto, TensorProto, ValueInfoProto

from ann2snn_cli.stages.export.onnx.floats import Floats
from ann2snn_cli.twins.onnx.builder import Builder, plus
from ann2snn_cli.twins.onnx.layers import Writer
from ann2snn_cli.twins.onnx.network import firing_of, input_names, outer_names
from ann2snn_cli.twins.onnx.ranges import reaches, refuse_unknown
from ann2snn_cli.twins.onnx.timing import BATCH, Firing, Population, info
from ann2snn_cli.twins.replay import MANIFEST, Damaged, Network, Problem
from ann2snn_cli.types import Shape

EXACT_FLOAT32 = 2**24


def step_graph(network: Network) -> GraphProto:
    """One step of a network in float32, its states as inputs and outputs: fast on GPUs.

    Raises `Damaged`, naming the layers and how far their numbers reach, unless all of them, and every sum on
    the way to them, are proved to lie below 2^24; and where there is a firing delay, for then layers do not
    run at the same steps.
    """
    refuse_unknown(network)
    if network.delay:
        what = f"its firing delay is {network.delay}: only without one do all layers run at the same step"
        raise Damaged([Problem(MANIFEST, what)])
    _refuse_wider_than_float32(network)
    time = OneStep(Builder(outer_names(network)), Floats(), firing_of(network))
    names = input_names(network)
    Writer(network, time.model, time.numbers, time, potentials=True).write(names)
    stimuli = [
        info(names[layer["name"]], TensorProto.FLOAT, (BATCH, *layer["shape"])) for layer in network.inputs
    ]
    return time.model.graph("step", [*stimuli, *time.inputs()], time.outputs())


def _refuse_wider_than_float32(network: Network) -> None:
    """Raise Damaged where float32 sums might round, naming the layers and their bounds."""
    problems = [
        Problem(
            MANIFEST, f"the numbers of {name} reach {reach}; float32 is exact below {EXACT_FLOAT32}", name
        )
        for name, reach in reaches(network).items()
        if reach >= EXACT_FLOAT32
    ]
    if problems:
        raise Damaged(problems)


# What happens in time ------------------------------------------------------------------------------


@dataclass
class State:
    """What is remembered from step to step; 0 before the first."""

    what: str  # LAYER/potential, LAYER/sum or LAYER/previous
    shape: Shape
    before: str  # its value when the step begins
    after: str = ""  # and when it ends


@dataclass
class OneStep:
    """One step of all layers, of a network without a firing delay."""

    model: Builder
    numbers: Floats
    firing: Firing
    states: list[State] = field(default_factory=list)
    shown: list[tuple[str, str, int, Shape]] = field(default_factory=list)  # (name, called, element, shape)
    _sums: dict[str, State] = field(default_factory=dict)

    def _remember(self, what: str, shape: Shape) -> State:
        what = self.model.name(what)
        self.states.append(State(what, shape, self.model.unique(f"state/{what}")))
        return self.states[-1]

    def running(self, name: str, shape: Shape) -> str:
        """A state to which every step is added."""
        if name not in self._sums:
            self._sums[name] = state = self._remember("sum", shape)
            state.after = self.model.node("Add", state.before, name)
        return self._sums[name].after

    def growth(self, name: str, shape: Shape) -> str:
        """A state that holds the step before."""
        state = self._remember("previous", shape)
        state.after = name
        return self.model.node("Sub", name, state.before)

    def fire(self, drive: str, population: Population) -> tuple[str, str]:
        """V ← V + drive + B, compare, reset; the state is V − V0."""
        model, state = self.model, self._remember("potential", population.shape)
        before = plus(model, state.before, population.initial)
        potential = model.node("Add", before, plus(model, drive, population.bias))
        spikes, after = self.firing.fire(model, self.numbers, potential, population.threshold)
        state.after = plus(model, after, -population.initial)
        return spikes, after

    def show(self, name: str, called: str, element: int, shape: Shape) -> None:
        """An output of the step."""
        self.shown.append((name, called, element, shape))

    def show_total(self, name: str, called: str, shape: Shape) -> None:
        """The running sum: after the last step it is the total."""
        self.show(self.running(name, shape), called, self.numbers.element, shape)

    def inputs(self) -> list[ValueInfoProto]:
        """The states before the step."""
        return [info(state.before, self.numbers.element, (BATCH, *state.shape)) for state in self.states]

    def outputs(self) -> list[ValueInfoProto]:
        """The states after the step, then what is shown."""
        after = [
            (state.after, f"next/{state.what}", self.numbers.element, state.shape) for state in self.states
        ]
        return [self._output(*each) for each in after + self.shown]

    def _output(self, name: str, called: str, element: int, shape: Shape) -> ValueInfoProto:
        """A value of its own, since none may be two outputs."""
        return info(self.model.node("Identity", name, called=called), element, (BATCH, *shape))
