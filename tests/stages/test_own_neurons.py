"""Neurons of a user's own class (B3): run by the reference engine, refused by who does not know them."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

import ann2snn_cli
from ann2snn_cli.config import Hardware
from ann2snn_cli.errors import Ann2SnnError, BadFile, HardwareViolations, UnsupportedNetwork, UsageError
from ann2snn_cli.ir.bounds import bounds
from ann2snn_cli.ir.contract import Contract, Reset
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import OPS, Input, IntegrateFire, Neuron, register
from ann2snn_cli.ir.run import run_counts
from ann2snn_cli.stages.export.pack import describe
from ann2snn_cli.stages.simulate import ENGINES, simulate
from ann2snn_cli.workflows import export, saved

SETTINGS = {"weight_bitwidth": 8, "timesteps": 4, "mode": "max"}
pytestmark = pytest.mark.filterwarnings("ignore::ann2snn_cli.DamageWarning")  # of networks at random


class Burst(Neuron):
    """Up to `most` spikes a step; what is left stays."""

    def fire(self, potential, threshold):
        """As many spikes as there are thresholds in the potential."""
        spikes = (potential / threshold).floor().clamp(0, self.most)
        return spikes, potential - spikes * threshold


def one_population(op, delay=0, steps=4):
    """input -> the neurons, whose counts are the answer. SPIKING."""
    one = torch.tensor(1.0, dtype=torch.float64)
    nodes = (Node("x", Input(1.0), (), (1,), "x", one), Node("n", op, ("x",), (1,), "net.act", one))
    return Graph(nodes, ("n",), Level.SPIKING, Contract(steps, delay=delay))


def own(**fields):
    """A burst neuron with a threshold of 10, a bias of 1 and a potential of 5 at the beginning."""
    numbers = {"threshold": 10, "bias": 1, "initial": 5, **fields}
    return {name: torch.tensor(value) for name, value in numbers.items()}


def seen(graph, x, **asked):
    """(spikes, potentials) of the population, step by step."""
    found = []
    simulate(graph, torch.tensor([[x]]), watch=lambda node, a: found.append(a), potentials=True, **asked)
    (activity,) = found
    return activity.train.flatten().tolist(), activity.potentials.flatten().tolist()


# By hand: x = 23, bias 1, θ = 10, V0 = 5, at most 2 spikes. Each row is a step: V before the spikes,
# spikes, V after.  D = 0:  29 2 9 | 33 2 13 | 37 2 17 | 41 2 21.   D = 2: 53 (2 steps of charge), then
# 77 2 57 | 81 2 61 | 61 2 41 | 41 2 21.   D = 4: 101 2 81 | 2 61 | 2 41 | 2 21.
# x = 6: D = 0: 12 1 2 | 9 0 9 | 16 1 6 | 13 1 3.   D = 4: 33 2 13 | 1 3 | 0 3 | 0 3.
BY_HAND = [
    (23, 0, [2, 2, 2, 2], [9, 13, 17, 21]),
    (23, 2, [2, 2, 2, 2], [57, 61, 41, 21]),
    (23, 4, [2, 2, 2, 2], [81, 61, 41, 21]),
    (6, 0, [1, 0, 1, 1], [2, 9, 6, 3]),
    (6, 4, [2, 1, 0, 0], [13, 3, 3, 3]),
]


@pytest.mark.parametrize(("x", "delay", "spikes", "potentials"), BY_HAND)
def test_a_burst_neuron_does_what_was_computed_by_hand(x, delay, spikes, potentials):
    """Step by step, with each delay; the closed form of D = T is the sum."""
    graph = one_population(Burst(**own(), most=2), delay)

    assert seen(graph, x) == (spikes, potentials)
    if delay == 4:
        assert run_counts(graph, torch.tensor([[x]]).double())[0].item() * 4 == sum(spikes)


@pytest.mark.parametrize("delay", [0, 1, 3, 4])
def test_with_one_spike_a_step_it_is_integrate_and_fire(delay):
    """The same class with most=1 gives what ours gives, for trains at random."""
    x = torch.randint(-20, 30, (50, 1), generator=torch.Generator().manual_seed(1)).abs()
    ours, theirs = IntegrateFire(**own()), Burst(**own())
    one, other = (simulate(one_population(op, delay), x, engine="reference") for op in (ours, theirs))
    assert torch.equal(one.outputs[0], other.outputs[0])


def test_its_potential_is_bounded_before_it_runs():
    """From 0 to what V0, the largest input (255) and the bias add up to in T steps, whatever it resets."""
    held = bounds(one_population(Burst(**own(), most=2)))["n"]
    assert (held.potential.low, held.potential.high) == (0, 5 + 4 * (255 + 1))
    assert (held.passed_on.low, held.passed_on.high) == (0, 2)


def network_and_samples():
    """Two convolutions with a max pooling between them, and samples."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(36, 3),
    )  # fmt: skip
    return network.eval(), torch.rand(48, 1, 6, 6)


