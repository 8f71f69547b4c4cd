"""The vector pack on disk: every number in it is found where its own documents say, and is the right one.

Files are read by hand here (`int(line, 16)`), never by our own reader; the arithmetic is plain Python.
"""

import hashlib
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ann2snn_cli.errors import BadFile, UnsupportedNetwork, UsageError
from ann2snn_cli.ir.contract import Contract, Reset
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import (
    Add,
    Concat,
    Conv,
    Gather,
    Input,
    Integrate,
    IntegrateFire,
    Linear,
    MaxPool,
    Opaque,
    Ref,
    Reshape,
    Scale,
)
from ann2snn_cli.stages.export import files
from ann2snn_cli.stages.export.pack import Absent, Extent, Sample, corner_samples, describe, write
from ann2snn_cli.stages.export.pack.words import digits, spike_lines, words
from ann2snn_cli.stages.export.pack.write import FILES, FOLDERS
from ann2snn_cli.twins import replay
from ann2snn_cli.workflows.pack import record

ONE = torch.tensor(1.0, dtype=torch.float64)
RESETS = ("subtraction", "zero")
CONTRACTS = [(delay, reset) for delay in (0, 1, 3, 6) for reset in RESETS]  # of 6 steps


def whole(*values):
    """Integers, as a chip is loaded with."""
    return torch.tensor(values if len(values) > 1 else values[0], dtype=torch.int64)


def spiking(*nodes, timesteps=5, delay=0, reset_mode="subtraction", outputs=None):
    """A SPIKING graph of (name, op, inputs, shape), whose integers mean themselves."""
    made = tuple(Node(*node, source=f"net.{node[0]}", unit=ONE) for node in nodes)
    contract = Contract(timesteps, Reset(reset_mode), delay)
    return Graph(made, outputs or (made[-1].name,), Level.SPIKING, contract)


def stimulus(*values, shape=None, name="one", label=None):
    """A sample of these integers at the input `in`."""
    shown = {"in": whole(*values).reshape(shape or len(values))}
    return Sample(name, "real", "a test", shown, label)


# The hand-made network: input 1x2x2 -> conv 1->2 -> neurons -> flatten -> linear -> read-out ----------

PIXELS = (200, 0, 255, 31)
CONV, THRESHOLDS, BIASES, INITIALS = (3, -2), (300, 190), (5, 60), (150, 95)
LAST = ((-4, 3, -2, 1, 0, 1, 2, 3), (7, -7, 5, -5, 3, -3, 1, -1))
LAST_BIAS, LAST_INITIAL = (1, -2), (0, 3)


def small(**contract):
    """The hand-made network."""
    return spiking(
        ("in", Input(1.0), (), (1, 2, 2)),
        ("conv", Conv(whole(*CONV).reshape(2, 1, 1, 1), bits=3), ("in",), (2, 2, 2)),
        ("fire", IntegrateFire(*(whole(*each).reshape(2, 1, 1) for each in (THRESHOLDS, BIASES, INITIALS))),
         ("conv",), (2, 2, 2)),
        ("flat", Reshape(), ("fire",), (8,)),
        ("last", Linear(torch.tensor(LAST), bits=4), ("flat",), (2,)),
        ("out", Integrate(whole(*LAST_BIAS), whole(*LAST_INITIAL)), ("last",), (2,)),
        **contract,
    )  # fmt: skip


def play(currents, threshold, bias, initial, reset_mode, delay):
    """One neuron in plain Python: (spikes, potentials after the reset, potentials before it)."""
    charges, spikes, after, before = [current + bias for current in currents], [], [], []
    potential = initial + sum(charges[:delay])
    for charge in [*charges[delay:], *[0] * delay]:
        potential += charge
        before.append(potential)
        spikes.append(int(potential >= threshold))
        if spikes[-1]:
            potential = potential - threshold if reset_mode == "subtraction" else 0
        after.append(potential)
    return spikes, after, before


def played(pixels, steps, delay, reset_mode):
    """The hand-made network in plain Python, by step: spikes, potentials of `fire`, potentials of `out`."""
    neurons = [
        play([CONV[c] * pixel] * steps, THRESHOLDS[c], BIASES[c], INITIALS[c], reset_mode, delay)
        for c in range(2)
        for pixel in pixels
    ]
    spikes, potentials = ([list(step) for step in zip(*(n[i] for n in neurons), strict=True)] for i in (0, 1))
    outs, potential = [], list(LAST_INITIAL)
    for step in spikes:
        for o in range(2):
            potential[o] += LAST_BIAS[o] + sum(w * s for w, s in zip(LAST[o], step, strict=True))
        outs.append(list(potential))
    return spikes, potentials, outs


def packed(folder, graph, *samples, **options):
    """The pack of a graph and samples, and its manifest."""
    place = write(graph, (record(graph, sample) for sample in samples), folder / "pack", **options)
    return place, json.loads((place / "manifest.json").read_text())


# Reading by hand -----------------------------------------------------------------------------------


def number(line, bits, encoding):
    """The value of one word, as docs/vector-pack.md defines it."""
    word = int(line, 16)
    if encoding == "bipolar":
        return {0: -1, 1: 1}[word]
    assert 0 <= word < 2**bits
    return word - 2**bits if encoding == "two's complement" and word >= 2 ** (bits - 1) else word


def memory(path, bits, encoding):
    """All values of a memory file."""
    return [number(line, bits, encoding) for line in path.read_text().splitlines()]


def fired(path, neurons):
    """All spikes of a file, a list a step: bit i from the right."""
    return [[int(line, 16) >> i & 1 for i in range(neurons)] for line in path.read_text().splitlines()]


def layer_of(manifest, name):
    """A layer's entry."""
    (layer,) = [layer for layer in manifest["layers"] if layer["name"] == name]
    return layer


# Words ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "bits", "values", "lines"),
    [
        ("two's complement", 1, (0, -1), "0 1"),
        ("two's complement", 2, (1, -1, -2), "1 3 2"),
        ("two's complement", 3, (3, -1, -4), "3 7 4"),
        ("two's complement", 4, (7, -1, -8, 0), "7 f 8 0"),
        ("two's complement", 5, (15, -1, -16, 1), "0f 1f 10 01"),
        ("two's complement", 8, (127, -1, -128, 10), "7f ff 80 0a"),
        ("two's complement", 9, (255, -1, -256), "0ff 1ff 100"),
        ("two's complement", 12, (-1, 2047), "fff 7ff"),
        ("two's complement", 13, (-1, -4096), "1fff 1000"),
        ("two's complement", 18, (-131072, 131071, -2), "20000 1ffff 3fffe"),
        ("two's complement", 20, (-524288, 0x12345), "80000 12345"),
        ("two's complement", 40, (-1, 0x123456789A), "ffffffffff 123456789a"),
        ("unsigned", 1, (0, 1), "0 1"),
        ("unsigned", 4, (15, 9), "f 9"),
        ("unsigned", 5, (31, 16), "1f 10"),
        ("unsigned", 8, (255, 128, 0), "ff 80 00"),
        ("unsigned", 17, (131071, 1), "1ffff 00001"),
        ("bipolar", 1, (-1, 1, 1), "0 1 1"),
    ],
)
def test_words_by_hand(encoding, bits, values, lines):
    """Fixed width, lower case, the most significant digit first, one a line."""
    assert words(np.array(values), bits, encoding).decode() == "".join(f"{line}\n" for line in lines.split())


