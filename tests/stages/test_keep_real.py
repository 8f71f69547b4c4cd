"""`method="td"`: beside operators of real numbers every layer is a temporal difference."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ann2snn_cli
from ann2snn_cli.ir.ops import IntegrateFire, Linear, Opaque, Synapse
from ann2snn_cli.ir.show import real_line, real_operators
from ann2snn_cli.stages.trace import trace


class Attend(nn.Module):
    """Torch's attention: functional and causal, as a module with a mask, and with its weights."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Linear(6, 8)
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=True)
        self.register_buffer("mask", torch.triu(torch.ones(5, 5, dtype=torch.bool), 1))

    def forward(self, x):
        x = self.tokens(x)
        heads = x.unflatten(2, (2, 4)).transpose(1, 2)
        causal = (
            F.scaled_dot_product_attention(heads, heads, heads, is_causal=True).transpose(1, 2).flatten(2)
        )
        masked, _ = self.attention(x, x, x, need_weights=False, attn_mask=self.mask)
        seen, weights = self.attention(x, x, x)
        return causal, masked, seen, weights


class Mixed(nn.Module):
    """A convolutional stem with ReLUs, then an encoder whose perceptron has a ReLU, then a linear layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3, stride=2), nn.ReLU())
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.encoder(self.stem(x).flatten(2).transpose(1, 2)).mean(1))


class Block(nn.Module):
    """Patches, a class token, batch norm, a norm, attention, GELU: what vision transformers are made of."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(1, 8, 2, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.place = nn.Parameter(torch.randn(1, 10, 8))
        self.encoder = nn.TransformerEncoderLayer(
            8, 2, 16, activation="gelu", batch_first=True, norm_first=True
        )
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.norm(self.patch(x)).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.place
        return self.head(self.encoder(x)[:, 0])


def converted(network, x, **flags):
    """The SNN of method td, with 6 steps."""
    return ann2snn_cli.convert(network.eval(), x, method="td", timesteps=6, **flags)


def kinds(snn):
    """What the nodes that pass on real numbers are called."""
    return {node.op.kind for node in snn.graph.of(Opaque)}


def relative(got, wanted):
    """The largest difference, as a share of the largest output."""
    return float((got - wanted).abs().max() / wanted.abs().max())


def test_attention_after_t_steps_is_torchs():
    """At every delay and other batch sizes, of samples that are no whole numbers, to float precision (B4)."""
    torch.manual_seed(0)
    network, x = Attend().eval(), torch.randn(7, 5, 6)
    with torch.no_grad():
        wanted = network(x)

    snn = converted(network, x)

    assert kinds(snn) >= {"Linear", "Softmax", "Attention"}
    for samples, delay in ((1, 0), (7, 0), (7, 3), (7, 6)):
        got = snn.simulate(x[:samples], delay=delay).outputs
        assert all(relative(*each) < 1e-6 for each in zip(got, (y[:samples] for y in wanted), strict=True))


def test_a_vision_transformer_after_t_steps_is_torchs():
    """Norms, embeddings, a class token, GELU: named, no weight on a grid, saved and loaded the same (B4)."""
    torch.manual_seed(0)
    network, x = Block().eval(), torch.randn(9, 1, 6, 6)
    with torch.no_grad():
        wanted = network(x)

    snn = converted(network, x)

    assert relative(snn(x), wanted) < 1e-6
    assert kinds(snn) >= {"Conv", "BatchNorm", "LayerNorm", "Attention", "GELU", "Linear"}
    assert not snn.graph.of(Synapse, IntegrateFire)


@pytest.mark.filterwarnings("ignore::ann2snn_cli.DamageWarning")  # 6 steps are few for spikes
def test_each_step_emits_the_difference_of_what_has_come_so_far():
    """SpikingJelly's operator by hand: op(sum so far) less op(sum before); all of them add up to op(sum)."""
    torch.manual_seed(0)
    layers = nn.Linear(4, 4), nn.ReLU(), nn.LayerNorm(4), nn.GELU()
    network, x = nn.Sequential(*layers).eval(), torch.randn(5, 4)
    snn, seen = converted(network, x, weight_bitwidth=8), {}

    def watch(node, activity):
        seen[node.name] = activity.train

    after = snn.simulate(x, by_step=True, watch=watch)

    (population,) = snn.graph.of(IntegrateFire)
    spikes = seen[population.name].double()
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    emitted = torch.zeros(5, 4, dtype=torch.float64)
    before = torch.zeros(5, 4, dtype=torch.float64)
    for t in range(1, 7):
        now = t * F.gelu(F.layer_norm(spikes[:t].sum(0) * population.unit / t, (4,)))
        emitted, before = emitted + (now - before), now
        assert torch.allclose(after.by_step[0][t - 1], emitted / t, atol=1e-9)


