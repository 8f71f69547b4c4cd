#!/usr/bin/env python3
"""The numpy twin: checks a vector pack and replays it, with nothing but Python and numpy.

    python replay.py [PACK] [--sample NAME]...      exit codes: 0 it agrees, 4 it does not

Every pack carries a copy of this file. A train is an array [timesteps, ...] of integers, in the layer's own
steps: what a population fires in steps D+1 to D+T of its input, D the delay, is its train's steps 1 to T.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

SCHEMA = "ann2snn/pack/2"
EARLIER = ("ann2snn/pack/1",)  # formats that were written once, and are read no more
MANIFEST = "manifest.json"
EXACT_BITS = 53  # float64 matrix products are exact up to so many bits

Array = NDArray[Any]
Layer = dict[str, Any]


# Reading -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file of a pack."""

    file: str
    what: str
    layer: str = ""
    sample: str = ""


class Damaged(Exception):
    """A pack that cannot be replayed."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(f"{problem.file}: {problem.what}" for problem in problems))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Network:
    """The network in plain integers: what a chip is given."""

    contract: dict[str, Any]
    layers: list[Layer]  # as in the manifest, in an order in which everything is computed before it is read
    outputs: list[str]
    widest_bits: int
    arrays: dict[tuple[str, str], Array]  # by (layer, role), in the shape the manifest gives

    def parameter(self, layer: Layer, role: str) -> Array:
        """Integers: a synapse's in its own shape, a neuron's so that they broadcast to the layer."""
        values = self.arrays[layer["name"], role]
        if layer["parameters"][role].get("per") == "channel":
            return values.reshape(-1, *[1] * (len(layer["shape"]) - 1))
        return values if layer["shape"] else values.reshape(())

    def layer(self, name: str) -> Layer:
        """The layer of that name."""
        return next(layer for layer in self.layers if layer["name"] == name)

    @property
    def inputs(self) -> list[Layer]:
        """The layers that are shown a stimulus, in order."""
        return [layer for layer in self.layers if layer["kind"] == "input"]

    @property
    def steps(self) -> int:
        """T."""
        return int(self.contract["timesteps"])

    @property
    def delay(self) -> int:
        """D: a population integrates D steps before the first comparison."""
        return int(self.contract["delay"])


@dataclass(frozen=True)
class Pack:
    """A vector pack on disk: the network, and access to its samples."""

    folder: Path
    manifest: dict[str, Any]
    network: Network

    def sample(self, name: str) -> dict[str, Any]:
        """A sample's entry in the manifest."""
        found: dict[str, Any] = next(each for each in self.manifest["samples"] if each["name"] == name)
        return found

    def stimulus(self, name: str) -> dict[str, Array]:
        """By input layer the integers that it is shown, in its shape."""
        files, found = self.sample(name)["stimulus"], {}
        for layer in self.network.inputs:
            if not isinstance(files, dict) or layer["name"] not in files:
                raise Damaged([Problem(MANIFEST, "it names no stimulus", layer["name"], name)])
            form = (layer["bits"], layer["encoding"], layer["shape"])
            found[layer["name"]] = read_words(self.folder, files[layer["name"]], *form)
        return found

    def expected(self, name: str, layer: Layer) -> tuple[Array | None, Array | None]:
        """(spikes, potentials) of a layer, [recorded steps, ...]; None where they were not recorded."""
        files = self.sample(name)["expect"].get(layer["name"], {})
        shape = (self.manifest["recorded"]["steps"], *layer["shape"])
        spikes = potentials = None
        if "spikes" in files:
            spikes = read_spikes(self.folder, files["spikes"], shape)
        if "potentials" in files:
            bits = layer["potential"]["bits"]
            potentials = read_words(self.folder, files["potentials"], bits, "two's complement", shape)
        return spikes, potentials

    def result(self, name: str) -> dict[str, Any]:
        """label, prediction, and by output the sums over all steps, flat."""
        file = self.sample(name)["result"]
        sizes = {layer["name"]: prod(layer["shape"]) for layer in self.network.layers}
        try:
            document: dict[str, Any] = json.loads(_content(self.folder, file))
            sums = document["outputs"]
            whole = all(np.shape(sums[output]) == (sizes[output],) for output in self.network.outputs)
        except (KeyError, TypeError, ValueError):
            whole = False
        if not whole:
            raise Damaged([Problem(file, "it does not hold the sums of every output", sample=name)])
        return document


