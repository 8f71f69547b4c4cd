"""Check: each limit at the limit and one beyond, what is derived, what is off the chip, remedies that fit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from ann2snn_cli import pipeline
from ann2snn_cli.commands.flags import in_flags
from ann2snn_cli.config import Hardware, load_hardware
from ann2snn_cli.errors import HardwareViolations
from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import Conv, Input, Integrate, IntegrateFire, Linear, Opaque, Ref, Relu, Reshape
from ann2snn_cli.stages.check import Verdict, channel_limit, check, check_registers, rule_names, violations
from ann2snn_cli.stages.fold import fold, spiking_pools
from ann2snn_cli.stages.trace import trace

V1 = load_hardware(Path(__file__).parents[2] / "configs/hardware/v1.yaml")

# Hand-typed from the published table: (kernel, bits) -> input channels.
TABLE = {
    (3, 1): 113, (3, 2): 56, (3, 3): 37, (3, 4): 28,
    (5, 1): 40, (5, 2): 20, (5, 3): 13, (5, 4): 10,
}  # fmt: skip


def conv_graph(channels: int, kernel: int = 3, groups: int = 1, out_channels: int | None = None) -> Graph:
    """input -> conv -> relu -> flatten -> linear -> read-out, as `fold` leaves them."""
    out = channels if out_channels is None else out_channels
    weight = torch.zeros(out, channels // groups, kernel, kernel)
    return Graph(
        (
            Node("input", Input(), (), (channels, 8, 8)),
            Node("conv", Conv(weight, groups=groups), ("input",), (out, 8, 8), "features.conv"),
            Node("relu", Relu(), ("conv",), (out, 8, 8), "features.relu"),
            Node("flat", Reshape(), ("relu",), (out * 64,)),
            Node("linear", Linear(torch.zeros(10, out * 64)), ("flat",), (10,), "classifier"),
            Node("readout", Integrate(), ("linear",), (10,), "classifier"),
        ),
        ("readout",),
        Level.FOLDED,
    )


def linear_graph(features: int) -> Graph:
    """input -> linear -> relu -> linear -> read-out."""
    return Graph(
        (
            Node("input", Input(), (), (features,)),
            Node("hidden", Linear(torch.zeros(4, features)), ("input",), (4,), "hidden"),
            Node("relu", Relu(), ("hidden",), (4,)),
            Node("last", Linear(torch.zeros(2, 4)), ("relu",), (2,), "last"),
            Node("readout", Integrate(), ("last",), (2,)),
        ),
        ("readout",),
        Level.FOLDED,
    )


def folded(*modules: nn.Module, shape=(4, 8, 8), spiking: bool = True) -> Graph:
    """A sequential network, traced and folded, with the pooling of v1."""
    graph = fold(trace(nn.Sequential(*modules).eval(), [shape]))
    return spiking_pools(graph) if spiking else graph


def of_rule(verdicts: list[Verdict], rule: str) -> Verdict:
    """The only verdict of a rule."""
    (verdict,) = [verdict for verdict in verdicts if verdict.rule == rule]
    return verdict


def broken(graph: Graph, bits: int = 4, hardware=V1) -> list[tuple[str, str]]:
    """(rule, layer) of every violation."""
    return [(verdict.rule, verdict.layer) for verdict in violations(check(graph, hardware, bits))]


# Input channels ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "bits", "limit"), [(*key, limit) for key, limit in TABLE.items()])
def test_a_published_limit_holds_at_the_limit_and_breaks_one_beyond(kernel, bits, limit):
    """A7: The eight limits of hardware v1.0: layer, actual, limit and headroom are said."""
    fits = of_rule(check(conv_graph(limit, kernel), V1, bits), "in_channels")
    assert fits == Verdict("in_channels", "features.conv", limit, limit, True)
    assert fits.headroom == 0
    beyond = of_rule(check(conv_graph(limit + 1, kernel), V1, bits), "in_channels")
    assert (beyond.layer, beyond.actual, beyond.limit, beyond.ok) == (
        "features.conv",
        limit + 1,
        limit,
        False,
    )
    assert not beyond.derived
    assert beyond.headroom == pytest.approx(-1 / limit)
    assert f"at most {limit} input channels" in in_flags(beyond.remedy)


@pytest.mark.parametrize("kernel", [1, 2, 4, 7])
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_a_kernel_that_the_table_lacks_is_limited_by_the_cores_lines(kernel, bits):
    """floor(1024 / (k·k·b)), and the verdict says that this is derived."""
    limit = 1024 // (kernel * kernel * bits)
    fits = of_rule(check(conv_graph(limit, kernel, out_channels=2), V1, bits), "in_channels")
    assert (fits.limit, fits.ok, fits.derived) == (limit, True, True)
    beyond = of_rule(check(conv_graph(limit + 1, kernel, out_channels=2), V1, bits), "in_channels")
    assert (beyond.limit, beyond.ok, beyond.derived) == (limit, False, True)


def test_the_formula_gives_the_published_table():
    """A7: Why it may be used for what the table lacks."""
    unpublished = replace(V1, in_channels={})
    for (kernel, bits), limit in TABLE.items():
        assert channel_limit(unpublished, (kernel, kernel), bits) == (limit, True)
        assert channel_limit(V1, (kernel, kernel), bits) == (limit, False)


def test_kernels_of_other_ranks_and_sides_count_all_their_weights():
    """1d, 3d, and 3x5: lines are lines."""
    assert channel_limit(V1, (3,), 4) == (1024 // 12, True)
    assert channel_limit(V1, (3, 5), 4) == (1024 // 60, True)
    assert channel_limit(V1, (3, 3, 3), 4) == (1024 // 108, True)


def test_no_lines_and_no_table_are_no_limit():
    """A chip that has neither is not judged by this rule."""
    free = replace(V1, in_channels={}, synapse_lines=None)
    assert channel_limit(free, (3, 3), 4) is None
    assert not [v for v in check(conv_graph(999), free, 4) if v.rule == "in_channels"]


@pytest.mark.parametrize(
    ("groups", "per_group", "ok"), [(2, 28, True), (2, 29, False), (4, 28, True), (56, 1, True)]
)
def test_a_grouped_convolution_counts_the_channels_of_a_group(groups, per_group, ok):
    """in_channels / groups."""
    verdict = of_rule(check(conv_graph(groups * per_group, groups=groups), V1, 4), "in_channels")
    assert (verdict.actual, verdict.ok) == (per_group, ok)


def test_a_transposed_convolution_is_limited_by_what_goes_in():
    """Its weight's first axis is the input; the table is used for its kernel too."""
    for channels, ok in ((28, True), (29, False)):
        graph = folded(nn.ConvTranspose2d(channels, 4, 3), nn.ReLU(), shape=(channels, 4, 4))
        verdict = of_rule(check(graph, V1, 4), "in_channels")
        assert (verdict.actual, verdict.limit, verdict.ok) == (channels, 28, ok)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_a_linear_layer_counts_its_features(bits):
    """1024 // b lines: derived, and the remedy speaks of features."""
    limit = 1024 // bits
    assert of_rule(check(linear_graph(limit), V1, bits), "in_channels").ok
    beyond = of_rule(check(linear_graph(limit + 1), V1, bits), "in_channels")
    assert (beyond.ok, beyond.derived) == (False, True)
    assert f"at most {limit} input features" in in_flags(beyond.remedy)


