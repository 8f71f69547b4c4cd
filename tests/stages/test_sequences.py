"""Sequences: a network that was converted once is stepped by its user, or shown what changes in time (C3)."""

import copy
import io
from dataclasses import replace
from functools import cache

import numpy as np
import oracle
import pytest
import torch
from random_graphs import random_graph

import ann2snn_cli
from ann2snn_cli import BadData, SpikingNetwork, UsageError
from ann2snn_cli.ir.contract import Contract, Encoding, Reset
from ann2snn_cli.ir.encoding import encoded
from ann2snn_cli.ir.engine import Request
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import Input, Integrate, IntegrateFire, Linear, Opaque, Ref
from ann2snn_cli.stages.simulate import ENGINES, run

ONE = torch.tensor(1.0, dtype=torch.float64)


def tiny(reset_mode=Reset.SUBTRACTION, delay=0, steps=4):
    """x -> a neuron of weight 1, θ = 10, V0 = 5, bias 1 -> a read-out with bias 2; T = 4."""
    nodes = (
        Node("x", Input(1.0), (), (1,), unit=ONE),
        Node("one", Linear(torch.tensor([[1]]), bits=4), ("x",), (1,), unit=ONE),
        Node("fire", IntegrateFire(*map(torch.tensor, (10, 1, 5))), ("one",), (1,), unit=ONE),
        Node("out", Integrate(torch.tensor(2), torch.tensor(3)), ("fire",), (1,), unit=ONE),
    )
    return SpikingNetwork(Graph(nodes, ("out",), Level.SPIKING, Contract(steps, reset_mode, delay)))


@pytest.mark.parametrize(
    ("reset_mode", "potentials", "spikes"),
    [(Reset.SUBTRACTION, [9, 4, 2, 3], [0, 1, 1, 0]), (Reset.ZERO, [9, 0, 8, 9], [0, 1, 0, 0])],
)
def test_a_neuron_of_known_numbers_step_by_step(reset_mode, potentials, spikes):
    """Shown 3, 4, 7, 0, V0 = 5, bias 1: V is 9; 14, a spike; 4 + 8, a spike (or 0 + 8); 2 + 1 (8 + 1)."""
    snn = tiny(reset_mode)
    snn.reset()
    for step, shown in enumerate((3.0, 4.0, 7.0, 0.0), start=1):
        given = snn.step(torch.tensor([[shown]]))
        held = snn.state["nodes"]["fire"]
        assert held["potential"].item() == potentials[step - 1]
        assert held["count"].item() == sum(spikes[:step])
        assert given.item() == (sum(spikes[:step]) + 2 * step + 3) / step
        assert snn.state["step"] == step


@cache
def conditions():
    """Random graphs of every op that there is, for both resets."""
    found = []
    for seed in range(6):
        graph, samples = random_graph(seed, opaque=seed % 4 == 3)
        contract = replace(graph.timing, reset_mode=list(Reset)[seed % 2], delay=0)
        found.append(
            (replace(graph, contract=contract), {name: torch.tensor(x) for name, x in samples.items()})
        )
    return found


def trains(graph, x, engine="reference", delay=None):
    """What every population passed on, and the outputs after every step."""
    seen = {}

    def watch(node, activity):
        seen.setdefault(node.name, []).append(activity.train.double())

    found = run(graph, Request(x, delay, by_step=True, watch=watch), engine)
    return {name: torch.cat(parts, 1) for name, parts in seen.items()}, found.by_step


def stepped(snn, shown):
    """The same of steps: `shown` is what is shown in each."""
    counts, outputs = [], []
    snn.reset()
    for x in shown:
        given = snn.step(x)
        outputs.append(given if isinstance(given, tuple) else (given,))
        counts.append({name: held["count"] for name, held in snn.state["nodes"].items() if "count" in held})
    so_far = {name: torch.stack([each[name] for each in counts]) for name in counts[0]}
    return so_far, [torch.stack(each) for each in zip(*outputs, strict=True)]


def test_steps_of_a_constant_input_are_those_of_the_reference_engine():
    """Spike for spike and output for output, over random graphs, of both resets."""
    for graph, x in conditions():
        passed, by_step = trains(graph, x)
        counts, outputs = stepped(SpikingNetwork(graph), [x] * graph.timing.timesteps)
        for name, train in passed.items():
            assert torch.equal(counts[name], train.cumsum(0)), name
        for one, other in zip(outputs, by_step, strict=True):
            assert torch.equal(one, other)


def changing(x, steps, seed=0):
    """Frames at random of the same range, [samples, T, ...] by input."""
    random = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(len(each), steps, *each.shape[1:], generator=random, dtype=each.dtype) * each.max()
        for name, each in x.items()
    }


