"""Bounds: proved from the weights, reached by networks made for it, exceeded by none."""

import gc
import itertools
import math
import random
import weakref
from dataclasses import replace

import pytest
import torch

from ann2snn_cli.ir import bounds as module
from ann2snn_cli.ir.bounds import bounds, bounds_by_delay
from ann2snn_cli.ir.contract import Contract, Reset
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import (
    Add,
    AvgPool,
    Concat,
    Conv,
    Gather,
    Input,
    Integrate,
    IntegrateFire,
    Linear,
    MaxPool,
    Opaque,
    Permute,
    Ref,
    Reshape,
    Scale,
)
from ann2snn_cli.ir.ops.base import LinearOp
from ann2snn_cli.ir.span import Span

ONE = torch.tensor(1.0, dtype=torch.float64)


def spiking(*nodes, timesteps=4, reset_mode=Reset.SUBTRACTION, delay=0):
    """A SPIKING graph of (name, op, inputs, shape)."""
    nodes = tuple(Node(*node, unit=ONE) for node in nodes)
    return Graph(nodes, (nodes[-1].name,), Level.SPIKING, Contract(timesteps, reset_mode, delay))


def fires(threshold, bias=0, initial=0, fraction_bits=0):
    """A population with one threshold."""
    return IntegrateFire(torch.tensor(threshold), torch.tensor(bias), torch.tensor(initial), fraction_bits)


def codes(values):
    """Integer weights."""
    return torch.tensor(values, dtype=torch.int8)


# Spans ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "bits"),
    [
        (0, 0, 1), (-1, 0, 1), (0, 1, 2), (-2, 1, 2), (-3, 1, 3), (0, 127, 8), (0, 128, 9), (-128, 127, 8),
        (-129, 0, 9), (5, 6, 4), (-6, -5, 4), (-0.5, 0.5, 2),
    ],
)  # fmt: skip
def test_the_bits_are_the_fewest_of_a_twos_complement_register(low, high, bits):
    """n bits hold −2^(n−1) .. 2^(n−1) − 1, one bit fewer does not."""
    assert Span(low, high).bits == bits
    assert -(2 ** (bits - 1)) <= low <= high <= 2 ** (bits - 1) - 1
    fewer = bits - 2
    assert bits == 1 or not -(2**fewer) <= low <= high <= 2**fewer - 1


def test_a_span_without_an_end_says_so():
    """No register holds it."""
    assert Span(-1, 1).finite
    assert not Span(-math.inf, 1).finite
    assert not Span(0, math.inf).finite


# What nodes pass on --------------------------------------------------------------------------------


def test_the_rules_by_hand():
    """Every kind of node once, in numbers, for one step and for four."""
    grouped = Conv(codes([[[1, -2]], [[3, 4]]]), None, (1,), (0,), (1,), 2)
    transposed = Conv(codes([[[1, -2]], [[3, 4]]]), None, (1,), (0,), (1,), 1, True, (0,))
    graph = spiking(
        ("x", Input(unit=1.0, low=-100, high=127), (), (2, 4)),
        ("scaled", Scale(codes([[-6], [2]])), ("x",), (2, 4)),
        ("n", fires(50), ("x",), (2, 4)),
        ("conv", grouped, ("n",), (2, 3)),
        ("up", transposed, ("n",), (1, 5)),
        ("sum", Add((torch.tensor(5), torch.tensor(-3))), ("n", "n"), (2, 4)),
        ("pool", AvgPool((4,), (4,), (0,)), ("n",), (2, 1)),
        ("max", MaxPool((2,), (2,), (0,), (1,)), ("sum",), (2, 2)),
        ("gate", MaxPool((2,), (2,), (0,), (1,)), ("n",), (2, 2)),
        ("cat", Concat(), ("n", "sum"), (4, 4)),
        ("flat", Reshape(), ("cat",), (16,)),
        ("turned", Permute((1, 0)), ("cat",), (4, 4)),
        ("padded", Gather(torch.tensor([-1, 0])), ("flat",), (2,)),
        ("nothing", Gather(torch.tensor([-1, -1])), ("flat",), (2,)),
    )

    found = bounds(graph)

    steps = {
        "x": (-100, 127), "scaled": (-762, 600), "n": (0, 1), "conv": (-2, 7), "up": (-2, 8), "sum": (-3, 5),
        "pool": (0, 4), "max": (-3, 5), "gate": (0, 1), "cat": (-3, 5), "flat": (-3, 5), "turned": (-3, 5),
        "padded": (0, 1), "nothing": (0, 0),
    }  # fmt: skip
    assert {name: bound.passed_on for name, bound in found.items()} == {
        name: Span(*ends) for name, ends in steps.items()
    }
    assert all(found[name].total == Span(4 * low, 4 * high) for name, (low, high) in steps.items())
    assert [name for name, bound in found.items() if bound.potential is not None] == ["n"]


