"""What a pack holds: the samples that are chosen, and what the reference engine makes of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ann2snn_cli.errors import UsageError
from ann2snn_cli.ir.contract import Contract, Reset
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import Conv, Input, Integrate, IntegrateFire, Linear, Opaque, Ref, Reshape
from ann2snn_cli.stages.export.pack import Extent, Sample
from ann2snn_cli.stages.simulate import simulate
from ann2snn_cli.tasks import task_named
from ann2snn_cli.workflows import pack
from ann2snn_cli.workflows.pack import PackRequest, limit, refusal, sample_bytes, write_pack

CLASSES = task_named("classification")
ONE = torch.tensor(1.0, dtype=torch.float64)
CORNERS = ["zeros", "max", "checkerboard", "pixel", "noise", "drive_positive", "drive_negative", "tie"]
CONTRACTS = [(delay, reset) for delay in (0, 2, 6) for reset in Reset]


def whole(*values):
    """Integers, as a chip is loaded with."""
    return torch.tensor(values if len(values) > 1 else values[0], dtype=torch.int64)


def spiking(*nodes, timesteps=2, delay=0, reset_mode=Reset.SUBTRACTION, outputs=None):
    """A SPIKING graph of (name, op, inputs, shape), whose integers mean themselves."""
    made = tuple(Node(*node, source=f"net.{node[0]}", unit=ONE) for node in nodes)
    contract = Contract(timesteps, reset_mode, delay)
    return Graph(made, outputs or (made[-1].name,), Level.SPIKING, contract)


def choose_samples(graph, given, real, *, corners=True):
    """Of a classifier."""
    return pack.choose_samples(graph, given, CLASSES, real, corners=corners)


def record(graph, sample):
    """Of a classifier."""
    return pack.record(graph, sample, CLASSES)


def classifier(unit=1.0, low=0):
    """The class is the larger of two values, after neurons that fire at every step from 1 on."""
    graph = spiking(
        ("in", Input(unit, low, 255), (), (2,)),
        ("fire", IntegrateFire(whole(1000), whole(0), whole(500)), ("in",), (2,)),
        ("sum", Linear(whole(1, 0, 0, 1).reshape(2, 2), bits=2), ("fire",), (2,)),
        ("out", Integrate(), ("sum",), (2,)),
        timesteps=16,
    )
    units = {"in": torch.tensor(unit, dtype=torch.float64)}
    return graph.with_nodes(replace(node, unit=units.get(node.name, ONE)) for node in graph.nodes)


def batches(values, labels, size=3):
    """Batches as datasets give them: float32, int64."""
    x, y = torch.tensor(values, dtype=torch.float32), torch.tensor(labels)
    return list(zip(x.split(size), y.split(size), strict=True))


RIGHT = [[200, 20], [10, 240], [250, 3], [40, 180], [220, 9], [1, 255], [190, 50]]
LABELS = [0, 1, 0, 1, 0, 1, 0]


# Which samples -------------------------------------------------------------------------------------


def test_the_first_test_samples_come_first_then_the_corners():
    """In the order of the test set, across batches, each with its label and its place."""
    samples, absent = choose_samples(classifier(), batches(RIGHT, LABELS), 5)
    assert [each.name for each in samples] == [f"test_{i:04d}" for i in range(5)] + CORNERS
    for i, sample in enumerate(samples[:5]):
        assert (sample.kind, sample.what, sample.label) == ("real", f"test sample {i}", LABELS[i])
        assert sample.stimulus["in"].tolist() == RIGHT[i]
        assert sample.stimulus["in"].dtype == torch.int64
    (missing,) = absent
    assert (missing.name, missing.reason) == ("misclassified", "the SNN is right on the first 7 test samples")


def test_more_samples_than_there_are_is_all_of_them():
    """The test set ends."""
    samples, _ = choose_samples(classifier(), batches(RIGHT, LABELS), 99, corners=False)
    assert [each.stimulus["in"].tolist() for each in samples] == RIGHT


def test_without_corners_only_as_many_batches_are_read_as_are_needed():
    """And nothing is said to be absent."""
    given = iter(batches(RIGHT, LABELS))
    samples, absent = choose_samples(classifier(), given, 4, corners=False)
    assert ([each.name for each in samples], absent) == ([f"test_{i:04d}" for i in range(4)], [])
    assert len(list(given)) == 1


def test_without_real_samples_the_corners_stay():
    """They need no data, but the misclassified one."""
    samples, absent = choose_samples(classifier(), batches(RIGHT, LABELS), 0)
    assert [each.name for each in samples] == CORNERS
    assert [each.name for each in absent] == ["misclassified"]


@pytest.mark.parametrize("unit", [1.0, 0.5, 1 / 255, 0.0039])
def test_stimuli_are_the_integers_that_the_chip_is_shown(unit):
    """clamp(round half to even(x / unit)), by numpy in float64."""
    values = np.random.default_rng(0).uniform(-200 * unit, 300 * unit, (40, 2)).astype(np.float32)
    values[0] = 2.5 * unit, 3.5 * unit
    wanted = np.clip(np.rint(values.astype(np.float64) / unit), -128, 255)
    graph = classifier(unit, low=-128)
    samples, _ = choose_samples(graph, batches(values.tolist(), [0] * 40), 40, corners=False)
    assert [each.stimulus["in"].tolist() for each in samples] == wanted.tolist()


def test_the_misclassified_sample_is_the_first_that_is_wrong():
    """Over all batches, by the network's own outputs; and it says what was taken for what."""
    labels = [0, 1, 0, 1, 1, 0, 1]  # wrong for the fifth, the sixth and the seventh
    samples, absent = choose_samples(classifier(), batches(RIGHT, labels), 1)
    assert absent == []
    wrong = samples[-1]
    assert (wrong.name, wrong.kind, wrong.label) == ("misclassified", "corner", 1)
    assert wrong.what == "test sample 4, a 1 taken for a 0"
    assert wrong.stimulus["in"].tolist() == RIGHT[4]
    (output,) = simulate(classifier(), wrong.stimulus["in"][None].double()).outputs
    assert int(output.argmax()) == 0


