"""Graphs are rewritten in one pass: twice the layers, twice the work, counted in nodes and not in seconds."""

import sys

import pytest
import torch

from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import Add, BatchNorm, Conv, Input, MaxPool, Relu
from ann2snn_cli.stages.calibrate import calibrate
from ann2snn_cli.stages.fold import fold
from ann2snn_cli.stages.pairs import too_long
from ann2snn_cli.stages.quantize.weights import quantize
from ann2snn_cli.stages.trace.draft import Nodes

SHAPE = (2, 4, 4)


def norm():
    """A batch norm of two channels."""
    return BatchNorm(torch.rand(2) + 0.5, torch.rand(2), torch.rand(2), torch.rand(2) + 0.5, 1e-5)


def conv():
    """A convolution with a bias."""
    return Conv(torch.rand(2, 2, 1, 1) - 0.5, torch.rand(2))


def residual(draft, x):
    """relu(x + bn(conv(relu(bn(conv(x)))))): two biases, one of which sinks through the addition."""
    y = x
    for op in (conv(), norm(), Relu(), conv(), norm()):
        y = draft.add(op, (y,), SHAPE, op.kind, "")
    x = draft.add(Add(), (x, y), SHAPE, "sum", "")
    return draft.add(Relu(), (x,), SHAPE, "relu", "")


def additions(draft, x):
    """x + conv(x), and no ReLU: biases sink through all that follow."""
    y = draft.add(conv(), (x,), SHAPE, "conv", "")
    return draft.add(Add(), (x, y), SHAPE, "sum", "")


def pooled(draft, x):
    """relu(pool(pool(conv(x)))): the ReLU passes both."""
    y = draft.add(conv(), (x,), SHAPE, "conv", "")
    for _ in range(2):
        y = draft.add(MaxPool((1, 1), (1, 1), (0, 0), (1, 1)), (y,), SHAPE, "pool", "")
    return draft.add(Relu(), (y,), SHAPE, "relu", "")


def network(block, times):
    """So many of a block, one after the other, and a ReLU."""
    draft = Nodes()
    x = draft.add(Input(), (), SHAPE, "x", "")
    for _ in range(times):
        x = block(draft, x)
    draft.outputs.append(draft.add(Relu(), (x,), SHAPE, "end", ""))
    return draft.graph()


def lines_run(work):
    """How many lines of the package are run."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        if "ann2snn_cli" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("block", [residual, additions, pooled], ids=lambda block: block.__name__)
def test_folding_twice_the_layers_is_twice_the_work(block):
    """Batch norms, pools and biases are each moved in one walk over the nodes."""
    one, two = (lines_run(lambda times=times: fold(network(block, times))) for times in (40, 80))
    assert two < 2.2 * one


def test_a_module_that_is_used_often_is_named_in_one_try():
    """The nth node of one name is called name:n, without a look at those before it."""
    one, two = (
        lines_run(
            lambda times=times: network(lambda draft, x: draft.add(Relu(), (x,), SHAPE, "r", ""), times)
        )
        for times in (60, 120)
    )
    assert two < 2.2 * one


def test_the_way_back_through_additions_is_walked_once():
    """Currents that meet again and again have 2^n ways to the layer before; each node is looked at once."""

    def of(times):
        nodes = [Node("x", Input(), (), SHAPE), Node("conv", Conv(torch.ones(2, 2, 1, 1)), ("x",), SHAPE)]
        for place in range(times):
            nodes.append(Node(f"sum{place}", Add(), (nodes[-1].name, nodes[-1].name), SHAPE))
        nodes.append(Node("last", Conv(torch.ones(2, 2, 1, 1)), (nodes[-1].name,), SHAPE))
        folded = fold(Graph(tuple(nodes), ("last",)))
        graph = calibrate(folded, [torch.rand(2, *SHAPE)])
        graph = quantize(graph, Contract(4), weight_bitwidth=8)
        return lines_run(lambda: too_long(graph, folded))

    one, two = of(30), of(60)

    assert two < 2.3 * one
