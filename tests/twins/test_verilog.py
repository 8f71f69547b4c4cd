"""The Verilog twin computes what docs/vector-pack.md says, finds what differs, and believes no file."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from itertools import cycle
from random import Random

import pytest
import torch

from ann2snn_cli.ir.contract import Contract, Reset
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
    Permute,
    Reshape,
    Scale,
)
from ann2snn_cli.stages.export.pack import Extent, Sample
from ann2snn_cli.twins import replay, verilog
from ann2snn_cli.twins.replay import Damaged, Outcome
from ann2snn_cli.twins.report import parse
from ann2snn_cli.twins.verilog import cost, run
from ann2snn_cli.workflows.pack import write_samples

simulated = pytest.mark.skipif(
    bool(verilog.unavailable()), reason=verilog.unavailable() or "Icarus Verilog is there"
)
verilated = pytest.mark.skipif(
    bool(verilog.unavailable("verilator")), reason=verilog.unavailable("verilator") or "Verilator is there"
)

ONE = torch.tensor(1.0, dtype=torch.float64)
STEPS = 5
DELAYS = [0, 1, STEPS // 2, STEPS]
RESETS = ["subtraction", "subtraction", "zero"]


# Networks of a few nodes -----------------------------------------------------------------------------


def integers(low, high, *shape):
    """Integers drawn by torch's generator."""
    return torch.randint(low, high + 1, shape)


def conv(*shape, **geometry):
    """A convolution with 4-bit weights."""
    return Conv(integers(-7, 7, *shape), bits=4, step=ONE, **geometry)


