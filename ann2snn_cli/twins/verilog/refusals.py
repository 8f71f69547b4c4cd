"""What the Verilog twin cannot do."""

from __future__ import annotations

from collections.abc import Iterator

from ann2snn_cli.twins.replay import MANIFEST, Damaged, Layer, Pack, Problem
from ann2snn_cli.twins.verilog.parts import AXES, RULES

CONTRACT = {
    "schedule": ("stepwise", "layerwise"),
    "reset_mode": ("subtraction", "zero"),
    "comparator": (">=", ">"),
}
POOLING = ("gate", "running_maximum")
ENCODINGS = ("two's complement", "unsigned", "bipolar")


def refuse(pack: Pack) -> None:
    """Raise `Damaged` with all that stands in the way of a bench; nothing if nothing does."""
    found = [Problem(MANIFEST, what) for what in _of_network(pack)]
    for layer in pack.network.layers:
        found += [Problem(MANIFEST, what, layer["name"]) for what in _of_layer(layer)]
    if found:
        raise Damaged(found)


def _of_network(pack: Pack) -> Iterator[str]:
    for name, known in CONTRACT.items():
        if pack.network.contract[name] not in known:
            yield f"its {name} is {pack.network.contract[name]!r}, not one of {', '.join(known)}"
    if [layer["kind"] for layer in pack.network.layers].count("input") != 1:
        yield "it does not have exactly one input"


def _of_layer(layer: Layer) -> Iterator[str]:
    if layer["kind"] not in RULES:
        yield f"there is no Verilog module for the kind {layer['kind']!r}"
    if len(layer.get("kernel", [])) > len(AXES):
        yield f"its windows have {len(layer['kernel'])} axes, the Verilog modules {len(AXES)}"
    if layer.get("rule", "gate") not in POOLING:
        yield f"the rule {layer['rule']!r} of a max_pool is unknown"
    for role, entry in layer["parameters"].items():
        if entry["encoding"] not in ENCODINGS:
            yield f"the encoding {entry['encoding']!r} of its {role} is unknown"