def test_large_batches_are_searched_in_portions(monkeypatch):
    """The same samples, and no more simulated than needed."""
    labels = [0, 1, 1, 1, 1, 1, 1]
    shown = []
    monkeypatch.setattr(pack, "PORTION", 2)
    monkeypatch.setattr(
        pack, "simulate", lambda graph, x, **more: shown.append(len(x)) or simulate(graph, x, **more)
    )
    samples, _ = choose_samples(classifier(), batches(RIGHT, labels, size=7), 1)
    assert samples[-1].what == "test sample 2, a 1 taken for a 0"
    assert shown == [2, 2]
    samples, _ = choose_samples(classifier(), batches(RIGHT, labels, size=7), 7, corners=False)
    assert [(each.name, each.label) for each in samples] == [(f"test_{i:04d}", labels[i]) for i in range(7)]


def test_the_search_ends_when_one_is_found_or_enough_were_seen(monkeypatch):
    """At the batch that has one; else after so many samples."""
    given = iter(batches(RIGHT, [1, *LABELS[1:]]))
    assert choose_samples(classifier(), given, 1)[0][-1].name == "misclassified"
    assert len(list(given)) == 2
    monkeypatch.setattr(pack, "SEARCHED", 4)
    given = iter(batches(RIGHT, LABELS))
    _, absent = choose_samples(classifier(), given, 1)
    assert absent[0].reason == "the SNN is right on the first 6 test samples"
    assert len(list(given)) == 1


@pytest.mark.parametrize("shape", [(1,), (2, 1), ()])
def test_what_scores_no_classes_cannot_be_wrong_on_a_class(shape):
    """One number, an image: nothing is said to be right, nothing is predicted."""
    graph = spiking(
        ("in", Input(1.0), (), (2,)),
        ("fc", Linear(torch.ones(2 if len(shape) == 2 else 1, 2), bits=2), ("in",), (max(shape, default=1),)),
        ("shaped", Reshape(), ("fc",), shape),
        ("out", Integrate(), ("shaped",), shape),
    )
    samples, absent = choose_samples(graph, batches(RIGHT, LABELS), 1)
    reasons = {each.name: each.reason for each in absent}
    assert reasons["misclassified"] == "what comes out are no class scores"
    assert record(graph, samples[0]).prediction is None


