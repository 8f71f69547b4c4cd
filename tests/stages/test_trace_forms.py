"""Operators that are linear, pooling or bent lines are read as such: against torch, in reals and spikes."""

import pytest
import torch
from relative import relative_error
from torch import nn
from torch.nn import functional as F

from ann2snn_cli.errors import UnsupportedNetwork
from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.ops import AvgPool, IntegrateFire, Linear, Opaque, Relu, Scale
from ann2snn_cli.ir.run import run, run_counts
from ann2snn_cli.stages.calibrate import calibrate
from ann2snn_cli.stages.export import pth
from ann2snn_cli.stages.fold import fold, spiking_pools
from ann2snn_cli.stages.quantize.weights import quantize
from ann2snn_cli.stages.simulate import simulate
from ann2snn_cli.stages.threshold import threshold
from ann2snn_cli.stages.trace import trace

STEPS = 128
SLOPES = torch.tensor([0.1, 0.5, -0.3])
MATRIX = torch.linspace(-1, 1, 24).reshape(6, 4)

FORMS = {
    "pooling": {
        "avg_pool, ceil_mode": lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True),
        "avg_pool, ceil_mode and padding": lambda x: F.avg_pool2d(x, 2, 3, padding=1, ceil_mode=True),
        "avg_pool, padding not counted": lambda x: F.avg_pool2d(x, 3, 2, padding=1, count_include_pad=False),
        "avg_pool, divisor_override": lambda x: F.avg_pool2d(x, 2, divisor_override=3),
        "adaptive_avg_pool that does not divide": lambda x: F.adaptive_avg_pool2d(x, (4, 5)),
        "adaptive_max_pool": lambda x: F.adaptive_max_pool2d(x, 3),
        "adaptive_max_pool that does not divide": lambda x: F.adaptive_max_pool2d(x, (4, 5)),
    },
    "axes": {
        "amax over space": lambda x: x.amax((2, 3)),
        "amax over all axes": lambda x: x.amax((1, 2, 3)),
        "amax over channels": lambda x: x.amax(1, keepdim=True),
        "max over one axis": lambda x: x.max(2).values,
        "amin": lambda x: x.amin((2, 3)),
        "mean over channels": lambda x: x.mean(1),
        "mean over rows": lambda x: x.mean(2, keepdim=True),
        "sum over space": lambda x: x.sum((2, 3)),
        "sum over channels": lambda x: x.sum(1, keepdim=True),
    },
    "two": {
        "maximum of two": lambda x: torch.maximum(x, x.flip(3)),
        "max of two": lambda x: torch.max(x, 0.5 * x.flip(3)),
        "minimum of two": lambda x: torch.minimum(x, x.flip(3)),
        "maximum with a number": lambda x: torch.maximum(x, torch.tensor(0.1)),
        "maximum with zeros_like": lambda x: torch.maximum(x, torch.zeros_like(x)),
        "minimum with constants": lambda x: torch.minimum(x, SLOPES[:, None, None]),
    },
    "padding": {
        "pad with a constant": lambda x: F.pad(x, (1, 1, 0, 1), value=0.5),
        "pad with zeros": lambda x: F.pad(x, (1, 1, 0, 1)),
        "reflection pad": lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
        "replication pad": lambda x: F.pad(x, (1, 1, 1, 1), mode="replicate"),
        "circular pad": lambda x: F.pad(x, (1, 1, 1, 1), mode="circular"),
    },
    "signs": {
        "where(x > 0, x, 0)": lambda x: torch.where(x > 0, x, 0.0),
        "where(x > 0, x, zeros_like)": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
        "where(x <= 0, 0.1x, x)": lambda x: torch.where(x <= 0, 0.1 * x, x),
        "masked_fill": lambda x: x.masked_fill(x < 0, 0.0),
        "x * (x > 0)": lambda x: x * (x > 0),
        "x * (x > 0).float()": lambda x: x * (x > 0).float(),
    },
    "sums": {
        "x - y": lambda x: x - x.flip(3),
        "1 - x": lambda x: 1 - x,
        "-x": lambda x: -x,
        "sub with alpha": lambda x: torch.sub(x, x.flip(3), alpha=2),
        "rsub": lambda x: torch.rsub(x, x.flip(3)),
        "add with alpha": lambda x: torch.add(x, x.flip(3), alpha=0.5),
        "a sum that broadcasts": lambda x: x + x.mean((2, 3), keepdim=True),
    },
    "bends": {
        "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
        "leaky_relu, slope 0": lambda x: F.leaky_relu(x, 0.0),
        "prelu, one slope": lambda x: F.prelu(x, torch.tensor([0.3])),
        "prelu by channel": lambda x: F.prelu(x, SLOPES),
        "rrelu": lambda x: F.rrelu(x),
        "abs": torch.abs,
        "threshold": lambda x: F.threshold(x, 0, 0),
        "hardtanh": lambda x: F.hardtanh(x, -0.3, 0.5),
        "clamp(max)": lambda x: x.clamp(max=0.2),
        "clamp(min)": lambda x: x.clamp(min=-0.1),
        "hardsigmoid": lambda x: F.hardsigmoid(6 * x),
    },
    "resizing": {
        "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
        "bilinear, align_corners": lambda x: F.interpolate(x, (5, 9), mode="bilinear", align_corners=True),
        "bilinear, antialias": lambda x: F.interpolate(x, (3, 3), mode="bilinear", antialias=True),
        "bicubic": lambda x: F.interpolate(F.relu(x), (9, 9), mode="bicubic"),
        "nearest-exact": lambda x: F.interpolate(x, (5, 4), mode="nearest-exact"),
        "area": lambda x: F.interpolate(x, (4, 4), mode="area"),
    },
    "moves": {
        "stack": lambda x: torch.stack([x, -x], 2),
        "cat along rows": lambda x: torch.cat([x, 2 * x], 2),
        "unbind": lambda x: x.unbind(1)[2],
        "index": lambda x: x[:, [2, 0]],
        "index_select": lambda x: x.index_select(1, torch.tensor([2, 0])),
        "im2col": lambda x: F.unfold(x, 2),
        "unfold": lambda x: x.unfold(2, 2, 2),
        "tile": lambda x: x.tile(1, 2, 1, 1),
        "repeat_interleave": lambda x: x.repeat_interleave(2, 2),
        "rot90": lambda x: torch.rot90(x, 1, (2, 3)),
        "diagonal": lambda x: x.diagonal(dim1=2, dim2=3),
        "tril": torch.tril,
        "x @ constant": lambda x: x @ MATRIX,
        "constant @ x": lambda x: MATRIX.T @ x,
    },
}  # fmt: skip