def test_at_a_border_only_the_synapses_that_are_there_count():
    """[1, −2, 4] over two pixels and padding: −2·a + 4·b and a − 2·b, so never 1 + 4."""
    graph = spiking(
        ("x", Input(unit=1.0), (), (1, 2)),
        ("conv", Conv(codes([[[1, -2, 4]]]), None, (1,), (1,), (1,)), ("x",), (1, 2)),
    )
    assert bounds(graph)["conv"].passed_on == Span(-2 * 255, 4 * 255)


def test_the_maximum_of_sums_may_fall_as_fast_as_the_fastest_of_its_window():
    """2a − 4b leads by 4, then falls by 4, while −a + 2b can fall by 1 at most."""
    graph = spiking(
        ("x", Input(unit=1.0, high=1), (), (1, 2)),
        ("conv", Conv(codes([[[-1, 2, -4]]]), None, (1,), (1,), (1,)), ("x",), (1, 2)),
        ("max", MaxPool((2,), (2,), (0,), (1,)), ("conv",), (1, 1)),
    )
    assert bounds(graph)["max"].passed_on == Span(-4, 2)
    train = torch.tensor([[2.0, -1], [2, -1], [2, -1], [-4, 2]]).reshape(4, 1, 1, 2)
    passed = graph["max"].op.train([train], graph.place(graph["max"])).train
    assert passed.flatten().tolist() == [2, 2, 2, -4]


def test_an_input_that_is_never_zero_still_leaves_room_for_sums_without_it():
    """Pixels of 10 to 20 times 3: a register that has not added them yet holds 0."""
    graph = spiking(
        ("x", Input(unit=1.0, low=10, high=20), (), (1,)),
        ("fc", Linear(codes([[3]])), ("x",), (1,)),
        ("n", fires(1000), ("fc",), (1,)),
    )
    assert bounds(graph)["x"].passed_on == Span(0, 20)
    assert bounds(graph)["n"].potential == Span(0, 4 * 60)


# Accumulators --------------------------------------------------------------------------------------


def reached(low, high, bias, initial, threshold, steps, reset_mode, delay):
    """(lowest, highest) of all potentials there are, with every current, in every order of addition (SPEC 5).

    Of the first D steps any currents and biases may have been added, in any order; then come the others step
    by step, in either order, each with its comparison; then D comparisons more.
    """
    currents, held, seen = range(low, high + 1), {initial}, {initial}
    for step in range(delay + 1):
        seen |= {v + count * bias for v in held for count in range(delay + 1)}
        if step < delay:
            held = {v + current for v, current in itertools.product(held, currents)}
    held = {v + delay * bias for v in held}
    for step in range(delay, delay + steps):
        if step < steps:
            for v, current in itertools.product(held, currents):
                seen |= {v + current, v + bias, v + current + bias}
            held = {v + current + bias for v, current in itertools.product(held, currents)}
        held = {reset(v, threshold, reset_mode) for v in held}
        seen |= held
    return min(seen), max(seen)


def reset(v, threshold, reset_mode):
    """SPEC 1, on plain integers."""
    if v < threshold:
        return v
    return v - threshold if reset_mode is Reset.SUBTRACTION else 0


