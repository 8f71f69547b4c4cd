"""What a vector pack holds: which samples, and what the reference engine makes of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import Input, IntegrateFire
from ann2snn_cli.ir.run import encode
from ann2snn_cli.ir.trains import Activity
from ann2snn_cli.pipeline import Batch
from ann2snn_cli.stages.export import pack
from ann2snn_cli.stages.export.pack import Absent, Extent, Recording, Sample
from ann2snn_cli.stages.simulate import simulate

SEARCHED = 2048  # test samples among which a misclassified one is looked for


def choose_samples(
    graph: Graph, batches: Iterable[Batch], real: int, *, corners: bool = True
) -> tuple[list[Sample], list[Absent]]:
    """The first `real` test samples, the corner cases, and one sample that the SNN misclassifies."""
    chosen: list[Sample | Absent] = []
    wrong: Sample | None = None
    seen = 0
    for x, labels in batches:
        stimuli = _stimuli(graph, x)
        chosen += [_real(seen + i, stimuli[i], labels[i]) for i in range(min(len(x), max(0, real - seen)))]
        if corners and wrong is None:
            wrong = _misclassified(graph, x, labels, stimuli, seen)
        seen += len(x)
        if seen >= real and (wrong is not None or not corners or seen >= SEARCHED):
            break
    if corners:
        chosen += pack.corner_samples(graph)
        chosen.append(wrong or Absent("misclassified", f"the SNN is right on the first {seen} test samples"))
    samples = [each for each in chosen if isinstance(each, Sample)]
    return samples, [each for each in chosen if isinstance(each, Absent)]


def _stimuli(graph: Graph, x: Tensor) -> Tensor:
    (node,) = graph.inputs
    assert isinstance(node.op, Input)
    return encode(node.op, x.double()).long()


def _real(place: int, stimulus: Tensor, label: Tensor) -> Sample:
    what = f"test sample {place}"
    return Sample(f"test_{place:04d}", "real", what, stimulus, int(label) if label.dim() == 0 else None)


def _misclassified(graph: Graph, x: Tensor, labels: Tensor, stimuli: Tensor, seen: int) -> Sample | None:
    (outputs, *_) = simulate(graph, x).outputs
    if outputs.dim() != 2 or labels.dim() != 1:
        return None
    wrong = (outputs.argmax(1) != labels).nonzero().flatten().tolist()
    if not wrong:
        return None
    place, label = wrong[0], int(labels[wrong[0]])
    what = f"test sample {seen + place}, a {label} taken for a {int(outputs[place].argmax())}"
    return Sample("misclassified", "corner", what, stimuli[place], label)


def record(graph: Graph, sample: Sample) -> Recording:
    """What every population and read-out does, in the graph's own schedule."""
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
    outputs = simulate(graph, x, watch=watch).outputs
    prediction = int(outputs[0].argmax()) if len(outputs) == 1 and outputs[0].dim() == 2 else None
    return Recording(sample, spikes, potentials, sums, prediction)


def write_pack(
    graph: Graph,
    samples: Iterable[Sample],
    folder: Path,
    *,
    absent: Iterable[Absent] = (),
    extent: Extent | None = None,
    origin: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Record the samples one by one, and write the pack."""

    def recordings() -> Iterator[Recording]:
        with torch.no_grad():
            for sample in samples:
                yield record(graph, sample)

    return pack.write(
        graph, recordings(), folder, extent=extent, absent=absent, origin=origin, overwrite=overwrite
    )
