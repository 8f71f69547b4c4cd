"""Show: a graph as rows that a person reads."""

import pytest
import torch

from ann2snn_cli.ir import show
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import (
    AvgPool,
    Conv,
    Input,
    Integrate,
    IntegrateFire,
    Linear,
    MaxPool,
    Opaque,
    Ref,
    Relu,
)
from ann2snn_cli.ir.registers import Register


def test_a_row_a_node_under_the_headers():
    """Name, op, what it reads, shape, details, the user's module."""
    graph = Graph(
        (
            Node("input", Input(), (), (2, 4, 4)),
            Node("conv", Conv(torch.zeros(3, 2, 3, 3), padding=(1, 1)), ("input",), (3, 4, 4), "net.conv"),
            Node("relu", Relu(6.0), ("conv",), (3, 4, 4), "net.act"),
        ),
        ("relu",),
        Level.FOLDED,
    )
    assert show.HEADERS == ("node", "op", "reads", "shape", "details", "module")
    assert show.rows(graph) == [
        ("input", "Input", "", "2x4x4", "", ""),
        ("conv", "Conv", "input", "3x4x4", "3x3, padding 1x1", "net.conv"),
        ("relu", "Relu", "conv", "3x4x4", "at most 6", "net.act"),
    ]
    assert (show.parameters(graph), show.neurons(graph)) == (54, 48)


KERNEL = torch.zeros(4, 2, 3, 1)


@pytest.mark.parametrize(
    ("op", "kind", "words"),
    [
        (Conv(KERNEL), "Conv", "3x1"),
        (
            Conv(KERNEL, groups=2, stride=(2, 1), dilation=(1, 2)),
            "Conv",
            "3x1, groups 2, stride 2x1, dilation 1x2",
        ),
        (Conv(KERNEL, transposed=True, bits=4), "ConvTranspose", "3x1, 4 bits"),
        (Linear(torch.zeros(2, 2), bits=1), "Linear", "1 bits"),
        (AvgPool((2, 2), (2, 2), (0, 0)), "AvgPool", "2x2"),
        (MaxPool((3, 3), (2, 2), (1, 1), (1, 1)), "MaxPool", "3x3, stride 2x2, padding 1x1"),
        (Integrate(), "Integrate", ""),
        (Opaque("aten.gelu.default", (Ref(0),)), "GELU", "aten.gelu.default"),
        (
            IntegrateFire(torch.tensor(8), torch.tensor(0), torch.tensor(4), 3),
            "IntegrateFire",
            "threshold 8, initial 4, 3 fraction bits",
        ),
        (
            IntegrateFire(torch.tensor([8, 12]), torch.tensor(0), torch.tensor([4, 6])),
            "IntegrateFire",
            "threshold 8..12, initial 4..6",
        ),
    ],
)
def test_the_details_leave_out_what_goes_without_saying(op, kind, words):
    """Strides of one, no padding and no groups go without saying."""
    assert (op.kind, op.details()) == (kind, words)


def test_registers_are_one_column_more():
    """The range of the potential and its bits; real numbers have none; other nodes have no cell."""
    graph = Graph(
        (
            Node("input", Input(), (), (1,)),
            Node("relu", Relu(), ("input",), (1,), "act"),
            Node("out", Integrate(), ("relu",), (1,), "last"),
        ),
        ("out",),
    )
    held = [
        Register("relu", "act", -1020, 4335, 14, 4, 9, 3),
        Register("out", "last", None, None, None, None, None, None),
    ]
    assert (*show.HEADERS, "potential, worst case") == show.REGISTER_HEADERS
    rows = show.rows_with_registers(graph, held)
    assert [row[:-1] for row in rows] == show.rows(graph)
    assert [row[-1] for row in rows] == ["", "-1020..4335 (14 bits)", "real numbers"]


def test_large_numbers_are_shown_to_their_last_unit():
    """A threshold of nine digits keeps them all."""
    op = IntegrateFire(torch.tensor(123_456_789), torch.tensor(0), torch.tensor(61_728_394))
    assert op.details() == "threshold 123456789, initial 61728394"