NEURONS = [  # lowest and highest current, bias, initial, threshold, steps
    (-3, 3, 0, 2, 5, 4), (-9, 9, 0, 0, 1, 5), (0, 9, 0, 3, 7, 5), (-9, 0, 0, 3, 7, 5), (-4, 8, 1, 9, 19, 5),
    (-4, 8, -2, 9, 10, 3), (-8, 1, 5, 0, 6, 5), (-2, 9, -9, 5, 11, 5), (-6, 6, -5, 1, 2, 4),
    (0, 0, 0, 0, 3, 2), (-1, 2, 1, 19, 20, 1), (-5, 7, 3, 4, 5, 5), (0, 6, 0, 0, 13, 5),
    (-7, 9, 6, 3, 8, 5), (0, 3, -3, 6, 7, 5), (-3, 3, 0, 5, 5, 4),
]  # fmt: skip


def one_neuron(low, high, bias, initial, threshold, steps, reset_mode=Reset.SUBTRACTION):
    """A neuron whose current is any integer from low to high."""
    return spiking(
        ("x", Input(unit=1.0, low=low, high=high), (), (1,)),
        ("n", fires(threshold, bias, initial), ("x",), (1,)),
        timesteps=steps,
        reset_mode=reset_mode,
    )


@pytest.mark.parametrize("reset_mode", Reset)
@pytest.mark.parametrize("neuron", NEURONS)
def test_of_one_neuron_the_bounds_are_exactly_what_can_be_reached(neuron, reset_mode):
    """For every delay against every train of currents there is: nothing beyond, and both ends attained."""
    graph = one_neuron(*neuron, reset_mode)
    for delay in range(graph.timing.timesteps + 1):
        expected = Span(*reached(*neuron, reset_mode, delay))
        assert bounds(graph, delay)["n"].potential == expected, delay


@pytest.mark.parametrize("reset_mode", Reset)
@pytest.mark.parametrize(
    "neuron",
    [
        (0, 2, 6, 15, 20, 4), (-1, 2, 6, 30, 7, 4), (-2, 0, -3, 30, 7, 4), (0, 5, 1, -9, 3, 5),
        (0, 0, 6, 15, 20, 5), (-5, 0, 6, 21, 1, 3), (-9, 5, -1, 40, 16, 5), (-1, 6, 0, 12, 7, 1),
    ],
)  # fmt: skip
def test_biases_and_initial_charges_out_of_the_ordinary_stay_within_the_bounds(neuron, reset_mode):
    """Charged above the threshold or below 0, or driven one way whatever comes in, for every delay."""
    graph = one_neuron(*neuron, reset_mode)
    for delay in range(graph.timing.timesteps + 1):
        low, high = reached(*neuron, reset_mode, delay)
        span = bounds(graph, delay)["n"].potential
        assert span.low <= low <= high <= span.high, delay


def test_random_neurons_stay_within_their_bounds_which_are_seldom_wider():
    """Three hundred neurons of any kind and delay; four of five reach both ends."""
    draw, exact = random.Random(3), 0
    for _ in range(300):
        steps = draw.randint(1, 4)
        neuron = (
            *(-draw.randint(0, 9), draw.randint(0, 9), draw.randint(-9, 9)),
            *(draw.randint(-12, 30), draw.randint(1, 25), steps),
        )
        reset_mode, delay = draw.choice(list(Reset)), draw.randint(0, steps)
        low, high = reached(*neuron, reset_mode, delay)
        span = bounds(one_neuron(*neuron, reset_mode), delay)["n"].potential
        assert span.low <= low <= high <= span.high, (neuron, reset_mode, delay)
        exact += span == Span(low, high)
    assert exact > 240


