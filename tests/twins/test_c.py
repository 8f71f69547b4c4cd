"""The C99 twin computes what torch computes, in every kind of layer, and finds what numpy finds."""

import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import replace
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
from ann2snn_cli.twins import c, programs, replay
from ann2snn_cli.twins.c_tables import KINDS
from ann2snn_cli.twins.replay import Damaged, Difference, Outcome
from ann2snn_cli.twins.report import parse
from ann2snn_cli.workflows.pack import write_samples

compiled = pytest.mark.skipif(bool(c.unavailable()), reason=c.unavailable() or "there is one")

STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
SANITIZED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
CONTRACTS = [  # delay and reset
    *((delay, "subtraction") for delay in (0, 1, 3, 6)),
    *((delay, "zero") for delay in (0, 3, 6)),
]
ONE = torch.tensor(1.0, dtype=torch.float64)


# A network with every kind of layer -----------------------------------------------------------------


def integers(low, high, *shape):
    """Integers drawn by torch's generator."""
    return torch.randint(low, high + 1, shape)


def conv(*shape, **geometry):
    """A convolution with 4-bit weights."""
    return Conv(integers(-7, 7, *shape), bits=4, step=ONE, **geometry)


def up(*shape, **geometry):
    """A transposed one."""
    return conv(*shape, transposed=True, **geometry)


def signs(*shape):
    """1-bit weights."""
    return integers(0, 1, *shape) * 2 - 1


def kinds():
    """(name, shape of what comes in, op): every kind of layer, in 1, 2 and 3 spatial axes."""
    return [
        ("conv1", (4, 9), conv(6, 2, 3, stride=(2,), padding=(2,), dilation=(2,), groups=2)),
        ("conv2", (2, 6, 3), conv(3, 2, 2, 3, stride=(2, 1), padding=(1, 0), dilation=(2, 1))),
        ("conv3", (2, 2, 3, 3), conv(3, 2, 2, 1, 2, stride=(1, 2, 1), padding=(1, 0, 1), dilation=(2, 1, 1))),
        ("depthwise", (4, 3, 3), conv(4, 1, 3, 3, stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=4)),
        ("signs", (4, 3, 3), Conv(signs(2, 4, 2, 2), bits=1, step=ONE)),
        ("up1", (4, 9), up(4, 3, 2, stride=(3,), padding=(1,), dilation=(2,), groups=2, output_padding=(1,))),
        ("up2", (2, 6, 3), up(2, 3, 3, 2, stride=(2, 3), padding=(1, 0), dilation=(1, 2),
                              output_padding=(1, 0))),
        ("up3", (2, 2, 3, 3), up(2, 2, 2, 1, 2, stride=(2, 1, 2), padding=(0, 0, 1), dilation=(1,) * 3,
                                 output_padding=(1, 0, 0))),
        ("linear", (2, 3, 5), Linear(integers(-7, 7, 4, 5), bits=4, step=ONE)),
        ("scale", (3, 4), Scale(integers(-3, 3, 3, 1), bits=3, step=ONE)),
        ("flip", (3, 4), Scale(signs(3, 4), bits=1, step=ONE)),
        ("sum1", (3, 8), AvgPool((3,), (2,), (1,))),
        ("sum2", (2, 6, 3), AvgPool((3, 2), (2, 1), (1, 1))),
        ("sum3", (2, 2, 3, 3), AvgPool((2, 2, 2), (1, 1, 1), (0, 1, 0))),
        ("max1", (3, 8), MaxPool((3,), (2,), (1,), (1,))),
        ("max2", (2, 6, 6), MaxPool((2, 3), (1, 2), (1, 1), (2, 1))),
        ("ceiled", (2, 6, 6), MaxPool((3, 3), (2, 2), (0, 0), (1, 1), ceil_mode=True)),
        ("max3", (2, 2, 3, 3), MaxPool((2, 2, 2), (1, 1, 1), (1, 0, 1), (1, 1, 1))),
        ("permute", (2, 3, 4), Permute((2, 0, 1))),
        ("gather", (2, 3, 4), Gather(integers(-1, 23, 4, 5))),
        ("reshape", (2, 3, 4), Reshape()),
    ]  # fmt: skip


