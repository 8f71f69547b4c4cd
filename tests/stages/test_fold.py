"""Folding changes the form of a network and never its function."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import (
    Add,
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    Input,
    Linear,
    MaxPool,
    Opaque,
    Permute,
    Ref,
    Relu,
    Reshape,
    Scale,
)
from ann2snn_cli.ir.run import run
from ann2snn_cli.ir.validate import validate
from ann2snn_cli.stages.fold import fold, spiking_pools

GENERATOR = torch.Generator().manual_seed(4)


def normal(*shape):
    """Normal float64 numbers."""
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def norm(channels):
    """A batch norm with statistics that matter, and negative gains among them."""
    variance = torch.rand(channels, generator=GENERATOR, dtype=torch.float64) + 0.3
    return BatchNorm(normal(channels), normal(channels), normal(channels), variance, 1e-3)


def graph(*nodes, outputs=None):
    """A FLOAT graph of (name, op, inputs, shape)."""
    nodes = tuple(Node(*node, source=node[0]) for node in nodes)
    return Graph(nodes, outputs or (nodes[-1].name,))


def conv(out, into, kernel=3, bias=True, **geometry):
    """A convolution that keeps the size."""
    geometry = {"padding": (kernel // 2, kernel // 2), **geometry}
    return Conv(normal(out, into, kernel, kernel), normal(out) if bias else None, **geometry)


def kinds(folded):
    """Node names and kinds in order, without the inputs."""
    return [node.op.kind for node in folded.nodes if node.inputs]


def check_same(before, **options):
    """Fold, hold the result against the rules of FOLDED and against the function it was."""
    after = validate(fold(before, **options))
    x = [normal(5, *node.shape) for node in before.inputs]
    for wanted, value in zip(run(before, x), run(after, x), strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-6, atol=1e-6)
    return after


X = ("x", Input(), (), (2, 6, 6))


def wide(name, op, *inputs):
    """A node of 4 channels."""
    return (name, op, inputs, (4, 6, 6))


# Batch norm ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
def test_conv_and_batch_norm_become_one(bias):
    """B2: The norm goes into the convolution before it."""
    before = graph(
        X, wide("conv", conv(4, 2, bias=bias), "x"), wide("bn", norm(4), "conv"), wide("relu", Relu(), "bn")
    )

    assert kinds(check_same(before)) == ["Conv", "Relu"]


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_takes_its_batch_norm(groups):
    """Output channels lie along dimension 1, group by group."""
    up = Conv(
        normal(2, 4 // groups, 2, 2), normal(4), (2, 2), transposed=True, groups=groups, output_padding=(0, 0)
    )
    before = graph(
        X,
        ("up", up, ("x",), (4, 12, 12)),
        ("bn", norm(4), ("up",), (4, 12, 12)),
        ("r", Relu(), ("bn",), (4, 12, 12)),
    )

    assert kinds(check_same(before)) == ["ConvTranspose", "Relu"]


def test_a_grouped_convolution_takes_its_batch_norm():
    """Depthwise, as mobile networks have it."""
    before = graph(X, ("dw", conv(2, 1, groups=2), ("x",), (2, 6, 6)), ("bn", norm(2), ("dw",), (2, 6, 6)))

    assert kinds(check_same(before)) == ["Conv", "Integrate"]


def test_linear_and_batch_norm_become_one():
    """Also on flat features."""
    before = graph(
        ("x", Input(), (), (6,)),
        ("fc", Linear(normal(3, 6), normal(3)), ("x",), (3,)),
        ("bn", norm(3), ("fc",), (3,)),
        ("r", Relu(), ("bn",), (3,)),
    )

    assert kinds(check_same(before)) == ["Linear", "Relu"]


def test_a_linear_layer_over_a_sequence_keeps_its_batch_norm():
    """There the norm's channels are the sequence, not the features: an affine node."""
    before = graph(
        ("x", Input(), (), (5, 6)),
        ("fc", Linear(normal(3, 6)), ("x",), (5, 3)),
        ("bn", norm(5), ("fc",), (5, 3)),
        ("r", Relu(), ("bn",), (5, 3)),
    )

    assert kinds(check_same(before)) == ["Linear", "Scale", "Relu"]


def test_two_batch_norms_in_a_row():
    """Both go into the convolution."""
    before = graph(X, wide("conv", conv(4, 2), "x"), wide("a", norm(4), "conv"), wide("b", norm(4), "a"))

    assert kinds(check_same(before)) == ["Conv", "Integrate"]


