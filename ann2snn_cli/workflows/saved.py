"""A saved SNN: what its `.pth` holds, at the delay that is asked for, and the data it was made for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ann2snn_cli import catalog, data
from ann2snn_cli.config import Provenance, Schedule, Settings, chosen_delay, delay_name
from ann2snn_cli.data import Data
from ann2snn_cli.errors import BadData, Setting, UsageError
from ann2snn_cli.ir.contract import Encoding
from ann2snn_cli.ir.encoding import encoding_of, reencoded
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.stages.export import files, pth, replacement
from ann2snn_cli.tasks import AUTO
from ann2snn_cli.types import InputShapes, Shape
from ann2snn_cli.version import tool
from ann2snn_cli.workflows.report import SILENT, Progress


@dataclass(frozen=True, eq=False)
class Saved:
    """An SNN from a file."""

    path: Path
    graph: Graph
    provenance: Provenance
    own_delay: int  # that it was converted for
    file_notes: tuple[str, ...] = ()  # what to know of the file itself

    def dataset_notes(self, name: str) -> tuple[str, ...]:
        """What to know where it is run on other data than it was converted for."""
        own = self.provenance.dataset
        if not own or data.same_dataset(own, name):
            return ()
        return (f"the SNN was converted for {own}, and is run on {name}",)

    @property
    def note(self) -> str:
        """What to know of its biases where it is run at another delay than its own."""
        steps = self.graph.timing.timesteps
        own = f"{self.own_delay} ({delay_name(self.own_delay, steps)})"
        is_kept = self.provenance.bias_correction.get("kept") is True
        biases = f"its biases were corrected for {'that' if is_kept else 'no delay'}"
        return (
            f"the SNN was converted for a delay of {own}, and {biases}: at other delays it runs with the "
            "same biases, and so does the quantized network; an SNN that is converted for another delay "
            f"({Setting('delay')}) may score more there"
        )

    def samples(self, settings: Settings) -> Data:
        """The dataset asked for, else the one it was converted with; refused if its samples do not fit."""
        name = settings.data.dataset or self.provenance.dataset
        if not name:
            raise UsageError(
                "the file names no dataset",
                where=str(self.path),
                remedy=f"give the data it was made for: {Setting('dataset')} NAME",
            )
        asked = settings.data.task
        own = self.provenance.task or AUTO
        samples = data.load(name, settings.data.data_dir, own if asked == AUTO else asked)
        wanted, given = _shapes(self.graph), samples.input_shapes
        if given != (wanted if isinstance(given, dict) else tuple(wanted.values())):
            raise BadData(
                f"the samples of {samples.name} have the shape {_words(given)}, "
                f"the network takes {_words(wanted)}",
                where=str(self.path),
                remedy=f"give the data it was made for with {Setting('dataset')}",
            )
        return samples.with_test_samples(settings.data.test_samples)


def _shapes(graph: Graph) -> dict[str, Shape]:
    """Of one sample of each input."""
    time = (graph.timing.timesteps,) if encoding_of(graph) is Encoding.FRAMES else ()
    return {node.name: (*time, *node.shape) for node in graph.inputs}


def _words(shapes: InputShapes) -> str:
    """The shape of the one input; of several with their names, as far as they are known."""
    if not isinstance(shapes, dict):
        return ", ".join(map(str, shapes))
    if len(shapes) == 1:
        return str(*shapes.values())
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())


def load(
    path: Path,
    *,
    schedule: Schedule | None = None,
    delay: int | None = None,
    encoding: Encoding | None = None,
    seed: int | None = None,
    rules: str = "",
    progress: Progress = SILENT,
) -> Saved:
    """The SNN in a `.pth`, at its own delay and with its own encoding unless others are given.

    `rules` names the user's own file that registers the ops of theirs in it.
    """
    replacement.finish(path, progress.line)
    graph, provenance = read(path, rules)
    own = graph.timing.delay
    asked = chosen_delay(graph.timing.timesteps, schedule, delay)
    graph = reencoded(replace(graph, contract=graph.timing.with_delay(asked)), encoding, seed)
    return Saved(path, graph, Provenance.from_plain(provenance), own, file_notes(path))


def read(path: Path, rules: str = "") -> tuple[Graph, dict[str, Any]]:
    """The graph in a `.pth` and its provenance; `rules` as for `load`."""
    catalog.load_rules(rules)
    graph, provenance = pth.load(path)
    if rules and all(type(node.op).__module__.startswith("ann2snn_cli.") for node in graph.nodes):
        raise UsageError(
            f"{Setting('rules', rules)} does nothing: the SNN holds nothing of yours",
            where=str(path),
            remedy="leave it out: what rules say is in the SNN",
        )
    return graph, provenance


def file_notes(path: Path) -> tuple[str, ...]:
    """What to know of the file of an SNN: whether it was changed."""
    note = files.change_note(path)
    return (note,) if note else ()


def origin(provenance: Provenance, dataset: str) -> dict[str, str]:
    """Where a pack comes from, for its manifest."""
    return {"tool": tool(), "network": provenance.network, "dataset": dataset}
