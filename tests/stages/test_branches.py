"""Branches of different unit that meet in one synapse have a grid each (SPEC 2): networks against torch."""

import pytest
import torch
from relative import relative_error
from torch import nn
from torch.nn import functional as F

from ann2snn_cli.errors import UnsupportedNetwork
from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import (
    Add,
    Concat,
    Conv,
    Input,
    IntegrateFire,
    Linear,
    Relu,
    Reshape,
)
from ann2snn_cli.ir.run import run_counts
from ann2snn_cli.stages.calibrate import calibrate
from ann2snn_cli.stages.fold import fold
from ann2snn_cli.stages.quantize.finetune import Finetuning, finetune
from ann2snn_cli.stages.quantize.weights import quantize
from ann2snn_cli.stages.simulate import simulate
from ann2snn_cli.stages.threshold import threshold
from ann2snn_cli.stages.trace import trace

STEPS = 128


def real(*values):
    """Reals."""
    return torch.tensor(values, dtype=torch.float64)


class UNetStep(nn.Module):
    """A transposed convolution without ReLU beside a convolution with one."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.down = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.join = nn.Conv2d(16, 8, 3, padding=1)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        fine = F.relu(self.first(x))
        coarse = self.up(F.relu(self.down(fine)))
        return self.out(F.relu(self.join(torch.cat([coarse, fine], 1))))


class TwoLinears(nn.Module):
    """Linear layers with and without ReLU."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(32, 10)

    def forward(self, x):
        return self.c(torch.cat([self.a(x), F.relu(self.b(x))], 1))


class Tokens(nn.Module):
    """A class token and position embedding added to patches, then one step of a transformer's kind."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(1, 16, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 16) / 2)
        self.position = nn.Parameter(torch.randn(1, 5, 16) / 2)
        self.up, self.down, self.head = nn.Linear(16, 32), nn.Linear(32, 16), nn.Linear(16, 10)

    def forward(self, x):
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), patches], 1) + self.position
        tokens = tokens + self.down(F.relu(self.up(tokens)))
        return self.head(tokens).mean(1)


class NormBehindConcat(nn.Module):
    """A batch norm that no convolution before it can take in."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.c, self.out = nn.Conv2d(16, 8, 3, padding=1), nn.Linear(512, 10)
        with torch.no_grad():
            self.norm.running_mean.uniform_(-0.2, 0.5)
            self.norm.running_var.uniform_(0.2, 2)
            self.norm.weight.uniform_(0.5, 2)
            self.norm.bias.uniform_(-0.5, 0.5)

    def forward(self, x):
        joined = F.relu(self.norm(torch.cat([self.a(x), F.relu(self.b(x))], 1)))
        return self.out(F.relu(self.c(joined)).flatten(1))


NETWORKS = {  # with a sample's shape
    "a U-Net's step": (UNetStep, (1, 8, 8)),
    "two linear layers": (TwoLinears, (16,)),
    "class token and patches": (Tokens, (1, 8, 8)),
    "a batch norm behind a concat": (NormBehindConcat, (1, 8, 8)),
}


def made(name):
    """(network with seeded weights, 64 samples)."""
    kind, shape = NETWORKS[name]
    torch.manual_seed(0)
    return kind().eval(), torch.rand(64, *shape)


def quantized(network, x, bits, channel_wise=False, steps=STEPS):
    """The network at level QUANTIZED, D = T."""
    graph = calibrate(fold(trace(network, [tuple(x.shape[1:])])), [x], mode="max", timesteps=steps)
    contract = Contract(steps, delay=steps)
    return quantize(graph, contract, weight_bitwidth=bits, channel_wise=channel_wise)


def error_of(name, bits, channel_wise):
    """What the SNN of D = T is off by, relative to what varies between samples."""
    network, x = made(name)
    with torch.no_grad():
        wanted = network(x)
    spiking = threshold(quantized(network, x, bits, channel_wise))
    return relative_error(simulate(spiking, x).outputs[0], wanted)


