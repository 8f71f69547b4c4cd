"""Neurons in Triton against the oracle and the reference: in Triton's interpreter, and on a GPU where one is.

The interpreter is chosen when Triton is imported, so what needs it runs in a process of its own.
"""

import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from conformance import Watched, answers_in_full, conform, goes_on_with_what_is_revised
from random_graphs import random_graph

from ann2snn_cli.ir.contract import Contract, Reset
from ann2snn_cli.ir.engine import Request
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import (
    AvgPool,
    Conv,
    Gather,
    Input,
    Integrate,
    IntegrateFire,
    Linear,
    Place,
    map_tensors,
)
from ann2snn_cli.stages.simulate import ENGINES, chosen, int8, simulate
from ann2snn_cli.stages.simulate.triton import is_interpreted, neurons
from ann2snn_cli.stages.simulate.triton.engine import TritonPlan
from ann2snn_cli.stages.simulate.triton.neurons import BLOCK, Types

TRITON = ENGINES["triton"]
CPU = torch.device("cpu")

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
interpreted = pytest.mark.skipif(not is_interpreted(), reason="TRITON_INTERPRET is not 1")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@needs_triton
@pytest.mark.skipif(is_interpreted(), reason="this process is that one")
def test_the_interpreter_runs_the_tests_that_need_it():
    """All of this file that is marked `interpreted`, in a process of its own."""
    options = ["-q", "-x", "-p", "no:cacheprovider", "-k", "interpreted"]
    command = [sys.executable, "-m", "pytest", *options, __file__]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


# In the interpreter ---------------------------------------------------------------------------------


@interpreted
@pytest.mark.parametrize("seed", [0, 1, 3, 6])
def test_interpreted_it_gives_what_the_oracle_gives(seed):
    """Spikes, potentials, counts and outputs at D = 0, 1 and T, on random graphs of both resets."""
    graph, samples = random_graph(seed, opaque=seed == 3)
    x = {name: torch.tensor(values) for name, values in samples.items()}
    for delay in {0, min(1, graph.timing.timesteps), graph.timing.timesteps}:
        answers_in_full(TRITON, graph, x, delay)
    if seed == 0:
        goes_on_with_what_is_revised(TRITON, graph, x)


@interpreted
@pytest.mark.parametrize("reset_mode", Reset)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("channels_last", [False, True])
def test_interpreted_neurons_are_those_of_the_op(reset_mode, dtype, channels_last):
    """More than a block of them, T = 7, D = 3, a threshold a channel or a neuron, charges of any layout."""
    shape, generator = (3, 11, 13), torch.Generator().manual_seed(0)
    assert 2 * 3 * 11 * 13 % BLOCK

    def whole(low, high, *size):
        return torch.randint(low, high, size, generator=generator)

    charges = whole(-300, 500, 7, 2, *shape).double()
    laid = charges.movedim(2, -1).contiguous().movedim(-1, 2) if channels_last else charges
    contract = Contract(7, reset_mode, 3)
    for size in ((), (3, 1, 1), (1, 11, 1), shape):
        op = IntegrateFire(whole(1, 900, *size), whole(-9, 9, *size), torch.tensor(77), 1)
        place = Place(Node("fire", op, (), shape), (), contract, keeps_potentials=True)
        wanted = op.train([charges], place)
        assert 0.1 < wanted.train.mean() < 0.9
        found = neurons.fire(op, laid, contract, Types(dtype, torch.uint8, torch.float64))
        assert torch.equal(found.train.double(), wanted.train)
        assert torch.equal(found.potentials, wanted.potentials)
        assert torch.equal(found.counts.double(), wanted.train.sum(0))


