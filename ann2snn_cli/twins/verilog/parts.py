"""What stands in the bench for each layer of a network: an instance of a module of this folder, or wires.

Widths come from the manifest: `passes` for what is sent, `potential.bits` for the registers of neurons. Both
hold every partial sum of a step, in whatever order its terms are added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from ann2snn_cli.twins.replay import Layer
from ann2snn_cli.twins.verilog.wiring import (
    WIRES,
    Wiring,
    bits,
    declaration,
    instance,
    listens,
    sends,
    size,
)

AXES = "DHW"  # the modules have three spatial axes; a layer with fewer lacks the first ones


@dataclass(frozen=True)
class Part:
    """One layer in the bench."""

    text: str
    memories: dict[str, str] = field(default_factory=dict)  # by role, the memory that holds the parameter
    turns: bool = True  # False: it passes events on at once


# Ports and parameters that modules share -----------------------------------------------------------


def _turns(wiring: Wiring, layer: Layer) -> dict[str, str]:
    place = wiring.places[layer["name"]]
    return {"clock": f"clock[{place}]", "turn": f"turn[{place}]", "index": "index"}


def _clocked(
    wiring: Wiring, layer: Layer, module: str, parameters: dict[str, Any], ports: dict[str, str] | None = None
) -> str:
    """A module that listens to one layer and holds what came in until its turn."""
    (source, *_) = wiring.sources(layer)
    widths = {"X_BITS": bits(source), "BITS": bits(layer)}
    wired = _turns(wiring, layer) | {"start": "start"}
    wired |= listens(wiring.prefix(source)) | sends(wiring.prefix(layer)) | (ports or {})
    return instance(module, wiring.instance(layer), widths | parameters, wired)


def _word(entry: dict[str, Any]) -> int:
    """The width of a signed register for a parameter's words: what is unsigned takes one more bit."""
    return int(entry["bits"]) + int(entry["encoding"] == "unsigned")


def _weight(entry: dict[str, Any]) -> dict[str, int]:
    return {"WEIGHT_BITS": _word(entry), "BIPOLAR": int(entry["encoding"] == "bipolar")}


def _words(layer: Layer) -> dict[str, int]:
    """How many words the parameters of neurons have, and how wide they are."""
    names = {"threshold": "THRESHOLD", "bias": "BIAS", "initial": "INITIAL"}
    counts = {"threshold": "THRESHOLDS", "bias": "BIASES", "initial": "INITIALS"}
    found: dict[str, int] = {}
    for role, entry in layer["parameters"].items():
        found |= {counts[role]: entry["words"], f"{names[role]}_BITS": _word(entry)}
    return found


def _axes(name: str, values: Sequence[int]) -> dict[str, int]:
    """A parameter for each axis that the layer has."""
    return {f"{name}_{axis}": value for axis, value in zip(AXES[-len(values) :], values, strict=True)}


def _geometry(wiring: Wiring, layer: Layer) -> dict[str, int]:
    """The extents of the input, the output and the window."""
    (source,) = wiring.sources(layer)
    found = _axes("IN", source["shape"][1:]) | _axes("OUT", layer["shape"][1:])
    for name in ("kernel", "stride", "padding", "dilation"):
        if name in layer:
            found |= _axes(name.upper(), layer[name])
    return found


# One rule a kind -----------------------------------------------------------------------------------


def _input(wiring: Wiring, layer: Layer) -> Part:
    parameters = {"NEURONS": size(layer), "BITS": bits(layer)}
    ports = _turns(wiring, layer) | sends(wiring.prefix(layer))
    return Part(instance("stimulus", wiring.instance(layer), parameters, ports))


def _conv(wiring: Wiring, layer: Layer) -> Part:
    parameters = {
        **_weight(layer["parameters"]["weight"]),
        "TRANSPOSED": int(layer["kind"] == "conv_transpose"),
        "GROUPS": layer["groups"],
        "IN_CHANNELS": wiring.sources(layer)[0]["shape"][0],
        "OUT_CHANNELS": layer["shape"][0],
        **_geometry(wiring, layer),
    }
    return Part(_clocked(wiring, layer, "conv", parameters), {"weight": f"{wiring.instance(layer)}.weight"})


