"""The memory files of a pack that the bench loads, and how many words each must hold.

Simulators go on with x or 0 where such a file ends early or is absent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ann2snn_cli.twins.replay import Layer, Pack, Problem, recorded
from ann2snn_cli.twins.verilog.wiring import size

SAMPLE = "*"  # in a path: the name of the sample


@dataclass(frozen=True)
class File:
    """A memory file of a layer."""

    path: str
    words: int
    layer: Layer
    role: str


def parameters(pack: Pack) -> Iterator[File]:
    """List those of all layers."""
    for layer in pack.network.layers:
        for role, entry in layer["parameters"].items():
            yield File(entry["file"], entry["words"], layer, role)


def stimulus(pack: Pack) -> File:
    """What the input is shown."""
    (start,) = pack.network.inputs
    return File(f"stimulus/{SAMPLE}/{start['file_name']}.mem", size(start), start, "stimulus")


def expectations(pack: Pack) -> Iterator[File]:
    """Spikes and potentials of what is recorded."""
    held = pack.manifest["recorded"]
    for layer in recorded(pack):
        path = f"expect/{SAMPLE}/{layer['file_name']}"
        if layer["kind"] == "integrate_fire":
            yield File(f"{path}.spk.mem", held["steps"], layer, "spikes")
        if held["potentials"]:
            yield File(f"{path}.vmem.mem", held["steps"] * size(layer), layer, "potentials")


def miscounted(pack: Pack, samples: Sequence[str]) -> Iterator[Problem]:
    """Files that are missing, or hold fewer or more words than the bench will read."""
    for file in parameters(pack):
        yield from _miscounted(pack, file, file.path)
    for sample in samples:
        for file in (stimulus(pack), *expectations(pack)):
            yield from _miscounted(pack, file, file.path.replace(SAMPLE, sample), sample)


def _miscounted(pack: Pack, file: File, path: str, sample: str = "") -> Iterator[Problem]:
    place = pack.folder / path
    if not place.is_file():
        yield Problem(path, "it is missing", file.layer["name"], sample)
        return
    words = place.read_bytes().count(b"\n")
    if words != file.words:
        yield Problem(path, f"it holds {words} words, not {file.words}", file.layer["name"], sample)
