"""The whole network as one graph in integers, for any number of steps and samples."""

from __future__ import annotations

from onnx import GraphProto, ModelProto, TensorProto, helper

from ann2snn_cli.twins.onnx.arithmetic import Integers
from ann2snn_cli.twins.onnx.draft import Draft
from ann2snn_cli.twins.onnx.layers import Writer
from ann2snn_cli.twins.onnx.ranges import refuse_unknown, refuse_wider_than_int32
from ann2snn_cli.twins.onnx.timing import BATCH, STEPS, Firing, WholeTrains, info
from ann2snn_cli.twins.replay import Network

OPSET = 18
IR_VERSION = 8  # of the time of opset 18: older runtimes read it
INPUT = "input"


def model(network: Network, *, potentials: bool = True) -> ModelProto:
    """The network as an integer graph of standard operators (opset 18), for any T and batch.

    Its input is `input`, its outputs are `spikes/LAYER`, `potentials/LAYER` and `result/LAYER`. Equal
    networks give equal bytes. Raises `Damaged`, naming the layers, where int32 does not hold every sum.
    """
    refuse_unknown(network)
    refuse_wider_than_int32(network)
    element, draft = input_element(network), Draft(outer_names(network))
    time = WholeTrains(draft, Integers(), firing_of(network), INPUT)
    stimulus = draft.reshape(INPUT, network.input["shape"])
    Writer(network, draft, time.numbers, time, potentials).write(stimulus, element == TensorProto.UINT8)
    inputs = [info(INPUT, element, (STEPS, BATCH, *network.input["shape"]))]
    return as_model(draft.graph("network", inputs, [info(*each) for each in time.shown]))


def as_model(graph: GraphProto) -> ModelProto:
    """The graph with the versions of what it is written in."""
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)


def input_element(network: Network) -> int:
    """The type of the integer graph's stimulus: uint8 where 8 bits hold it, else int32."""
    layer = network.input
    fits = layer["encoding"] == "unsigned" and layer["bits"] <= 8
    return int(TensorProto.UINT8 if fits else TensorProto.INT32)


def firing_of(network: Network) -> Firing:
    """How its neurons fire."""
    return Firing(network.delay, network.contract["comparator"], network.contract["reset_mode"])


def outer_names(network: Network) -> set[str]:
    """The names that a model's inputs and outputs have; nothing else may take them."""
    fields = ("spikes", "potentials", "result")
    return {INPUT, *(f"{field}/{layer['name']}" for field in fields for layer in network.layers)}