# Remedies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "channels"), [(3, 32), (3, 58), (3, 64), (3, 100), (5, 16), (5, 40), (7, 20), (1, 300)]
)
def test_every_remedy_that_is_offered_fits(kernel, channels):
    """Bits, groups and channels, each applied alone; and the bits are the most that fit."""
    remedy = in_flags(of_rule(check(conv_graph(channels, kernel), V1, 4), "in_channels").remedy)
    offers = remedy.split("; or ")
    kinds = []
    for offer in offers:
        if offer.startswith("--weight_bitwidth "):
            bits = int(offer.split()[1])
            kinds.append("bits")
            assert broken(conv_graph(channels, kernel), bits) == []
            assert broken(conv_graph(channels, kernel), bits + 1) != []
        elif offer.startswith("groups="):
            groups = int(offer.removeprefix("groups=").split()[0])
            kinds.append("groups")
            assert channels % groups == 0
            assert broken(conv_graph(channels, kernel, groups=groups)) == []
            fewer = [g for g in range(1, groups) if channels % g == 0]
            assert all(broken(conv_graph(channels, kernel, groups=g)) for g in fewer)
        else:
            fitting = int(offer.removeprefix("at most ").split()[0])
            kinds.append("channels")
            assert broken(conv_graph(fitting, kernel)) == []
    assert "channels" in kinds
    assert kinds == sorted(kinds, key=["bits", "groups", "channels"].index)