class Forms(nn.Module):
    """A convolution, and for each form what a linear layer makes of it."""

    def __init__(self, *forms):
        super().__init__()
        self.forms, self.conv = forms, nn.Conv2d(1, 3, 3, padding=1)
        sizes = [form(torch.zeros(1, 3, 6, 6)).numel() for form in forms]
        self.outs = nn.ModuleList(nn.Linear(size, 5) for size in sizes)

    def forward(self, x):
        y = self.conv(x)
        each = zip(self.outs, self.forms, strict=True)
        return tuple(out(form(y).reshape(x.shape[0], -1)) for out, form in each)


def made(*forms):
    """(network with seeded weights, 32 samples)."""
    torch.manual_seed(2)
    return Forms(*forms).eval(), torch.rand(32, 1, 6, 6)


def converted(network, x, *, bits=8, pools=lambda graph: graph):
    """Its graph, and the same as integers: D = T, clips at the largest activation."""
    graph = trace(network, [tuple(x.shape[1:])])
    calibrated = calibrate(pools(fold(graph)), [x], mode="max", timesteps=STEPS)
    return graph, threshold(quantize(calibrated, Contract(STEPS, delay=STEPS), weight_bitwidth=bits))


@pytest.mark.parametrize("family", FORMS)
def test_forms_are_read_and_become_integers(family):
    """None is opaque; torch's own values in real numbers; in 8 bits within 5 % of what varies."""
    network, x = made(*FORMS[family].values())
    with torch.no_grad():
        wanted = network(x)

    graph, spiking = converted(network, x)

    assert not graph.of(Opaque)
    results, exact = simulate(spiking, x).outputs, run_counts(spiking, x.double())
    everything = zip(FORMS[family], wanted, run(graph, x), results, exact, strict=True)
    for name, wished, in_reals, result, count in everything:
        torch.testing.assert_close(in_reals, wished, rtol=1e-4, atol=1e-5, msg=name)
        assert torch.equal(result, count), name
        assert relative_error(result, wished) <= 0.05, name


RECTIFIERS = [*list(FORMS["signs"].values())[:2], *list(FORMS["signs"].values())[3:], F.relu]


def test_a_rectifier_in_other_words():
    """One population each, and nothing is left of the comparisons."""
    graph = trace(made(*RECTIFIERS)[0], [(1, 6, 6)])

    assert {node.op.kind for node in graph.nodes} == {"Input", "Conv", "Relu", "Reshape", "Linear"}
    assert len(graph.of(Relu)) == len(RECTIFIERS) == 6


OTHERS = {
    "another bound": lambda x: torch.where(x > 0.3, x, 0.0),
    "another value": lambda x: torch.where(x > 0, x, 1.0),
    "of another": lambda x: torch.where(x.flip(3) > 0, x, 0.0),
    "two values": lambda x: torch.where(x > x.mean((2, 3), keepdim=True), x, x.flip(3)),
    "a mask": lambda x: x.masked_fill((x > 0.2) & (x < 0.4), -1.0),
    "an index": lambda x: x.gather(1, x.argmax(1, keepdim=True)),
    "a count": lambda x: (x > 0.1).sum((2, 3)).float() / 36,
}