def converted(neuron, **settings):
    """(network, samples, SNN)."""
    network, x = network_and_samples()
    return network, x, ann2snn_cli.convert(network, x, rules={"neuron": neuron}, **{**SETTINGS, **settings})


def test_more_spikes_a_step_lose_less_at_the_same_t():
    """Against torch, T = 4: 3 spikes a step halve the error at least, stepwise and layerwise."""
    for schedule in ("stepwise", "layerwise"):
        errors = []
        for neuron in (None, Burst(most=3)):
            network, x, snn = converted(lambda layer, neuron=neuron: neuron, schedule=schedule)
            with torch.no_grad():
                errors.append(float((snn(x) - network(x)).abs().mean()))
        assert errors[1] < errors[0] / 2


def test_chosen_populations_have_it_and_the_others_do_not():
    """By the layer's name; the notes say which, or that the rule was not used."""
    _, _, snn = converted(lambda layer: Burst(most=2) if layer.name == "4" else None)

    assert [(node.name, node.op.kind) for node in snn.graph if node.op.fires] == [
        ("1", "IntegrateFire"), ("4", "Burst"),
    ]  # fmt: skip
    assert "rule for neuron from test_own_neurons.py: Burst in 4" in snn.provenance.notes
    _, _, snn = converted(lambda layer: None)
    assert "rule for neuron from test_own_neurons.py: not used" in snn.provenance.notes


def test_layerwise_it_is_the_quantized_network():
    """The theorem of D = T holds for it: 0 differing outputs."""
    _, x, snn = converted(lambda layer: Burst(most=3), schedule="layerwise")
    assert torch.equal(snn(x), run_counts(snn.graph, (x * 255).round().double() / 255)[0])


def test_it_is_finetuned():
    """Gradients pass: weights move, and the loss falls."""
    network, x = network_and_samples()
    labels = network(x).argmax(1)
    rules = {"neuron": lambda layer: Burst(most=3)}
    both = [
        ann2snn_cli.convert(network, (x, labels), rules=rules, finetune_epochs=epochs, **SETTINGS)
        for epochs in (0, 3)
    ]
    loss = [float(nn.functional.cross_entropy(snn(x).float(), labels)) for snn in both]
    assert loss[1] < loss[0]


def test_its_gradient_is_that_of_the_clip():
    """Of the spikes in T steps after the drive: 1/θ between none and most·T of them, 0 outside."""
    graph = one_population(Burst(**own(initial=0, bias=0), most=2))
    drive = torch.tensor([[-5.0], [33.0], [79.0], [100.0]], dtype=torch.float64, requires_grad=True)

    counts = graph["n"].op.sums([drive], graph.place(graph["n"]))
    counts.sum().backward()

    assert counts.flatten().tolist() == [0, 3, 7, 8]
    torch.testing.assert_close(drive.grad.flatten(), torch.tensor([0, 0.1, 0.1, 0]).double())


# Who does not know it ------------------------------------------------------------------------------


def test_the_reference_engine_runs_it_and_the_others_refuse_it():
    """`auto` takes the reference; each of the others is refused with layer and class, for every delay."""
    _, x, snn = converted(lambda layer: Burst(most=2), schedule="layerwise")
    assert snn.simulate(x).engine == "reference"
    assert len(ENGINES) > 3
    for name in ENGINES:
        if name != "reference":
            with pytest.raises(UsageError, match="1 has neurons of your own, Burst: only reference"):
                snn.simulate(x, engine=name)


def test_an_engine_that_cannot_run_it_is_refused_before_any_work():
    """`engine="fused"` asked for in a conversion."""
    with pytest.raises(UsageError, match="neurons of your own, Burst"):
        converted(lambda layer: Burst(most=2), engine="fused")


@pytest.fixture
def known():
    """The class is registered, until the test is over."""
    register(Burst)
    yield
    del OPS["Burst"]