def test_a_population_reaches_the_bounds_computed_by_hand():
    """θ = 20, V0 = 5, B = 1, spikes of weights 9, 8, −5 through one fraction bit, T = 4.

    D = 0: 34 + 1 come in at most and 20 go out: 5 + 3·15 + 35. At least −10 + 1 come in, and in the last step
    the synapses may be first: 5 − 3·9 − 10. D = T: the biases may come last: 5 + 4·35, 5 − 4·10.
    D = 2: 5 + 2·35 at the first comparison but one, then 15 more, then 35. The lowest is as without delay.
    """
    graph = spiking(
        ("x", Input(unit=1.0, low=0, high=1), (), (3,)),
        ("fc", Linear(codes([[9, 8, -5]])), ("x",), (1,)),
        ("n", fires(20, bias=1, initial=5, fraction_bits=1), ("fc",), (1,)),
    )

    assert bounds(graph, 0)["n"].potential == Span(5 - 3 * 9 - 10, 5 + 3 * 15 + 35)
    assert bounds(graph, 2)["n"].potential == Span(5 - 3 * 9 - 10, 5 + 2 * 35 + 15 + 35)
    assert bounds(graph, 4)["n"].potential == Span(5 - 4 * 10, 5 + 4 * 35)

    for delay, highest in ((0, 5 + 3 * 15 + 35), (2, 5 + 2 * 35 + 15 + 35)):
        last = 3 - delay  # the firing step at which the last of the input comes in
        assert held(graph, delay, [1, 1, 0])["n"][last].tolist() == [[highest - 20]]
        assert held(graph, delay, [0, 0, 1])["n"][last].tolist() == [[5 - 3 * 9 - 10 + 1]]  # after the bias
    assert held(graph, 4, [1, 1, 0])["n"][0].tolist() == [[5 + 4 * 35 - 20]]
    assert held(graph, 4, [0, 0, 1])["n"][-1].tolist() == [[5 - 4 * 10 + 4]]


def test_the_delay_is_the_graphs_own_unless_given():
    """As of the neuron above."""
    for own in range(5):
        graph = one_neuron(-9, 9, 0, 0, 1, 4)
        graph = replace(graph, contract=graph.timing.with_delay(own))
        assert bounds(graph) == bounds(graph, own)
        assert bounds(graph, 4)["n"].potential == Span(-36, 36)
    assert bounds(graph, 0)["n"].potential.high < 36


@pytest.mark.parametrize("reset_mode", Reset)
def test_several_delays_are_proved_in_one_walk(reset_mode, monkeypatch):
    """The same bounds as one by one; what a node passes on in one step is computed once for all of them."""
    graph, again = random_graph(3, reset_mode), random_graph(3, reset_mode)
    delays = range(graph.timing.timesteps + 1)
    wanted = {delay: bounds(again, delay) for delay in delays}
    walks = []
    sweep = module.sweep
    monkeypatch.setattr(module, "sweep", lambda *each: walks.append(1) or sweep(*each))

    assert bounds_by_delay(graph, delays) == wanted
    assert {delay: bounds(graph, delay) for delay in delays} == wanted
    assert len(walks) == 1


def held(graph, delay, sample):
    """By node: the potentials that the ops give, [timesteps, 1, ...]."""
    trains, found = {}, {}
    for node in graph.nodes:
        if isinstance(node.op, Input):
            trains[node.name] = shown(graph, torch.tensor([sample]).double())
        else:
            activity = compute(graph, node, trains, delay)
            trains[node.name], found[node.name] = activity.train, activity.potentials
    return found


def shown(graph, sample):
    """The same sample at every step."""
    return sample.expand(graph.timing.timesteps, *sample.shape)


def compute(graph, node, trains, delay):
    """What a node makes of trains."""
    place = graph.place(node, contract=graph.timing.with_delay(delay), keeps_potentials=True)
    return node.op.train([trains[name] for name in node.inputs], place)


def test_a_read_out_adds_up_all_steps_and_its_initial_charge():
    """Row one: 4·(6·255) + 4·10 + 3 in all, 40 biases last; row two falls to 4·(−7·255) − 4·5 + 1."""
    graph = spiking(
        ("x", Input(unit=1.0), (), (3,)),
        ("fc", Linear(codes([[1, 2, 3], [-7, 0, 0]])), ("x",), (2,)),
        ("out", Integrate(torch.tensor([10, -5]), torch.tensor([3, 1])), ("fc",), (2,)),
    )

    found = bounds(graph)["out"]

    assert found.potential == found.total == Span(4 * -7 * 255 - 4 * 5 + 1, 4 * 6 * 255 + 4 * 10 + 3)
    for delay in (0, 2, 4):  # which is no matter to a read-out
        assert bounds(graph, delay)["out"] == found
        last = held(graph, delay, [255, 255, 255])["out"][-1]
        assert last.tolist() == [[found.total.high, found.total.low]]
    assert found.passed_on == Span(-7 * 255 - 5, 6 * 255 + 10 + 3)


