"""A network with two inputs, an image and a vector, all the way: data, conversion, packs, twins, diff."""

import shutil
from functools import cache

import numpy as np
import pytest
import torch
import two_inputs
from torch import nn

from ann2snn_cli import BadData, UnsupportedNetwork, UsageError, convert
from ann2snn_cli.data.samples import from_tensors
from ann2snn_cli.ir.contract import Contract, Reset
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import Add, Input, IntegrateFire
from ann2snn_cli.packs import diff, faults
from ann2snn_cli.stages.export import onnx
from ann2snn_cli.stages.export.pack import Sample, corner_samples, write
from ann2snn_cli.tasks import task_named
from ann2snn_cli.twins import PROGRAMS, TWINS, replay
from ann2snn_cli.twins.replay import Damaged
from ann2snn_cli.workflows.evaluate import evaluate
from ann2snn_cli.workflows.pack import PackRequest, record, write_pack

JOINS = ("concat", "add")
INTEGER_TWINS = ("numpy", "onnx", "onnxruntime", "c", "iverilog")
PATTERNS = ["zeros", "max", "checkerboard", "pixel", "noise"]
DRIVES = ["drive_positive", "drive_negative", "tie"]
CLASSES = task_named("classification")
SETTINGS = {"mode": "max", "weight_bitwidth": 8}


@cache
def converted(join, timesteps=6, **options):
    """The SNN, of a dataset of trees."""
    data = from_tensors("two", two_inputs.labelled(60, 1, join), two_inputs.labelled(20, 2, join))
    return convert(two_inputs.network(join), data, timesteps=timesteps, **SETTINGS, **options)


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """A pack of each network, of five test samples and the corner cases, D = 2."""
    found = {}
    for join in JOINS:
        x, labels = two_inputs.labelled(20, 2, join)
        folder, graph = tmp_path_factory.mktemp(join) / "pack", converted(join, delay=2).graph
        write_pack(graph, [(x, labels)], CLASSES, folder, PackRequest(5))
        found[join] = folder
    return found


@pytest.fixture
def pack(packs, tmp_path):
    """A copy of the pack of the concatenated branches, to do harm to."""
    return shutil.copytree(packs["concat"], tmp_path / "pack")


def whole_numbers(values, op):
    """What an input is shown, by numpy."""
    return np.clip(np.rint(values.double().numpy() / op.unit), op.low, op.high)


def flip(path, line, bit):
    """Change one bit of one word."""
    lines = path.read_text().splitlines()
    lines[line] = f"{int(lines[line], 16) ^ 1 << bit:0{len(lines[line])}x}"
    path.write_text("\n".join(lines) + "\n")


# Python --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("join", JOINS)
def test_the_snn_says_what_the_network_says(join):
    """On samples that it has not seen, within a twentieth; each input has a unit and a range of its own."""
    snn, x = converted(join, 256), two_inputs.samples(50, seed=3)
    with torch.no_grad():
        wanted = two_inputs.network(join)(**x)
    error = (snn(x) - wanted).abs().max() / (wanted - wanted.mean(0)).abs().max()
    assert float(error) < 0.05
    image, vector = (node.op for node in snn.graph.inputs)
    assert (image.low, image.high, vector.low, vector.high) == (0, 255, -127, 127)
    assert vector.unit == pytest.approx(20 / 127, rel=0.02)
    assert image.unit == pytest.approx(1 / 255, rel=0.02)


def test_the_branches_of_the_wrong_input_would_be_noticed():
    """The oracle of the test above is no trivial one: another vector gives other outputs."""
    x, other = two_inputs.samples(50, seed=3), two_inputs.samples(50, seed=4)
    network = two_inputs.network()
    with torch.no_grad():
        one, mixed = network(**x), network(x["image"], other["vector"])
    assert float((one - mixed).abs().max()) > 0.5 * float((one - one.mean(0)).abs().max())


def test_data_are_given_in_order_with_labels_or_by_name_without():
    """A dataset, ((x1, x2), labels) and {"image": x1, "vector": x2} give one network."""
    (image, vector), labels = two_inputs.labelled(60, 1)
    given = [((image, vector), labels), {"vector": vector, "image": image}]
    x = two_inputs.samples(9)
    wanted = converted("concat")(x)
    for data in given:
        snn = convert(two_inputs.network(), data, timesteps=6, **SETTINGS)
        assert torch.equal(snn(x), wanted)


def test_an_snn_is_called_as_its_network_is():
    """In order, by name, both; or with all inputs in one."""
    snn, x = converted("concat"), two_inputs.samples(4)
    image, vector = x["image"], x["vector"]
    wanted = snn.simulate(x).outputs[0]
    for found in (snn(image, vector), snn(vector=vector, image=image), snn(image, vector=vector), snn(x)):
        assert torch.equal(found, wanted)
    assert torch.equal(snn((image, vector)), wanted)
    for wrong in (lambda: snn(image, image=image), lambda: snn(image, vector, vector)):
        with pytest.raises(UsageError, match="takes the inputs image, vector, each once"):
            wrong()


