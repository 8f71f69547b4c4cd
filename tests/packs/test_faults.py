"""Faults: mutants differ, the verdict on each is that of a replay from scratch, and what is proved holds."""

from itertools import product

import numpy as np
import pytest
import torch

from ann2snn_cli.ir.contract import Contract, Reset
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import (
    Add,
    Concat,
    Conv,
    Gather,
    Input,
    Integrate,
    IntegrateFire,
    Linear,
    MaxPool,
    Reshape,
    Scale,
)
from ann2snn_cli.packs.faults import Coverage, Mutant, apply, coverage, judge, mutants
from ann2snn_cli.stages.export.pack import Extent, Sample, describe
from ann2snn_cli.twins import replay
from ann2snn_cli.workflows.pack import write_samples

ONE = torch.tensor(1.0, dtype=torch.float64)
CONTRACTS = [(delay, reset) for delay in (0, 1, 2, 4) for reset in ("subtraction", "zero")]  # of 4 steps
RULES = ("shift", "delay", "reset rule", "comparator")


def whole(*values):
    """Integers, as a chip is loaded with."""
    return torch.tensor(values if len(values) > 1 else values[0], dtype=torch.int64)


def codes(seed, low, high, *shape):
    """Integers drawn by a seed."""
    return torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed))


def spiking(*nodes, timesteps=4, delay=0, reset_mode="subtraction"):
    """A SPIKING graph of (name, op, inputs, shape), whose integers mean themselves."""
    made = tuple(Node(*node, unit=ONE) for node in nodes)
    return Graph(made, (made[-1].name,), Level.SPIKING, Contract(timesteps, Reset(reset_mode), delay))


def packed(folder, graph, *stimuli, **options):
    """The pack of these stimuli, read back; samples are called s0, s1, ..."""
    (node,) = graph.inputs
    shown = [{node.name: x.reshape(node.shape)} for x in stimuli]
    samples = [Sample(f"s{i}", "real", "", x) for i, x in enumerate(shown)]
    return replay.read(write_samples(graph, samples, folder / "pack", **options))


def network(delay=0, reset_mode="subtraction"):
    """Every kind of parameter: convolution, scale, add, gather, signs, two populations, a read-out."""
    return spiking(
        ("in", Input(1.0, -128, 127), (), (2, 3, 3)),
        ("conv", Conv(codes(1, -7, 7, 3, 2, 2, 2), None, (1, 1), (1, 1), bits=4), ("in",), (3, 4, 4)),
        ("fire", IntegrateFire(codes(2, 200, 900, 3, 1, 1), codes(3, -30, 30, 3, 1, 1), whole(150)),
         ("conv",), (3, 4, 4)),
        ("pool", MaxPool((2, 2), (2, 2), (0, 0), (1, 1)), ("fire",), (3, 2, 2)),
        ("up", Conv(codes(4, -3, 3, 3, 2, 2, 2), None, (2, 2), (0, 0), (1, 1), 1, True, (0, 0), bits=3),
         ("pool",), (2, 4, 4)),
        ("scale", Scale(codes(5, -7, 7, 2, 1, 1), bits=4), ("up",), (2, 4, 4)),
        ("sum", Add((whole(3), codes(6, 1, 9, 2, 1, 1))), ("scale", "up"), (2, 4, 4)),
        ("some", Gather(codes(7, -1, 31, 8)), ("sum",), (8,)),
        ("late", IntegrateFire(codes(8, 10, 60, 8), whole(2), codes(9, 0, 20, 8), 1), ("some",), (8,)),
        ("fc", Linear(codes(10, 0, 1, 3, 8) * 2 - 1, bits=1), ("late",), (3,)),
        ("out", Integrate(codes(11, -5, 5, 3), whole(2)), ("fc",), (3,)),
        delay=delay, reset_mode=reset_mode,
    )  # fmt: skip


STIMULI = [torch.zeros(18, dtype=torch.int64), codes(20, -128, 127, 18), codes(21, -128, 127, 18)]


# Mutants -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """The pack of `network`."""
    return packed(tmp_path_factory.mktemp("faults"), network(), *STIMULI)


