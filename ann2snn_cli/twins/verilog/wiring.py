"""Names, widths and text of the generated bench: what is the same for all kinds of layers."""

from __future__ import annotations

import re
from math import prod
from typing import Any

from ann2snn_cli.twins.replay import Layer, Pack

WIRES = ("valid", "address", "value")
COLUMNS = 96  # of a line of the bench


class Wiring:
    """The layers of a network, and the names of their signals.

    A layer at place 3 of the manifest is the instance `l3_conv1`, and sends over `l3_valid`, `l3_address` and
    `l3_value`: an event for every value that is not 0.
    """

    def __init__(self, pack: Pack) -> None:
        self.widest_bits = pack.network.widest_bits
        self.contract = pack.network.contract
        self.steps = pack.network.steps
        self.delay = int(self.contract["delay"])
        self.layers = {layer["name"]: layer for layer in pack.network.layers}
        self.places = {name: place for place, name in enumerate(self.layers)}
        self.before: dict[str, int] = {}  # populations on the longest way to a layer, itself not counted
        for name in self.layers:
            passed = (self._passed(source) for source in self.layers[name]["inputs"])
            self.before[name] = max(passed, default=0)

    def _passed(self, name: str) -> int:
        """The populations on the longest way to what a layer sends, itself counted."""
        return self.before[name] + int(fires(self.layers[name]))

    @property
    def depth(self) -> int:
        """The populations on the longest way through the network."""
        return max(map(self._passed, self.layers))

    def steps_held(self, layer: Layer) -> int:
        """How many steps a layer keeps of the input that is furthest ahead, the current one included."""
        passed = [self._passed(name) for name in layer["inputs"]]
        return min(self.steps, 1 + (max(passed) - min(passed)) * self.delay)

    def prefix(self, layer: Layer) -> str:
        """`l3`, with which the layer's wires begin."""
        return f"l{self.places[layer['name']]}"

    def instance(self, layer: Layer) -> str:
        """`l3_conv1`."""
        return f"{self.prefix(layer)}_{re.sub('[^A-Za-z0-9]', '_', layer['file_name'])}"

    def sources(self, layer: Layer) -> list[Layer]:
        """The layers that a layer reads."""
        return [self.layers[name] for name in layer["inputs"]]


def fires(layer: Layer) -> bool:
    """Is it a population of neurons that spike?"""
    return bool(layer["kind"] == "integrate_fire")


def size(layer: Layer) -> int:
    """How many values a layer has."""
    return prod(layer["shape"])


def bits(layer: Layer) -> int:
    """The width of a signed bus for what a layer sends: the fewest bits that hold both ends."""
    low, high = layer["passes"]["lowest"], layer["passes"]["highest"]
    return 1 + max(end.bit_length() for end in (0, high, ~low) if end >= 0)


def string(text: str) -> str:
    """A string literal of Verilog."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def declaration(prefix: str, layer: Layer) -> str:
    """Wires that carry what a layer sends."""
    high = bits(layer) - 1
    return f"wire {prefix}_valid; wire [31:0] {prefix}_address; wire signed [{high}:0] {prefix}_value;"


def listens(prefix: str) -> dict[str, str]:
    """Ports that take events."""
    return {f"in_{wire}": f"{prefix}_{wire}" for wire in WIRES}


def sends(prefix: str) -> dict[str, str]:
    """Ports that give events."""
    return {f"out_{wire}": f"{prefix}_{wire}" for wire in WIRES}


def instance(module: str, name: str, parameters: dict[str, Any], ports: dict[str, str]) -> str:
    """An instance of a module."""
    return f"{module} #(\n{_connected(parameters)}\n) {name} (\n{_connected(ports)}\n);"


def _connected(pairs: dict[str, Any]) -> str:
    """`.NAME(value), ...` in lines that fit a screen."""
    lines = [""]
    for place, (name, value) in enumerate(pairs.items(), 1):
        text = f".{name}({value})" + ("," if place < len(pairs) else "")
        if lines[-1] and len(lines[-1]) + len(text) > COLUMNS:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{text}"
    return "\n".join(f"    {line}" for line in lines)