class Zoo:
    """A graph in the making."""

    def __init__(self):
        self.nodes = {"x": Node("x", Input(1.0, -8, 7), (), (36,), unit=ONE)}

    def add(self, name, op, *inputs, shape=None):
        """A node; its shape is what torch makes of the shapes of its inputs."""
        xs = [torch.zeros(1, *self.nodes[each].shape, dtype=torch.float64) for each in inputs]
        if shape is None:
            made = op.real(xs, ()) if isinstance(op, MaxPool) else op.linear(xs, ())
            shape = tuple(made.shape[1:])
        self.nodes[name] = Node(name, op, inputs, shape, unit=ONE)
        return name

    def population(self, name, source, per="neuron", fraction_bits=0):
        """Neurons with parameters of their own, of a channel, or all alike."""
        shape = self.nodes[source].shape
        axes = {"neuron": shape, "channel": (shape[0], *[1] * (len(shape) - 1)), "layer": ()}[per]
        threshold = integers(2, 9, *axes) * 2**fraction_bits
        op = IntegrateFire(threshold, integers(-2, 3, *axes), integers(-3, 4, *axes), fraction_bits)
        return self.add(name, op, source, shape=shape)


def zoo(delay, reset_mode):
    """Every kind of layer, fed with spikes and with currents, between populations."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = Zoo()
        for place, (name, shape, op) in enumerate(kinds()):
            currents = made.add(f"{name}.x", Gather(integers(0, 35, *shape)), "x", shape=shape)
            made.population(f"{name}.in", currents, ("neuron", "channel", "layer")[place % 3])
            out = {"gather": (4, 5), "reshape": (6, 4)}.get(name)
            made.add(f"{name}.spikes", op, f"{name}.in", shape=out)
            made.population(
                f"{name}.out", f"{name}.spikes", ("layer", "neuron", "channel")[place % 3], place % 4
            )
            made.add(f"{name}.currents", op, currents, shape=out)
            made.population(f"{name}.far", f"{name}.currents", "channel", 1)
        shape = made.nodes["linear.in"].shape
        multipliers = (integers(-3, 3), integers(-3, 3, 2, 1, 1), integers(-3, 3, *shape))
        made.add("add", Add(multipliers), "linear.in", "linear.x", "linear.in", shape=shape)
        made.add("concat", Concat(), "permute.in", "reshape.in")
        made.population("counts", "concat")
        made.add("sums", Integrate(integers(-4, 4, 2, 1, 1), integers(-4, 4, *shape)), "add", shape=shape)
        made.add("plain", Integrate(), "add", shape=shape)
    contract = Contract(6, Reset(reset_mode), delay)
    return Graph(tuple(made.nodes.values()), ("plain", "counts", "sums"), Level.SPIKING, contract)


def packed(graph, folder, samples=3, **options):
    """A pack of a graph with samples drawn evenly: a0, a1, ..."""
    (node,) = graph.inputs
    draw = torch.Generator().manual_seed(2)
    stimuli = [
        torch.randint(node.op.low, node.op.high + 1, node.shape, generator=draw) for _ in range(samples)
    ]
    chosen = [
        Sample(f"a{place}", "real", "drawn", {node.name: stimulus}) for place, stimulus in enumerate(stimuli)
    ]
    return replay.read(write_samples(graph, chosen, folder, **options))


def names(pack):
    """Of all samples."""
    return [sample["name"] for sample in pack.manifest["samples"]]


def build(pack, folder, *flags):
    """The program, compiled by hand."""
    folder.mkdir()
    for name, text in c.sources(pack).items():
        (folder / name).write_text(text, encoding="utf-8")
    inputs = [str(path) for path in sorted(folder.glob("*.c"))]
    subprocess.run(
        [*programs.c_compiler(), *STRICT, *flags, "-o", str(folder / "replay"), *inputs], check=True
    )
    return folder / "replay"


def run(program, folder, *samples):
    """What it does on a pack."""
    return subprocess.run([program, folder, *samples], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """The zoo, without delay, reset by subtraction."""
    return packed(zoo(0, "subtraction"), tmp_path_factory.mktemp("zoo") / "pack")


@pytest.fixture(scope="module")
def program(pack, tmp_path_factory):
    """The program of that pack: strictly compiled, and with the compiler's checks where it has them."""
    if reason := c.unavailable():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("program")
    try:
        return build(pack, folder / "sanitized", "-O1", *SANITIZED)
    except subprocess.CalledProcessError:
        return build(pack, folder / "plain", "-O2")


