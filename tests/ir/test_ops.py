"""What an op says of itself: every question has an answer or a refusal in words."""

from dataclasses import dataclass

import pytest
import torch
from every_op import EVERY_OP, around

from ann2snn_cli.errors import InvalidGraph
from ann2snn_cli.ir import show
from ann2snn_cli.ir.ops import (
    OPS,
    Activity,
    AvgPool,
    Conv,
    Input,
    Linear,
    Op,
    Opaque,
    Relu,
    Reshape,
    Scale,
    per_channel,
    register,
)
from ann2snn_cli.ir.span import Span


def test_channels_and_kernel_of_a_convolution():
    """Groups and transposition are counted in."""
    plain = Conv(torch.zeros(6, 4, 3, 5))
    grouped = Conv(torch.zeros(6, 2, 3), groups=2)
    transposed = Conv(torch.zeros(4, 3, 2, 2), groups=2, transposed=True)

    assert [(op.in_channels, op.out_channels, op.kernel) for op in (plain, grouped, transposed)] == [
        (4, 6, (3, 5)),
        (4, 6, (3,)),
        (4, 6, (2, 2)),
    ]


def test_what_a_reader_sees():
    """The kind is the op's name; a transposed convolution and an opaque operator have their own."""
    weight = torch.zeros(1, 1, 1)

    assert Conv(weight).kind == "Conv"
    assert Conv(weight, transposed=True).kind == "ConvTranspose"
    assert Opaque("aten.gelu.default", ()).kind == "GELU"
    assert Opaque("aten.erf.default", ()).kind == "erf"
    assert Relu().kind == "Relu"


def test_the_area_of_a_window():
    """The product of the kernel's extents."""
    assert AvgPool((2, 3, 4), (1, 1, 1), (0, 0, 0)).area == 24


def test_values_by_channel_broadcast_to_a_node():
    """Channels are first, but those of a linear layer last."""
    values = torch.arange(3)

    assert per_channel(values, Conv(torch.zeros(3, 1, 1, 1)), 3).shape == (3, 1, 1)
    assert per_channel(values, Scale(torch.zeros(3, 1)), 2).shape == (3, 1)
    assert per_channel(values, Linear(torch.zeros(3, 2)), 2).shape == (3,)


# Every op, every question ---------------------------------------------------------------------------


def values_of(node, *lead):
    """Ones for what a node reads or is, [*lead, ...]."""
    return torch.ones(*lead, *node.shape, dtype=torch.float64)


def asked(graph, node):
    """By question: what the op of a node is asked, and of which kind the answer is."""
    op, place, feeders = node.op, graph.place(node), graph.fed_by(node)
    batch, trains, ends = ([values_of(each, *lead) for each in feeders] for lead in ((2,), (3, 2), (2,)))
    units = [torch.tensor(1.0, dtype=torch.float64) for _ in feeders]
    labels = [torch.tensor(float(number)) for number, _ in enumerate(feeders)]
    return {
        "real": (lambda: op.real(batch, node.shape), torch.Tensor),
        "integers": (lambda: op.integers(units, place)[1], torch.Tensor),
        "branches": (lambda: op.branches(labels, place), torch.Tensor | None),
        "train": (lambda: op.train(trains, place), Activity),
        "advance": (lambda: op.advance(batch, {}, 1, place), tuple),
        "sums": (lambda: op.sums(batch, place), torch.Tensor),
        "span": (lambda: op.span(ends, place), torch.Tensor),
        "potential": (lambda: op.potential(ends, place), torch.Tensor | None),
        "adds_per_spike": (lambda: op.adds_per_spike([Span(1, 1)] * len(feeders)), Span),
        "details": (op.details, str),
    }


REFUSED = {  # what an op has no answer to, by its nature: all else is answered
    "Input": {"real", "train", "advance", "sums"},  # whoever runs a graph shows the sample
    "BatchNorm": {"integers", "train", "advance", "sums", "span"},  # FLOAT only
    "Relu": {"train", "advance", "sums", "span"},  # below SPIKING
    "IntegrateFire": {"real", "integers"},  # SPIKING
}


@pytest.mark.parametrize("name", OPS)
def test_every_op_answers_every_question_or_refuses_in_words(name):
    """The refusal names the op; the shapes of answers are those of the node."""
    assert set(EVERY_OP) == set(OPS), "an op more: show one of it in tests/shared/every_op.py"
    graph = around(name)
    node = graph["this"]
    for question, (ask, kind) in asked(graph, node).items():
        if question in REFUSED.get(name, set()):
            with pytest.raises(
                InvalidGraph, match=f"the op {name} is not defined .*\n.*give the class {name}"
            ):
                ask()
            continue
        answer = ask()
        assert isinstance(answer, kind), question
        if question in ("real", "sums", "span"):
            assert tuple(answer.shape) == (2, *node.shape), question
        if question == "train":
            assert tuple(answer.train.shape) == (3, 2, *node.shape)
        if question == "advance":
            assert tuple(answer[0].shape) == (2, *node.shape)


@pytest.mark.parametrize("name", OPS)
def test_every_op_is_shown(name):
    """A row with its name and what it says of itself."""
    row = dict(zip(show.HEADERS, show.rows(around(name))[2], strict=True))

    op = EVERY_OP[name][0]
    assert (row["op"], row["details"]) == (op.kind, op.details())


# The registry --------------------------------------------------------------------------------------


def test_a_name_is_registered_once():
    """Another class of the same name is refused and nothing is lost; the same class again is no matter."""
    another = dataclass(frozen=True, eq=False)(type("Reshape", (Op,), {}))

    with pytest.raises(InvalidGraph, match=r"there is an op Reshape already\n.*another name"):
        register(another)

    register(Reshape)
    assert OPS["Reshape"] is Reshape


def test_a_value_half_way_between_two_integers_has_one_of_them_in_every_type():
    """Sixteenths of 255: in float32 127.5 comes out on either side of itself."""
    x = torch.arange(17, dtype=torch.float64) / 16
    entry = Input(1 / 255)

    assert torch.equal(entry.encode(x), entry.encode(x.float()).double())
    assert torch.equal(entry.encode(x), torch.round(x / (1 / 255)))
