"""Clips that are set layer by layer on the spikes of the layers before: the strategy of V1.6."""

import pytest
import torch
from torch import nn

import ann2snn_cli
from ann2snn_cli.ir.ops import IntegrateFire, Linear

STEPS = 4
pytestmark = pytest.mark.filterwarnings("ignore::ann2snn_cli.DamageWarning")  # of random networks


def network_and_samples():
    """Two populations, and what charges them."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 3))
    return network, torch.rand(12, 6)


def converted(network, x, **settings):
    """Without any other change of biases or weights."""
    settings = {"weight_bitwidth": 32, "timesteps": STEPS, "bias_correction": False} | settings
    return ann2snn_cli.convert(network, x, **settings)


def spikes_by_hand(currents, clip, steps, delay):
    """Integrate and fire in real numbers: half a clip before the first step, one clip less a spike."""
    potential, fired = torch.full_like(currents[0], clip / 2), []
    for step in range(steps + delay):
        potential = potential + (currents[step] if step < steps else 0)
        if step >= delay:
            fired.append((potential >= clip).double())
            potential = potential - fired[-1] * clip
    return torch.stack(fired)


@pytest.mark.parametrize("delay", [0, 2, STEPS])
@pytest.mark.parametrize(("mode", "part"), [("spikes", 0.99), ("spikes:90%", 0.9)])
def test_a_clip_is_the_mean_percentile_of_what_one_step_charges(mode, part, delay):
    """A6: of the spikes of the layer before, as it fires at this delay, by hand in torch."""
    network, x = network_and_samples()
    snn = converted(network, x, mode=mode, delay=delay)
    first, second = (node.known_unit.item() for node in snn.graph.of(IntegrateFire))

    x = (x.double() * 255 / x.max().double()).round() * x.max().double() / 255  # the input has 8 bits
    currents = network.double()[0](x).expand(STEPS, -1, -1)
    clip = currents.quantile(part, dim=-1).mean().item()
    assert first == pytest.approx(clip, rel=1e-6)
    spikes = spikes_by_hand(currents, clip, STEPS, delay)
    currents = network[2](spikes * clip)
    assert second == pytest.approx(currents.quantile(part, dim=-1).mean().item(), rel=1e-6)


def test_weights_absorb_the_clips_before_them():
    """A6: the largest weight, times the clip of what it reads, is the largest code: 127 at 8 bits."""
    network, x = network_and_samples()
    snn = converted(network, x, mode="spikes", weight_bitwidth=8)
    first, _ = (node.known_unit.item() for node in snn.graph.of(IntegrateFire))
    step = snn.graph.of(Linear)[1].known_unit.item()
    assert step == pytest.approx(network[2].weight.abs().max().item() * first / 127, rel=1e-6)


def test_a_limit_holds_on_spikes_too():
    """A ReLU6 never stands for more than 6."""
    network = nn.Sequential(nn.Linear(2, 8), nn.ReLU6(), nn.Linear(8, 2))
    nn.init.constant_(network[0].weight, 20.0)
    snn = converted(network, torch.rand(8, 2) + 0.5, mode="spikes:100%")
    (clip,) = (node.known_unit.item() for node in snn.graph.of(IntegrateFire))
    assert clip == pytest.approx(6)


def test_a_population_that_nothing_charges_keeps_a_clip():
    """Silent neurons need a threshold, too."""
    network = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    nn.init.constant_(network[0].weight, -1.0)
    nn.init.constant_(network[0].bias, -1.0)
    snn = converted(network, torch.rand(8, 2), mode="spikes", weight_bitwidth=4)
    assert torch.allclose(snn(torch.rand(3, 2)).float(), network[2].bias.detach(), atol=1e-2)