def test_a_grouped_convolution_is_offered_groups_that_divide_it():
    """More groups than it has, dividing both input and output."""
    remedy = in_flags(of_rule(check(conv_graph(120, groups=2, out_channels=12), V1, 4), "in_channels").remedy)
    assert "groups=6 (20 channels each)" in remedy
    assert "at most 56 input channels" in remedy  # 28 in each of its 2 groups
    assert broken(conv_graph(120, groups=6, out_channels=12)) == []
    assert broken(conv_graph(56, groups=2, out_channels=12)) == []


def test_a_prime_number_of_channels_is_offered_no_groups_but_its_own():
    """31 = 31 groups of one: depthwise is the only division."""
    assert "groups=31 (1 channels each)" in in_flags(
        of_rule(check(conv_graph(31), V1, 4), "in_channels").remedy
    )
    remedy = in_flags(of_rule(check(conv_graph(31, out_channels=7), V1, 4), "in_channels").remedy)
    assert "groups" not in remedy


def test_where_nothing_fits_the_kernel_is_to_blame():
    """A 40x40 kernel needs more lines for one channel than a core has."""
    verdict = of_rule(check(conv_graph(1, 40), V1, 4), "in_channels")
    assert (verdict.limit, verdict.ok, in_flags(verdict.remedy)) == (0, False, "use a smaller kernel")


# What the chip computes ----------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "ok"), [(1, True), (4, True), (5, False), (8, False), (32, False)])
def test_weights_have_four_bits_at_most(bits, ok):
    """Every layer with weights is told; the last linear layer is off the chip and is not."""
    verdict = of_rule(check(conv_graph(1), V1, bits), "weight_bitwidth")
    assert (verdict.layer, verdict.actual, verdict.limit, verdict.ok) == ("features.conv", bits, 4, ok)
    assert "--weight_bitwidth 4" in in_flags(verdict.remedy)


def test_max_pooling_is_not_on_the_chip():
    """Average pooling, or a stride, in its place; also where only the last linear layer comes behind it."""
    for behind in ([nn.Conv2d(4, 4, 1), nn.ReLU()], [nn.Flatten(), nn.Linear(64, 2)]):
        graph = folded(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), *behind)
        verdict = of_rule(check(graph, V1, 4), "op")
        assert (verdict.layer, verdict.actual, verdict.ok) == ("2", "max_pool", False)
        assert "average pooling" in in_flags(verdict.remedy)


def test_an_operator_that_is_no_spiking_op_is_named():
    """The layer and the operator by its name."""
    graph = folded(nn.Conv2d(4, 4, 1), nn.GELU(), nn.Conv2d(4, 4, 1), nn.ReLU())
    assert ("op", "1") in broken(graph)
    assert of_rule(check(graph, V1, 4), "op").actual == "opaque GELU"


