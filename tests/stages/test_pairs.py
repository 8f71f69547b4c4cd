"""Many linear layers without a ReLU: a pair of populations hands the values on, or integers exceed 2^53."""

import pytest
import torch
from relative import relative_error
from torch import nn
from torch.nn import functional as F

import ann2snn_cli
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import Input, Integrate, IntegrateFire, Linear, Relu
from ann2snn_cli.ir.run import run
from ann2snn_cli.stages.export.pack import Sample
from ann2snn_cli.stages.pairs import with_pairs
from ann2snn_cli.twins import c, replay
from ann2snn_cli.workflows.pack import write_samples

EIGHT_BITS = {"weight_bitwidth": 8, "mode": "max", "schedule": "layerwise", "finetune_epochs": 0}


def chain(layers):
    """So many convolutions, and nothing else."""
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(16, 16, 3, padding=1) for _ in range(layers - 2)]
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), *convolutions, nn.Conv2d(16, 2, 3, padding=1)).eval()


@pytest.mark.parametrize("layers", [4, 7])
def test_a_chain_of_convolutions_converts(layers):
    """At 8 bits within 5 % of what varies; it was refused. The report says where, and why."""
    network, x = chain(layers), torch.rand(24, 1, 6, 6)
    with torch.no_grad():
        wanted = network(x)

    snn = ann2snn_cli.convert(network, x, timesteps=96, **EIGHT_BITS)

    assert relative_error(snn.simulate(x).outputs[0], wanted) <= 0.05
    (behind,) = snn.graph.of(IntegrateFire)[:1]
    assert behind.source == "2"
    (note, *_) = [note for note in snn.provenance.notes if "pair of populations" in note]
    assert "behind 2 " in note
    assert "2^53" in note


def test_a_chain_that_fits_is_left_alone():
    """Linear layers of currents are exact: no population where none is needed."""
    snn = ann2snn_cli.convert(chain(3), torch.rand(24, 1, 6, 6), timesteps=8, **EIGHT_BITS)

    assert not snn.graph.of(IntegrateFire)


@pytest.mark.parametrize(
    "twin", [replay, pytest.param(c, marks=pytest.mark.skipif(c.unavailable() != "", reason="no C"))]
)
def test_twins_agree_on_a_pair(twin, tmp_path):
    """It is made of ops that they have: no value differs, for D = T and for none."""
    snn = ann2snn_cli.convert(chain(4), torch.rand(24, 1, 6, 6), timesteps=8, **EIGHT_BITS)
    (entry,) = snn.graph.inputs
    stimulus = torch.randint(0, 256, entry.shape, generator=torch.Generator().manual_seed(1))

    for delay in (0, 8):
        graph = snn.graph.with_nodes(snn.graph.nodes, contract=snn.graph.timing.with_delay(delay))
        sample = Sample("a", "real", "drawn", {entry.name: stimulus})
        pack = replay.read(write_samples(graph, [sample], tmp_path / str(delay)))
        (work := tmp_path / f"work{delay}").mkdir()
        outcome = twin.verify(pack, ["a"], work)
        assert outcome.checked > 0
        assert outcome.mismatches == 0


class Pyramid(nn.Module):
    """Two levels of a feature pyramid as torchvision builds it, and a head for both."""

    def __init__(self):
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.inner = nn.ModuleList([nn.Conv2d(16, 24, 1), nn.Conv2d(32, 24, 1)])
        self.layer = nn.ModuleList([nn.Conv2d(24, 24, 3, padding=1) for _ in range(2)])
        self.more = nn.Conv2d(24, 24, 3, stride=2, padding=1)
        self.head, self.out = nn.Conv2d(24, 24, 3, padding=1), nn.Conv2d(24, 3, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # else next to nothing varies behind so many layers
                nn.init.xavier_uniform_(module.weight, gain=1.5)

    def forward(self, x):
        fine = F.relu(self.fine(x))
        top = self.inner[1](F.relu(self.coarse(fine)))
        down = self.inner[0](fine) + F.interpolate(top, scale_factor=2)
        levels = [self.layer[0](down), self.layer[1](top)]
        levels.append(self.more(levels[1]))
        return tuple(self.out(F.relu(self.head(level))) for level in levels)


def test_a_feature_pyramid_converts():
    """Lateral, output and head convolutions, and one level more, without a ReLU between them."""
    torch.manual_seed(0)
    network, x = Pyramid().eval(), torch.rand(24, 1, 8, 8) * torch.rand(24, 1, 1, 1)
    with torch.no_grad():
        wanted = network(x)

    snn = ann2snn_cli.convert(network, x, timesteps=128, **EIGHT_BITS)

    assert any("pair of populations" in note for note in snn.provenance.notes)
    for result, wished in zip(snn.simulate(x).outputs, wanted, strict=True):
        assert relative_error(result, wished) <= 0.1


def test_a_pair_is_the_same_function():
    """In real numbers; neurons that read the values, and outputs, keep them as they are."""
    weight = torch.tensor([[1.0, -2.0], [3.0, 0.5]], dtype=torch.float64)
    nodes = [
        ("x", Input(), (), (2,)),
        ("a", Linear(weight), ("x",), (2,)),
        ("b", Linear(weight), ("a",), (2,)),
        ("relu", Relu(), ("a",), (2,)),
        ("end", Integrate(), ("b",), (2,)),
        ("out", Integrate(), ("a",), (2,)),
    ]
    graph = Graph(tuple(Node(*node) for node in nodes), ("end", "relu", "out"), Level.FOLDED)
    x = torch.randn(5, 2, dtype=torch.float64)

    paired = with_pairs(graph, ["a"], x)

    for result, wanted in zip(run(paired, x), run(graph, x), strict=True):
        torch.testing.assert_close(result, wanted)
    assert paired["relu"].inputs == ("a",)
    assert paired["b"].inputs == ("a.pair",)
    torch.testing.assert_close(paired["a.positive"].op.bias, -(x @ weight.T).mean(0))
