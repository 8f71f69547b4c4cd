"""What the Verilog twin cannot do."""

from __future__ import annotations

from collections.abc import Iterator

from ann2snn_cli.twins.replay import MANIFEST, Damaged, Layer, Pack, Problem
from ann2snn_cli.twins.verilog.parts import AXES, RULES

WORDS = {
    "reset_mode": ("subtraction", "zero"),
    "comparator": (">=", ">"),
}
ENCODINGS = ("two's complement", "unsigned", "bipolar")


def refuse(pack: Pack) -> None:
    """Raise `Damaged` with all that stands in the way of a bench; nothing if nothing does."""
    if found := list(refusals(pack)):
        raise Damaged(found)


def refusals(pack: Pack) -> Iterator[Problem]:
    """All that stands in the way of a bench."""
    for what in _of_network(pack):
        yield Problem(MANIFEST, what)
    for layer in pack.network.layers:
        yield from (Problem(MANIFEST, what, layer["name"]) for what in _of_layer(layer))


def _of_network(pack: Pack) -> Iterator[str]:
    contract = pack.network.contract
    steps, delay = contract.get("timesteps"), contract.get("delay")
    if not _is_whole(steps, 1):
        yield f"its timesteps are {steps!r}, not a whole number, 1 or more"
    elif not _is_whole(delay, 0, steps):
        yield f"its delay is {delay!r}, not a whole number from 0 to its {steps} timesteps"
    for name, known in WORDS.items():
        if contract.get(name) not in known:
            yield f"its {name} is {contract.get(name)!r}, not one of {', '.join(known)}"
    if (inputs := len(pack.network.inputs)) != 1:
        yield f"it has {inputs} inputs, and the Verilog bench shows a stimulus to one"


def _is_whole(value: object, low: int, high: int | None = None) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole and low <= value and (high is None or value <= high)  # type: ignore[operator]


def _of_layer(layer: Layer) -> Iterator[str]:
    if layer["kind"] not in RULES:
        yield f"there is no Verilog module for the kind {layer['kind']!r}"
    if len(layer.get("kernel", [])) > len(AXES):
        yield f"its windows have {len(layer['kernel'])} axes, the Verilog modules {len(AXES)}"
    for role, entry in layer["parameters"].items():
        if entry["encoding"] not in ENCODINGS:
            yield f"the encoding {entry['encoding']!r} of its {role} is unknown"
