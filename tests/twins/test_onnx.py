"""The ONNX twin: integer graphs of standard operators that do what the numpy twin does, value for value."""

import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from networks_by_hand import (
    KINDS,
    Hand,
    assert_equal,
    evaluated,
    expected,
    given,
    network_of,
    read_out,
    stimuli,
)
from onnx import TensorProto, checker, shape_inference

from ann2snn_cli.ir.contract import Contract, Reset
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import Conv, Input, Integrate, IntegrateFire, Linear, MaxPool, Reshape
from ann2snn_cli.stages.export.pack import Sample
from ann2snn_cli.twins import onnx as twin
from ann2snn_cli.twins import replay
from ann2snn_cli.twins.onnx.ranges import ranges
from ann2snn_cli.twins.replay import Damaged
from ann2snn_cli.workflows.pack import write_samples

DELAYS = (0, 1, 2, 5)  # of 5 steps
CONTRACTS = [(delay, reset) for delay in DELAYS for reset in ("subtraction", "zero")]


def assert_same(found, wanted):
    """The same names, every number, and the types that were promised."""
    assert_equal(found, wanted)
    kinds = {name: values.dtype for name, values in found.items()}
    assert kinds == {name: np.uint8 if name.startswith("spikes/") else np.int32 for name in wanted}


# Every kind of layer -------------------------------------------------------------------------------


