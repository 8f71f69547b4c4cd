"""Each op against torch eager; sums and counts against plain integers."""

import pytest
import torch
from torch.nn import functional as F

from ann2snn_cli.errors import BadData
from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import (
    Add,
    AvgPool,
    BatchNorm,
    BatchSize,
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
    Relu,
    Reshape,
    Scale,
)
from ann2snn_cli.ir.run import bind_inputs, run, run_counts

GENERATOR = torch.Generator().manual_seed(6)
ONE = torch.tensor(1.0, dtype=torch.float64)


def normal(*shape):
    """Normal float64 numbers."""
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def one(op, shape, *inputs):
    """A graph of one op on inputs of the given shapes."""
    names = tuple(f"x{i}" for i in range(len(inputs)))
    nodes = [Node(name, Input(), (), given) for name, given in zip(names, inputs, strict=True)]
    return Graph((*nodes, Node("op", op, names, shape)), ("op",))


w1, w2, w3 = normal(6, 2, 3), normal(6, 2, 3, 3), normal(6, 2, 2, 2, 2)
t1, t2, t3 = normal(4, 3, 3), normal(4, 3, 2, 2), normal(4, 3, 2, 2, 2)
b6 = normal(6)
s4 = normal(4, 1, 1)
bn = BatchNorm(normal(4), normal(4), normal(4), normal(4) ** 2, 1e-5)

