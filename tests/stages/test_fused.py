"""The compiled kernel: many channels, wide weights, large windows, against the reference; how it is built."""

import ctypes
import os
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from ann2snn_cli.errors import UnsupportedNetwork
from ann2snn_cli.ir.contract import Contract, Reset
from ann2snn_cli.ir.engine import Request
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import (
    Add,
    AvgPool,
    Concat,
    Conv,
    Gather,
    Input,
    Integrate,
    IntegrateFire,
    Linear,
    MaxPool,
)
from ann2snn_cli.stages.simulate import ENGINES, simulate
from ann2snn_cli.stages.simulate.fused import native
from ann2snn_cli.stages.simulate.fused.engine import FusedPlan
from ann2snn_cli.stages.simulate.fused.trial import Trial
from ann2snn_cli.stages.simulate.fused.windows import windows

RANDOM = torch.Generator()


@pytest.fixture(autouse=True)
def _seeded():
    RANDOM.manual_seed(0)


def whole(low, high, *shape):
    """Random integers low..high."""
    return torch.randint(low, high + 1, shape, generator=RANDOM)


class Net:
    """A SPIKING graph, node by node."""

    def __init__(self, *shape, steps=6, delay=0, reset=Reset.SUBTRACTION):
        self.contract = Contract(steps, reset, delay)
        unit = torch.tensor(1.0, dtype=torch.float64)
        self.nodes = [Node("x", Input(1.0, 0, 9), (), shape, "x", unit)]

    def put(self, op, shape, *inputs):
        """A node that reads the last one unless others are named; its name."""
        name = f"{op.kind.lower()}{len(self.nodes)}"
        read = inputs or (self.nodes[-1].name,)
        self.nodes.append(Node(name, op, read, tuple(shape), name, self.nodes[0].unit))
        return name

    def fire(self, *inputs):
        """A population, of which about half of the neurons fire now and then; its name."""
        shape = next(node.shape for node in reversed(self.nodes) if not inputs or node.name == inputs[0])
        each = (shape[0], *[1] * (len(shape) - 1))
        return self.put(
            IntegrateFire(whole(1, 400, *each), whole(-20, 40, *each), whole(0, 200, *each)), shape, *inputs
        )

    def graph(self):
        """All of it, with a read-out."""
        shape = self.nodes[-1].shape
        self.put(Integrate(), shape)
        return Graph(tuple(self.nodes), (self.nodes[-1].name,), Level.SPIKING, self.contract)


def agrees(graph, samples=3, lively=True):
    """Trains, potentials and outputs are those of the reference; the kernel runs every population."""
    x = whole(0, 9, samples, *graph.nodes[0].shape).double()
    request = Request(x, by_step=True, counts=True)
    assert set(FusedPlan(graph, request, frozenset()).terms) == {n.name for n in graph.of(IntegrateFire)}
    shown = {"fused": [], "reference": []}
    found = {}
    for name, seen in shown.items():
        watch = lambda node, activity, seen=seen: seen.append((activity.train, activity.potentials))  # noqa: E731
        found[name] = simulate(graph, x, engine=name, by_step=True, counts=True, watch=watch, potentials=True)
    for mine, theirs in zip(*shown.values(), strict=True):
        assert all(torch.equal(one.double(), other.double()) for one, other in zip(mine, theirs, strict=True))
    assert torch.equal(found["fused"].by_step[0], found["reference"].by_step[0])
    if not lively:
        return found["fused"]
    spikes = [count for name, count in found["fused"].counts.items() if name.startswith("integratefire")]
    assert all(0 < float(count.mean()) < graph.timing.timesteps for count in spikes), "all sleep, or none"
    return found["fused"]


CONVOLUTIONS = [  # in, out, groups, kernel, stride, padding, dilation, transposed
    (40, 36, 1, (3, 3), (1, 1), (1, 1), (1, 1), False),
    (40, 36, 4, (3, 2), (2, 1), (0, 1), (1, 2), False),
    (48, 48, 48, (3, 3), (1, 2), (1, 1), (1, 1), False),  # depthwise
    (24, 48, 24, (3, 3), (1, 1), (1, 1), (1, 1), False),  # two outputs for each channel
    (66, 44, 22, (1, 1), (1, 1), (0, 0), (1, 1), False),  # groups of three: words span groups
    (33, 20, 1, (3, 3), (2, 2), (1, 1), (1, 1), True),
    (20, 40, 20, (2, 3), (2, 1), (0, 1), (2, 1), True),
    (20, 36, 2, (5,), (2,), (2,), (1,), False),
    (17, 18, 1, (2, 2, 2), (1, 2, 1), (0, 0, 0), (1, 1, 1), False),
]


TIMINGS = [(0, Reset.SUBTRACTION), (2, Reset.ZERO), (5, Reset.SUBTRACTION)]


