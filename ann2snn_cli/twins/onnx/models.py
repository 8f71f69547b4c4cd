"""The models: the whole network in integers, and one step of it in floats."""

from __future__ import annotations

import json
from typing import Any

from onnx import GraphProto, ModelProto, TensorProto, helper

from ann2snn_cli.twins.onnx.arithmetic import Floats, Integers
from ann2snn_cli.twins.onnx.draft import Draft
from ann2snn_cli.twins.onnx.layers import Writer
from ann2snn_cli.twins.onnx.ranges import refuse_unknown, refuse_wider_than_float32, refuse_wider_than_int32
from ann2snn_cli.twins.onnx.timing import BATCH, STEPS, Firing, OneStep, WholeTrains, info
from ann2snn_cli.twins.replay import MANIFEST, Damaged, Layer, Network, Problem

OPSET = 18
IR_VERSION = 8  # of the time of opset 18: older runtimes read it
INPUT = "input"

_INTEGERS = """A spiking network in integers.

input [T, batch, ...]: the stimulus of every step (direct coding: the same one T times).
spikes/LAYER [T, batch, ...]: 1 where a neuron fires. potentials/LAYER [T, batch, ...]: after the reset.
result/LAYER [batch, ...]: an output's sum over all T steps. The metadata hold the contract; biases and
initial potentials are made for its `timesteps`, though the graph runs any T (a delay beyond it is T)."""

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
    element, draft = input_element(network), Draft(_names(network))
    time = WholeTrains(draft, Integers(), _firing(network), INPUT)
    stimulus = draft.reshape(INPUT, network.input["shape"])
    Writer(network, draft, time.numbers, time, potentials).write(stimulus, element == TensorProto.UINT8)
    inputs = [info(INPUT, element, (STEPS, BATCH, *network.input["shape"]))]
    graph = draft.graph("network", inputs, [info(*each) for each in time.shown])
    return _finish(network, graph, _INTEGERS)


def input_element(network: Network) -> int:
    """The type of the integer graph's stimulus: uint8 where 8 bits hold it, else int32."""
    layer = network.input
    fits = layer["encoding"] == "unsigned" and layer["bits"] <= 8
    return int(TensorProto.UINT8 if fits else TensorProto.INT32)


def _firing(network: Network) -> Firing:
    return Firing(network.delay, network.contract["comparator"], network.contract["reset_mode"])


def _names(network: Network) -> set[str]:
    """The names that the model's inputs and outputs have; nothing else may take them."""
    fields = ("spikes", "potentials", "result")
    return {INPUT, *(f"{field}/{layer['name']}" for field in fields for layer in network.layers)}


def step_model(network: Network) -> ModelProto:
    """One step of a network in float32, its states as inputs and outputs: fast on GPUs.

    Raises `Damaged`, naming the layers and how far their numbers reach, unless all of them, and every sum on
    the way to them, are proved to lie below 2^24; and where there is a firing delay, for then layers do not
    run at the same steps.
    """
    refuse_unknown(network)
    if network.delay:
        what = f"its firing delay is {network.delay}: only without one do all layers run at the same step"
        raise Damaged([Problem(MANIFEST, what)])
    refuse_wider_than_float32(network)
    time = OneStep(Draft(_names(network)), Floats(), _firing(network))
    Writer(network, time.draft, time.numbers, time, potentials=True).write(INPUT, narrow=False)
    stimulus = info(INPUT, TensorProto.FLOAT, (BATCH, *network.input["shape"]))
    return _finish(network, time.draft.graph("step", [stimulus, *time.inputs()], time.outputs()), _STEP)


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