@interpreted
def test_interpreted_it_takes_64_bits_where_32_may_not_hold_a_potential():
    """And again where another bias makes it so; spikes come in the type in which they are read."""
    graph, x = wide(2**29), torch.arange(8.0).reshape(2, 4)
    plan = TritonPlan(graph, Request(x), frozenset())
    assert plan.types["fire"] == replace(plan.types["fire"], potential=torch.int64, spikes=torch.float64)
    agrees_with_the_reference(graph, x)
    graph = wide(2**20)
    plan = TritonPlan(graph, Request(x), frozenset())
    assert plan.types["fire"].potential == torch.int32
    node = graph["fire"]
    plan.admit(node, replace(node, op=replace(node.op, bias=node.op.bias + 2**31)))
    assert plan.types["fire"].potential == torch.int64


@pytest.fixture
def by_matrices(monkeypatch):
    """8-bit products as on a GPU."""
    matrices = int8._KINDS["cuda"]
    monkeypatch.setitem(int8._KINDS, "cpu", matrices)
    int8.largest_input.cache_clear()
    yield
    int8.largest_input.cache_clear()


@interpreted
@pytest.mark.usefixtures("by_matrices")
def test_interpreted_it_does_with_8_bit_products_as_on_a_gpu():
    """Their results have the channels last; so have the spikes that come of them."""
    graph, x = broad(), torch.rand(3, 24, 9, 9)
    assert int8.largest_input() == 127
    plan = TritonPlan(graph, Request(x), frozenset())
    assert [name for name in ("a", "b", "c", "fc") if plan.product(graph[name]) is not None] == [
        "b",
        "c",
        "fc",
    ]
    agrees_with_the_reference(graph, x)


@interpreted
def test_interpreted_it_runs_by_its_name_only():
    """`auto` leaves an interpreter alone, even where nothing quicker than `folded` is there."""
    graph, x = wide(5), torch.ones(1, 4)
    assert simulate(graph, x, engine="triton").engine == "triton"
    assert chosen(graph, Request(x)) != "triton"


@interpreted
def test_interpreted_a_kernel_that_is_wrong_is_refused(monkeypatch):
    """The trial sees it; what Triton says when it cannot run is quoted."""
    from ann2snn_cli.stages.simulate.triton import kernel

    right = kernel.fire

    class Wrong:
        def __getitem__(self, grid):
            def launch(*arguments):
                right[grid](*arguments)
                arguments[4].add_(1)

            return launch

    neurons.problem.cache_clear()
    monkeypatch.setattr(kernel, "fire", Wrong())
    assert "wrong results" in TRITON.refusal(wide(5), Request(torch.ones(1, 4)))
    neurons.problem.cache_clear()
    monkeypatch.setattr(kernel, "fire", {})
    assert "cannot run its kernel on cpu: KeyError" in neurons.problem(CPU)
    neurons.problem.cache_clear()


# Without -------------------------------------------------------------------------------------------


@pytest.mark.skipif(is_interpreted() or torch.cuda.is_available(), reason="here it may run")
def test_on_a_cpu_it_is_refused_and_triton_not_imported():
    """The reason says where it runs."""
    before = set(sys.modules)
    assert TRITON.refusal(wide(5), Request(torch.ones(1, 4))) == "it runs on a GPU, and the network is on cpu"
    assert not [name for name in set(sys.modules) - before if "triton" in name]


def test_where_a_network_is_decides_even_without_weights():
    """`fused` reads memory of the CPU: it refuses whatever is elsewhere."""
    graph = wide(5)
    fire = replace(graph["fire"], inputs=("x",))
    alone = replace(graph, nodes=(replace(graph["x"], shape=(3,)), fire), outputs=("fire",))
    for each, size in ((graph, 4), (alone, 3)):
        request = Request(torch.ones(1, size))
        assert ENGINES["fused"].refusal(each, request) == ""
        refused = ENGINES["fused"].refusal(each.to("meta"), request)
        assert refused == "it runs on a CPU, and the network is on meta"