@pytest.mark.parametrize("form", [tuple, list, lambda x: (*x, x[1])])
def test_inputs_alone_are_no_data_in_order(form):
    """A pair is samples and labels: what cannot be both is answered with how several inputs are given."""
    (image, vector), _ = two_inputs.labelled(8)
    with pytest.raises((BadData, UnsupportedNetwork)) as caught:
        convert(two_inputs.network(), form((image, vector)))
    assert "((x1, x2), labels)" in caught.value.remedy


def test_inputs_by_name_have_no_labels_to_train_on():
    """As samples of one input have none."""
    with pytest.raises(UsageError, match="without labels"):
        convert(two_inputs.network(), two_inputs.samples(8), finetune_epochs=1)


def test_both_inputs_are_evaluated():
    """The labels are the network's own answers: it is right on all, and its SNN is run on the same trees."""
    batches = [two_inputs.labelled(20, 2)]
    network, graph = two_inputs.network(), converted("concat", 256).graph
    found = evaluate(graph, batches, CLASSES, network=network)
    assert found.headlines["ann"] == 1.0
    assert found.headlines["layerwise"] >= 0.9
    assert found.largest_error < 0.05


# Packs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("join", JOINS)
def test_a_pack_holds_a_stimulus_for_each_input(packs, join):
    """In the manifest by layer; a file each, named after it; the integers of the test set, by numpy."""
    pack, graph = replay.read(packs[join]), converted(join, delay=2).graph
    names = [sample["name"] for sample in pack.manifest["samples"]]
    each = [f"{drive}_{name}" for name in ("image", "vector") for drive in DRIVES]
    absent = [entry["name"] for entry in pack.manifest["absent"]]
    chosen = [f"test_{i:04d}" for i in range(5)] + [*PATTERNS, *each, "misclassified"]
    assert sorted(names + absent) == sorted(chosen)
    x = dict(zip(("image", "vector"), two_inputs.labelled(20, 2, join)[0], strict=True))
    for i in range(5):
        entry = pack.sample(f"test_{i:04d}")
        for field, ending in (("stimulus", "mem"), ("events", "aer")):
            files = {name: f"stimulus/test_{i:04d}/{name}.{ending}" for name in ("image", "vector")}
            assert entry[field] == files
            assert set(files.values()) <= set(pack.manifest["files"])
        for name, values in pack.stimulus(f"test_{i:04d}").items():
            assert np.array_equal(values, whole_numbers(x[name][i], graph[name].op))
    assert "stimulus/SAMPLE/vector.mem" in (packs[join] / "README.md").read_text()


@pytest.mark.parametrize("backend", INTEGER_TWINS)
@pytest.mark.parametrize("join", JOINS)
def test_every_twin_agrees(packs, join, backend, tmp_path):
    """Every recorded value of every sample."""
    if reason := TWINS[backend].unavailable():
        pytest.skip(reason)
    pack = replay.read(packs[join])
    names = [sample["name"] for sample in pack.manifest["samples"]]
    outcome = TWINS[backend].verify(pack, names, tmp_path)
    assert outcome.mismatches == 0
    assert outcome.checked == sum(replay.values_to_check(pack, name) for name in names)


@pytest.mark.parametrize("backend", INTEGER_TWINS)
def test_one_changed_word_of_the_second_input_is_found(pack, backend, tmp_path):
    """In the population that reads it, not in the one that reads the first; and its file is named."""
    if reason := TWINS[backend].unavailable():
        pytest.skip(reason)
    flip(pack / "stimulus/test_0003/vector.mem", 2, 6)
    (problem,) = replay.problems(pack)
    assert (problem.layer, problem.sample) == ("vector", "test_0003")
    assert problem.file == "stimulus/test_0003/vector.mem"
    (tmp_path / "work").mkdir()
    first = TWINS[backend].verify(replay.read(pack), ["test_0002", "test_0003"], tmp_path / "work").first
    assert (first.sample, first.layer, first.step) == ("test_0003", "relu:2", 1)


@pytest.mark.parametrize("stimulus", ["stimulus/zeros/image.mem", {}, {"image": "stimulus/zeros/image.mem"}])
def test_a_sample_without_a_stimulus_for_each_input_is_refused(pack, stimulus):
    """By name, where the manifest is wrong."""
    found = replay.read(pack)
    found.sample("zeros")["stimulus"] = stimulus
    with pytest.raises(Damaged, match="it names no stimulus"):
        replay.verify(found, ["zeros"])


def test_what_no_stimulus_is_given_for_cannot_be_replayed(packs):
    """The layer is named."""
    network = replay.read(packs["concat"]).network
    with pytest.raises(Damaged) as caught:
        replay.replay(network, {"image": np.zeros((1, 4, 4), np.int64)})
    assert [problem.layer for problem in caught.value.problems] == ["vector"]