# What they do --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("delay", "reset_mode"), CONTRACTS)
def test_a_recording_holds_every_step_of_every_layer_of_neurons(delay, reset_mode):
    """At the graph's own delay, without a batch axis, as integers; results are the sums over all steps."""
    weight = torch.tensor([[[[2, -1]]], [[[1, 3]]]])
    graph = spiking(
        ("in", Input(0.5, -128, 127), (), (1, 2, 3)),
        ("conv", Conv(weight, bits=3), ("in",), (2, 2, 2)),
        ("fire", IntegrateFire(whole(90), whole(7), whole(45)), ("conv",), (2, 2, 2)),
        ("out", Integrate(whole(-1), whole(4)), ("fire",), (2, 2, 2)),
        delay=delay, reset_mode=reset_mode, timesteps=6,
    )  # fmt: skip
    graph = graph.with_nodes(
        replace(node, unit=ONE / 2) if node.name == "in" else node for node in graph.nodes
    )
    x = torch.tensor([[[-128, 127, 30], [64, 0, -7]]])
    found = record(graph, Sample("a", "real", "", {"in": x}))
    drive = F.conv2d(x[None].double(), weight.double())[0].long().numpy()
    potential, sums = np.full((2, 2, 2), 45), np.full((2, 2, 2), 4)
    for t in range(1 - delay, 7):  # the population's own time: it may fire from t = 1 on, input ends after T
        if t <= 6 - delay:
            potential = potential + drive + 7
        if t < 1:
            continue
        spikes = (potential >= 90).astype(int)
        subtracts = reset_mode is Reset.SUBTRACTION
        potential = potential - 90 * spikes if subtracts else potential * (1 - spikes)
        sums = sums + spikes - 1
        assert np.array_equal(found.spikes["fire"][t - 1], spikes)
        assert np.array_equal(found.potentials["fire"][t - 1], potential)
        assert np.array_equal(found.potentials["out"][t - 1], sums)
    assert found.spikes["fire"].any()
    assert list(found.spikes) == ["fire"]
    assert np.array_equal(found.sums["out"], sums)
    arrays = [*found.spikes.values(), *found.potentials.values(), *found.sums.values()]
    assert all(np.issubdtype(array.dtype, np.integer) for array in arrays)


def test_every_output_has_its_sums_and_several_predict_nothing():
    """A population that is an output is read by its counts."""
    nodes = [
        ("in", Input(1.0), (), (2,)),
        ("fire", IntegrateFire(whole(3), whole(0), whole(0)), ("in",), (2,)),
        ("out", Integrate(), ("fire",), (2,)),
    ]
    sample = Sample("a", "real", "", {"in": whole(1, 2)})
    both = record(spiking(*nodes, outputs=("fire", "out"), timesteps=6), sample)
    assert {name: sums.tolist() for name, sums in both.sums.items()} == {"fire": [2, 4], "out": [2, 4]}
    assert both.prediction is None
    assert record(spiking(*nodes, timesteps=6), sample).prediction == 1


@pytest.mark.parametrize("value", [1 / 255, 0.1, 1 / 3])
def test_a_stimulus_is_shown_as_it_is_whatever_its_unit(value):
    """Integers times a float32 unit, and back: the same integers."""
    graph = spiking(
        ("in", Input(value, -128, 255), (), (384,)), ("out", Integrate(), ("in",), (384,)), timesteps=1
    )
    graph = graph.with_nodes(
        replace(node, unit=torch.tensor(value)) if node.name == "in" else node for node in graph.nodes
    )
    every = torch.arange(-128, 256)
    assert record(graph, Sample("a", "real", "", {"in": every})).sums["out"].tolist() == every.tolist()


# Refusals and the folder ---------------------------------------------------------------------------


def test_a_refusal_names_the_layers_in_one_line():
    """For a report; a network of integers has none."""
    nodes = [
        ("in", Input(1.0), (), (2,)),
        ("gelu", Opaque("aten.gelu.default", (Ref(0),)), ("in",), (2,)),
        ("out", Integrate(), ("gelu",), (2,)),
    ]
    line = "no vector pack was written: real numbers are left in 2 layers, and these files hold integers"
    assert refusal(spiking(*nodes)) == f"{line} (net.gelu, net.out)"
    floats = ("fc", Linear(torch.tensor([[0.5, 0.25]]), bits=32), ("in",), (1,))
    assert refusal(spiking(nodes[0], floats)).endswith("in 1 layer, and these files hold integers (net.fc)")
    assert refusal(classifier()) == ""


def test_a_pack_is_written_with_the_programs_that_are_asked_for(tmp_path):
    """The C twin's sources for this network, listed like every other file."""
    asked = PackRequest(2, languages=("c",), origin={"tool": "ann2snn", "network": "n", "dataset": "d"})
    report = write(classifier(), tmp_path / "pack", asked)
    folder = report.folder
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [each["name"] for each in manifest["samples"]] == ["test_0000", "test_0001", *CORNERS]
    assert [each["name"] for each in manifest["absent"]] == ["misclassified"]
    assert [each.name for each in report.absent] == ["misclassified"]
    listed = {name for name in manifest["files"] if name.startswith("c/")}
    assert {"c/replay.c", "c/network.h"} <= listed
    assert listed == {f"c/{path.name}" for path in (folder / "c").iterdir()}
    assert report.bytes == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert not (write(classifier(), tmp_path / "plain", PackRequest(1)).folder / "c").exists()


