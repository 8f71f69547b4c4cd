"""How long a simulation takes, before it is run."""

from __future__ import annotations

from math import prod

from ann2snn_cli.twins.replay import Layer, Pack
from ann2snn_cli.twins.verilog.parts import part
from ann2snn_cli.twins.verilog.refusals import refusals
from ann2snn_cli.twins.verilog.wiring import Wiring, fires, size

ACTIVE = 8  # one value in so many is an event: an average over converted networks
ADDITIONS = 4  # so many additions take a simulator as long as a clock does


def cycles(pack: Pack) -> int:
    """The clocks of one sample, and what its additions cost, in clocks: an estimate within a factor of 2.

    Icarus Verilog does 140 000 of these a second, Verilator 5 000 000 (after a build of 10 seconds for a
    small network, and of more than a minute for one of 16 layers).
    0 for a pack that the twin refuses: `verify` says why.
    """
    if any(refusals(pack)):
        return 0
    return clocks(pack) + additions(pack) // (ACTIVE * ADDITIONS)


def clocks(pack: Pack) -> int:
    """The clocks of one sample, exactly: T rounds of turns of every layer, T + D of a population."""
    wiring = Wiring(pack)
    total = 0
    for layer in pack.network.layers:
        if part(wiring, layer).turns:
            rounds = wiring.steps + (wiring.delay if fires(layer) else 0)
            total += rounds * (size(layer) + 1)
    return total + 1


def additions(pack: Pack) -> int:
    """The additions of one sample if every value were an event."""
    wiring = Wiring(pack)
    return pack.network.steps * sum(_additions(wiring, layer) for layer in pack.network.layers)


def _additions(wiring: Wiring, layer: Layer) -> int:
    """Count the clocks of one step; what an event costs by itself is in its clock."""
    kind = layer["kind"]
    if kind in ("conv", "linear"):
        return size(layer) * int(prod(layer["parameters"]["weight"]["shape"][1:]))
    if kind == "conv_transpose":
        return size(wiring.sources(layer)[0]) * int(prod(layer["parameters"]["weight"]["shape"][1:]))
    if kind in ("sum_pool", "max_pool"):
        return size(layer) * int(prod(layer["kernel"]))
    return 0