def test_a_batch_norm_before_a_convolution_is_affine():
    """bn -> conv: padding stands between them, so the norm becomes a Scale."""
    before = graph(
        X, ("bn", norm(2), ("x",), (2, 6, 6)), wide("conv", conv(4, 2), "bn"), wide("relu", Relu(), "conv")
    )

    after = check_same(before)

    assert [node.op.kind for node in after.of(Scale, Conv, Relu)] == ["Scale", "Conv", "Relu"]


@pytest.mark.parametrize("join", [Add(), Concat(), "relu"])
def test_a_batch_norm_after_other_ops_is_affine(join):
    """After a concat, an addition or a ReLU there is no synapse to take it."""
    if join == "relu":
        joined = [wide("a", conv(4, 2), "x"), wide("join", Relu(), "a")]
    else:
        channels = 4 if isinstance(join, Add) else 2
        shape = (channels, 6, 6)
        joined = [("a", conv(channels, 2), ("x",), shape), ("b", conv(channels, 2), ("x",), shape)]
        joined.append(wide("join", join, "a", "b"))
    before = graph(X, *joined, wide("bn", norm(4), "join"), wide("relu", Relu(), "bn"))

    after = check_same(before)

    (scale,) = after.of(Scale)
    assert scale.name == "bn"
    assert scale.op.bias is None


def test_a_convolution_with_two_readers_keeps_its_batch_norm_out():
    """What the other reader sees must not change."""
    before = graph(
        X, wide("conv", conv(4, 2), "x"), wide("bn", norm(4), "conv"), wide("sum", Add(), "conv", "bn"),
        wide("relu", Relu(), "sum"),
    )  # fmt: skip

    assert len(check_same(before).of(Scale)) == 1


def test_a_convolution_that_is_an_output_keeps_its_batch_norm_out():
    """An output is read by the user."""
    before = graph(
        X, wide("conv", conv(4, 2), "x"), wide("bn", norm(4), "conv"), outputs=("conv", "bn")
    )  # fmt: skip

    assert len(check_same(before).of(Scale)) == 1


def test_a_merged_convolution_with_two_readers_of_the_norm():
    """conv -> bn -> bn2, and a second reader of bn: bn is merged, bn2 is not."""
    before = graph(
        X, wide("conv", conv(4, 2), "x"), wide("bn", norm(4), "conv"), wide("bn2", norm(4), "bn"),
        wide("sum", Add(), "bn", "bn2"), wide("relu", Relu(), "sum"),
    )  # fmt: skip

    after = check_same(before)

    assert [node.name for node in after.of(Scale)] == ["bn2"]


def test_batch_norms_can_be_kept():
    """B2: batch_norm=False: every norm is an affine node, and the function the same."""
    before = graph(X, wide("conv", conv(4, 2), "x"), wide("bn", norm(4), "conv"), wide("relu", Relu(), "bn"))

    after = check_same(before, batch_norm=False)

    assert [node.op.kind for node in after.of(Conv, Scale, Relu, BatchNorm)] == ["Conv", "Scale", "Relu"]


# ReLU and max pooling ------------------------------------------------------------------------------


def test_relu_moves_before_max_pooling():
    """max(relu(x)) = relu(max(x)): so pooling sees spikes."""
    pool = MaxPool((3, 3), (2, 2), (1, 1), (1, 1))
    before = graph(
        X,
        wide("conv", conv(4, 2), "x"),
        ("pool", pool, ("conv",), (4, 3, 3)),
        ("relu", Relu(limit=1.0), ("pool",), (4, 3, 3)),
    )

    after = check_same(before)

    assert kinds(after) == ["Conv", "Relu", "MaxPool", "Integrate"]
    assert after["relu"].shape == (4, 6, 6)


def test_relu_stays_where_something_else_reads_the_pooled_values():
    """They may be negative."""
    pool = MaxPool((2, 2), (2, 2), (0, 0), (1, 1))
    before = graph(
        X, ("pool", pool, ("x",), (2, 3, 3)), ("relu", Relu(), ("pool",), (2, 3, 3)),
        ("sum", Add(), ("pool", "relu"), (2, 3, 3)),
    )  # fmt: skip

    assert kinds(check_same(before))[:2] == ["MaxPool", "Relu"]


