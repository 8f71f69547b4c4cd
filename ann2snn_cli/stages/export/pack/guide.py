"""The README of a pack: what is in it, and one weight and one spike found and decoded by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ann2snn_cli.stages.export.pack.words import digits, spike_lines, words

Array = NDArray[Any]


def guide(manifest: Mapping[str, Any], arrays: Mapping[str, Array]) -> str:
    """The text; `arrays` are those of `pack.npz`."""
    contract, recorded = manifest["contract"], manifest["recorded"]
    parts = [
        f"# Vector pack of {manifest.get('network', 'a network')}",
        f"Written by {manifest.get('tool', 'ann2snn')}. {contract['timesteps']} steps, reset by "
        f"{contract['reset_mode']}, firing delay {contract['delay']}. At every step: {contract['order']} "
        f"(a neuron fires when its potential {contract['comparator']} its threshold).",
        "    python replay.py          # checks every file and replays every sample, with numpy alone",
        "`manifest.json` describes every layer, sample and file. Words are hexadecimal, one a line; what is "
        "stored in memory order (last axis fastest) has the flat index (c*H + y)*W + x.",
        _samples(manifest),
        _stimuli(manifest),
        _weight(manifest, arrays),
        _spike(manifest, arrays),
        f"Recorded: the first {recorded['steps']} steps"
        f"{' with potentials' if recorded['potentials'] else ', without potentials'}, "
        f"layers {', '.join(recorded['layers'])}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _samples(manifest: Mapping[str, Any]) -> str:
    lines = [f"| {sample['name']} | {sample['what']} |" for sample in manifest["samples"]]
    lines += [f"| {each['name']} | absent: {each['reason']} |" for each in manifest["absent"]]
    return "\n".join(["## Samples", "", "| sample | what |", "| --- | --- |", *lines])


def _stimuli(manifest: Mapping[str, Any]) -> str:
    """Where what is shown stands, and in which words."""
    inputs = [layer for layer in manifest["layers"] if layer["kind"] == "input"]
    rows = [
        f"| {layer['name']} | {layer['shape']} | {layer['encoding']}, {layer['bits']} bits "
        f"| `stimulus/SAMPLE/{layer['file_name']}.mem` |"
        for layer in inputs
    ]
    head = ["## Stimuli", "", "| input | shape | words | file |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *rows])


def _weight(manifest: Mapping[str, Any], arrays: Mapping[str, Array]) -> str:
    """One weight: the address from its indices, the word there, its value."""
    synapses = (each for each in manifest["layers"] if "layout" in each["parameters"].get("weight", {}))
    layer = next(synapses, None)
    if layer is None:
        return ""
    entry = layer["parameters"]["weight"]
    values = arrays[entry["file"].removesuffix(".mem")]
    flat = int(np.argmin(values))  # a negative one, if there is one: it shows the sign
    names = entry["layout"].removeprefix("w[").removesuffix("]").split("][")
    places = [int(place) for place in np.unravel_index(flat, values.shape)]
    named = ", ".join(f"{name}={place}" for name, place in zip(names, places, strict=True))
    word = words(values.ravel()[flat : flat + 1], entry["bits"], entry["encoding"]).decode().strip()
    return (
        f"## A weight, by hand\n\n"
        f"The weight of layer `{layer['name']}` with {named}: its index is {entry['index']} = {flat}, "
        f"so it is in line {flat + 1} of `{entry['file']}`. There stands `{word}`, a {entry['encoding']} "
        f"word of {entry['bits']} bit{'s' * (entry['bits'] > 1)}: {int(values.ravel()[flat])}."
    )


def _spike(manifest: Mapping[str, Any], arrays: Mapping[str, Array]) -> str:
    """One spike: the line is the step, the bit the neuron."""
    for sample in manifest["samples"]:
        for name, files in sample["expect"].items():
            spikes = arrays.get(files.get("spikes", "").removesuffix(".mem"))
            if spikes is not None and spikes.any():
                return _decoded(sample["name"], name, files["spikes"], spikes)
    return ""


def _decoded(sample: str, layer: str, file: str, spikes: Array) -> str:
    flat = spikes.reshape(len(spikes), -1)
    step, neuron = (int(place) for place in np.argwhere(flat)[0])
    line = spike_lines(flat[step : step + 1]).decode().strip()
    place_of_digit = neuron // 4
    digit = line[digits(flat.shape[1]) - 1 - place_of_digit]
    places = np.unravel_index(neuron, (1, *spikes.shape[1:]))[1:]  # a layer may have no axes
    place = ", ".join(str(int(at)) for at in places)
    return (
        f"## A spike, by hand\n\n"
        f"Sample `{sample}`, layer `{layer}`, neuron [{place}]: its flat index is {neuron}. "
        f"Step {step + 1} is line {step + 1} of `{file}`, {len(line)} digits. "
        f"Bit {neuron} is bit {neuron % 4} of digit {place_of_digit} from the right (0 is the right-most). "
        f"That digit is `{digit}`, so the bit is {int(digit, 16) >> neuron % 4 & 1}: it fires."
    )