def test_mutants_are_distinct_and_each_changes_something(pack):
    """No two are the same, and none is the network as it was."""
    found = mutants(pack.network, 400)
    assert len(found) == len(set(found)) == 400
    for mutant in found:
        if mutant.kind in ("reset rule", "comparator"):
            continue
        assert mutant.before != mutant.after, str(mutant)
        if mutant.kind not in RULES:
            assert int(pack.network.arrays[mutant.layer, mutant.role].ravel()[mutant.place]) == mutant.before


def test_mutants_follow_from_the_seed(pack):
    """The same seed draws the same, in the order of the layers; another draws others."""
    found = mutants(pack.network, 60, seed=3)
    assert found == mutants(pack.network, 60, seed=3)
    assert set(found) != set(mutants(pack.network, 60, seed=4))
    order = [layer["name"] for layer in pack.network.layers]
    places = [order.index(mutant.layer) for mutant in found]
    assert places == sorted(places)


def test_mutants_change_one_stored_bit_or_a_rule(pack):
    """Of every parameter of every layer, within its own word; signs are turned, indices stay in the input."""
    found = mutants(pack.network, 400)
    layers = {layer["name"]: layer for layer in pack.network.layers}
    parameters = {(name, role) for name, layer in layers.items() for role in layer["parameters"]}
    rules = {(name, kind) for name in ("fire", "late") for kind in RULES}
    assert {(m.layer, m.role) for m in found if m.kind not in RULES} == parameters
    assert {(m.layer, m.kind) for m in found if m.kind in RULES} == rules
    for mutant in found:
        if mutant.kind in RULES:
            continue
        entry = layers[mutant.layer]["parameters"][mutant.role]
        if mutant.role == "index":
            assert -1 <= mutant.after < 32
        elif entry["encoding"] == "bipolar":
            assert (abs(mutant.before), mutant.after) == (1, -mutant.before)
        else:
            mask = 2 ** entry["bits"] - 1
            assert bin((mutant.before & mask) ^ (mutant.after & mask)).count("1") == 1
            assert -(2 ** (entry["bits"] - 1)) <= mutant.after < 2 ** (entry["bits"] - 1)


@pytest.mark.parametrize(
    ("timesteps", "delay", "others"),
    [
        (4, 0, {1}),
        (4, 1, {0, 2}),
        (4, 2, {1, 3}),
        (4, 3, {2}),
        (4, 4, {2}),
        (2, 0, {1}),
        (2, 2, {0}),
        (1, 0, set()),
    ],
)
def test_a_delay_becomes_the_next_shorter_or_longer_one_that_differs(timesteps, delay, others):
    """T and T - 1 are the same function: neither is made of the other."""
    fire = ("fire", IntegrateFire(whole(3), whole(1), whole(0)), ("in",), (1,))
    graph = spiking(("in", Input(1.0), (), (1,)), fire, timesteps=timesteps, delay=delay)
    found = [mutant for mutant in mutants(describe(graph), 400) if mutant.kind == "delay"]
    assert {mutant.after for mutant in found} == others
    assert {mutant.before for mutant in found} <= {delay}


@pytest.mark.parametrize("delay", [0, 1, 2, 3, 4])
def test_every_other_delay_can_be_seen(delay, tmp_path):
    """No mutant of the delay is a wasted one: some stimulus shows it."""
    fire = ("fire", IntegrateFire(whole(30), whole(1), whole(3)), ("in",), (9,))
    graph = spiking(("in", Input(1.0), (), (9,)), fire, delay=delay)
    verdicts = judge(packed(tmp_path, graph, torch.arange(1, 90, 10)), 400)
    assert all(verdict.killed_by for verdict in verdicts if verdict.mutant.kind == "delay")


def test_an_index_may_come_to_point_anywhere_and_nowhere():
    """All of the input, not only as far as the network's own indices reach."""
    graph = spiking(
        ("in", Input(1.0), (), (6,)),
        ("some", Gather(whole(0, -1)), ("in",), (2,)),
        ("out", Integrate(), ("some",), (2,)),
    )
    found = mutants(describe(graph), 100)
    assert {m.after for m in found if m.before == 0} == {-1, 1, 2, 3, 4, 5}
    assert {m.after for m in found if m.before == -1} == {0, 1, 2, 3, 4, 5}