def test_corner_cases_look_at_each_input_in_turn():
    """Patterns at both; drives and ties by one of them, the other 0, checked by torch's own layers."""
    graph = converted("concat", delay=2).graph
    samples = {each.name: each for each in corner_samples(graph) if isinstance(each, Sample)}
    assert bool((samples["max"].stimulus["image"] == 255).all())
    assert bool((samples["max"].stimulus["vector"] == 127).all())
    noise = samples["noise"].stimulus
    assert noise["image"].flatten()[:5].tolist() != noise["vector"].tolist()
    for name, other in (("image", "vector"), ("vector", "image")):
        for drive in DRIVES[:2]:
            sample = samples[f"{drive}_{name}"]
            assert sample.what.endswith(f"by the input {name}, the others 0")
            assert not sample.stimulus[other].any()
    weight = graph["linear"].op.weight.double()
    neuron = int(samples["drive_positive_vector"].what.partition("neuron ")[2].split()[0])
    drives = [samples[f"{drive}_vector"].stimulus["vector"].double() @ weight.T for drive in DRIVES[:2]]
    most = 127 * weight.abs().sum(1)
    assert neuron == int(most.argmax())
    assert [float(each[neuron]) for each in drives] == [float(most[neuron]), -float(most[neuron])]


def test_an_input_that_cannot_be_0_is_shown_what_is_nearest():
    """`a` is 5 at least: the neuron's drive is 2a + 3b, and with a = 5 it meets θ = 40 at b = 10."""
    one = torch.tensor(1.0, dtype=torch.float64)
    nodes = [
        ("a", Input(1.0, 5, 9), ()),
        ("b", Input(1.0, 0, 15), ()),
        ("sum", Add((torch.tensor(2), torch.tensor(3))), ("a", "b")),
        ("fire", IntegrateFire(torch.tensor(40), torch.tensor(0), torch.tensor(0)), ("sum",)),
    ]
    made = tuple(Node(*node, (1,), unit=one) for node in nodes)
    graph = Graph(made, ("fire",), Level.SPIKING, Contract(1, Reset.SUBTRACTION, 0))
    found = {each.name: each for each in corner_samples(graph)}
    drives = [name for name in found if name not in PATTERNS and isinstance(found[name], Sample)]
    shown = {name: {key: int(x) for key, x in found[name].stimulus.items()} for name in drives}
    assert shown == {
        "drive_positive_a": {"a": 9, "b": 0},
        "drive_negative_a": {"a": 5, "b": 0},
        "drive_positive_b": {"a": 5, "b": 15},
        "drive_negative_b": {"a": 5, "b": 0},
        "tie_b": {"a": 5, "b": 10},
    }
    assert found["tie_a"].reason.endswith("by the input a, the others 0")


# Faults and differences ----------------------------------------------------------------------------


def test_faults_behind_either_input_are_noticed(packs):
    """Every parameter of both branches has mutants, and nearly all are killed."""
    verdicts = faults.judge(replay.read(packs["concat"]), 150)
    for layer in ("conv", "linear"):
        found = [each for each in verdicts if each.mutant.layer == layer]
        killed = [each for each in found if each.killed_by]
        assert len(killed) >= 0.8 * len(found) > 0


def test_a_difference_names_the_input(pack, packs):
    """The value of one pack and of the other; what follows from it is no news."""
    flip(pack / "stimulus/max/vector.mem", 3, 0)
    found = diff.packs(replay.read(packs["concat"]), replay.read(pack))
    assert found.network == ["stimulus of max, vector: 1 of 5 values differ, first [3]: 127 | 126"]
    assert found.activity.mismatches == 0


# Formats that have several inputs, and that have not ---------------------------------------------------


def test_an_onnx_file_has_an_input_for_each(tmp_path):
    """`input/LAYER`, in both files: the one of all steps and, at D = 0, the one of a single step."""
    import onnx as library

    assert onnx.write(converted("concat", delay=0).graph, tmp_path / "two.onnx") == ""
    for file in ("two.onnx", "two_step.onnx"):
        model = library.load(tmp_path / file)
        library.checker.check_model(model, full_check=True)
        assert [each.name for each in model.graph.input][:2] == ["input/image", "input/vector"]


def test_a_program_that_cannot_replay_the_network_is_refused_in_words(tmp_path):
    """What it says of itself is the error; nothing is left behind, and the pack without it is written."""
    graph = converted("concat", delay=2).graph
    zeros = {node.name: torch.zeros(node.shape, dtype=torch.int64) for node in graph.inputs}
    recording = record(graph, Sample("a", "real", "", zeros))

    def unable(pack):
        raise Damaged([replay.Problem("manifest.json", "it is too deep")])

    with pytest.raises(UnsupportedNetwork, match=r"the program in cobol cannot replay .* it is too deep"):
        write(graph, [recording], tmp_path / "pack", programs={"cobol": unable})
    assert list(tmp_path.iterdir()) == []
    assert (write(graph, [recording], tmp_path / "pack", programs={"c": PROGRAMS["c"]}) / "c").is_dir()


def test_inputs_in_a_module_that_is_not_ours():
    """Two inputs of one shape, told apart by their order: the second is taken off the first."""

    class Less(nn.Module):
        def forward(self, a, b):
            return torch.relu(a - b)

    draw = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 40, 3, generator=draw)
    snn = convert(Less(), {"a": a, "b": b}, timesteps=64, **SETTINGS)
    assert float((snn(a, b) - torch.relu(a - b)).abs().max()) < 0.05
