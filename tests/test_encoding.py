"""Encoding: how a sample is shown over the steps, from the command line and from Python (C3)."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import ann2snn_cli
from ann2snn_cli import BadData, UnsupportedNetwork, UsageError
from ann2snn_cli.__main__ import main
from ann2snn_cli.ir import poisson
from ann2snn_cli.ir.contract import Contract, Encoding
from ann2snn_cli.ir.encoding import encoded, encoding_of
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import Input, Integrate, IntegrateFire, Linear
from ann2snn_cli.ir.run import run_counts
from ann2snn_cli.stages.export import nir, onnx
from ann2snn_cli.stages.export.pack import describe
from ann2snn_cli.stages.simulate import ENGINES, Request, run, simulate

pytestmark = pytest.mark.filterwarnings("ignore::ann2snn_cli.snn.DamageWarning")

ONE = torch.tensor(1.0, dtype=torch.float64)
T = 8


@pytest.fixture
def network():
    """Two layers, for one frame of 6 values."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


@pytest.fixture
def x():
    """Samples of both signs."""
    return torch.rand(40, 6, generator=torch.Generator().manual_seed(1)) * 2 - 0.7


@pytest.fixture
def frames():
    """Events, [samples, T, 6]."""
    return (torch.rand(40, T, 6, generator=torch.Generator().manual_seed(2)) < 0.4).float()


# Spikes by chance ----------------------------------------------------------------------------------


def test_spikes_come_as_often_as_their_rates_say():
    """Of 4000 steps, to four standard deviations; signs are kept, and what is 0 or 1 is certain."""
    rates = torch.tensor([[0.0, 0.1, -0.5, 0.9, 1.0, -1.0, 3.0]], dtype=torch.float64)
    trains = torch.stack([poisson.spikes(rates, step, 7) for step in range(1, 4001)])
    assert set(trains.unique().tolist()) == {-1.0, 0.0, 1.0}
    wanted = rates.clamp(-1, 1)
    deviation = 4 * (wanted.abs() * (1 - wanted.abs()) / 4000).sqrt()
    assert bool(((trains.mean(0) - wanted).abs() <= deviation).all())


def test_spikes_are_those_of_the_sample_the_step_and_the_seed():
    """Not of its place in a batch; and of other samples, steps, seeds and places they are others."""
    rates = torch.rand(50, 64, generator=torch.Generator().manual_seed(3)).double() * 0.98 + 0.01
    whole = poisson.spikes(rates, 1, 0)
    assert torch.equal(poisson.spikes(rates[[30, 7]], 1, 0), whole[[30, 7]])
    same = torch.full((2, 4096), 0.5, dtype=torch.float64)
    one = poisson.spikes(same, 1, 0)
    assert torch.equal(one[0], one[1])
    for other in (poisson.spikes(same, 2, 0), poisson.spikes(same, 1, 1), poisson.spikes(same + 1e-3, 1, 0)):
        assert 0.45 < float((other[0] == one[0]).double().mean()) < 0.55
    assert 0.45 < float((one[0, 1:] == one[0, :-1]).double().mean()) < 0.55


def tiny(encoding, low, high, unit=1.0):
    """x -> a neuron of weight 2, θ = 4 -> read-out; T = 4, V0 = 0."""
    x = Input(unit, low, high, encoding=encoding)
    nodes = (
        Node("x", x, (), (1,), unit=unit * ONE),
        Node("two", Linear(torch.tensor([[2]]), bits=4), ("x",), (1,), unit=ONE),
        Node("fire", IntegrateFire(*map(torch.tensor, (4, 0, 0))), ("two",), (1,), unit=ONE),
        Node("out", Integrate(), ("fire",), (1,), unit=ONE),
    )
    return Graph(nodes, ("out",), Level.SPIKING, Contract(4))


@pytest.mark.parametrize(
    ("encoding", "x", "low", "high", "spikes"),
    [
        ("direct", [[1.0]], 0, 255, [0, 1, 0, 1]),  # V: 2, 4, 2, 4
        ("frames", [[[0.0], [5.0], [0.0], [0.0]]], 0, 255, [0, 1, 1, 0]),  # V: 0, 10, 6, 2
        ("poisson", [[9.0]], 0, 1, [0, 1, 0, 1]),  # a rate of 1 or more: a spike in each step
        ("poisson", [[-9.0]], -1, 1, [0, 0, 0, 0]),
        ("poisson", [[7.0]], 0, 7, [1, 1, 1, 1]),  # a spike is as large as the largest integer: 14 a step
    ],
)
@pytest.mark.parametrize("engine", ["reference", "folded", "fused"])
def test_a_neuron_of_known_numbers_is_shown(encoding, x, low, high, spikes, engine):
    """Spike for spike, in numbers that were worked out by hand."""
    graph, seen = tiny(encoding, low, high), []
    request = Request(torch.tensor(x), watch=lambda node, act: seen.append(act) if node.op.fires else None)
    if reason := ENGINES[engine].refusal(graph, request):
        pytest.skip(reason)
    run(graph, request, engine)
    assert seen[0].train.flatten().tolist() == spikes


