"""The whole network as one graph in integers, for any number of steps and samples."""

from __future__ import annotations

from onnx import GraphProto, ModelProto, TensorProto, helper

from ann2snn_cli.twins.onnx.arithmetic import Integers
from ann2snn_cli.twins.onnx.builder import Builder
from ann2snn_cli.twins.onnx.layers import Writer
from ann2snn_cli.twins.onnx.ranges import refuse_unknown, refuse_wider_than_int32
from ann2snn_cli.twins.onnx.timing import BATCH, STEPS, Firing, WholeTrains, info
from ann2snn_cli.twins.replay import Layer, Network

OPSET = 18
IR_VERSION = 8  # of the time of opset 18: older runtimes read it
INPUT = "input"


def model(network: Network, *, potentials: bool = True) -> ModelProto:
    """The network as an integer graph of standard operators (opset 18), for any T and batch.

    Its input is `input`, or `input/LAYER` for each where there are several; its outputs are `spikes/LAYER`,
    `potentials/LAYER` and `result/LAYER`. Equal networks give equal bytes. Raises `Damaged`, naming the
    layers, where int32 does not hold every sum.
    """
    refuse_unknown(network)
    refuse_wider_than_int32(network)
    built, names = Builder(outer_names(network)), input_names(network)
    time = WholeTrains(built, Integers(), firing_of(network), next(iter(names.values())))
    stimuli = {layer["name"]: built.reshape(names[layer["name"]], layer["shape"]) for layer in network.inputs}
    narrow = {layer["name"] for layer in network.inputs if input_element(layer) == TensorProto.UINT8}
    Writer(network, built, time.numbers, time, potentials).write(stimuli, narrow)
    inputs = [
        info(names[layer["name"]], input_element(layer), (STEPS, BATCH, *layer["shape"]))
        for layer in network.inputs
    ]
    return as_model(built.graph("network", inputs, [info(*each) for each in time.shown]))


def as_model(graph: GraphProto) -> ModelProto:
    """The graph with the versions of what it is written in."""
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)


def input_names(network: Network) -> dict[str, str]:
    """What a model's inputs are called, by input layer."""
    names = [layer["name"] for layer in network.inputs]
    return {names[0]: INPUT} if len(names) == 1 else {name: f"{INPUT}/{name}" for name in names}


def input_element(layer: Layer) -> int:
    """The type of a stimulus of the integer graph: uint8 where 8 bits hold it, else int32."""
    fits = layer["encoding"] == "unsigned" and layer["bits"] <= 8
    return int(TensorProto.UINT8 if fits else TensorProto.INT32)


def firing_of(network: Network) -> Firing:
    """How its neurons fire."""
    return Firing(network.delay, network.contract["comparator"], network.contract["reset_mode"])


def outer_names(network: Network) -> set[str]:
    """The names that a model's inputs and outputs have; nothing else may take them."""
    fields = ("spikes", "potentials", "result")
    return {
        *input_names(network).values(),
        *(f"{field}/{layer['name']}" for field in fields for layer in network.layers),
    }