def test_a_batch_norm_that_cannot_be_folded_is_a_violation():
    """After a ReLU it stays a depthwise scale, which v1 has no op for."""
    graph = folded(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.ReLU())
    assert ("op", "2") in broken(graph)
    assert "right behind a convolution" in in_flags(of_rule(check(graph, V1, 4), "op").remedy)


def test_a_convolution_without_relu_is_a_violation():
    """A7: Its currents cannot leave a core; the remedy names the layer."""
    graph = folded(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3), nn.ReLU())
    verdict = of_rule(check(graph, V1, 4), "conv_needs_relu")
    assert (verdict.layer, verdict.actual, verdict.limit) == ("0", "its currents reach 1", "a ReLU")
    assert "behind 0" in in_flags(verdict.remedy)
    assert broken(folded(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())) == []


def test_a_convolution_without_relu_is_a_violation_also_before_the_last_layer():
    """conv -> linear: the linear layer is beside the chip, the convolution is not."""
    graph = folded(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 2))
    assert broken(graph) == [("conv_needs_relu", "2")]


def test_a_residual_branch_may_add_its_currents_before_the_relu():
    """conv -> add -> ReLU is what neurons do; conv -> add -> conv is not."""

    class Residual(nn.Module):
        def __init__(self, rectified: bool) -> None:
            super().__init__()
            self.first, self.branch, self.last = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
            self.rectified = rectified

        def forward(self, x):
            x = self.first(x).relu()
            y = x + self.branch(x)
            return self.last(y.relu() if self.rectified else y).relu()

    for rectified, expected in ((True, []), (False, [("conv_needs_relu", "branch")])):
        graph = spiking_pools(fold(trace(Residual(rectified).eval(), [(4, 8, 8)])))
        assert broken(graph) == expected


# The read-out --------------------------------------------------------------------------------------


def test_the_final_linear_layer_is_beside_the_chip():
    """A7: As published: it is not transformed; a thousand features do no harm there."""
    verdicts = check(conv_graph(16), V1, 4)
    assert {verdict.layer for verdict in verdicts} == {"features.conv"}


def test_the_final_linear_layer_counts_where_the_hardware_says_so():
    """final_linear_on_chip: then it needs neurons and lines like any other."""
    found = broken(conv_graph(16), hardware=replace(V1, final_linear_on_chip=True))
    assert found == [("in_channels", "classifier"), ("conv_needs_relu", "classifier")]


def test_a_final_convolution_is_beside_the_chip_and_so_is_what_follows_it():
    """A segmentation head: 1x1 convolution, softmax."""
    graph = folded(nn.Conv2d(4, 200, 3), nn.ReLU(), nn.Conv2d(200, 2, 3), nn.Softmax(1))
    assert broken(graph) == []


# Spiking pooling -----------------------------------------------------------------------------------


def test_average_pooling_of_spikes_fits():
    """A depthwise convolution of ones with neurons of its own: k·k lines a bit."""
    graph = folded(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 2))
    verdicts = check(graph, V1, 4)
    assert violations(verdicts) == []
    pool = next(verdict for verdict in verdicts if verdict.layer == "2" and verdict.rule == "in_channels")
    assert (pool.actual, pool.limit, pool.derived) == (1, 64, True)


def test_average_pooling_of_pixels_or_currents_is_a_violation():
    """There is nothing to pool that spikes."""
    of_pixels = folded(nn.AvgPool2d(2), nn.Conv2d(4, 4, 3), nn.ReLU())
    assert of_rule(check(of_pixels, V1, 4), "pooling").actual == "it pools the input itself"
    of_currents = folded(nn.Conv2d(4, 4, 3), nn.AvgPool2d(2), nn.ReLU())
    assert "it pools currents of 0" in [v.actual for v in violations(check(of_currents, V1, 4))]