# Conversions ---------------------------------------------------------------------------------------


def test_layerwise_it_is_the_quantized_network_that_is_given_the_same(network, x, frames):
    """The theorem of D = T, of spikes by chance and of frames."""
    for data, encoding in ((x, "poisson"), (frames, "frames")):
        snn = ann2snn_cli.convert(network, data, timesteps=T, encoding=encoding, delay=T)
        assert encoding_of(snn.graph) is Encoding(encoding)
        assert torch.equal(snn(data), run_counts(snn.graph, data.double())[0])


def test_many_steps_of_chance_come_near_the_network(network, x):
    """At 8 bits and 2048 steps to a tenth of what varies, and worse than `direct`."""
    wanted, errors = network(x).detach(), {}
    for encoding in ("direct", "poisson"):
        flags = {"weight_bitwidth": 8, "timesteps": 2048, "mode": "max", "encoding": encoding, "delay": 2048}
        given = ann2snn_cli.convert(network, x, **flags)(x)
        errors[encoding] = float((given - wanted).norm() / (wanted - wanted.mean(0)).norm())
    assert errors["direct"] < errors["poisson"] < 0.1


def test_frames_are_calibrated_and_judged_by_the_network_of_their_mean(network, frames):
    """With 8 bits the SNN's outputs are near those that torch gives of the mean frame."""
    snn = ann2snn_cli.convert(
        network, frames, timesteps=T, weight_bitwidth=8, mode="max", encoding="frames", delay=T
    )
    wanted = network(frames.mean(1)).detach()
    assert float((snn(frames) - wanted).norm() / (wanted - wanted.mean(0)).norm()) < 0.3
    assert snn.provenance.damage["snn"] < 0.3
    assert (snn.graph["input"].op.unit, snn.graph["input"].op.high) == (1.0, 255)
    in_time = frames.movedim(1, 0)
    assert torch.equal(snn.sequence(in_time).outputs[0], snn(frames))


def test_the_input_of_poisson_is_spikes(network, x):
    """−1, 0 and 1, with a unit that is the largest of the calibration set."""
    op = ann2snn_cli.convert(network, x, timesteps=T, encoding="poisson", seed=5).graph["input"].op
    assert (op.low, op.high, op.seed) == (-1, 1, 5)
    assert op.unit == float(x.abs().max())


def test_it_is_finetuned_and_saved(network, x, tmp_path):
    """What is loaded shows its samples as it was converted to."""
    labels = torch.arange(40) % 3
    snn = ann2snn_cli.convert(
        network, (x, labels), timesteps=T, encoding="poisson", finetune_epochs=1, seed=2
    )
    loaded = ann2snn_cli.load(snn.save(tmp_path / "p.pth"))
    assert torch.equal(loaded(x), snn(x))
    assert loaded.graph["input"].op.seed == 2
    assert "poisson" in repr(loaded)


