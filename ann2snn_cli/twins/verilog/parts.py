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


def _turns(of: Wiring, layer: Layer) -> dict[str, str]:
    place = of.places[layer["name"]]
    return {"clock": f"clock[{place}]", "turn": f"turn[{place}]", "index": "index"}


def _clocked(
    of: Wiring, layer: Layer, module: str, parameters: dict[str, Any], ports: dict[str, str] | None = None
) -> str:
    """A module that listens to one layer and holds what came in until its turn."""
    (source, *_) = of.sources(layer)
    widths = {"SLOTS": "SLOTS", "X_BITS": bits(source), "BITS": bits(layer)}
    wired = _turns(of, layer) | {"start": "start", "slot": "slot"}
    wired |= listens(of.prefix(source)) | sends(of.prefix(layer)) | (ports or {})
    return instance(module, of.instance(layer), widths | parameters, wired)


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


def _geometry(of: Wiring, layer: Layer) -> dict[str, int]:
    """The extents of the input, the output and the window."""
    (source,) = of.sources(layer)
    found = _axes("IN", source["shape"][1:]) | _axes("OUT", layer["shape"][1:])
    for name in ("kernel", "stride", "padding", "dilation"):
        if name in layer:
            found |= _axes(name.upper(), layer[name])
    return found


# One rule a kind -----------------------------------------------------------------------------------


def _input(of: Wiring, layer: Layer) -> Part:
    parameters = {"NEURONS": size(layer), "BITS": bits(layer)}
    ports = _turns(of, layer) | sends(of.prefix(layer))
    return Part(instance("stimulus", of.instance(layer), parameters, ports))


def _conv(of: Wiring, layer: Layer) -> Part:
    parameters = {
        **_weight(layer["parameters"]["weight"]),
        "TRANSPOSED": int(layer["kind"] == "conv_transpose"),
        "GROUPS": layer["groups"],
        "IN_CHANNELS": of.sources(layer)[0]["shape"][0],
        "OUT_CHANNELS": layer["shape"][0],
        **_geometry(of, layer),
    }
    return Part(_clocked(of, layer, "conv", parameters), {"weight": f"{of.instance(layer)}.weight"})


