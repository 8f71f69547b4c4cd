"""`network.h` of the C99 twin: what the manifest says about the network, as tables for `c/replay.c`.

Word counts follow from the geometry, not from the manifest's own count: the program reads as many words as it
uses, and a file that holds more or fewer is damaged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

from ann2snn_cli.twins.replay import MANIFEST, Damaged, Layer, Pack, Problem, refuse_contract

MOST_BITS = 62  # of a word or a sum: the difference of two still fits int64_t
MOST_AXES = 8
WINDOW_AXES = 3
WINDOWS = ("kernel", "stride", "padding", "dilation")

KINDS = {
    "input": "INPUT",
    "conv": "CONV",
    "conv_transpose": "CONV_TRANSPOSE",
    "linear": "LINEAR",
    "scale": "SCALE",
    "add": "ADD",
    "sum_pool": "SUM_POOL",
    "max_pool": "MAX_POOL",
    "concat": "CONCAT",
    "reshape": "RESHAPE",
    "permute": "PERMUTE",
    "gather": "GATHER",
    "integrate_fire": "INTEGRATE_FIRE",
    "integrate": "INTEGRATE",
}
NEURONS = ("integrate_fire", "integrate")
ENCODINGS = {"two's complement": "TWOS_COMPLEMENT", "unsigned": "UNSIGNED", "bipolar": "BIPOLAR"}
CHOICES = {  # of the contract: the field of struct contract, and which value makes it true
    "reset_mode": ("reset_to_zero", {"subtraction": False, "zero": True}),
    "comparator": ("strict", {">=": False, ">": True}),
}


def tables(pack: Pack) -> str:
    """The text of `network.h`. Raises `Damaged` with all that the program cannot do."""
    refuse_contract(pack.network.contract)
    refused = [Problem(MANIFEST, what, layer) for layer, what in _refusals(pack)]
    if refused:
        raise Damaged(refused)
    layers, outputs, samples = pack.network.layers, pack.network.outputs, pack.manifest["samples"]
    numbers = {layer["name"]: number for number, layer in enumerate(layers)}
    sizes = {
        "LAYERS": len(layers),
        "PARAMETERS": sum(len(_parameters(pack, layer)) for layer in layers),
        "OUTPUTS": len(outputs),
        "SAMPLES": len(samples),
        "RECORDED_STEPS": pack.manifest["recorded"]["steps"],
    }
    results = [_struct({"layer": numbers[name], "key": _string(json.dumps(name))}) for name in outputs]
    parts = [
        "/* The network of one pack: made from its manifest.json, a part of replay.c. */",
        "\n".join(f"#define {name} {value}" for name, value in sizes.items()),
        f"static const struct contract CONTRACT = {_struct(_contract(pack))};",
        _array("struct layer NETWORK[LAYERS]", [_layer(pack, layer, numbers) for layer in layers]),
        _array("struct output OUTPUT[OUTPUTS]", results),
        _array("struct sample SAMPLE[SAMPLES]", [_sample(sample, numbers) for sample in samples]),
    ]
    return "\n\n".join(parts) + "\n"


def _contract(pack: Pack) -> dict[str, Any]:
    contract = pack.network.contract
    chosen = {field: values[contract[name]] for name, (field, values) in CHOICES.items()}
    return {"timesteps": pack.network.steps, "delay": pack.network.delay, **chosen}


def _layer(pack: Pack, layer: Layer, numbers: Mapping[str, int]) -> str:
    """One element of NETWORK. Fields that a kind does not have stay 0."""
    inputs, parameters = [numbers[name] for name in layer["inputs"]], _parameters(pack, layer)
    fields = {
        "name": _string(layer["name"]),
        "kind": KINDS[layer["kind"]],
        "inputs": f"(const int[]){_braces(inputs)}" if inputs else "NULL",
        "input_count": len(inputs),
        "parameters": f"(const struct parameter[]){_braces(parameters, 8)}" if parameters else "NULL",
        "parameter_count": len(parameters),
        "rank": len(layer["shape"]),
        "shape": _braces(layer["shape"]),
        "size": prod(layer["shape"]),
        "last_reader": _last_reader(pack, layer, numbers),
    }
    if "kernel" in layer:
        fields |= {name: _braces(_three_axes(layer, name)) for name in WINDOWS}
    if "potential" in layer:
        fields["potential_bits"] = layer["potential"]["bits"]
    fields |= {name: layer[name] for name in ("groups", "fraction_bits") if name in layer}
    fields |= {"order": _braces(layer["order"])} if "order" in layer else {}
    return _struct(fields, 4)


def _last_reader(pack: Pack, layer: Layer, numbers: Mapping[str, int]) -> int:
    """The number of the last layer that reads this one; of an output, one behind all layers."""
    if layer["name"] in pack.network.outputs:
        return len(numbers)
    readers = [numbers[other["name"]] for other in pack.network.layers if layer["name"] in other["inputs"]]
    return max(readers, default=numbers[layer["name"]])


def _three_axes(layer: Layer, name: str) -> list[int]:
    """A field of a window, the missing first axes filled in."""
    rank = len(layer["kernel"])
    missing = 0 if name == "padding" else 1
    return [missing] * (WINDOW_AXES - rank) + list(layer.get(name, [1] * rank))


def _sample(sample: Mapping[str, Any], numbers: Mapping[str, int]) -> str:
    expected = [
        f"[{numbers[layer]}] = {_struct({role: _string(file) for role, file in files.items()})}"
        for layer, files in sample["expect"].items()
        if files
    ]
    stimuli = [f"[{numbers[layer]}] = {_string(file)}" for layer, file in sample["stimulus"].items()]
    nothing = ["{.spikes = NULL}"]  # C99 has no empty list
    fields = {name: _string(sample[name]) for name in ("name", "result")}
    fields["stimuli"] = f"(const char *const[LAYERS]){_braces(stimuli)}"
    fields["expected"] = f"(const struct expected[LAYERS]){_braces(expected or nothing, 8)}"
    return _struct(fields, 4)


# Parameters ----------------------------------------------------------------------------------------


def _parameters(pack: Pack, layer: Layer) -> list[str]:
    """The elements of the layer's `parameters`, at the places of enum role."""
    return [_parameter(pack, layer, role) for role in _roles(layer)]


