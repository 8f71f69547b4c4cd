"""Pack: which samples a vector pack holds, how many of them fit, and what the engine makes of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from ann2snn_cli import trees
from ann2snn_cli.errors import UnsupportedNetwork
from ann2snn_cli.ir.bounds import bounds
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import Activity, Input, IntegrateFire
from ann2snn_cli.ir.run import bind_inputs
from ann2snn_cli.stages.export import pack
from ann2snn_cli.stages.export.files import size_of
from ann2snn_cli.stages.export.pack import Absent, Extent, Recording, Sample
from ann2snn_cli.stages.simulate import AUTO, simulate
from ann2snn_cli.tasks import Task, task_named
from ann2snn_cli.twins import PROGRAMS
from ann2snn_cli.types import Batch, Inputs, Labels
from ann2snn_cli.words import count_of
from ann2snn_cli.workflows.report import SILENT, Progress

Stimuli = dict[str, Tensor]  # by input node

LANGUAGES = tuple(PROGRAMS)
CLASSIFICATION = task_named("classification")
SEARCHED = 2048  # test samples among which a misclassified one is looked for ...
PORTION = 64  # ... so many at a time


@dataclass(frozen=True)
class PackRequest:
    """What a pack shall hold."""

    samples: int = 10  # of the test set, the first so many
    corners: bool = True  # corner cases too, and a sample that the SNN misclassifies
    extent: Extent = field(default_factory=Extent)
    most_bytes: int | None = None  # leave out what does not fit; None: as large as it becomes
    languages: tuple[str, ...] = ()  # of programs in it that replay it
    engine: str = AUTO  # what steps the samples
    origin: Mapping[str, str] = field(default_factory=dict)  # tool, network, dataset: for its manifest


@dataclass(frozen=True)
class PackReport:
    """A pack that was written."""

    folder: Path
    bytes: int
    samples: int
    absent: tuple[Absent, ...]  # samples that it should hold, and why there are none
    left_out: str  # to keep it small; "" where nothing was
    notes: tuple[str, ...] = ()  # files that lay in its folder and were removed, or kept


def write_pack(
    graph: Graph,
    batches: Iterable[Batch],
    task: Task,
    folder: Path,
    request: PackRequest,
    progress: Progress = SILENT,
    *,
    overwrite: bool = False,
) -> PackReport:
    """Choose samples of the labelled `batches`, record them one by one, and write the pack."""
    pack.refuse(graph)
    request.extent.chosen(graph)  # what cannot be recorded is refused before anything is simulated
    request.extent.steps_of(graph)
    progress.begin("choose the samples of the vector pack")
    samples, absent = choose_samples(
        graph, batches, task, request.samples, corners=request.corners, engine=request.engine
    )
    samples, extent, left_out = limit(graph, samples, request.extent, request.most_bytes)
    size = len(samples) * sample_bytes(graph, extent) / 1e6
    progress.begin(
        f"record {count_of(len(samples), 'sample')}, about {size:,.0f} MB", len(samples), "samples"
    )
    notes: list[str] = []
    write_samples(
        graph,
        samples,
        folder,
        task=task,
        extent=extent,
        absent=absent,
        origin=request.origin,
        languages=request.languages,
        engine=request.engine,
        tick=progress.advance,
        overwrite=overwrite,
        tell=notes.append,
    )
    return PackReport(folder, size_of(folder), len(samples), tuple(absent), left_out, tuple(notes))


def write_samples(
    graph: Graph,
    samples: Iterable[Sample],
    folder: Path,
    *,
    task: Task = CLASSIFICATION,
    extent: Extent | None = None,
    absent: Iterable[Absent] = (),
    origin: Mapping[str, str] | None = None,
    languages: Iterable[str] = (),
    engine: str = AUTO,
    tick: Callable[[], None] = lambda: None,
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Path:
    """Record these samples one by one, and write the pack, with programs that replay it."""

    def recordings() -> Iterator[Recording]:
        with torch.no_grad():
            for sample in samples:
                yield record(graph, sample, task, engine)
                tick()

    return pack.write(
        graph,
        recordings(),
        folder,
        extent=extent,
        absent=absent,
        origin=origin,
        programs={language: PROGRAMS[language] for language in languages},
        overwrite=overwrite,
        tell=tell,
    )


def refusal(graph: Graph) -> str:
    """Why there can be no pack of this network; empty where there can."""
    try:
        pack.refuse(graph)
    except UnsupportedNetwork as error:
        return f"no vector pack was written: {error.what} ({error.where})"
    return ""


# Which samples -------------------------------------------------------------------------------------


def choose_samples(
    graph: Graph,
    batches: Iterable[Batch],
    task: Task,
    real: int,
    *,
    corners: bool = True,
    engine: str = AUTO,
) -> tuple[list[Sample], list[Absent]]:
    """The first `real` test samples, the corner cases, and one sample that the SNN misclassifies."""
    chosen: list[Sample | Absent] = []
    search = _Search(graph, task, engine)
    seen, searching = 0, corners
    for x, labels in _portions(batches):
        count = trees.sample_count(x)
        stimuli = _stimuli(graph, x)
        for place in range(min(count, max(0, real - seen))):
            chosen.append(_real(seen + place, trees.index(stimuli, place), labels, place))
        searching = searching and search.goes_on(x, labels, stimuli, seen)
        seen += count
        if seen >= real and (not searching or seen >= SEARCHED):
            break
    if corners:
        chosen += pack.corner_samples(graph)
        chosen.append(search.found or Absent("misclassified", search.reason(seen)))
    samples = [each for each in chosen if isinstance(each, Sample)]
    return samples, [each for each in chosen if isinstance(each, Absent)]


def _portions(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Smaller batches: the search for a wrong sample mostly ends in the first."""
    for batch in batches:
        yield from trees.portions([batch], PORTION)