def line(*shape):
    """A convolution along one axis that keeps its extent."""
    return conv(*shape, stride=(1,), padding=(shape[-1] // 2,), dilation=(1,))


def up(*shape, **geometry):
    """A transposed one."""
    return conv(*shape, transposed=True, **geometry)


def signs(*shape):
    """1-bit weights."""
    return integers(0, 1, *shape) * 2 - 1


class Net:
    """A graph in the making, its input `x`."""

    def __init__(self, *shape, low=-8, high=7):
        self.nodes = {"x": Node("x", Input(1.0, low, high), (), shape, unit=ONE)}

    def add(self, name, op, *inputs, shape=None):
        """A node; its shape is what torch makes of the shapes of its inputs."""
        xs = [torch.zeros(1, *self.nodes[each].shape, dtype=torch.float64) for each in inputs]
        if isinstance(op, MaxPool):
            shape = tuple(op.highest(xs[0]).shape[1:])
        elif shape is None:
            shape = tuple(op.linear(xs, ()).shape[1:])
        self.nodes[name] = Node(name, op, inputs, shape, unit=ONE)
        return name

    def population(self, name, source, per="channel", fraction_bits=0):
        """Neurons with parameters of their own, of a channel, or all alike."""
        shape = self.nodes[source].shape
        axes = {"neuron": shape, "channel": (shape[0], *[1] * (len(shape) - 1)), "layer": ()}[per]
        threshold = integers(2, 9, *axes) * 2**fraction_bits
        op = IntegrateFire(threshold, integers(-2, 3, *axes), integers(-3, 4, *axes), fraction_bits)
        return self.add(name, op, source, shape=shape)

    def graph(self, *outputs, delay=0, reset_mode="subtraction", steps=STEPS):
        """All of it."""
        contract = Contract(steps, Reset(reset_mode), delay)
        return Graph(tuple(self.nodes.values()), outputs, Level.SPIKING, contract)


def packed(graph, folder, samples=1, **options):
    """A pack of a graph with samples drawn evenly: a0, a1, ..."""
    (node,) = graph.inputs
    draw = torch.Generator().manual_seed(2)
    bounds = (node.op.low, node.op.high + 1)
    stimuli = [torch.randint(*bounds, node.shape, generator=draw) for _ in range(samples)]
    chosen = [
        Sample(f"a{place}", "real", "drawn", {node.name: stimulus}) for place, stimulus in enumerate(stimuli)
    ]
    return replay.read(write_samples(graph, chosen, folder, **options))


def verified(pack, tmp_path, samples=("a0",), tool="iverilog"):
    """What the twin says."""
    work = tmp_path / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    return verilog.verify(pack, samples, work, tool)


def agrees(pack, *samples):
    """The outcome that nothing differs and everything was looked at."""
    return Outcome(sum(replay.values_to_check(pack, name) for name in samples or ("a0",)), 0, None)


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        yield


KINDS = {
    "conv of one axis, strided, padded, dilated, grouped": (
        (4, 9), lambda: conv(6, 2, 3, stride=(2,), padding=(2,), dilation=(2,), groups=2)),
    "conv of two axes": ((2, 6, 3), lambda: conv(3, 2, 2, 3, stride=(2, 1), padding=(1, 0), dilation=(2, 1))),
    "conv of three axes": (
        (2, 2, 3, 3),
        lambda: conv(3, 2, 2, 1, 2, stride=(1, 2, 1), padding=(1, 0, 1), dilation=(2, 1, 1))),
    "depthwise conv": ((4, 3, 3), lambda: conv(4, 1, 3, 3, padding=(1, 1), groups=4)),
    "conv of one-bit weights": ((4, 3, 3), lambda: Conv(signs(2, 4, 2, 2), bits=1, step=ONE)),
    "transposed conv of one axis, grouped": (
        (4, 9),
        lambda: up(4, 3, 2, stride=(3,), padding=(1,), dilation=(2,), groups=2, output_padding=(1,))),
    "transposed conv of two axes": (
        (2, 6, 3),
        lambda: up(2, 3, 3, 2, stride=(2, 3), padding=(1, 0), dilation=(1, 2), output_padding=(1, 0))),
    "transposed conv of three axes": (
        (2, 2, 3, 3),
        lambda: up(2, 2, 2, 1, 2, stride=(2, 1, 2), padding=(0, 0, 1), dilation=(1,) * 3,
                   output_padding=(1, 0, 0))),
    "linear, row by row": ((2, 3, 5), lambda: Linear(integers(-7, 7, 4, 5), bits=4, step=ONE)),
    "linear of one-bit weights": ((7,), lambda: Linear(signs(4, 7), bits=1, step=ONE)),
    "scale of channels": ((3, 4), lambda: Scale(integers(-3, 3, 3, 1), bits=3, step=ONE)),
    "scale of one-bit weights": ((3, 4), lambda: Scale(signs(3, 4), bits=1, step=ONE)),
    "sum pool of one axis": ((3, 8), lambda: AvgPool((3,), (2,), (1,))),
    "sum pool of two axes": ((2, 6, 3), lambda: AvgPool((3, 2), (2, 1), (1, 1))),
    "sum pool of three axes": ((2, 2, 3, 3), lambda: AvgPool((2, 2, 2), (1, 1, 1), (0, 1, 0))),
    "max pool of one axis": ((3, 8), lambda: MaxPool((3,), (2,), (1,), (1,))),
    "max pool, dilated": ((2, 6, 6), lambda: MaxPool((2, 3), (1, 2), (1, 1), (2, 1))),
    "max pool over the edge": (
        (2, 6, 6), lambda: MaxPool((3, 3), (2, 2), (0, 0), (1, 1), ceil_mode=True)),
    "max pool of three axes": (
        (2, 2, 3, 3), lambda: MaxPool((2, 2, 2), (1, 1, 1), (1, 0, 1), (2, 1, 1))),
    "permute": ((2, 3, 4), lambda: Permute((2, 0, 1))),
    "gather": ((2, 3, 4), lambda: Gather(integers(-1, 23, 5, 4))),
    "reshape": ((2, 3, 4), lambda: Reshape()),
}  # fmt: skip


@simulated
@pytest.mark.parametrize(("kind", "delay", "reset_mode"), list(zip(KINDS, cycle(DELAYS), cycle(RESETS))))
def test_every_kind_of_layer_agrees_with_torch(kind, delay, reset_mode, tmp_path):
    """Fed with spikes, and with signed currents; no layer but a population looks at the delay."""
    shape, make = KINDS[kind]
    made, op = Net(*shape), make()
    after = {"gather": (5, 4), "reshape": (6, 4)}.get(kind)
    made.population("in", "x", "neuron")
    made.population("out", made.add("spikes", op, "in", shape=after), fraction_bits=1)
    made.population("far", made.add("currents", op, "x", shape=after))
    pack = packed(made.graph("out", "far", delay=delay, reset_mode=reset_mode), tmp_path / "pack")
    assert verified(pack, tmp_path) == agrees(pack)


@simulated
@pytest.mark.parametrize("reset_mode", ["subtraction", "zero"])
@pytest.mark.parametrize("delay", [0, 1, 3, 7])
def test_populations_agree_with_every_delay_and_both_resets(delay, reset_mode, tmp_path):
    """Parameters of the layer, of channels and of neurons; fraction bits; chained populations."""
    made = Net(2, 3, 3)
    made.population("a", "x", "layer")
    made.population("b", made.add("c", conv(3, 2, 2, 2), "a"), "channel", fraction_bits=3)
    made.population("d", made.add("e", conv(2, 3, 1, 2), "b"), "neuron", fraction_bits=1)
    graph = made.graph("d", delay=delay, reset_mode=reset_mode, steps=7)
    pack = packed(graph, tmp_path / "pack", samples=2)
    assert verified(pack, tmp_path, ("a1", "a0")) == agrees(pack, "a0", "a1")


@simulated
@pytest.mark.parametrize("delay", DELAYS)
def test_max_pooling_of_signed_sums_agrees(delay, tmp_path):
    """Of spikes, and of currents with running sums below 0; padding never wins."""
    made, pool = Net(2, 6), MaxPool((3,), (1,), (1,), (1,))
    made.add("currents", pool, made.add("signed", line(2, 2, 3), "x"))
    made.add("spikes", pool, made.population("in", "x"))
    made.add("later", pool, made.add("mixed", line(2, 2, 3), "in"))
    for name in ("currents", "spikes", "later"):
        made.add(f"read_{name}", Integrate(), name, shape=(2, 6))
    pack = packed(made.graph("read_currents", "read_spikes", "read_later", delay=delay), tmp_path / "pack")
    activity = replay.replay(pack.network, pack.stimulus("a0"))
    assert activity["currents"].train.min() < 0
    assert activity["read_later"].potentials.min() < 0
    assert verified(pack, tmp_path) == agrees(pack)


@simulated
@pytest.mark.parametrize("delay", DELAYS)
def test_branches_with_other_numbers_of_populations_meet_step_by_step(delay, tmp_path):
    """A residual add of one and three populations with the input itself; a concat of none, one and two."""
    made, shape = Net(2, 3), (2, 3)
    made.population("a", "x")
    made.population("b", made.add("ab", line(2, 2, 3), "a"))
    made.population("c", made.add("bc", line(2, 2, 3), "b"))
    multipliers = (integers(1, 3), integers(-3, -1), integers(-3, 3, 2, 1))
    made.population("d", made.add("sum", Add(multipliers), "a", "c", "x", shape=shape))
    made.add("turned", Permute((1, 0)), "a")
    made.add("flat", Reshape(), "turned", shape=shape)
    made.population("e", made.add("both", Concat(), "flat", "x", "b"))
    made.add("read", Integrate(integers(-4, 4, 2, 1)), "sum", shape=shape)
    graph = made.graph("d", "e", "read", delay=delay)
    assert verified(packed(graph, tmp_path / "pack"), tmp_path) == agrees(replay.read(tmp_path / "pack"))


@simulated
@pytest.mark.parametrize("delay", [1, STEPS])
def test_sums_concats_and_read_outs_agree(delay, tmp_path):
    """Multipliers of a layer, of channels and of neurons; one source twice; biases and initial charge."""
    made, shape = Net(2, 3), (2, 3)
    made.population("a", "x")
    multipliers = (integers(-3, 3), integers(-3, 3, 2, 1), integers(-9, 9, *shape))
    made.add("sum", Add(multipliers), "a", "x", "a", shape=shape)
    made.add("turned", Permute((1, 0)), "a")
    made.add("flat", Reshape(), "turned", shape=shape)
    made.population("b", made.add("both", Concat(), "flat", "sum", "a"))
    made.add("read", Integrate(integers(-4, 4, 2, 1), integers(-4, 4, *shape)), "sum", shape=shape)
    made.add("plain", Integrate(), "read", shape=shape)
    pack = packed(made.graph("b", "plain", "read", delay=delay), tmp_path / "pack")
    assert verified(pack, tmp_path) == agrees(pack)


@simulated
def test_lines_of_thousands_of_spikes_are_read(tmp_path):
    """A population of 5000 neurons: one line of 1250 digits a step."""
    made = Net(8)
    made.population("a", made.add("many", Gather(integers(-1, 7, 5000)), "x", shape=(5000,)), "neuron")
    pack = packed(made.graph("a", steps=2), tmp_path / "pack")
    assert verified(pack, tmp_path) == agrees(pack)


@simulated
def test_what_is_not_recorded_is_not_compared_but_run(tmp_path):
    """Fewer steps, fewer layers, no potentials; the result is still that of all steps."""
    made = Net(3)
    made.population("b", made.population("a", "x"))
    made.add("read", Integrate(), "b", shape=(3,))
    extent = Extent(steps=2, layers=("b", "read"), potentials=False)
    pack = packed(made.graph("read"), tmp_path / "pack", extent=extent)
    assert verified(pack, tmp_path) == Outcome(2 * 3 + 3, 0, None)


@simulated
def test_names_are_printed_as_they_are(tmp_path):
    """Quotes, spaces, percent signs, other alphabets; an output called like a key of result.json."""
    made = Net(3)
    made.population('a "b" 100%d \\ θ', "x")
    made.population("outputs", 'a "b" 100%d \\ θ')
    pack = packed(made.graph("outputs", 'a "b" 100%d \\ θ'), tmp_path / "pack")
    assert verified(pack, tmp_path) == agrees(pack)
    flip(pack, pack.network.layers[1]["parameters"]["initial"]["file"], 0, 3)
    assert verified(pack, tmp_path).first.layer == 'a "b" 100%d \\ θ'


# By hand ---------------------------------------------------------------------------------------------

NEURON = """
module bench;
    reg clock = 0, start = 0, valid = 0, turn = 0, integrate = 0, fire = 0;
    wire spike;
    wire signed [7:0] v;
    integer t;
    neuron #(.NEURONS(1), .X_BITS(4), .BITS(8), .FRACTION_BITS(1), .RESET_TO_ZERO(@ZERO),
             .COMPARE_STRICTLY(@STRICT))
        dut (.clock(clock), .start(start), .in_valid(valid), .in_address(0), .in_value(4'sd3), .turn(turn),
             .index(0), .integrate(integrate), .fire(fire), .out_valid(spike), .potential(v));
    task tick; begin #1 clock = 1; #1 clock = 0; end endtask
    task round(input x, input i, input f);
        begin
            valid = x; turn = 0; tick; valid = 0;
            turn = 1; integrate = i; fire = f; tick;
            $display("%0d %0d", spike, v);
        end
    endtask
    initial begin
        dut.threshold[0] = 9; dut.bias[0] = -1; dut.preset[0] = 4;
        start = 1; tick; start = 0;
        @PROGRAM
    end
endmodule
"""
PROGRAM = "for (t = 1; t <= 4 + @DELAY; t = t + 1) round(t <= 4, t <= 4, t > @DELAY);"
BY_HAND = {  # (delay, reset): (spike, potential) of every own step of a neuron with T = 4
    (0, "subtraction"): [(1, 0), (0, 5), (1, 1), (0, 6)],
    (1, "subtraction"): [(0, 9), (1, 5), (1, 1), (0, 6), (0, 6)],
    (2, "subtraction"): [(0, 9), (0, 14), (1, 10), (1, 6), (0, 6), (0, 6)],
    (4, "subtraction"): [(0, 9), (0, 14), (0, 19), (0, 24), (1, 15), (1, 6), (0, 6), (0, 6)],
    (0, "zero"): [(1, 0), (0, 5), (1, 0), (0, 5)],
    (1, "zero"): [(0, 9), (1, 0), (0, 5), (1, 0), (0, 0)],
    (2, "zero"): [(0, 9), (0, 14), (1, 0), (0, 5), (0, 5), (0, 5)],
    (4, "zero"): [(0, 9), (0, 14), (0, 19), (0, 24), (1, 0), (0, 0), (0, 0), (0, 0)],
}
STRICTLY = [(0, 9), (1, 5), (1, 1), (0, 6)]  # 9 is not above 9


@simulated
@pytest.mark.parametrize(
    ("delay", "reset_mode", "strict", "expected"),
    [*((*case, 0, table) for case, table in BY_HAND.items()), (0, "subtraction", 1, STRICTLY)],
)
def test_the_neuron_by_hand(delay, reset_mode, strict, expected, tmp_path):
    """θ = 9, B = −1, V0 = 4, x = 3 with one fraction bit, so V grows by 2·3 − 1 while t <= T."""
    text = NEURON.replace("@PROGRAM", PROGRAM).replace("@DELAY", str(delay))
    text = text.replace("@ZERO", str(int(reset_mode == "zero"))).replace("@STRICT", str(strict))
    (tmp_path / "bench.v").write_text(text)
    command = ["iverilog", "-g2005", "-o", tmp_path / "neuron", tmp_path / "bench.v", run.FOLDER / "neuron.v"]
    subprocess.run(command, check=True)
    done = subprocess.run(["vvp", "-n", tmp_path / "neuron"], capture_output=True, text=True, check=True)
    assert [tuple(map(int, line.split())) for line in done.stdout.splitlines()] == expected


@simulated
@pytest.mark.parametrize(
    ("delay", "second", "read"),
    [
        (0, [(1, 0), (0, 0), (0, 1), (0, 1)], [11, 11, 12, 12]),
        (1, [(1, 1), (0, 1), (0, 1), (0, 1)], [11, 12, 12, 12]),
        (2, [(1, 1), (0, 1), (0, 1), (0, 1)], [11, 12, 12, 12]),
        (4, [(1, 1), (0, 1), (0, 1), (0, 1)], [11, 12, 12, 12]),
    ],
)
def test_two_neurons_in_a_row_and_their_sum_by_hand(delay, second, read, tmp_path):
    """The neuron above, one with θ = 2 and V0 = 1 that reads it, and ten times the second plus the first."""
    made = Net(1, low=3, high=3)
    first = IntegrateFire(torch.tensor(9), torch.tensor(-1), torch.tensor(4), 1)
    made.add("first", first, "x", shape=(1,))
    made.add("second", IntegrateFire(torch.tensor(2), torch.tensor(0), torch.tensor(1)), "first", shape=(1,))
    made.add("sum", Add((torch.tensor(10), torch.tensor(1))), "second", "first", shape=(1,))
    made.add("read", Integrate(), "sum", shape=(1,))
    pack = packed(made.graph("read", delay=delay, steps=4), tmp_path / "pack")
    expect_by_hand(pack, "first", *zip(*BY_HAND[delay, "subtraction"][delay:], strict=True))
    expect_by_hand(pack, "second", *zip(*second, strict=True))
    expect_by_hand(pack, "read", (), read)
    assert verified(pack, tmp_path) == agrees(pack)


def expect_by_hand(pack, layer, spikes, potentials):
    """Write what a layer of one neuron must do over what the pack expects of it."""
    bits = pack.network.layer(layer)["potential"]["bits"]
    words = [f"{value % 2**bits:0{-(-bits // 4)}x}" for value in potentials]
    for file, lines in (("spk", map(str, spikes)), ("vmem", words)):
        path = pack.folder / f"expect/a0/{layer}.{file}.mem"
        assert path.exists() == bool(file == "vmem" or spikes)
        if path.exists():
            path.write_text("".join(f"{line}\n" for line in lines))


# It finds what differs -------------------------------------------------------------------------------


def flip(pack, file, line, bit):
    """Turn round one bit of a word of a pack."""
    path = pack.folder / file
    lines = path.read_text().splitlines()
    lines[line] = f"{int(lines[line], 16) ^ (1 << bit):0{len(lines[line])}x}"
    path.write_text("".join(f"{each}\n" for each in lines))


def invert(pack, file):
    """Turn round all bits of the whole digits of a file."""
    path = pack.folder / file
    path.write_text(path.read_text().translate(str.maketrans("0123456789abcdef", "fedcba9876543210")))


def small(folder, delay=0, samples=1):
    """A convolution with neurons, a pooling of maxima, and a linear read-out."""
    made = Net(1, 4, 4, low=0)
    made.population("fire", made.add("conv", conv(2, 1, 3, 3, padding=(1, 1)), "x"))
    made.add("pool", MaxPool((2, 2), (2, 2), (0, 0), (1, 1)), "fire")
    made.add("flat", Reshape(), "pool", shape=(8,))
    made.add("linear", Linear(integers(-7, 7, 3, 8), bits=4, step=ONE), "flat")
    made.add("read", Integrate(integers(-4, 4, 3), integers(-4, 4, 3)), "linear", shape=(3,))
    return packed(made.graph("read", delay=delay), folder, samples)


@simulated
@pytest.mark.parametrize("delay", [0, 2])
@pytest.mark.parametrize(
    ("file", "layer"),
    [
        ("weights/conv.mem", "fire"),
        ("threshold/fire.mem", "fire"),
        ("bias/fire.mem", "fire"),
        ("initial/fire.mem", "fire"),
        ("weights/linear.mem", "read"),
        ("bias/read.mem", "read"),
        ("initial/read.mem", "read"),
        ("stimulus/a0/x.mem", "fire"),
        ("expect/a0/fire.spk.mem", "fire"),
        ("expect/a0/fire.vmem.mem", "fire"),
        ("expect/a0/read.vmem.mem", "read"),
    ],
)
def test_one_flipped_bit_is_found_where_numpy_finds_it(file, layer, delay, tmp_path):
    """The same number of mismatches and the same first one: sample, layer, step, neuron, values."""
    pack = small(tmp_path / "pack", delay)
    words, draw = len((pack.folder / file).read_text().splitlines()), Random(file)
    while True:  # some weights only meet zeros
        line = draw.randrange(words)
        flip(pack, file, line, 1)
        damaged = replay.read(pack.folder)
        if (wanted := replay.verify(damaged, ["a0"])).mismatches:
            break
        flip(pack, file, line, 1)
    assert verified(damaged, tmp_path) == wanted
    assert wanted.first.layer == layer


@simulated
def test_the_first_difference_is_the_first_of_all_layers(tmp_path):
    """A late layer differs at an early step, long before the first layer does: the first layer is named."""
    pack = small(tmp_path / "pack")
    flip(pack, "initial/read.mem", 0, 2)
    flip(pack, "expect/a0/fire.vmem.mem", 4 * 32 + 3, 0)
    outcome = verified(replay.read(pack.folder), tmp_path)
    assert (outcome.first.layer, outcome.first.step, outcome.first.neuron) == ("fire", 5, 3)
    assert outcome == replay.verify(replay.read(pack.folder), ["a0"])


@simulated
def test_a_changed_result_is_found(tmp_path):
    """After the last step, so its step is 0."""
    pack = small(tmp_path / "pack")
    path = pack.folder / "expect/a0/result.json"
    (now,) = re.findall(r'"read": \[\s*-?\d+,\s*(-?\d+)', path.read_text())
    path.write_text(re.sub(r'("read": \[\s*-?\d+,\s*)-?\d+', rf"\g<1>{int(now) + 1}", path.read_text()))
    outcome = verified(pack, tmp_path)
    assert (outcome.mismatches, outcome.first.field, outcome.first.step) == (1, "result", 0)
    assert (outcome.first.neuron, outcome.first.expected, outcome.first.got) == (1, int(now) + 1, int(now))


@simulated
def test_the_sample_that_differs_is_named(tmp_path):
    """Only the second stimulus is changed."""
    pack = small(tmp_path / "pack", samples=2)
    flip(pack, "stimulus/a1/x.mem", 5, 1)
    outcome = verified(pack, tmp_path, ("a0", "a1"))
    assert outcome == replay.verify(pack, ["a0", "a1"])
    assert outcome.first.sample == "a1"


@simulated
@pytest.mark.parametrize(("field", "value"), [("comparator", ">"), ("reset_mode", "zero"), ("delay", 2)])
def test_the_contract_is_followed(field, value, tmp_path):
    """Another comparator, reset or delay than the one the pack was made with differs, where numpy says."""
    made = Net(6, low=0, high=2)
    made.add("fire", IntegrateFire(torch.tensor(3), torch.tensor(0), torch.tensor(1)), "x", shape=(6,))
    pack = packed(made.graph("fire"), tmp_path / "pack")
    network = replace(pack.network, contract=pack.network.contract | {field: value})
    broken = replace(pack, network=network)
    outcome = verified(broken, tmp_path)
    assert outcome == replay.verify(broken, ["a0"])
    assert outcome.mismatches > 0


@simulated
def test_an_encoding_is_followed(tmp_path):
    """A threshold that is unsigned: its highest bit counts as a positive number."""
    pack = small(tmp_path / "pack")
    (layer,) = [layer for layer in pack.manifest["layers"] if layer["name"] == "fire"]
    entry = layer["parameters"]["threshold"]
    entry["encoding"] = "unsigned"
    (pack.folder / replay.MANIFEST).write_text(json.dumps(pack.manifest))
    assert verified(replay.read(pack.folder), tmp_path) == agrees(pack)
    flip(pack, entry["file"], 0, entry["bits"] - 1)
    raised = replay.read(pack.folder)
    outcome = verified(raised, tmp_path)
    assert outcome == replay.verify(raised, ["a0"])
    assert (outcome.first.field, outcome.first.expected, outcome.first.got) == ("spike", 1, 0)


@simulated
def test_no_number_differs_from_every_number(tmp_path):
    """A weight that is x makes spikes and potentials x, and they are reported as no number."""
    pack = small(tmp_path / "pack")
    path = pack.folder / "weights/conv.mem"
    path.write_text("x\n" + "".join(path.read_text().splitlines(keepends=True)[1:]))
    printed = simulate(build(pack, tmp_path / "bench"), pack).stdout
    assert re.search(r"MISMATCH .* field=spike expected=\d got=x\n", printed)
    assert re.search(r"MISMATCH .* field=potential expected=-?\d+ got=x\n", printed)
    outcome = verified(pack, tmp_path)
    assert (outcome.first.layer, outcome.first.got) == ("fire", None)


# It believes no file ---------------------------------------------------------------------------------


def truncate(path):
    """Drop the last word."""
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


@simulated
@pytest.mark.parametrize("damage", [truncate, lambda path: path.unlink()], ids=["short", "missing"])
@pytest.mark.parametrize(
    ("file", "layer", "sample"),
    [
        ("weights/conv.mem", "conv", ""),
        ("threshold/fire.mem", "fire", ""),
        ("stimulus/a0/x.mem", "x", "a0"),
        ("expect/a0/fire.spk.mem", "fire", "a0"),
        ("expect/a0/read.vmem.mem", "read", "a0"),
    ],
)
def test_a_short_or_missing_file_is_refused_by_name(damage, file, layer, sample, tmp_path):
    """By `verify` before anything runs, and by the bench itself: no RESULT, and not exit status 0."""
    pack = small(tmp_path / "pack")
    program = build(pack, tmp_path / "bench")
    damage(pack.folder / file)
    with pytest.raises(Damaged) as caught:
        verified(pack, tmp_path)
    assert [(each.file, each.layer, each.sample) for each in caught.value.problems] == [(file, layer, sample)]
    done = simulate(program, pack)
    assert done.returncode != 0
    assert "RESULT" not in done.stdout
    assert f"{file} holds" in done.stdout


@simulated
def test_a_result_without_all_its_numbers_is_refused(tmp_path):
    """The bench reads result.json itself."""
    pack = small(tmp_path / "pack")
    path = pack.folder / "expect/a0/result.json"
    path.write_text(re.sub(r'("read": \[\s*-?\d+),\s*-?\d+', r"\1", path.read_text()))
    done = simulate(build(pack, tmp_path / "bench"), pack)
    assert "result.json does not hold 3 numbers for read" in done.stdout
    assert "RESULT" not in done.stdout
    with pytest.raises(Damaged, match=r"bench\.v: its report is not whole"):
        verified(pack, tmp_path)


def build(pack, folder, *flags):
    """The bench, compiled by hand."""
    folder.mkdir()
    for name, text in verilog.sources(pack).items():
        (folder / name).write_text(text, encoding="utf-8")
    files = sorted(folder.glob("*.v"))
    command = ["iverilog", "-g2005", "-Wall", "-s", "bench", "-o", folder / "bench.vvp", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
    return folder / "bench.vvp"


def simulate(program, pack, sample="a0"):
    """What it prints and how it ends."""
    command = ["vvp", "-n", program, f"+pack={pack.folder}", f"+sample={sample}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@simulated
def test_the_bench_ends_with_a_status_and_prints_no_more_than_20_mismatches(tmp_path):
    """One program for all samples; it is compiled without a warning."""
    pack = small(tmp_path / "a pack")
    program = build(pack, tmp_path / "bench")
    done = simulate(program, pack)
    assert (done.returncode, parse(done.stdout, pack, ["a0"], "bench")) == (0, agrees(pack))
    for file in ("bias/fire.mem", "expect/a0/fire.spk.mem"):
        invert(pack, file)
        done = simulate(program, pack)
        outcome = parse(done.stdout, pack, ["a0"], "bench")
        assert done.returncode == 1
        assert done.stdout.count("MISMATCH") == 20 < outcome.mismatches


@simulated
@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_replays_the_pack_around_it(tmp_path):
    """All samples of a pack written with its Verilog; a difference or no sample at all is a failure."""
    made = Net(3)
    made.population("fire", "x")
    pack = packed(made.graph("fire"), tmp_path / "pack", samples=2, languages=["verilog"])

    def make(*words):
        return subprocess.run(
            ["make", *words], cwd=pack.folder / "verilog", capture_output=True, text=True, check=False
        )

    done = make()
    assert done.returncode == 0, done.stderr
    expected = f"RESULT checked={replay.values_to_check(pack, 'a0')} mismatch=0"
    assert done.stdout.count(expected) == 2
    flip(pack, "expect/a0/fire.spk.mem", 0, 0)
    assert make().returncode != 0
    assert make("SAMPLES=a1").returncode == 0
    assert make("PACK=/nowhere").returncode != 0


# What it cannot do, and what it costs ----------------------------------------------------------------


def test_what_it_cannot_do_is_refused_all_at_once(tmp_path):
    """Kinds and encodings it does not know, windows of four axes, another contract."""
    pack = small(tmp_path / "pack")
    layers = {layer["name"]: layer for layer in pack.network.layers}
    layers["flat"]["kind"] = "opaque"
    layers["conv"]["kernel"] = [1, 1, 1, 1]
    layers["linear"]["parameters"]["weight"]["encoding"] = "gray"
    pack.network.contract.update(delay=STEPS + 1, reset_mode="soft")
    with pytest.raises(Damaged) as caught:
        verilog.sources(pack)
    assert [(each.layer, each.what) for each in caught.value.problems] == [
        ("", "its delay is 6, not a whole number from 0 to its 5 timesteps"),
        ("", "its reset_mode is 'soft', not one of subtraction, zero"),
        ("conv", "its windows have 4 axes, the Verilog modules 3"),
        ("flat", "there is no Verilog module for the kind 'opaque'"),
        ("linear", "the encoding 'gray' of its weight is unknown"),
    ]
    assert verilog.cycles(pack) == 0


@pytest.mark.parametrize(
    ("field", "value", "what"),
    [
        ("delay", -1, "its delay is -1, not a whole number from 0 to its 5 timesteps"),
        ("delay", True, "its delay is True, not a whole number from 0 to its 5 timesteps"),
        ("delay", "2", "its delay is '2', not a whole number from 0 to its 5 timesteps"),
        ("delay", None, "its delay is None, not a whole number from 0 to its 5 timesteps"),
        ("timesteps", 0, "its timesteps are 0, not a whole number, 1 or more"),
        ("comparator", "<", "its comparator is '<', not one of >=, >"),
    ],
)
def test_a_contract_that_makes_no_sense_is_refused_in_words(field, value, what, tmp_path):
    """Also where the value has another type than a number."""
    pack = small(tmp_path / "pack")
    pack.network.contract[field] = value
    with pytest.raises(Damaged) as caught:
        verilog.sources(pack)
    assert [each.what for each in caught.value.problems] == [what]


@simulated
@pytest.mark.parametrize("delay", [0, 2, STEPS])
def test_the_clocks_of_a_sample_are_known_before(delay, tmp_path):
    """A bench that fails tells its time: two units a clock. `cycles` adds what the additions cost."""
    pack = small(tmp_path / "pack", delay)
    program = build(pack, tmp_path / "bench")
    flip(pack, "bias/fire.mem", 0, 1)
    (time,) = re.findall(r"Time: (\d+)", simulate(program, pack).stdout)
    assert int(time) == 2 * cost.clocks(pack)
    assert verilog.cycles(pack) == cost.clocks(pack) + cost.additions(pack) // 32
    assert cost.additions(pack) == 5 * (2 * 16 * 9 + 2 * 4 * 4 + 3 * 8)


# The tools -------------------------------------------------------------------------------------------


def test_a_missing_tool_is_said_with_the_remedy(monkeypatch, tmp_path):
    """What is missing; a Verilator that is too old is as good as none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert verilog.unavailable() == (
        "iverilog and vvp not found: install Icarus Verilog (apt-get install iverilog)"
    )
    for name in ("verilator", "make"):
        (tmp_path / name).write_text("#!/bin/sh\necho Verilator 4.038 2020-07-11\n")
        (tmp_path / name).chmod(0o755)
    assert verilog.version("verilator") == "Verilator 4.038 2020-07-11"
    assert verilog.unavailable("verilator") == (
        "Verilator 4.038 2020-07-11 has no --timing: install Verilator 5 or later with make and a C++ "
        "compiler (apt-get install verilator make g++)"
    )


@simulated
def test_a_bench_that_does_not_build_says_why(monkeypatch, tmp_path):
    """The compiler's first error."""
    pack = small(tmp_path / "pack")
    monkeypatch.setattr(run, "bench", lambda pack: "module bench;\n  nonsense\nendmodule\n")
    with pytest.raises(Damaged, match=r"iverilog does not build it: bench\.v:3: syntax error"):
        verified(pack, tmp_path)


@simulated
def test_iverilog_tells_its_version():
    """One line with a number."""
    assert re.fullmatch(r"Icarus Verilog version \d.*", verilog.version())


@verilated
def test_the_modules_and_the_bench_have_no_lint(tmp_path):
    """`verilator -Wall` has nothing to say of any of them."""
    build_folder = tmp_path / "bench"
    build_folder.mkdir()
    for name, text in verilog.sources(small(tmp_path / "pack")).items():
        (build_folder / name).write_text(text, encoding="utf-8")
    lint = ["verilator", "--lint-only", "--timing", "-Wall"]
    modules = sorted(path.name for path in build_folder.glob("*.v") if path.name != "bench.v")
    assert len(modules) == 12
    for files in [["--top-module", "bench", "bench.v", *modules], *([name] for name in modules)]:
        done = subprocess.run([*lint, *files], cwd=build_folder, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), files


@verilated
def test_verilator_agrees_and_finds_what_differs(tmp_path):
    """It has no x: what is missing is 0 there, so the bench itself must refuse a short file."""
    pack = small(tmp_path / "pack", samples=2)
    assert verified(pack, tmp_path, ("a0", "a1"), "verilator") == agrees(pack, "a0", "a1")
    program = tmp_path / "work/built/bench"

    def replayed():
        words = [program, f"+pack={pack.folder}", "+sample=a1"]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)

    flip(pack, "weights/conv.mem", 4, 3)
    done, damaged = replayed(), replay.read(pack.folder)
    assert done.returncode != 0
    assert parse(done.stdout, pack, ["a1"], "bench") == replay.verify(damaged, ["a1"])
    truncate(pack.folder / "weights/linear.mem")
    done = replayed()
    assert done.returncode != 0
    assert "RESULT" not in done.stdout
    assert "weights/linear.mem holds 23 words, not 24" in done.stdout