def _roles(layer: Layer) -> list[str]:
    if layer["kind"] == "input":
        return ["stimulus"]
    if layer["kind"] in NEURONS:
        return ["threshold", "bias", "initial"]
    if layer["kind"] == "add":
        return [f"weight.{place}" for place in range(len(layer["inputs"]))]
    return list(layer["parameters"])


def _parameter(pack: Pack, layer: Layer, role: str) -> str:
    size = prod(layer["shape"])
    if role == "stimulus":
        entry, share = {"bits": layer["bits"], "encoding": layer["encoding"]}, 1
    elif role not in layer["parameters"]:
        return _struct({"share": 1})
    else:
        entry = layer["parameters"][role]
        share = {"layer": size, "channel": size // layer["shape"][0], "neuron": 1}[entry.get("per", "neuron")]
    words = {
        "file": _string(entry["file"]) if "file" in entry else "NULL",
        "count": _synapses(pack, layer) if role == "weight" and "per" not in entry else size // share,
        "bits": entry["bits"],
        "encoding": ENCODINGS[entry["encoding"]],
    }
    return _struct({"words": _struct(words), "share": share})


def _synapses(pack: Pack, layer: Layer) -> int:
    """How many weights a convolution or a linear layer has."""
    (shape,) = [source["shape"] for source in _sources(pack, layer)]
    if layer["kind"] == "linear":
        return int(layer["shape"][-1] * shape[-1])
    return int(layer["shape"][0] * shape[0] // layer["groups"] * prod(layer["kernel"]))


def _sources(pack: Pack, layer: Layer) -> list[Layer]:
    by_name = {other["name"]: other for other in pack.network.layers}
    return [by_name[name] for name in layer["inputs"]]


# What the program cannot do ------------------------------------------------------------------------


def _refusals(pack: Pack) -> Iterator[tuple[str, str]]:
    """(layer, what), everything."""
    network = pack.network
    if network.widest_bits > MOST_BITS:
        yield "", f"sums of {network.widest_bits} bits do not fit 64-bit integers"
    if not network.inputs:
        yield "", "it has no input"
    if not pack.manifest["samples"]:
        yield "", "it has no samples"
    shown = {layer["name"] for layer in network.inputs}
    for sample in pack.manifest["samples"]:
        if set(sample["stimulus"]) != shown:
            yield "", f"sample {sample['name']} does not hold a stimulus for each input"
    for layer in network.layers:
        yield from ((layer["name"], what) for what in _layer_refusals(pack, layer))


def _layer_refusals(pack: Pack, layer: Layer) -> Iterator[str]:
    if layer["kind"] not in KINDS:
        yield f"layers of the kind {layer['kind']!r} are unknown"
        return
    if not 1 <= len(layer["shape"]) <= MOST_AXES:
        yield f"a shape of {len(layer['shape'])} axes is none of 1 to {MOST_AXES}"
    if "kernel" in layer and not 1 <= len(layer["kernel"]) == len(layer["shape"]) - 1 <= WINDOW_AXES:
        yield f"a window of {len(layer['kernel'])} axes in a shape of {len(layer['shape'])}"
    stored = [layer] if layer["kind"] == "input" else list(layer["parameters"].values())
    for entry in stored:
        if entry["encoding"] not in ENCODINGS or not 1 <= entry["bits"] <= MOST_BITS:
            yield f"words of {entry['bits']} bits in {entry['encoding']} are unknown"
    expected = [sample["expect"].get(layer["name"], {}) for sample in pack.manifest["samples"]]
    if layer["kind"] not in NEURONS and any("potentials" in files for files in expected):
        yield "potentials are expected of a layer that has none"
    if not _fits(pack, layer):
        yield "its shape does not follow from those of its inputs"


def _fits(pack: Pack, layer: Layer) -> bool:
    """Does as much come in as the program will read?"""
    sources = _sources(pack, layer)
    inputs = {"input": range(1), "add": range(1, 1000), "concat": range(1, 1000)}.get(
        layer["kind"], range(1, 2)
    )
    return len(sources) in inputs and _FIT[layer["kind"]](layer, sources)


def _sizes(layers: Iterable[Layer]) -> list[int]:
    return [prod(layer["shape"]) for layer in layers]


def _same_size(layer: Layer, sources: Sequence[Layer]) -> bool:
    return set(_sizes(sources)) == set(_sizes([layer]))


def _windows_fit(layer: Layer, sources: Sequence[Layer]) -> bool:
    """The program itself looks where windows end; channels are as many as groups or pooling need."""
    groups, ins, outs = layer.get("groups", 0), sources[0]["shape"][0], layer["shape"][0]
    divided = ins % groups == 0 == outs % groups if groups else ins == outs
    return bool(divided and len(sources[0]["shape"]) == len(layer["shape"]))


_FIT: dict[str, Callable[[Layer, Sequence[Layer]], bool]] = {
    "input": lambda layer, sources: True,
    "conv": _windows_fit,
    "conv_transpose": _windows_fit,
    "linear": lambda layer, sources: bool(sources[0]["shape"][:-1] == layer["shape"][:-1]),
    "scale": _same_size,
    "add": lambda layer, sources: _same_size(layer, sources) and len(sources) == len(layer["parameters"]),
    "sum_pool": _windows_fit,
    "max_pool": _windows_fit,
    "concat": lambda layer, sources: [sum(_sizes(sources))] == _sizes([layer]),
    "reshape": _same_size,
    "permute": lambda layer, sources: (
        layer["shape"] == [sources[0]["shape"][axis] for axis in layer["order"]]
    ),
    "gather": lambda layer, sources: True,
    "integrate_fire": _same_size,
    "integrate": _same_size,
}


# The language --------------------------------------------------------------------------------------


def _string(text: str) -> str:
    """A string literal: UTF-8, with everything but plain letters in octal."""
    plain = {*range(32, 127)} - {*b'"\\?'}
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode()) + '"'


def _braces(items: Iterable[object], indent: int | None = None) -> str:
    """A list: on one line, or one item a line."""
    texts = [str(item) for item in items]
    if indent is None:
        return "{" + ", ".join(texts) + "}"
    return "{\n" + "".join(f"{' ' * (indent + 4)}{text},\n" for text in texts) + " " * indent + "}"


def _struct(fields: Mapping[str, Any], indent: int | None = None) -> str:
    """An element with its fields named."""
    shown = {name: str(value).lower() if isinstance(value, bool) else value for name, value in fields.items()}
    return _braces([f".{name} = {value}" for name, value in shown.items()], indent)


def _array(declaration: str, elements: Sequence[str]) -> str:
    return f"static const {declaration} = {_braces(elements, 0)};"