@pytest.mark.parametrize("bits", range(1, 21))
@pytest.mark.parametrize("encoding", ["two's complement", "unsigned", "bipolar"])
def test_words_read_back(encoding, bits, tmp_path):
    """Every width, its extremes included: by `int(line, 16)`, and by the twin's reader."""
    lowest, highest = (
        (0, 2**bits - 1) if encoding == "unsigned" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    )
    values = np.random.default_rng(bits).integers(lowest, highest + 1, (5, 3))
    values[0, :2] = lowest, highest
    if encoding == "bipolar":
        bits, values = 1, np.random.default_rng(bits).integers(0, 2, (5, 3)) * 2 - 1
    (tmp_path / "x.mem").write_bytes(words(values, bits, encoding))
    lines = (tmp_path / "x.mem").read_text().splitlines()
    assert {len(line) for line in lines} == {digits(bits)} == {(bits + 3) // 4}
    assert [number(line, bits, encoding) for line in lines] == values.ravel().tolist()
    assert np.array_equal(replay.read_words(tmp_path, "x.mem", bits, encoding, (5, 3)), values)


@pytest.mark.parametrize(
    ("encoding", "bits", "value"),
    [
        ("two's complement", 4, 8),
        ("two's complement", 4, -9),
        ("unsigned", 4, 16),
        ("unsigned", 4, -1),
        ("bipolar", 1, 0),
        ("bipolar", 1, 2),
        ("bipolar", 1, -3),
    ],
)
def test_a_value_that_no_word_holds_is_never_written(encoding, bits, value):
    """Cut to its width it would be another number."""
    with pytest.raises(AssertionError):
        words(np.array([1, value]), bits, encoding)


@pytest.mark.parametrize(
    ("spikes", "line"),
    [
        ([1], "1"),
        ([1, 0, 0, 0], "1"),
        ([0, 0, 0, 1], "8"),
        ([1, 0, 0, 0, 0], "01"),
        ([0, 0, 0, 0, 1], "10"),
        ([1, 0, 1, 1, 0], "0d"),
        ([0, 1, 0, 0, 1, 1, 1, 1, 1], "1f2"),
    ],
)
def test_a_line_of_spikes_by_hand(spikes, line):
    """Bit i, the right-most is 0, is neuron i."""
    assert spike_lines(np.array([spikes])).decode() == f"{line}\n"


@pytest.mark.parametrize("neurons", [1, 3, 4, 5, 8, 17, 64])
def test_spikes_read_back(neurons, tmp_path):
    """By shifts of the whole line, and by the twin's reader."""
    spikes = np.random.default_rng(neurons).integers(0, 2, (6, neurons))
    (tmp_path / "x.mem").write_bytes(spike_lines(spikes))
    assert fired(tmp_path / "x.mem", neurons) == spikes.tolist()
    assert np.array_equal(replay.read_spikes(tmp_path, "x.mem", (6, neurons)), spikes)


# The hand-made network, from its files ---------------------------------------------------------------


@pytest.mark.parametrize(("delay", "reset_mode"), CONTRACTS)
def test_spikes_and_potentials_follow_the_neuron_equation(delay, reset_mode, tmp_path):
    """Every spike and potential, decoded by hand, is what plain Python makes of the stimulus."""
    graph = small(delay=delay, reset_mode=reset_mode, timesteps=6)
    folder, manifest = packed(tmp_path, graph, stimulus(*PIXELS, shape=(1, 2, 2)))
    pixels = memory(folder / "stimulus/one/in.mem", 8, "unsigned")
    assert pixels == list(PIXELS)
    spikes, potentials, outs = played(pixels, 6, delay, reset_mode)
    assert sum(map(sum, spikes)) > 0
    assert fired(folder / "expect/one/fire.spk.mem", 8) == spikes
    for name, wanted in (("fire", potentials), ("out", outs)):
        bits = layer_of(manifest, name)["potential"]["bits"]
        found = memory(folder / f"expect/one/{name}.vmem.mem", bits, "two's complement")
        assert found == [value for step in wanted for value in step]
    assert not (folder / "expect/one/out.spk.mem").exists()


@pytest.mark.parametrize(("delay", "reset_mode"), CONTRACTS)
def test_the_result_is_the_sum_over_all_steps(delay, reset_mode, tmp_path):
    """Label, prediction, and what the read-out holds in the end."""
    graph = small(delay=delay, reset_mode=reset_mode, timesteps=6)
    folder, manifest = packed(tmp_path, graph, stimulus(*PIXELS, shape=(1, 2, 2), label=1))
    *_, last = played(PIXELS, 6, delay, reset_mode)[2]
    result = json.loads((folder / manifest["samples"][0]["result"]).read_text())
    assert result == {"label": 1, "prediction": int(last[1] > last[0]), "outputs": {"out": last}}


def test_the_events_are_the_values_that_are_not_zero_at_every_step(tmp_path):
    """`t address value`, t from 1."""
    folder, _ = packed(tmp_path, small(timesteps=3), stimulus(*PIXELS, shape=(1, 2, 2)))
    events = (folder / "stimulus/one/in.aer").read_text().splitlines()
    assert events == [f"{t} {place} {PIXELS[place]}" for t in (1, 2, 3) for place in (0, 2, 3)]


def test_a_stimulus_of_zeros_has_no_events_and_a_signed_one_keeps_its_signs(tmp_path):
    """An empty file; negative numbers in words and in text."""
    graph = spiking(
        ("in", Input(1.0, -128, 127), (), (3,)),
        ("fire", IntegrateFire(whole(9), whole(0), whole(0)), ("in",), (3,)),
        timesteps=1,
    )
    folder, manifest = packed(tmp_path, graph, stimulus(0, 0, 0), stimulus(-128, 0, 127, name="two"))
    assert (folder / "stimulus/one/in.aer").read_bytes() == b""
    assert (folder / "stimulus/two/in.aer").read_text() == "1 0 -128\n1 2 127\n"
    assert (folder / "stimulus/two/in.mem").read_text() == "80\n00\n7f\n"
    entry = layer_of(manifest, "in")
    assert (entry["bits"], entry["encoding"], entry["unit"]) == (8, "two's complement", 1.0)


# Parameters ----------------------------------------------------------------------------------------


def codes(seed, bits, *shape):
    """Weights of so many bits; of one bit, signs."""
    generator = torch.Generator().manual_seed(seed)
    if bits == 1:
        return torch.randint(0, 2, shape, generator=generator) * 2 - 1
    largest = 2 ** (bits - 1) - 1
    return torch.randint(-largest, largest + 1, shape, generator=generator)


def of_every_parameter():
    """A network with every kind of parameter: synapses in 1, 2 and 3 axes, and values of each width."""
    two, grid = (0, 0), (1, 1)
    up = Conv(codes(4, 5, 4, 3, 2, 2), None, (2, 2), two, grid, 2, True, (1, 0), bits=5)
    deep = Conv(codes(5, 2, 2, 1, 2, 1, 3), None, (1, 1, 1), (0, 0, 1), (1, 1, 1), bits=2)
    threshold, initial = codes(6, 7, 6, 3, 3).abs() + 1, codes(7, 6, 6, 3, 3)
    return spiking(
        ("in", Input(1.0, -128, 127), (), (4, 4, 4)),
        ("conv", Conv(codes(1, 4, 3, 4, 3, 2), None, (1, 2), (0, 1), bits=4), ("in",), (3, 2, 3)),
        ("grouped", Conv(codes(2, 1, 6, 2, 2, 2), groups=2, bits=1), ("in",), (6, 3, 3)),
        ("line", Reshape(), ("in",), (4, 16)),
        ("conv1", Conv(codes(3, 3, 2, 4, 5), None, (3,), (0,), (1,), bits=3), ("line",), (2, 4)),
        ("up", up, ("in",), (6, 9, 8)),
        ("cube", Reshape(), ("in",), (1, 4, 4, 4)),
        ("deep", deep, ("cube",), (2, 3, 4, 4)),
        ("fire", IntegrateFire(threshold, codes(8, 5, 6, 1, 1), initial, 2), ("grouped",), (6, 3, 3)),
        ("scale", Scale(codes(9, 6, 6, 1, 1), bits=6), ("fire",), (6, 3, 3)),
        ("dense", Scale(codes(10, 1, 6, 3, 3), bits=1), ("fire",), (6, 3, 3)),
        ("one", Scale(whole(-3), bits=3), ("fire",), (6, 3, 3)),
        ("sum", Add((whole(64), codes(11, 8, 6, 1, 1), codes(12, 7, 6, 3, 3))), ("scale", "dense", "one"),
         (6, 3, 3)),
        ("picked", Gather(whole(53, -1, 0, -1).reshape(2, 2)), ("sum",), (2, 2)),
        ("linear", Linear(codes(13, 8, 3, 2), bits=8), ("picked",), (2, 3)),
        ("out", Integrate(codes(14, 5, 2, 3), codes(15, 4, 2, 1)), ("linear",), (2, 3)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    """Its pack: the graph, the folder, the manifest."""
    graph = of_every_parameter()
    sample = Sample("one", "real", "a test", {"in": codes(20, 8, 4, 4, 4)})
    return graph, *packed(tmp_path_factory.mktemp("every"), graph, sample)


def test_what_may_stand_in_the_way_is_known_before_a_pack_is_written(every):
    """The names that are looked for beforehand are those that a pack with every parameter has."""
    _, folder, _ = every
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == sorted(FOLDERS)
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == sorted(FILES)


@pytest.mark.parametrize(
    ("name", "layout", "formula"),
    [
        ("conv", "w[co][ci][ky][kx]", "((co*4 + ci)*3 + ky)*2 + kx"),
        ("grouped", "w[co][ci][ky][kx]", "((co*2 + ci)*2 + ky)*2 + kx"),
        ("conv1", "w[co][ci][kx]", "(co*4 + ci)*5 + kx"),
        ("up", "w[ci][co][ky][kx]", "((ci*3 + co)*2 + ky)*2 + kx"),
        ("deep", "w[co][ci][kz][ky][kx]", "(((co*1 + ci)*2 + kz)*1 + ky)*3 + kx"),
        ("linear", "w[o][i]", "o*2 + i"),
    ],
)
def test_every_weight_lies_where_the_formula_says(name, layout, formula, every):
    """The manifest's own formula, evaluated by Python for every place of the weight."""
    graph, folder, manifest = every
    entry = layer_of(manifest, name)["parameters"]["weight"]
    assert (entry["layout"], entry["index"]) == (layout, formula)
    weight, axes = graph[name].op.weight, re.findall(r"\[(\w+)\]", layout)
    found = memory(folder / entry["file"], entry["bits"], entry["encoding"])
    assert (entry["bits"], entry["words"]) == (graph[name].op.bits, weight.numel())
    for places in itertools.product(*map(range, weight.shape)):
        flat = eval(entry["index"], {}, dict(zip(axes, places, strict=True)))
        assert found[flat] == int(weight[places]), places


@pytest.mark.parametrize(
    ("name", "role", "per"),
    [
        ("fire", "threshold", "neuron"),
        ("fire", "bias", "channel"),
        ("fire", "initial", "neuron"),
        ("scale", "weight", "channel"),
        ("dense", "weight", "neuron"),
        ("one", "weight", "layer"),
        ("sum", "weight.0", "layer"),
        ("sum", "weight.1", "channel"),
        ("sum", "weight.2", "neuron"),
        ("out", "bias", "neuron"),
        ("out", "initial", "channel"),
    ],
)
def test_values_of_neurons_lie_by_layer_channel_or_neuron(name, role, per, every):
    """One word, word c, or word i: whatever the tensor's own shape."""
    graph, folder, manifest = every
    node, entry = graph[name], layer_of(manifest, name)["parameters"][role]
    field, _, place = role.partition(".")
    tensor = node.op.weights[int(place)] if place else getattr(node.op, field)
    assert entry["per"] == per
    found = memory(folder / entry["file"], entry["bits"], entry["encoding"])
    assert len(found) == {"layer": 1, "channel": node.shape[0], "neuron": np.prod(node.shape)}[per]
    for i, places in enumerate(np.ndindex(*node.shape)):
        word = {"layer": 0, "channel": places[0], "neuron": i}[per]
        assert found[word] == int(tensor.expand(node.shape)[places]), places


def test_a_gather_says_where_it_reads_and_minus_one_where_it_does_not(every):
    """Flat indices of its input."""
    _, folder, manifest = every
    entry = layer_of(manifest, "picked")["parameters"]["index"]
    assert (entry["file"], entry["bits"]) == ("index/picked.mem", 7)
    assert memory(folder / "index/picked.mem", 7, "two's complement") == [53, -1, 0, -1]


def test_a_layer_says_how_it_computes(every):
    """Geometry, sources, shapes, what it passes on at a step, its register."""
    _, _, manifest = every
    up = layer_of(manifest, "up")
    assert {name: up[name] for name in ("kind", "kernel", "stride", "padding", "dilation", "groups")} == {
        "kind": "conv_transpose", "kernel": [2, 2], "stride": [2, 2], "padding": [0, 0], "dilation": [1, 1],
        "groups": 2,
    }  # fmt: skip
    assert (up["output_padding"], up["inputs"], up["shape"]) == ([1, 0], ["in"], [6, 9, 8])
    assert (up["source"], up["spikes"]) == ("net.up", False)
    fire = layer_of(manifest, "fire")
    assert (fire["spikes"], fire["passes"]) == (True, {"lowest": 0, "highest": 1})
    assert fire["fraction_bits"] == 2
    one = layer_of(manifest, "one")
    assert one["passes"] == {"lowest": -3, "highest": 0}


def test_registers_hold_what_was_seen_and_what_is_proved(every):
    """`observed` is the range of the recorded potentials, within the bound, and that within the bits."""
    _, folder, manifest = every
    for name in ("fire", "out"):
        layer = layer_of(manifest, name)
        potential = layer["potential"]
        bits, seen, bound = potential["bits"], potential["observed"], potential["bound"]
        found = memory(folder / f"expect/one/{name}.vmem.mem", bits, "two's complement")
        assert (seen["lowest"], seen["highest"]) == (min(found), max(found))
        assert -(2 ** (bits - 1)) <= bound["lowest"] <= seen["lowest"]
        assert seen["highest"] <= bound["highest"] < 2 ** (bits - 1)
        assert bits <= manifest["widest_bits"]


def test_observed_potentials_need_not_contain_zero(tmp_path):
    """Those of a neuron that always keeps 5 are 5 to 5; over two samples both count."""
    graph = spiking(
        ("in", Input(1.0), (), (1,)),
        ("fire", IntegrateFire(whole(7), whole(0), whole(5)), ("in",), (1,)),
        timesteps=2,
    )
    _, manifest = packed(tmp_path, graph, stimulus(7, shape=(1,)))
    assert layer_of(manifest, "fire")["potential"]["observed"] == {"lowest": 5, "highest": 5}
    samples = [stimulus(value, shape=(1,), name=f"of_{value}") for value in (8, 1)]  # 6, 7 and 6, 0
    _, manifest = packed(tmp_path, graph, *samples)
    assert layer_of(manifest, "fire")["potential"]["observed"] == {"lowest": 0, "highest": 7}


def test_a_register_holds_what_it_is_compared_with_too(tmp_path):
    """A threshold that is out of reach is still a word of it: 5000 takes 14 bits, 3·255 would take 11."""
    graph = spiking(
        ("in", Input(1.0), (), (1,)),
        ("fire", IntegrateFire(whole(5000), whole(0), whole(0)), ("in",), (1,)),
        timesteps=3,
    )
    folder, manifest = packed(tmp_path, graph, stimulus(255, shape=(1,)))
    layer = layer_of(manifest, "fire")
    assert layer["potential"]["bound"] == {"lowest": 0, "highest": 765}
    assert layer["potential"]["bits"] == layer["parameters"]["threshold"]["bits"] == 14
    assert (folder / "threshold/fire.mem").read_text() == "1388\n"
    assert (folder / "expect/one/fire.vmem.mem").read_text() == "00ff\n01fe\n02fd\n"


@pytest.mark.parametrize(
    ("low", "high", "bits", "encoding"),
    [
        (0, 255, 8, "unsigned"),
        (0, 1, 1, "unsigned"),
        (0, 16, 5, "unsigned"),
        (-128, 127, 8, "two's complement"),
        (-1, 1, 2, "two's complement"),
        (-129, 0, 9, "two's complement"),
    ],
)
def test_an_input_has_as_few_bits_as_its_range_needs(low, high, bits, encoding):
    """Without a sign where there is none."""
    graph = spiking(("in", Input(1.0, low, high), (), (1,)), ("out", Integrate(), ("in",), (1,)))
    entry = describe(graph).layers[0]
    assert (entry["bits"], entry["encoding"]) == (bits, encoding)


@pytest.mark.parametrize("feeder", ["fire", "in"])
def test_max_pooling_has_one_rule_whatever_it_reads(feeder):
    """Of spikes and of currents: its windows are all that is said."""
    graph = spiking(
        ("in", Input(1.0), (), (1, 4)),
        ("fire", IntegrateFire(whole(9), whole(0), whole(0)), ("in",), (1, 4)),
        ("pool", MaxPool((2,), (2,), (0,), (1,)), (feeder,), (1, 2)),
        ("out", Integrate(), ("pool",), (1, 2)),
    )
    layer = describe(graph).layers[2]
    windows = {"kernel": [2], "stride": [2], "padding": [0], "dilation": [1]}
    about = ("name", "file_name", "source", "kind", "inputs", "shape", "spikes", "passes", "parameters")
    assert (layer["kind"], layer["spikes"]) == ("max_pool", feeder == "fire")
    assert {name: value for name, value in layer.items() if name not in about} == windows


# Manifest and archive ------------------------------------------------------------------------------


def test_the_manifest_lists_every_file_as_it_is(every):
    """Hash, bytes, words; nothing is there that it does not list."""
    _, folder, manifest = every
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert present == {"manifest.json", *manifest["files"]}
    for name, entry in manifest["files"].items():
        content = (folder / name).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["bytes"] == len(content)
        assert ("words" in entry) == name.endswith(".mem")
        if "words" in entry:
            lines = content.decode().splitlines()
            assert entry["words"] == len(lines)
            assert {len(line) for line in lines} == {-(-entry["word_bits"] // 4)}


def test_the_manifest_carries_its_own_hash(every):
    """As docs/vector-pack.md says how: without the field, sorted, without spaces."""
    _, _, manifest = every
    given = manifest.pop("manifest_sha256")
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    manifest["manifest_sha256"] = given
    assert given == hashlib.sha256(text.encode("utf-8")).hexdigest()


def test_the_archive_holds_the_same_numbers(every):
    """Every memory file as an array, in its own shape."""
    _, folder, manifest = every
    with np.load(folder / "pack.npz", allow_pickle=False) as archive:
        arrays = dict(archive)
    assert set(arrays) == {name.removesuffix(".mem") for name in manifest["files"] if name.endswith(".mem")}
    (source,) = [layer for layer in manifest["layers"] if layer["kind"] == "input"]
    stored = [(manifest["samples"][0]["stimulus"]["in"], source)]
    stored += [(e["file"], e) for layer in manifest["layers"] for e in layer["parameters"].values()]
    for file, entry in stored:
        array = arrays[file.removesuffix(".mem")]
        assert list(array.shape) == entry["shape"]
        assert array.ravel().tolist() == memory(folder / file, entry["bits"], entry["encoding"])
    for name, found in manifest["samples"][0]["expect"].items():
        layer = layer_of(manifest, name)
        potentials = arrays[found["potentials"].removesuffix(".mem")]
        assert list(potentials.shape) == [5, *layer["shape"]]
        wanted = memory(folder / found["potentials"], layer["potential"]["bits"], "two's complement")
        assert potentials.ravel().tolist() == wanted
        assert potentials.dtype == np.int32
        if "spikes" in found:
            spikes = arrays[found["spikes"].removesuffix(".mem")]
            assert spikes.dtype == np.uint8
            assert spikes.reshape(5, -1).tolist() == fired(folder / found["spikes"], np.prod(layer["shape"]))


def test_the_archive_is_written_sample_by_sample(tmp_path):
    """Memory is that of one sample, however many there are: the file grows while they are recorded."""
    sizes = []

    def recordings():
        for number in range(3):
            yield record(small(), stimulus(*PIXELS, shape=(1, 2, 2), name=f"s{number}"))
            sizes.extend(path.stat().st_size for path in tmp_path.rglob("pack.npz"))

    write(small(), recordings(), tmp_path / "pack")
    assert len(sizes) == 3
    assert sizes == sorted(set(sizes))


def test_the_manifest_says_what_the_pack_is_and_where_from(tmp_path):
    """Schema, origin, contract, samples, what is absent and why."""
    graph = small(timesteps=3, delay=2, reset_mode="zero")
    sample = Sample("noise", "corner", "anything", {"in": whole(*PIXELS).reshape(1, 2, 2)})
    absent, origin = (
        [Absent("tie", "there is none")],
        {"tool": "ann2snn 1", "network": "small", "dataset": "x"},
    )
    _, manifest = packed(tmp_path, graph, sample, absent=absent, origin=origin)
    assert manifest["schema"] == "ann2snn/pack/2"
    assert {name: manifest[name] for name in origin} == origin
    contract = {
        "timesteps": 3, "delay": 2, "reset_mode": "zero", "rounding": "potential", "comparator": ">=",
    }  # fmt: skip
    assert contract.items() <= manifest["contract"].items()
    assert "schedule" not in manifest["contract"]
    assert manifest["absent"] == [{"name": "tie", "reason": "there is none"}]
    assert manifest["outputs"] == ["out"]
    (entry,) = manifest["samples"]
    assert [entry[name] for name in ("name", "kind", "what", "label")] == [
        "noise",
        "corner",
        "anything",
        None,
    ]
    assert entry["expect"] == {
        "fire": {"spikes": "expect/noise/fire.spk.mem", "potentials": "expect/noise/fire.vmem.mem"},
        "out": {"potentials": "expect/noise/out.vmem.mem"},
    }


def test_an_output_says_what_its_sum_stands_for(tmp_path):
    """A unit of its own for each class: without it the sums of classes cannot be compared."""
    graph = spiking(("in", Input(1.0), (), (2,)), ("out", Integrate(), ("in",), (2,)), timesteps=1)
    units = torch.tensor([1.0, 0.001], dtype=torch.float64)
    graph = graph.with_nodes(replace(n, unit=units) if n.name == "out" else n for n in graph.nodes)
    folder, manifest = packed(tmp_path, graph, stimulus(10, 30))
    assert layer_of(manifest, "out")["unit"] == [1.0, 0.001]
    result = json.loads((folder / "expect/one/result.json").read_text())
    assert result == {"label": None, "prediction": 0, "outputs": {"out": [10, 30]}}  # 10 and 0.03


def test_one_unit_of_all_outputs_is_one_number(tmp_path):
    """The usual case; layers inside have none."""
    _, manifest = packed(tmp_path, small())
    assert layer_of(manifest, "out")["unit"] == 1.0
    assert "unit" not in layer_of(manifest, "fire")


# Names ---------------------------------------------------------------------------------------------


def names_of(*names):
    """The file names of layers that are called so; each is a population behind the input."""
    nodes = [("in", Input(1.0), (), (1,))]
    nodes += [(name, IntegrateFire(whole(1), whole(0), whole(0)), ("in",), (1,)) for name in names]
    return [layer["file_name"] for layer in describe(spiking(*nodes)).layers[1:]]


def test_file_names_are_safe_and_their_own():
    """Letters that file systems refuse are replaced; no two layers share a name, not even in capitals."""
    assert names_of("layer1.0-conv_a", "a/b c", "été") == ["layer1.0-conv_a", "a_b_c", "_t_"]
    assert names_of("a b", "a/b", "a_b") == ["a_b", "a_b_", "a_b__"]
    assert names_of("conv", "Conv", "CONV_") == ["conv", "Conv_", "CONV__"]


@pytest.mark.parametrize("first", ["add", "add.0"])
def test_an_add_and_a_layer_within_it_have_files_of_their_own(first, tmp_path):
    """A module `add` holds a layer `add.0`, an addition is called `add`: both would be weights/add.0.mem."""
    nodes = [
        ("add", Add((whole(5), whole(6))), ("in", "in"), (2,)),
        ("add.0", Linear(codes(1, 4, 2, 2), bits=4), ("in",), (2,)),
    ]
    graph = spiking(
        ("in", Input(1.0), (), (2,)),
        *(nodes if first == "add" else nodes[::-1]),
        ("cat", Concat(), ("add", "add.0"), (4,)),
        ("out", Integrate(), ("cat",), (4,)),
    )
    folder, manifest = packed(tmp_path, graph, stimulus(1, 2))
    entries = [e for layer in manifest["layers"] for e in layer["parameters"].values()]
    assert len({entry["file"] for entry in entries}) == len(entries) == 3
    add, linear = (layer_of(manifest, name)["parameters"] for name in ("add", "add.0"))
    assert memory(folder / add["weight.0"]["file"], 4, "two's complement") == [5]
    weight = memory(folder / linear["weight"]["file"], 4, "two's complement")
    assert weight == graph["add.0"].op.weight.flatten().tolist()


# The README of a pack --------------------------------------------------------------------------------


def check_weight_by_hand(text, folder, graph):
    """Follow the README to a weight: formula, line, word, value; gives how its layer is called."""
    found = re.search(
        r"layer `(?P<layer>[^`]+)` with (?P<places>[^:]+): its index is (?P<formula>.+?) = (?P<flat>\d+), "
        r"so it is in line (?P<line>\d+) of `(?P<file>[^`]+)`\. There stands `(?P<word>\w+)`, "
        r"a (?P<encoding>[\w' ]+) word of (?P<bits>\d+) bits?: (?P<value>-?\d+)\.",
        text,
    )
    places = {n: int(p) for n, p in (each.split("=") for each in found["places"].split(", "))}
    assert eval(found["formula"], {}, places) == int(found["flat"]) == int(found["line"]) - 1
    assert (folder / found["file"]).read_text().splitlines()[int(found["line"]) - 1] == found["word"]
    assert number(found["word"], int(found["bits"]), found["encoding"]) == int(found["value"])
    assert int(graph[found["layer"]].op.weight[tuple(places.values())]) == int(found["value"])
    return found["layer"], int(found["value"])


def check_spike_by_hand(text, folder, recordings):
    """Follow the README to a spike: sample, layer, neuron, step, line, digit, bit."""
    found = re.search(
        r"Sample `(?P<sample>[^`]+)`, layer `(?P<layer>[^`]+)`, neuron \[(?P<place>[\d, ]*)\]: "
        r"its flat index is (?P<flat>\d+)\. "
        r"Step (?P<step>\d+) is line (?P<line>\d+) of `(?P<file>[^`]+)`, (?P<length>\d+) digits\. "
        r"Bit (?P<bit>\d+) is bit (?P<low>\d) of digit (?P<digit>\d+) from the right "
        r"\(0 is the right-most\)\. That digit is `(?P<word>\w)`, so the bit is 1: it fires\.",
        text,
    )
    line = (folder / found["file"]).read_text().splitlines()[int(found["line"]) - 1]
    assert len(line) == int(found["length"])
    assert line[::-1][int(found["digit"])] == found["word"]
    assert int(found["word"], 16) >> int(found["low"]) & 1
    assert int(found["bit"]) == int(found["flat"]) == 4 * int(found["digit"]) + int(found["low"])
    spikes = recordings[found["sample"]].spikes[found["layer"]]
    place = tuple(int(p) for p in found["place"].split(", ") if p)
    assert np.ravel_multi_index((0, *place), (1, *spikes.shape[1:])) == int(found["flat"])
    assert found["step"] == found["line"]
    assert spikes[(int(found["step"]) - 1, *place)] == 1


def fully_connected():
    """Linear layers alone, and signs as weights; it has a scale first, which no formula addresses."""
    return spiking(
        ("in", Input(1.0), (), (5,)),
        ("scale", Scale(whole(2), bits=3), ("in",), (5,)),
        ("fc", Linear(codes(3, 1, 9, 5), bits=1), ("scale",), (9,)),
        ("fire", IntegrateFire(whole(400), whole(0), whole(200)), ("fc",), (9,)),
        ("out", Integrate(), ("fire",), (9,)),
    )


@pytest.mark.parametrize("network", [small, of_every_parameter, fully_connected])
def test_the_weight_and_the_spike_of_the_readme_are_there(network, tmp_path):
    """Word by word: what it says can be found, in the file, at the line, with the value."""
    graph = network()
    node = graph.inputs[0]
    samples = [
        Sample("nothing", "real", "zeros", {node.name: torch.zeros(node.shape, dtype=torch.int64)}),
        Sample("noise", "real", "noise", {node.name: codes(7, 8, *node.shape).abs()}),
    ]
    recordings = {sample.name: record(graph, sample) for sample in samples}
    folder = write(graph, recordings.values(), tmp_path / "pack")
    text = (folder / "README.md").read_text()
    layer, value = check_weight_by_hand(text, folder, graph)
    check_spike_by_hand(text, folder, recordings)
    assert layer == {small: "conv", of_every_parameter: "conv", fully_connected: "fc"}[network]
    assert value < 0, "an example without a sign shows less"


def test_the_readme_says_what_is_in_the_pack(tmp_path):
    """Samples, what is absent, what was recorded; without weights or spikes, nothing of them."""
    graph = spiking(
        ("in", Input(1.0), (), (2,)),
        ("fire", IntegrateFire(whole(900), whole(0), whole(0)), ("in",), (2,)),
        timesteps=3,
    )
    absent, extent = [Absent("tie", "there is none")], Extent(steps=2, potentials=False)
    origin = {"network": "net", "tool": "ann2snn 1"}
    folder, _ = packed(tmp_path, graph, stimulus(1, 2), absent=absent, extent=extent, origin=origin)
    text = (folder / "README.md").read_text()
    assert text.startswith("# Vector pack of net\n\nWritten by ann2snn 1. 3 steps, reset by subtraction")
    assert "| one | a test |\n| tie | absent: there is none |" in text
    assert "the first 2 steps, without potentials, layers fire." in text
    assert "by hand" not in text


# Extent --------------------------------------------------------------------------------------------


def three_populations():
    """Two calls of one module, and a read-out."""
    fire = IntegrateFire(whole(3), whole(0), whole(0))
    graph = spiking(
        ("in", Input(1.0), (), (2,)),
        ("a", fire, ("in",), (2,)),
        ("b", fire, ("a",), (2,)),
        ("c", fire, ("b",), (2,)),
        ("out", Integrate(), ("c",), (2,)),
        timesteps=4,
    )
    sources = {"a": "relu", "b": "relu", "c": "last", "out": "last"}
    return graph.with_nodes(replace(node, source=sources.get(node.name, "")) for node in graph.nodes)


@pytest.mark.parametrize(
    ("named", "recorded"),
    [
        ((), ["a", "b", "c", "out"]),
        (("b",), ["b"]),
        (("relu",), ["a", "b"]),
        (("last", "a"), ["a", "c", "out"]),
    ],
)
def test_layers_limit_what_is_recorded(named, recorded, tmp_path):
    """By the layer's name, or by the module's, which may be several; results stay."""
    folder, manifest = packed(tmp_path, three_populations(), stimulus(9, 1), extent=Extent(layers=named))
    assert manifest["recorded"] == {"steps": 4, "potentials": True, "layers": recorded}
    assert list(manifest["samples"][0]["expect"]) == recorded
    present = {path.name.split(".")[0] for path in (folder / "expect/one").glob("*.mem")}
    assert present == set(recorded)
    seen = [layer["name"] for layer in manifest["layers"] if "observed" in layer.get("potential", {})]
    assert seen == recorded
    assert list(json.loads((folder / "expect/one/result.json").read_text())["outputs"]) == ["out"]


def test_an_unknown_layer_is_refused_with_those_there_are(tmp_path):
    """All that are unknown, before anything is written."""
    with pytest.raises(UsageError, match="no neurons called x, in") as raised:
        packed(tmp_path, three_populations(), extent=Extent(layers=("a", "x", "in")))
    assert raised.value.remedy == "name one of: a, b, c, out"
    assert list(tmp_path.iterdir()) == []


def test_steps_limit_what_is_recorded_and_not_what_is_computed(tmp_path):
    """The first two of four; results are those of all. More than there are is refused."""
    folder, manifest = packed(tmp_path, three_populations(), stimulus(9, 1), extent=Extent(steps=2))
    whole_folder, _ = packed(tmp_path / "whole", three_populations(), stimulus(9, 1))
    assert manifest["recorded"]["steps"] == 2
    for file in ("a.spk.mem", "a.vmem.mem", "out.vmem.mem"):
        parts = [(place / "expect/one" / file).read_text().splitlines() for place in (folder, whole_folder)]
        assert parts[0] == parts[1][: len(parts[1]) // 2]
    results = [(place / "expect/one/result.json").read_text() for place in (folder, whole_folder)]
    assert results[0] == results[1]
    with pytest.raises(UsageError, match="99 steps cannot be recorded: the SNN has 4"):
        packed(tmp_path / "more", three_populations(), extent=Extent(steps=99))


@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps_are_refused(steps, tmp_path):
    """An expectation of nothing proves nothing."""
    with pytest.raises(UsageError, match="cannot be recorded") as raised:
        packed(tmp_path, three_populations(), extent=Extent(steps=steps))
    assert raised.value.remedy == "record 1 to 4"


def test_potentials_may_be_left_out(tmp_path):
    """Spikes alone; a read-out, which has none, then has no file."""
    folder, manifest = packed(tmp_path, three_populations(), stimulus(9, 1), extent=Extent(potentials=False))
    assert manifest["samples"][0]["expect"]["out"] == {}
    assert list(manifest["samples"][0]["expect"]["a"]) == ["spikes"]
    assert not list(folder.rglob("*.vmem.mem"))


# Corner samples --------------------------------------------------------------------------------------


def behind_a_convolution(seed, low=0, high=255, **contract):
    """input 2x3x4 -> conv -> neurons with biases and fraction bits, drawn by a seed."""
    generator = torch.Generator().manual_seed(seed)

    def draw(first, last, *shape):
        return torch.randint(first, last + 1, shape, generator=generator)

    threshold = draw(300, 4000, 3, 1, 1)
    fire = IntegrateFire(threshold, draw(-40, 40, 3, 1, 1), threshold // 2 + draw(0, 4, 3, 1, 1), seed % 3)
    return spiking(
        ("in", Input(1.0, low, high), (), (2, 3, 4)),
        ("conv", Conv(draw(-7, 7, 3, 2, 3, 3), None, (1, 1), (1, 1), bits=4), ("in",), (3, 3, 4)),
        ("fire", fire, ("conv",), (3, 3, 4)),
        ("out", Integrate(), ("fire",), (3, 3, 4)),
        **contract,
    )


def corners(graph):
    """The corner samples by name; and the reasons of those that are absent."""
    found = list(corner_samples(graph))
    samples = {each.name: each for each in found if isinstance(each, Sample)}
    return samples, {each.name: each.reason for each in found if isinstance(each, Absent)}


def drives(graph, x):
    """What a convolution brings to its neurons, [samples, neurons], by torch's own."""
    op = graph["conv"].op
    return F.conv2d(x.double(), op.weight.double(), None, op.stride, op.padding, op.dilation).flatten(1)


@pytest.mark.parametrize(("low", "high"), [(0, 255), (-128, 127)])
def test_the_patterns_are_what_they_say(low, high):
    """All zeros, all highest, lowest and highest in turn, one value, noise over the whole range."""
    samples, _ = corners(behind_a_convolution(1, low, high))
    assert not samples["zeros"].stimulus["in"].any()
    assert bool((samples["max"].stimulus["in"] == high).all())
    checkerboard = samples["checkerboard"].stimulus["in"]
    for c, y, x in np.ndindex(2, 3, 4):
        assert int(checkerboard[c, y, x]) == (high if (c + y + x) % 2 else low)
    pixel = samples["pixel"].stimulus["in"]
    assert pixel.nonzero().tolist() == [[0, 1, 2]]
    assert int(pixel.max()) == high
    noise = samples["noise"].stimulus["in"]
    assert low <= int(noise.min()) < low + 40
    assert high - 40 < int(noise.max()) <= high
    assert torch.equal(noise, corners(behind_a_convolution(2, low, high))[0]["noise"].stimulus["in"])
    for sample in samples.values():
        assert sample.stimulus["in"].dtype == torch.int64
        assert tuple(sample.stimulus["in"].shape) == (2, 3, 4)
        assert (sample.kind, sample.label) == ("corner", None)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("low", "high"), [(0, 255), (-128, 127)])
def test_the_strongest_drives_are_never_exceeded(low, high, seed):
    """No random stimulus drives the named neuron further; it is what its weights allow, and no other more."""
    graph = behind_a_convolution(seed, low, high)
    samples, _ = corners(graph)
    positive, negative = samples["drive_positive"], samples["drive_negative"]
    neuron = int(re.search(r"of neuron (\d+) of fire$", positive.what)[1])
    assert negative.what == f"the largest negative drive of neuron {neuron} of fire"
    noise = torch.randint(low, high + 1, (300, 2, 3, 4), generator=torch.Generator().manual_seed(seed))
    tried = drives(graph, noise)[:, neuron]
    most = drives(graph, positive.stimulus["in"][None])[0, neuron]
    least = drives(graph, negative.stimulus["in"][None])[0, neuron]
    assert most > tried.max()
    assert least < tried.min()
    middles = [channel * 12 + 1 * 4 + 2 for channel in range(3)]
    weights = graph["conv"].op.weight.double().flatten(1)
    limits = [w.clamp(min=0).sum() * high + w.clamp(max=0).sum() * low for w in weights]  # inner neurons
    assert neuron == middles[int(torch.stack(limits).argmax())]
    assert most == max(limits)


@pytest.mark.parametrize("reset_mode", RESETS)
@pytest.mark.parametrize("delay", [0, 1, 2])
def test_a_tie_is_one(delay, reset_mode):
    """Before a reset the potential equals the threshold: there `>=` and `>` differ."""
    ties = 0
    for seed in range(8):
        graph = behind_a_convolution(seed, delay=delay, reset_mode=reset_mode, timesteps=2)
        samples, absent = corners(graph)
        assert ("tie" in samples) != ("tie" in absent)
        if "tie" in samples:
            assert check_tie(graph, samples["tie"]), seed
            ties += 1
    assert ties >= 3


def check_tie(graph, sample):
    """Does the neuron that the sample names meet its threshold, in plain Python?"""
    neuron = int(re.match(r"neuron (\d+) of fire reaches its threshold exactly$", sample.what)[1])
    op, shape = graph["fire"].op, graph["fire"].shape
    threshold, bias, initial = (
        int(each.expand(shape).flatten()[neuron]) for each in (op.threshold, op.bias, op.initial)
    )
    source = graph["in"].op
    x = sample.stimulus["in"]
    assert source.low <= int(x.min())
    assert int(x.max()) <= source.high
    drive = int(drives(graph, x[None])[0, neuron]) << op.fraction_bits
    timing = graph.timing
    steps = [drive] * timing.timesteps
    before = play(steps, threshold, bias, initial, timing.reset_mode, timing.delay)[2]
    return threshold in before


def one_neuron(threshold, bias, initial, **contract):
    """input -> conv of the weight 1 -> one neuron."""
    return spiking(
        ("in", Input(1.0), (), (1, 1, 1)),
        ("conv", Conv(whole(1).reshape(1, 1, 1, 1), bits=2), ("in",), (1, 1, 1)),
        ("fire", IntegrateFire(whole(threshold), whole(bias), whole(initial)), ("conv",), (1, 1, 1)),
        **contract,
    )


def test_with_the_whole_input_in_only_subtraction_comes_from_a_multiple_to_the_threshold():
    """T = 2 and an odd threshold: V = 2θ can be met, V = θ cannot; a reset to zero never passes θ then."""
    graph = one_neuron(5, 0, 0, timesteps=2, delay=2, reset_mode="subtraction")
    samples, _ = corners(graph)
    assert samples["tie"].stimulus["in"].flatten().tolist() == [5]
    assert check_tie(graph, samples["tie"])
    _, absent = corners(one_neuron(5, 0, 0, timesteps=2, delay=2, reset_mode="zero"))
    assert "no stimulus was found" in absent["tie"]


@pytest.mark.parametrize("reset_mode", ["subtraction", "zero"])
def test_a_potential_that_falls_to_the_threshold_has_fired_before(reset_mode):
    """V = 10, 8, 6, 4 would meet θ = 4 at the third step, had it not fired at the first."""
    _, absent = corners(one_neuron(4, -3, 10, timesteps=3, reset_mode=reset_mode))
    assert "tie" in absent
    assert "tie" in corners(one_neuron(4, -3, 6, timesteps=3, reset_mode=reset_mode))[0]  # 6 + 1 - 3 at once


@pytest.mark.parametrize(
    "first",
    [
        [("out", Integrate(), ("in",), (1, 2, 2))],
        [("pool", MaxPool((2, 2), (2, 2), (0, 0), (1, 1)), ("in",), (1, 1, 1)),
         ("fire", IntegrateFire(whole(3), whole(0), whole(0)), ("pool",), (1, 1, 1))],
        [("bias", Integrate(whole(3)), ("in",), (1, 2, 2)),
         ("fire", IntegrateFire(whole(3), whole(0), whole(0)), ("bias",), (1, 2, 2))],
    ],
)  # fmt: skip
def test_without_a_population_behind_the_input_drives_and_ties_are_absent_with_a_reason(first):
    """No population at all, one behind max pooling, one behind a bias."""
    samples, absent = corners(spiking(("in", Input(1.0), (), (1, 2, 2)), *first))
    assert list(samples) == ["zeros", "max", "checkerboard", "pixel", "noise"]
    reason = "no population reads the input through linear layers alone"
    assert absent == dict.fromkeys(("drive_positive", "drive_negative", "tie"), reason)


# What cannot be written ------------------------------------------------------------------------------


def test_real_numbers_are_refused_with_the_names_of_all_layers():
    """Opaque nodes and what they feed, until a population."""
    graph = spiking(
        ("in", Input(1.0), (), (2,)),
        ("gelu", Opaque("aten.gelu.default", (Ref(0),)), ("in",), (2,)),
        ("fc", Linear(codes(1, 4, 2, 2), bits=4), ("gelu",), (2,)),
        ("fire", IntegrateFire(whole(3), whole(0), whole(0)), ("fc",), (2,)),
        ("tanh", Opaque("aten.tanh.default", (Ref(0),)), ("fire",), (2,)),
    )
    with pytest.raises(UnsupportedNetwork, match="real numbers are left in 3 layers") as raised:
        describe(graph)
    assert raised.value.where == "net.gelu, net.fc, net.tanh"
    assert "replace these operators" in raised.value.remedy


def test_float_weights_are_refused_with_the_names_of_all_layers():
    """32 bits: no quantization, so no words."""
    graph = small()
    ops = {
        name: replace(graph[name].op, weight=graph[name].op.weight / 3, bits=32) for name in ("conv", "last")
    }
    with pytest.raises(UnsupportedNetwork, match="real numbers are left in 2 layers") as raised:
        describe(graph.with_ops(ops))
    assert raised.value.where == "net.conv, net.last"
    assert "weight_bitwidth of 1 to 8" in str(raised.value)


def test_a_layer_without_axes_is_written(tmp_path):
    """One number a sample, as `squeeze` leaves it: one neuron, one word a step."""
    graph = spiking(
        ("in", Input(1.0), (), (1,)),
        ("squeezed", Reshape(), ("in",), ()),
        ("fire", IntegrateFire(whole(4), whole(1), whole(0)), ("squeezed",), ()),
        ("out", Integrate(whole(2), whole(3)), ("fire",), ()),
        timesteps=3,
    )
    folder, manifest = packed(tmp_path, graph, stimulus(1, shape=(1,)))
    assert layer_of(manifest, "fire")["parameters"]["threshold"]["per"] == "layer"
    assert (folder / "expect/one/fire.spk.mem").read_text() == "0\n1\n0\n"
    assert memory(folder / "expect/one/out.vmem.mem", layer_of(manifest, "out")["potential"]["bits"],
                  "two's complement") == [5, 8, 10]  # fmt: skip
    check_spike_by_hand(
        (folder / "README.md").read_text(), folder, {"one": record(graph, stimulus(1, shape=(1,)))}
    )


# The folder ----------------------------------------------------------------------------------------


def everything(folder):
    """All files by name, and what is in them."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def pixels(name="one"):
    """The stimulus of the hand-made network."""
    return stimulus(*PIXELS, shape=(1, 2, 2), name=name)


def test_the_same_pack_gives_the_same_bytes(tmp_path):
    """Archives hold no time of day, the manifest no order of chance."""
    one, _ = packed(tmp_path / "a", small(), pixels())
    other, _ = packed(tmp_path / "b", small(), pixels())
    assert len(everything(one)) == 17
    assert everything(one) == everything(other)


def test_an_earlier_pack_is_replaced_whole(tmp_path):
    """No file of the old one stays; one that a user put there does."""
    folder, _ = packed(tmp_path, small(), pixels(), pixels("two"))
    (folder / "rtl_log.csv").write_text("mine")
    packed(tmp_path, small(), pixels("two"))
    assert (folder / "rtl_log.csv").read_text() == "mine"
    assert [path.name for path in (folder / "expect").iterdir()] == ["two"]
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]


def test_a_foreign_folder_is_refused_unless_told(tmp_path):
    """A folder without our manifest, or with somebody else's."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/manifest.json").write_text('{"schema": "theirs/1"}')
    with pytest.raises(BadFile, match="that ann2snn did not write"):
        packed(tmp_path, small(), pixels())
    assert everything(tmp_path) == {"pack/manifest.json": b'{"schema": "theirs/1"}'}
    folder, _ = packed(tmp_path, small(), pixels(), overwrite=True)
    assert files.is_our_folder(folder)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("at", [1, 9, 16])
def test_a_write_that_fails_leaves_the_old_pack_and_nothing_else(at, error, tmp_path, monkeypatch):
    """The disk is full, or somebody stops it, at the first file, in the middle, at the manifest."""
    folder, _ = packed(tmp_path, small(), pixels())
    before, original, calls = everything(tmp_path), Path.write_bytes, []

    def failing(path, content):
        calls.append(path)
        if len(calls) == at:
            raise error
        return original(path, content)

    monkeypatch.setattr(Path, "write_bytes", failing)
    with pytest.raises(type(error)):
        packed(tmp_path, small(timesteps=7), pixels())
    assert len(calls) == at
    assert everything(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]
    assert json.loads((folder / "manifest.json").read_text())["contract"]["timesteps"] == 5


def test_the_manifest_is_written_last(tmp_path, monkeypatch):
    """A folder that has one is whole."""
    original, written = Path.write_bytes, []
    monkeypatch.setattr(
        Path, "write_bytes", lambda path, content: written.append(path.name) or original(path, content)
    )
    folder, _ = packed(tmp_path, small(), pixels())
    of_pack = [name for name in written if any(folder.rglob(name))]
    assert of_pack.index("manifest.json") == len(of_pack) - 1


def test_programs_are_written_and_listed(tmp_path):
    """What replays the pack in another language sees the parameters written, and has a folder of its own."""

    def sources(pack):
        assert (pack.folder / "weights/conv.mem").is_file()
        return {"main.x": f"{pack.network.steps} {pack.manifest['widest_bits']}"}

    folder, manifest = packed(tmp_path, small(), pixels(), programs={"x": sources})
    text = f"5 {manifest['widest_bits']}".encode()
    assert (folder / "x/main.x").read_bytes() == text
    assert manifest["files"]["x/main.x"] == {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)}
