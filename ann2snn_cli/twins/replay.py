#!/usr/bin/env python3
"""The numpy twin: checks a vector pack and replays it, with nothing but Python and numpy.

    python replay.py [PACK] [--sample NAME]...   exit codes: 0 it agrees, 4 it does not, 1 it cannot tell

Every pack carries a copy of this file. What a chip has to compute is the part "The arithmetic"; the others
read files, compare, and refuse what makes no sense, so that no doctored pack misleads. A train is an array
[timesteps, ...] of integers, in the layer's own steps: what a population fires in steps D+1 to D+T of its
input, D the delay, is its train's steps 1 to T.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

SCHEMA = "ann2snn/pack/2"
EARLIER = ("ann2snn/pack/1",)  # formats that were written once, and are read no more
MANIFEST = "manifest.json"
EXACT_BITS = 53  # float64 matrix products are exact up to so many bits
MOST_STEPS = 2**24  # of a network
MOST_VALUES = 2**33  # that its layers pass on in all steps
MOST_BITS = 62  # of a word or a register
WIDEST = 2**MOST_BITS
MOST_TEXT = 2**20  # bytes that a file may have beyond what is known of it
MOST_MANIFEST = 2**27  # bytes
MOST_DIGITS = 32  # of a sum in a result, with what stands around it
MOST_BYTES = 2**40

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
        most = MOST_DIGITS * sum(sizes[output] for output in self.network.outputs) + MOST_TEXT
        try:
            document: dict[str, Any] = json.loads(_content(self.folder, file, most))
            sums = document["outputs"]
            whole = all(
                _are_whole(sums[output], -WIDEST, WIDEST) and len(sums[output]) == sizes[output]
                for output in self.network.outputs
            )
        except (KeyError, TypeError, ValueError, RecursionError):
            whole = False
        if not whole:
            raise Damaged([Problem(file, "it does not hold the sums of every output", sample=name)])
        return document


_DIGIT = np.full(256, -1, np.int64)
_DIGIT[[ord(digit) for digit in "0123456789abcdef"]] = range(16)


def _content(folder: Path, file: str, most: int) -> bytes:
    """What is in a file, which may have so many bytes: none is read of one that has more."""
    try:
        size = (folder / file).stat().st_size
        if size > most:
            raise Damaged([Problem(file, f"it holds {size} bytes, more than the {most} that it may have")])
        if (folder / file).exists() and not (folder / file).is_file():
            raise Damaged([Problem(file, "it is no file")])
        return (folder / file).read_bytes()
    except FileNotFoundError as error:
        raise Damaged([Problem(file, "it is missing")]) from error
    except OSError as error:
        raise Damaged([Problem(file, f"it cannot be read: {error.strerror}")]) from error


def read_lines(folder: Path, file: str, bits: int, count: int | None = None) -> Array:
    """The hexadecimal digits of a memory file, [lines, digits]: lines of so many bits, those above them 0.

    Of a file with many more lines than the count nothing is read.
    """
    width = -(-bits // 4) + 1
    most = MOST_BYTES if count is None else 2 * width * count + MOST_TEXT
    content = np.frombuffer(_content(folder, file, most), np.uint8)
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
    lines = read_lines(folder, file, bits, prod(shape))
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
    digits = read_lines(folder, file, neurons, steps)[:, ::-1]
    if len(digits) != steps:
        raise Damaged([Problem(file, f"it holds {len(digits)} lines, not {steps}")])
    bits: Array = (digits[:, :, None] >> np.arange(4) & 1).reshape(steps, -1)[:, :neurons]
    return bits.reshape(shape)


def read(folder: Path) -> Pack:
    """The pack in a folder, its parameters read. Whether it is whole, `problems` says."""
    try:
        manifest = _manifest(folder)
        arrays = {
            (layer["name"], role): read_words(
                folder, entry["file"], entry["bits"], entry["encoding"], entry["shape"]
            )
            for layer in manifest["layers"]
            for role, entry in layer["parameters"].items()
        }
        contract, layers, outputs = (manifest[name] for name in ("contract", "layers", "outputs"))
        network = Network(contract, layers, outputs, manifest["widest_bits"], arrays)
        for layer in layers:
            if layer["kind"] == "gather":
                _refuse_index(network, layer, prod(network.layer(layer["inputs"][0])["shape"]))
        if not manifest["samples"]:
            raise Damaged([Problem(MANIFEST, "it holds no samples, so there is nothing to compare")])
        pack = Pack(folder, manifest, network)
        for sample in manifest["samples"]:
            pack.result(sample["name"])
        return pack
    except _UNFORESEEN as error:
        raise Damaged([_unforeseen(error)]) from error


_UNFORESEEN = (AttributeError, LookupError, TypeError, ValueError, RecursionError)


def _unforeseen(error: BaseException) -> Problem:
    return Problem(MANIFEST, f"it is damaged: {type(error).__name__}: {error}")


def _manifest(folder: Path) -> dict[str, Any]:
    """The manifest, once it is certain that it makes sense and names no file outside its folder."""
    manifest = json.loads(_content(folder, MANIFEST, MOST_MANIFEST))
    if not isinstance(manifest, dict):
        raise Damaged([Problem(MANIFEST, "it is no table of fields")])
    if (schema := manifest.get("schema")) != SCHEMA:
        earlier = f"its format is that of an earlier ann2snn ({schema}): export it again"
        what = earlier if schema in EARLIER else f"its schema is {schema}, not {SCHEMA}"
        raise Damaged([Problem(MANIFEST, what)])
    refuse_nonsense(manifest)
    for file in _named(manifest):
        if not (folder / file).resolve().is_relative_to(folder.resolve()):
            raise Damaged([Problem(file, "it is a link to somewhere outside of the pack's folder")])
    return manifest


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
    elif steps > MOST_STEPS:
        yield f"its timesteps is {steps}, more than {MOST_STEPS}"
    if not _is_whole(delay, 0) or (_is_whole(steps, 1) and delay > steps):
        yield f"its delay is {delay!r}, not a whole number from 0 to the timesteps, {steps!r}"
    for name, words in (("reset_mode", RESETS), ("comparator", COMPARATORS)):
        if contract.get(name) not in words:
            yield f"its {name} is {contract.get(name)!r}, not one of {', '.join(words)}"


def _is_whole(value: Any, lowest: int, highest: float = inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def _are_whole(values: Any, lowest: int, highest: float = inf) -> bool:
    return isinstance(values, list) and all(_is_whole(value, lowest, highest) for value in values)


def problems(folder: Path) -> list[Problem]:
    """Everything in which a pack's files differ from its manifest: simulators do not notice."""
    try:
        return list(_problems(folder, _manifest(folder)))
    except Damaged as error:
        return list(error.problems)
    except _UNFORESEEN as error:
        return [_unforeseen(error)]


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
    if (size := path.stat().st_size) > 2 * entry["bytes"] + MOST_TEXT:
        yield f"it holds {size} bytes, not {entry['bytes']}"
        return
    words, digest = 0, hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            words += part.count(b"\n")
            digest.update(part)
    if "words" in entry and words != entry["words"]:
        yield f"it holds {words} words, not {entry['words']}"
    if digest.hexdigest() != entry["sha256"]:
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
    _refuse_index(network, layer, flat.shape[1])
    padded = np.concatenate([flat, np.zeros((len(flat), 1), flat.dtype)], axis=1)  # index -1 reads this zero
    return padded[:, network.parameter(layer, "index").ravel()]


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


