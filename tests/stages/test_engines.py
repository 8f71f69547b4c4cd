"""Every engine does what the seam says (`ir/engine.py`), bit for bit; the conformance test sees faults."""

from dataclasses import replace

import pytest
import torch
from conformance import conform

from ann2snn_cli.errors import UsageError
from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.engine import Request
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import Input, Integrate
from ann2snn_cli.stages.simulate import ENGINES, register, run, simulate
from ann2snn_cli.stages.simulate.reference import ReferenceEngine
from ann2snn_cli.stages.simulate.triton import is_interpreted


@pytest.mark.parametrize("first", range(0, 100, 25))
@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_conforms(name, first):
    """On 100 random graphs and for every D: all that can be asked of it, against the oracle."""
    assert ENGINES[name].name == name
    if name == "triton" and not is_interpreted():
        pytest.skip("it runs on a GPU: test_triton.py; all of it here where TRITON_INTERPRET is 1")
    conform(ENGINES[name], range(first, first + 25), whole=name != "counts")


class Toy:
    """An engine of the test: it lets the reference do the work, and refuses graphs with real numbers."""

    name = "toy"

    def refusal(self, graph, request):
        return "there are real numbers in it" if graph.real else ""

    def run(self, graph, request):
        return replace(ReferenceEngine().run(graph, request), engine=self.name)


@pytest.fixture
def without_toys():
    """The engines that there were, and no others, when a test is over."""
    before = dict(ENGINES)
    yield
    ENGINES.clear()
    ENGINES.update(before)


@pytest.mark.usefixtures("without_toys")
def test_a_new_engine_is_a_class_and_a_line():
    """It conforms, it is chosen by name, and `auto` asks it in its turn. Its name is its own."""
    conform(Toy(), range(2))
    graph = readout()
    register(Toy())

    assert simulate(graph, torch.ones(1, 2), engine="toy").engine == "toy"
    assert simulate(graph, torch.ones(1, 2)).engine == "folded"
    with pytest.raises(UsageError, match="an engine 'toy' already"):
        register(Toy())
    for name in [name for name in ENGINES if name != "toy"]:
        del ENGINES[name]
    assert simulate(graph, torch.ones(1, 2)).engine == "toy"


class Unwilling(Toy):
    """It refuses everything."""

    def refusal(self, graph, request):
        return "it is Sunday"


@pytest.mark.usefixtures("without_toys")
def test_what_an_engine_refuses_is_said():
    """By name: its own words, and `auto` as the remedy. Where all refuse, `auto` says so too."""
    register(Unwilling())
    with pytest.raises(UsageError, match="the engine toy cannot run this: it is Sunday") as refused:
        simulate(readout(), torch.ones(1, 2), engine="toy")
    assert "auto" in refused.value.remedy

    for name in [name for name in ENGINES if name != "toy"]:
        del ENGINES[name]
    with pytest.raises(UsageError, match="toy: it is Sunday"):
        run(readout(), Request(torch.ones(1, 2)))


def readout():
    """An input and what adds it up."""
    one = torch.tensor(1.0)
    nodes = (Node("x", Input(1.0), (), (2,), unit=one), Node("out", Integrate(), ("x",), (2,), unit=one))
    return Graph(nodes, ("out",), Level.SPIKING, Contract(3))


# Engines that are wrong ----------------------------------------------------------------------------


class Fault(Toy):
    """An engine that is wrong in one thing: what it asks of the reference, or makes of the answer."""

    def __init__(self, asks=lambda request: request, answers=lambda simulation: simulation):
        self.asks, self.answers = asks, answers

    def run(self, graph, request):
        return self.answers(super().run(graph, self.asks(request)))


def watching(change):
    """A fault of what a watch is shown."""
    return lambda request: (
        replace(request, watch=change(request.watch)) if request.watch is not None else request
    )


def later_first(watch):
    """Potentials in the wrong order of steps."""

    def show(node, activity):
        held = activity.potentials
        watch(node, activity if held is None else replace(activity, potentials=held.flip(0)))

    return show


def populations_only(watch):
    """Read-outs are left out."""
    return lambda node, activity: None if isinstance(node.op, Integrate) else watch(node, activity)


def without(key):
    """The answer lacks the last of its counts."""

    def answer(simulation):
        counts = simulation.counts
        return replace(simulation, counts=counts and dict(list(counts.items())[:-1]))

    return answer


def first_step_twice(simulation):
    """Outputs by step are a step late."""
    late = simulation.by_step and tuple(torch.cat([each[:1], each[:-1]]) for each in simulation.by_step)
    return replace(simulation, by_step=late)


FAULTS = {
    "it ignores the delay": Fault(lambda request: replace(request, delay=0)),
    "it refuses no delay": Fault(
        lambda request: request if request.delay in (None, *range(7)) else replace(request, delay=None)
    ),
    "it ignores revisions": Fault(lambda request: replace(request, revise=None)),
    "potentials are in another order": Fault(watching(later_first)),
    "potentials are always shown": Fault(lambda request: replace(request, potentials=True)),
    "read-outs are not shown": Fault(watching(populations_only)),
    "counts are always given": Fault(lambda request: replace(request, counts=True)),
    "a count is missing": Fault(answers=without("counts")),
    "outputs by step are late": Fault(answers=first_step_twice),
    "outputs are off by little": Fault(
        answers=lambda found: replace(found, outputs=tuple(each + 1e-12 for each in found.outputs))
    ),
    "it has the name of another": Fault(answers=lambda found: replace(found, engine="reference")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_an_engine_that_is_wrong_is_found_out(name):
    """In one thing only, each of them."""
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        conform(FAULTS[name], range(3))
