"""8-bit arithmetic is used where it is exact, and nowhere else."""

import weakref

import pytest
import torch
from torch.nn import functional as F

from ann2snn_cli.ir.contract import Contract, Reset
from ann2snn_cli.ir.engine import Request
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import Conv, Input, Integrate, IntegrateFire, Linear
from ann2snn_cli.ir.span import Span
from ann2snn_cli.stages.simulate import ENGINES
from ann2snn_cli.stages.simulate.int8 import conv_by_matrices, largest_input, linear_by_matrices, product

BYTES, WIDE = Span(0, 1), Span(-(2**22), 2**22)

needs_int8 = pytest.mark.skipif(largest_input() == 0, reason="this machine has no 8-bit arithmetic")


def whole(*shape, low=-127, high=127):
    """Random integers."""
    return torch.randint(low, high + 1, shape)


CONVS = {
    "plain": (Conv(whole(24, 16, 3, 3), padding=(1, 1)), (16, 9, 7)),
    "stride": (Conv(whole(8, 16, 3, 3), stride=(2, 1), padding=(2, 0)), (16, 9, 7)),
    "a tap has no dilation": (Conv(whole(8, 16, 3, 1), padding=(1, 2), dilation=(1, 3)), (16, 9, 7)),
    "groups": (Conv(whole(32, 8, 3, 3), groups=4), (32, 5, 5)),
    "one axis": (Conv(whole(16, 8, 3), stride=(2,), padding=(1,), dilation=(1,)), (8, 11)),
}


@needs_int8
@pytest.mark.parametrize("name", CONVS)
def test_a_convolution_in_8_bits_is_the_integer_convolution(name):
    """Of inputs up to the largest that is allowed, to the last integer."""
    op, shape = CONVS[name]
    x = whole(5, *shape, low=0, high=largest_input())
    convolve = F.conv1d if len(shape) == 2 else F.conv2d
    wanted = convolve(x, op.weight, None, op.stride, op.padding, op.dilation, op.groups)

    run = product(op, Span(0, largest_input()), WIDE)

    assert torch.equal(run(x.to(torch.uint8)).long(), wanted)


ON_A_GPU = CONVS | {
    "stride, dilation": (
        Conv(whole(8, 16, 3, 3), stride=(2, 1), padding=(2, 0), dilation=(2, 1)),
        (16, 9, 7),
    ),
    "stride": (Conv(whole(8, 16, 3, 3), stride=(2, 1), padding=(2, 0)), (16, 9, 7)),
    "a tap has no dilation": (Conv(whole(8, 16, 3, 1), padding=(1, 2), dilation=(1, 3)), (16, 9, 7)),
    "channels and outputs in no multiple of 8": (Conv(whole(9, 13, 3, 2), stride=(1, 2)), (13, 9, 7)),
    "few pixels": (Conv(whole(9, 8, 1, 1)), (8, 1, 1)),
}


@pytest.mark.parametrize("name", sorted(set(ON_A_GPU) - {"groups"}))
def test_a_convolution_by_matrices_is_the_integer_convolution(name):
    """As on a GPU, where inputs reach 127; of no samples too. Groups are left to float32 there."""
    op, shape = ON_A_GPU[name]
    x = whole(5, *shape, low=0, high=127)
    convolve = F.conv1d if len(shape) == 2 else F.conv2d
    wanted = convolve(x, op.weight, None, op.stride, op.padding, op.dilation)

    run = conv_by_matrices(op)

    assert torch.equal(run(x.to(torch.uint8)).long(), wanted)
    assert run(x[:0].to(torch.uint8)).shape == wanted[:0].shape


def test_a_linear_layer_by_matrices_is_the_integer_one():
    """Of vectors, and of the vectors of a map; of no samples too."""
    op = Linear(whole(9, 13))
    for shape in ((3, 13), (40, 2, 13), (0, 13)):
        x = whole(*shape, low=0, high=127)
        found = linear_by_matrices(op)(x.to(torch.uint8))
        assert torch.equal(found.long(), F.linear(x, op.weight))


def test_what_was_prepared_is_forgotten_with_its_op():
    """Weights are packed once, and not kept when nobody has the op any more."""
    op = Conv(whole(16, 16, 3, 3))
    product(op, BYTES, WIDE)
    held = weakref.ref(op)
    del op
    assert held() is None