def test_relu_moves_before_all_of_several_max_poolings():
    """SPP blocks pool what is pooled: all of them should see spikes."""
    pools = [MaxPool((2, 2), (1, 1), (0, 0), (1, 1)) for _ in range(2)]
    before = graph(
        X,
        ("a", pools[0], ("x",), (2, 5, 5)),
        ("b", pools[1], ("a",), (2, 4, 4)),
        ("relu", Relu(), ("b",), (2, 4, 4)),
    )

    assert kinds(check_same(before))[:3] == ["Relu", "MaxPool", "MaxPool"]


@pytest.mark.parametrize(
    ("first", "second", "left"),
    [(None, None, 1), (6.0, None, 1), (2.0, 6.0, 1), (None, 6.0, 2), (6.0, 2.0, 2)],
)
def test_repeated_relus_are_one_population(first, second, left):
    """relu(relu(x)) is one population, unless the second one clips lower."""
    before = graph(
        X,
        wide("conv", conv(4, 2), "x"),
        wide("a", Relu(limit=first), "conv"),
        wide("b", Relu(limit=second), "a"),
    )

    assert len(check_same(before).of(Relu)) == left


# Biases --------------------------------------------------------------------------------------------


def test_biases_end_in_the_population():
    """A synapse has no bias: its neurons do, laid out by channel."""
    before = graph(X, wide("conv", conv(4, 2), "x"), wide("relu", Relu(), "conv"))

    after = check_same(before)

    assert torch.equal(after["relu"].op.bias.flatten(), before["conv"].op.bias)
    assert after["relu"].op.bias.shape == (4, 1, 1)


def test_biases_of_both_branches_of_an_addition_add_up():
    """(a + b1) + (c + b2) = (a + c) + (b1 + b2)."""
    before = graph(
        X,
        wide("a", conv(4, 2), "x"),
        wide("b", conv(4, 2), "x"),
        wide("sum", Add(), "a", "b"),
        wide("relu", Relu(), "sum"),
    )

    after = check_same(before)

    assert kinds(after) == ["Conv", "Conv", "Add", "Relu"]
    assert torch.allclose(after["relu"].op.bias.flatten(), before["a"].op.bias + before["b"].op.bias)


def test_the_bias_of_a_value_added_to_itself_counts_twice():
    """x + x with a bias in x: the bias stays before the addition."""
    before = graph(X, wide("a", conv(4, 2), "x"), wide("sum", Add(), "a", "a"), wide("relu", Relu(), "sum"))

    check_same(before)


def test_a_bias_between_linear_ops_has_neurons_of_its_own():
    """conv -> conv: padding keeps the first bias from moving on, so an Integrate carries it."""
    before = graph(X, wide("a", conv(4, 2), "x"), wide("b", conv(4, 4), "a"), wide("relu", Relu(), "b"))

    assert kinds(check_same(before)) == ["Conv", "Integrate", "Conv", "Relu"]


def test_every_output_is_read_from_neurons():
    """A last layer gets a read-out; a population and an opaque node are read as they are."""
    nodes = (
        X,
        wide("conv", conv(4, 2, bias=False), "x"),
        wide("pool", AvgPool((1, 1), (1, 1), (0, 0)), "conv"),
    )

    assert kinds(check_same(graph(*nodes))) == ["Conv", "AvgPool", "Integrate"]
    assert kinds(check_same(graph(*nodes, wide("relu", Relu(), "pool")))) == ["Conv", "AvgPool", "Relu"]
    gelu = Opaque("aten.gelu.default", (Ref(0),))
    assert kinds(check_same(graph(*nodes, wide("gelu", gelu, "pool")))) == ["Conv", "AvgPool", "GELU"]


def test_one_value_read_out_twice():
    """The same node may be several outputs."""
    before = graph(X, wide("conv", conv(4, 2), "x"), outputs=("conv", "conv"))

    assert len(check_same(before).outputs) == 2


def test_moves_between_layer_and_population():
    """conv -> permute -> reshape -> relu: the bias finds its way, or stays before the move."""
    before = graph(
        X, wide("conv", conv(4, 2), "x"), ("permute", Permute((1, 2, 0)), ("conv",), (6, 6, 4)),
        ("flat", Reshape(), ("permute",), (144,)), ("relu", Relu(), ("flat",), (144,)),
    )  # fmt: skip

    check_same(before)