def test_steps_of_what_changes_are_those_of_a_whole_sequence():
    """Step t is shown frame t: what `sequence` gives after it, where time is the first axis."""
    for graph, x in conditions():
        snn, frames = SpikingNetwork(graph), changing(x, graph.timing.timesteps)
        in_time = {name: each.movedim(1, 0) for name, each in frames.items()}
        shown = [{name: each[t] for name, each in in_time.items()} for t in range(graph.timing.timesteps)]
        counts, outputs = stepped(snn, shown)
        found = snn.sequence(in_time, by_step=True, counts=True, engine="reference")
        assert all(torch.equal(counts[name][-1], each.double()) for name, each in found.counts.items())
        assert all(torch.equal(*pair) for pair in zip(outputs, found.by_step, strict=True))


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "triton"])
def test_every_engine_is_shown_frames_as_the_oracle_is(engine):
    """At several delays, of both resets; or it refuses in words."""
    ran = 0
    for graph, x in conditions():
        steps = graph.timing.timesteps
        framed, frames = encoded(graph, Encoding.FRAMES), changing(x, graph.timing.timesteps)
        for delay in sorted({0, 1, steps // 2, steps}):
            request = Request(frames, delay, counts=True)
            if graph.real or ENGINES[engine].refusal(framed, request):
                continue
            wanted = oracle.play(framed, {name: each.numpy() for name, each in frames.items()}, delay)
            found = run(framed, request, engine)
            ran += 1
            for name, counts in found.counts.items():
                assert np.array_equal(counts.double().numpy(), wanted[name].train.sum(0)), (name, delay)
    assert ran > 1


def test_frames_that_are_all_the_same_are_a_constant_input():
    """At every delay."""
    for graph, x in conditions():
        for delay in range(graph.timing.timesteps + 1):
            snn = SpikingNetwork(graph)
            frames = {
                name: each.expand(graph.timing.timesteps, *each.shape).contiguous()
                for name, each in x.items()
            }
            one, other = snn.sequence(frames, delay=delay), snn.simulate(x, delay=delay)
            assert all(torch.equal(*pair) for pair in zip(one.outputs, other.outputs, strict=True))


def test_a_state_is_kept_in_a_file_and_put_back():
    """`torch.load` reads it by its safe default; what follows is what would have followed."""
    for graph, x in conditions():
        if graph.timing.timesteps < 2:
            continue
        snn, other = SpikingNetwork(graph), SpikingNetwork(graph)
        snn.step(x)
        file = io.BytesIO()
        torch.save(snn.state, file)
        file.seek(0)
        other.reset(torch.load(file, weights_only=True))
        twin = copy.deepcopy(snn)
        wanted = snn.step(x)
        for each in (other, twin):
            assert all(map(torch.equal, _leaves(each.step(x)), _leaves(wanted)))
        snn.reset()
        assert all(map(torch.equal, _leaves(snn.step(x)), _leaves(SpikingNetwork(graph).step(x))))


def _leaves(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


def test_a_state_is_a_copy():
    """Who changes it changes nothing that goes on."""
    snn, x = tiny(), torch.tensor([[3.0]])
    snn.step(x)
    state = snn.state
    state["nodes"]["fire"]["potential"].fill_(100)
    assert snn.state["nodes"]["fire"]["potential"].item() == 9
    snn.reset(state)
    state["nodes"]["fire"]["potential"].fill_(0)
    snn.step(x)
    assert snn.state["nodes"]["fire"]["count"].item() == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: None or [], "no state of an SNN"),
        (lambda state: {**state, "format": "else"}, "no state of an SNN"),
        (lambda state: {**state, "step": -1}, "lacks its step"),
        (lambda state: {**state, "nodes": {}}, "other layers"),
        (lambda state: _with(state, "potential", torch.zeros(2, 2)), r"no tensor \[samples, 1\]"),
        (lambda state: _with(state, "potential", torch.zeros(1, 1)), r"no tensor \[samples, 1\]"),
        (lambda state: _with(state, "potential", torch.tensor([[torch.nan]]).double()), "no number"),
        (lambda state: _with(state, "count", torch.tensor([[0.5]]).double()), "no number"),
        (lambda state: _with(state, "count", torch.zeros(2, 1).double()), "different numbers of samples"),
        (lambda state: _with(state, "charge", torch.zeros(1, 1).double()), "fire holds potential, count"),
    ],
)
def test_a_state_of_something_else_is_refused(change, said):
    """And the network goes on as it was."""
    snn = tiny()
    snn.step(torch.tensor([[3.0]]))
    with pytest.raises(BadData, match=f"cannot be put back: .*{said}"):
        snn.reset(change(snn.state))
    assert snn.state["step"] == 1


def _with(state, name, value):
    return {**state, "nodes": {**state["nodes"], "fire": {**state["nodes"]["fire"], name: value}}}