@contextmanager
def changed(path, line, flips):
    """The words of a file while some bits of one of them are turned round."""
    before = path.read_bytes()
    lines = before.decode().splitlines()
    lines[line] = f"{int(lines[line], 16) ^ flips:0{len(lines[line])}x}"
    path.write_text("".join(f"{each}\n" for each in lines))
    try:
        yield f"{path.name}, line {line + 1}"
    finally:
        path.write_bytes(before)


# It agrees -------------------------------------------------------------------------------------------


@compiled
@pytest.mark.parametrize(("delay", "reset_mode"), CONTRACTS)
def test_every_kind_of_layer_agrees_with_torch(delay, reset_mode, tmp_path):
    """Every spike, potential and result of every kind of layer, with any delay and either reset."""
    pack = packed(zoo(delay, reset_mode), tmp_path / "pack", samples=2)
    assert {layer["kind"] for layer in pack.network.layers} == set(KINDS)
    (tmp_path / "work").mkdir()
    outcome = c.verify(pack, ["a1", "a0"], tmp_path / "work")
    assert outcome == Outcome(sum(replay.values_to_check(pack, name) for name in ("a0", "a1")), 0, None)


@compiled
def test_samples_and_layers_that_are_asked_for_are_all_that_is_compared(pack, tmp_path):
    """`recorded` limits steps, layers and potentials; the network still runs all of its steps."""
    extent = Extent(steps=2, layers=("conv2.out", "sums"), potentials=False)
    small = packed(zoo(6, "subtraction"), tmp_path / "pack", samples=2, extent=extent)
    (tmp_path / "work").mkdir()
    outcome = c.verify(small, ["a1"], tmp_path / "work")
    assert outcome == Outcome(replay.values_to_check(small, "a1"), 0, None)
    assert outcome.checked < replay.values_to_check(pack, "a1") // 100