def test_a_network_with_few_words_has_few_mutants():
    """As many as there are; one without parameters has none."""
    one = spiking(
        ("in", Input(1.0), (), (1,)),
        ("fire", IntegrateFire(whole(3), whole(0), whole(0)), ("in",), (1,)),
        timesteps=1,
    )
    found = mutants(describe(one), 500)
    bits = describe(one).layers[1]["parameters"]["threshold"]["bits"]
    assert len(found) == 3 + 3 * bits
    assert (
        mutants(describe(spiking(("in", Input(1.0), (), (1,)), ("out", Integrate(), ("in",), (1,)))), 9) == []
    )


@pytest.mark.parametrize(
    ("mutant", "text"),
    [
        (Mutant("conv", "weight", "weight", 7, 3, -5), "conv: weight 7: 3 -> -5"),
        (Mutant("sum", "weight", "weight.1", 0, 4, 6), "sum: weight 0: 4 -> 6"),
        (Mutant("fire", "shift", "fraction_bits", 0, 1, 2), "fire: shift 0: 1 -> 2"),
        (Mutant("fire", "delay", "delay", 0, 4, 2), "fire: delay 0: 4 -> 2"),
        (Mutant("fire", "comparator"), "fire: comparator"),
    ],
)
def test_a_mutant_says_what_it_changes(mutant, text):
    """In one line."""
    assert str(mutant) == text


def test_applying_a_mutant_leaves_the_network_as_it_was(pack):
    """A copy is changed, in one place."""
    before = {key: values.copy() for key, values in pack.network.arrays.items()}
    mutated, layer = apply(pack.network, Mutant("conv", "weight", "weight", 5, 0, 99))
    assert layer["name"] == "conv"
    changed = np.argwhere(mutated.arrays["conv", "weight"].ravel() != before["conv", "weight"].ravel())
    assert changed.tolist() == [[5]]
    assert all(np.array_equal(pack.network.arrays[key], values) for key, values in before.items())
    assert apply(pack.network, Mutant("fire", "reset rule"))[0].contract["reset_mode"] == "zero"
    assert apply(pack.network, Mutant("fire", "comparator"))[0].contract["comparator"] == ">"
    assert apply(pack.network, Mutant("late", "shift", "fraction_bits", 0, 1, 2))[1]["fraction_bits"] == 2
    assert apply(pack.network, Mutant("fire", "delay", "delay", 0, 0, 1))[0].delay == 1
    assert (pack.network.contract["comparator"], pack.network.delay) == (">=", 0)


# Verdicts against a replay from scratch ----------------------------------------------------------------


def from_scratch(network, mutant, stimuli):
    """All of the mutated network; `stimuli` are by input, one of each or several along a first axis."""
    mutated, changed = apply(network, mutant)
    done = {}
    for layer in network.layers:
        if layer["kind"] == "input":
            done[layer["name"]] = replay.Activity(np.stack([stimuli[layer["name"]]] * network.steps))
            continue
        trains = [done[name].train for name in layer["inputs"]]
        net, entry = (mutated, changed) if layer["name"] == mutant.layer else (network, layer)
        done[layer["name"]] = replay.compute(net, entry, trains)
    return done


def shows(pack, mutant, sample):
    """Does a replay from scratch differ from anything that the files hold?"""
    done = from_scratch(pack.network, mutant, pack.stimulus(sample))
    sums = pack.result(sample)["outputs"]
    if any(done[name].train.sum(0).ravel().tolist() != wanted for name, wanted in sums.items()):
        return True
    for layer in pack.network.layers:
        spikes, potentials = pack.expected(sample, layer)
        seen = done[layer["name"]]
        if spikes is not None and not np.array_equal(seen.train[: len(spikes)], spikes):
            return True
        if potentials is not None and not np.array_equal(seen.potentials[: len(potentials)], potentials):
            return True
    return False


EXTENTS = {
    "all": Extent(),
    "spikes": Extent(potentials=False),
    "late": Extent(("late",), steps=2),
    "results": Extent(("out",), potentials=False),
}