# What a manifest may say ---------------------------------------------------------------------------
#
# Everything that is built on it (arrays, C, Verilog, ONNX) may rely on this: types, names and sizes are
# right, every layer reads layers before it, and its shape follows from theirs.

_WINDOW = ("kernel", "stride", "padding")
_PLAIN_KINDS = ("linear", "scale", "reshape", "permute", "gather", "integrate_fire", "integrate")
KINDS: dict[str, tuple[int, int, tuple[str, ...]]] = {
    # by kind: fewest and most inputs, and its further fields, which are lists of a number an axis
    "input": (0, 0, ()),
    "conv": (1, 1, (*_WINDOW, "dilation")),
    "conv_transpose": (1, 1, (*_WINDOW, "dilation", "output_padding")),
    "sum_pool": (1, 1, _WINDOW),
    "max_pool": (1, 1, (*_WINDOW, "dilation")),
    "add": (1, 1000, ()),
    "concat": (1, 1000, ()),
    **dict.fromkeys(_PLAIN_KINDS, (1, 1, ())),
}
NEURONS = ("integrate_fire", "integrate")
ROLES = {  # the parameters of a kind; those of an add and an integrate depend on the layer
    **{kind: ["weight"] for kind in ("conv", "conv_transpose", "linear", "scale")},
    "gather": ["index"],
    "integrate_fire": ["threshold", "bias", "initial"],
}
ENCODINGS = ("two's complement", "unsigned", "bipolar")
_PLAIN = re.compile(r"[A-Za-z0-9._-]+")  # what a layer's files may be called
_PATH = re.compile(r"""[^/\\"%*$\x00-\x1f\x7f]+(/[^/\\"%*$\x00-\x1f\x7f]+)*""")  # words of a path in a pack


