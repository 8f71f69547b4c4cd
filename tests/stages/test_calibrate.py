"""Calibration: clips from statistics that depend on the set of samples and on nothing else."""

import numpy as np
import pytest
import torch

from ann2snn_cli.errors import BadData, BadWeights
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.histogram import BINS, Histogram
from ann2snn_cli.ir.ops import AvgPool, Conv, Input, Linear, Relu
from ann2snn_cli.ir.run import run
from ann2snn_cli.stages import calibrate as calibrating
from ann2snn_cli.stages.calibrate import calibrate, observe


def values(count=5000, seed=0):
    """Activations as a ReLU gives them: half of them zero, a long tail."""
    drawn = torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.relu(drawn) ** 2 * 3


def histogram(*parts):
    """The histogram of these values, counted part by part."""
    found = Histogram()
    for part in parts:
        found.add(part)
    return found


def state(found):
    """All that a histogram knows."""
    return found.counts.tolist(), found.exponent, found.zeros, found.largest


def folded(limit=None):
    """x -> relu: the activations are the positive part of the samples."""
    nodes = (Node("x", Input(), (), (4,)), Node("relu", Relu(limit=limit), ("x",), (4,), "act"))
    return Graph(nodes, ("relu",), Level.FOLDED)


def clip(x, mode="99.9%", timesteps=16, limit=None):
    """The clip that calibration gives `folded`."""
    graph = calibrate(folded(limit), [x.reshape(-1, 4)], mode=mode, timesteps=timesteps)
    return float(graph["relu"].op.clip)


# The histogram -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[5000], [1] * 100 + [4900], [2500, 2500], [4999, 1]])
def test_the_batch_size_does_not_matter(sizes):
    """The same values in other portions give the same histogram to the last count."""
    assert state(histogram(*values().split(sizes))) == state(histogram(values()))


@pytest.mark.parametrize("ascending", [True, False])
def test_the_order_does_not_matter(ascending):
    """Rising values widen the range again and again, falling ones never: the same in the end."""
    ordered = values().sort(descending=not ascending).values

    assert state(histogram(*ordered.split(50))) == state(histogram(values()))


def test_memory_does_not_grow():
    """However many and however large the values: the same bins, and no value lost."""
    found = Histogram()
    for power in range(-30, 40):
        found.add(values(1000) * 2.0**power)

    assert found.counts.numel() == BINS
    assert found.zeros + int(found.counts.sum()) == 70 * 1000


@pytest.mark.parametrize("percent", [50.1, 75, 90, 99, 99.9, 99.99, 100])
def test_percentiles_are_numpys_to_one_bin(percent):
    """B1: At most one bin above the value that numpy finds, never below it."""
    wanted = float(np.percentile(values(4999).numpy(), percent, method="inverted_cdf"))
    found = histogram(values(4999))

    assert wanted * (1 - 1e-6) <= found.percentile(percent) <= wanted + 2.0**found.exponent / BINS


def test_a_percentile_among_the_zeros_is_zero():
    """Zeros count too: a population that is mostly silent has a small percentile."""
    assert histogram(torch.tensor([0.0, 0.0, 0.0, 7.0])).percentile(75) == 0
    assert histogram(torch.tensor([0.0, 0.0, 0.0, 7.0])).percentile(76) == 7


def test_no_percentile_exceeds_the_maximum():
    """The upper edge of the last bin is beyond the largest value; the clip is not."""
    assert histogram(torch.tensor([0.3, 0.7])).percentile(100) == pytest.approx(0.7, rel=1e-7)


# The clip ------------------------------------------------------------------------------------------


def test_max_and_factors_of_it():
    """`max` is the largest activation, a factor that part of it."""
    largest = float(values().max())

    assert clip(values(), "max") == pytest.approx(largest, rel=1e-6)
    assert clip(values(), "0.5") == pytest.approx(largest / 2, rel=1e-6)


@pytest.mark.parametrize("timesteps", [2, 4, 16, 64])
def test_mse_has_the_least_error(timesteps):
    """No clip of a fine search represents the activations 1 % better with T levels than `mse`."""
    activations = values(4000).numpy()

    def error(a):
        return (
            (activations - a / timesteps * np.clip(np.floor(activations * timesteps / a + 0.5), 0, timesteps))
            ** 2
        ).sum()

    best = min(error(activations.max() * i / 300) for i in range(5, 301))

    assert error(clip(values(4000), "mse", timesteps)) <= best * 1.01