def test_a_whole_residual_block():
    """Two branches with norms, an addition, an affine after it: the same function, FOLDED."""
    before = graph(
        X, wide("conv1", conv(4, 2, bias=False), "x"), wide("bn1", norm(4), "conv1"),
        wide("relu1", Relu(), "bn1"),
        wide("conv2", conv(4, 4), "relu1"), wide("bn2", norm(4), "conv2"), wide("sum", Add(), "bn2", "relu1"),
        wide("bn3", norm(4), "sum"), wide("relu2", Relu(), "bn3"), wide("conv3", conv(4, 4), "relu2"),
    )  # fmt: skip

    after = check_same(before)

    assert after.level is Level.FOLDED
    assert before.level is Level.FLOAT
    assert before["conv1"].op.bias is None, "what fold was handed it never writes into"


def test_float32_folds_in_float64():
    """Folding a float32 network loses no more than the last bits: the products are taken in float64."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)).eval()
    layers[1].running_var.uniform_(1e-3, 10)
    weight, stats = layers[0], layers[1]
    merged = BatchNorm(
        *(t.detach() for t in (stats.weight, stats.bias, stats.running_mean, stats.running_var)), stats.eps
    )
    before = graph(
        X,
        ("conv", Conv(weight.weight.detach(), weight.bias.detach()), ("x",), (4, 4, 4)),
        ("bn", merged, ("conv",), (4, 4, 4)),
    )
    x = torch.randn(3, 2, 6, 6)

    with torch.no_grad():
        torch.testing.assert_close(run(fold(before), x)[0], layers(x), rtol=1e-5, atol=1e-5)


# Spiking pools -------------------------------------------------------------------------------------


def test_spiking_pools_get_neurons():
    """An average pooling of spikes gets a population that hands them on; what read the pool reads that."""
    pool = AvgPool((2, 2), (2, 2), (0, 0))
    before = graph(
        X, wide("conv", conv(4, 2), "x"), wide("relu", Relu(), "conv"), ("pool", pool, ("relu",), (4, 3, 3)),
        ("fc", conv(2, 4, 1), ("pool",), (2, 3, 3)),
    )  # fmt: skip
    folded = fold(before)

    after = validate(spiking_pools(folded))

    assert after["pool.neurons"].op.inherits_clip
    assert after["fc"].inputs == ("pool.neurons",)
    x = normal(3, 2, 6, 6)
    torch.testing.assert_close(run(after, x)[0], run(before, x)[0])


def test_pools_of_currents_or_before_a_population_get_none():
    """A pool of the input carries no spikes; a pool with a ReLU behind it has neurons already."""
    pool = AvgPool((2, 2), (2, 2), (0, 0))
    before = graph(
        X, ("first", pool, ("x",), (2, 3, 3)), ("conv", conv(4, 2), ("first",), (4, 3, 3)),
        ("relu", Relu(), ("conv",), (4, 3, 3)),
        ("pool", AvgPool((3, 3), (3, 3), (0, 0)), ("relu",), (4, 1, 1)),
        ("relu2", Relu(), ("pool",), (4, 1, 1)),
    )  # fmt: skip

    assert not any(node.op.inherits_clip for node in spiking_pools(fold(before)).of(Relu))


def test_pools_behind_moves_get_neurons_too():
    """A pooling of concatenated spikes pools spikes (DenseNet's transitions)."""
    pool = AvgPool((2, 2), (2, 2), (0, 0))
    before = graph(
        X, wide("a", Relu(), "x"), wide("b", Relu(), "x"), ("cat", Concat(), ("a", "b"), (4, 6, 6)),
        ("pool", pool, ("cat",), (4, 3, 3)), ("conv", conv(2, 4, 1), ("pool",), (2, 3, 3)),
    )  # fmt: skip

    assert any(node.op.inherits_clip for node in spiking_pools(fold(before)).of(Relu))


def test_the_functional_oracle_itself():
    """run() of a FLOAT batch norm is torch's own: the oracle of this file stands on torch."""
    op = norm(4)
    x = normal(2, 4, 3, 3)
    one = graph(("x", Input(), (), (4, 3, 3)), ("bn", op, ("x",), (4, 3, 3)))

    torch.testing.assert_close(
        run(one, x)[0], F.batch_norm(x, op.mean, op.var, op.weight, op.bias, eps=op.eps)
    )