def test_it_is_saved_by_its_name_or_not_at_all(tmp_path):
    """Not registered: refused with layer and remedy, and nothing is written. Not known: refused, too."""
    _, x, snn = converted(lambda layer: Burst(most=2))
    with pytest.raises(UnsupportedNetwork, match="Burst that is not registered") as refused:
        snn.save(tmp_path / "snn.pth")
    assert refused.value.where == "1"
    assert "register(Burst)" in refused.value.remedy
    assert list(tmp_path.iterdir()) == []

    register(Burst)
    snn.save(tmp_path / "snn.pth")
    assert torch.load(tmp_path / "snn.pth", weights_only=True)["nodes"]
    loaded = ann2snn_cli.load(tmp_path / "snn.pth")
    assert loaded.graph["1"].op.most == 2
    assert torch.equal(loaded(x), snn(x))
    del OPS["Burst"]
    with pytest.raises(BadFile, match="an op Burst, which is not known here") as refused:
        ann2snn_cli.load(tmp_path / "snn.pth")
    assert "import" in refused.value.remedy


def test_a_file_that_is_loaded_again_defines_the_same_class(tmp_path, monkeypatch):
    """An SNN of the first time is saved after the second."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "twice.py").write_text(
        "from ann2snn_cli.ir.ops import Neuron, register\n\n\nclass Twice(Neuron):\n"
        "    def fire(self, potential, threshold):\n        spikes = potential * 0\n"
        "        return spikes, potential\n\n\nregister(Twice)\n"
        'RULES = {"neuron": lambda layer: Twice()}\n'
    )
    network, x = network_and_samples()
    first, _ = (ann2snn_cli.convert(network, x, rules="twice.py", **SETTINGS) for _ in range(2))
    first.save("twice.pth")
    assert ann2snn_cli.load("twice.pth").graph["1"].op.kind == "Twice"
    del OPS["Twice"]


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("name", ["pack", "c", "verilog", "onnx", "nir"])
def test_exports_of_integers_refuse_it(name, tmp_path):
    """With the layer and the class, and nothing is written."""
    if name in ("nir", "onnx"):
        pytest.importorskip(name, reason=f"the {name} extra is not installed")
    _, _, snn = converted(lambda layer: Burst(most=2))
    path = snn.save(tmp_path / "snn.pth")
    request = export.ExportRequest(path, (name,), save_dir=tmp_path / "out")

    with pytest.raises(UnsupportedNetwork, match="Burst") as refused:
        export.export(request)

    assert "1" in refused.value.where
    assert not (tmp_path / "out").exists()
    with pytest.raises(UnsupportedNetwork, match="Burst"):
        describe(snn.graph)


def test_a_chip_has_no_such_neurons():
    """A violation of the rule op, that names each layer with them, before any work."""
    chip = Hardware("bare", ops=("conv", "max_pool", "linear", "reshape"))
    with pytest.raises(HardwareViolations) as refused:
        converted(lambda layer: Burst(most=2) if layer.name == "4" else None, hardware=chip)
    (violation,) = refused.value.violations
    assert (violation.rule, violation.layer, violation.actual) == ("op", "4", "Burst")
    assert "None" in violation.remedy


def test_what_pools_spikes_takes_one_a_step():
    """Bursts before a spiking pooling are refused with the layer; neurons of one spike are not."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 2))
    x = torch.rand(8, 1, 6, 6)
    settings = {**SETTINGS, "pooling": "spiking"}
    with pytest.raises(UsageError, match="up to 2 spikes a step") as refused:
        ann2snn_cli.convert(network, x, rules={"neuron": lambda layer: Burst(most=2)}, **settings)
    assert refused.value.where == "1"
    snn = ann2snn_cli.convert(network, x, rules={"neuron": lambda layer: Burst()}, **settings)
    assert [node.op.kind for node in snn.graph if node.op.fires] == ["Burst", "IntegrateFire"]


