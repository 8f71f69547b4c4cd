"""Weights that are fitted to what a layer gives, and rounded so that its inputs make up for one another."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.grid import choose_step, to_grid
from ann2snn_cli.ir.ops import Conv, Input, Linear
from ann2snn_cli.stages.quantize import least_squares
from ann2snn_cli.stages.quantize.least_squares import fitted, moments, rounded


def random(*shape, seed=0):
    """Normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


LAYERS = {
    "linear": (Linear(random(5, 6)), (6,)),
    "linear of rows": (Linear(random(5, 6)), (3, 6)),
    "conv": (Conv(random(4, 3, 3, 3), padding=(1, 1)), (3, 6, 6)),
    "conv with all there is": (
        Conv(random(4, 3, 3, 2), stride=(2, 1), padding=(1, 2), dilation=(2, 1), groups=2),
        (6, 7, 6),
    ),
    "conv of one axis": (
        Conv(random(4, 3, 3), stride=(2,), padding=(1,), dilation=(1,), groups=1),
        (3, 9),
    ),
    "depthwise": (Conv(random(4, 1, 3, 3), groups=4), (4, 6, 6)),
}


@pytest.fixture(params=LAYERS)
def layer(request):
    """A layer, what it read in floats, and what it will read: rounded, and too small."""
    op, shape = LAYERS[request.param]
    x = random(40, *shape, seed=1).relu() + 0.5
    return op, x, (x * 2).round() / 2 * 0.8 + 0.1


@pytest.mark.parametrize("centred", [True, False])
def test_the_fitted_weights_are_where_the_error_is_least(layer, centred):
    """The gradient of E|W x - W' x̂|² + λ|W' - W|², by torch, is zero there and not at the float weights."""
    op, x, found = layer
    wanted = op.linear([x], ())
    seen = moments(op, found, wanted, centred=centred)
    ridge = (least_squares.RIDGE + seen.inputs.shape[1] / seen.count) * seen.inputs.diagonal(
        dim1=1, dim2=2
    ).mean(1)
    ridge = ridge.repeat_interleave(len(op.weight) // len(ridge)).reshape(-1, *[1] * (op.weight.dim() - 1))

    def gradient(weight):
        weight = weight.double().requires_grad_()
        error = replace(op, weight=weight).linear([found.double()], ()) - wanted.double()
        channel = -1 if isinstance(op, Linear) else 1
        error = error.movedim(channel, 0).flatten(1)
        error = error - error.mean(1, keepdim=True) * centred
        loss = error.square().mean(1).sum() + (ridge * (weight - op.weight) ** 2).sum()
        return torch.autograd.grad(loss, weight)[0].abs().max()

    assert gradient(fitted(op, seen).weight) < 1e-4 * gradient(op.weight)


def test_few_samples_change_little():
    """Where there are more inputs than samples, the weights stay near to what they were."""
    op = Linear(random(3, 200))
    few, many = random(5, 200, seed=1), random(5000, 200, seed=1)
    few, many = (fitted(op, moments(op, x + 0.5, op.linear([x], ()), centred=True)) for x in (few, many))
    assert (few.weight - op.weight).norm() < 0.05 * op.weight.norm()
    assert (many.weight - op.weight).norm() < 1e-4 * op.weight.norm()  # only the means differ


def place_of(op, shape):
    """The op in a graph, reading an input."""
    nodes = (Node("x", Input(), (), shape), Node("layer", op, ("x",), (len(op.weight),)))
    graph = Graph(nodes, ("layer",), Level.FLOAT, Contract(4))
    return graph.place(graph["layer"])


def on_grid(op, seen, shape, bits, *, channel_wise=False):
    """The op rounded, and each of its weights rounded to the nearest."""
    unit, place = torch.tensor(0.5, dtype=torch.float64), place_of(op, shape)
    op = replace(op, bits=bits)
    op = op.quantized([unit], torch.zeros(()), place, channel_wise=channel_wise)
    nearest = op.by_weight(op.step) * to_grid(op.absorb(unit, place), op.by_weight(op.step), bits) / unit
    return rounded(op, seen, unit, place), replace(op, weight=nearest.float())


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("channel_wise", [False, True])
def test_no_output_is_worse_off_than_by_rounding_to_the_nearest(layer, bits, channel_wise):
    """On the samples themselves, output by output; and together they are better off at few bits."""
    op, x, found = layer
    found = found.flatten(1).cumsum(1).reshape(found.shape)  # inputs that resemble one another
    wanted = op.linear([found], ())
    seen = moments(op, found, wanted, centred=True)

    better, nearest = on_grid(op, seen, tuple(x.shape[1:]), bits, channel_wise=channel_wise)

    def errors(each):
        error = (each.linear([found.double()], ()) - wanted.double()).movedim(
            -1 if isinstance(op, Linear) else 1, 0
        )
        return error.flatten(1).var(1)

    assert bool((errors(better) <= errors(nearest) * (1 + 1e-4)).all())
    if bits < 5:
        assert errors(better).sum() < errors(nearest).sum()


def test_the_result_lies_on_the_grid(layer):
    """Rounding it once more, as `integers` does, changes nothing."""
    op, x, found = layer
    seen = moments(op, found, op.linear([x], ()), centred=True)
    better, _ = on_grid(op, seen, tuple(x.shape[1:]), 3)
    codes = better.absorb(torch.tensor(0.5), place_of(op, tuple(x.shape[1:]))) / better.by_weight(better.step)
    assert (codes - codes.round()).abs().max() < 1e-5
    assert codes.abs().max() < 3.001


def test_two_inputs_that_are_the_same_share_one_weight():
    """By hand: 0.4 x + 0.4 x on whole numbers is x, of one of them; rounded by itself each is lost."""
    x = random(50, 1)
    found = x.expand(-1, 2).contiguous()
    op = replace(Linear(torch.tensor([[0.4, 0.4]])), bits=3, step=torch.tensor(1.0, dtype=torch.float64))
    seen = moments(op, found, op.linear([found], ()), centred=True)
    better = rounded(op, seen, torch.ones((), dtype=torch.float64), place_of(op, (2,)))
    assert sorted(better.weight.flatten().tolist()) == [0, 1]


def test_it_finds_the_best_codes_more_often_than_not():
    """Of all 3^5 choices of 2 bits, by brute force."""
    ratios = []
    for seed in range(20):
        x = random(60, 5, seed=seed) @ random(5, 5, seed=seed + 100)
        op = Linear(random(1, 5, seed=seed + 200))
        step = choose_step(op.weight.double(), 2)
        every = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=5))) * step.float()
        errors = (F.linear(x, every - op.weight)).var(0, correction=0)
        op = replace(op, bits=2, step=step[0])
        seen = moments(op, x, op.linear([x], ()), centred=True)
        found = rounded(op, seen, torch.ones((), dtype=torch.float64), place_of(op, (5,))).weight
        ratios.append(float(F.linear(x, found - op.weight).var(correction=0) / errors.min()))
    assert min(ratios) > 1 - 1e-4
    assert sum(ratio < 1.001 for ratio in ratios) > 10