def test_average_pooling_by_sums_is_a_violation_where_only_spikes_leave_a_core():
    """--pooling sum on hardware v1."""
    modules = (nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 4, 3), nn.ReLU())
    verdict = of_rule(check(folded(*modules, spiking=False), V1, 4), "pooling")
    assert (verdict.layer, verdict.actual) == ("2", "its sums reach 3")
    assert "--pooling spiking" in in_flags(verdict.remedy)
    assert broken(folded(*modules)) == []
    assert broken(folded(*modules, spiking=False), hardware=replace(V1, pooling="sum")) == []


def test_a_pooling_window_has_as_many_synapses_as_pixels():
    """A window of 17x17 at 4 bits has 1156 lines; 16x16 has just 1024."""
    for window, ok in ((16, True), (17, False)):
        graph = folded(
            nn.Conv2d(4, 4, 1),
            nn.ReLU(),
            nn.AvgPool2d(window),
            nn.Conv2d(4, 4, 1),
            nn.ReLU(),
            shape=(4, 34, 34),
        )
        pool = next(v for v in check(graph, V1, 4) if v.layer == "2" and v.rule == "in_channels")
        assert pool.ok == ok
        assert ok or "two stages" in in_flags(pool.remedy)


# All at once ---------------------------------------------------------------------------------------


