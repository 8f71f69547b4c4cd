"""What a user's own functions decide about populations (B3): the clip of each, in the place of the mode."""

import math
from functools import cache

import pytest
import torch
from torch import nn

import ann2snn_cli
from ann2snn_cli.config import Hardware
from ann2snn_cli.errors import HardwareViolations, UsageError
from ann2snn_cli.ir.ops import IntegrateFire, Relu
from ann2snn_cli.ir.user_rules import user_rules
from ann2snn_cli.stages.calibrate import calibrate
from ann2snn_cli.stages.fold import fold
from ann2snn_cli.stages.own_populations import own_populations
from ann2snn_cli.stages.trace import trace

SETTINGS = {"weight_bitwidth": 8, "timesteps": 16, "schedule": "layerwise"}


def small_network():
    """Two convolutions, a pooling and a linear layer, and samples for them."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU6(),
        nn.Flatten(), nn.Linear(36, 3),
    )  # fmt: skip
    return network.eval(), torch.rand(32, 1, 6, 6)


@cache
def folded_small_network():
    """Traced once for all tests."""
    return fold(trace(small_network()[0], [(1, 6, 6)]))


def calibrated(clip, network=None, x=None, **settings):
    """The clips of a network's populations, by name."""
    if network is None:
        folded, x = folded_small_network(), small_network()[1]
    else:
        folded = fold(trace(network, [tuple(x.shape[1:])]))
    graph = own_populations(folded, user_rules({"clip": clip}))
    return {node.name: node.op.clip for node in calibrate(graph, [x], **settings).of(Relu)}


def activations_of_torch():
    """By layer, what torch computes."""
    network, x = small_network()
    found = {}
    with torch.no_grad():
        for name, layer in network.named_children():
            x = layer(x)
            found[name] = x
    return found


def test_the_rule_sees_what_torch_computes():
    """Layer by layer: name, shape, largest, percentile and mean to one bin, the largest of each channel."""
    seen = {}
    wanted = activations_of_torch()

    calibrated(lambda layer: seen.setdefault(layer.name, layer).largest)

    assert list(seen) == ["1", "4"]
    for name, layer in seen.items():
        values = wanted[name]
        bin_size = layer.largest / 4096
        assert layer.shape == tuple(values.shape[1:])
        assert layer.source == name
        assert layer.limit == (6.0 if name == "4" else None)
        assert layer.largest == pytest.approx(float(values.max()), rel=1e-6)
        assert layer.mean == pytest.approx(float(values.mean()), abs=bin_size)
        nine_tenths = values.flatten().kthvalue(math.ceil(0.9 * values.numel())).values
        assert layer.percentile(90) == pytest.approx(float(nine_tenths), abs=bin_size)
        by_channel = values.amax((0, 2, 3))
        by_channel = torch.where(by_channel > 0, by_channel, values.max())  # of a silent channel that of all
        torch.testing.assert_close(layer.largest_by_channel.flatten().float(), by_channel, rtol=1e-6, atol=0)


@pytest.mark.parametrize("mode", ["max", "99%", "mse", "0.5"])
def test_what_a_mode_chooses_a_rule_can_ask_for(mode):
    """`layer.by_mode(mode)` is the clip of `mode`, in every layer."""
    graph = calibrate(folded_small_network(), [small_network()[1]], mode=mode)
    assert calibrated(lambda layer: layer.by_mode(mode)) == {
        node.name: node.op.clip for node in graph.of(Relu)
    }


def test_a_clip_is_the_number_that_the_rule_gives_below_the_limit_of_the_activation():
    """Whatever number type it has; ReLU6 never passes on more than 6."""
    for number in (2, 2.5, torch.tensor(2.5), torch.tensor([2.5], dtype=torch.float16)):
        assert set(map(float, calibrated(lambda layer, n=number: n).values())) == {float(number)}
    assert float(calibrated(lambda layer: 100.0)["4"]) == 6.0


@pytest.mark.filterwarnings("ignore::ann2snn_cli.DamageWarning")
def test_clips_by_channel_are_thresholds_by_channel_and_lose_less():
    """Behind Python's API: a threshold for each channel; D = T is nearer to torch than with one clip.

    The oracle is torch: channels of very different size share one clip badly.
    """
    network, x = small_network()
    with torch.no_grad():
        network[0].weight *= torch.tensor([0.02, 0.2, 1.0, 3.0]).reshape(4, 1, 1, 1)
        network[0].bias.abs_().mul_(torch.tensor([0.02, 0.2, 1.0, 3.0]))
        network[3].weight /= torch.tensor([0.02, 0.2, 1.0, 3.0]).reshape(1, 4, 1, 1)
        wanted = network(x)

    def error(clip):
        snn = ann2snn_cli.convert(network, x, rules={"clip": clip}, channel_wise=True, **SETTINGS)
        return float((snn(x) - wanted).abs().mean()), snn

    by_channel, snn = error(lambda layer: layer.largest_by_channel)
    by_layer, _ = error(lambda layer: layer.largest)

    assert [node.op.threshold.shape for node in snn.graph.of(IntegrateFire)] == [(4, 1, 1), (4, 1, 1)]
    assert by_channel < by_layer / 4