_DIGIT = np.full(256, -1, np.int64)
_DIGIT[[ord(digit) for digit in "0123456789abcdef"]] = range(16)


def _content(folder: Path, file: str) -> bytes:
    try:
        return (folder / file).read_bytes()
    except FileNotFoundError as error:
        raise Damaged([Problem(file, "it is missing")]) from error
    except OSError as error:
        raise Damaged([Problem(file, f"it cannot be read: {error.strerror}")]) from error


def read_lines(folder: Path, file: str, bits: int) -> Array:
    """The hexadecimal digits of a memory file, [lines, digits]: lines of so many bits, those above them 0."""
    content = np.frombuffer(_content(folder, file), np.uint8)
    width = -(-bits // 4) + 1
    if content.size % width or np.any(content[width - 1 :: width] != ord("\n")):
        raise Damaged([Problem(file, f"its lines are not all of {width - 1} digits")])
    digits = _DIGIT[content.reshape(-1, width)[:, :-1]]
    if np.any(digits < 0):
        raise Damaged([Problem(file, "it holds something that is no lower-case hexadecimal digit")])
    if np.any(digits[:, :1] >> (bits - 1) % 4 + 1):
        raise Damaged([Problem(file, f"a bit above the {bits} of a line is not 0")])
    return digits


def read_words(folder: Path, file: str, bits: int, encoding: str, shape: Sequence[int]) -> Array:
    """One word a line, in a shape."""
    lines = read_lines(folder, file, bits)
    values = np.zeros(len(lines), np.int64)
    for column in lines.T:
        values = values * 16 + column
    if len(values) != prod(shape):
        raise Damaged([Problem(file, f"it holds {len(values)} words, not {prod(shape)}")])
    if encoding == "bipolar":
        values = values * 2 - 1
    if encoding == "two's complement":
        values = values - ((values >> (bits - 1) & 1) << bits)
    return values.reshape(shape)


def read_spikes(folder: Path, file: str, shape: Sequence[int]) -> Array:
    """One line a step, bit i (the right-most is 0) is neuron i."""
    steps, neurons = shape[0], prod(shape[1:])
    digits = read_lines(folder, file, neurons)[:, ::-1]
    if len(digits) != steps:
        raise Damaged([Problem(file, f"it holds {len(digits)} lines, not {steps}")])
    bits: Array = (digits[:, :, None] >> np.arange(4) & 1).reshape(steps, -1)[:, :neurons]
    return bits.reshape(shape)


def read(folder: Path) -> Pack:
    """The pack in a folder, its parameters read. Whether it is whole, `problems` says."""
    try:
        manifest = json.loads(_content(folder, MANIFEST))
        _refuse_other_schemas(manifest["schema"])
        refuse_contract(manifest["contract"])
        arrays = {
            (layer["name"], role): _parameter(folder, entry)
            for layer in manifest["layers"]
            for role, entry in layer["parameters"].items()
        }
        contract, layers, outputs = (manifest[name] for name in ("contract", "layers", "outputs"))
        network = Network(contract, layers, outputs, manifest["widest_bits"], arrays)
        return Pack(folder, manifest, network)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise Damaged([Problem(MANIFEST, f"it is damaged: {type(error).__name__}: {error}")]) from error


def _refuse_other_schemas(schema: object) -> None:
    if schema in EARLIER:
        what = f"its format is that of an earlier ann2snn ({schema}): export it again"
        raise Damaged([Problem(MANIFEST, what)])
    if schema != SCHEMA:
        raise Damaged([Problem(MANIFEST, f"its schema is {schema}, not {SCHEMA}")])


def refuse_contract(contract: dict[str, Any]) -> None:
    """Raise Damaged, with all that is wrong, where no network could follow such a contract."""
    if found := [Problem(MANIFEST, what) for what in _contract_problems(contract)]:
        raise Damaged(found)


RESETS = ("subtraction", "zero")
COMPARATORS = (">=", ">")


def _contract_problems(contract: dict[str, Any]) -> Iterator[str]:
    steps: Any = contract.get("timesteps")
    delay: Any = contract.get("delay")
    if not _is_whole(steps, 1):
        yield f"its timesteps is {steps!r}, not a whole number of 1 or more"
    if not _is_whole(delay, 0) or (_is_whole(steps, 1) and delay > steps):
        yield f"its delay is {delay!r}, not a whole number from 0 to the timesteps, {steps!r}"
    for name, words in (("reset_mode", RESETS), ("comparator", COMPARATORS)):
        if contract.get(name) not in words:
            yield f"its {name} is {contract.get(name)!r}, not one of {', '.join(words)}"


def _is_whole(value: Any, lowest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= lowest


def _parameter(folder: Path, entry: dict[str, Any]) -> Array:
    return read_words(folder, entry["file"], entry["bits"], entry["encoding"], entry["shape"])


def problems(folder: Path) -> list[Problem]:
    """Everything in which a pack's files differ from its manifest: simulators do not notice."""
    try:
        return list(_problems(folder, json.loads(_content(folder, MANIFEST))))
    except Damaged as error:
        return list(error.problems)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        return [Problem(MANIFEST, f"it is damaged: {type(error).__name__}: {error}")]


def _problems(folder: Path, manifest: dict[str, Any]) -> Iterator[Problem]:
    if manifest_hash(manifest) != manifest.get("manifest_sha256"):
        yield Problem(MANIFEST, "it was changed after it was written (manifest_sha256 differs)")
    owners = _owners(manifest)
    for name, entry in manifest["files"].items():
        layer, sample = owners.get(name, ("", ""))
        yield from (Problem(name, what, layer, sample) for what in _file_problems(folder / name, entry))


def manifest_hash(manifest: dict[str, Any]) -> str:
    """The hash of a manifest, its own hash left out."""
    content = {name: value for name, value in manifest.items() if name != "manifest_sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _file_problems(path: Path, entry: dict[str, Any]) -> Iterator[str]:
    if not path.is_file():
        yield "it is missing"
        return
    content = path.read_bytes()
    if "words" in entry and content.count(b"\n") != entry["words"]:
        yield f"it holds {content.count(10)} words, not {entry['words']}"
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        yield "its content was changed (sha256 differs)"


def _owners(manifest: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """(layer, sample) by file."""
    owners = {
        entry["file"]: (layer["name"], "")
        for layer in manifest["layers"]
        for entry in layer["parameters"].values()
    }
    for sample in manifest["samples"]:
        owners[sample["result"]] = ("", sample["name"])
        for role in ("stimulus", "events"):
            owners.update({file: (layer, sample["name"]) for layer, file in sample[role].items()})
        for layer, files in sample["expect"].items():
            owners.update(dict.fromkeys(files.values(), (layer, sample["name"])))
    return owners


# The arithmetic ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Activity:
    """What a layer passed on, and of neurons the potentials after the reset, [timesteps, ...]."""

    train: Array
    potentials: Array | None = None


def replay(
    network: Network, stimuli: dict[str, Array], start: dict[str, Activity] | None = None
) -> dict[str, Activity]:
    """Every layer's activity for a sample: a stimulus by input layer, in the layer's shape.

    Or for several samples, along a further first axis. Layers in `start` are taken as given.
    """
    refuse_contract(network.contract)
    if network.widest_bits > EXACT_BITS:
        raise Damaged([Problem(MANIFEST, f"sums of {network.widest_bits} bits do not fit float64")])
    done = dict(start or {})
    for layer in network.layers:
        if layer["name"] in done:
            continue
        try:
            if layer["kind"] == "input":
                shown = stimuli[layer["name"]]
                done[layer["name"]] = Activity(np.broadcast_to(shown, (network.steps, *shown.shape)))
            else:
                done[layer["name"]] = compute(network, layer, [done[name].train for name in layer["inputs"]])
        except (LookupError, TypeError, ValueError) as error:
            what = f"a layer cannot be computed as it is described: {type(error).__name__}: {error}"
            raise Damaged([Problem(MANIFEST, what, layer["name"])]) from error
    return done


def compute(network: Network, layer: Layer, trains: list[Array]) -> Activity:
    """One layer on the trains of its inputs, [timesteps, ...] or [timesteps, samples, ...]."""
    kind = layer["kind"]
    if kind in _NEURONS:
        return _NEURONS[kind](network, layer, trains[0])
    if kind == "max_pool":
        return Activity(_max_pool(layer, trains[0]))
    rank = len(layer["shape"]) if kind == "concat" else None
    lead = trains[0].shape[: trains[0].ndim - (rank or len(network.layer(layer["inputs"][0])["shape"]))]
    flat = [train.reshape(-1, *train.shape[len(lead) :]) for train in trains]
    return Activity(_LINEAR[kind](network, layer, flat).reshape(*lead, *layer["shape"]))


def _exact(values: Array) -> Array:
    return np.rint(values).astype(np.int64)


def _every(strides: Sequence[int]) -> tuple[slice, ...]:
    """All of the batch and the channels, and every n-th along each spatial axis."""
    return (slice(None), slice(None), *(slice(None, None, stride) for stride in strides))


def _windows(x: Array, layer: Layer) -> Array:
    """[batch, channels, out..., kernel...] of an x that is padded already."""
    rank = len(layer["kernel"])
    dilation = layer.get("dilation", [1] * rank)
    extent = [d * (k - 1) + 1 for k, d in zip(layer["kernel"], dilation, strict=True)]
    windows = sliding_window_view(x, extent, axis=tuple(range(2, 2 + rank)))
    strides = _every(layer["stride"])
    chosen: Array = windows[strides + _every(dilation)[2:]]
    return chosen


def _pad(x: Array, pads: Sequence[tuple[int, int]], value: int = 0) -> Array:
    """Pad the spatial axes; a negative padding crops."""
    grown = np.pad(x, [(0, 0), (0, 0), *((max(a, 0), max(b, 0)) for a, b in pads)], constant_values=value)
    ends = zip(pads, grown.shape[2:], strict=True)
    crop = (slice(None), slice(None), *(slice(max(-a, 0), n - max(-b, 0)) for (a, b), n in ends))
    cropped: Array = grown[crop]
    return cropped


def _correlate(windows: Array, weight: Array, groups: int) -> Array:
    """y[b, o, ...] = Σ w[o, c, k...] · windows[b, c, ..., k...], group by group."""
    rank = weight.ndim - 2
    outs = []
    for part, kernel in zip(np.split(windows, groups, axis=1), np.split(weight, groups), strict=True):
        taps = np.moveaxis(part, 1, 1 + rank).astype(np.float64)  # [b, out..., c, k...]
        flat = taps.reshape(*taps.shape[: 1 + rank], -1) @ kernel.reshape(len(kernel), -1).T.astype(
            np.float64
        )
        outs.append(np.moveaxis(flat, -1, 1))
    return _exact(np.concatenate(outs, axis=1))


def _conv(network: Network, layer: Layer, xs: list[Array]) -> Array:
    weight = network.parameter(layer, "weight")
    padded = _pad(xs[0], [(p, p) for p in layer["padding"]])
    return _correlate(_windows(padded, layer), weight, layer["groups"])


def _conv_transpose(network: Network, layer: Layer, xs: list[Array]) -> Array:
    """A convolution of the input with zeros put between its values, by the mirrored kernel."""
    (x,) = xs
    weight, groups, kernel = network.parameter(layer, "weight"), layer["groups"], layer["kernel"]
    spread = np.zeros(
        (*x.shape[:2], *((n - 1) * s + 1 for n, s in zip(x.shape[2:], layer["stride"], strict=True))), x.dtype
    )
    spread[_every(layer["stride"])] = x
    edges = [d * (k - 1) - p for d, k, p in zip(layer["dilation"], kernel, layer["padding"], strict=True)]
    padded = _pad(
        spread, [(edge, edge + extra) for edge, extra in zip(edges, layer["output_padding"], strict=True)]
    )
    mirrored = np.flip(weight, axis=tuple(range(2, weight.ndim)))
    swapped = np.concatenate([part.swapaxes(0, 1) for part in np.split(mirrored, groups)])
    return _correlate(_windows(padded, {**layer, "stride": [1] * len(kernel)}), swapped, groups)


def _linear(network: Network, layer: Layer, xs: list[Array]) -> Array:
    return _exact(xs[0].astype(np.float64) @ network.parameter(layer, "weight").T.astype(np.float64))


def _scale(network: Network, layer: Layer, xs: list[Array]) -> Array:
    y: Array = xs[0] * network.parameter(layer, "weight")
    return y


def _add(network: Network, layer: Layer, xs: list[Array]) -> Array:
    total: Array = sum(x * network.parameter(layer, f"weight.{i}") for i, x in enumerate(xs))  # type: ignore[assignment]
    return total


def _sum_pool(network: Network, layer: Layer, xs: list[Array]) -> Array:
    windows = _windows(_pad(xs[0], [(p, p) for p in layer["padding"]]), layer)
    total: Array = windows.sum(axis=tuple(range(-len(layer["kernel"]), 0)))
    return total


def _gather(network: Network, layer: Layer, xs: list[Array]) -> Array:
    flat = xs[0].reshape(len(xs[0]), -1)
    index = network.parameter(layer, "index").ravel()
    if np.any((index < -1) | (index >= flat.shape[1])):
        file = layer["parameters"]["index"]["file"]
        raise Damaged([Problem(file, "it holds an index beyond the input", layer["name"])])
    padded = np.concatenate([flat, np.zeros((len(flat), 1), flat.dtype)], axis=1)  # index -1 reads this zero
    return padded[:, index]


_LINEAR: dict[str, Callable[[Network, Layer, list[Array]], Array]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "linear": _linear,
    "scale": _scale,
    "add": _add,
    "sum_pool": _sum_pool,
    "concat": lambda network, layer, xs: np.concatenate(xs, axis=1),
    "reshape": lambda network, layer, xs: xs[0],
    "permute": lambda network, layer, xs: xs[0].transpose(0, *(axis + 1 for axis in layer["order"])),
    "gather": _gather,
}


def _max_pool(layer: Layer, train: Array) -> Array:
    """Give the growth of the largest sum so far: max_i N_i(t) − max_i N_i(t−1)."""
    rank = len(layer["kernel"])
    spatial = train.shape[-rank:]
    sums = train.cumsum(0).reshape(-1, train.shape[-rank - 1], *spatial)
    lowest = int(sums.min()) - 1  # padding never wins
    pads = [
        (p, max(p, (out - 1) * s + d * (k - 1) + 1 - n - p))  # room for a last window that overhangs
        for p, s, k, d, n, out in zip(
            layer["padding"],
            layer["stride"],
            layer["kernel"],
            layer["dilation"],
            spatial,
            layer["shape"][1:],
            strict=True,
        )
    ]
    inside = (slice(None), slice(None), *(slice(0, out) for out in layer["shape"][1:]))
    windows = _windows(_pad(sums, pads, lowest), layer)[inside]
    highest = windows.reshape(*train.shape[: -rank - 1], *layer["shape"], -1).max(-1)
    return np.concatenate([highest[:1], np.diff(highest, axis=0)])


def _integrate_fire(network: Network, layer: Layer, train: Array) -> Activity:
    """V ← V + 2^f·x + B for t ≤ T; then, for t > D, s ← V ≥ θ and the reset. Here t counts from 0."""
    threshold, bias, initial = (network.parameter(layer, role) for role in ("threshold", "bias", "initial"))
    charges = (train << layer["fraction_bits"]) + bias
    potential = np.zeros_like(train[0]) + initial
    spikes, potentials = np.empty_like(charges), np.empty_like(charges)
    for t in range(network.steps + network.delay):
        if t < network.steps:
            potential = potential + charges[t]
        if (firing_step := t - network.delay) >= 0:
            fired = _crosses(network, potential, threshold)
            potential = _reset(network, potential, fired, threshold)
            spikes[firing_step], potentials[firing_step] = fired, potential
    return Activity(spikes, potentials)


def _crosses(network: Network, potential: Array, threshold: Array) -> Array:
    return potential > threshold if network.contract["comparator"] == ">" else potential >= threshold


def _reset(network: Network, potential: Array, fired: Array, threshold: Array) -> Array:
    left: Array = (
        potential * ~fired if network.contract["reset_mode"] == "zero" else potential - fired * threshold
    )
    return left


def _integrate(network: Network, layer: Layer, train: Array) -> Activity:
    passed = train.copy()
    if "bias" in layer["parameters"]:
        passed = passed + network.parameter(layer, "bias")
    if "initial" in layer["parameters"]:
        passed[0] = passed[0] + network.parameter(layer, "initial")
    return Activity(passed, passed.cumsum(0))


_NEURONS: dict[str, Callable[[Network, Layer, Array], Activity]] = {
    "integrate_fire": _integrate_fire,
    "integrate": _integrate,
}


# Comparing -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """One value that is not what the pack expects. Steps count from 1; `neuron` is the flat index."""

    sample: str
    layer: str
    step: int  # 0: of the result, after the last step
    neuron: int
    field: str  # spike, potential or result
    expected: int
    got: int | None  # None: no number (a simulator's x)


@dataclass
class Outcome:
    """What a twin found."""

    checked: int = 0
    mismatches: int = 0
    first: Difference | None = None
    notes: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Take in what was found on a further sample."""
        self.checked += other.checked
        self.mismatches += other.mismatches
        self.first = self.first or other.first


def recorded(pack: Pack) -> list[Layer]:
    """The layers whose activity the pack holds, in order."""
    return [layer for layer in pack.network.layers if layer["name"] in pack.manifest["recorded"]["layers"]]


def values_to_check(pack: Pack, sample: str) -> int:
    """How many spikes, potentials and results a full comparison of a sample looks at."""
    steps, expect = pack.manifest["recorded"]["steps"], pack.sample(sample)["expect"]
    shapes = {layer["name"]: prod(layer["shape"]) for layer in pack.network.layers}
    activity: int = sum(steps * shapes[layer] * len(files) for layer, files in expect.items())
    return activity + sum(shapes[name] for name in pack.network.outputs)


def compare(pack: Pack, sample: str, activity: dict[str, Activity], outputs: dict[str, Array]) -> Outcome:
    """Hold a twin's activity by layer, and its sums by output, against what the pack expects."""
    outcome = Outcome()
    for layer in recorded(pack):
        spikes, potentials = pack.expected(sample, layer)
        seen = activity[layer["name"]]
        found = []
        for name, wanted, got in (("spike", spikes, seen.train), ("potential", potentials, seen.potentials)):
            if wanted is not None:
                found.append(count_differences(outcome, (sample, layer["name"], name), wanted, got))
        first = [difference for difference in found if difference is not None]
        outcome.first = outcome.first or min(first, key=lambda each: each.step, default=None)
    sums = pack.result(sample)["outputs"]
    for name in pack.network.outputs:
        wanted = np.asarray(sums[name])[None]
        difference = count_differences(
            outcome, (sample, name, "result"), wanted, outputs[name].reshape(1, -1)
        )
        outcome.first = outcome.first or difference
    return outcome


def count_differences(
    outcome: Outcome, place: tuple[str, str, str], wanted: Array, got: Array | None
) -> Difference | None:
    """Enter into the outcome what differs of [steps, ...], at (sample, layer, field); gives the first."""
    assert got is not None
    sample, layer, name = place
    wanted, got = wanted.reshape(len(wanted), -1), got.reshape(len(got), -1)[: len(wanted)]
    wrong = np.argwhere(wanted != got)
    outcome.checked += wanted.size
    outcome.mismatches += len(wrong)
    if not len(wrong):
        return None
    step, neuron = map(int, wrong[0])
    expected, found = int(wanted[step, neuron]), int(got[step, neuron])
    return Difference(sample, layer, 0 if name == "result" else step + 1, neuron, name, expected, found)


def unavailable() -> str:
    """What is missing for this twin to run here: nothing."""
    return ""


def version() -> str:
    """Name what runs it, with its version."""
    return f"numpy {np.__version__}"


def verify(pack: Pack, samples: Sequence[str], work: Path | None = None) -> Outcome:
    """Replay samples and compare everything that is recorded. (Other twins need a folder to work in.)"""
    outcome = Outcome()
    for sample in samples:
        activity = replay(pack.network, pack.stimulus(sample))
        outputs = {name: activity[name].train.sum(0) for name in pack.network.outputs}
        outcome.add(compare(pack, sample, activity, outputs))
    return outcome


def coordinates(layer: Layer, neuron: int) -> str:
    """`neuron 17 (channel 0, y 2, x 5)`: a flat index as people find it."""
    axes = {1: ["index"], 2: ["channel", "x"], 3: ["channel", "y", "x"], 4: ["channel", "z", "y", "x"]}
    shape = layer["shape"]
    names = axes.get(len(shape), [f"axis {i}" for i in range(len(shape))])
    places = np.unravel_index(neuron, shape) if shape else ()
    return f"neuron {neuron} ({', '.join(f'{n} {int(p)}' for n, p in zip(names, places, strict=True))})"


def describe(pack: Pack, difference: Difference) -> str:
    """A difference in one line."""
    layer = pack.network.layer(difference.layer)
    where = f"sample {difference.sample}, layer {difference.layer}"
    when = f", step {difference.step}" if difference.step else ""
    got = "no number" if difference.got is None else difference.got
    place = coordinates(layer, difference.neuron)
    return f"{where}{when}, {place}: {difference.field} expected {difference.expected}, got {got}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Check and replay the pack that this file lies in, or the one that is named."""
    parser = argparse.ArgumentParser(description="Check and replay a vector pack with numpy.")
    parser.add_argument("pack", nargs="?", type=Path, default=Path(__file__).parent)
    parser.add_argument("--sample", action="append", help="only this sample; repeatable")
    options = parser.parse_args(arguments)
    damage = problems(options.pack)
    for problem in damage:
        print(f"{problem.file}: {problem.what}")
    try:
        pack = read(options.pack)
        every = [sample["name"] for sample in pack.manifest["samples"]]
        names = options.sample or every
        if strange := [name for name in names if name not in every]:
            parser.error(f"there is no sample {strange[0]!r}, only: {', '.join(every)}")
        outcome = verify(pack, names)
    except Damaged as error:
        print(f"the pack cannot be replayed: {error}")
        return 4
    if outcome.first is not None:
        print(f"first difference: {describe(pack, outcome.first)}")
    expected = sum(values_to_check(pack, name) for name in names)
    print(f"RESULT checked={outcome.checked} mismatch={outcome.mismatches} expected={expected}")
    return 4 if damage or outcome.mismatches or outcome.checked != expected else 0


if __name__ == "__main__":
    sys.exit(main())