@dataclass(frozen=True)
class _Table:
    """Fields of a manifest, and whose they are; each method raises Damaged for what makes no sense."""

    fields: dict[str, Any]
    whose: str = ""
    layer: str = ""
    sample: str = ""

    def need(self, holds: bool, what: str) -> None:
        if not holds:
            raise Damaged([Problem(MANIFEST, self.whose + what, self.layer, self.sample)])

    def get(self, name: str, fits: Callable[[Any], bool], words: str) -> Any:
        value = self.fields.get(name)
        self.need(fits(value), f"its {name} {'are' if name.endswith('s') else 'is'} {value!r}, {words}")
        return value

    def table(self, name: str) -> dict[str, Any]:
        found = self.fields.get(name)
        self.need(isinstance(found, dict), f"its {name} {'are' if name.endswith('s') else 'is'} no table")
        return dict(self.fields[name])

    def tables(self, name: str) -> list[dict[str, Any]]:
        found = self.fields.get(name)
        holds = isinstance(found, list) and all(isinstance(each, dict) for each in found)
        self.need(holds, f"its {name} are no list of tables")
        return list(self.fields[name])

    def path(self, name: str) -> None:
        self.get(name, _is_path, "which is no path in the pack")

    def words(self) -> None:
        bits = self.get("bits", lambda bits: _is_whole(bits, 1, MOST_BITS), f"not 1 to {MOST_BITS}")
        encoding = self.get("encoding", lambda word: word in ENCODINGS, f"not one of {', '.join(ENCODINGS)}")
        self.need(encoding != "bipolar" or bits == 1, f"it is bipolar with {bits} bits")


def _is_one(value: Any, words: Any) -> bool:
    return isinstance(value, str) and value in words


def _are_all(names: Any, known: Any) -> bool:
    return isinstance(names, list) and all(_is_one(name, known) for name in names)


def _are_some(names: Any, known: Any) -> bool:
    """Are they some of the known names, each once?"""
    return _are_all(names, known) and len(set(names)) == len(names)


def _are_ends(value: Any) -> bool:
    """Are they a lowest and a highest whole number?"""
    lowest, highest = _both(value) if isinstance(value, dict) else (1, 0)
    return _are_whole([lowest, highest], -WIDEST, WIDEST) and bool(lowest <= highest)


def _both(ends: dict[str, Any]) -> tuple[Any, Any]:
    return ends.get("lowest"), ends.get("highest")