@pytest.mark.parametrize("extent", EXTENTS)
@pytest.mark.parametrize(("delay", "reset_mode"), CONTRACTS)
def test_a_mutant_is_killed_by_the_first_sample_that_shows_it(delay, reset_mode, extent, tmp_path):
    """Whatever is recorded: spikes, potentials, some layers and steps, results alone."""
    pack = packed(tmp_path, network(delay, reset_mode), *STIMULI, extent=EXTENTS[extent])
    verdicts = judge(pack, 50, seed=1)
    assert [verdict.mutant for verdict in verdicts] == mutants(pack.network, 50, seed=1)
    for verdict in verdicts:
        first = next((s for s in ("s0", "s1", "s2") if shows(pack, verdict.mutant, s)), "")
        assert verdict.killed_by == first, str(verdict.mutant)
        assert verdict.survives == (not first and not verdict.equivalent)
        assert not (first and verdict.equivalent)
    assert {verdict.killed_by for verdict in verdicts} >= {"s0", "s1"}


def test_less_that_is_recorded_kills_less(tmp_path):
    """Potentials and inner layers are what finds most faults."""
    killed = {}
    for name, extent in EXTENTS.items():
        pack = packed(tmp_path / name, network(), *STIMULI, extent=extent)
        killed[name] = {verdict.mutant for verdict in judge(pack, 200) if verdict.killed_by}
    assert killed["all"] > killed["spikes"] > killed["results"]
    assert killed["all"] > killed["late"]


def test_only_the_samples_that_are_named_count(pack):
    """A mutant of the first weights, which zeros cannot show."""
    verdicts = {name: judge(pack, 100, samples=[name]) for name in ("s0", "s2")}
    for name, found in verdicts.items():
        assert {verdict.killed_by for verdict in found} <= {name, ""}
    weights = [[v for v in found if v.mutant.layer == "conv"] for found in verdicts.values()]
    assert all(not verdict.killed_by for verdict in weights[0])
    assert any(verdict.killed_by for verdict in weights[1])


def test_what_changes_nothing_that_is_seen_survives_and_is_listed(tmp_path):
    """A stimulus of zeros: no weight of the first layer shows, and none of them is proved harmless."""
    graph = spiking(
        ("in", Input(1.0), (), (2,)),
        ("fc", Linear(whole(1, 2, 3, -1).reshape(2, 2), bits=3), ("in",), (2,)),
        ("out", Integrate(), ("fc",), (2,)),
    )
    blind, seeing = (packed(tmp_path / n, graph, whole(*x)) for n, x in (("a", (0, 0)), ("b", (1, 1))))
    verdicts = judge(blind, 12)
    assert len(verdicts) == 12
    assert all(verdict.survives and not verdict.equivalent for verdict in verdicts)
    assert not any(verdict.survives for verdict in judge(seeing, 12))


# What is proved ------------------------------------------------------------------------------------


def equivalent(pack, count=400):
    """Why a mutant is harmless, by (layer, kind, place)."""
    return {
        (v.mutant.layer, v.mutant.kind, v.mutant.place): v.equivalent
        for v in judge(pack, count)
        if v.equivalent
    }


def test_a_weight_that_reads_only_padding_is_proved_equivalent(tmp_path):
    """A 3x3 kernel on one pixel: of nine weights only the middle one ever reads it."""
    graph = spiking(
        ("in", Input(1.0, 0, 3), (), (1, 1, 1)),
        ("conv", Conv(codes(1, -3, 3, 1, 1, 3, 3), None, (1, 1), (1, 1), bits=3), ("in",), (1, 1, 1)),
        ("out", Integrate(), ("conv",), (1, 1, 1)),
    )
    found = equivalent(packed(tmp_path, graph, whole(1)))
    reason = "it reads nothing but padding"
    assert found == {("conv", "weight", place): reason for place in range(9) if place != 4}


def test_a_weight_whose_products_are_cut_off_is_proved_equivalent(tmp_path):
    """A padded transposed convolution drops its border: of a 3x3 kernel on one pixel all but the middle."""
    op = Conv(codes(2, 1, 3, 1, 1, 3, 3), None, (1, 1), (1, 1), (1, 1), 1, True, (0, 0), bits=3)
    graph = spiking(
        ("in", Input(1.0, 0, 3), (), (1, 1, 1)),
        ("up", op, ("in",), (1, 1, 1)),
        ("out", Integrate(), ("up",), (1, 1, 1)),
    )
    found = equivalent(packed(tmp_path, graph, whole(1)))
    assert {place for _, _, place in found} == set(range(9)) - {4}


