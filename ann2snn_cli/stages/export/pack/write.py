"""The vector pack on disk: complete or absent, its manifest written last."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ann2snn_cli.errors import Setting, UnsupportedNetwork, UsageError
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.ir.ops import Integrate, IntegrateFire
from ann2snn_cli.stages.export import replacement
from ann2snn_cli.stages.export.files import MANIFEST, UNREADABLE, as_json
from ann2snn_cli.stages.export.pack.describe import describe
from ann2snn_cli.stages.export.pack.guide import guide
from ann2snn_cli.stages.export.pack.samples import Absent, Sample
from ann2snn_cli.stages.export.pack.words import digits, spike_lines, words
from ann2snn_cli.twins import replay
from ann2snn_cli.twins.replay import Damaged, Layer, Network, Pack

ARRAYS = "pack.npz"
FOLDERS = (
    "bias",
    "expect",
    "index",
    "initial",
    "stimulus",
    "threshold",
    "weights",
)  # those that a pack may have
FILES = (MANIFEST, ARRAYS, "README.md", "replay.py")

Array = NDArray[Any]
Programs = Callable[[Pack], Mapping[str, str]]  # a pack -> sources by file name


@dataclass(frozen=True, eq=False)
class Recording:
    """A sample, and what the reference engine made of it."""

    sample: Sample
    spikes: Mapping[str, Array]  # of every population, [timesteps, ...]
    potentials: Mapping[str, Array]  # of every population and read-out, [timesteps, ...]
    sums: Mapping[str, Array]  # of every output, over all steps
    prediction: int | None


@dataclass(frozen=True)
class Extent:
    """How much of the recordings is written."""

    layers: tuple[str, ...] = ()  # none named: all
    steps: int | None = None  # the first so many; None: all
    potentials: bool = True

    def chosen(self, graph: Graph) -> list[str]:
        """The layers recorded, by node name; a user may name a layer by its module too."""
        neurons = graph.of(IntegrateFire, Integrate)
        known = {name for node in neurons for name in (node.name, node.source)}
        if unknown := [name for name in self.layers if name not in known]:
            raise UsageError(
                f"there are no neurons called {', '.join(unknown)}",
                remedy=f"name one of: {', '.join(node.name for node in neurons)}",
            )
        return [n.name for n in neurons if not self.layers or {n.name, n.source} & set(self.layers)]

    def steps_of(self, graph: Graph) -> int:
        """How many steps are written."""
        steps = graph.timing.timesteps
        if self.steps is not None and not 1 <= self.steps <= steps:
            raise UsageError(
                f"{self.steps} steps cannot be recorded: the SNN has {steps}",
                where=str(Setting("steps", self.steps)),
                remedy=f"record 1 to {steps}",
            )
        return steps if self.steps is None else self.steps


def refuse_in_the_way(folder: Path, programs: Iterable[str] = ()) -> None:
    """Refuse, before any work, a user's files where the pack has folders, or folders for its files."""
    replacement.refuse_in_the_way(folder, folders=(*FOLDERS, *programs), files=FILES)


