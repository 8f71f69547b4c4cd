"""How good is a pack: break the network in many small ways, and see which breaks the pack notices.

A mutant changes one thing: a bit of a weight, of a threshold, of a bias, of an initial potential, the shift,
the firing delay, the reset rule or the comparator of one layer. It is killed when a spike, potential or
result that the pack records comes out differently. One that survives on every sample either computes the same
function (some are proved equivalent here) or shows a hole in the pack.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from ann2snn_cli.twins.replay import Activity, Array, Layer, Network, Pack, compute, recorded, replay

NOTHING = {"lowest": 0, "highest": 0}  # all that a layer passes on, proved
CONTRACT_FAULTS = {
    "reset rule": {"reset_mode": {"subtraction": "zero", "zero": "subtraction"}},
    "comparator": {"comparator": {">=": ">", ">": ">="}},
}


@dataclass(frozen=True)
class Mutant:
    """One change of one layer."""

    layer: str
    kind: str  # weight, threshold, bias, initial, index, shift, delay, reset rule, comparator
    role: str = ""  # the parameter, or what else has a number
    place: int = 0  # flat index in it
    before: int = 0
    after: int = 0

    def __str__(self) -> str:
        if not self.role:
            return f"{self.layer}: {self.kind}"
        return f"{self.layer}: {self.kind} {self.place}: {self.before} -> {self.after}"


@dataclass(frozen=True)
class MutantResult:
    """What became of a mutant."""

    mutant: Mutant
    killed_by: str = ""  # the first sample that shows it
    equivalent: str = ""  # why it computes the same, where that is proved
    idle: bool = False  # a weight that reads nothing but zeros in all of these samples

    @property
    def survives(self) -> bool:
        """Not killed, and not proved equivalent."""
        return not self.killed_by and not self.equivalent


@dataclass(frozen=True)
class Coverage:
    """What the samples make of the neurons of a population: flat indices."""

    layer: str
    neurons: int  # how many there are
    never_fire: tuple[int, ...]
    always_fire: tuple[int, ...]
    never_near: tuple[int, ...]  # the potential never comes within half a threshold of it
    silent_channels: tuple[int, ...]  # no neuron of which ever fires


# Mutants -------------------------------------------------------------------------------------------


def mutants(network: Network, count: int, seed: int = 0) -> list[Mutant]:
    """Up to `count` different mutants, drawn by the seed: rules of populations, and bits of every parameter.

    Each parameter of each layer gets an equal share, however many words it has.
    """
    chance = random.Random(seed)
    rules = [rule for layer in network.layers for rule in _rule_mutants(network, layer)]
    chosen = dict.fromkeys(chance.sample(rules, min(len(rules), max(1, count // 4))))
    places = [(layer, role) for layer in network.layers for role in layer["parameters"]]
    for _ in range(20 * count if places else 0):  # a small network may not have so many
        if len(chosen) >= count:
            break
        layer, role = chance.choice(places)
        chosen[_bit_flip(network, layer, role, chance)] = None
    order = {layer["name"]: place for place, layer in enumerate(network.layers)}
    return sorted(list(chosen)[:count], key=lambda mutant: order[mutant.layer])


def _rule_mutants(network: Network, layer: Layer) -> Iterator[Mutant]:
    if layer["kind"] == "integrate_fire":
        bits = layer["fraction_bits"]
        yield Mutant(layer["name"], "shift", "fraction_bits", 0, bits, bits + 1)
        for delay in _other_delays(network):
            yield Mutant(layer["name"], "delay", "delay", 0, network.delay, delay)
        yield from (Mutant(layer["name"], kind) for kind in CONTRACT_FAULTS)


def _other_delays(network: Network) -> list[int]:
    """The next shorter and the next longer delay that are not the same function.

    T − 1 and T are: either way the whole input is in before the first comparison.
    """
    longest = network.steps - 1
    delay = min(network.delay, longest)
    return [other for other in (delay - 1, delay + 1) if 0 <= other <= longest]


def _bit_flip(network: Network, layer: Layer, role: str, chance: random.Random) -> Mutant:
    """One bit of one word, as it is stored."""
    entry = layer["parameters"][role]
    values = network.arrays[layer["name"], role]
    place = chance.randrange(values.size)
    before = int(values.ravel()[place])
    if role == "index":  # another place of the input, or -1: a bit could point outside
        extent = prod(network.layer(layer["inputs"][0])["shape"])
        after = (before + 2 + chance.randrange(extent)) % (extent + 1) - 1
    elif entry["encoding"] == "bipolar":
        after = -before
    else:
        bits = entry["bits"]
        word = (before ^ 1 << chance.randrange(bits)) & (1 << bits) - 1
        after = word - (word >> bits - 1 << bits) if entry["encoding"] == "two's complement" else word
    return Mutant(layer["name"], role.partition(".")[0], role, place, before, after)


def apply(network: Network, mutant: Mutant) -> tuple[Network, Layer]:
    """The network and the layer that a mutant makes of them; only that layer is computed with it."""
    layer = network.layer(mutant.layer)
    if mutant.kind in CONTRACT_FAULTS:
        ((key, other),) = CONTRACT_FAULTS[mutant.kind].items()
        contract = {**network.contract, key: other[network.contract[key]]}
        return replace(network, contract=contract), layer
    if mutant.kind == "shift":
        return network, {**layer, "fraction_bits": mutant.after}
    if mutant.kind == "delay":
        return replace(network, contract={**network.contract, "delay": mutant.after}), layer
    values = network.arrays[mutant.layer, mutant.role].copy()
    values.ravel()[mutant.place] = mutant.after
    return replace(network, arrays={**network.arrays, (mutant.layer, mutant.role): values}), layer


# Judging -------------------------------------------------------------------------------------------


def judge(
    pack: Pack,
    count: int,
    seed: int = 0,
    samples: Sequence[str] = (),
    tick: Callable[[], None] = lambda: None,
) -> list[MutantResult]:
    """What the pack's samples (or those named) make of `count` mutants; `tick` follows each sample."""
    network = pack.network
    alive = mutants(network, count, seed)
    order = {mutant: place for place, mutant in enumerate(alive)}
    verdicts: dict[Mutant, MutantResult] = {}
    active: dict[str, Array] = {}  # by layer: the values that are not always 0
    for sample in samples or [entry["name"] for entry in pack.manifest["samples"]]:
        clean = replay(network, pack.stimulus(sample))
        for name, activity in clean.items():
            now = np.any(activity.train, axis=0)
            active[name] = active[name] | now if name in active else now
        for mutant in alive:
            if _shows(pack, clean, mutant):
                verdicts[mutant] = MutantResult(mutant, killed_by=sample)
        alive = [mutant for mutant in alive if mutant not in verdicts]
        tick()
    for mutant in alive:
        reason = _equivalence(network, mutant)
        idle = not reason and mutant.role.startswith("weight") and not _reached(network, mutant, active)
        verdicts[mutant] = MutantResult(mutant, equivalent=reason, idle=idle)
    return sorted(verdicts.values(), key=lambda verdict: order[verdict.mutant])