def test_an_snn_may_be_shown_its_samples_otherwise(network, x):
    """By name; spikes by chance follow their seed; steps of constant images are those of the engine."""
    snn = ann2snn_cli.convert(network, x, timesteps=T)
    drawn = [snn.simulate(x, encoding="poisson", seed=seed).outputs[0] for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    still = x[:, None].expand(-1, T, -1)
    assert torch.equal(snn.simulate(still, encoding="frames").outputs[0], snn(x))
    by_chance = ann2snn_cli.SpikingNetwork(encoded(snn.graph, Encoding.POISSON, 1))
    for _ in range(T):
        given = by_chance.step(x)
    assert torch.equal(given, drawn[2])
    assert torch.equal(snn.simulate(x).outputs[0], simulate(snn.graph, x).outputs[0])


def test_combinations_without_sense_are_refused(network, x, frames):
    """What, and what to give instead."""
    by_chance = ann2snn_cli.convert(network, x, timesteps=T, encoding="poisson")
    snn = ann2snn_cli.convert(network, x, timesteps=T)
    with pytest.raises(UsageError, match="converted for poisson: its inputs are spikes"):
        by_chance.simulate(x, encoding="direct")
    with pytest.raises(UsageError, match=r"draws its spikes from images.*\n.*snn\.step"):
        by_chance.sequence(x[None].expand(T, -1, -1))
    with pytest.raises(UsageError, match=r"seed=3 does nothing.*\n.*encoding='poisson'"):
        snn.simulate(x, seed=3)
    with pytest.raises(UsageError, match="did you mean poisson"):
        snn.simulate(x, encoding="poison")
    with pytest.raises(BadData, match=r"a sample has 8 frames, and there are 4 timesteps\n.*timesteps=8"):
        ann2snn_cli.convert(network, frames, timesteps=4, encoding="frames")
    with pytest.raises(BadData, match=r"\(6,\), and no axis of time"):
        ann2snn_cli.convert(network, x, timesteps=6, encoding="frames")
    with pytest.raises(UsageError, match=r"unknown setting of SNNTransformer 'encoding'"):
        ann2snn_cli.SNNTransformer(network, ["0", "1"], x, encoding="poisson")


def test_files_of_one_stimulus_are_refused(network, x, tmp_path):
    """The vector pack, ONNX and NIR; nothing is written."""
    snn = ann2snn_cli.convert(network, x, timesteps=T, encoding="poisson")
    pytest.importorskip("nir", reason="the nir extra is not installed")
    for write in (describe, lambda graph: onnx.write(graph, tmp_path / "a.onnx")):
        with pytest.raises(UnsupportedNetwork, match=r"one stimulus for all steps.*poisson"):
            write(snn.graph)
    with pytest.raises(UnsupportedNetwork, match="shown as poisson"):
        nir.write(snn.graph, tmp_path / "a.nir")
    assert list(tmp_path.iterdir()) == []


# From the command line -----------------------------------------------------------------------------


NETWORK = """
from torch import nn


def build(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, classes))
"""


@pytest.fixture
def folder(frames, tmp_path, monkeypatch):
    """A network for one frame, and frames in a file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NETWORK)
    labels = frames.mean(1).argmax(1) % 3
    np.savez("events.npz", x=frames[:, :, None].numpy(), y=labels.numpy())
    return tmp_path


def test_frames_go_the_whole_way_on_the_command_line(folder, capsys):
    """Checked, trained, converted, simulated, validated and analysed: in the reports and in the file."""
    of = ["--dataset", "npz:events.npz", "--encoding", "frames"]
    convert = ["convert", "net.py", *of, "-T", str(T), "-e", "1", "--save_file", "f.pth"]
    for words in (
        ["check", "net.py", *of, "--hardware", "v1"],
        ["train", "net.py", *of, "--epochs", "2"],
        ["validate", "net.py", *of],
        convert,
        ["validate", "f.pth"],
        ["simulate", "f.pth"],
        ["analyse-error", "net.py", *of, "-T", str(T), "-e", "0"],
    ):
        assert main([*words, "--json"]) == 0, (words, capsys.readouterr().err)
        found = json.loads(capsys.readouterr().out)
        if words[0] in ("convert", "simulate"):
            assert found["encoding"] == "frames"
            assert any("shown as frames" in note for note in found["notes"])
    assert main(["convert", "net.py", *of, "-T", "4"]) == 1
    assert "--timesteps 8" in capsys.readouterr().err
    assert main(["convert", "example_net", "--encoding", "frames"]) == 1  # its samples are images
    assert "with --encoding frames the first axis of a sample is time" in capsys.readouterr().err


def test_poisson_is_a_setting_of_convert_and_of_simulate(folder, capsys):
    """An SNN of direct input is simulated with spikes; the settings of a conversion repeat it."""
    np.savez("mine.npz", x=np.random.default_rng(0).random((60, 6), np.float32), y=np.arange(60) % 3)
    assert main(["train", "net.py", "--dataset", "npz:mine.npz", "--epochs", "1"]) == 0
    words = ["convert", "net.py", "--dataset", "npz:mine.npz", "-T", "4", "-e", "0"]
    assert main([*words, "--encoding", "poisson", "--save_file", "p.pth"]) == 0
    assert "no vector pack was written: these files hold one stimulus" in capsys.readouterr().out
    first = (folder / "p.pth").read_bytes()
    assert main(["convert", "--config", "p.yaml"]) == 0
    assert (folder / "p.pth").read_bytes() == first
    assert main([*words, "--save_file", "d.pth"]) == 0
    capsys.readouterr()
    assert main(["simulate", "d.pth", "--encoding", "poisson", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["encoding"] == "poisson"
    assert main(["simulate", "p.pth", "--encoding", "direct"]) == 2
    assert "--encoding direct" in capsys.readouterr().err
    assert main(["export", "p.pth"]) == 1


def test_an_snn_of_spikes_by_chance_draws_others_with_another_seed(network, x):
    """From Python and on the command line alike; without one, those of its conversion."""
    snn = ann2snn_cli.convert(network, x, timesteps=T, encoding="poisson", seed=5)
    own, same, other = (snn.simulate(x, seed=seed).outputs[0] for seed in (None, 5, 6))
    assert torch.equal(own, same)
    assert not torch.equal(own, other)