@needs_int8
def test_the_worst_sums_do_not_saturate():
    """All weights and all inputs at their largest."""
    op = Linear(torch.full((4, 600), -127))
    x = torch.full((2, 600), largest_input(), dtype=torch.uint8)

    assert (product(op, Span(0, largest_input()), WIDE)(x) == -127 * 600 * largest_input()).all()


@needs_int8
@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_sums_that_float32_does_not_hold_are_made_of_two_parts(kind):
    """Half of the bits of the inputs at a time; each sum is above 2^24, and odd."""
    weight = torch.full((8, 2000), -127) - torch.arange(8)[:, None] % 2 * -2
    x = whole(3, 2000, low=largest_input() - 60, high=largest_input())
    wanted = F.linear(x, weight)
    op = Linear(weight) if kind == "linear" else Conv(weight.reshape(8, 500, 2, 2))
    given = x if kind == "linear" else x.reshape(3, 500, 2, 2)

    run = product(op, Span(0, largest_input()), Span(-(2**27), 2**27))

    assert run is not None
    assert (wanted.abs() > 2**24).all()
    assert torch.equal(run(given.to(torch.uint8)).long().flatten(1), wanted)


@pytest.mark.parametrize(
    ("op", "given", "gives"),
    [
        (Linear(whole(4, 16) + 200), BYTES, WIDE),
        (Linear(whole(4, 16)), Span(-1, 1), WIDE),
        (Linear(whole(4, 16)), Span(0, 256), WIDE),
        (Linear(torch.full((1, 2**18), 127)), Span(0, 255), Span(0, 2**33)),
        (Linear(whole(4, 16) / 2), BYTES, WIDE),
        (Conv(whole(8, 16, 3, 3), transposed=True), BYTES, WIDE),
        (Conv(whole(8, 16, 3, 3), dilation=(2, 1)), BYTES, WIDE),
    ],
    ids=[
        "wide weights",
        "negative inputs",
        "wide inputs",
        "wide sums",
        "real weights",
        "transposed",
        "dilated: oneDNN errs",
    ],
)
def test_what_would_not_be_exact_is_refused(op, given, gives):
    """By its weights, by what it is given, by what it gives, or by its kind."""
    assert product(op, given, gives) is None


@pytest.mark.parametrize("reset_mode", Reset)
@pytest.mark.parametrize("delay", [0, 3, 5])
def test_wide_networks_are_stepped_in_8_bits_as_the_reference_steps_them(delay, reset_mode, monkeypatch):
    """A convolution and a linear layer of many channels: every spike and every potential."""
    graph, x = network(Contract(5, reset_mode, delay)), torch.rand(6, 8, 6, 6)
    used = []
    monkeypatch.setattr(
        "ann2snn_cli.stages.simulate.int8.product", lambda op, *spans: used.append(op) or product(op, *spans)
    )

    found, wanted = (shown(ENGINES[name], graph, x) for name in ("folded", "reference"))

    assert any(isinstance(op, Conv) for op in used)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def network(contract):
    """Two populations and a read-out."""
    torch.manual_seed(0)
    one = torch.tensor(1.0, dtype=torch.float64)
    nothing = torch.tensor(0)
    nodes = (
        Node("x", Input(1 / 255), (), (8, 6, 6), unit=one),
        Node("conv1", Conv(whole(16, 8, 3, 3), padding=(1, 1), bits=8), ("x",), (16, 6, 6), unit=one),
        Node("fire1", IntegrateFire(torch.tensor(60_000), nothing + 900, nothing + 30_000), ("conv1",),
             (16, 6, 6), unit=one),
        Node("conv2", Conv(whole(16, 16, 3, 3), stride=(2, 2), bits=8), ("fire1",), (16, 2, 2), unit=one),
        Node("fire2", IntegrateFire(torch.tensor(500), nothing - 3, nothing + 250, 1), ("conv2",),
             (16, 2, 2), unit=one),
        Node("fc", Linear(whole(10, 2), bits=8), ("fire2",), (16, 2, 10), unit=one),
        Node("out", Integrate(nothing, nothing), ("fc",), (16, 2, 10), unit=one),
    )  # fmt: skip
    return Graph(nodes, ("out",), Level.SPIKING, contract)


def shown(engine, graph, x):
    """Trains and potentials of all neurons, and the outputs."""
    found = {}

    def watch(node, activity):
        found[node.name] = activity.train.double()
        found[f"{node.name}, potentials"] = activity.potentials.double()

    outputs = engine.run(graph, Request(x, watch=watch, potentials=True, by_step=True)).by_step
    assert 0.02 < found["fire2"].mean() < 0.98
    return found | {"outputs": outputs[0]}