def _shows(pack: Pack, clean: dict[str, Activity], mutant: Mutant) -> bool:
    """Does anything that the pack records differ? Only what depends on the layer is computed again."""
    network = pack.network
    names = {layer["name"] for layer in recorded(pack)}
    mutated, changed_layer = apply(network, mutant)
    differing: dict[str, Activity] = {}
    for layer in network.layers:
        name = layer["name"]
        if name == mutant.layer:
            activity = compute(mutated, changed_layer, [clean[feeder].train for feeder in layer["inputs"]])
        elif any(feeder in differing for feeder in layer["inputs"]):
            feeders = [differing.get(feeder, clean[feeder]) for feeder in layer["inputs"]]
            activity = compute(network, layer, [feeder.train for feeder in feeders])
        else:
            continue
        if _is_seen(pack, name, activity, clean[name], in_expect=name in names):
            return True
        if not np.array_equal(activity.train, clean[name].train):
            differing[name] = activity
    return False


def _is_seen(pack: Pack, name: str, activity: Activity, clean: Activity, *, in_expect: bool) -> bool:
    """Is a difference of this layer among what the pack records?"""
    if name in pack.network.outputs and not np.array_equal(activity.train.sum(0), clean.train.sum(0)):
        return True
    if not in_expect:
        return False
    steps = pack.manifest["recorded"]["steps"]
    if pack.network.layer(name)["kind"] == "integrate_fire" and _differ(activity.train, clean.train, steps):
        return True
    return pack.manifest["recorded"]["potentials"] and _differ(activity.potentials, clean.potentials, steps)


