"""The pools over time: max pooling is the difference of running maxima (SPEC 6), average pooling a sum."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Node
from ann2snn_cli.ir.ops import AvgPool, Input, MaxPool, Place

WINDOW = MaxPool((3,), (3,), (0,), (1,))  # over all three inputs at once
CASES = {  # what three inputs pass on, step by step, and what comes out
    # sums so far 0 0 1 1 1 2 | 0 1 1 2 2 3 | 0 1 2 2 3 4: the largest 0 1 2 2 3 4
    "spikes": ([[0, 0, 1, 0, 0, 1], [0, 1, 0, 1, 0, 1], [0, 1, 1, 0, 1, 1]], [0, 1, 1, 0, 1, 1]),
    # 1 1 1 1 | 0 1 1 2 | 0 0 1 1: the second ties at step 2 and leads at step 4 only
    "a tie that comes late": ([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0]], [1, 0, 0, 1]),
    # 1 1 1 2 | 0 1 2 2 | 0 0 0 1: a spike of the old leader at step 4 adds nothing to a tie
    "a leader that is caught up with": ([[1, 0, 0, 1], [0, 1, 1, 0], [0, 0, 0, 1]], [1, 0, 1, 0]),
    "silence": ([[0, 0], [0, 0], [0, 0]], [0, 0]),
    # 5 3 4 0 | 1 2 2 9 | -3 -3 7 7: the largest 5 3 7 9, so it falls by 2 at step 2
    "currents that fall": ([[5, -2, 1, -4], [1, 1, 0, 7], [-3, 0, 10, 0]], [5, -2, 4, 2]),
    # -4 -6 | -5 -9 | -9 -9: never above zero, and no zero of a padding that wins
    "currents below zero": ([[-4, -2], [-5, -4], [-9, 0]], [-4, -2]),
}


def place(inputs, outputs, steps, delay):
    """Where a pool stands between an input of so many values and so many windows."""
    node = Node("pool", WINDOW, ("x",), (1, outputs))
    feeder = Node("x", Input(), (), (1, inputs))
    return Place(node, (feeder,), Contract(steps, delay=delay))


@pytest.mark.parametrize("name", CASES)
def test_max_pooling_by_hand(name):
    """max_i N_i(t) − max_i N_i(t−1), whatever the delay: pools keep their own steps."""
    trains, expected = CASES[name]
    steps = len(expected)
    train = torch.tensor(trains, dtype=torch.float64).T.reshape(steps, 1, 1, 3)
    for delay in sorted({0, 1, steps // 2, steps - 1, steps}):
        passed = WINDOW.train([train], place(3, 1, steps, delay)).train
        assert passed.flatten().tolist() == expected, delay


def test_of_spikes_max_pooling_passes_spikes():
    """Of every train of two inputs over four steps, 0 or 1 comes out, and after each step the largest sum."""
    for trains in product(product((0, 1), repeat=4), repeat=2):
        train = torch.tensor(trains, dtype=torch.float64).T.reshape(4, 1, 1, 2)
        op = replace(WINDOW, kernel=(2,), stride=(2,))
        passed = op.train([train], place(2, 1, 4, 0)).train.flatten().tolist()
        assert set(passed) <= {0, 1}
        for step in range(1, 5):
            assert sum(passed[:step]) == max(sum(one[:step]) for one in trains)


def window(values, kernel, stride, padding, dilation, start):
    """The values of one window along both axes; places of the padding are left out."""
    rows, columns = ([start[a] * stride - padding + i * dilation for i in range(kernel)] for a in (0, 1))
    return [values[r][c] for r in rows for c in columns if 0 <= r < len(values) and 0 <= c < len(values[0])]


@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 0, 1), (2, 1, 1), (3, 1, 1), (1, 1, 2)])
def test_windows_in_plain_python(stride, padding, dilation):
    """Currents of either sign over five steps: overlapping windows, padding and dilation."""
    steps, height, width, kernel = 5, 7, 8, 3
    generator = torch.Generator().manual_seed(stride)
    train = torch.randint(-2, 3, (steps, 2, 3, height, width), generator=generator).double()
    extent = (kernel - 1) * dilation + 1
    size = [(length + 2 * padding - extent) // stride + 1 for length in (height, width)]
    op = MaxPool((kernel,) * 2, (stride,) * 2, (padding,) * 2, (dilation,) * 2)
    node = Node("pool", op, ("x",), (3, *size))
    there = Place(node, (Node("x", Input(), (), (3, height, width)),), Contract(steps))

    passed = op.train([train], there).train

    assert passed.shape == (steps, 2, 3, *size)
    for sample, channel in product(range(2), range(3)):
        totals = train[:, sample, channel].cumsum(0).long().tolist()
        for row, column in product(*map(range, size)):
            largest = [
                max(window(total, kernel, stride, padding, dilation, (row, column))) for total in totals
            ]
            grown = [now - before for now, before in zip(largest, [0, *largest], strict=False)]
            assert passed[:, sample, channel, row, column].tolist() == grown


@pytest.mark.parametrize("rank", [1, 3])
def test_max_pooling_in_other_ranks(rank):
    """In 1d and 3d, with stride 2, of growing values the last corner of each window wins at every step."""
    x = torch.arange(2.0 * 4**rank).reshape(1, 1, 2, *[4] * rank)
    op = MaxPool((2,) * rank, (2,) * rank, (0,) * rank, (1,) * rank)
    node = Node("pool", op, ("x",), (2, *[2] * rank))
    there = Place(node, (Node("x", Input(), (), (2, *[4] * rank)),), Contract(3))

    passed = op.train([x.expand(3, -1, -1, *[-1] * rank)], there).train

    corner = (slice(None), slice(None), slice(None), *[slice(1, None, 2)] * rank)
    assert torch.equal(passed, x[corner].expand(3, -1, -1, *[-1] * rank))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_average_pooling_of_trains_sums_each_window_at_each_step(rank):
    """Of integers the exact sum, zeros of the padding included."""
    generator = torch.Generator().manual_seed(rank)
    train = torch.randint(-9, 10, (4, 2, 3, *[6] * rank), generator=generator)
    padded = torch.nn.functional.pad(train, (1, 1) * rank)
    for axis in range(3, 3 + rank):
        padded = padded.unfold(axis, 3, 2)
    expected = padded.flatten(3 + rank).sum(-1)
    op = AvgPool((3,) * rank, (2,) * rank, (1,) * rank)
    there = Place(Node("pool", op, ("x",), (3, *[3] * rank)), (), Contract(4, delay=2))

    assert torch.equal(op.train([train.double()], there).train, expected.double())
