"""Networks that change their input in place, and those that decide by the values of their samples."""

import sys
import threading

import pytest
import torch
from torch import nn

import ann2snn_cli
from ann2snn_cli.errors import UnsupportedNetwork
from ann2snn_cli.ir.run import run
from ann2snn_cli.stages.trace import trace
from ann2snn_cli.stages.trace.quiet import quiet
from ann2snn_cli.trees import call


class Network(nn.Module):
    """A linear layer and what is done around it."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.function = nn.Linear(4, 3), function
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x):
        return self.function(self, x)


def doubled(network, x):
    """An input multiplied in place."""
    x *= 2
    return network.linear(x)


def cut(network, x):
    """A column set to 0: the same at a second run."""
    x[:, 1] = 0
    return network.linear(x)


def kept(network, x):
    """A buffer that holds what was seen."""
    network.seen.copy_(x.amax(0))
    return network.linear(x)


def bent(network, x):
    """An activation in place, as nn.ReLU(inplace=True) in front."""
    return network.linear(torch.relu_(x))


@pytest.mark.parametrize("function", [doubled, cut, kept, bent])
def test_an_input_that_is_changed_in_place_is_no_output(function):
    """The graph has the outputs of forward(), equal to torch's; the caller's samples stay as they are."""
    network, x = Network(function), torch.randn(5, 4)
    before = x.clone()

    graph = trace(network, [(4,)])

    (found,) = run(graph, x)
    (wanted,) = call(network, x)
    assert torch.equal(x, before)
    assert torch.allclose(found, wanted)


@pytest.mark.filterwarnings("ignore::ann2snn_cli.snn.DamageWarning")
def test_a_conversion_is_that_of_the_same_network_without_changes_in_place():
    """From Python, bit for bit."""
    x = torch.rand(20, 4)
    snns = [
        ann2snn_cli.convert(Network(function), x, timesteps=8)
        for function in (doubled, lambda network, x: network.linear(x * 2))
    ]
    assert torch.equal(snns[0](x), snns[1](x))


def test_samples_survive_a_network_that_changes_them():
    """Who compares a network with its SNN gives both the same batch."""
    x = torch.rand(6, 4)
    before = x.clone()
    call(Network(doubled), x)
    assert torch.equal(x, before)


DECIDES = {
    "a branch": lambda n, x: n.linear(x) if x.sum() > 0 else x[:, :3],
    "a branch by item()": lambda n, x: n.linear(x) if x.max().item() > 0.5 else x[:, :3],
    "an index": lambda n, x: n.linear(x)[:, int(x.argmax()) % 3 :],
}
NUMBERS = {
    "item()": lambda n, x: n.linear(x * x.max().item()),
    "tolist()": lambda n, x: n.linear(x) * x.max().tolist(),
    "full": lambda n, x: n.linear(x) + torch.full((3,), x.max().item()),
    "a mask": lambda n, x: n.linear(x)[x[:, :3] > 0.5],
    "a mask of samples": lambda n, x: n.linear(x[x.sum(1) > 0]),
}


@pytest.mark.parametrize("form", DECIDES)
def test_a_branch_on_values_is_one_error_and_nothing_else(form, capfd):
    """Torch's graph and its warnings are not printed."""
    with pytest.raises(UnsupportedNetwork, match="decides by the values of a tensor") as caught:
        trace(Network(DECIDES[form]), [(4,)])
    assert "torch.where" in caught.value.remedy
    assert "test_trace_in_place_and_by_values.py" in caught.value.where
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("form", NUMBERS)
def test_a_number_or_a_shape_that_values_decide_is_refused(form):
    """With the user's own line, and what to write instead."""
    with pytest.raises(UnsupportedNetwork, match="depends on the values of the samples") as caught:
        trace(Network(NUMBERS[form]), [(4,)])
    assert "x.max() instead of x.max().item()" in caught.value.remedy
    assert "test_trace_in_place_and_by_values.py" in caught.value.where


def test_only_the_thread_that_exports_is_quiet(capsys):
    """A progress report of another thread is still seen."""
    with quiet():
        print("mine", file=sys.stderr)
        other = threading.Thread(target=lambda: print("another's", file=sys.stderr))
        other.start()
        other.join()
    print("after", file=sys.stderr)
    assert capsys.readouterr().err == "another's\nafter\n"


def test_a_sum_that_leaves_one_number_a_sample():
    """Sums and means over the only axis, against torch."""
    network, x = Network(lambda n, x: (n.linear(x).sum(1), n.linear(x).mean(1))), torch.randn(5, 4)
    for found, wanted in zip(run(trace(network, [(4,)]), x), call(network, x), strict=True):
        assert torch.allclose(found, wanted, atol=1e-6)