def write(
    graph: Graph,
    recordings: Iterable[Recording],
    folder: Path,
    *,
    extent: Extent | None = None,
    absent: Iterable[Absent] = (),
    origin: Mapping[str, str] | None = None,
    programs: Mapping[str, Programs] | None = None,
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write the pack of a SPIKING graph in integers.

    `origin` says where the network comes from (tool, network, dataset). `programs` replay the pack in other
    languages: by folder, what writes their sources. `tell` is told what became of files that lay there.
    """
    extent = extent or Extent()
    network, chosen, steps = describe(graph), extent.chosen(graph), extent.steps_of(graph)

    def fill(place: Path) -> None:
        files = _Files(place, network)
        with files.arrays_beside():
            files.network()
            samples = [files.recording(each, chosen, steps, extent.potentials) for each in recordings]
        head = {"schema": replay.SCHEMA, **(origin or {})}
        manifest = {
            **head,
            "contract": network.contract,
            "recorded": {"steps": steps, "potentials": extent.potentials, "layers": chosen},
            "widest_bits": network.widest_bits,
            "outputs": network.outputs,
            "layers": [files.observed(layer) for layer in network.layers],
            "samples": samples,
            "absent": [{"name": each.name, "reason": each.reason} for each in absent],
        }
        files.text("replay.py", Path(replay.__file__).read_text("utf-8"))
        with np.load(place / ARRAYS) as arrays:
            files.text("README.md", guide(manifest, arrays))
        finished = Pack(place, manifest, network)
        for language, sources in (programs or {}).items():
            for name, text in _sources(language, sources, finished).items():
                files.text(f"{language}/{name}", text)
        manifest["files"] = dict(sorted(files.listed.items()))
        manifest["manifest_sha256"] = replay.manifest_hash(manifest)
        (place / MANIFEST).write_bytes(as_json(manifest))

    return replacement.write_folder(folder, fill, overwrite=overwrite, tell=tell)


def _sources(language: str, sources: Programs, pack: Pack) -> Mapping[str, str]:
    """The program in one language. What it cannot do is refused in words."""
    try:
        return sources(pack)
    except Damaged as error:
        raise UnsupportedNetwork(
            f"the program in {language} cannot replay this network: {error}",
            remedy="export a pack without it: every pack holds replay.py",
        ) from error


@dataclass
class _Files:
    """Writes the files of one pack, and keeps the list of them that the manifest will hold."""

    place: Path
    net: Network
    listed: dict[str, dict[str, Any]] = field(default_factory=dict)
    archive: zipfile.ZipFile | None = None  # `pack.npz`: written as the memories are, never held as a whole
    seen: dict[str, list[int]] = field(default_factory=dict)  # by layer: lowest and highest potential

    def text(self, name: str, content: str) -> None:
        """A file that is no memory."""
        self._file(name, content.encode("utf-8", UNREADABLE))

    def network(self) -> None:
        """The parameters of all layers."""
        for layer in self.net.layers:
            for role, entry in layer["parameters"].items():
                values = self.net.arrays[layer["name"], role]
                self._memory(
                    entry["file"], words(values, entry["bits"], entry["encoding"]), entry["bits"], values
                )

    def recording(
        self, recording: Recording, chosen: list[str], steps: int, potentials: bool
    ) -> dict[str, Any]:
        """One sample's stimuli and expectations; gives its entry in the manifest."""
        sample = recording.sample
        entry: dict[str, Any] = {
            "name": sample.name,
            "kind": sample.kind,
            "what": sample.what,
            "label": sample.label,
        }
        entry |= self._stimuli(sample)
        entry["result"] = f"expect/{sample.name}/result.json"
        self.text(entry["result"], _result(recording))
        entry["expect"] = {
            layer["name"]: dict(self._expected(recording, layer, steps, potentials))
            for layer in self.net.layers
            if layer["name"] in chosen
        }
        return entry

    def _stimuli(self, sample: Sample) -> dict[str, dict[str, str]]:
        """The files of what every input is shown, by input layer."""
        stems = {layer["name"]: f"stimulus/{sample.name}/{layer['file_name']}" for layer in self.net.inputs}
        for layer in self.net.inputs:
            values, stem = sample.stimulus[layer["name"]].cpu().numpy(), stems[layer["name"]]
            content = words(values, layer["bits"], layer["encoding"])
            self._memory(f"{stem}.mem", content, layer["bits"], values.astype(np.int32))
            self.text(f"{stem}.aer", self._events(values.ravel()))
        return {
            "stimulus": {name: f"{stem}.mem" for name, stem in stems.items()},
            "events": {name: f"{stem}.aer" for name, stem in stems.items()},
        }

    def _events(self, values: Array) -> str:
        """A line `t address value` for every value that is not 0, at every step."""
        lines = [f"{place} {values[place]}\n" for place in np.flatnonzero(values)]
        return "".join(f"{t} {line}" for t in range(1, self.net.steps + 1) for line in lines)

    def _expected(
        self, recording: Recording, layer: Layer, steps: int, potentials: bool
    ) -> Iterable[tuple[str, str]]:
        name = f"expect/{recording.sample.name}/{layer['file_name']}"
        values = recording.potentials[layer["name"]]
        ends = [int(values.min()), int(values.max())]
        lowest, highest = self.seen.get(layer["name"], ends)
        self.seen[layer["name"]] = [min(lowest, ends[0]), max(highest, ends[1])]
        if layer["name"] in recording.spikes:
            spikes = recording.spikes[layer["name"]][:steps].astype(np.uint8)
            flat = spikes.reshape(len(spikes), -1)
            self._memory(f"{name}.spk.mem", spike_lines(flat), flat.shape[1], spikes)
            yield "spikes", f"{name}.spk.mem"
        if potentials:
            bits = layer["potential"]["bits"]
            kept = values[:steps].astype(np.int32 if bits <= 32 else np.int64)
            self._memory(f"{name}.vmem.mem", words(kept, bits, "two's complement"), bits, kept)
            yield "potentials", f"{name}.vmem.mem"

    def observed(self, layer: Layer) -> Layer:
        """The layer's entry, with the range of the potentials that were recorded."""
        if layer["name"] not in self.seen:
            return layer
        lowest, highest = self.seen[layer["name"]]
        seen = {"lowest": lowest, "highest": highest}
        return {**layer, "potential": {**layer["potential"], "observed": seen}}

    @contextmanager
    def arrays_beside(self) -> Iterator[None]:
        """The memories that are written within it go into `pack.npz` too, as numpy arrays."""
        path = self.place / ARRAYS
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as self.archive:
            yield
        self.archive = None
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while part := file.read(1 << 20):
                digest.update(part)
        self.listed[ARRAYS] = {"sha256": digest.hexdigest(), "bytes": path.stat().st_size}

    def _memory(self, name: str, content: bytes, bits: int, values: Array) -> None:
        assert self.archive is not None
        with self.archive.open(f"{name.removesuffix('.mem')}.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array(file, np.asanyarray(values), allow_pickle=False)
        lines = len(content) // (digits(bits) + 1)
        self._file(name, content, words=lines, word_bits=bits)

    def _file(self, name: str, content: bytes, **facts: int) -> None:
        path = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.listed[name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), **facts}


def _result(recording: Recording) -> str:
    sums = {name: values.ravel().astype(int).tolist() for name, values in recording.sums.items()}
    return (
        json.dumps(
            {"label": recording.sample.label, "prediction": recording.prediction, "outputs": sums}, indent=1
        )
        + "\n"
    )