def test_what_has_no_meaning_in_steps_is_refused_with_what_to_do():
    """A delay; other samples in the middle; frames of another number; no axis of time."""
    with pytest.raises(UsageError, match=r"D = 2 steps after .*\n.*snn\.sequence"):
        tiny(delay=2).step(torch.ones(1, 1))
    snn = tiny()
    snn.step(torch.ones(2, 1))
    with pytest.raises(BadData, match=r"step 2 is of 3 samples, .* of 2\n.*snn\.reset"):
        snn.step(torch.ones(3, 1))
    with pytest.raises(
        BadData, match=r"\(3, 1, 1\), and not \[4, samples, 1\], a frame a step\n.*timesteps=3"
    ):
        snn.sequence(torch.ones(3, 1, 1))
    with pytest.raises(BadData, match=r"counts frames, the second samples: give x\.swapaxes\(0, 1\)"):
        snn.sequence(torch.ones(3, 4, 1))
    for x in (torch.ones(4), torch.ones(4, 1)):
        with pytest.raises(BadData, match="the first axis counts frames, the second samples"):
            snn.sequence(x)


def test_steps_may_go_on_after_the_last_and_follow_changed_numbers():
    """Shown 5 with bias 1 a neuron of θ = 10 gets 6 spikes in 10 steps; with θ = 6 one a step."""
    snn = tiny()
    for _ in range(100):
        snn.step(torch.tensor([[5.0]]))
    assert snn.state["nodes"]["fire"]["count"].item() == 60
    snn.get_buffer("fire.threshold").fill_(6)
    for _ in range(20):
        snn.step(torch.tensor([[5.0]]))
    assert snn.state["nodes"]["fire"]["count"].item() == 80


def test_unknown_modules_run_within_the_snn_among_neurons_and_operators():
    """A module of a user's own, gelu, a sum of both, neurons behind them: all in one network (C2)."""

    class Mine(torch.nn.Module):
        """What no converter knows."""

        def forward(self, x):
            return torch.sin(x) + x.sigmoid() * 0.5

    class Mixed(torch.nn.Module):
        """Operators and modules, as they come."""

        def __init__(self):
            super().__init__()
            self.first, self.mine, self.norm = torch.nn.Linear(6, 8), Mine(), torch.nn.LayerNorm(8)
            self.relu, self.last = torch.nn.ReLU(), torch.nn.Linear(16, 3)

        def forward(self, x):
            a = torch.relu(self.first(x))
            b = self.relu(self.norm(self.mine(a) + a))
            return self.last(torch.cat([a, torch.nn.functional.gelu(b)], dim=1))

    torch.manual_seed(0)
    network, x = Mixed().eval(), torch.rand(64, 6)
    snn = ann2snn_cli.convert(network, x, weight_bitwidth=8, timesteps=64, mode="max")
    kinds = {node.op.kind.lower().replace("_", "") for node in snn.graph.of(Opaque)}
    assert {"sin", "sigmoid", "layernorm", "gelu"} <= kinds
    assert len(snn.graph.of(IntegrateFire)) == 2
    wanted = network(x).detach()
    for delay in (0, 64):
        found = snn.simulate(x, delay=delay).outputs[0]
        assert float((found - wanted).norm() / (wanted - wanted.mean(0)).norm()) < 0.1
    _, outputs = stepped(snn, [x] * 64)
    torch.testing.assert_close(outputs[0][-1], snn(x))
    assert Ref(0) in snn.graph.of(Opaque)[0].op.args


def test_an_exported_step_runs_without_ann2snn():
    """C3: two programs of torch.export, saved and loaded; of any number of samples, as `step` bit for bit."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(4, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(36, 3),
    ).eval()  # fmt: skip
    snn = ann2snn_cli.convert(network, torch.rand(16, 1, 8, 8), timesteps=64)
    first, later = (saved_and_loaded(program) for program in snn.export_step())
    for samples in (1, 5):
        snn.reset()
        x = torch.rand(samples, 1, 8, 8)
        outputs, state = first({"input": x}, {})
        assert torch.equal(outputs[0], snn.step(x))
        for step in range(2, 20):
            x = torch.rand(samples, 1, 8, 8)
            outputs, state = later({"input": x}, state)
            assert torch.equal(outputs[0] / step, snn.step(x))
        assert torch.equal(state["2"]["potential"], snn.state["nodes"]["2"]["potential"])


def saved_and_loaded(program):
    """As another process gets it."""
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    return torch.export.load(file).module()


def test_a_step_that_gives_no_answer_is_not_exported():
    """With a delay the first steps pass nothing on; spikes by chance want the number of the step."""
    with pytest.raises(UsageError, match="one step gives no answer"):
        tiny(delay=2).export_step()
    by_chance = SpikingNetwork(encoded(tiny().graph, Encoding.POISSON))
    with pytest.raises(UsageError, match="draws other spikes"):
        by_chance.export_step()
