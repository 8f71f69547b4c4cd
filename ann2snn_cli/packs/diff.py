"""Where two packs differ, or a pack and what a simulator wrote: the first difference, and how many there are.

A simulator's log is a table (CSV with the columns sample, layer, step, neuron, and spike or potential or
both) or a folder of memory files as in a pack's `expect/`: SAMPLE/LAYER.spk.mem and SAMPLE/LAYER.vmem.mem. It
may hold any part of a run; what it holds is compared.
"""

from __future__ import annotations

import csv
import re
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np

from ann2snn_cli.twins.replay import (
    Array,
    Damaged,
    Difference,
    Layer,
    Outcome,
    Pack,
    Problem,
    coordinates,
    count_differences,
    read_spikes,
    read_words,
    recorded,
)

FIELDS = ("spike", "potential")


@dataclass
class Comparison:
    """What was found: differences of the networks in words, and those of the activity."""

    network: list[str] = field(default_factory=list)
    activity: Outcome = field(default_factory=Outcome)

    @property
    def same(self) -> bool:
        """Is there something in common, and no difference?"""
        return not self.network and not self.activity.mismatches and self.activity.checked > 0


# Two packs -----------------------------------------------------------------------------------------


def packs(one: Pack, other: Pack) -> Comparison:
    """The networks, then every sample that both have, as far as both recorded it."""
    found = Comparison(list(_networks(one, other)))
    names = {sample["name"] for sample in other.manifest["samples"]}
    for sample in one.manifest["samples"]:
        name = sample["name"]
        if name in names and not _stimuli(one, other, name, found):
            for layer in recorded(one):
                _activity(one, name, layer, _expected(other, name, layer), found.activity)
    return found


def _networks(one: Pack, other: Pack) -> Iterator[str]:
    for key in dict.fromkeys([*one.network.contract, *other.network.contract]):
        ours, theirs = one.network.contract.get(key), other.network.contract.get(key)
        if ours != theirs:
            yield f"contract, {key}: {ours} | {theirs}"
    theirs_by_name = {layer["name"]: layer for layer in other.network.layers}
    names = [layer["name"] for layer in one.network.layers]
    yield from (f"layer {name}: only in the first" for name in names if name not in theirs_by_name)
    yield from (f"layer {name}: only in the second" for name in theirs_by_name if name not in names)
    for layer in one.network.layers:
        if layer["name"] in theirs_by_name:
            yield from _layers(one, other, layer, theirs_by_name[layer["name"]])


NOT_ARITHMETIC = {"source", "file_name", "passes", "potential", "parameters", "unit"}


def _layers(one: Pack, other: Pack, layer: Layer, theirs: Layer) -> Iterator[str]:
    for key in sorted({*layer, *theirs} - NOT_ARITHMETIC):
        if layer.get(key) != theirs.get(key):
            yield f"layer {layer['name']}, {key}: {layer.get(key)} | {theirs.get(key)}"
    for role in sorted({*layer["parameters"], *theirs["parameters"]}):
        values = [pack.network.arrays.get((layer["name"], role)) for pack in (one, other)]
        yield from (f"layer {layer['name']}, {role}: {what}" for what in _arrays(*values))


def _arrays(one: Array | None, other: Array | None) -> Iterator[str]:
    if one is None or other is None:
        yield f"only in the {'second' if one is None else 'first'}"
    elif one.shape != other.shape:
        yield f"{list(one.shape)} values | {list(other.shape)}"
    elif (wrong := np.argwhere(one != other)).size:
        place = tuple(int(at) for at in wrong[0])
        count = f"{len(wrong)} of {one.size} values differ, first"
        yield f"{count} {list(place)}: {int(one[place])} | {int(other[place])}"


def _stimuli(one: Pack, other: Pack, sample: str, found: Comparison) -> bool:
    """Enter differing stimuli; what follows from them is then no news."""
    ours, theirs = one.stimulus(sample), other.stimulus(sample)
    differing = [
        f"stimulus of {sample}, {layer}: {what}"
        for layer in dict.fromkeys([*ours, *theirs])
        for what in _arrays(ours.get(layer), theirs.get(layer))
    ]
    found.network += differing
    return bool(differing)


def _expected(pack: Pack, sample: str, layer: Layer) -> dict[str, Array]:
    theirs = [each for each in recorded(pack) if each["name"] == layer["name"]]
    values = (
        pack.expected(sample, theirs[0]) if theirs and theirs[0]["shape"] == layer["shape"] else (None, None)
    )
    return {name: value for name, value in zip(FIELDS, values, strict=True) if value is not None}


def _activity(pack: Pack, sample: str, layer: Layer, got: dict[str, Array], outcome: Outcome) -> None:
    """Hold [steps, ...] of a layer against what the pack expects, as many steps as both have."""
    found = []
    for name, wanted in _expected(pack, sample, layer).items():
        if name not in got:
            continue
        steps = min(len(wanted), len(got[name]))
        found.append(count_differences(outcome, (sample, layer["name"], name), wanted[:steps], got[name]))
    first = [difference for difference in found if difference is not None]
    outcome.first = outcome.first or min(first, key=lambda difference: difference.step, default=None)


