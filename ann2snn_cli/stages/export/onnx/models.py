"""The models as files hold them: the graphs, what they mean in words, and the contract as metadata."""

from __future__ import annotations

import json
from typing import Any

from onnx import ModelProto, helper

from ann2snn_cli.stages.export.files import NO_SEAL, SEAL
from ann2snn_cli.stages.export.onnx.step import step_graph
from ann2snn_cli.twins.onnx import model
from ann2snn_cli.twins.onnx.network import as_model
from ann2snn_cli.twins.replay import Layer, Network

PRODUCER = "ann2snn"

_WHOLE = """A spiking network in integers.

input [T, batch, ...]: the stimulus of every step (direct coding: the same one T times); of a network with
several inputs, input/LAYER each. spikes/LAYER [T, batch, ...]: 1 where a neuron fires. potentials/LAYER
[T, batch, ...]: after the reset. Steps are each layer's own: step t of a population is step t + `delay` of
its input.
result/LAYER [batch, ...]: an output's sum over all T steps. The metadata hold the contract; biases and
initial potentials are made for its `timesteps`, though the graph runs any T (a delay beyond it is T)."""

_STEP = """One time step of a spiking network, in float32 that holds integers exactly: sums are below 2^24.
(Switch off TF32, and convolution algorithms that are no plain sums.)

input [batch, ...]: the stimulus of the step; of a network with several inputs, input/LAYER each. state/NAME
[batch, ...]: 0 before the first step, then the next/NAME of the step before. spikes/LAYER: 1 where a neuron
fires. potentials/LAYER: after the reset.
result/LAYER: an output's sum so far; after `timesteps` steps it is the result."""


def network_model(network: Network, *, potentials: bool = True) -> ModelProto:
    """The twin's graph. Raises `Damaged`, naming the layers, where int32 does not hold every sum."""
    return _described(network, model(network, potentials=potentials), _WHOLE)


def step_model(network: Network) -> ModelProto:
    """One step in floats. Raises `Damaged`, with the reasons, where that is not proved exact."""
    return _described(network, as_model(step_graph(network)), _STEP)


def _described(network: Network, made: ModelProto, text: str) -> ModelProto:
    made.producer_name, made.doc_string = PRODUCER, text
    helper.set_model_props(made, {**_metadata(network), SEAL: NO_SEAL})
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