def test_all_violations_come_at_once_in_the_order_of_the_layers():
    """Each with rule, layer, actual, limit and a remedy."""
    graph = folded(
        nn.Conv2d(4, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(64, 8, 3, bias=False), nn.GELU(),
        nn.Conv2d(8, 8, 1), nn.ReLU(), shape=(4, 12, 12),
    )  # fmt: skip
    found = violations(check(graph, V1, 5))
    assert [(v.rule, v.layer) for v in found] == [
        ("weight_bitwidth", "0"),
        ("op", "2"),
        ("weight_bitwidth", "3"),
        ("in_channels", "3"),
        ("conv_needs_relu", "3"),
        ("op", "4"),
        ("weight_bitwidth", "5"),
    ]
    assert all(in_flags(v.remedy) and v.actual and v.limit for v in found)


def test_allowed_rules_are_left_out_and_no_others():
    """--allow."""
    graph = folded(nn.Conv2d(4, 64, 3), nn.ReLU(), nn.Conv2d(64, 8, 3), nn.ReLU())
    verdicts = check(graph, V1, 5)
    assert {v.rule for v in violations(verdicts)} == {"weight_bitwidth", "in_channels"}
    assert {v.rule for v in violations(verdicts, ["in_channels"])} == {"weight_bitwidth"}
    assert violations(verdicts, ["in_channels", "weight_bitwidth"]) == []


# Registers -----------------------------------------------------------------------------------------


def spiking_graph(threshold=8, bias=0, weight=1, fraction_bits=0) -> Graph:
    """input -> conv -> neurons, in integers."""
    return Graph(
        (
            Node("input", Input(unit=1 / 255), (), (1, 2, 2), unit=torch.tensor(1 / 255)),
            Node(
                "conv",
                Conv(torch.full((1, 1, 1, 1), weight, dtype=torch.int8), bits=4, step=torch.tensor(0.1)),
                ("input",),
                (1, 2, 2),
                "conv1",
                torch.tensor(0.1),
            ),
            Node(
                "relu",
                IntegrateFire(torch.tensor(threshold), torch.tensor(bias), torch.tensor(0), fraction_bits),
                ("conv",),
                (1, 2, 2),
                "relu1",
                torch.tensor(0.8),
            ),
        ),
        ("relu",),
        Level.SPIKING,
        Contract(4),
    )


@pytest.mark.parametrize(
    ("rule", "limit", "field"),
    [("threshold_bits", 2**17 - 1, "threshold"), ("bias_bits", 2**18 - 1, "bias")],
)
def test_a_register_of_a_neuron_holds_its_signed_limit_and_not_one_more(rule, limit, field):
    """Thresholds 18 bits, biases 19 bits, of either sign."""
    for value, ok in ((limit, True), (limit + 1, False), (-limit, True), (-limit - 1, False)):
        if field == "threshold" and value < 0:
            continue
        verdict = of_rule(check_registers(spiking_graph(**{field: value}), V1), rule)
        assert (verdict.layer, verdict.actual, verdict.limit, verdict.ok) == ("relu1", abs(value), limit, ok)
        assert in_flags(verdict.remedy)


def test_a_weights_code_holds_its_fraction_bits_too():
    """11 bits, signed: 7 · 2^7 = 896 fits, 7 · 2^8 does not."""
    for fraction_bits, ok in ((7, True), (8, False)):
        graph = spiking_graph(weight=-7, fraction_bits=fraction_bits)
        verdict = of_rule(check_registers(graph, V1), "weight_code_bits")
        assert (verdict.layer, verdict.actual, verdict.limit) == ("conv1", 7 * 2**fraction_bits, 1023)
        assert verdict.ok == ok


def test_one_threshold_a_layer_unless_the_hardware_has_more():
    """--channel_wise needs registers that v1 does not have."""
    different = torch.tensor([8, 9]).reshape(2, 1, 1)
    verdict = of_rule(
        check_registers(spiking_graph(threshold=different.tolist()), V1), "channel_wise_threshold"
    )
    assert (verdict.actual, verdict.limit, verdict.ok) == (2, 1, False)
    assert "--no_channel_wise" in in_flags(verdict.remedy)
    same = spiking_graph(threshold=[[[8]], [[8]]])
    assert of_rule(check_registers(same, V1), "channel_wise_threshold").ok
    rich = replace(V1, channel_wise_threshold=True)
    assert violations(check_registers(spiking_graph(threshold=different.tolist()), rich)) == []


def accumulator(graph: Graph, bits: int, **limits) -> Verdict:
    """The verdict on the potential of the only layer with neurons."""
    return of_rule(check_registers(graph, replace(V1, potential_bits=bits, **limits)), "potential_bits")


def test_an_accumulator_holds_the_worst_case_and_not_one_bit_more():
    """Weight −1, pixels to 255, four steps: −1020..0 takes 11 bits; the range and its conditions are said."""
    graph = spiking_graph(weight=-1)
    fits = accumulator(graph, 11)
    assert (fits.layer, fits.actual, fits.limit, fits.ok, fits.headroom) == ("relu1", 11, 11, True, 0)
    assert (fits.proof, in_flags(fits.remedy)) == ("-1020..0 in 4 timesteps, delay 0", "")
    beyond = accumulator(graph, 10)
    assert (beyond.actual, beyond.limit, beyond.ok) == (11, 10, False)
    assert beyond.headroom == pytest.approx(-0.1)
    assert in_flags(beyond.remedy) == "fewer --timesteps; or fewer --weight_bitwidth"
    assert not [v for v in check_registers(graph, V1) if v.rule == "potential_bits"]  # v1 does not say


def test_fewer_timesteps_are_offered_only_where_one_would_do():
    """255 a step takes 9 bits: a register of 8 takes no number of timesteps, and one has none fewer."""
    graph = spiking_graph(weight=-1)
    assert in_flags(accumulator(graph, 9).remedy).startswith("fewer --timesteps")
    assert in_flags(accumulator(graph, 8).remedy) == "fewer --weight_bitwidth"
    biased = replace(spiking_graph(weight=-1, bias=-300), contract=Contract(1))
    assert (accumulator(biased, 10).actual, in_flags(accumulator(biased, 10).remedy)) == (
        11,
        "fewer --weight_bitwidth",
    )
    assert (
        in_flags(accumulator(spiking_graph(weight=-1, fraction_bits=1), 9).remedy)
        == "fewer --weight_bitwidth"
    )


@pytest.mark.parametrize(("delay", "highest"), [(2, 3 * 255), (4, 4 * 255)])
def test_no_delay_is_offered_where_it_needs_less(delay, highest):
    """255 a step, four steps: D = T holds all 1020 at once, D = 0 at most θ − 1 + 255."""
    without = spiking_graph(threshold=300)
    delayed = replace(without, contract=Contract(4, delay=delay))
    if delay == 4:
        assert (accumulator(without, 11).actual, accumulator(delayed, 11).actual) == (11, 11)
        assert "delay" not in in_flags(accumulator(delayed, 10).remedy)  # both take 11
    without = spiking_graph(threshold=256)
    delayed = replace(without, contract=Contract(4, delay=delay))
    assert accumulator(without, 10).proof == "0..510 in 4 timesteps, delay 0"
    assert accumulator(without, 10).ok
    refused = accumulator(delayed, 10)
    assert refused.proof == f"0..{highest} in 4 timesteps, delay {delay}"
    offers = ["--delay 0 (10 bits)", "fewer --timesteps", "fewer --weight_bitwidth"]
    assert in_flags(refused.remedy).split("; or ") == offers


def test_real_numbers_fit_no_accumulator():
    """Behind an opaque layer, or with weights of 32 bits: the remedy says what makes them integers."""
    graph = spiking_graph()
    unit = torch.tensor(0.1)
    opaque = Node("gelu", Opaque("aten.gelu.default", (Ref(0),)), ("conv",), (1, 2, 2), "gelu", unit)
    behind = Graph(
        (*graph.nodes[:2], opaque, replace(graph["relu"], inputs=("gelu",))),
        ("relu",),
        Level.SPIKING,
        Contract(4),
    )
    conv = replace(graph["conv"].op, weight=torch.full((1, 1, 1, 1), 0.5), bits=32)
    for real in (behind, graph.with_ops({"conv": conv})):
        verdict = accumulator(real, 64)
        assert (verdict.actual, verdict.ok, verdict.headroom) == ("real numbers", False, None)
        assert in_flags(verdict.remedy) == "--weight_bitwidth 8 or fewer, and no opaque layer before it"


def test_a_read_out_has_an_accumulator_where_it_is_on_the_chip():
    """final_linear_on_chip; an `Integrate` on the way only passes currents on and keeps nothing."""
    nodes = (
        *spiking_graph().nodes,
        Node("pass", Integrate(), ("relu",), (1, 2, 2), "pass", torch.tensor(0.8)),
        Node("flat", Reshape(), ("pass",), (4,), unit=torch.tensor(0.8)),
        Node(
            "fc",
            Linear(torch.full((2, 4), -7, dtype=torch.int8), bits=4),
            ("flat",),
            (2,),
            "fc",
            torch.tensor(0.1),
        ),
        Node("out", Integrate(), ("fc",), (2,), "fc", torch.tensor(0.1)),
    )
    graph = Graph(nodes, ("out",), Level.SPIKING, Contract(4))

    def judged(on_chip: bool) -> list[tuple[str, int | str]]:
        hardware = replace(V1, potential_bits=20, final_linear_on_chip=on_chip)
        found = check_registers(graph, hardware)
        return [(v.layer, v.actual) for v in found if v.rule == "potential_bits"]

    assert judged(False) == [("relu1", 11)]
    assert judged(True) == [("relu1", 11), ("fc", 8)]  # 4 steps of 4 · −7 = −112


def test_registers_without_a_width_are_not_judged():
    """A chip that names none."""
    free = replace(
        V1, threshold_bits=None, bias_bits=None, weight_code_bits=None, channel_wise_threshold=True
    )
    assert check_registers(spiking_graph(threshold=2**40), free) == []


def test_the_rules_of_shapes_hold_on_a_spiking_graph_too():
    """`check` reads any level from FOLDED on."""
    assert violations(check(spiking_graph(), V1, 4)) == []
    assert ("weight_bitwidth", "conv1") in broken(spiking_graph(), bits=5)


# What settings decide on registers -----------------------------------------------------------------


class Joined(nn.Module):
    """Two branches of currents, joined before the ReLU, or of spikes, joined behind it."""

    def __init__(self, early: bool):
        super().__init__()
        self.early = early
        self.a, self.b = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3)
        self.c, self.end = nn.Conv2d(6, 4, 3), nn.Linear(16, 3)
        self.first, self.second = nn.ReLU(), nn.ReLU()

    def forward(self, x):
        """Either way the same numbers."""
        a, b = self.a(x), self.b(x)
        x = torch.cat([a, b], 1).relu() if self.early else torch.cat([self.first(a), self.second(b)], 1)
        return self.end(self.c(x).relu().flatten(1))