def test_only_the_region_of_real_numbers_is_floats():
    """The stem keeps integer weights, ReLUs fire, what lies beside attention is torch's."""
    torch.manual_seed(0)
    network, x = Mixed().eval(), torch.rand(64, 1, 9, 9)
    flags = {"weight_bitwidth": 8, "mode": "max", "timesteps": 512, "schedule": "layerwise"}

    snn = ann2snn_cli.convert(network, x, method="td", **flags)

    quantized, counted = snn.graph.of(Synapse), snn.simulate(x, counts=True).counts
    assert [node.source for node in quantized] == ["stem.0", "stem.2"]
    assert not any(node.op.weight.is_floating_point() for node in quantized)
    linear = {node.source for node in snn.graph.of(Opaque) if node.op.kind == "Linear"}
    assert linear == {"encoder.self_attn", "encoder.linear1", "encoder.linear2", "head"}
    populations = snn.graph.of(IntegrateFire)
    assert len(populations) == 3
    for node in populations:
        assert torch.equal(counted[node.name], counted[node.name].round())
        assert 0 < counted[node.name].max() <= 512
    assert relative(snn(x), network(x).detach()) < 0.02


def test_an_input_that_a_quantized_layer_reads_stays_in_8_bits():
    """One input, two readers: whole numbers for both, as the chip shows them."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.last(torch.relu(self.first(x)) + F.gelu(self.second(x)))

    torch.manual_seed(0)
    snn = converted(Two(), torch.rand(8, 4), weight_bitwidth=8)

    (node,) = snn.graph.inputs
    assert not node.op.is_real
    assert [each.source for each in snn.graph.of(Linear)] == ["first"]


@pytest.mark.filterwarnings("ignore::ann2snn_cli.DamageWarning")
def test_without_real_numbers_nothing_changes():
    """Of a network of ReLUs the method makes the same SNN, and says that it does nothing."""
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval(), torch.rand(20, 4)

    snn = converted(network, x)
    plain = ann2snn_cli.convert(network, x, timesteps=6)

    assert torch.equal(snn(x), plain(x))
    assert "changes nothing" in snn.provenance.notes[0]
    assert not trace(network, [(4,)]).of(Opaque)


def test_finetuning_where_nothing_can_learn_is_said():
    """No weights on a grid and no population: training is left out, and a note says so."""
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Linear(4, 4), nn.GELU()).eval(), torch.rand(20, 4)

    snn = converted(network, (x, torch.zeros(20, dtype=torch.long)), finetune_epochs=1)

    assert snn.provenance.notes[0].startswith("nothing was finetuned")
    assert relative(snn(x), network(x).detach()) < 1e-6


def test_attention_is_counted_as_real_numbers_by_its_name_and_layer():
    """What moves values inside of it is a part of it; spikes are not among them."""
    torch.manual_seed(0)
    graph = converted(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.rand(40, 5, 8)).graph

    assert real_operators(graph) == {
        "Linear": ["self_attn", "self_attn", "linear1", "linear2"],
        "Attention": ["self_attn"],
        "LayerNorm": ["norm1", "norm2"],
    }
    assert real_line(real_operators(graph)).endswith("no spikes: 4 Linear, 1 Attention, 2 LayerNorm")


def test_samples_on_the_second_axis_are_refused():
    """batch_first=False takes the first axis for the sequence: samples would attend to each other."""
    network = nn.TransformerEncoderLayer(8, 2, 16, batch_first=False)

    with pytest.raises(ann2snn_cli.UnsupportedNetwork, match="follows the samples beside it") as refused:
        converted(network, torch.rand(4, 5, 8))
    assert "batch_first=True" in refused.value.remedy