def test_a_silent_population_gets_a_clip():
    """All activations are zero: any clip represents them, it must only be positive."""
    nodes = (
        Node("x", Input(), (), (2,)),
        Node("fc", Linear(-torch.ones(3, 2)), ("x",), (3,)),
        Node("relu", Relu(), ("fc",), (3,)),
    )

    for mode in ("99.9%", "max", "mse", "0.5"):
        graph = calibrate(Graph(nodes, ("relu",), Level.FOLDED), [torch.rand(8, 2)], mode=mode)
        assert float(graph["relu"].op.clip) > 0


def test_a_population_that_is_nearly_silent_takes_its_maximum():
    """One activation in ten thousand: the percentile is zero, the clip is not."""
    x = torch.zeros(10000)
    x[17] = 3.0

    assert clip(x) == 3.0


@pytest.mark.parametrize(("limit", "expected"), [(6.0, 6.0), (1000.0, None)])
def test_a_limit_bounds_the_clip(limit, expected):
    """ReLU6 never passes 6, whatever the statistics say; a limit out of reach does nothing."""
    assert clip(values(), "max", limit=limit) == pytest.approx(expected or float(values().max()), rel=1e-6)


def test_the_clip_is_independent_of_batches_and_order():
    """B1: The whole stage: shuffled and in other batches, the same clip to the last bit."""
    x = values().float().reshape(-1, 4)
    shuffled = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(2))]

    one = calibrate(folded(), [x])
    other = calibrate(folded(), shuffled.split(7))

    assert torch.equal(one["relu"].op.clip, other["relu"].op.clip)


def test_what_calibrate_gives():
    """The level rises, the graph it was handed stays as it was; behind a pooling of spikes no clip is set."""
    nodes = (
        *folded().nodes,
        Node("pool", AvgPool((2,), (2,), (0,)), ("relu4",), (1, 2)),
        Node("behind", Relu(inherits_clip=True), ("pool",), (1, 2)),
    )
    nodes = (nodes[0], nodes[1], Node("relu4", Relu(), ("wide",), (1, 4)), *nodes[2:])
    before = Graph((Node("wide", Input(), (), (1, 4)), *nodes[2:]), ("behind",), Level.FOLDED)

    after = calibrate(before, [torch.rand(3, 1, 4)])

    assert after.level is Level.CALIBRATED
    assert before["relu4"].op.clip is None
    assert after["relu4"].op.clip is not None
    assert after["behind"].op.clip is None