def test_a_weight_that_reads_only_zeros_is_proved_equivalent(tmp_path):
    """Behind a gather that reads nothing; in an add, behind the one input that is nothing."""
    graph = spiking(
        ("in", Input(1.0, 0, 3), (), (2,)),
        ("nothing", Gather(whole(-1, -1)), ("in",), (2,)),
        ("fc", Linear(codes(3, -3, 3, 2, 2), bits=3), ("nothing",), (2,)),
        ("sum", Add((whole(2), whole(3))), ("in", "nothing"), (2,)),
        ("both", Concat(), ("fc", "sum"), (4,)),
        ("out", Integrate(), ("both",), (4,)),
    )
    verdicts = [v for v in judge(packed(tmp_path, graph, whole(1, 2)), 400) if v.mutant.layer != "nothing"]
    harmless = {(v.mutant.layer, v.mutant.role) for v in verdicts if v.equivalent}
    assert harmless == {("fc", "weight"), ("sum", "weight.1")}
    assert {v.equivalent for v in verdicts if v.equivalent} == {"what it reads is proved to be 0"}
    assert {(v.mutant.layer, v.mutant.role) for v in verdicts if v.killed_by} == {("sum", "weight.0")}


def test_rules_of_neurons_that_cannot_fire_are_proved_equivalent(tmp_path):
    """V is at most 4·3·2 + 5 = 29: with θ = 30 no comparator, no reset and no higher threshold matters."""
    graphs = [
        spiking(
            ("in", Input(1.0, 0, 3), (), (1,)),
            ("fc", Linear(whole(2).reshape(1, 1), bits=3), ("in",), (1,)),
            ("fire", IntegrateFire(whole(threshold), whole(0), whole(5)), ("fc",), (1,)),
        )
        for threshold in (30, 29)
    ]
    silent, awake = (equivalent(packed(tmp_path / str(i), graph, whole(1))) for i, graph in enumerate(graphs))
    reason = "its potential is proved to stay below the threshold"
    assert silent["fire", "comparator", 0] == silent["fire", "reset rule", 0] == reason
    assert not any(kind in ("comparator", "reset rule", "threshold") for _, kind, _ in awake)
    verdicts = judge(packed(tmp_path / "again", graphs[0], whole(1)), 400)
    thresholds = {v.mutant.after: v for v in verdicts if v.mutant.kind == "threshold"}
    assert {after: bool(v.equivalent) for after, v in thresholds.items()} == {
        after: after > 29 for after in thresholds
    }
    assert any(after > 29 for after in thresholds)


@pytest.mark.parametrize("reset_mode", ["subtraction", "zero"])
@pytest.mark.parametrize("delay", [0, 1, 3])
def test_no_stimulus_at_all_shows_what_is_proved_equivalent(delay, reset_mode, tmp_path):
    """Every stimulus of a small input is tried on every mutant that is said to be harmless."""
    graph = spiking(
        ("in", Input(1.0, -1, 2), (), (1, 2, 2)),
        ("conv", Conv(codes(4, -3, 3, 2, 1, 3, 3), None, (2, 2), (1, 1), bits=3), ("in",), (2, 1, 1)),
        ("fire", IntegrateFire(whole(7, 200).reshape(2, 1, 1), whole(1), whole(3)), ("conv",), (2, 1, 1)),
        ("quiet", IntegrateFire(whole(50), whole(1), whole(3)), ("fire",), (2, 1, 1)),
        ("flat", Reshape(), ("quiet",), (2,)),
        ("nothing", Gather(whole(-1, -1)), ("flat",), (2,)),
        ("idle", IntegrateFire(whole(5, 6), whole(0), whole(14)), ("nothing",), (2,)),
        ("both", Add((whole(1), whole(2))), ("flat", "idle"), (2,)),
        ("fc", Linear(codes(5, -3, 3, 2, 2), bits=3), ("both",), (2,)),
        ("out", Integrate(), ("fc",), (2,)),
        delay=delay, reset_mode=reset_mode, timesteps=3,
    )  # fmt: skip
    pack = packed(tmp_path, graph, whole(0, 0, 0, 0))
    every = np.array(list(product((-1, 0, 1, 2), repeat=4))).reshape(-1, 1, 2, 2)
    clean = replay.replay(pack.network, {"in": every})
    verdicts = [verdict for verdict in judge(pack, 300) if verdict.equivalent]
    assert {verdict.mutant.layer for verdict in verdicts} >= {"conv", "quiet", "idle"}
    assert ("idle", "delay") in {(verdict.mutant.layer, verdict.mutant.kind) for verdict in verdicts}
    assert len(verdicts) > 20
    for verdict in verdicts:
        done = from_scratch(pack.network, verdict.mutant, {"in": every})
        for name in ("fire", "quiet", "idle", "out"):
            assert np.array_equal(done[name].train, clean[name].train), verdict
            assert np.array_equal(done[name].potentials, clean[name].potentials), verdict