def _linear(wiring: Wiring, layer: Layer) -> Part:
    entry = layer["parameters"]["weight"]
    outputs, inputs = entry["shape"]
    parameters = {**_weight(entry), "ROWS": size(layer) // outputs, "INPUTS": inputs, "OUTPUTS": outputs}
    return Part(_clocked(wiring, layer, "linear", parameters), {"weight": f"{wiring.instance(layer)}.weight"})


def _sum_pool(wiring: Wiring, layer: Layer) -> Part:
    parameters = {"CHANNELS": layer["shape"][0], **_geometry(wiring, layer)}
    return Part(_clocked(wiring, layer, "sum_pool", parameters))


def _max_pool(wiring: Wiring, layer: Layer) -> Part:
    parameters = {"SUM_BITS": wiring.widest_bits, "CHANNELS": layer["shape"][0], **_geometry(wiring, layer)}
    return Part(_clocked(wiring, layer, "max_pool", parameters))


def _multiplier(wiring: Wiring, layer: Layer, source: Layer, role: str, name: str, prefix: str) -> str:
    """A `scale` between a layer and wires that begin with `prefix`."""
    entry = layer["parameters"][role]
    parameters = {
        "NEURONS": size(layer),
        "WEIGHTS": entry["words"],
        **_weight(entry),
        "X_BITS": bits(source),
        "BITS": bits(layer),
    }
    return instance("scale", name, parameters, listens(wiring.prefix(source)) | sends(prefix))


def _scale(wiring: Wiring, layer: Layer) -> Part:
    (source,) = wiring.sources(layer)
    name = wiring.instance(layer)
    text = _multiplier(wiring, layer, source, "weight", name, wiring.prefix(layer))
    return Part(text, {"weight": f"{name}.weight"}, turns=False)


def _adder(wiring: Wiring, layer: Layer, prefixes: list[str]) -> str:
    """An `add` behind wires that begin with these prefixes, the first one in the lowest bits."""
    ports = {
        f"in_{wire}": "{" + ", ".join(f"{prefix}_{wire}" for prefix in reversed(prefixes)) + "}"
        for wire in WIRES
    }
    widths = {"NEURONS": size(layer), "INPUTS": len(prefixes), "X_BITS": bits(layer)}
    parameters = {"SLOTS": wiring.steps_held(layer), **widths}
    return _clocked(wiring, layer, "add", parameters, ports | {"step": "step"})


def _add(wiring: Wiring, layer: Layer) -> Part:
    lines, memories, prefixes = [], {}, []
    for place, source in enumerate(wiring.sources(layer)):
        prefix, role = f"{wiring.prefix(layer)}_{place}", f"weight.{place}"
        name = f"{wiring.instance(layer)}_{place}"
        lines += [declaration(prefix, layer), _multiplier(wiring, layer, source, role, name, prefix)]
        memories[role] = f"{name}.weight"
        prefixes.append(prefix)
    return Part("\n".join([*lines, _adder(wiring, layer, prefixes)]), memories)


def _concat(wiring: Wiring, layer: Layer) -> Part:
    lines, prefixes, offset = [], [], 0
    for place, source in enumerate(wiring.sources(layer)):
        prefix = f"{wiring.prefix(layer)}_{place}"
        lines += [declaration(prefix, layer), _wired(prefix, wiring.prefix(source), f" + {offset}")]
        prefixes.append(prefix)
        offset += size(source)
    return Part("\n".join([*lines, _adder(wiring, layer, prefixes)]))


def _wired(prefix: str, source: str, address: str = "") -> str:
    """Wires that follow a layer's; the address may be changed on the way."""
    return (
        f"assign {prefix}_valid = {source}_valid, {prefix}_value = {source}_value, "
        f"{prefix}_address = {source}_address{address};"
    )


def _reshape(wiring: Wiring, layer: Layer) -> Part:
    (source,) = wiring.sources(layer)
    return Part(_wired(wiring.prefix(layer), wiring.prefix(source)), turns=False)


def _permute(wiring: Wiring, layer: Layer) -> Part:
    """Each axis of the input is a digit of the address; each digit gets the weight of its new place."""
    (source,) = wiring.sources(layer)
    address = f"{wiring.prefix(source)}_address"
    digits = [
        f"{address} / {prod(source['shape'][axis + 1 :])} % {source['shape'][axis]} "
        f"* {prod(layer['shape'][place + 1 :])}"
        for place, axis in enumerate(layer["order"])
    ]
    text = _wired(wiring.prefix(layer), wiring.prefix(source))
    return Part(text.replace(f"{address};", f"{' + '.join(digits)};"), turns=False)


def _gather(wiring: Wiring, layer: Layer) -> Part:
    (source,) = wiring.sources(layer)
    words = _word(layer["parameters"]["index"])
    parameters = {"INPUTS": size(source), "OUTPUTS": size(layer), "ORIGIN_BITS": words}
    return Part(_clocked(wiring, layer, "gather", parameters), {"index": f"{wiring.instance(layer)}.origin"})


def _integrate_fire(wiring: Wiring, layer: Layer) -> Part:
    (source,) = wiring.sources(layer)
    prefix, name = wiring.prefix(layer), wiring.instance(layer)
    parameters = {
        "NEURONS": size(layer),
        "X_BITS": bits(source),
        "BITS": layer["potential"]["bits"],
        "FRACTION_BITS": layer["fraction_bits"],
        "RESET_TO_ZERO": int(wiring.contract["reset_mode"] == "zero"),
        "COMPARE_STRICTLY": int(wiring.contract["comparator"] == ">"),
        **_words(layer),
    }
    ports = _turns(wiring, layer) | {"start": "start", "integrate": "integrate", "fire": "fire"}
    ports |= listens(wiring.prefix(source)) | sends(prefix) | {"potential": f"{prefix}_potential"}
    roles = {"threshold": "threshold", "bias": "bias", "initial": "preset"}
    memories = {role: f"{name}.{memory}" for role, memory in roles.items()}
    return Part(_potential(layer, prefix) + instance("neuron", name, parameters, ports), memories)


def _potential(layer: Layer, prefix: str) -> str:
    return f"wire signed [{layer['potential']['bits'] - 1}:0] {prefix}_potential;\n"


def _integrate(wiring: Wiring, layer: Layer) -> Part:
    prefix, name = wiring.prefix(layer), wiring.instance(layer)
    parameters = {
        "NEURONS": size(layer),
        "BITS": layer["potential"]["bits"],
        "Y_BITS": bits(layer),
        **_words(layer),
    }
    ports = {"first": "step == 0", "potential": f"{prefix}_potential"}
    text = _potential(layer, prefix) + _clocked(wiring, layer, "readout", parameters, ports)
    roles = {"bias": "bias", "initial": "preset"}
    memories = {role: f"{name}.{memory}" for role, memory in roles.items() if role in layer["parameters"]}
    return Part(text, memories)


RULES: dict[str, Callable[[Wiring, Layer], Part]] = {
    "input": _input,
    "conv": _conv,
    "conv_transpose": _conv,
    "linear": _linear,
    "scale": _scale,
    "add": _add,
    "sum_pool": _sum_pool,
    "max_pool": _max_pool,
    "concat": _concat,
    "reshape": _reshape,
    "permute": _permute,
    "gather": _gather,
    "integrate_fire": _integrate_fire,
    "integrate": _integrate,
}


def part(wiring: Wiring, layer: Layer) -> Part:
    """A layer in the bench."""
    return RULES[layer["kind"]](wiring, layer)