class Residual(nn.Module):
    """A convolution, and what it reads, in one sum."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.end = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(64, 3)

    def forward(self, x):
        """Spikes and currents meet."""
        x = self.a(x).relu()
        return self.end((self.b(x) + x).relu().flatten(1))


ONE_CHANNEL = nn.Sequential(nn.Conv2d(2, 1, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
POOLED = nn.Sequential(
    nn.Conv2d(2, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 3),
)  # fmt: skip
OPAQUE = nn.Sequential(nn.Conv2d(2, 4, 3), nn.GELU(), nn.Conv2d(4, 4, 3), nn.ReLU())
DECIDED = ("channel_wise_threshold", "potential_bits")


@pytest.mark.parametrize(("channel_wise", "reset"), [(False, "subtraction"), (True, "zero")])
@pytest.mark.parametrize(
    ("network", "bits", "pooling"),
    [
        (Joined(early=True), 4, "sum"),
        (Joined(early=False), 4, "sum"),
        (Residual(), 4, "sum"),
        (ONE_CHANNEL, 4, "sum"),
        (POOLED, 4, "sum"),
        (POOLED, 4, "spiking"),
        (POOLED, 32, "sum"),
        (OPAQUE, 4, "sum"),
    ],
)
def test_what_settings_decide_is_found_without_converting(
    network, bits, pooling, channel_wise, reset, small_data, training_free
):
    """The same layers break the same rules before anything is computed as after the conversion."""
    settings = training_free(
        quantize={"weight_bitwidth": bits, "channel_wise": channel_wise},
        neurons={"pooling": pooling, "reset_mode": reset},
        check={"allow": tuple(rule_names())},
    )
    chip = Hardware("any", channel_wise_threshold=False, potential_bits=60)
    torch.manual_seed(0)
    verdicts = pipeline.convert(network.eval(), small_data, settings, hardware=chip).verdicts
    graph = pipeline.prepare(network, small_data.input_shapes, settings, settings.neurons.pooling)
    before = violations(pipeline.checked(graph, chip, settings))
    after = {(each.rule, each.layer) for each in violations(verdicts) if each.rule in DECIDED}
    assert {(each.rule, each.layer) for each in before if each.rule in DECIDED} == after
    assert len(violations(verdicts)) == len({(each.rule, each.layer) for each in violations(verdicts)})


def test_one_threshold_a_channel_is_refused_on_v1_before_any_work(small_data, training_free):
    """`--channel_wise`: three rules of the table would do, this one comes from a setting."""
    stages = []
    with pytest.raises(HardwareViolations) as raised:
        pipeline.convert(
            POOLED.eval(), small_data, training_free(quantize={"channel_wise": True}), hardware=V1,
            listener=pipeline.Listener(stage=lambda title, steps: stages.append(title)),
        )  # fmt: skip
    (found,) = raised.value.violations
    assert (found.rule, found.layer, found.limit) == ("channel_wise_threshold", "1", 1)
    assert in_flags(found.remedy) == "convert with --no_channel_wise"
    assert stages == ["trace and fold"]