# Coverage ------------------------------------------------------------------------------------------


def test_a_survivor_that_reads_nothing_but_zeros_is_called_idle(tmp_path):
    """One of two inputs is 0 in every sample: weights on it are idle, those on the other are seen."""
    graph = spiking(
        ("in", Input(1.0, 0, 9), (), (2,)),
        ("fc", Linear(torch.tensor([[3, -2]]), bits=4), ("in",), (1,)),
        ("out", Integrate(whole(0), whole(0)), ("fc",), (1,)),
    )
    verdicts = judge(packed(tmp_path, graph, torch.tensor([5, 0]), torch.tensor([1, 0])), 40)
    weights = [verdict for verdict in verdicts if verdict.mutant.kind == "weight"]
    assert {verdict.mutant.place for verdict in weights} == {0, 1}
    for verdict in weights:
        assert (verdict.survives, verdict.idle) == (verdict.mutant.place == 1,) * 2
    assert not any(verdict.idle for verdict in verdicts if verdict not in weights)


def test_coverage_by_hand(tmp_path):
    """Four neurons, θ = 10, three steps, two samples.

    7 a step: V = 7, 4 and a spike, 1 and a spike; 12: always; 1: V = 1, 2, 3; 2: V = 2, 4, 6, which is near.
    Second sample: 0 0 0 0.
    """
    graph = spiking(
        ("in", Input(1.0), (), (4,)),
        ("fire", IntegrateFire(whole(10), whole(0), whole(0)), ("in",), (4,)),
        ("late", IntegrateFire(whole(1, 2, 3, 1), whole(0, 0, 0, 1), whole(0)), ("fire",), (4,)),
        timesteps=3,
    )
    first = packed(tmp_path / "one", graph, whole(7, 12, 1, 2))
    assert coverage(first) == [
        Coverage("fire", 4, never_fire=(2, 3), always_fire=(1,), never_near=(2,), silent_channels=(2, 3)),
        Coverage("late", 4, never_fire=(2,), always_fire=(3,), never_near=(2,), silent_channels=(2,)),
    ]
    both = packed(tmp_path / "two", graph, whole(7, 12, 1, 2), whole(0, 0, 0, 0))
    assert coverage(both) == [
        Coverage("fire", 4, never_fire=(2, 3), always_fire=(), never_near=(2,), silent_channels=(2, 3)),
        Coverage("late", 4, never_fire=(2,), always_fire=(3,), never_near=(2,), silent_channels=(2,)),
    ]
    more = packed(tmp_path / "three", graph, whole(7, 12, 1, 2), whole(0, 0, 10, 10))
    assert coverage(more)[0] == Coverage("fire", 4, (), (), (), ())


def test_a_channel_is_silent_if_none_of_its_neurons_fires(tmp_path):
    """Two channels of 1x2: one neuron of the first fires, none of the second."""
    graph = spiking(
        ("in", Input(1.0), (), (2, 1, 2)),
        ("fire", IntegrateFire(whole(5), whole(0), whole(0)), ("in",), (2, 1, 2)),
    )
    (found,) = coverage(packed(tmp_path, graph, whole(0, 5, 1, 0)))
    assert (found.never_fire, found.silent_channels) == ((0, 2, 3), (1,))
