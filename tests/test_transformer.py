"""Part of a network becomes spiking: trained by the user's own loop, held against torch's own network."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ann2snn_cli
from ann2snn_cli import BadFile, SNNTransformer, UnsupportedNetwork, UsageError
from ann2snn_cli.ir.ops import IntegrateFire
from ann2snn_cli.workflows.verify import VerifyRequest, verify

pytestmark = pytest.mark.filterwarnings("ignore::ann2snn_cli.snn.DamageWarning")


class Residual(nn.Module):
    """A stem, a backbone with a batch norm, an addition, a ReLU that is called twice, a head with dropout."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.backbone = nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, 3))

    def forward(self, x):
        """As a dict."""
        y = self.relu(self.stem(x))
        return {"logits": self.head(self.relu(self.backbone(y) + y)), "features": y}


@pytest.fixture
def network():
    """Random weights, a batch norm that does something, in training mode."""
    torch.manual_seed(0)
    network = Residual()
    network.backbone[1].running_mean.uniform_(-0.2, 0.2)
    network.backbone[1].running_var.uniform_(0.3, 2)
    return network


@pytest.fixture
def x(small_data):
    """48 images of 2x6x6."""
    return small_data.x


def eager(network, *samples):
    """What the network gives in eval mode, by torch alone."""
    with torch.no_grad():
        return copy.deepcopy(network).eval()(*samples)


def test_with_floats_and_many_steps_the_mixed_network_is_the_network(network, x):
    """(A11) 32-bit weights, D = T = 256: outputs in the network's own form, to 2 % of the largest."""
    t = SNNTransformer(
        network, ["backbone.*"], x, weight_bitwidth=32, timesteps=256, mode="max", schedule="layerwise"
    )
    mixed, wanted = t.generate_ann_snn()(x), eager(network, x)

    assert set(mixed) == {"logits", "features"}
    torch.testing.assert_close(mixed["features"], wanted["features"])  # the rest is torch's
    assert (mixed["logits"] - wanted["logits"]).abs().max() < 0.02 * wanted["logits"].abs().max()


def test_what_is_trained_is_what_is_generated_exactly_at_the_delay_of_t(network, x, small_data):
    """(A11) The user's own loop makes the loss smaller; the integer SNN gives the same outputs."""
    t = SNNTransformer(network, ["backbone.*"], x, timesteps=8, schedule="layerwise")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    own = torch.optim.Adam(t.parameters(), lr=0.01)
    losses = []
    for _ in range(8):
        loss = F.cross_entropy(t(x)["logits"], small_data.y)
        own.zero_grad()
        loss.backward()
        own.step()
        losses.append(loss.item())

    t.eval()
    mixed = t.generate_ann_snn()

    assert losses[-1] < losses[0]
    assert all(leaf.grad is not None for leaf in t.parameters()), "the part, and what is before and after it"
    assert torch.equal(mixed(x)["logits"], t(x)["logits"])
    assert {node.name for node in mixed.graph.of(IntegrateFire)} == {"backbone.2"}
    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_the_optimizer_at_hand_trains_part_and_rest(network, x, small_data):
    """(A11) `t.optimizer` is SGD over all parameters; a network made before the training stays as it was."""
    t = SNNTransformer(network, ["backbone.*"], x, timesteps=4, finetune_lr=0.1)
    mixed = t.generate_ann_snn()
    first = mixed(x)["logits"]
    held = {id(each) for group in t.optimizer.param_groups for each in group["params"]}
    start = [each.detach().clone() for each in t.parameters()]

    F.cross_entropy(t(x)["logits"], small_data.y).backward()
    t.optimizer.step()

    assert held == {id(each) for each in t.parameters()}
    assert sum(not torch.equal(a, b) for a, b in zip(start, t.parameters(), strict=True)) > 5
    assert torch.equal(mixed(x)["logits"], first)


def test_the_gradient_reaches_what_lies_before_the_part(small_network, small_data):
    """(A11) Through the rounding of what the part reads, near torch's own: 8 bits, 64 steps."""
    t = SNNTransformer(
        small_network, ["4", "5"], small_data.x, weight_bitwidth=8, timesteps=64, mode="max"
    ).train()
    F.cross_entropy(t(small_data.x), small_data.y).backward()
    F.cross_entropy(small_network(small_data.x), small_data.y).backward()

    found, wanted = t.rest["0/weight"].grad, small_network[0].weight.grad
    assert float(F.cosine_similarity(found.flatten(), wanted.flatten(), dim=0)) > 0.95
    assert 0.8 < float(found.norm() / wanted.norm()) < 1.25