def _is_path(value: Any) -> bool:
    """Is it the path of a file in the pack's folder?"""
    return isinstance(value, str) and bool(_PATH.fullmatch(value)) and not {".", ".."} & {*value.split("/")}


def _are_paths(value: Any, names: Any) -> bool:
    """Are they paths by some of the names?"""
    return isinstance(value, dict) and set(value) <= set(names) and all(map(_is_path, value.values()))


def refuse_nonsense(manifest: dict[str, Any]) -> None:
    """Raise Damaged, in words, for the first field of a manifest that makes no sense."""
    whole, known = _Table(manifest), dict[str, Layer]()
    contract = whole.table("contract")
    refuse_contract(contract)
    whole.get("widest_bits", lambda bits: _is_whole(bits, 1, 2 * MOST_BITS), "no width of a register")
    for layer in whole.tables("layers"):
        _refuse_layer(layer, known)
        known[layer["name"]] = layer
    steps, values = contract["timesteps"], sum(prod(layer["shape"]) for layer in known.values())
    claim = f"it claims {values} values a step and {steps} steps, more than {MOST_VALUES} in all"
    whole.need(steps * values <= MOST_VALUES, claim)
    whole.get("outputs", lambda names: _are_some(names, known) and names != [], "not layers of it")
    recorded, neurons = whole.table("recorded"), [name for name in known if known[name]["kind"] in NEURONS]
    held = _Table(recorded, "of what is recorded ")
    held.get("steps", lambda count: _is_whole(count, 1, steps), f"not 1 to {steps}")
    held.get("potentials", lambda value: isinstance(value, bool), "neither true nor false")
    held.get("layers", lambda names: _are_some(names, neurons), "not all layers of neurons")
    names = [_refuse_sample(sample, recorded["layers"], known) for sample in whole.tables("samples")]
    whole.need(len(set(names)) == len(names), "two of its samples have the same name")
    for name, entry in whole.table("files").items():
        whole.need(_is_path(name), f"it lists the file {name!r}, which is no path in the pack")
        facts = isinstance(entry, dict) and isinstance(entry.get("sha256"), str)
        facts = facts and _is_whole(entry.get("bytes"), 0)
        whole.need(facts, f"what it says of the file {name} is no sha256 and number of bytes")


def _refuse_layer(layer: Layer, known: dict[str, Layer]) -> None:
    name: Any = layer.get("name")
    named = isinstance(name, str) and name.isprintable() and name not in ("", *known)
    _Table(layer).need(named, f"a layer is called {name!r}, which is no name, or another's")
    own = _Table(layer, f"layer {name}: ", name)
    kind = own.get("kind", lambda word: _is_one(word, KINDS), "which is none of a pack's")
    own.get("file_name", lambda word: isinstance(word, str) and bool(_PLAIN.fullmatch(word)), "not plain")
    shape = own.get("shape", lambda sizes: _are_whole(sizes, 1, MOST_VALUES), "not whole numbers, 1 or more")
    own.need(isinstance(layer.get("source", ""), str), "its source is no text")
    fewest, most, axes = KINDS[kind]
    inputs = own.get("inputs", lambda names: _are_all(names, known), "not layers before it")
    own.need(fewest <= len(inputs) <= most, f"a {kind} cannot have {len(inputs)} inputs")
    own.get("passes", _are_ends, "not a lowest and a highest whole number")
    for axis in axes:
        low, found = 0 if axis.endswith("padding") else 1, layer.get(axis)
        fits = _are_whole(found, low, MOST_VALUES) and len(layer[axis]) == len(shape) - 1
        own.need(fits, f"its {axis} is {found!r}, not {len(shape) - 1} whole numbers, {low} or more")
    if kind == "input":
        own.words()
    if kind in ("conv", "conv_transpose"):
        own.get("groups", lambda count: _is_whole(count, 1, MOST_VALUES), "not a whole number, 1 or more")
    if kind == "integrate_fire":
        own.get("fraction_bits", lambda bits: _is_whole(bits, 0, 32), "not a whole number from 0 to 32")
    if kind in NEURONS:
        potential = _Table(own.table("potential"), f"{own.whose}of its potential ", name)
        potential.get("bits", lambda bits: _is_whole(bits, 1, MOST_BITS), f"not 1 to {MOST_BITS}")
        potential.get("bound", _are_ends, "not a lowest and a highest whole number")
    sources = [known[each] for each in inputs]
    _refuse_parameters(own, layer, sources)
    own.need(_follows(layer, sources), f"its shape {shape} does not follow from what it reads")