CASES = {
    "conv1d": (
        Conv(w1, b6, (2,), (1,), (1,), 2, output_padding=(0,)), (6, 4), [(4, 8)],
        lambda x: F.conv1d(x, w1, b6, 2, 1, groups=2),
    ),
    "conv2d": (
        Conv(w2, b6, (2, 1), (1, 0), (1, 2), 2), (6, 4, 4), [(4, 8, 8)],
        lambda x: F.conv2d(x, w2, b6, (2, 1), (1, 0), (1, 2), 2),
    ),
    "conv3d": (
        Conv(w3, None, (1,) * 3, (0,) * 3, (1,) * 3, 2, output_padding=(0,) * 3),
        (6, 3, 3, 3), [(4, 4, 4, 4)],
        lambda x: F.conv3d(x, w3, groups=2),
    ),
    "transposed 1d": (
        Conv(t1, b6, (2,), (1,), (1,), 2, True, (1,)), (6, 8), [(4, 4)],
        lambda x: F.conv_transpose1d(x, t1, b6, 2, 1, 1, 2),
    ),
    "transposed 2d": (
        Conv(t2, b6, (2, 2), (1, 0), (1, 2), 2, True, (1, 0)), (6, 7, 9), [(4, 4, 4)],
        lambda x: F.conv_transpose2d(x, t2, b6, 2, (1, 0), (1, 0), 2, (1, 2)),
    ),
    "transposed 3d": (
        Conv(t3, None, (1,) * 3, (0,) * 3, (1,) * 3, 2, True, (0,) * 3), (6, 4, 4, 4), [(4, 3, 3, 3)],
        lambda x: F.conv_transpose3d(x, t3, groups=2),
    ),
    "linear": (Linear(w1[:, 0], b6), (6,), [(3,)], lambda x: F.linear(x, w1[:, 0], b6)),
    "scale": (Scale(s4, s4 + 1), (4, 2, 2), [(4, 2, 2)], lambda x: x * s4 + s4 + 1),
    "batch norm": (
        bn, (4, 2, 2), [(4, 2, 2)], lambda x: F.batch_norm(x, bn.mean, bn.var, bn.weight, bn.bias),
    ),
    "add": (Add(), (3,), [(3,), (3,), (3,)], lambda a, b, c: a + b + c),
    "concat": (Concat(), (5, 2), [(2, 2), (3, 2)], lambda a, b: torch.cat([a, b], 1)),
    "avg1d": (AvgPool((3,), (2,), (1,)), (2, 4), [(2, 8)], lambda x: F.avg_pool1d(x, 3, 2, 1)),
    "avg2d": (
        AvgPool((2, 3), (2, 1), (1, 0)), (2, 4, 4), [(2, 6, 6)],
        lambda x: F.avg_pool2d(x, (2, 3), (2, 1), (1, 0)),
    ),
    "avg3d": (
        AvgPool((2,) * 3, (2,) * 3, (0,) * 3), (2, 2, 2, 2), [(2, 4, 4, 4)], lambda x: F.avg_pool3d(x, 2),
    ),
    "max1d": (MaxPool((3,), (2,), (1,), (1,)), (2, 4), [(2, 8)], lambda x: F.max_pool1d(x, 3, 2, 1)),
    "max2d": (
        MaxPool((2, 2), (2, 2), (0, 0), (2, 1), True), (2, 3, 4), [(2, 7, 7)],
        lambda x: F.max_pool2d(x, 2, 2, 0, (2, 1), ceil_mode=True),
    ),
    "max3d": (
        MaxPool((2,) * 3, (2,) * 3, (0,) * 3, (1,) * 3), (2, 2, 2, 2), [(2, 4, 4, 4)],
        lambda x: F.max_pool3d(x, 2),
    ),
    "reshape": (Reshape(), (6, 2), [(3, 2, 2)], lambda x: x.reshape(-1, 6, 2)),
    "permute": (Permute((2, 0, 1)), (4, 2, 3), [(2, 3, 4)], lambda x: x.permute(0, 3, 1, 2)),
    "gather": (
        Gather(torch.tensor([[-1, 0, 1, -1], [-1, 2, 3, -1]])), (2, 4), [(2, 2)], lambda x: F.pad(x, (1, 1)),
    ),
    "relu": (Relu(), (3,), [(3,)], F.relu),
    "relu6 with a bias": (Relu(6.0, s4), (4, 2, 2), [(4, 2, 2)], lambda x: F.relu6(x + s4)),
    "integrate": (Integrate(s4), (4, 2, 2), [(4, 2, 2)], lambda x: x + s4),
    "opaque": (Opaque("aten.softmax.int", (Ref(0), 1)), (3,), [(3,)], lambda x: x.softmax(1)),
    "opaque, an item of several": (
        Opaque("aten.topk.default", (Ref(0), 2), output=0), (2,), [(3,)], lambda x: x.topk(2).values,
    ),
    "opaque, keywords": (
        Opaque("aten.gelu.default", (Ref(0),), (("approximate", "tanh"),)), (3,), [(3,)],
        lambda x: F.gelu(x, approximate="tanh"),
    ),
    "opaque, sized by the batch": (
        Opaque("aten.reshape.default", (Ref(0), (BatchSize(2, 0), 3))), (3,), [(6,)],
        lambda x: x.reshape(-1, 3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_op_computes_what_torch_computes(name):
    """In real numbers, for a batch of three."""
    op, shape, inputs, expected = CASES[name]
    x = [normal(3, *given) * 3 for given in inputs]

    (result,) = run(one(op, shape, *inputs), x)

    torch.testing.assert_close(result, expected(*x))
    assert tuple(result.shape[1:]) == shape


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_average_pooling_of_integers_is_an_exact_sum(rank):
    """In the units of SPIKING: the integer sum of each window, with zeros around, in 1d to 3d."""
    x = torch.randint(-9, 10, (2, 3, *[6] * rank), generator=GENERATOR)
    op = AvgPool((3,) * rank, (2,) * rank, (1,) * rank)
    padded = F.pad(x, (1, 1) * rank)
    for axis in range(2, 2 + rank):
        padded = padded.unfold(axis, 3, 2)
    expected = padded.flatten(2 + rank).sum(-1)

    for dtype in (torch.float32, torch.float64):
        result = op.linear([x.to(dtype)], (3, *[3] * rank))
        assert torch.equal(result, expected.to(dtype))


def test_identity_synapses_have_weights():
    """A SPIKING addition multiplies each branch by its integer."""
    op = Add((torch.tensor(3), torch.tensor([1, 2])))

    result = op.linear([torch.tensor([[1.0, 1.0]]), torch.tensor([[10.0, 10.0]])], (2,))

    assert result.tolist() == [[13, 23]]


def test_a_watch_is_shown_every_value():
    """In order, the inputs included."""
    seen = []
    graph = one(Relu(), (3,), (3,))

    run(graph, normal(2, 3), lambda node, value: seen.append((node.name, tuple(value.shape))))

    assert seen == [("x0", (2, 3)), ("op", (2, 3))]


# Inputs --------------------------------------------------------------------------------------------


def test_inputs_are_bound_in_order_or_by_name():
    """One tensor, several in the order of the arguments, or by name."""
    graph = one(Add(), (3,), (3,), (3,))
    a, b = normal(2, 3), normal(2, 3)

    assert bind_inputs(graph, (a, b))["x1"] is b
    assert bind_inputs(graph, {"x1": b, "x0": a})["x0"] is a
    assert bind_inputs(one(Relu(), (3,), (3,)), a)["x0"] is a


@pytest.mark.parametrize("given", [1, 3, {"x0": 0, "y": 0}])
def test_the_wrong_inputs_are_refused(given):
    """Too few, too many, or another name."""
    x = normal(2, 3)
    given = [x] * given if isinstance(given, int) else dict.fromkeys(given, x)

    with pytest.raises(BadData, match="takes the inputs"):
        run(one(Add(), (3,), (3,), (3,)), given)


def test_a_sample_of_another_shape_is_refused():
    """Both shapes are named, and what to do where that can be seen."""
    for shape, wanted, said in (
        ((2, 4), (3,), r"shape \(2, 4\), and not \[samples, 3\]\n.*the shape that the network was converted"),
        ((3,), (3,), r"x\[None\]"),
        ((2, 8, 8, 3), (3, 8, 8), r"x\.transpose\(0, 3, 1, 2\)"),
        ((2, 64), (1, 8, 8), r"x\.reshape\(-1, 1, 8, 8\)"),
        ((8, 8), (1, 8, 8), r"x\.reshape\(-1, 1, 8, 8\)"),
        ((), (3,), "the first axis counts them"),
    ):
        with pytest.raises(BadData, match=said):
            run(one(Relu(), wanted, wanted), torch.zeros(shape))


# Counts --------------------------------------------------------------------------------------------


def test_the_encoding_of_a_sample():
    """clamp(round(image/unit), low, high), half to even."""
    op = Input(unit=0.5, low=-3, high=3)

    assert op.encode(torch.tensor([-9.0, -0.75, -0.25, 0.0, 0.25, 0.75, 1.3, 9.0])).tolist() == [
        -3, -2, 0, 0, 0, 2, 3, 3,
    ]  # fmt: skip


def test_counts_by_hand():
    """x -> linear -> neurons -> read-out, T = 4: every number worked out on paper."""
    nodes = (
        Node("x", Input(unit=0.5), (), (2,), unit=ONE * 0.5),
        Node("fc", Linear(torch.tensor([[2, -1], [1, 1]], dtype=torch.int8)), ("x",), (2,), unit=ONE),
        Node(
            "n",
            IntegrateFire(torch.tensor(10), torch.tensor([1, -1]), torch.tensor([5, 6]), 1),
            ("fc",),
            (2,),
            unit=ONE,
        ),
        Node("out", Integrate(torch.tensor([3, 0]), torch.tensor([2, 0])), ("n",), (2,), unit=ONE * 0.25),
    )
    graph = Graph(nodes, ("out", "n"), Level.SPIKING, Contract(4))
    counts = {}

    out, rates = run_counts(
        graph,
        torch.tensor([[1.0, 0.5]], dtype=torch.float64),
        lambda node, value: counts.update({node.name: value}),
    )

    # x = 2, 1 at each of 4 steps. Drives over 4 steps: 4·(4−1) = 12 and 4·3 = 12, with one fraction bit 24.
    # Charges: 24 + 4·1 + 5 = 33 -> 3 spikes; 24 − 4 + 6 = 26 -> 2 spikes. Read-out: 3 + 4·3 + 2 = 17; 2.
    assert counts["x"].tolist() == [[8, 4]]
    assert counts["n"].tolist() == [[3, 2]]
    assert counts["out"].tolist() == [[17, 2]]
    assert out.tolist() == [[17 / 4 * 0.25, 2 / 4 * 0.25]]
    assert rates.tolist() == [[0.75, 0.5]]


def test_counts_of_an_opaque_node_are_f_of_the_mean():
    """T times f of the mean of what came in."""
    nodes = (
        Node("x", Input(unit=0.5), (), (2,), unit=ONE * 0.5),
        Node("f", Opaque("aten.sigmoid.default", (Ref(0),)), ("x",), (2,), unit=ONE),
    )

    (out,) = run_counts(Graph(nodes, ("f",), Level.SPIKING, Contract(4)), torch.tensor([[1.0, 2.0]]).double())

    torch.testing.assert_close(out, torch.sigmoid(torch.tensor([[1.0, 2.0]]).double()))