def test_the_rest_is_in_eval_mode_whatever_the_mode(network, x):
    """Dropout rests: two calls in training mode give the same."""
    t = SNNTransformer(network, ["backbone"], x, timesteps=4).train()
    assert torch.equal(t(x)["logits"], t(x)["logits"])
    assert network.training


def test_a_part_that_is_the_whole_network_is_the_conversion(small_network, small_data):
    """(A11) The same integers as `convert`, node by node."""
    for flags in ({}, {"delay": 3, "weight_bitwidth": 8}):
        t = SNNTransformer(small_network, ["*"], small_data.x, timesteps=6, **flags)
        wanted = ann2snn_cli.convert(small_network, small_data.x, timesteps=6, **flags)

        mixed = t.generate_ann_snn()

        assert repr(ann2snn_cli.SpikingNetwork(mixed.graph)) == repr(wanted)
        assert torch.equal(mixed(small_data.x), wanted(small_data.x).float())


class Twice(nn.Module):
    """Two inputs, a container that is called once for each, and a sum of both."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(3, 5)
        self.shared = nn.Sequential(nn.Linear(5, 6), nn.ReLU())
        self.head = nn.Linear(6, 2)

    def forward(self, a, b):
        """Two outputs."""
        one, two = self.shared(torch.tanh(self.first(a))), self.shared(torch.sigmoid(self.second(b)))
        return self.head(one), self.head(one + two)


def test_a_part_may_be_called_twice_and_have_several_inputs_and_outputs():
    """(A11) Both calls are in the part: two inputs, two outputs; near torch with floats and many steps."""
    torch.manual_seed(0)
    network, a, b = Twice(), torch.rand(32, 4), torch.rand(32, 3)
    data = {"a": a, "b": b}
    t = SNNTransformer(
        network, ["shared"], data, weight_bitwidth=32, timesteps=256, mode="max", schedule="layerwise"
    )
    mixed = t.generate_ann_snn()

    assert (len(mixed.graph.inputs), len(mixed.graph.outputs)) == (2, 2)
    for found in (mixed(a, b), mixed(a=a, b=b), mixed(a, b=b)):
        for output, wanted in zip(found, eager(network, a, b), strict=True):
            assert (output - wanted).abs().max() < 0.02 * wanted.abs().max()


def test_the_snn_of_the_part_and_its_cases_are_written(network, x, tmp_path):
    """(A10, A11) A twin replays the pack bit for bit; the .pth runs; a second run needs a word."""
    t = SNNTransformer(network, ["backbone.*"], x, timesteps=4)

    path = t.save_snn(tmp_path / "part", vectors=2)

    snn = ann2snn_cli.load(path)
    mixed = t.generate_ann_snn()
    values = eager(network, x)["features"]  # what the backbone reads
    assert torch.equal(snn(values), mixed.part({mixed.part_inputs[0]: values})[0])
    report = verify(VerifyRequest(tmp_path / "part" / "part_snn_pack", backends=("numpy",)))
    assert report.ok
    with pytest.raises(BadFile, match="overwrite"):
        (path.write_bytes(b"mine"), t.save_snn(tmp_path / "part"))


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (["stem", "relu", "head"], "cut a residual in half"),
        (["stem", "backbone.3"], "are not one piece: backbone.3 reads"),
        (["stem", "relu"], "cut a residual in half"),
    ],
)
def test_layers_that_are_not_one_piece_are_refused_with_those_that_are(layers, said, network, x):
    """(A11) The list in the remedy works as it is."""
    with pytest.raises(UnsupportedNetwork, match=said) as caught:
        SNNTransformer(network, layers, x)

    nearest = caught.value.remedy.partition(": ")[2].split(", ")

    assert set(layers) < set(nearest)
    SNNTransformer(network, nearest, x, timesteps=4)


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (["backbon"], "unknown layer 'backbon'\n.*did you mean backbone"),
        (["backbone.*", "heads.*"], r"unknown layer 'heads.\*'"),
        ([], "no layer is named"),
        ("backbone", "the layers are 'backbone'\n.*list of names"),
        (["head.0"], "neither weights nor activations"),
    ],
)
def test_names_that_mean_nothing_are_refused(layers, said, network, x):
    """(A11) With the nearest names, before anything is computed."""
    with pytest.raises(UsageError, match=said):
        SNNTransformer(network, layers, x)


def test_settings_that_mean_nothing_for_a_part_are_refused(network, x):
    """Epochs are the user's own; files are written by save_snn."""
    for flag in ("finetune_epochs", "save_file", "bits"):
        with pytest.raises(UsageError, match="unknown setting of SNNTransformer"):
            SNNTransformer(network, ["backbone"], x, **{flag: 1})