def _refuse_parameters(own: _Table, layer: Layer, sources: list[Layer]) -> None:
    found, wanted = own.table("parameters"), ROLES.get(layer["kind"], [])
    if layer["kind"] == "add":
        wanted = [f"weight.{place}" for place in range(len(sources))]
    if layer["kind"] == "integrate":
        wanted = [role for role in ("bias", "initial") if role in found]
    given, due = (", ".join(map(str, names)) or "none" for names in (found, wanted))
    own.need(set(found) == set(wanted), f"its parameters are {given}, not {due}")
    for role in found:
        own.need(isinstance(found[role], dict), f"its {role} is no table")
        entry = _Table(found[role], f"{own.whose}of its {role} ", own.layer)
        entry.path("file")
        entry.words()
        shape, sizes = _shape_of_parameter(layer, sources, role), found[role].get("shape")
        own.need(sizes == shape is not None, f"its {role} has the shape {sizes!r}, not {shape}")
        count, words = prod(shape or ()), found[role].get("words")
        own.need(_is_whole(words, count, count), f"its {role} has {words!r} words, not {count}")


def _shape_of_parameter(layer: Layer, sources: list[Layer], role: str) -> list[int] | None:
    """The shape that a parameter must have; None: there is none that fits."""
    kind, shape, per = layer["kind"], layer["shape"], layer["parameters"][role].get("per")
    read = sources[0]["shape"]
    if kind == "gather":
        return list(shape)
    if kind == "linear":
        return [shape[-1], read[-1]] if shape and read else None
    if kind in ("conv", "conv_transpose"):
        ins, outs, groups = (*read[:1], *shape[:1], layer["groups"]) if read and shape else (1, 1, 2)
        if ins % groups or outs % groups:
            return None
        first, second = (ins, outs // groups) if kind == "conv_transpose" else (outs, ins // groups)
        return [first, second, *layer["kernel"]]
    shapes = {"layer": [1], "channel": shape[:1], "neuron": list(shape)}
    return shapes[per] if _is_one(per, shapes) else None


def _follows(layer: Layer, sources: list[Layer]) -> bool:
    """Does its shape follow from those of what it reads?"""
    kind: str = layer["kind"]
    shape: list[int] = layer["shape"]
    reads: list[list[int]] = [source["shape"] for source in sources]
    if kind in ("input", "gather"):
        return True
    read = reads[0]
    if kind == "concat":
        alike = all(each and each[1:] == read[1:] for each in reads)
        return alike and shape == [sum(each[0] for each in reads), *read[1:]]
    if kind == "reshape":
        return prod(shape) == prod(read)
    if kind == "permute":
        order = layer.get("order")
        orders = _are_whole(order, 0) and sorted(layer["order"]) == list(range(len(read)))
        return orders and shape == [read[axis] for axis in layer["order"]]
    if kind == "linear":
        return shape[:-1] == read[:-1]
    if "kernel" not in KINDS[kind][2]:
        return all(each == shape for each in reads)
    if len(read) != len(shape) or (kind.endswith("_pool") and read[0] != shape[0]):
        return False
    sizes = zip(read[1:], shape[1:], strict=True)
    return all(_window_fits(layer, axis, n, out) for axis, (n, out) in enumerate(sizes))


def _window_fits(layer: Layer, axis: int, n: int, out: int) -> bool:
    """Do windows over n values of an axis give so many?"""
    kernel, stride, padding = (layer[name][axis] for name in ("kernel", "stride", "padding"))
    dilation = layer["dilation"][axis] if "dilation" in KINDS[layer["kind"]][2] else 1
    extent = dilation * (kernel - 1) + 1
    if layer["kind"] == "conv_transpose":
        return bool(out == (n - 1) * stride - 2 * padding + extent + layer["output_padding"][axis])
    room = n + 2 * padding - extent
    whole = room // stride + 1
    if layer["kind"] != "max_pool":
        return bool(room >= 0 and out == whole)
    overhangs = out == whole + 1 and room % stride != 0 and (out - 1) * stride < n + padding
    return bool(2 * padding <= extent and (out == whole or overhangs))


def _refuse_sample(sample: dict[str, Any], recorded: list[str], known: dict[str, Layer]) -> str:
    """The name of the sample."""
    name = str(sample.get("name"))
    _Table(sample).get("name", lambda word: _is_path(word) and "/" not in word, "which is no sample's")
    own = _Table(sample, f"sample {name}: ", sample=name)
    own.path("result")
    shown = [each for each, layer in known.items() if layer["kind"] == "input"]
    for role in ("stimulus", "events"):
        own.need(_are_paths(sample.get(role), shown), f"its {role} is no table of a path for each input")
    expected = own.table("expect")
    own.need(set(expected) <= set(recorded), "what is expected of it is no table of recorded layers")
    for layer, files in expected.items():
        fields = ("spikes", "potentials") if known[layer]["kind"] == "integrate_fire" else ("potentials",)
        own.need(_are_paths(files, fields), f"what is expected of {layer} is {files!r}")
    return name


def _named(manifest: dict[str, Any]) -> set[str]:
    """Every file of the pack that the manifest names."""
    return {*manifest["files"], *_owners(manifest)}


def _refuse_index(network: Network, layer: Layer, size: int) -> None:
    """What a gather reads must be there; -1 stands for a zero."""
    index = network.arrays[layer["name"], "index"]
    if np.any((index < -1) | (index >= size)):
        file = layer["parameters"]["index"]["file"]
        raise Damaged([Problem(file, "it holds an index beyond the input", layer["name"])])


# The command ---------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Check and replay the pack that this file lies in, or the one that is named."""
    parser = argparse.ArgumentParser(description="Check and replay a vector pack with numpy.")
    parser.add_argument("pack", nargs="?", type=Path, default=Path(__file__).parent)
    parser.add_argument("--sample", action="append", help="only this sample; repeatable")
    options = parser.parse_args(arguments)
    damage = problems(options.pack)
    try:
        pack = read(options.pack)
    except Damaged as error:
        return _refused(error, [problem for problem in damage if problem not in error.problems])
    every = [sample["name"] for sample in pack.manifest["samples"]]
    names = options.sample or every
    if strange := [name for name in names if name not in every]:
        parser.error(f"there is no sample {strange[0]!r}, only: {', '.join(every)}")
    try:
        outcome = verify(pack, names)
    except Damaged as error:
        return _refused(error, damage)
    _tell(damage)
    if outcome.first is not None:
        print(f"first difference: {describe(pack, outcome.first)}")
    expected = sum(values_to_check(pack, name) for name in names)
    print(f"RESULT checked={outcome.checked} mismatch={outcome.mismatches} expected={expected}")
    if outcome.mismatches:
        return 4
    return 1 if damage or outcome.checked != expected else 0


def _tell(damage: Sequence[Problem]) -> None:
    for problem in damage:
        print(f"{problem.file}: {problem.what}")


def _refused(error: Damaged, damage: Sequence[Problem]) -> int:
    _tell(damage)
    print(f"the pack cannot be replayed: {error}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