# A pack and a log ----------------------------------------------------------------------------------


def log(pack: Pack, path: Path) -> Comparison:
    """What a simulator wrote, against what the pack expects."""
    found = Comparison()
    if path.is_dir():
        _folder(pack, path, found.activity)
    else:
        _table(pack, path, found.activity)
    if not found.activity.checked:
        raise Damaged([Problem(path.name, "it holds no sample and layer that the pack recorded")])
    return found


def _folder(pack: Pack, folder: Path, outcome: Outcome) -> None:
    steps = pack.manifest["recorded"]["steps"]
    for sample in pack.manifest["samples"]:
        for layer in recorded(pack):
            stem, got = f"{sample['name']}/{layer['file_name']}", {}
            if (folder / f"{stem}.spk.mem").is_file():
                got["spike"] = read_spikes(folder, f"{stem}.spk.mem", (steps, *layer["shape"]))
            if (folder / f"{stem}.vmem.mem").is_file():
                shape, bits = (steps, *layer["shape"]), layer["potential"]["bits"]
                got["potential"] = read_words(folder, f"{stem}.vmem.mem", bits, "two's complement", shape)
            _activity(pack, sample["name"], layer, got, outcome)


def _table(pack: Pack, path: Path, outcome: Outcome) -> None:
    rows = _rows(path)
    samples = [sample["name"] for sample in pack.manifest["samples"]]
    for sample in samples:
        for layer in recorded(pack):
            expected = _expected(pack, sample, layer)
            for row in sorted(rows.get((sample, layer["name"]), []), key=lambda row: (row.step, row.neuron)):
                _row(path, layer, expected, row, (sample, outcome))


@dataclass(frozen=True)
class _Row:
    """A line of a table: a neuron at a step, and what it did; None: a simulator's x."""

    line: int
    step: int
    neuron: int
    values: dict[str, int | None]


def _row(path: Path, layer: Layer, expected: dict[str, Array], row: _Row, to: tuple[str, Outcome]) -> None:
    sample, outcome = to
    for name, wanted in expected.items():
        if name not in row.values:
            continue
        neurons = prod(layer["shape"])
        if not (1 <= row.step <= len(wanted) and 0 <= row.neuron < neurons):
            what = (
                f"line {row.line}: step {row.step}, neuron {row.neuron}, but the pack holds the steps 1 to "
                f"{len(wanted)} and the layer the neurons 0 to {neurons - 1}"
            )
            raise Damaged([Problem(path.name, what, layer["name"], sample)])
        value, got = int(wanted[row.step - 1].ravel()[row.neuron]), row.values[name]
        outcome.checked += 1
        if value != got:
            outcome.mismatches += 1
            place = (sample, layer["name"], row.step, row.neuron)
            outcome.first = outcome.first or Difference(*place, name, value, got)


def _rows(path: Path) -> dict[tuple[str, str], list[_Row]]:
    """The rows of a table by (sample, layer)."""
    rows: dict[tuple[str, str], list[_Row]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            _refuse_other_columns(path, list(reader.fieldnames or []))
            for row in reader:
                rows.setdefault((row["sample"], row["layer"]), []).append(
                    _read_row(path, reader.line_num, row)
                )
    except UnicodeDecodeError as error:
        raise Damaged([Problem(path.name, "it is no text")]) from error
    except csv.Error as error:
        raise Damaged([Problem(path.name, f"it is no table: {error}")]) from error
    return rows


def _refuse_other_columns(path: Path, names: list[str]) -> None:
    if not {"sample", "layer", "step", "neuron"} <= set(names) or not set(FIELDS) & set(names):
        what = "it has not the columns sample, layer, step, neuron, and spike or potential"
        raise Damaged([Problem(path.name, what)])


def _read_row(path: Path, line: int, row: dict[str, str]) -> _Row:
    try:
        values = {name: _value(row, name) for name in FIELDS if row.get(name)}
        return _Row(line, _whole(row, "step"), _whole(row, "neuron"), values)
    except ValueError as error:
        raise Damaged([Problem(path.name, f"line {line}: {error}")]) from error


def _value(row: dict[str, str], name: str) -> int | None:
    return None if row[name].strip().lower() in ("x", "z") else _whole(row, name)


def _whole(row: dict[str, str], name: str) -> int:
    text = row.get(name) or ""
    if not text:
        raise ValueError(f"it has no {name}")
    if not re.fullmatch(r"\s*[-+]?[0-9]{1,100}\s*", text):
        raise ValueError(f"its {name} is {reprlib.repr(text)}, no whole number")
    return int(text)


def describe(pack: Pack, difference: Difference) -> str:
    """A difference in one line: the first's value, and the other's."""
    layer = pack.network.layer(difference.layer)
    place = coordinates(layer, difference.neuron)
    where = f"sample {difference.sample}, layer {difference.layer}, step {difference.step}, {place}"
    got = "no number" if difference.got is None else difference.got
    return f"{where}: {difference.field} {difference.expected} | {got}"