@needs_triton
@pytest.mark.skipif(is_interpreted(), reason="the interpreter is no compiler")
@pytest.mark.parametrize(
    "specialized", [(), ("neurons", "inner", "count", "stride", "steps", "delay", "factor")]
)
def test_the_kernel_compiles_for_a_gpu_that_is_not_there(specialized, tmp_path, monkeypatch):
    """Of any types; and where numbers are 1, which Triton makes constants of. The interpreter asks less."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    compiler, targets = (pytest.importorskip(f"triton.{name}") for name in ("compiler", "backends.compiler"))
    from ann2snn_cli.stages.simulate.triton import kernel

    names = kernel.fire.arg_names
    for charge, whole, spike, zero in (("fp32", "i32", "u8", False), ("fp64", "i64", "fp64", True)):
        kinds = [f"*{charge}", *[f"*{whole}"] * 3, f"*{spike}", "*i32", f"*{charge}", *["i32"] * 7]
        accumulator = kernel.INTEGERS[torch.int32 if whole == "i32" else torch.int64]
        constants = {"to_zero": zero, "keeps": True, "accumulator": accumulator, "block": BLOCK}
        constants |= dict.fromkeys(specialized, 1)
        signature = dict(zip(names, kinds, strict=False)) | dict.fromkeys(constants, "constexpr")
        source = compiler.ASTSource(
            kernel.fire, signature, {(names.index(name),): value for name, value in constants.items()}
        )
        made = compiler.compile(source, target=targets.GPUTarget("cuda", 80, 32))
        assert "st.global" in made.asm["ptx"]


def test_without_triton_it_says_so(monkeypatch):
    """Before anything is imported or tried."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr("ann2snn_cli.stages.simulate.triton.engine.find_spec", lambda name: None)
    assert TRITON.refusal(wide(5), Request(torch.ones(1, 4))) == "Triton is not installed"


# On a GPU ------------------------------------------------------------------------------------------


class OnGpu:
    """An engine that is given all on a GPU, and asked from a CPU."""

    def __init__(self, engine):
        self.engine, self.name, self.there = engine, engine.name, {}

    def refusal(self, graph, request):
        return self.engine.refusal(*self.moved(graph, request))

    def run(self, graph, request):
        found = self.engine.run(*self.moved(graph, request))
        return replace(
            found,
            outputs=tuple(each.cpu() for each in found.outputs),
            by_step=found.by_step and tuple(each.cpu() for each in found.by_step),
            counts=found.counts and {name: each.cpu() for name, each in found.counts.items()},
        )

    def moved(self, graph, request):
        if graph not in self.there:
            self.there[graph] = graph.to("cuda")
        inputs = request.inputs
        if isinstance(inputs, torch.Tensor):
            inputs = inputs.cuda()
        elif isinstance(inputs, dict):
            inputs = {name: x.cuda() for name, x in inputs.items()}
        else:
            inputs = tuple(x.cuda() for x in inputs)
        watch = request.watch and (lambda node, activity: request.watch(node, on_cpu(activity)))
        revise = request.revise and (lambda node, counts: revised(request.revise, node, counts))
        return self.there[graph], replace(request, inputs=inputs, watch=watch, revise=revise)


def on_cpu(activity):
    """What a watch is shown."""
    held = activity.potentials
    return replace(activity, train=activity.train.cpu(), potentials=None if held is None else held.cpu())


def revised(revise, node, counts):
    """A node on the GPU for one on the CPU."""
    wanted = revise(node, counts.cpu())
    return (
        node if wanted is node else replace(node, op=map_tensors(wanted.op, lambda tensor: tensor.to("cuda")))
    )


@needs_gpu
@pytest.mark.parametrize("name", ["reference", "folded", "counts", "triton"])
def test_on_a_gpu_an_engine_conforms(name):
    """As on a CPU: on random graphs and for every D, against the oracle."""
    conform(OnGpu(ENGINES[name]), range(12), whole=name in {"reference", "folded"}, may_refuse=True)