def write(graph, folder, asked):
    """The pack of a classifier, of the samples that it is right on."""
    return write_pack(graph, batches(RIGHT, LABELS), CLASSES, folder, asked)


def test_samples_are_recorded_one_by_one(tmp_path, monkeypatch):
    """A pack of many samples needs the memory of one: each is written before the next is computed."""
    seen, original = [], pack.record

    def watched(graph, sample, task, engine):
        seen.append([path.name for path in tmp_path.glob(".pack*/new/pack/expect/*")])
        return original(graph, sample, task, engine)

    monkeypatch.setattr(pack, "record", watched)
    write(classifier(), tmp_path / "pack", PackRequest(3, corners=False))
    assert [sorted(names) for names in seen] == [[], ["test_0000"], ["test_0000", "test_0001"]]


def test_the_engine_that_is_asked_for_steps_the_samples(tmp_path, monkeypatch):
    """The search for a wrong sample and every recording."""
    asked = []

    def watched(graph, x, *, engine, **more):
        asked.append(engine)
        return simulate(graph, x, **more)

    monkeypatch.setattr(pack, "simulate", watched)
    write(classifier(), tmp_path / "pack", PackRequest(1, engine="mine"))
    assert set(asked) == {"mine"}
    assert len(asked) > 5


def test_an_unknown_layer_is_refused_before_anything_is_simulated(tmp_path, monkeypatch):
    """A mistyped name costs no time."""
    monkeypatch.setattr(pack, "simulate", lambda *words, **more: pytest.fail("work was done"))
    with pytest.raises(UsageError, match="no neurons called nothing"):
        write(classifier(), tmp_path / "pack", PackRequest(1, extent=Extent(layers=("nothing",))))


# Size ----------------------------------------------------------------------------------------------


def wide():
    """200 neurons and a read-out of each."""
    return spiking(
        ("in", Input(1.0, 0, 255), (), (200,)),
        ("fire", IntegrateFire(whole(300), whole(0), whole(150)), ("in",), (200,)),
        ("out", Integrate(), ("fire",), (200,)),
        timesteps=8,
    )


def stimuli(count):
    """Samples drawn by torch's generator."""
    draw = torch.Generator().manual_seed(0)
    return [
        Sample(f"s{i}", "real", "", {"in": torch.randint(256, (200,), generator=draw)}) for i in range(count)
    ]


@pytest.mark.parametrize("extent", [Extent(), Extent(potentials=False), Extent(layers=("fire",), steps=3)])
def test_the_size_of_a_sample_is_known_before_it_is_written(tmp_path, extent):
    """Within a tenth: all memory files in `expect/`."""
    x, labels = torch.stack([each.stimulus["in"] for each in stimuli(1)]).float(), torch.zeros(1)
    asked = PackRequest(1, corners=False, extent=extent)
    folder = write_pack(wide(), [(x, labels)], CLASSES, tmp_path / "pack", asked).folder
    written = sum(path.stat().st_size for path in folder.glob("expect/*/*.mem"))
    assert abs(sample_bytes(wide(), extent) - written) <= 0.1 * written


def test_what_does_not_fit_is_left_out_and_said():
    """Fewer samples; then no potentials; never none at all; without a limit everything."""
    graph, samples = wide(), stimuli(8)
    full, spikes = (sample_bytes(graph, Extent(potentials=potentials)) for potentials in (True, False))
    assert limit(graph, samples, Extent(), None) == (samples, Extent(), "")
    assert limit(graph, samples, Extent(), 8 * full) == (samples, Extent(), "")
    kept, extent, note = limit(graph, samples, Extent(), 3 * full)
    assert (kept, extent) == (samples[:3], Extent())
    assert "3 of 8 samples: all of it would take" in note
    assert "ann2snn export" in note
    kept, extent, note = limit(graph, samples, Extent(), 2 * spikes)
    assert (kept, extent) == (samples[:2], Extent(potentials=False))
    assert "2 of 8 samples, no potentials" in note
    assert limit(graph, samples, Extent(), 1)[0] == samples[:1]
