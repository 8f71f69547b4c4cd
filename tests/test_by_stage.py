"""The stages one at a time, from Python: the same network at every level, scored at each."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ann2snn_cli
from ann2snn_cli import UsageError
from ann2snn_cli.ir.graph import Level
from ann2snn_cli.ir.ops import BatchNorm, Conv, IntegrateFire, Scale
from ann2snn_cli.ir.run import run

# Random weights at few steps are far from the float network, and that is not what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore::ann2snn_cli.snn.DamageWarning")


@pytest.fixture
def network(small_network):
    """The small network in training mode, with a batch norm that does something."""
    norm = small_network[1]
    with torch.no_grad():
        for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            values.copy_(torch.rand(4, generator=torch.Generator().manual_seed(1)) + 0.5)
    return small_network.train()


@pytest.fixture
def pairs(small_data):
    """48 labelled images of 2x6x6."""
    return small_data.x, small_data.y


def eager(network, x):
    """What the network gives in eval mode, by torch alone."""
    network.eval()
    with torch.no_grad():
        outputs = network(x)
    network.train()
    return outputs


def test_top_1_and_loss_of_an_ann_are_those_that_a_hand_computes():
    """(A8) Logits (2, 0) and (0, 1): one right of two, losses log(1 + e^-2) and log(1 + e)."""
    network = nn.Linear(2, 2, bias=False)
    network.weight.data = torch.eye(2)

    found = ann2snn_cli.validate(network, (torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])))

    assert found.accuracy == 0.5
    assert found.loss == pytest.approx((math.log(1 + math.exp(-2)) + math.log(1 + math.e)) / 2)
    assert (found.samples, dict(found.firing_rate)) == (2, {})


def test_every_level_scores_what_torch_computes_of_its_outputs(network, pairs):
    """(A8) The ANN, the folded graph and the SNN: cross entropy and the share of right answers."""
    graph = ann2snn_cli.fuse_batch_norms(network, pairs)
    snn = ann2snn_cli.set_weights_and_thresholds(ann2snn_cli.quantize_and_finetune(graph, pairs, timesteps=6))
    for what, outputs in (
        (network, eager(network, pairs[0])),
        (graph, run(graph, pairs[0])[0]),
        (snn, snn(pairs[0])),
    ):
        found = ann2snn_cli.validate(what, pairs)
        assert found.loss == pytest.approx(float(F.cross_entropy(outputs, pairs[1])), rel=1e-5)
        assert found.accuracy == pytest.approx(float((outputs.argmax(1) == pairs[1]).float().mean()))
    assert network.training, "the network of the user is as it was"


def test_firing_rates_are_spikes_by_neurons_samples_and_steps(network, pairs):
    """(A8) Counted from the trains that the reference engine steps."""
    snn = ann2snn_cli.convert(network, pairs, timesteps=6)
    trains = {}
    snn.simulate(pairs[0], engine="reference", watch=lambda node, act: trains.update({node.name: act.train}))

    found = ann2snn_cli.validate(snn, pairs)

    fires = [node.name for node in snn.graph.of(IntegrateFire)]
    assert list(found.firing_rate) == fires
    for name in fires:
        assert found.firing_rate[name] == pytest.approx(float(trains[name].double().mean()))
    assert found.spikes_per_sample == pytest.approx(sum(float(trains[name].sum()) for name in fires) / 48)


def test_a_fused_batch_norm_is_gone_and_the_function_the_same(network, pairs):
    """(A4, B2) FOLDED computes what torch does; not fused, the batch norm stays a node of its own."""
    for fused in (True, False):
        graph = ann2snn_cli.fuse_batch_norms(network, pairs[0], batch_norm=fused)

        assert graph.level is Level.FOLDED
        assert not graph.of(BatchNorm)
        assert bool(graph.of(Scale)) is not fused
        torch.testing.assert_close(run(graph, pairs[0])[0], eager(network, pairs[0]))


def test_activations_that_neurons_replace_come_near_with_time(network, pairs):
    """(B1, B3) Weights stay floats: with 512 steps the outputs are torch's, to 1 % of the largest."""
    graph = ann2snn_cli.fuse_batch_norms(network, pairs[0])

    snn = ann2snn_cli.replace_activations(graph, pairs[0], timesteps=512, mode="max", schedule="layerwise")

    assert all(node.op.weight.is_floating_point() for node in snn.graph.of(Conv))
    wanted = eager(network, pairs[0])
    assert (snn(pairs[0]) - wanted).abs().max() < 0.01 * wanted.abs().max()


@pytest.mark.parametrize(
    "flags", [{}, {"finetune_epochs": 1, "delay": 2}, {"weight_bitwidth": 8, "mode": "max"}]
)
def test_the_stages_one_by_one_are_the_conversion(network, pairs, flags):
    """The same integers as `convert` with the same flags: no stage is written twice."""
    graph = ann2snn_cli.fuse_batch_norms(network, pairs)
    graph = ann2snn_cli.quantize_and_finetune(graph, pairs, timesteps=6, **flags)
    assert graph.level is Level.QUANTIZED
    snn = ann2snn_cli.set_weights_and_thresholds(graph)

    wanted = ann2snn_cli.convert(network, pairs, timesteps=6, **flags)

    assert repr(snn) == repr(wanted)
    assert torch.equal(snn(pairs[0]), wanted(pairs[0]))


def test_what_does_not_belong_to_a_stage_is_refused(network, pairs):
    """Another level, a setting of another stage, samples without labels, an engine without steps."""
    x = pairs[0]
    graph = ann2snn_cli.fuse_batch_norms(network, x)
    for use, said in (
        (lambda: ann2snn_cli.set_weights_and_thresholds(graph), "FOLDED\n.*quantize_and_finetune returns"),
        (lambda: ann2snn_cli.quantize_and_finetune(network, x), "of type Sequential\n.*fuse_batch_norms"),
        (
            lambda: ann2snn_cli.fuse_batch_norms(network, x, timesteps=4),
            "unknown setting of fuse_batch_norms",
        ),
        (lambda: ann2snn_cli.quantize_and_finetune(graph, x, finetune_epochs=1), "without labels"),
        (lambda: ann2snn_cli.quantize_and_finetune(graph, x, engine="quick"), "unknown engine 'quick'"),
        (lambda: ann2snn_cli.replace_activations(graph, x, weight_bitwidth=4), "weight_bitwidth"),
        (lambda: ann2snn_cli.validate(network, x), "without labels cannot be scored\n.*labels"),
        (lambda: ann2snn_cli.validate(network, pairs, engine="fused"), "does nothing: this is no SNN"),
    ):
        with pytest.raises(UsageError, match=said):
            use()


@pytest.mark.parametrize("encoding", ["direct", "poisson", "frames"])
def test_samples_are_shown_as_the_first_stage_says(encoding):
    """Stage by stage it is the SNN of `convert`, however its samples are shown."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    x = torch.rand(40, 8, 6).round() if encoding == "frames" else torch.rand(40, 6)
    graph = ann2snn_cli.fuse_batch_norms(network, x, encoding=encoding)
    snn = ann2snn_cli.set_weights_and_thresholds(ann2snn_cli.quantize_and_finetune(graph, x, timesteps=8))
    assert torch.equal(snn(x), ann2snn_cli.convert(network, x, timesteps=8, encoding=encoding)(x))