def _linear(of: Wiring, layer: Layer) -> Part:
    entry = layer["parameters"]["weight"]
    outputs, inputs = entry["shape"]
    parameters = {**_weight(entry), "ROWS": size(layer) // outputs, "INPUTS": inputs, "OUTPUTS": outputs}
    return Part(_clocked(of, layer, "linear", parameters), {"weight": f"{of.instance(layer)}.weight"})


def _sum_pool(of: Wiring, layer: Layer) -> Part:
    parameters = {"CHANNELS": layer["shape"][0], **_geometry(of, layer)}
    return Part(_clocked(of, layer, "sum_pool", parameters))


def _max_pool(of: Wiring, layer: Layer) -> Part:
    rule = {"SUM_BITS": of.widest_bits, "GATE": int(layer["rule"] == "gate")}
    return Part(
        _clocked(of, layer, "max_pool", {**rule, "CHANNELS": layer["shape"][0], **_geometry(of, layer)})
    )


def _multiplier(of: Wiring, layer: Layer, source: Layer, role: str, name: str, prefix: str) -> str:
    """A `scale` between a layer and wires that begin with `prefix`."""
    entry = layer["parameters"][role]
    parameters = {
        "NEURONS": size(layer),
        "WEIGHTS": entry["words"],
        **_weight(entry),
        "X_BITS": bits(source),
        "BITS": bits(layer),
    }
    return instance("scale", name, parameters, listens(of.prefix(source)) | sends(prefix))


def _scale(of: Wiring, layer: Layer) -> Part:
    (source,) = of.sources(layer)
    name = of.instance(layer)
    text = _multiplier(of, layer, source, "weight", name, of.prefix(layer))
    return Part(text, {"weight": f"{name}.weight"}, turns=False)


def _adder(of: Wiring, layer: Layer, prefixes: list[str]) -> str:
    """An `add` behind wires that begin with these prefixes, the first one in the lowest bits."""
    ports = {
        f"in_{wire}": "{" + ", ".join(f"{prefix}_{wire}" for prefix in reversed(prefixes)) + "}"
        for wire in WIRES
    }
    parameters = {"NEURONS": size(layer), "INPUTS": len(prefixes), "X_BITS": bits(layer)}
    return _clocked(of, layer, "add", parameters, ports)


def _add(of: Wiring, layer: Layer) -> Part:
    lines, memories, prefixes = [], {}, []
    for place, source in enumerate(of.sources(layer)):
        prefix, name, role = f"{of.prefix(layer)}_{place}", f"{of.instance(layer)}_{place}", f"weight.{place}"
        lines += [declaration(prefix, layer), _multiplier(of, layer, source, role, name, prefix)]
        memories[role] = f"{name}.weight"
        prefixes.append(prefix)
    return Part("\n".join([*lines, _adder(of, layer, prefixes)]), memories)


def _concat(of: Wiring, layer: Layer) -> Part:
    lines, prefixes, offset = [], [], 0
    for place, source in enumerate(of.sources(layer)):
        prefix = f"{of.prefix(layer)}_{place}"
        lines += [declaration(prefix, layer), _wired(prefix, of.prefix(source), f" + {offset}")]
        prefixes.append(prefix)
        offset += size(source)
    return Part("\n".join([*lines, _adder(of, layer, prefixes)]))


def _wired(prefix: str, source: str, address: str = "") -> str:
    """Wires that follow a layer's; the address may be changed on the way."""
    return (
        f"assign {prefix}_valid = {source}_valid, {prefix}_value = {source}_value, "
        f"{prefix}_address = {source}_address{address};"
    )


def _reshape(of: Wiring, layer: Layer) -> Part:
    (source,) = of.sources(layer)
    return Part(_wired(of.prefix(layer), of.prefix(source)), turns=False)


def _permute(of: Wiring, layer: Layer) -> Part:
    """Each axis of the input is a digit of the address; each digit gets the weight of its new place."""
    (source,) = of.sources(layer)
    address = f"{of.prefix(source)}_address"
    digits = [
        f"{address} / {prod(source['shape'][axis + 1 :])} % {source['shape'][axis]} "
        f"* {prod(layer['shape'][place + 1 :])}"
        for place, axis in enumerate(layer["order"])
    ]
    text = _wired(of.prefix(layer), of.prefix(source))
    return Part(text.replace(f"{address};", f"{' + '.join(digits)};"), turns=False)


def _gather(of: Wiring, layer: Layer) -> Part:
    (source,) = of.sources(layer)
    words = _word(layer["parameters"]["index"])
    parameters = {"INPUTS": size(source), "OUTPUTS": size(layer), "ORIGIN_BITS": words}
    return Part(_clocked(of, layer, "gather", parameters), {"index": f"{of.instance(layer)}.origin"})


def _integrate_fire(of: Wiring, layer: Layer) -> Part:
    (source,) = of.sources(layer)
    prefix, name = of.prefix(layer), of.instance(layer)
    parameters = {
        "NEURONS": size(layer),
        "X_BITS": bits(source),
        "BITS": layer["potential"]["bits"],
        "FRACTION_BITS": layer["fraction_bits"],
        "RESET_TO_ZERO": int(of.contract["reset_mode"] == "zero"),
        "COMPARE_STRICTLY": int(of.contract["comparator"] == ">"),
        **_words(layer),
    }
    ports = _turns(of, layer) | {"start": "start", "integrate": "integrate", "fire": "fire"}
    ports |= listens(of.prefix(source)) | sends(prefix) | {"potential": f"{prefix}_potential"}
    roles = {"threshold": "threshold", "bias": "bias", "initial": "preset"}
    memories = {role: f"{name}.{memory}" for role, memory in roles.items()}
    return Part(_potential(layer, prefix) + instance("neuron", name, parameters, ports), memories)


def _potential(layer: Layer, prefix: str) -> str:
    return f"wire signed [{layer['potential']['bits'] - 1}:0] {prefix}_potential;\n"


def _integrate(of: Wiring, layer: Layer) -> Part:
    prefix, name = of.prefix(layer), of.instance(layer)
    parameters = {
        "NEURONS": size(layer),
        "BITS": layer["potential"]["bits"],
        "Y_BITS": bits(layer),
        **_words(layer),
    }
    ports = {"first": "step == 0", "potential": f"{prefix}_potential"}
    text = _potential(layer, prefix) + _clocked(of, layer, "readout", parameters, ports)
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


def part(of: Wiring, layer: Layer) -> Part:
    """A layer in the bench."""
    return RULES[layer["kind"]](of, layer)