@pytest.mark.parametrize("channel_wise", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_branch_is_rounded_away(name, channel_wise):
    """At 8 bits 5 % of what varies between samples; with one grid for all it was 65 to 100 %."""
    assert error_of(name, 8, channel_wise) <= 0.05


@pytest.mark.parametrize("channel_wise", [False, True])
def test_at_four_bits_a_batch_norm_behind_a_concat_is_damaged_by_its_bits_alone(channel_wise):
    """With one grid for both branches it was 95 %."""
    assert error_of("a batch norm behind a concat", 4, channel_wise) <= 0.25


class Grouped(nn.Module):
    """A grouped convolution, or a transposed one, that reads a concat whose branches straddle its groups."""

    def __init__(self, transposed):
        super().__init__()
        kind = nn.ConvTranspose2d if transposed else nn.Conv2d
        self.a, self.b = nn.Conv2d(1, 5, 3, padding=1), nn.Conv2d(1, 7, 3, padding=1)
        self.c, self.out = kind(12, 8, 3, padding=1, groups=4), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        return self.out(F.relu(self.c(torch.cat([self.a(x), F.relu(self.b(x))], 1))))


@pytest.mark.parametrize("channel_wise", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_network_whose_branches_straddle_groups(transposed, channel_wise):
    """Against torch at 8 bits."""
    torch.manual_seed(1)
    network, x = Grouped(transposed).eval(), torch.rand(64, 1, 6, 6)
    with torch.no_grad():
        wanted = network(x)

    spiking = threshold(quantized(network, x, 8, channel_wise))

    assert relative_error(simulate(spiking, x).outputs[0], wanted) <= 0.05


# Finetuning, and what cannot be done ---------------------------------------------------------------


class NoMetric:
    """Nothing is measured here."""

    def update(self, outputs, labels):
        pass

    def result(self):
        return {}


@pytest.mark.parametrize("channel_wise", [False, True])
@pytest.mark.parametrize("name", ["a U-Net's step", "two linear layers"])
def test_what_is_finetuned_is_what_is_exported(name, channel_wise):
    """After training, with steps by branch learned, D = T is the quantized network: 0 differing counts."""
    network, x = made(name)
    before = quantized(network, x, 4, channel_wise, steps=8)

    def loss(outputs, labels):
        return outputs[0].square().mean()

    after = finetune(
        before,
        lambda epoch: [(x[:32], torch.zeros(32))],
        Finetuning(epochs=2, lr=0.1),
        loss=loss,
        metric=NoMetric,
    )

    synapse = next(node.name for node in before if getattr(node.op, "branch", None) is not None)
    assert after[synapse].op.step.shape == before[synapse].op.step.shape
    assert not torch.equal(after[synapse].op.step, before[synapse].op.step)
    spiking, counts = threshold(after), {}
    outputs = run_counts(spiking, x.double(), lambda node, value: counts.update({node.name: value}))
    found = simulate(spiking, x, counts=True)
    assert torch.equal(found.outputs[0], outputs[0])
    populations = [node.name for node in spiking.of(IntegrateFire)]
    assert populations
    assert all(torch.equal(found.counts[name].double(), counts[name]) for name in populations)


def test_values_of_one_channel_with_different_units_are_brought_to_one():
    """Along an axis that a weight does not tell apart, an addition of one input comes before the synapse."""
    nodes = [
        ("x", Input(unit=0.5), (), (1, 2)),
        ("n", Relu(clip=real(2.0)[0]), ("x",), (1, 2)),
        ("both", Concat(), ("x", "n"), (2, 2)),
        ("row", Reshape(), ("both",), (1, 4)),
        ("conv", Conv(real(1.0, 1.0).reshape(1, 1, 2), None, (1,), (0,), (1,)), ("row",), (1, 3)),
        ("out", Relu(clip=real(9.0)[0]), ("conv",), (1, 3)),
    ]
    graph = Graph(tuple(Node(*node) for node in nodes), ("out",), Level.CALIBRATED)

    spiking = threshold(quantize(graph, Contract(4), weight_bitwidth=8))

    (before,) = spiking.fed_by(spiking["conv"])
    assert isinstance(before.op, Add)
    assert before.op.weights[0].flatten().tolist() == [1, 1, 4, 4]
    assert float(before.unit) == 0.5


def test_at_32_bits_too():
    """While steps are chosen it is known already that additions give real numbers, whose unit is 1."""
    nodes = [
        ("x", Input(unit=0.5), (), (1, 2)),
        ("twice", Add(), ("x", "x"), (1, 2)),
        ("both", Concat(), ("x", "twice"), (2, 2)),
        ("row", Reshape(), ("both",), (1, 4)),
        ("conv", Conv(real(1.0, 1.0).reshape(1, 1, 2), None, (1,), (0,), (1,)), ("row",), (1, 3)),
        ("out", Relu(clip=real(9.0)[0]), ("conv",), (1, 3)),
    ]
    graph = Graph(tuple(Node(*node) for node in nodes), ("out",), Level.CALIBRATED)

    spiking = threshold(quantize(graph, Contract(64), weight_bitwidth=32))

    (out,) = run_counts(spiking, real(1.0, 2.0).reshape(1, 1, 2))
    assert out.flatten().tolist() == pytest.approx([3.0, 4.0, 6.0], abs=9 / 64)


def test_integers_that_float64_cannot_hold_are_refused_by_layer():
    """Linear layers without a ReLU between them: thresholds grow 127-fold with each."""
    nodes = [Node("n0", Input(unit=1e-3), (), (1,))]
    for place in range(1, 9):
        weight = torch.ones(1, 1, dtype=torch.float64)
        nodes.append(Node(f"n{place}", Linear(weight), (f"n{place - 1}",), (1,), f"net.{place}"))
    nodes.append(Node("out", Relu(clip=real(1.0)[0]), ("n8",), (1,), "net.act"))
    graph = quantize(Graph(tuple(nodes), ("out",), Level.CALIBRATED), Contract(4), weight_bitwidth=8)

    with pytest.raises(UnsupportedNetwork, match="exceed 2") as refused:
        threshold(graph)

    assert refused.value.where == "net.act"
    assert "weight_bitwidth" in refused.value.remedy