# The input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "unit", "low", "high"),
    [
        ([0.0, 0.5, 1.0], 1 / 255, 0, 255),  # an image in 0..1
        ([0.0, 128.0, 255.0], 1.0, 0, 255),  # whole numbers that fit stay what they are
        ([0.0, 3.0, 7.0], 1.0, 0, 255),
        ([0.0, 128.5, 255.0], 1.0, 0, 255),
        ([0.0, 510.0], 2.0, 0, 255),  # whole numbers that do not fit
        ([-2.0, 1.0], 1.0, -127, 127),  # signed whole numbers
        ([-2.0, 0.5], 2 / 127, -127, 127),  # normalised images
        ([-0.5, 2.54], 2.54 / 127, -127, 127),
    ],
)
def test_the_unit_of_the_input(samples, unit, low, high):
    """8-bit integers: 0..255 where nothing is negative, else −127..127; whole numbers stay so if they fit."""
    x = torch.tensor(samples).repeat(4)[: 4 * (len(samples) * 4 // 4)].reshape(-1, 4)

    op = calibrate(folded(), [x])["x"].op

    assert op.unit == pytest.approx(unit, rel=1e-6)
    assert (op.low, op.high) == (low, high)


def test_all_batches_decide_on_the_input():
    """One negative sample in the last batch makes the input signed."""
    op = calibrate(folded(), [torch.rand(5, 4), torch.full((1, 4), -0.25)])["x"].op

    assert (op.low, op.high) == (-127, 127)


# Several inputs -------------------------------------------------------------------------------------


def deep():
    """Four convolutions, each with a population."""
    generator, nodes = torch.Generator().manual_seed(4), [Node("x", Input(), (), (8, 9, 9))]
    for layer in range(4):
        weight = torch.randn(8, 8, 3, 3, generator=generator) / 6
        nodes.append(Node(f"conv{layer}", Conv(weight, padding=(1, 1)), (nodes[-1].name,), (8, 9, 9)))
        nodes.append(Node(f"relu{layer}", Relu(), (nodes[-1].name,), (8, 9, 9)))
    return Graph(tuple(nodes), ("relu3",), Level.FOLDED)


def test_clips_are_those_of_float64_to_a_bin():
    """What float32 rounds on the way through the network moves no percentile by more than the bin beside."""
    x = torch.randn(40, 8, 9, 9, generator=torch.Generator().manual_seed(5))
    wanted, statistics = {}, observe(deep(), [x])
    run(deep(), x.double(), lambda node, value: wanted.update({node.name: value.numpy()}))

    for name, found in statistics.activations.items():
        exact = np.percentile(wanted[name], 99.9, method="inverted_cdf")
        bin_size = 2.0**found.exponent / BINS
        assert exact - bin_size <= found.percentile(99.9) <= exact + 2 * bin_size
        assert found.largest == pytest.approx(wanted[name].max(), rel=1e-5)


def test_batches_of_any_size_go_through_the_network_alike(monkeypatch):
    """It is given portions of one size, so its last bits are the same: equal histograms, to the count."""
    monkeypatch.setattr(calibrating, "PORTION_ELEMENTS", 7 * 8 * 9 * 9)
    x = torch.randn(40, 8, 9, 9, generator=torch.Generator().manual_seed(5))
    seen = []
    monkeypatch.setattr(
        calibrating, "run", lambda graph, x, watch: seen.append(len(x)) or run(graph, x, watch)
    )

    found = [observe(deep(), x.split(size)).activations for size in (40, 9, 3, 1)]

    assert seen == 4 * [7, 7, 7, 7, 7, 5]
    for other in found[1:]:
        assert {name: state(each) for name, each in other.items()} == {
            name: state(each) for name, each in found[0].items()
        }


def two_inputs():
    """relu(a) + relu(b), each with a population of its own."""
    nodes = (
        Node("a", Input(), (), (4,)),
        Node("b", Input(), (), (2, 2)),
        Node("relu_a", Relu(), ("a",), (4,)),
        Node("relu_b", Relu(), ("b",), (2, 2)),
    )
    return Graph(nodes, ("relu_a", "relu_b"), Level.FOLDED)


@pytest.mark.parametrize("form", ["tuple", "dict"])
def test_every_input_has_the_samples_that_are_its_own(form):
    """A tuple in order, or a dict in another: clips and units follow the largest value of their own input."""
    a, b = values().float().reshape(-1, 4), 7.3 * values(seed=1).float().reshape(-1, 2, 2) - 1
    parts = zip(a.split(100), b.split(100), strict=True)
    batches = [part if form == "tuple" else {"b": part[1], "a": part[0]} for part in parts]

    graph = calibrate(two_inputs(), batches, mode="max")

    for name, x, low, high in (("a", a, 0, 255), ("b", b, -127, 127)):
        assert float(graph[f"relu_{name}"].op.clip) == float(x.max())
        assert (graph[name].op.low, graph[name].op.high) == (low, high)
        assert graph[name].op.unit == pytest.approx(float(x.max()) / high, rel=1e-6)


def test_inputs_that_differ_in_length_are_refused():
    """Both are named, with how many samples each has."""
    with pytest.raises(BadData, match=r"3 samples in x\[0\] and 2 in x\[1\]"):
        calibrate(two_inputs(), [(torch.rand(3, 4), torch.rand(2, 2, 2))])


# Refusals ------------------------------------------------------------------------------------------


def test_a_set_of_zeros_is_refused():
    """Nothing can be learned from it."""
    with pytest.raises(BadData, match="zero"):
        calibrate(folded(), [torch.zeros(3, 4)])


def test_an_empty_set_is_refused():
    """The remedy names the setting."""
    with pytest.raises(BadData, match="empty") as caught:
        calibrate(folded(), [])

    assert "calibration_samples" in caught.value.remedy


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_activations_that_are_no_numbers_are_refused(bad):
    """The layer is named."""
    x = torch.ones(2, 4)
    x[0, 1] = bad

    with pytest.raises(BadWeights, match="finite") as caught:
        observe(folded(), [x])

    assert caught.value.where == "act"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_outputs_that_are_no_numbers_are_refused(bad):
    """No ReLU sees them: the last layer is named."""
    nodes = (Node("x", Input(), (), (4,)), Node("last", Linear(torch.eye(4)), ("x",), (4,), "fc"))
    x = torch.ones(2, 4)
    x[0, 1] = bad

    with pytest.raises(BadWeights, match="an output of the network is not a finite number") as caught:
        observe(Graph(nodes, ("last",), Level.FOLDED), [x])

    assert caught.value.where == "fc"