def _stimuli(graph: Graph, x: Inputs) -> Stimuli:
    """The integers that every input is shown, [samples, ...]."""
    given, found = bind_inputs(graph, x), {}
    for node in graph.inputs:
        assert isinstance(node.op, Input)
        found[node.name] = node.op.encode(given[node.name].double()).long()
    return found


def _real(number: int, stimulus: Stimuli, labels: Labels, place: int) -> Sample:
    label = int(labels[place]) if _are_classes(labels) else None
    return Sample(f"test_{number:04d}", "real", f"test sample {number}", stimulus, label)


def _are_classes(labels: Labels) -> bool:
    """Are they one whole number a sample?"""
    return isinstance(labels, Tensor) and labels.dim() == 1 and not labels.is_floating_point()


@dataclass(eq=False)
class _Search:
    """The search for a sample that the SNN misclassifies."""

    graph: Graph
    task: Task
    engine: str
    found: Sample | None = None
    classes: bool = True  # False: what comes out are no class scores

    def goes_on(self, x: Inputs, labels: Labels, stimuli: Stimuli, seen: int) -> bool:
        """Look at some samples; is there reason to look at more?"""
        predicted = self.task.prediction(simulate(self.graph, x, engine=self.engine).outputs)
        self.classes = predicted is not None and _are_classes(labels)
        if predicted is None or not self.classes:
            return False
        wrong = (predicted != labels).nonzero().flatten().tolist()
        if wrong:
            place, label, got = wrong[0], int(labels[wrong[0]]), int(predicted[wrong[0]])
            what = f"test sample {seen + place}, a {label} taken for a {got}"
            self.found = Sample("misclassified", "corner", what, trees.index(stimuli, place), label)
        return self.found is None

    def reason(self, seen: int) -> str:
        """Why none was found among so many."""
        right = f"the SNN is right on the first {count_of(seen, 'test sample')}"
        return right if self.classes else "what comes out are no class scores"


# How much of them ----------------------------------------------------------------------------------


def limit(
    graph: Graph, samples: list[Sample], extent: Extent, most_bytes: int | None
) -> tuple[list[Sample], Extent, str]:
    """As many of the samples as fit, without potentials if not even one does; what was left out, in words."""
    every = sample_bytes(graph, extent)
    if most_bytes is None or len(samples) * every <= most_bytes:
        return samples, extent, ""
    kept_extent = extent if every <= most_bytes else Extent(extent.layers, extent.steps, potentials=False)
    kept = samples[: max(1, most_bytes // sample_bytes(graph, kept_extent))]
    no_potentials = ", no potentials" if extent.potentials and not kept_extent.potentials else ""
    counted = f"{len(kept)} of {count_of(len(samples), 'sample')}"
    note = (
        f"the vector pack holds {counted}{no_potentials}: all of it would take "
        f"{len(samples) * every / 1e6:,.0f} MB (ann2snn export writes what you ask for)"
    )
    return kept, kept_extent, note


def sample_bytes(graph: Graph, extent: Extent) -> int:
    """About how large the expectations of one sample are, as text."""
    proved = bounds(graph)
    total = 0
    for name in extent.chosen(graph):
        neurons, potential = prod(graph[name].shape), proved[name].potential
        assert potential is not None
        digits = -(-potential.bits // 4) + 1
        fires = isinstance(graph[name].op, IntegrateFire)
        total += fires * neurons // 4 + extent.potentials * neurons * digits
    return extent.steps_of(graph) * total


# What the engine makes of them ---------------------------------------------------------------------


def record(graph: Graph, sample: Sample, task: Task = CLASSIFICATION, engine: str = AUTO) -> Recording:
    """What every population and read-out does, at the graph's own delay."""
    spikes, potentials, sums = {}, {}, {}

    def watch(node: Node, activity: Activity) -> None:
        assert activity.potentials is not None
        train = activity.train[:, 0]
        potentials[node.name] = activity.potentials[:, 0].long().numpy()
        if isinstance(node.op, IntegrateFire):
            spikes[node.name] = train.to(torch.uint8).numpy()
        if node.name in graph.outputs:
            sums[node.name] = train.sum(0).long().numpy()

    units = {node.name: node.known_unit.cpu().double() for node in graph.inputs}
    x = {name: values[None].double() * units[name] for name, values in sample.stimulus.items()}
    outputs = simulate(graph, x, watch=watch, potentials=True, engine=engine).outputs
    predicted = task.prediction(outputs) if len(outputs) == 1 else None
    return Recording(sample, spikes, potentials, sums, None if predicted is None else int(predicted[0]))
