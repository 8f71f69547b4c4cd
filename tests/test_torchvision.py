"""Networks as people write them: torchvision's, with random weights, from eager to spikes."""

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import ann2snn_cli
from ann2snn_cli.ir.ops import BatchNorm, Relu
from ann2snn_cli.ir.run import run
from ann2snn_cli.stages.fold import fold
from ann2snn_cli.stages.trace import trace

SIZES = {"resnet18": 64, "vgg16_bn": 32, "mobilenet_v2": 64, "googlenet": 64, "densenet121": 64}


def build(name):
    """The network with batch norms that do something."""
    torch.manual_seed(0)
    options = {"init_weights": False} if name == "googlenet" else {}
    network = getattr(torchvision.models, name)(weights=None, **options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    return network.eval()


@pytest.mark.parametrize("name", SIZES)
def test_folding_keeps_the_function_and_two_steps_run(name):
    """Traced and folded it computes what eager torch does (1e-4 relative); converted it simulates 2 steps."""
    network = build(name)
    x = torch.rand(2, 3, SIZES[name], SIZES[name], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = network(x)

    folded = fold(trace(network, [tuple(x.shape[1:])]))
    got = run(folded, x)[0]
    assert not folded.of(BatchNorm)
    assert (got - wanted).abs().max() <= 1e-4 * wanted.abs().max()

    outputs = ann2snn_cli.convert(network, x, timesteps=2)(x)
    assert outputs.shape == wanted.shape
    assert torch.isfinite(outputs).all()


class Habits(nn.Module):
    """What people write inside forward()."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.other = nn.Conv2d(4, 4, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.linear = nn.Linear(8 * 64, 5)

    def forward(self, x):
        y = self.relu(self.conv(x))
        z = self.relu(self.other(y))
        z += y
        z = torch.cat([F.relu(z), y], dim=1)
        return self.linear(self.drop(z.view(z.size(0), -1)))


def test_a_network_full_of_habits_converts():
    """Functional relu, `x += y`, view, cat, a ReLU module used twice, dropout: nothing needs rewriting."""
    torch.manual_seed(0)
    network = Habits().eval()
    x = torch.rand(6, 1, 8, 8)

    folded = fold(trace(network, [(1, 8, 8)]))
    assert len(folded.of(Relu)) == 3
    assert torch.allclose(run(folded, x)[0], network(x), atol=1e-5)

    snn = ann2snn_cli.convert(network, x, weight_bitwidth=8, timesteps=128, mode="max", schedule="layerwise")
    assert (snn(x) - network(x)).abs().max() < 0.05 * network(x).abs().max()