def test_neurons_of_several_axes_share_their_biases_along_the_last():
    """Two tokens of two features: (10, −20) is a bias by feature, and one initial charge is for all."""
    graph = spiking(
        ("x", Input(unit=1.0, high=1), (), (2, 2)),
        ("pass", Integrate(torch.tensor([10, -20]), torch.tensor(3)), ("x",), (2, 2)),
        ("fc", Linear(codes([[1, 0]])), ("pass",), (2, 1)),
        ("n", IntegrateFire(torch.tensor([999]), torch.tensor([5]), torch.tensor(1)), ("fc",), (2, 1)),
        timesteps=1,
    )
    found = bounds(graph)
    assert found["pass"].passed_on == Span(-20, 1 + 10 + 3)
    assert found["fc"].passed_on == Span(0, 1 + 10 + 3)
    assert found["n"].potential == Span(1, 1 + 14 + 5)


# Against simulation --------------------------------------------------------------------------------


def random_graph(seed, reset_mode):
    """Every kind of node between an input of either sign, three populations and a read-out."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low, high, *shape):
        return torch.randint(low, high + 1, shape, generator=generator)

    def population(channels, highest, fraction_bits=0):
        shape = (channels, 1, 1)
        return IntegrateFire(
            draw(1, highest, *shape), draw(-9, 9, *shape), draw(0, highest // 2, *shape), fraction_bits
        )

    low = int(draw(-127, 0))
    grouped = Conv(draw(-7, 7, 4, 1, 3, 3), None, (1, 1), (1, 1), groups=2)
    up = Conv(draw(-7, 7, 4, 3, 2, 2), None, (2, 2), groups=2, transposed=True)
    return spiking(
        ("x", Input(unit=1.0, low=low, high=int(draw(1, 255))), (), (2, 4, 4)),
        ("conv", grouped, ("x",), (4, 4, 4)),
        ("a", population(4, 900, 1), ("conv",), (4, 4, 4)),
        ("gate", MaxPool((3, 3), (1, 1), (1, 1), (1, 1)), ("a",), (4, 4, 4)),
        ("pool", AvgPool((2, 2), (2, 2), (0, 0)), ("gate",), (4, 2, 2)),
        ("up", up, ("pool",), (6, 4, 4)),
        ("down", Conv(draw(-7, 7, 6, 4, 1, 1)), ("a",), (6, 4, 4)),
        ("highest", MaxPool((3, 3), (1, 1), (1, 1), (1, 1)), ("down",), (6, 4, 4)),
        ("sum", Add((draw(1, 90, 6, 1, 1), draw(1, 9))), ("up", "highest"), (6, 4, 4)),
        ("b", population(6, 300), ("sum",), (6, 4, 4)),
        ("cat", Concat(), ("a", "b"), (10, 4, 4)),
        ("scale", Scale(draw(-7, 7, 10, 1, 1)), ("cat",), (10, 4, 4)),
        ("c", population(10, 9, 3), ("scale",), (10, 4, 4)),
        ("turned", Permute((1, 2, 0)), ("c",), (4, 4, 10)),
        ("some", Gather(draw(-1, 159, 12)), ("turned",), (12,)),
        ("fc", Linear(draw(-7, 7, 5, 12)), ("some",), (5,)),
        ("out", Integrate(draw(-9, 9, 5), draw(0, 4, 5)), ("fc",), (5,)),
        timesteps=int(draw(1, 6)),
        reset_mode=reset_mode,
    )


def extremes(graph):
    """Samples: all at the lowest or the highest, what drives some neurons of `a` most, and random ones."""
    op = graph.inputs[0].op
    pull = synapses(graph, graph["conv"])["x"].T[::11].sign()
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(8, pull.shape[1], generator=generator, dtype=torch.float64) * 2 - 1
    ends = torch.cat([torch.ones_like(noise[:1]), -torch.ones_like(noise[:1]), pull, -pull, noise.sign()])
    x = torch.where(ends > 0, op.high, torch.where(ends < 0, op.low, 0)).double()
    some = torch.where(noise > 0, noise * op.high, -noise * op.low).round()
    return torch.cat([x, some]).reshape(-1, *graph.inputs[0].shape)


def synapses(graph, node):
    """By the name of what stores a value: the matrix [its elements, elements of `node`] that leads here."""
    if not isinstance(node.op, LinearOp):
        size = math.prod(node.shape)
        return {node.name: torch.eye(size, dtype=torch.float64)}
    found = {}
    for index, feeder in enumerate(graph.fed_by(node)):
        for name, matrix in synapses(graph, feeder).items():
            xs = [torch.zeros(len(matrix), *other.shape, dtype=torch.float64) for other in graph.fed_by(node)]
            xs[index] = matrix.reshape(-1, *feeder.shape)
            found[name] = found.get(name, 0) + node.op.linear(xs, node.shape).flatten(1)
    return found


def terms(graph, node, trains):
    """What each synapse adds at each step, [timesteps, batch, synapses, elements of `node`]."""
    parts = [trains[name].flatten(2)[..., None] * matrix for name, matrix in synapses(graph, node).items()]
    return torch.cat(parts, dim=2)


def partial_sums(values, dim):
    """The sums of every subset lie between these: the negative terms added up, and the positive ones."""
    return torch.stack([values.clamp(max=0).sum(dim), values.clamp(min=0).sum(dim)])


def within(values, span):
    """Do all values lie in a span?"""
    return values.numel() == 0 or (span.low <= float(values.min()) and float(values.max()) <= span.high)


@pytest.mark.parametrize("share", [0, 0.3, 0.6, 1])
@pytest.mark.parametrize(
    ("seed", "reset_mode"), [(0, Reset.ZERO), (1, Reset.SUBTRACTION), (2, Reset.SUBTRACTION), (3, Reset.ZERO)]
)
def test_no_random_network_leaves_its_bounds(seed, reset_mode, share):
    """What every node passes on, sums of any subset of synapses, potentials between any two additions.

    With a delay of none of its steps, of some and of all.
    """
    graph = random_graph(seed, reset_mode)
    delay = math.ceil(share * graph.timing.timesteps)
    found = bounds(graph, delay)
    trains = {}

    for node in graph.nodes:
        bound = found[node.name]
        if isinstance(node.op, Input):
            trains[node.name] = shown(graph, extremes(graph))
        else:
            activity = compute(graph, node, trains, delay)
            trains[node.name] = activity.train
        assert within(trains[node.name], bound.passed_on), node.name
        assert within(trains[node.name].cumsum(0), bound.total), node.name
        if isinstance(node.op, LinearOp):
            assert within(partial_sums(terms(graph, node, trains), 2), bound.passed_on), node.name
        if isinstance(node.op, IntegrateFire | Integrate):
            (feeder,) = graph.fed_by(node)
            for potential in potentials(node, terms(graph, feeder, trains), activity, delay):
                assert within(potential, bound.potential), node.name


def potentials(node, synaptic, activity, delay):
    """All that lies in the accumulators of a node: after each step, and between any two additions.

    Of the first D steps of its input, all of which come before the first comparison, any part may be there.
    """
    op, steps = node.op, len(synaptic)
    delay = 0 if isinstance(op, Integrate) else delay
    bias = op.bias.expand(node.shape).flatten().double()
    initial = op.initial.double() + torch.zeros(node.shape, dtype=torch.float64)
    synaptic = synaptic * 2 ** getattr(op, "fraction_bits", 0)
    added = torch.cat([synaptic, bias.expand_as(synaptic[:, :, :1])], dim=2)
    charged = initial.flatten() + added[:delay].sum((0, 2))  # before the first comparison
    before = torch.cat([charged[None], activity.potentials.flatten(2)])[: steps - delay]
    return (
        activity.potentials,
        initial.flatten() + partial_sums(added[:delay], (0, 2)),
        before + partial_sums(added[delay:], 2),
    )


@pytest.mark.parametrize("reset_mode", Reset)
@pytest.mark.parametrize("delay", [0, 1, 3, 5, 6])
def test_real_weights_stay_within_the_bounds_too(delay, reset_mode):
    """--weight_bitwidth 32: potentials between θ − 1 and θ do not fire either."""
    weight = torch.tensor([[0.25, -0.75], [0.99, 0.5]], dtype=torch.float64)
    thresholds, nothing = torch.tensor([0.8, 1.5]), torch.zeros((), dtype=torch.float64)
    graph = spiking(
        ("x", Input(unit=1.0, low=0, high=1), (), (2,)),
        ("fc", Linear(weight), ("x",), (2,)),
        ("n", IntegrateFire(thresholds, nothing + 0.3, thresholds / 2), ("fc",), (2,)),
        timesteps=6,
        reset_mode=reset_mode,
    )
    span = bounds(graph, delay)["n"].potential
    for sample in itertools.product((0, 1), (0, 1)):
        assert within(held(graph, delay, sample)["n"], Span(span.low - 1e-9, span.high + 1e-9))
    if (delay, reset_mode) == (0, Reset.ZERO):
        assert span.high == pytest.approx(1.5 + 0.99 + 0.5 + 0.3)


# Real numbers --------------------------------------------------------------------------------------


def test_an_opaque_node_has_no_bounds_nor_has_what_it_feeds():
    """Its neurons hold any real number, and pass on spikes again."""
    graph = spiking(
        ("x", Input(unit=1.0), (), (3,)),
        ("f", Opaque("aten.gelu.default", (Ref(0),)), ("x",), (3,)),
        ("fc", Linear(codes([[1, 0, -2]])), ("f",), (1,)),
        ("sum", Add((torch.tensor(1), torch.tensor(1))), ("fc", "fc"), (1,)),
        ("n", fires(5), ("sum",), (1,)),
        ("last", Linear(codes([[2]])), ("n",), (1,)),
        ("out", Integrate(), ("last",), (1,)),
        timesteps=1,
    )
    anything = Span(-math.inf, math.inf)
    for delay in (0, 1, None):
        found = bounds(graph, delay)
        assert [found[name].passed_on for name in ("f", "fc", "sum")] == [anything] * 3
        assert (found["n"].potential, found["n"].passed_on) == (anything, Span(0, 1))
        assert found["out"].potential == Span(0, 2)
        assert found["fc"].largest == math.inf


def test_terms_that_cancel_count_whatever_their_sum():
    """An engine may add 255·64 at each of four steps before it takes it away.

    At each for itself where D = 0, at all of them together where D = T.
    """
    graph = spiking(
        ("x", Input(unit=1.0), (), (2,)),
        ("fc", Linear(codes([[64, -64]])), ("x",), (1,)),
        ("n", fires(7), ("fc",), (1,)),
    )
    assert bounds(graph)["fc"].largest == 2 * 4 * 255 * 64
    assert bounds(graph, 0)["n"].largest >= 2 * 255 * 64
    assert bounds(graph, 4)["n"].largest >= 2 * 4 * 255 * 64


# Once a graph --------------------------------------------------------------------------------------


def test_a_graph_is_proved_once(monkeypatch):
    """`simulate` asks at every call; a graph with another contract is another graph."""
    graph = random_graph(0, Reset.ZERO)
    first, other = bounds(graph), bounds(graph, 1)
    monkeypatch.setattr(module, "sweep", None)
    assert (bounds(graph), bounds(graph, 1)) == (first, other)
    with pytest.raises(TypeError):
        bounds(replace(graph, contract=Contract(99)))


def test_what_is_proved_of_a_graph_goes_with_it():
    """Nothing is kept of a graph that nobody holds."""
    graph = one_neuron(*NEURONS[0])
    bounds(graph)
    gone = weakref.ref(graph)
    del graph
    gc.collect()
    assert gone() is None


def test_the_answer_is_the_askers_to_change():
    """Whoever asks gets a dictionary that nobody else holds."""
    graph = one_neuron(*NEURONS[0])
    bounds(graph, 1).clear()
    bounds(graph).clear()
    assert bounds(graph, 1).keys() == bounds(graph).keys() == {"x", "n"}