@needs_gpu
@pytest.mark.parametrize("name", ["reference", "folded", "triton"])
def test_on_a_gpu_wide_layers_are_exact(name):
    """Convolutions in 8 bits, with large sums, as the reference makes them on a CPU; `auto` takes triton."""
    graph, x = broad(), torch.rand(5, 24, 9, 9)
    wanted, found = Watched(), Watched()
    simulate(graph, x, engine="reference", watch=wanted, potentials=True)
    OnGpu(ENGINES[name]).run(graph, Request(x, watch=found, potentials=True))
    for node in graph.of(IntegrateFire, Integrate):
        assert torch.equal(found.train(node.name).double(), wanted.train(node.name).double())
        assert torch.equal(found.potentials(node.name).double(), wanted.potentials(node.name).double())
    there = graph.to("cuda")
    assert chosen(there, Request(x.cuda(), 0)) == "triton"
    assert "it runs on a CPU" in ENGINES["fused"].refusal(there, Request(x.cuda(), 0))


def agrees_with_the_reference(graph, x):
    """Every spike and every potential."""
    shown = {}
    for name in ("triton", "reference"):
        shown[name] = watch = Watched()
        simulate(graph, x, engine=name, watch=watch, potentials=True)
    for node in graph.of(IntegrateFire, Integrate):
        mine, theirs = shown["triton"], shown["reference"]
        assert torch.equal(mine.train(node.name).double(), theirs.train(node.name).double())
        assert torch.equal(mine.potentials(node.name).double(), theirs.potentials(node.name).double())


def wide(weight):
    """One population whose charges grow with the weight."""
    unit = torch.tensor(1.0, dtype=torch.float64)
    fire = IntegrateFire(torch.tensor(11 * weight // 2), torch.tensor(3), torch.tensor(weight))
    nodes = (
        Node("x", Input(1.0, 0, 9), (), (4,), "x", unit),
        Node("in", Linear(torch.full((3, 4), weight), bits=8), ("x",), (3,), "in", unit),
        Node("fire", fire, ("in",), (3,), "fire", unit),
        Node("fc", Linear(torch.full((2, 3), weight), bits=8), ("fire",), (2,), "fc", unit),
        Node("out", Integrate(), ("fc",), (2,), "out", unit),
    )
    return Graph(nodes, ("out",), Level.SPIKING, Contract(5, Reset.SUBTRACTION, 2))


def broad():
    """Convolutions of many channels behind each other, with a pooling between; the largest sums of 8 bits."""
    torch.manual_seed(0)
    unit = torch.tensor(1.0, dtype=torch.float64)

    def whole(low, high, *size):
        return torch.randint(low, high, size)

    def fire(threshold):
        return IntegrateFire(
            whole(threshold // 2, threshold, 40, 1, 1), whole(-9, 90, 40, 1, 1), whole(0, 9, 1)
        )

    nodes = (
        Node("x", Input(1 / 255), (), (24, 9, 9), "x", unit),
        Node("a", Conv(whole(-90, 128, 40, 24, 3, 3), padding=(1, 1), bits=8), ("x",), (40, 9, 9), "a", unit),
        Node("fire1", fire(2**20), ("a",), (40, 9, 9), "fire1", unit),
        Node("b", Conv(whole(-90, 128, 40, 40, 3, 3), bits=8), ("fire1",), (40, 7, 7), "b", unit),
        Node("fire2", fire(2**13), ("b",), (40, 7, 7), "fire2", unit),
        Node("pool", AvgPool((2, 2), (2, 2), (0, 0)), ("fire2",), (40, 3, 3), "pool", unit),
        Node("c", Conv(whole(-90, 128, 40, 40, 3, 3), bits=8), ("pool",), (40, 1, 1), "c", unit),
        Node("fire3", fire(2**14), ("c",), (40, 1, 1), "fire3", unit),
        Node("flat", Gather(torch.arange(40)), ("fire3",), (40,), "flat", unit),
        Node("fc", Linear(whole(-127, 128, 10, 40), bits=8), ("flat",), (10,), "fc", unit),
        Node("out", Integrate(), ("fc",), (10,), "out", unit),
    )
    return Graph(nodes, ("out",), Level.SPIKING, Contract(6))
