"""What a vector pack holds: which samples, and what the reference engine makes of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from ann2snn_cli.errors import UnsupportedNetwork
from ann2snn_cli.ir.bounds import bounds
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import Input, IntegrateFire
from ann2snn_cli.ir.run import encode
from ann2snn_cli.ir.trains import Activity
from ann2snn_cli.pipeline import Batch
from ann2snn_cli.stages.export import pack
from ann2snn_cli.stages.export.pack import Absent, Extent, Recording, Sample
from ann2snn_cli.stages.simulate import simulate
from ann2snn_cli.twins.replay import Pack

LANGUAGES = ("c", "verilog")
SEARCHED = 2048  # test samples among which a misclassified one is looked for ...
PORTION = 64  # ... so many at a time


def choose_samples(
    graph: Graph, batches: Iterable[Batch], real: int, *, corners: bool = True
) -> tuple[list[Sample], list[Absent]]:
    """The first `real` test samples, the corner cases, and one sample that the SNN misclassifies."""
    chosen: list[Sample | Absent] = []
    wrong: Sample | None = None
    seen, searching = 0, corners and _scores_classes(graph)
    for x, labels in _portions(batches):
        stimuli = _stimuli(graph, x)
        chosen += [_real(seen + i, stimuli[i], labels[i]) for i in range(min(len(x), max(0, real - seen)))]
        if searching and wrong is None:
            wrong = _misclassified(graph, x, labels, stimuli, seen)
        seen += len(x)
        if seen >= real and (wrong is not None or not searching or seen >= SEARCHED):
            break
    if corners:
        chosen += pack.corner_samples(graph)
        right = f"the SNN is right on the first {seen} test samples"
        reason = right if searching else "what comes out are no class scores"
        chosen.append(wrong or Absent("misclassified", reason))
    samples = [each for each in chosen if isinstance(each, Sample)]
    return samples, [each for each in chosen if isinstance(each, Absent)]


def _portions(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Smaller batches: the search for a wrong sample mostly ends in the first."""
    for x, labels in batches:
        yield from zip(torch.split(x, PORTION), torch.split(labels, PORTION), strict=True)


def _stimuli(graph: Graph, x: Tensor) -> Tensor:
    (node,) = graph.inputs
    assert isinstance(node.op, Input)
    return encode(node.op, x.double()).long()


def _real(place: int, stimulus: Tensor, label: Tensor) -> Sample:
    what = f"test sample {place}"
    return Sample(f"test_{place:04d}", "real", what, stimulus, int(label) if label.dim() == 0 else None)


def _scores_classes(graph: Graph) -> bool:
    """Is its (first) output a score for each of several classes?"""
    shape = graph[graph.outputs[0]].shape
    return len(shape) == 1 and shape[0] > 1


def _misclassified(graph: Graph, x: Tensor, labels: Tensor, stimuli: Tensor, seen: int) -> Sample | None:
    (outputs, *_) = simulate(graph, x).outputs
    wrong = (outputs.argmax(1) != labels).nonzero().flatten().tolist()
    if not wrong:
        return None
    place, label = wrong[0], int(labels[wrong[0]])
    what = f"test sample {seen + place}, a {label} taken for a {int(outputs[place].argmax())}"
    return Sample("misclassified", "corner", what, stimuli[place], label)


def refusal(graph: Graph) -> str:
    """Why there can be no pack of this network; empty where there can."""
    try:
        pack.refuse(graph)
    except UnsupportedNetwork as error:
        return f"no vector pack was written: {error.what} ({error.where})"
    return ""


def within(graph: Graph, samples: list[Sample], most_bytes: int) -> tuple[list[Sample], Extent, str]:
    """As many of the samples as fit, without potentials if not even one does; what was left out, in words."""
    every, spikes = (sample_bytes(graph, Extent(potentials=potentials)) for potentials in (True, False))
    if len(samples) * every <= most_bytes:
        return samples, Extent(), ""
    potentials = every <= most_bytes
    kept = samples[: max(1, most_bytes // (every if potentials else spikes))]
    left_out = f"{len(kept)} of {len(samples)} samples" + (", no potentials" if not potentials else "")
    note = (
        f"the vector pack holds {left_out}: all of it would take {len(samples) * every / 1e6:,.0f} MB "
        "(ann2snn export writes what you ask for)"
    )
    return kept, Extent(potentials=potentials), note


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


def record(graph: Graph, sample: Sample) -> Recording:
    """What every population and read-out does, at the graph's own delay."""
    spikes, potentials, sums = {}, {}, {}

    def watch(node: Node, activity: Activity) -> None:
        assert activity.potentials is not None
        train = activity.train[:, 0].long()
        potentials[node.name] = activity.potentials[:, 0].long().numpy()
        if isinstance(node.op, IntegrateFire):
            spikes[node.name] = train.numpy()
        if node.name in graph.outputs:
            sums[node.name] = train.sum(0).numpy()

    (node,) = graph.inputs
    x = sample.stimulus[None].double() * node.worth.cpu().double()
    outputs = simulate(graph, x, watch=watch, potentials=True).outputs
    prediction = int(outputs[0].argmax()) if len(outputs) == 1 and _scores_classes(graph) else None
    return Recording(sample, spikes, potentials, sums, prediction)


def write_pack(
    graph: Graph,
    samples: Iterable[Sample],
    folder: Path,
    *,
    absent: Iterable[Absent] = (),
    extent: Extent | None = None,
    origin: Mapping[str, str] | None = None,
    languages: Iterable[str] = (),
    overwrite: bool = False,
) -> Path:
    """Record the samples one by one, and write the pack, with programs that replay it in other languages."""

    def recordings() -> Iterator[Recording]:
        with torch.no_grad():
            for sample in samples:
                yield record(graph, sample)

    return pack.write(
        graph,
        recordings(),
        folder,
        extent=extent,
        absent=absent,
        origin=origin,
        programs={language: _sources(language) for language in languages},
        overwrite=overwrite,
    )


def _sources(language: str) -> Callable[[Pack], Mapping[str, str]]:
    sources: Callable[[Pack], Mapping[str, str]] = import_module(f"ann2snn_cli.twins.{language}").sources
    return sources