@pytest.mark.parametrize("geometry", CONVOLUTIONS)
@pytest.mark.parametrize(("delay", "reset"), TIMINGS)
def test_convolutions_of_many_channels(geometry, delay, reset):
    """Of more channels than a block has, in any geometry: torch's shape, the reference's spikes."""
    ins, outs, groups, kernel, stride, padding, dilation, up = geometry
    axes = len(kernel)
    net = Net(ins, *[5] * axes, steps=5, delay=delay, reset=reset)
    net.fire()
    shape = (ins, outs // groups) if up else (outs, ins // groups)
    weight = whole(-128, 127, *shape, *kernel)
    kinds = {1: (nn.Conv1d, nn.ConvTranspose1d), 2: (nn.Conv2d, nn.ConvTranspose2d), 3: (nn.Conv3d, None)}
    like = kinds[axes][up](ins, outs, kernel, stride, padding, dilation=dilation, groups=groups)
    made = like(torch.zeros(1, ins, *[5] * axes)).shape[1:]
    net.put(Conv(weight, None, stride, padding, dilation, groups, up, bits=8), made)
    net.fire()
    agrees(net.graph())


@pytest.mark.parametrize("reach", [3000, 10**6])
def test_weights_wider_than_a_byte(reach):
    """Of branches on several grids: they are split into digits, and no sum of them is another."""
    net = Net(40, 4, 4)
    net.fire()
    net.put(Conv(whole(-reach, reach, 20, 40, 1, 1), bits=8), (20, 4, 4))
    net.put(IntegrateFire(torch.tensor(reach * 4), torch.tensor(9), torch.tensor(3)), (20, 4, 4))
    agrees(net.graph())


def test_sums_that_fill_16_bits():
    """Weights and inputs at their largest, many of them: sums of pairs are handed over in time."""
    net = Net(200, 2, 2)
    net.put(IntegrateFire(torch.tensor(1), torch.tensor(1), torch.tensor(0)), (200, 2, 2))  # all fire
    net.put(AvgPool((2, 2), (2, 2), (0, 0)), (200, 1, 1))
    weight = torch.full((18, 200, 1, 1), -128)
    weight[:9] = 127
    net.put(Conv(weight, bits=8), (18, 1, 1))
    net.put(IntegrateFire(torch.tensor(101599), torch.tensor(0), torch.tensor(0)), (18, 1, 1))
    found = agrees(net.graph(), lively=False)
    assert found.counts["integratefire4"][0, :, 0, 0].tolist() == [6] * 9 + [0] * 9


def test_what_is_added_up():
    """Convolutions, the spikes of a block before, a shortcut that skips pixels, a current at every step."""
    net = Net(18, 6, 6)
    first = net.fire()
    net.put(Conv(whole(-50, 50, 18, 18, 3, 3), padding=(1, 1), bits=8), (18, 6, 6), first)
    residual = net.put(
        Add((whole(1, 3), whole(100, 200, 18, 1, 1), whole(1, 9))), (18, 6, 6), net.nodes[-1].name, first, "x"
    )
    second = net.fire(residual)
    index = torch.arange(18 * 36).reshape(18, 6, 6)[:, ::2, ::2]
    index = torch.cat([torch.full((7, 3, 3), -1), index, torch.full((9, 3, 3), -1)])
    shortcut = net.put(Gather(index), (34, 3, 3), second)
    net.put(Conv(whole(-50, 50, 34, 18, 3, 3), None, (2, 2), (1, 1), bits=8), (34, 3, 3), second)
    net.put(Add((whole(1, 3), whole(90, 99))), (34, 3, 3), net.nodes[-1].name, shortcut)
    third = net.fire()
    net.put(Concat(), (68, 3, 3), third, shortcut)
    net.put(MaxPool((2, 2), (1, 1), (1, 1), (1, 1)), (68, 4, 4))
    net.put(Conv(whole(-50, 50, 20, 68, 4, 4), bits=8), (20, 1, 1))
    net.fire()
    agrees(net.graph())


def test_more_steps_than_a_byte_counts():
    """The largest of a window's sums so far, beyond 255 steps; and a linear layer."""
    net = Net(5, 4, 4, steps=300, delay=3)
    net.fire()
    net.put(MaxPool((2, 2), (2, 2), (0, 0), (1, 1)), (5, 2, 2))
    net.put(Conv(whole(-50, 90, 21, 5, 2, 2), bits=8), (21, 1, 1))
    net.fire()
    net.put(Gather(torch.arange(21)), (21,))
    net.put(Linear(whole(-90, 90, 9, 21), bits=8), (9,))
    net.put(IntegrateFire(torch.tensor(77), torch.tensor(1), torch.tensor(0)), (9,))
    agrees(net.graph())


def test_threads_share_the_work_and_change_nothing():
    """More threads than this machine has, and a single sample."""
    net = Net(40, 5, 5)
    net.fire()
    net.put(Conv(whole(-50, 50, 70, 40, 3, 3), bits=8), (70, 3, 3))
    net.fire()
    graph, before = net.graph(), torch.get_num_threads()
    try:
        torch.set_num_threads(5)
        agrees(graph, samples=1)
    finally:
        torch.set_num_threads(before)


def test_a_potential_that_32_bits_may_not_hold_is_no_case_for_the_kernel():
    """The engine runs such a population as torch does, in float64."""
    net = Net(4, 2, 2)
    net.fire()
    net.put(Conv(torch.full((3, 4, 1, 1), 2**30), bits=8), (3, 2, 2))
    net.put(IntegrateFire(torch.tensor(2**31), torch.tensor(1), torch.tensor(0)), (3, 2, 2))
    graph = net.graph()
    x = whole(0, 9, 3, 4, 2, 2).double()
    assert list(FusedPlan(graph, Request(x), frozenset()).terms) == ["integratefire1"]
    mine, theirs = (simulate(graph, x, engine=name) for name in ("fused", "reference"))
    assert torch.equal(mine.outputs[0], theirs.outputs[0])


def test_a_revised_bias_that_32_bits_may_not_hold_is_refused_by_the_layers_name():
    """Another engine holds it; an overflow is never silent."""
    net = Net(4, 2, 2)
    name = net.fire()
    graph = net.graph()
    x = whole(0, 9, 3, 4, 2, 2).double()

    def revise(node, counts):
        return replace(node, op=replace(node.op, bias=node.op.bias + 2**29)) if node.name == name else node

    request = Request(x, revise=revise)
    with pytest.raises(UnsupportedNetwork, match="32 bits") as refused:
        ENGINES["fused"].run(graph, request)
    assert (refused.value.where, "folded" in refused.value.remedy) == (name, True)
    assert torch.equal(*(ENGINES[each].run(graph, request).outputs[0] for each in ("folded", "reference")))


def test_windows_are_those_of_torch():
    """A convolution of pixel numbers with one tap each reads what the table says; 0 is the padding."""
    numbers = torch.arange(1.0, 43).reshape(1, 1, 6, 7)
    for geometry in [((3, 2), (2, 1), (1, 0), (1, 2)), ((2, 2), (1, 1), (0, 1), (2, 1))]:
        kernel, stride, padding, dilation = geometry
        taps = torch.eye(kernel[0] * kernel[1]).reshape(-1, 1, *kernel)
        read = nn.functional.conv2d(numbers, taps, None, stride, padding, dilation)[0]
        table = windows(Conv(taps, None, stride, padding, dilation), (1, 6, 7), (1, *read.shape[1:]))
        assert torch.equal(table.T + 1.0, read.flatten(1))


# Building it ----------------------------------------------------------------------------------------


def test_every_variant_that_compiles_is_right(tmp_path, monkeypatch):
    """That for this processor, and plain C; a wrong one is not taken."""
    variants = native.built(tmp_path)
    assert variants, "none compiles"
    for variant in variants:
        assert Trial().succeeds(partial(native._run, ctypes.CDLL(str(variant)).fire))
    assert not Trial().succeeds(lambda request, items: None)
    wrong = tmp_path / "wrong"  # a library is loaded once, by its place
    wrong.mkdir()
    source, right = native.SOURCE.read_text(), "count = counted(count, fired);"
    assert right in source
    monkeypatch.setattr(native, "SOURCE", wrong / "kernel.c")
    native.SOURCE.write_text(source.replace(right, "potential = plus(potential, bias);"))
    with pytest.raises(native.Unavailable, match="wrong results"):
        native.fastest(native.built(wrong))


@pytest.fixture
def fresh_kernel():
    """No kernel is loaded yet, neither before nor after."""
    native.kernel.cache_clear()
    yield
    native.kernel.cache_clear()


@pytest.mark.usefixtures("fresh_kernel")
def test_it_is_built_once_and_kept(tmp_path, monkeypatch):
    """In the user's cache folder; a second process loads it. A folder that cannot be made is no obstacle."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native.unavailable() == ""
    (kept,) = (tmp_path / "ann2snn").iterdir()
    built = kept.stat().st_mtime_ns
    native.kernel.cache_clear()
    assert native.unavailable() == ""
    assert kept.stat().st_mtime_ns == built

    native.kernel.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(kept))  # a file
    assert native.unavailable() == ""


@pytest.mark.usefixtures("fresh_kernel")
def test_without_a_compiler_the_next_engine_answers(monkeypatch):
    """By name it says what is missing and what to do."""
    monkeypatch.setenv("CC", "no-such-compiler")
    net = Net(4, 2, 2)
    net.fire()
    graph, x = net.graph(), torch.ones(1, 4, 2, 2)
    assert simulate(graph, x, delay=0).engine == "folded"
    assert "no-such-compiler" in ENGINES["fused"].refusal(graph, Request(x))


@pytest.mark.usefixtures("fresh_kernel")
def test_a_compiler_that_fails_is_quoted(tmp_path, monkeypatch):
    """With what it said."""
    compiler = tmp_path / "broken"
    compiler.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('error: it is too old')\n")
    os.chmod(compiler, 0o755)
    monkeypatch.setenv("CC", str(compiler))
    assert "it is too old" in native.unavailable()
