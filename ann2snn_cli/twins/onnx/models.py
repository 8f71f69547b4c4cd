"""The models: the whole network in integers, and one step of it in floats."""

from __future__ import annotations

import json
from typing import Any

from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper

from ann2snn_cli.twins.onnx.arithmetic import Floats, Integers
from ann2snn_cli.twins.onnx.draft import Draft
from ann2snn_cli.twins.onnx.layers import Writer
from ann2snn_cli.twins.onnx.ranges import refuse_unknown, refuse_wider_than_float32, refuse_wider_than_int32
from ann2snn_cli.twins.onnx.schedules import BATCH, STEPS, Layerwise, Rule, Stepwise, info, write_scan
from ann2snn_cli.twins.replay import MANIFEST, Damaged, Layer, Network, Problem

OPSET = 18
IR_VERSION = 8  # of the time of opset 18: older runtimes read it
INPUT = "input"

_INTEGERS = """A spiking network in integers.

input [T, batch, ...]: the stimulus of every step (direct coding: the same one T times).
spikes/LAYER [T, batch, ...]: 1 where a neuron fires. potentials/LAYER [T, batch, ...]: after the reset.
result/LAYER [batch, ...]: an output's sum over all T steps. The metadata hold the contract; biases and
initial potentials are made for its `timesteps`, though the graph runs any T."""

_STEP = """One time step of a spiking network, in float32 that holds integers exactly: sums are below 2^24.
(Switch off TF32, and convolution algorithms that are no plain sums.)

input [batch, ...]: the stimulus of the step. state/NAME [batch, ...]: 0 before the first step, then the
next/NAME of the step before. spikes/LAYER: 1 where a neuron fires. potentials/LAYER: after the reset.
result/LAYER: an output's sum so far; after `timesteps` steps it is the result."""


def model(network: Network, *, potentials: bool = True) -> ModelProto:
    """The network as an integer graph of standard operators (opset 18), for any T and batch.

    Outputs, inputs and their meaning stand in the model's doc_string, the contract in its metadata. Equal
    networks give equal bytes. Raises `Damaged`, naming the layers, where int32 does not hold every sum.
    """
    refuse_unknown(network)
    refuse_wider_than_int32(network)
    element = input_element(network)
    stimulus = info(INPUT, element, (STEPS, BATCH, *network.input["shape"]))
    write = _layerwise if network.contract["schedule"] == "layerwise" else _stepwise
    return _finish(network, write(network, stimulus, element == TensorProto.UINT8, potentials), _INTEGERS)


def input_element(network: Network) -> int:
    """The type of the integer graph's stimulus: uint8 where 8 bits hold it, else int32."""
    layer = network.input
    fits = layer["encoding"] == "unsigned" and layer["bits"] <= 8
    return int(TensorProto.UINT8 if fits else TensorProto.INT32)


def _rule(network: Network) -> Rule:
    return Rule(network.contract["comparator"], network.contract["reset_mode"])


def _names(network: Network) -> set[str]:
    """The names that the model's inputs and outputs have; nothing else may take them."""
    fields = ("spikes", "potentials", "result")
    return {INPUT, *(f"{field}/{layer['name']}" for field in fields for layer in network.layers)}


def _stepwise(network: Network, stimulus: ValueInfoProto, narrow: bool, potentials: bool) -> GraphProto:
    taken = _names(network)
    step, outer = Stepwise(Draft(taken), Integers(), _rule(network)), Draft(taken)
    now = info(step.draft.name("now"), stimulus.type.tensor_type.elem_type, (BATCH, *network.input["shape"]))
    Writer(network, step.draft, step.numbers, step, potentials).write(now.name, narrow)
    write_scan(outer, step, stimulus.name, now)
    outputs = [info(called, element, (STEPS, BATCH, *shape)) for _, called, element, shape in step.shown]
    outputs += [info(state.total, step.numbers.element, (BATCH, *state.shape)) for state in step.totals()]
    return outer.graph("network", [stimulus], outputs)


def _layerwise(network: Network, stimulus: ValueInfoProto, narrow: bool, potentials: bool) -> GraphProto:
    draft = Draft(_names(network))
    schedule = Layerwise(draft, Integers(), _rule(network), stimulus.name)
    flat = draft.reshape(stimulus.name, network.input["shape"])
    Writer(network, draft, schedule.numbers, schedule, potentials).write(flat, narrow)
    return draft.graph("network", [stimulus], [info(*each) for each in schedule.shown])


def step_model(network: Network) -> ModelProto:
    """One step of a stepwise network in float32, its states as inputs and outputs: fast on GPUs.

    Raises `Damaged`, naming the layers and how far their numbers reach, unless all of them, and every sum on
    the way to them, are proved to lie below 2^24; and for the layerwise schedule, which has no such step.
    """
    refuse_unknown(network)
    if network.contract["schedule"] != "stepwise":
        raise Damaged([Problem(MANIFEST, "its schedule is layerwise: no step runs all layers")])
    refuse_wider_than_float32(network)
    step = Stepwise(Draft(_names(network)), Floats(), _rule(network), zero_start=True)
    Writer(network, step.draft, step.numbers, step, potentials=True).write(INPUT, narrow=False)
    for state in step.totals():
        step.show(state.after, state.total, TensorProto.FLOAT, state.shape)
    now = info(INPUT, TensorProto.FLOAT, (BATCH, *network.input["shape"]))
    return _finish(network, step.draft.graph("step", [now, *step.inputs()], step.outputs()), _STEP)


def _finish(network: Network, graph: GraphProto, text: str) -> ModelProto:
    """The graph with its version, its text and the contract."""
    opset = helper.make_opsetid("", OPSET)
    made = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, doc_string=text)
    helper.set_model_props(made, _metadata(network))
    return made


def _metadata(network: Network) -> dict[str, str]:
    """The contract, field by field, and what a chip team asks of every layer; plain text or JSON."""
    contract = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in network.contract.items()
    }
    units = {layer["name"]: layer["unit"] for layer in network.layers if "unit" in layer}
    tables = {
        "layers": {layer["name"]: _summary(layer) for layer in network.layers},
        "outputs": network.outputs,
        "units": units,
        "widest_bits": network.widest_bits,
    }
    return contract | {name: json.dumps(table, sort_keys=True) for name, table in tables.items()}


def _summary(layer: Layer) -> dict[str, Any]:
    """source, kind, and the bits of its parameters and potentials."""
    bits = {role: entry["bits"] for role, entry in layer["parameters"].items() if "bits" in entry}
    if "potential" in layer:
        bits["potential"] = layer["potential"]["bits"]
    return {"source": layer["source"], "kind": layer["kind"], "bits": bits}
