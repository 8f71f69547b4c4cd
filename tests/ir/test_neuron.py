"""The neuron: compare and reset (SPEC 1), and its closed form (SPEC 5)."""

import random

import pytest
import torch

from ann2snn_cli.ir import neuron
from ann2snn_cli.ir.contract import Reset


def number(value):
    """A potential or threshold."""
    return torch.tensor(float(value), dtype=torch.float64)


def trace_of(currents, bias, threshold, initial, reset_mode):
    """(spikes, potentials after the reset) of a neuron that adds a current and its bias at each step."""
    potential, spikes, potentials = number(initial), [], []
    for current in currents:
        fired, potential = neuron.fire(potential + current + bias, number(threshold), reset_mode)
        spikes.append(int(fired))
        potentials.append(int(potential))
    return spikes, potentials


def test_subtraction_by_hand():
    """θ = 10, V0 = 5, B = 1, currents 3, 3, 20, −4, 0: what is above the threshold stays."""
    #             5+3+1=9  9+3+1=13->3  3+20+1=24->14  14-4+1=11->1  1+0+1=2
    assert trace_of([3, 3, 20, -4, 0], 1, 10, 5, Reset.SUBTRACTION) == ([0, 1, 1, 1, 0], [9, 3, 14, 1, 2])


def test_zero_by_hand():
    """The same currents: what is above the threshold is lost."""
    #             9        13->0        0+20+1=21->0   0-4+1=-3      -3+0+1=-2
    assert trace_of([3, 3, 20, -4, 0], 1, 10, 5, Reset.ZERO) == ([0, 1, 1, 0, 0], [9, 0, 0, -3, -2])


@pytest.mark.parametrize("reset_mode", Reset)
def test_a_tie_fires(reset_mode):
    """V = θ is a spike and leaves 0; V = θ − 1 is none and stays."""
    assert trace_of([7], 0, 7, 0, reset_mode) == ([1], [0])
    assert trace_of([6], 0, 7, 0, reset_mode) == ([0], [6])


def test_at_most_one_spike_a_step():
    """Charge for many spikes is spent one a step."""
    assert trace_of([35, 0, 0, 0, 0], 0, 10, 0, Reset.SUBTRACTION) == ([1, 1, 1, 0, 0], [25, 15, 5, 5, 5])


def test_thresholds_may_differ_by_channel():
    """A threshold broadcasts over the potential, as the bias does."""
    potential = torch.full((2, 3), 5.0)

    spikes, after = neuron.fire(potential, torch.tensor([4.0, 5.0, 6.0]), Reset.SUBTRACTION)

    assert spikes.tolist() == [[1, 1, 0]] * 2
    assert after.tolist() == [[1, 0, 5]] * 2


def test_the_closed_form_equals_stepping():
    """clip(⌊V/θ⌋, 0, T) is how often a plain Python loop fires, for 2000 random neurons and every tie."""
    draw = random.Random(5)
    cases = [(draw.randint(-200, 400), draw.randint(1, 40), draw.randint(1, 20)) for _ in range(2000)]
    cases += [(multiple * theta, theta, 6) for theta in range(1, 30) for multiple in range(-2, 9)]
    for charge, theta, steps in cases:
        potential, fired = charge, 0
        for _ in range(steps):
            if potential >= theta:
                potential, fired = potential - theta, fired + 1
        assert int(neuron.count(number(charge), number(theta), steps)) == fired, (charge, theta, steps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_is_half_to_even_and_exact_with_gradients(dtype):
    """round_ and floor_ give whole numbers, also on the way to a gradient, which is 1."""
    drawn = torch.randn(20000, generator=torch.Generator().manual_seed(0), dtype=dtype) * 100
    x = torch.cat([torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], dtype=dtype), drawn])
    y = x.clone().requires_grad_()

    rounded, floored = neuron.round_(y), neuron.floor_(y)
    (rounded + 2 * floored).sum().backward()

    assert rounded[:6].tolist() == [-2, -2, 0, 0, 2, 2]
    assert torch.equal(rounded, neuron.round_(x))
    assert torch.equal(floored, x.floor())
    assert bool((y.grad == 3).all())


@pytest.mark.parametrize(
    "charge",
    [
        5.0,
        15.0,
        25.0,
        45.0,
    ],
)
def test_counts_pass_gradients_from_none_to_all(charge):
    """Where 0 ≤ ⌊V/θ⌋ ≤ T a count follows its potential: with θ = 10 and T = 4 from 0 to 49."""
    potential = torch.tensor(charge, dtype=torch.float64, requires_grad=True)

    neuron.count(potential, number(10), 4).backward()

    assert float(potential.grad) == pytest.approx(0.1)


@pytest.mark.parametrize("charge", [-5.0, 55.0])
def test_counts_pass_no_gradient_beyond(charge):
    """A neuron that is pushed further below or above changes nothing."""
    potential = torch.tensor(charge, dtype=torch.float64, requires_grad=True)

    neuron.count(potential, number(10), 4).backward()

    assert float(potential.grad) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (3, 1), (3, 4)])
def test_the_gradients_of_a_count_are_those_of_its_parts(shape, dtype):
    """To the last bit: of a division, a floor that passes gradients, and a clamp that does so on its ends."""
    random = torch.Generator().manual_seed(0)
    potential = torch.randint(-40, 90, (5, 3, 4), generator=random).to(dtype)
    threshold = torch.randint(5, 15, shape, generator=random).to(dtype)
    weights = torch.rand(5, 3, 4, generator=random, dtype=dtype)

    def gradients(count):
        leaves = [each.clone().requires_grad_() for each in (potential, threshold)]
        counts = count(*leaves)
        (counts * weights).sum().backward()
        return [counts.detach(), *(leaf.grad for leaf in leaves)]

    def parts(v, theta):
        return neuron.clamp_(neuron.floor_(v / theta), 0, 4)

    for found, wanted in zip(gradients(lambda *each: neuron.count(*each, 4)), gradients(parts), strict=True):
        assert torch.equal(found, wanted)


def test_a_count_that_is_trained_keeps_one_large_tensor():
    """For the way back: V/θ, and nothing else of its size."""
    potential = torch.rand(64, 8, requires_grad=True)
    threshold = torch.tensor(0.2, requires_grad=True)
    kept = []

    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each) or each, lambda each: each):
        neuron.count(potential, threshold, 4)

    assert [each.numel() for each in kept if each.numel() > 1] == [64 * 8]