@pytest.mark.parametrize(("delay", "reset_mode"), CONTRACTS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_layer_equals_the_numpy_twin(kind, delay, reset_mode):
    """Spikes, potentials and results, whatever the layer, the delay and the reset."""
    network = network_of(kind, delay, reset_mode)
    model = twin.model(network)
    checker.check_model(model, full_check=True)
    train = stimuli(network, steps=5)
    wanted = expected(network, train)
    assert_same(evaluated(model, given(model, train)), wanted)
    assert any(values.any() for name, values in wanted.items() if name.startswith("spikes/"))


@pytest.mark.parametrize(("delay", "reset_mode"), CONTRACTS[::3])
@pytest.mark.parametrize(
    ("bits", "encoding"), [(8, "two's complement"), (12, "unsigned"), (18, "two's complement")]
)
def test_stimuli_with_a_sign_or_over_8_bits_are_exact(bits, encoding, delay, reset_mode):
    """They enter as int32 and are multiplied digit by digit; padding still counts 0."""
    network = network_of("conv_2d", delay, reset_mode, bits=bits, encoding=encoding)
    model = twin.model(network)
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.INT32
    train = stimuli(network, steps=5)
    assert_same(evaluated(model, given(model, train)), expected(network, train))


@pytest.mark.parametrize("delay", [0, 2, 4])
def test_the_comparator_is_the_contracts(delay):
    """At θ exactly, `>` does not fire: the networks differ, and each equals the numpy twin's."""
    hand, found = Hand((1, 2, 2), {"delay": delay}, bits=1), {}
    x = hand.fire("input", "layer")
    hand.arrays[x, "threshold"][:], hand.arrays[x, "bias"][:], hand.arrays[x, "initial"][:] = 2, 0, 0
    train = np.ones((4, 1, 1, 2, 2), np.int64)
    for comparator in (">=", ">"):
        network = replace(hand.network(), contract=hand.contract | {"comparator": comparator})
        model = twin.model(network)
        found[comparator] = evaluated(model, given(model, train))
        assert_same(found[comparator], expected(network, train))
    assert (found[">="][f"result/{x}"] == 2).all()
    assert (found[">"][f"result/{x}"] == 1).all()


@pytest.mark.parametrize("delay", DELAYS)
def test_any_layer_can_be_an_output_and_there_can_be_several(delay):
    """A result is the sum over all steps of what the layer passes on: spikes, currents, a read-out's."""
    hand = Hand((2, 6, 6), {"delay": delay})
    conv = hand.conv("input", 3, (3, 3))
    fire = hand.fire(conv)
    network = hand.network("input", conv, fire, hand.integrate(conv, "bias", "initial"))
    model = twin.model(network)
    checker.check_model(model, full_check=True)
    train = stimuli(network, steps=5)
    assert_same(evaluated(model, given(model, train)), expected(network, train))


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize(("steps", "samples"), [(1, 1), (2, 5), (9, 2)])
def test_steps_and_samples_are_free(delay, steps, samples):
    """A graph converted for T = 5 runs any other number of steps, and any batch; its delay is T at most."""
    for kind in ("max_pool", "max_pool_of_currents", "integrate_in_between"):
        network = network_of(kind, delay)
        train = stimuli(network, samples, steps)
        model = twin.model(network)
        assert_same(evaluated(model, given(model, train)), expected(network, train))


def test_potentials_can_be_left_out():
    """Then the outputs are spikes and results only, the same ones."""
    for delay in DELAYS:
        network = network_of("conv_2d", delay)
        train = stimuli(network, steps=5)
        model = twin.model(network, potentials=False)
        checker.check_model(model, full_check=True)
        wanted = {n: v for n, v in expected(network, train).items() if not n.startswith("potentials/")}
        assert_same(evaluated(model, given(model, train)), wanted)


# How large numbers get -----------------------------------------------------------------------------


def test_the_range_of_every_layer_is_proved_from_its_weights():
    """By hand: what goes in is as far out as it can be, sample by sample and step by step."""
    hand = Hand((2, 3), bits=8, encoding="two's complement")

    def put(name, role, values):
        hand.arrays[name, role] = np.array(values).reshape(hand.arrays[name, role].shape)
        return name

    rows = put(hand.linear(hand.reshape("input", 3, 2), 2), "weight", [[2, -3], [1, 1]])
    moved = hand.integrate(hand.permute(rows, 1, 0), "bias", "initial")
    put(put(moved, "bias", [5, -7]), "initial", [-20, 30])
    scaled = put(hand.scale(moved, "channel"), "weight", [2, -3])
    summed = put(put(hand.add(scaled, moved), "weight.0", [1]), "weight.1", [-1])
    pooled = hand.sum_pool(summed, (3,), 1)
    spikes = hand.fire(pooled)
    late = hand.integrate(spikes, "bias")
    put(late, "bias", [10, 11])
    padded = put(hand.conv(late, 1, (1,), padding=1), "weight", [1, 1])
    up = put(hand.up(spikes, 2, (1,)), "weight", [[1, 4], [-2, 5]])
    grouped = put(hand.up(spikes, 2, (2,), groups=2), "weight", [[1, -2], [4, 5]])
    both = hand.concat(late, up)
    assert ranges(hand.network()) == {
        "input": (-128, 127),
        "reshape.1": (-128, 127),
        rows: (2 * -128 - 3 * 127, 2 * 127 + 3 * 128),
        "permute.3": (-637, 638),
        moved: (-637 - 7 - 20, 638 + 5 + 30),
        scaled: (-3 * 673, 3 * 664),
        summed: (-2019 - 673, 1992 + 664),
        pooled: (3 * -2692, 3 * 2656),
        spikes: (0, 1),
        late: (10, 12),
        padded: (0, 24),
        up: (-2, 9),
        grouped: (-2, 9),
        both: (-2, 12),
    }


def _products(model):
    """How many MatMulInteger there are."""
    return [node.op_type for node in model.graph.node].count("MatMulInteger")


@pytest.mark.parametrize(("bias", "digits"), [(0, 1), (1, 2), (-1, 2)])
def test_one_more_than_a_digit_holds_takes_two(bias, digits):
    """-128..127 is one digit; neither -127..128 nor -129..126 is."""
    hand = Hand((2,), bits=8, encoding="two's complement")
    late = hand.integrate("input", "bias")
    hand.arrays[late, "bias"][:] = bias
    hand.integrate(hand.linear(late, 3))
    network = hand.network()
    model = twin.model(network)
    assert _products(model) == digits
    train = np.array([[[-128, 127], [127, -128]]])
    assert_same(evaluated(model, given(model, train)), expected(network, train))


@pytest.mark.parametrize(
    ("bits", "encoding", "digits"),
    [
        (8, "unsigned", 1), (9, "unsigned", 2), (16, "unsigned", 2), (17, "unsigned", 3), (24, "unsigned", 3),
        (8, "two's complement", 1), (9, "two's complement", 2), (16, "two's complement", 2),
        (17, "two's complement", 3), (24, "two's complement", 3), (25, "two's complement", 4),
    ],
)  # fmt: skip
def test_a_number_is_multiplied_in_as_few_digits_as_hold_it(bits, encoding, digits):
    """The lowest and the highest of every width come through."""
    hand = Hand((2,), bits=bits, encoding=encoding)
    hand.integrate(hand.linear("input", 3))
    network = hand.network()
    model = twin.model(network)
    assert _products(model) == digits
    low, high = ranges(network)["input"]
    train = np.array([[[low, high], [high, low], [0, high], [low + 1, 0]]])
    assert_same(evaluated(model, given(model, train)), expected(network, train))


# What the file is ----------------------------------------------------------------------------------


def graphs(graph):
    """A graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs(attribute.g)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("delay", [0, 2])
def test_the_graph_holds_integers_and_standard_operators_only(kind, delay):
    """Opset 18 of the standard domain, an IR that older runtimes read, and no float tensor anywhere."""
    model = twin.model(network_of(kind, delay))
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert (model.ir_version, len(model.functions)) == (8, 0)
    inferred = shape_inference.infer_shapes(model, strict_mode=True)
    allowed = {TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL}
    for graph in graphs(inferred.graph):
        assert {node.domain for node in graph.node} == {""}
        known = [*graph.input, *graph.output, *graph.value_info]
        assert {each.type.tensor_type.elem_type for each in known} <= allowed
        assert {each.data_type for each in graph.initializer} <= allowed
        made = {name for node in graph.node for name in node.output}
        assert made <= {each.name for each in known}, "of every value the type is known"


@pytest.mark.parametrize("delay", DELAYS)
def test_the_only_loops_are_scans_one_a_population(delay):
    """Their one state is the potential; read-outs and max pools are sums along the steps."""
    graph = twin.model(network_of("max_pool_of_currents", delay)).graph
    scans = [node for node in graph.node if node.op_type == "Scan"]
    assert len(scans) == len([o.name for o in graph.output if o.name.startswith("spikes/")]) == 2
    assert {len(onnx.helper.get_node_attr_value(scan, "body").input) for scan in scans} == {2}
    assert not {"Loop", "If"} & {node.op_type for each in graphs(graph) for node in each.node}


def test_inputs_and_outputs_have_the_promised_names_types_and_axes():
    """T and the batch are symbolic; a name says what it is and of which layer."""
    network = network_of("conv_2d")
    fire, readout = (
        next(x["name"] for x in network.layers if x["kind"] == k) for k in ("integrate_fire", "integrate")
    )
    graph = twin.model(network).graph

    def described(value):
        tensor = value.type.tensor_type
        return tensor.elem_type, [axis.dim_param or axis.dim_value for axis in tensor.shape.dim]

    values = {value.name: described(value) for value in [*graph.input, *graph.output]}
    shape = ["T", "batch", *next(x["shape"] for x in network.layers if x["name"] == fire)]
    assert values == {
        "input": (TensorProto.UINT8, ["T", "batch", 2, 6, 6]),
        f"spikes/{fire}": (TensorProto.UINT8, shape),
        f"potentials/{fire}": (TensorProto.INT32, shape),
        f"potentials/{readout}": (TensorProto.INT32, ["T", "batch", 4]),
        f"result/{readout}": (TensorProto.INT32, ["batch", 4]),
    }


@pytest.mark.parametrize("delay", DELAYS)
def test_the_same_network_gives_the_same_bytes(delay):
    """Written twice, from two copies."""
    first, second = (twin.model(network_of("moves", delay)).SerializeToString() for _ in range(2))
    assert first == second


def test_a_layer_may_be_called_like_anything_in_the_graph():
    """Names of layers and names that the graph needs for itself do not meet."""
    hand = Hand((2, 6, 6))
    read_out(hand, hand.conv("input", 3, (3, 3)))
    network = hand.network()
    names = ["input", "scan/next", "before", "spikes/charge", "charge", "next"]
    new = dict(zip([layer["name"] for layer in network.layers], names, strict=False))
    layers = [
        layer | {"name": new[layer["name"]], "inputs": [new[each] for each in layer["inputs"]]}
        for layer in network.layers
    ]
    arrays = {(new[name], role): values for (name, role), values in network.arrays.items()}
    renamed = replace(network, layers=layers, arrays=arrays, outputs=[new[each] for each in network.outputs])
    for delay in (0, 2):
        each = replace(renamed, contract=renamed.contract | {"delay": delay})
        model = twin.model(each)
        checker.check_model(model, full_check=True)
        train = stimuli(each, steps=3)
        assert_same(evaluated(model, given(model, train)), expected(each, train))


# Refusals ------------------------------------------------------------------------------------------


def test_sums_over_int32_are_refused_by_name():
    """`widest_bits` over 32: every layer that gets there is named, with how far."""
    network = network_of("conv_2d")
    layers = [dict(layer) for layer in network.layers]
    fire = next(layer for layer in layers if layer["kind"] == "integrate_fire")
    fire["potential"] = {"bits": 33, "bound": {"lowest": -(2**32), "highest": 5}}
    network.arrays[fire["name"], "initial"][:] = 0
    with pytest.raises(Damaged, match="int32") as refusal:
        twin.model(replace(network, layers=layers, widest_bits=33))
    assert [problem.layer for problem in refusal.value.problems] == [fire["name"]]
    assert f"{fire['name']} reach {2**32}," in str(refusal.value)
    with pytest.raises(Damaged, match="33 bits"):
        twin.model(replace(network, widest_bits=33))


def test_a_contract_that_makes_no_sense_is_refused_in_words():
    """With all that is wrong."""
    network = network_of("conv_2d")
    broken = replace(network, contract=network.contract | {"delay": 6, "reset_mode": "soft"})
    with pytest.raises(Damaged) as refusal:
        twin.model(broken)
    assert [problem.what for problem in refusal.value.problems] == [
        "its delay is 6, not a whole number from 0 to the timesteps, 5",
        "its reset_mode is 'soft', not one of subtraction, zero",
    ]


def test_an_unknown_kind_is_refused_by_name():
    """All of them at once."""
    network = network_of("conv_2d")
    layers = [layer | {"kind": "gelu"} if layer["kind"] == "conv" else layer for layer in network.layers]
    with pytest.raises(Damaged, match="gelu") as refusal:
        twin.model(replace(network, layers=layers))
    assert [problem.layer for problem in refusal.value.problems] == ["conv.1", "conv.2"]


def test_several_inputs_are_named_after_their_layers_each_of_its_own_type():
    """The first of 8 bits, a second one with a sign: all numbers are those of the numpy twin."""
    hand = Hand((2, 6, 6))
    second = hand.layers[0] | {
        "name": "second",
        "shape": [3, 6, 6],
        "bits": 11,
        "encoding": "two's complement",
    }
    hand.layers.append(second)
    hand.integrate(
        hand.linear(hand.reshape(hand.concat("input", hand.scale("second", "channel"))), 4), "bias"
    )
    network, draw = hand.network(), np.random.default_rng(0)
    model = twin.model(network)
    checker.check_model(model, full_check=True)
    shown = {"input": draw.integers(0, 256, (3, 2, 6, 6)), "second": draw.integers(-900, 900, (3, 3, 6, 6))}
    types = {"input": np.uint8, "second": np.int32}
    trains = {f"input/{name}": np.stack([x] * 5).astype(types[name]) for name, x in shown.items()}
    assert [each.name for each in model.graph.input] == list(trains)
    activity = replay.replay(network, shown)
    found, (out,) = evaluated(model, trains), network.outputs
    assert np.array_equal(found[f"potentials/{out}"], activity[out].potentials)
    assert np.array_equal(found[f"result/{out}"], activity[out].train.sum(0))


def test_a_network_without_an_input_is_refused():
    """There is nothing that its graph could be given."""
    hand = Hand((2, 6, 6))
    with pytest.raises(Damaged, match="it has no input"):
        twin.model(replay.Network(hand.contract, [], [], 8, {}))


# Replaying packs -----------------------------------------------------------------------------------


def spiking(delay, reset_mode):
    """A SPIKING graph: convolution, population, max pool, convolution, population, linear, read-out."""
    make, one = torch.Generator().manual_seed(3), torch.tensor(1.0)

    def whole(low, high, *shape):
        return torch.randint(low, high + 1, shape, generator=make)

    first = IntegrateFire(torch.tensor(700), whole(-90, 90, 3, 1, 1), whole(0, 700, 3, 1, 1))
    second = IntegrateFire(whole(5, 12, 4, 1, 1), whole(-2, 2, 4, 1, 1), torch.tensor(3))
    pool = MaxPool((2, 2), (2, 2), (0, 0), (1, 1))
    nodes = (
        ("input", Input(unit=1.0), (), (1, 6, 6)),
        (
            "conv",
            Conv(whole(-7, 7, 3, 1, 3, 3).to(torch.int8), padding=(1, 1), bits=4, step=one),
            ("input",),
            (3, 6, 6),
        ),
        ("fire", first, ("conv",), (3, 6, 6)),
        ("pool", pool, ("fire",), (3, 3, 3)),
        ("deep", Conv(whole(-7, 7, 4, 3, 2, 2).to(torch.int8), bits=4, step=one), ("pool",), (4, 2, 2)),
        ("last", second, ("deep",), (4, 2, 2)),
        ("flat", Reshape(), ("last",), (16,)),
        ("linear", Linear(whole(-7, 7, 5, 16).to(torch.int8), bits=4, step=one), ("flat",), (5,)),
        ("readout", Integrate(whole(-3, 3, 5), whole(-9, 9, 5)), ("linear",), (5,)),
    )
    contract = Contract(6, Reset(reset_mode), delay)
    graph = tuple(Node(name, op, inputs, shape, name, one) for name, op, inputs, shape in nodes)
    return Graph(graph, ("readout",), Level.SPIKING, contract)


@pytest.fixture(
    scope="module", params=[(0, "subtraction"), (0, "zero"), (2, "zero"), (6, "subtraction")], ids=str
)
def written(request, tmp_path_factory):
    """A pack of three samples."""
    make = torch.Generator().manual_seed(4)
    stimuli = [torch.randint(0, 256, (1, 6, 6), generator=make) for _ in SAMPLES]
    samples = [
        Sample(name, "real", "noise", {"input": x}, 0) for name, x in zip(SAMPLES, stimuli, strict=True)
    ]
    return write_samples(spiking(*request.param), samples, tmp_path_factory.mktemp("written") / "pack")


@pytest.fixture
def folder(written, tmp_path):
    """A copy of it that a test may change."""
    return shutil.copytree(written, tmp_path / "pack")


SAMPLES = ("s0", "s1", "s2")


def test_a_pack_is_verified(folder, tmp_path):
    """Every recorded value is looked at and none differs; the file that was run stays in the work folder."""
    pack, work = replay.read(folder), tmp_path / "work"
    work.mkdir()
    outcome = twin.verify(pack, SAMPLES, work)
    assert (outcome.mismatches, outcome.first) == (0, None)
    assert outcome.checked == sum(replay.values_to_check(pack, name) for name in SAMPLES)
    assert (work / "network.onnx").read_bytes() == twin.model(pack.network).SerializeToString(
        deterministic=True
    )


def test_portions_change_nothing(folder, tmp_path, monkeypatch):
    """With little memory the samples are run one by one, to the same outcome."""
    pack = replay.read(folder)
    whole = twin.verify(pack, SAMPLES, tmp_path)
    monkeypatch.setattr(twin.running, "_MEMORY", 1)
    assert twin.verify(pack, SAMPLES, tmp_path) == whole


def _flip(path, line, digit):
    """Change the lowest bit of a digit of a memory file."""
    words = [list(word) for word in path.read_text().splitlines()]
    words[line][digit] = f"{int(words[line][digit], 16) ^ 1:x}"
    path.write_text("".join("".join(word) + "\n" for word in words))


@pytest.mark.parametrize(
    ("file", "digit", "layer"),
    [
        ("weights/conv.mem", -1, "fire"),
        ("weights/deep.mem", -1, "last"),
        ("weights/linear.mem", -1, "readout"),
        ("threshold/fire.mem", -3, "fire"),
        ("threshold/last.mem", -1, "last"),
        ("bias/last.mem", -1, "last"),
        ("bias/readout.mem", -1, "readout"),
        ("initial/fire.mem", -1, "fire"),
        ("initial/readout.mem", -1, "readout"),
        ("stimulus/s1/input.mem", -1, "fire"),
        ("expect/s2/last.spk.mem", -1, "last"),
        ("expect/s0/fire.vmem.mem", -1, "fire"),
    ],
)
def test_one_changed_bit_is_found_where_the_numpy_twin_finds_it(folder, tmp_path, file, digit, layer):
    """The same count, and the same first sample, layer, step, neuron and numbers."""
    for line in range((folder / file).read_text().count("\n")):
        _flip(folder / file, line, digit)
        pack = replay.read(folder)
        wanted = replay.verify(pack, SAMPLES)
        if wanted.mismatches:  # not every bit of a network matters to three samples
            break
        _flip(folder / file, line, digit)
    assert wanted.first.layer == layer
    assert twin.verify(pack, SAMPLES, tmp_path) == wanted


def test_the_reference_is_always_there_and_has_a_version():
    """onnx is a dependency, and its evaluator comes with it."""
    assert twin.unavailable() == twin.unavailable("reference") == ""
    assert twin.version() == f"onnx {onnx.__version__}"


def test_a_missing_onnxruntime_is_named_with_the_remedy(monkeypatch):
    """It is optional."""
    monkeypatch.setattr(twin.running, "find_spec", lambda name: None)
    assert twin.unavailable("onnxruntime") == "onnxruntime is not installed: pip install 'onnxruntime>=1.14'"


def test_a_reference_that_is_too_old_is_named_with_the_remedy(monkeypatch):
    """Before 1.22 its Scan forgets states; 1.100 is no older than that."""
    monkeypatch.setattr(twin.running, "installed", lambda name: "1.21.0")
    assert twin.unavailable() == "onnx 1.21.0 cannot run the graph: pip install 'onnx>=1.22'"
    monkeypatch.setattr(twin.running, "installed", lambda name: "1.100.0rc1")
    assert twin.unavailable() == ""


# In another runtime --------------------------------------------------------------------------------


@pytest.mark.skipif(bool(twin.unavailable("onnxruntime")), reason=twin.unavailable("onnxruntime"))
def test_onnxruntime_agrees_on_every_kind_of_layer_and_on_packs(folder, tmp_path):
    """A runtime that is not onnx's own."""
    import onnxruntime

    def start(model):
        return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run

    pack = replay.read(folder)
    assert twin.verify(pack, SAMPLES, tmp_path, "onnxruntime") == replay.verify(pack, SAMPLES)
    delay, reset_mode = min(pack.network.delay, 5), pack.network.contract["reset_mode"]
    for kind in KINDS:
        network = network_of(kind, delay, reset_mode, bits=2)
        model, train = twin.model(network), stimuli(network, steps=5)
        names, wanted = [output.name for output in model.graph.output], expected(network, train)
        assert_same(dict(zip(names, start(model)(names, given(model, train)), strict=True)), wanted)
    assert twin.version("onnxruntime") == f"onnxruntime {onnxruntime.__version__}"