def test_conditions_and_indices_keep_their_type():
    """What is no rectifier is opaque, and runs: in float64, over time and in closed form."""
    network, x = made(*(lambda x, form=form: form(F.relu(x)) for form in OTHERS.values()))
    with torch.no_grad():
        wanted = network(x)

    graph, spiking = converted(network, x, bits=32)

    for result, wished in zip(run(graph, x), wanted, strict=True):
        torch.testing.assert_close(result, wished)
    assert len(run(graph, x.double())) == len(OTHERS)
    assert all(torch.isfinite(result).all() for result in simulate(spiking, x, delay=0).outputs)
    pairs = zip(simulate(spiking, x).outputs, run_counts(spiking, x.double()), strict=True)
    for result, exact in pairs:
        torch.testing.assert_close(result, exact, rtol=1e-9, atol=1e-9)


class MaskedAttention(nn.Module):
    """Attention under a mask that forward makes anew from the sample, as Swin's shifted windows do."""

    def __init__(self):
        super().__init__()
        self.up, self.out = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x):
        mask = x.new_zeros((6, 6))
        mask[:3, 3:] = 1
        y = F.relu(self.up(x))
        scores = y @ y.transpose(1, 2)
        scores = scores + mask.masked_fill(mask != 0, -100.0).masked_fill(mask == 0, 0.0)
        own = scores.masked_fill(scores > scores.mean(2, keepdim=True) + 3, 0.0)
        return self.out(own.softmax(-1) @ y)


def test_masks_of_attention():
    """A mask that is the same for all samples is a constant; another one stays true and false."""
    torch.manual_seed(0)
    network, x = MaskedAttention().eval(), torch.rand(16, 6, 4)
    with torch.no_grad():
        wanted = network(x)

    graph, spiking = converted(network, x)

    assert "new_zeros" not in [node.op.kind for node in graph.nodes]
    torch.testing.assert_close(run(graph, x)[0], wanted)
    assert relative_error(simulate(spiking, x).outputs[0], wanted) <= 0.05


def test_fractional_max_pooling_is_refused_in_words():
    """It draws its windows at random."""
    network = made(lambda x: F.fractional_max_pool2d(x, 2, output_size=3))[0]

    with pytest.raises(UnsupportedNetwork, match="draws random numbers"):
        trace(network, [(1, 6, 6)])


def test_one_factor_for_all_needs_no_grid():
    """−x/3 of channels whose units are 300 to 1: its integers are −1, and 1/3 goes into the units."""
    linear = nn.Linear(2, 2, bias=False)
    linear.weight = nn.Parameter(torch.tensor([[1.0, 0.0], [0.0, 300.0]]))
    x = torch.rand(8, 2)
    calibrated = calibrate(
        fold(trace(nn.Sequential(linear, Times(-1 / 3)), [(2,)])), [x], mode="max", timesteps=3
    )

    spiking = threshold(quantize(calibrated, Contract(3, delay=3), weight_bitwidth=8, channel_wise=True))

    (scale,), (before,) = spiking.of(Scale), spiking.of(Linear)
    assert scale.op.weight.unique().tolist() == [-1]
    torch.testing.assert_close(scale.unit, before.unit / 3)
    entry = spiking.inputs[0]
    shown = (x.double() / entry.op.unit).round() * entry.op.unit
    torch.testing.assert_close(
        simulate(spiking, x).outputs[0], shown * torch.tensor([-1 / 3, -100.0]), rtol=1e-6, atol=1e-6
    )


class Times(nn.Module):
    """A factor."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def test_windows_of_different_size_are_pooled_by_spiking_neurons():
    """Each window's neuron is full when all its own values are."""
    network, x = made(lambda x: F.adaptive_avg_pool2d(F.relu(x), 4))
    with torch.no_grad():
        (wanted,) = network(x)

    graph, spiking = converted(network, x, pools=spiking_pools)

    assert len(graph.of(AvgPool)) == len(graph.of(Relu)) == 1
    assert len(spiking.of(IntegrateFire)) == 2
    assert relative_error(simulate(spiking, x).outputs[0], wanted) <= 0.05


def test_a_saved_network_knows_the_types_of_conditions(tmp_path):
    """Written and read back, `where` is still given true and false."""
    network, x = made(lambda x: torch.where(x > 0.3, x, x.flip(3)))
    spiking = converted(network, x)[1]

    loaded, _ = pth.load(pth.save(spiking, {}, tmp_path / "a.pth"))

    assert torch.equal(simulate(loaded, x).outputs[0], simulate(spiking, x).outputs[0])