def test_the_program_is_clean_under_the_compilers_checks(pack, program):
    """No wrong access, no undefined arithmetic, no leak, no word on stderr."""
    if program.parent.name != "sanitized":
        pytest.skip("this compiler does not link -fsanitize=address,undefined")
    done = run(program, pack.folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert parse(done.stdout, pack, names(pack), "replay").mismatches == 0


@compiled
@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_builds_and_checks_the_pack_around_it(tmp_path):
    """A pack written with its C program is replayed by `make check` in its folder `c`."""
    tiny = Zoo()
    tiny.population("fires", "x")
    graph = Graph(tuple(tiny.nodes.values()), ("fires",), Level.SPIKING, Contract(3))
    made = packed(graph, tmp_path / "pack", samples=1, languages=["c"])
    done = subprocess.run(
        ["make", "check"], cwd=made.folder / "c", capture_output=True, text=True, check=False
    )
    assert f"RESULT checked={replay.values_to_check(made, 'a0')} mismatch=0\n" in done.stdout, done.stderr


# It finds what differs -------------------------------------------------------------------------------


def test_a_flipped_bit_of_any_parameter_is_found_where_numpy_finds_it(pack, program):
    """The same count of mismatches, and the same first one, as the numpy twin; 20 bits drawn."""
    entries = [entry for layer in pack.network.layers for entry in layer["parameters"].values()]
    draw = Random(3)
    found = 0
    for entry in draw.sample([entry for entry in entries if "index/" not in entry["file"]], 20):
        flips = 1 << draw.randrange(entry["bits"])
        with changed(pack.folder / entry["file"], draw.randrange(entry["words"]), flips) as what:
            damaged = replay.read(pack.folder)
            outcome = parse(run(program, pack.folder, "a2").stdout, pack, ["a2"], "replay")
            assert outcome == replay.verify(damaged, ["a2"]), what
            found += outcome.mismatches > 0
    assert found > 12  # the others do not show in one sample


@pytest.mark.parametrize("line", range(0, 36, 7))
def test_a_flipped_bit_of_a_stimulus_is_found_where_numpy_finds_it(line, pack, program):
    """In the sample that it belongs to."""
    with changed(pack.folder / "stimulus/a1/x.mem", line, 4):
        outcome = parse(run(program, pack.folder).stdout, pack, names(pack), "replay")
        assert outcome == replay.verify(pack, names(pack))
    assert outcome.first is not None
    assert outcome.first.sample == "a1"


def reading(pack, index):
    """The pack while the fourth value of a gather reads another place of its input."""
    before = int(pack.network.arrays["gather.spikes", "index"].flat[3])
    return changed(pack.folder / "index/gather.spikes.mem", 3, (before ^ index) & 63)


@pytest.mark.parametrize("index", [0, -1, 23])
def test_an_index_is_followed(index, pack, program):
    """Another place of the input, or a zero, is a mismatch, the same as numpy's."""
    with reading(pack, index):
        outcome = parse(run(program, pack.folder, "a0").stdout, pack, ["a0"], "replay")
        assert outcome == replay.verify(replay.read(pack.folder), ["a0"])
    assert outcome.first is not None
    assert outcome.first.layer == "gather.out"


@pytest.mark.parametrize("index", [24, -2])
def test_an_index_beyond_the_input_is_refused(index, pack, program):
    """It is never read."""
    with reading(pack, index):
        done = run(program, pack.folder, "a0")
    expected = "ERROR index/gather.spikes.mem: line 4 is an index beyond the input\n"
    assert (done.returncode, done.stderr, done.stdout) == (2, expected, "")


def test_a_flipped_weight_is_a_mismatch_with_an_exit_status(pack, program, tmp_path):
    """The program ends with 1 and prints 20 mismatches; `verify` names the population behind the weight."""
    (tmp_path / "work").mkdir()
    with changed(pack.folder / "weights/conv2.currents.mem", 7, 8):
        done = run(program, pack.folder)
        outcome = c.verify(pack, names(pack), tmp_path / "work")
    assert done.returncode == 1
    assert done.stdout.count("MISMATCH") == 20 < outcome.mismatches
    assert outcome.first.layer == "conv2.far"


@pytest.mark.parametrize(
    ("file", "line", "bit", "layer", "step", "neuron", "field"),
    [
        ("expect/a1/linear.out.spk.mem", 2, 5, "linear.out", 3, 5, "spike"),
        ("expect/a1/sums.vmem.mem", 37, 3, "sums", 2, 7, "potential"),
    ],
)
def test_a_changed_expectation_is_one_mismatch(file, line, bit, layer, step, neuron, field, pack, program):
    """At the step and neuron where it stands."""
    with changed(pack.folder / file, line, 1 << bit):
        outcome = parse(run(program, pack.folder).stdout, pack, names(pack), "replay")
    first = replace(outcome.first, expected=0, got=0)
    assert (outcome.mismatches, first) == (1, Difference("a1", layer, step, neuron, field, 0, 0))


# The compiler ----------------------------------------------------------------------------------------


def test_a_missing_compiler_is_said_with_the_remedy(monkeypatch):
    """Whether it is $CC or none at all that is missing."""
    monkeypatch.setenv("CC", "no-such-compiler -m32")
    assert c.unavailable() == (
        "the compiler 'no-such-compiler' that the variable CC names was not found: set CC, or unset it"
    )
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "")
    assert c.unavailable() == (
        "no C compiler was found (cc, gcc, clang): install one, or name it in the variable CC"
    )


@compiled
def test_the_compiler_tells_its_version():
    """One line with a number."""
    assert any(letter.isdigit() for letter in c.version())
    assert "\n" not in c.version()


@compiled
def test_cc_names_the_compiler_with_its_options(monkeypatch, tmp_path, pack):
    """An option that breaks the build shows in the error, so it was used."""
    monkeypatch.setenv("CC", " ".join([*programs.c_compiler(), "-include", "no_such_header.h"]))
    with pytest.raises(Damaged, match=r"replay\.c: it does not compile: .*no_such_header\.h"):
        c.verify(pack, ["a0"], tmp_path)