def _differ(got: Array | None, wanted: Array | None, steps: int) -> bool:
    assert got is not None
    assert wanted is not None
    return not np.array_equal(got[:steps], wanted[:steps])


# Equivalence ---------------------------------------------------------------------------------------


def _equivalence(network: Network, mutant: Mutant) -> str:
    """Why no stimulus can show the mutant, where that can be proved; empty where it cannot."""
    layer = network.layer(mutant.layer)
    if mutant.role.startswith("weight"):
        return _unread_weight(network, layer, mutant)
    if mutant.kind in ("threshold", "reset rule", "comparator"):
        thresholds = network.arrays[mutant.layer, "threshold"]
        lowest = min(mutant.before, mutant.after) if mutant.kind == "threshold" else int(thresholds.min())
        if layer["potential"]["bound"]["highest"] < lowest:
            return "its potential is proved to stay below the threshold"
    if mutant.kind == "delay":
        feeder, bias = network.layer(layer["inputs"][0]), network.arrays[mutant.layer, "bias"]
        if feeder["passes"] == NOTHING and not bias.any():
            return "its input is proved to be 0, and it has no bias"
    return ""


def _unread_weight(network: Network, layer: Layer, mutant: Mutant) -> str:
    """A weight that only ever meets zeros: padding, or an input that is proved to be 0."""
    feeders = [network.layer(name) for name in layer["inputs"]]
    place = mutant.role.partition(".")[2]  # of an add: which of its inputs this weighs
    read = [feeders[int(place)]] if place else feeders
    if all(feeder["passes"] == NOTHING for feeder in read):
        return "what it reads is proved to be 0"
    everything = {feeder["name"]: np.ones(feeder["shape"], bool) for feeder in feeders}
    return "" if _reached(network, mutant, everything) else "it reads nothing but padding"


def _reached(network: Network, mutant: Mutant, active: dict[str, Array]) -> bool:
    """Does a weight ever meet one of these values of its inputs?"""
    layer = network.layer(mutant.layer)
    alone = np.zeros_like(network.arrays[mutant.layer, mutant.role])
    alone.ravel()[mutant.place] = 1
    others = {key: np.zeros_like(value) for key, value in network.arrays.items() if key[0] == mutant.layer}
    probe = replace(network, arrays={**network.arrays, **others, (mutant.layer, mutant.role): alone})
    trains = [active[name][None].astype(np.int64) for name in layer["inputs"]]
    return bool(compute(probe, layer, trains).train.any())


# Coverage ------------------------------------------------------------------------------------------


def coverage(pack: Pack) -> list[Coverage]:
    """Which neurons the samples exercise, population by population."""
    network = pack.network
    seen: dict[str, _Exercise] = {}
    for entry in pack.manifest["samples"]:
        activity = replay(network, pack.stimulus(entry["name"]))
        for layer in network.layers:
            if layer["kind"] == "integrate_fire":
                now = _exercise(network, layer, activity[layer["name"]])
                seen[layer["name"]] = seen[layer["name"]].joined(now) if layer["name"] in seen else now
    return [each.counted(name) for name, each in seen.items()]


@dataclass(frozen=True)
class _Exercise:
    """Ask of every neuron: does it ever fire, does it always, does it come near its threshold."""

    fires: Array
    always: Array
    near: Array

    def joined(self, other: _Exercise) -> _Exercise:
        return _Exercise(self.fires | other.fires, self.always & other.always, self.near | other.near)

    def counted(self, name: str) -> Coverage:
        channels = self.fires.reshape(len(self.fires), -1).any(axis=1) if self.fires.ndim else self.fires
        found = (
            tuple(np.flatnonzero(each).tolist()) for each in (~self.fires, self.always, ~self.near, ~channels)
        )
        return Coverage(name, self.fires.size, *found)


def _exercise(network: Network, layer: Layer, activity: Activity) -> _Exercise:
    assert activity.potentials is not None
    spikes = activity.train.astype(bool)
    near = spikes | (2 * activity.potentials >= network.parameter(layer, "threshold"))
    return _Exercise(np.any(spikes, axis=0), np.all(spikes, axis=0), np.any(near, axis=0))
