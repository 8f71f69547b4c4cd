"""ONNX out: the step graph does what the numpy twin does, and files say what they hold."""

import json

import numpy as np
import pytest
from networks_by_hand import KINDS, Hand, assert_equal, expected, network_of, stimuli
from onnx import checker
from onnx.reference import ReferenceEvaluator

from ann2snn_cli.stages.export.onnx import network_model, step_model
from ann2snn_cli.twins import onnx as twin
from ann2snn_cli.twins.replay import Damaged

# The step graph ------------------------------------------------------------------------------------


def stepped(model, train, run=None):
    """The step graph run step by step, its states handed on: spikes, potentials, the last result."""
    run = run or ReferenceEvaluator(model).run
    names, kept = [output.name for output in model.graph.output], {}
    shapes = {each.name: each.type.tensor_type.shape.dim[1:] for each in model.graph.input}
    states = {
        name: np.zeros((train.shape[1], *(axis.dim_value for axis in shape)), np.float32)
        for name, shape in shapes.items()
        if name != "input"
    }
    for stimulus in train:
        outputs = dict(zip(names, run(names, {"input": stimulus.astype(np.float32), **states}), strict=True))
        states = {name: outputs[name.replace("state/", "next/", 1)] for name in states}
        for name, value in outputs.items():
            assert value.dtype == np.float32
            kept.setdefault(name, []).append(value)
    shown = {name: np.stack(values) for name, values in kept.items() if not name.startswith("next/")}
    return {name: values[-1] if name.startswith("result/") else values for name, values in shown.items()}


@pytest.mark.parametrize("reset_mode", ["subtraction", "zero"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_step_graph_equals_the_numpy_twin_step_by_step(kind, reset_mode):
    """Floats that hold integers, its states fed back, all of them 0 at first."""
    network = network_of(kind, 0, reset_mode, bits=2)
    model = step_model(network)
    checker.check_model(model, full_check=True)
    train = stimuli(network, steps=5)
    assert_equal(stepped(model, train), expected(network, train))


@pytest.mark.skipif(bool(twin.unavailable("onnxruntime")), reason=twin.unavailable("onnxruntime"))
@pytest.mark.parametrize("reset_mode", ["subtraction", "zero"])
def test_onnxruntime_agrees_on_the_step_graph_of_every_kind_of_layer(reset_mode):
    """A runtime that is not onnx's own."""
    import onnxruntime

    for kind in KINDS:
        network = network_of(kind, 0, reset_mode, bits=2)
        model, train = step_model(network), stimuli(network, steps=5)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        assert_equal(stepped(model, train, session.run), expected(network, train))


@pytest.mark.parametrize(
    ("kind", "operator", "times"),
    [("conv_2d", "Conv", 2), ("up_2d", "ConvTranspose", 1), ("linear_of_linear", "MatMul", 4)],
)
def test_the_step_graph_uses_the_fast_operators(kind, operator, times):
    """One a layer, whatever numbers it is given."""
    graph = step_model(network_of(kind, bits=2)).graph
    assert [node.op_type for node in graph.node].count(operator) == times


def _drives(
    weight, timesteps=5, pooled=False, bound=100, initial=0, threshold=1, fraction_bits=0, outputs=()
):
    """input -> linear of one weight (-> max pool) -> population -> read-out; all other numbers are small."""
    hand = Hand((1, 4))
    x = hand.linear("input", 4)
    hand.arrays[x, "weight"][:] = 0
    hand.arrays[x, "weight"][0, 0] = weight
    if pooled:
        x = hand.max_pool(x, (2,), 2)
    fire = hand.fire(x)
    for role, value in (("threshold", threshold), ("bias", 0), ("initial", initial)):
        hand.arrays[fire, role][:] = value
    hand.integrate(fire)
    for layer in hand.layers:
        if "potential" in layer:
            layer["potential"]["bound"] = {"lowest": -bound, "highest": bound}
    hand.layers[-2]["fraction_bits"] = fraction_bits
    hand.contract["timesteps"] = timesteps
    return hand.network(*outputs)


@pytest.mark.parametrize(
    ("network", "layer", "reach"),
    [
        (lambda: _drives(65794), "linear.1", 65794 * 255),
        (lambda: _drives(-65794), "linear.1", 65794 * 255),
        (lambda: _drives(32897, timesteps=2, outputs=["linear.1"]), "linear.1", 32897 * 255 * 2),
        (lambda: _drives(4113, fraction_bits=4), "integrate_fire.2", 4113 * 255 * 16),
        (lambda: _drives(1, threshold=2**24 + 1), "integrate_fire.2", 2**24 + 1),
        (lambda: _drives(1, bound=2**24), "integrate_fire.2", 2**24),
        (lambda: _drives(1, bound=2**23, initial=-(2**23)), "integrate_fire.2", 2**24),
        (lambda: _drives(13159, pooled=True), "linear.1", 13159 * 255 * 5),
    ],
)
def test_the_step_graph_is_refused_where_float32_may_round(network, layer, reach):
    """The layer is named, and how far its numbers reach: in a step, as a potential, summed over the steps."""
    with pytest.raises(Damaged) as refusal:
        step_model(network())
    assert layer in [problem.layer for problem in refusal.value.problems]
    assert f"{layer} reach {reach};" in str(refusal.value)


def test_the_step_graph_is_given_up_to_the_last_exact_integer():
    """2^24 − 1 = 65793·255 is proved exact, and is."""
    network = _drives(65793, timesteps=1, bound=2**24 - 1)
    train = np.full((1, 1, 1, 4), 255)
    assert_equal(stepped(step_model(network), train), expected(network, train))


@pytest.mark.parametrize("delay", [1, 5])
def test_with_a_firing_delay_there_is_no_step_graph(delay):
    """Layers would not run at the same step: it is refused with that reason."""
    with pytest.raises(Damaged) as refusal:
        step_model(network_of("conv_2d", delay))
    what = f"its firing delay is {delay}: only without one do all layers run at the same step"
    assert [problem.what for problem in refusal.value.problems] == [what]


def test_the_states_of_the_step_graph_are_potentials_and_sums_each_once():
    """A read-out that is an output is summed up once."""
    hand = Hand((2, 6, 6), bits=2)
    hand.integrate(hand.linear(hand.fire("input"), 3), "bias")
    graph = step_model(hand.network()).graph
    states = ["state/integrate_fire.1/potential", "state/integrate.3/sum"]
    assert [each.name for each in graph.input] == ["input", *states]


# What files say --------------------------------------------------------------------------------------


def test_the_metadata_are_the_contract_and_the_bits():
    """Field by field, in plain words or JSON, under names that no tool owns."""
    network = network_of("conv_2d", 3, "zero")
    for model in (network_model(network), step_model(network_of("conv_2d"))):
        entries = {entry.key: entry.value for entry in model.metadata_props}
        assert entries["timesteps"] == "5"
        assert entries["comparator"] == ">="
        assert entries["order"] == "integrate, compare, reset"
        assert json.loads(entries["outputs"]) == network.outputs
        assert json.loads(entries["units"]) == {"input": 0.5}
        assert json.loads(entries["layers"])["conv.1"] == {
            "source": "net.conv.1",
            "kind": "conv",
            "bits": {"weight": 8},
        }
        assert "T" in model.doc_string
    entries = {entry.key: entry.value for entry in network_model(network).metadata_props}
    assert (entries["delay"], entries["reset_mode"]) == ("3", "zero")
