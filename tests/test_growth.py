"""What a conversion does grows with the number of layers, and not with its square."""

import sys
from pathlib import Path

import torch
from torch import nn

import ann2snn_cli

HOMES = (str(Path(ann2snn_cli.__file__).parent), str(Path(torch.__file__).parent / "export"))


def chain(layers):
    """Linear layers with batch norms and ReLUs."""
    torch.manual_seed(0)
    blocks = [(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU()) for _ in range(layers)]
    return nn.Sequential(*(module for block in blocks for module in block), nn.Linear(4, 2)).eval()


def calls_of_a_conversion(layers):
    """How many lines of Python ran: of ann2snn, and of torch's tables of an export."""
    network, x, calls = chain(layers), torch.rand(8, 4), 0

    def count(frame, event, argument):
        nonlocal calls
        if not frame.f_code.co_filename.startswith(HOMES):
            return None
        calls += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        ann2snn_cli.convert(network, x, timesteps=2)
    finally:
        sys.settrace(before)
    return calls


def test_work_grows_in_step_with_depth():
    """From 20 to 40 layers about as much is added as from 10 to 20 twice."""
    ten, twenty, forty = map(calls_of_a_conversion, (10, 20, 40))
    assert forty - twenty < 2.2 * (twenty - ten)
