"""Networks as people write them: torchvision's, with random weights, from eager to spikes."""

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import ann2snn_cli
from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.ops import BatchNorm, Relu
from ann2snn_cli.ir.run import run, run_counts
from ann2snn_cli.stages.calibrate import calibrate
from ann2snn_cli.stages.fold import fold
from ann2snn_cli.stages.quantize.weights import quantize
from ann2snn_cli.stages.simulate import simulate
from ann2snn_cli.stages.threshold import threshold
from ann2snn_cli.stages.trace import trace

SIZES = {"resnet18": 64, "vgg11_bn": 32, "mobilenet_v2": 64, "googlenet": 64, "densenet": 64}


# t, c, n, s of MobileNetV2: no expansion; a stride and a residual; a wider block without either.
SHORT_MOBILENET = [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 1, 1]]


def architecture(name):
    """The network as torchvision has it, but for blocks of the same form, which only take time to trace."""
    if name == "densenet":  # two layers a block: the same joins as densenet121
        return torchvision.models.DenseNet(block_config=(2, 2, 2, 2))
    if name == "mobilenet_v2":
        return torchvision.models.MobileNetV2(inverted_residual_setting=SHORT_MOBILENET)
    options = {"init_weights": False} if name == "googlenet" else {}
    network = getattr(torchvision.models, name)(weights=None, **options)
    if name == "googlenet":
        network.inception4b = network.inception4c = network.inception5a = nn.Identity()
    if name == "vgg11_bn":  # its own classifier has 120 million weights
        network.classifier = nn.Sequential(
            nn.Linear(512 * 49, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 10)
        )
    return network


def build(name):
    """The network with batch norms that do something."""
    torch.manual_seed(0)
    network = architecture(name)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    return network.eval()


def relative_error(got, wanted):
    """‖got − wanted‖ / ‖wanted‖."""
    return float((got.double() - wanted.double()).norm() / wanted.double().norm())


@pytest.mark.parametrize("name", SIZES)
def test_from_eager_torch_to_spikes_the_values_stay(name):
    """Folded it is what eager torch computes, in 8 bits within 6 % of it; its spikes count exactly that."""
    network = build(name)
    brightness = torch.linspace(0.1, 1, 4).reshape(4, 1, 1, 1)
    x = brightness * torch.rand(4, 3, SIZES[name], SIZES[name], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = network(x)

    folded = fold(trace(network, [tuple(x.shape[1:])]))
    assert not folded.of(BatchNorm)
    assert relative_error(run(folded, x)[0], wanted) <= 1e-5

    calibrated = calibrate(folded, [x], mode="max", timesteps=256)
    quantized = threshold(quantize(calibrated, Contract(256), weight_bitwidth=8))
    assert relative_error(run_counts(quantized, x.double())[0], wanted) <= 0.06

    spiking = threshold(quantize(calibrated, Contract(3, delay=3), weight_bitwidth=8))
    counted = run_counts(spiking, x[:1].double())[0]
    assert torch.equal(simulate(spiking, x[:1]).outputs[0], counted)
    assert bool((counted != 0).any())


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