def test_rules_that_an_snn_has_no_use_for_are_refused(tmp_path, monkeypatch):
    """`--rules` with a .pth that holds nothing of the user's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("RULES = {}\n")
    network, x = network_and_samples()
    ann2snn_cli.convert(network, x, **SETTINGS).save("plain.pth")
    with pytest.raises(UsageError, match="holds nothing of yours"):
        saved.load(tmp_path / "plain.pth", rules="mine.py")


# Wrong ones ----------------------------------------------------------------------------------------


def firing(body):
    """A neuron whose `fire` is this function of (potential, threshold)."""
    return type("Mine", (Neuron,), {"fire": lambda self, v, t: body(v, t), "__module__": __name__})()


WRONG = {
    "nothing": (firing(lambda v, t: None), "gave a NoneType"),
    "spikes alone": (firing(lambda v, t: v * 0), "gave a Tensor"),
    "numbers": (firing(lambda v, t: (0, 0)), "spikes of type int"),
    "another shape": (firing(lambda v, t: (v[:, :1] * 0, v)), "spikes of shape"),
    "too many spikes": (firing(lambda v, t: (v * 0 + 2, v)), "gave 2 spikes in a step"),
    "half a spike": (firing(lambda v, t: (v * 0 + 0.5, v)), "gave 0.5 spikes"),
    "a spike below zero": (firing(lambda v, t: (v * 0 - 1, v)), "gave -1 spikes"),
    "no number": (firing(lambda v, t: (v * 0, v / 0 * 0)), "NaN"),
    "charge from nowhere": (firing(lambda v, t: (v * 0, v + 1)), "further from 0"),
    "beyond zero": (firing(lambda v, t: (v * 0, v - v.abs() - 1)), "further from 0"),
    "a leak in fractions": (firing(lambda v, t: (v * 0, v * 0.9)), "no whole number"),
    "raises": (firing(lambda v, t: 1 / 0), "ZeroDivisionError"),
    "no fire": (type("Mine", (Neuron,), {"__module__": __name__})(), "no method fire"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_neuron_is_one_clear_error_before_any_work(what):
    """It says that the class is the user's, its file, the layer and what a step may give."""
    neuron, message = WRONG[what]
    with pytest.raises(Ann2SnnError, match=message) as refused:
        converted(lambda layer: neuron)
    error = refused.value
    if what != "no fire":
        assert isinstance(error, UsageError)
        assert "test_own_neurons.py" in error.where
        assert " at 1" in f"{error.what} {error.remedy}"
    assert "Mine" in f"{error.what} {error.remedy}"


class Late(Neuron):
    """It fails at potentials above those that are tried."""

    def fire(self, potential, threshold):
        """NaN above 1000."""
        return potential * 0, torch.where(potential > 1000, torch.nan, potential)


def test_a_neuron_that_fails_later_is_refused_where_it_fails():
    """Whatever the trial did not meet is held at every step."""
    graph = one_population(Late(**own()))
    with pytest.raises(UsageError, match=r"Late\.fire, a function of yours, gave a potential that is NaN at"):
        simulate(graph, torch.tensor([[255]]), delay=4)


GIVEN = {
    "the class": (Burst, "gave the class Burst"),
    "a word": ("burst", "gave a str"),
    "a neuron of ours": (IntegrateFire(**own()), "gave a IntegrateFire"),
    "no spikes": (Burst(most=0), "at most 0 spikes"),
    "too many": (Burst(most=256), "at most 256 spikes"),
    "part of a spike": (Burst(most=1.5), "at most 1.5 spikes"),
}


@pytest.mark.parametrize("what", GIVEN)
def test_a_rule_that_gives_no_neuron_is_refused(what):
    """With the function's file and name, the layer and the remedy."""
    given, message = GIVEN[what]

    def mine(layer):
        return given

    with pytest.raises(UsageError, match=message) as refused:
        converted(mine)
    assert "test_own_neurons.py" in refused.value.where
    assert "mine" in refused.value.where
    assert " at 1" in refused.value.what
    assert "Burst(most=3)" in refused.value.remedy


@dataclass(frozen=True, eq=False)
class Shifted(Neuron):
    """A class with numbers of its own: by channel, how much is lost at a spike."""

    loss: torch.Tensor = torch.zeros(4, 1, 1)  # noqa: RUF009 (a constant)

    def fire(self, potential, threshold):
        """One spike; the reset takes the loss as well."""
        spikes = (potential >= threshold).to(potential.dtype)
        taken = threshold + (self.loss if potential.dim() == 4 else 0)
        return spikes, (potential - spikes * taken).clamp_min(0).where(spikes > 0, potential)


def test_a_class_may_have_tensors_of_its_own(tmp_path):
    """They are buffers of the SNN and lie in its .pth."""
    neuron = Shifted(loss=torch.full((4, 1, 1), 3.0))
    _, x, snn = converted(lambda layer: neuron)
    register(Shifted)
    loaded = ann2snn_cli.load(snn.save(tmp_path / "snn.pth"))
    del OPS["Shifted"]
    assert torch.equal(loaded.graph["1"].op.loss, neuron.loss)
    assert torch.equal(dict(snn.named_buffers())["1.loss"], neuron.loss)
    assert torch.equal(loaded(x), snn(x))


def test_a_zero_reset_of_ours_is_none_of_its_own():
    """`reset_mode` changes nothing for it."""
    x = torch.tensor([[23]])
    graph = one_population(Burst(**own(), most=2))
    other = graph.with_nodes(graph.nodes, contract=Contract(4, Reset.ZERO))
    assert torch.equal(simulate(graph, x).outputs[0], simulate(other, x).outputs[0])