def test_features_behind_a_linear_layer_are_channels():
    """One clip for each of the last axis, also where tokens lie before it."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    x = torch.rand(8, 3, 5)
    (clip,) = calibrated(lambda layer: layer.largest_by_channel, network, x).values()
    with torch.no_grad():
        wanted = torch.relu(network[0](x)).amax((0, 1))
    assert clip.shape == (1, 4)
    torch.testing.assert_close(clip[0].float(), torch.where(wanted > 0, wanted, wanted.max()))


def test_a_silent_population_is_not_asked_about():
    """Any clip represents its zeros."""
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).eval()
    with torch.no_grad():
        network[0].weight.fill_(-1)
        network[0].bias.fill_(-1)
    assert calibrated(lambda layer: 1 / 0, network, torch.rand(4, 2)) == {"1": torch.tensor(1.0)}


def test_a_chip_with_one_threshold_a_population_refuses_clips_by_channel():
    """The violation names the layer; the remedy is one clip."""
    network, x = small_network()
    chip = Hardware("one", ops=("conv", "avg_pool", "linear", "reshape"), channel_wise_threshold=False)
    with pytest.raises(HardwareViolations) as refused:
        ann2snn_cli.convert(
            network, x, rules={"clip": lambda layer: layer.largest_by_channel}, hardware=chip, **SETTINGS
        )
    broken = refused.value.violations
    assert {verdict.rule for verdict in broken} == {"channel_wise_threshold"}
    assert {verdict.layer for verdict in broken} == {"1", "4"}
    assert "one clip" in broken[0].remedy


def test_a_rule_and_a_mode_are_not_given_both():
    """The mode would do nothing; the remedy says what to leave out."""
    network, x = small_network()
    with pytest.raises(UsageError, match="does nothing") as refused:
        ann2snn_cli.convert(network, x, rules={"clip": lambda layer: 1.0}, mode="max", **SETTINGS)
    assert "mode" in refused.value.where
    assert 'by_mode("max")' in refused.value.remedy


def test_the_notes_name_the_rule_and_say_where_it_was_not_used():
    """By its file."""
    network, x = small_network()
    snn = ann2snn_cli.convert(network, x, rules={"clip": lambda layer: layer.largest}, **SETTINGS)
    assert "rule for clip from test_own_populations.py" in snn.provenance.notes
    linear = nn.Linear(3, 2).eval()
    snn = ann2snn_cli.convert(linear, torch.rand(8, 3), rules={"clip": lambda layer: 1.0}, **SETTINGS)
    assert "rule for clip from test_own_populations.py: not used" in snn.provenance.notes


def given(value):
    """A rule that gives this, whatever it is shown."""

    def clip(layer):
        return value

    return clip


WRONG = {
    "nothing": (given(None), "gave a NoneType"),
    "a word": (given("99%"), "gave a str"),
    "a truth": (given(True), "gave a bool"),
    "a list": (given([1.0]), "gave a list"),
    "no number": (given(float("nan")), "gave nan"),
    "no end": (given(float("inf")), "gave inf"),
    "negative": (given(-1.5), "gave -1.5"),
    "zero": (given(0), "gave 0"),
    "zero in a channel": (lambda layer: layer.largest_by_channel * 0, "gave 0"),
    "another shape": (given(torch.ones(5)), r"gave numbers of shape \(5,\)"),
    "a number for each neuron": (lambda layer: torch.ones(layer.shape), r"shape \(4, 6, 6\)"),
    "complex": (given(torch.tensor(1j)), "gave a Tensor"),
    "raises": (lambda layer: 1 / 0, "ZeroDivisionError"),
    "takes nothing": (lambda: 1.0, "TypeError"),
    "an unknown mode": (lambda layer: layer.by_mode("mean"), "no mode 'mean'"),
    "a mode on spikes": (lambda layer: layer.by_mode("spikes"), "layer by layer"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_clip_is_one_clear_error(what):
    """It says that the function is the user's, its file, its name or line, the layer, and the remedy."""
    rule, message = WRONG[what]
    with pytest.raises(UsageError, match=message) as refused:
        calibrated(rule)
    error = refused.value
    assert "test_own_populations.py" in error.where
    assert "rule for clip" in f"{error.what} {error.remedy}"
    assert " at 1" in f"{error.what} {error.remedy}"
    assert error.remedy


@pytest.mark.parametrize("rule", [3, "max", nn.Identity])
def test_what_is_no_function_is_refused_before_any_work(rule):
    """The remedy shows one."""
    with pytest.raises(UsageError, match="not a function") as refused:
        user_rules({"clip": rule})
    assert "def clip(layer)" in refused.value.remedy
