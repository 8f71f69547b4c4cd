"""Tracing: every way to write a layer arrives as the same few ops, and computes what torch computes."""

import inspect
from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ann2snn_cli.errors import UnsupportedNetwork
from ann2snn_cli.ir.ops import (
    AvgPool,
    BatchNorm,
    Conv,
    Gather,
    Linear,
    MaxPool,
    Opaque,
    Permute,
    Relu,
    Reshape,
    Scale,
)
from ann2snn_cli.ir.run import run
from ann2snn_cli.stages.trace import trace


class Calls(nn.Module):
    """A network that is one function, with the modules it calls."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.function(self, x)


class CallsOnTwo(Calls):
    """The same with two inputs."""

    def forward(self, a, b):
        return self.function(self, a, b)


def kinds(graph):
    """The ops of a graph, in order, without the inputs."""
    return [node.op.kind for node in graph.nodes if node.op.kind != "Input"]


def check_same(network, *shapes, batch=3):
    """Trace, and hold the graph against torch eager for a batch that the export never saw."""
    network = network.eval()
    graph = trace(network, shapes)
    generator = torch.Generator().manual_seed(1)
    x = [torch.randn(batch, *shape, generator=generator) * 3 for shape in shapes]
    with torch.no_grad():
        expected = network(*[value.clone() for value in x])
        results = run(graph, x)
    expected = (expected,) if isinstance(expected, torch.Tensor) else expected
    assert len(results) == len(expected)
    for result, wanted in zip(results, expected, strict=True):
        torch.testing.assert_close(result, wanted, rtol=1e-5, atol=1e-5)
    for node in graph.nodes:
        assert all(isinstance(size, int) for size in node.shape)
    return graph


# Rectifiers ----------------------------------------------------------------------------------------

RECTIFIERS = {
    "nn.ReLU": (Calls(lambda m, x: m.act(x), act=nn.ReLU()), None),
    "nn.ReLU in place": (Calls(lambda m, x: m.act(x + 0.5), act=nn.ReLU(inplace=True)), None),
    "F.relu": (Calls(lambda m, x: F.relu(x)), None),
    "torch.relu": (Calls(lambda m, x: torch.relu(x)), None),
    "relu_": (Calls(lambda m, x: (x + 0.5).relu_()), None),
    "clamp(min=0)": (Calls(lambda m, x: x.clamp(min=0)), None),
    "clamp_min": (Calls(lambda m, x: torch.clamp_min(x, 0)), None),
    "nn.ReLU6": (Calls(lambda m, x: m.act(x), act=nn.ReLU6()), 6.0),
    "F.relu6": (Calls(lambda m, x: F.relu6(x)), 6.0),
    "hardtanh(0, 2)": (Calls(lambda m, x: F.hardtanh(x, 0.0, 2.0)), 2.0),
    "clamp(0, 1.5)": (Calls(lambda m, x: x.clamp(0, 1.5)), 1.5),
}


@pytest.mark.parametrize("spelling", RECTIFIERS)
def test_a_rectifier_in_every_spelling(spelling):
    """Module, function, method, in place, clamp: one Relu, with its limit."""
    network, limit = RECTIFIERS[spelling]

    graph = check_same(network, (4,))

    (relu,) = graph.of(Relu)
    assert relu.op.limit == limit
    assert set(kinds(graph)) <= {"Relu", "Scale"}


@pytest.mark.parametrize(
    "call",
    [
        lambda m, x: x.clamp(-1, 1),
        lambda m, x: F.hardtanh(x),
        lambda m, x: x.clamp(max=0),
        lambda m, x: x.clamp(min=-2),
    ],
)
def test_other_ranges_are_rectifiers_that_are_shifted(call):
    """clamp(−1, 1) is relu(x + 1), at most 2, less 1; clamp(max=c) is c − relu(c − x)."""
    assert kinds(check_same(Calls(call), (4,))) == ["Scale", "Relu", "Scale"]


# Layers --------------------------------------------------------------------------------------------

LAYERS = {
    "conv1d": (nn.Conv1d(4, 6, 3, stride=2, padding=1), (4, 9)),
    "conv2d": (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0)), (4, 7, 8)),
    "conv3d": (nn.Conv3d(2, 3, 2), (2, 4, 5, 3)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2, bias=False), (4, 7, 7)),
    "dilated": (nn.Conv2d(4, 6, 3, dilation=2), (4, 7, 7)),
    "same": (nn.Conv2d(4, 6, 3, padding="same"), (4, 7, 7)),
    "same, dilated": (nn.Conv2d(4, 6, (3, 5), padding="same", dilation=(2, 1)), (4, 7, 7)),
    "valid": (nn.Conv2d(4, 6, 3, padding="valid"), (4, 7, 7)),
    "transposed 1d": (nn.ConvTranspose1d(4, 6, 3, stride=2), (4, 5)),
    "transposed 2d": (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), (4, 5, 5)),
    "transposed 3d": (nn.ConvTranspose3d(2, 3, 2, stride=2), (2, 3, 3, 3)),
    "transposed grouped": (nn.ConvTranspose2d(4, 6, 2, groups=2), (4, 5, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_convolutions(name):
    """A4: One Conv serves 1d, 2d, 3d, grouped, dilated, transposed, and padding by name."""
    layer, shape = LAYERS[name]

    graph = check_same(layer, shape)

    assert kinds(graph) == ["ConvTranspose" if "transposed" in name else "Conv"]


@pytest.mark.filterwarnings("ignore:Using padding")
def test_an_even_kernel_with_same_padding_pads_first():
    """torch pads one side more there."""
    assert kinds(check_same(nn.Conv2d(2, 3, 2, padding="same"), (2, 5, 5))) == ["Gather", "Conv"]


POOLS = {
    "avg1d": (nn.AvgPool1d(2), (3, 8), "AvgPool"),
    "avg2d": (nn.AvgPool2d((2, 3), stride=(1, 2)), (3, 8, 8), "AvgPool"),
    "avg2d padded": (nn.AvgPool2d(3, 2, padding=1), (3, 8, 8), "AvgPool"),
    "avg3d": (nn.AvgPool3d(2), (3, 4, 4, 4), "AvgPool"),
    "avg2d, pad not counted": (nn.AvgPool2d(3, 2, padding=1, count_include_pad=False), (3, 8, 8), "AvgPool"),
    "avg2d divisor": (nn.AvgPool2d(2, divisor_override=3), (3, 8, 8), "AvgPool"),
    "adaptive 1": (nn.AdaptiveAvgPool2d(1), (3, 6, 8), "AvgPool"),
    "adaptive (3, 2)": (nn.AdaptiveAvgPool2d((3, 2)), (3, 6, 8), "AvgPool"),
    "adaptive 1d": (nn.AdaptiveAvgPool1d(2), (3, 8), "AvgPool"),
    "mean((2, 3), keepdim)": (Calls(lambda m, x: x.mean((2, 3), keepdim=True)), (3, 4, 5), "AvgPool"),
    "mean(-1, -2), keepdim": (Calls(lambda m, x: x.mean((-1, -2), True)), (3, 4, 5), "AvgPool"),
    "max1d": (nn.MaxPool1d(2), (3, 8), "MaxPool"),
    "max2d": (nn.MaxPool2d(3, 2, padding=1), (3, 8, 8), "MaxPool"),
    "max2d dilated, ceil": (nn.MaxPool2d(2, 2, dilation=2, ceil_mode=True), (3, 8, 8), "MaxPool"),
    "max3d": (nn.MaxPool3d(2), (3, 4, 4, 4), "MaxPool"),
}


@pytest.mark.parametrize("name", POOLS)
def test_pooling(name):
    """A4: Average, adaptive and max pooling."""
    layer, shape, kind = POOLS[name]

    assert kinds(check_same(layer, shape)) == [kind]


def test_the_mean_over_space_is_pooling_and_a_reshape():
    """x.mean((2, 3)) is AvgPool of the whole image, then its axes are dropped."""
    graph = check_same(Calls(lambda m, x: x.mean((2, 3))), (3, 4, 5))

    assert kinds(graph) == ["AvgPool", "Reshape"]
    assert graph.of(AvgPool)[0].op.kernel == (4, 5)


@pytest.mark.parametrize(
    ("norm", "shape"),
    [(nn.BatchNorm1d(3), (3,)), (nn.BatchNorm1d(3), (3, 5)), (nn.BatchNorm2d(3, affine=False), (3, 4, 4))],
)
def test_batch_norm(norm, shape):
    """A4: With and without affine parameters, on flat and spatial values."""
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)

    assert kinds(check_same(norm, shape)) == ["BatchNorm"]


def test_linear_layers():
    """On flat features, and along the last axis of a sequence."""
    assert kinds(check_same(nn.Linear(4, 3), (4,))) == ["Linear"]
    assert kinds(check_same(nn.Linear(4, 3, bias=False), (5, 4))) == ["Linear"]


# Sums and moves ------------------------------------------------------------------------------------


def add_in_place(m, x):
    """x += y, as residual blocks write it."""
    y = m.conv(x)
    y += x
    return y


MOVES = {
    "x + y": (lambda m, x: m.conv(x) + x, ["Conv", "Add"]),
    "x += y": (add_in_place, ["Conv", "Add"]),
    "torch.add": (lambda m, x: torch.add(m.conv(x), x), ["Conv", "Add"]),
    "cat": (lambda m, x: torch.cat([m.conv(x), x], 1), ["Conv", "Concat"]),
    "cat, dim=-3": (lambda m, x: torch.cat([x, m.conv(x)], -3), ["Conv", "Concat"]),
    "view": (lambda m, x: m.conv(x).view(x.size(0), -1), ["Conv", "Reshape"]),
    "reshape": (lambda m, x: m.conv(x).reshape(-1, 4 * 36), ["Conv", "Reshape"]),
    "flatten": (lambda m, x: torch.flatten(m.conv(x), 1), ["Conv", "Reshape"]),
    "permute": (lambda m, x: m.conv(x).permute(0, 2, 3, 1), ["Conv", "Permute"]),
    "transpose": (lambda m, x: m.conv(x).transpose(1, 2), ["Conv", "Permute"]),
    "dropout": (lambda m, x: F.dropout(m.conv(x), 0.5, m.training), ["Conv"]),
    "contiguous": (lambda m, x: m.conv(x).contiguous().clone(), ["Conv"]),
    "slice": (lambda m, x: m.conv(x)[:, 1:3, ::2], ["Conv", "Gather", "Gather"]),
    "flip": (lambda m, x: m.conv(x).flip(3), ["Conv", "Gather"]),
    "pad": (lambda m, x: F.pad(m.conv(x), (1, 2, 0, 1)), ["Conv", "Gather"]),
    "reflection pad": (lambda m, x: F.pad(m.conv(x), (1, 1, 1, 1), mode="reflect"), ["Conv", "Gather"]),
    "nearest upsampling": (lambda m, x: F.interpolate(m.conv(x), scale_factor=2), ["Conv", "Gather"]),
    "pixel shuffle": (lambda m, x: F.pixel_shuffle(m.conv(x), 2), None),
    "2x − 1": (lambda m, x: m.conv(x) * 2 - 1, ["Conv", "Scale", "Scale"]),
    "x / 4": (lambda m, x: m.conv(x) / 4, ["Conv", "Scale"]),
}  # fmt: skip


@pytest.mark.parametrize("spelling", MOVES)
def test_sums_and_moves(spelling):
    """A4: Additions, concats and moves in the spellings that networks use."""
    call, expected = MOVES[spelling]

    graph = check_same(Calls(call, conv=nn.Conv2d(4, 4, 3, padding=1)), (4, 6, 6))

    assert not graph.of(Opaque)
    assert expected is None or kinds(graph) == expected


@pytest.mark.parametrize(
    "split",
    [
        lambda m, x: torch.chunk(x, 2, 1),
        lambda m, x: torch.split(x, [1, 3], dim=1),
        lambda m, x: x.split(2, dim=1),
    ],
)
def test_pieces_are_gathers(split):
    """chunk and split give slices, which move values and change none."""
    graph = check_same(Calls(split), (4, 3, 3))

    assert {type(node.op) for node in graph.nodes} <= {type(graph.inputs[0].op), Gather, Reshape}
    assert len(graph.outputs) == 2


def test_a_channel_shuffle():
    """view, transpose, view, as ShuffleNet writes it, moves channels only."""

    def shuffle(m, x):
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)

    assert set(kinds(check_same(Calls(shuffle), (4, 3, 3)))) == {"Reshape", "Permute"}


def test_what_moves_samples_is_not_read_as_a_move_within_one():
    """flip over the batch is opaque, not a Gather; and refused, unless another one undoes it."""
    there_and_back = Calls(lambda m, x: (2 * x.flip(0)).flip(0))
    assert kinds(check_same(there_and_back, (2, 3))) == ["flip", "Scale", "flip"]
    with pytest.raises(UnsupportedNetwork, match="follows the samples beside it"):
        trace(Calls(lambda m, x: x.flip(0)), [(2, 3)])


# Opaque --------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Multi-head attention as transformers use it."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


OPAQUE = {
    "gelu": (nn.GELU(), (4,), "GELU"),
    "layer_norm": (nn.LayerNorm(4), (3, 4), "LayerNorm"),
    "sigmoid": (nn.Sigmoid(), (4,), "sigmoid"),
    "softmax": (nn.Softmax(1), (4,), "Softmax"),
    "elu": (nn.ELU(), (4,), "elu"),
    "attention": (Attention(), (5, 8), "Attention"),
}


@pytest.mark.parametrize("name", OPAQUE)
def test_what_has_no_op_is_opaque_and_exact(name):
    """Any other operator is kept as it is, under its own name."""
    network, shape, kind = OPAQUE[name]

    assert kind in kinds(check_same(network, shape))


def test_a_constant_repeated_for_each_sample_is_exact():
    """A class token, expanded to the batch and concatenated along the sequence."""
    network = Calls(
        lambda m, x: torch.cat([m.token.weight.expand(x.shape[0], -1, -1), x], 1), token=nn.Linear(4, 1)
    )
    network.token.weight = nn.Parameter(torch.randn(1, 1, 4))

    check_same(network, (3, 4))


# Names ---------------------------------------------------------------------------------------------


def test_modules_keep_their_names():
    """A node is called what the user calls the module, also in nested containers."""
    network = nn.Sequential()
    network.add_module("features", nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()))
    network.add_module("head", nn.Sequential(nn.Flatten(), nn.Linear(8, 3)))

    graph = check_same(network, (1, 4, 4))

    named = {node.name: type(node.op) for node in graph.nodes}
    assert named["features.0"] is Conv
    assert named["features.1"] is BatchNorm
    assert named["features.2"] is Relu
    assert named["head.1"] is Linear
    assert graph["features.0"].source == "features.0"


def test_a_module_called_twice_is_two_nodes():
    """One nn.ReLU used twice gives two populations with names of their own and one source."""
    network = Calls(
        lambda m, x: m.act(m.b(m.act(m.a(x)))), a=nn.Linear(4, 4), b=nn.Linear(4, 2), act=nn.ReLU()
    )

    graph = check_same(network, (4,))

    first, second = graph.of(Relu)
    assert first.name == "act"
    assert second.name != first.name
    assert (first.shape, second.shape) == ((4,), (2,))
    assert second.source.startswith("act")


def test_a_bare_function_names_its_line():
    """F.relu in forward() has no module: its source tells file and line."""
    network = Calls(lambda m, x: F.relu(m.fc(x)), fc=nn.Linear(4, 2))

    (relu,) = check_same(network, (4,)).of(Relu)

    assert "test_trace.py:" in relu.source


def test_several_inputs_and_outputs():
    """Inputs and outputs come in the order of the arguments and results."""
    network = CallsOnTwo(lambda m, a, b: (m.f(a) + b, F.relu(b)), f=nn.Linear(3, 2))

    graph = check_same(network, (3,), (2,))

    assert len(graph.inputs) == 2
    assert [node.shape for node in graph.inputs] == [(3,), (2,)]


def test_kinds_are_counted_as_torch_counts_modules():
    """A whole small network: every module is one node, nothing is left over."""
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(), nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip

    graph = check_same(network, (1, 14, 14))

    assert Counter(type(node.op) for node in graph.nodes if node.inputs) == {
        Conv: 2, Relu: 2, MaxPool: 1, AvgPool: 1, Reshape: 1, Linear: 1,
    }  # fmt: skip


# Refusals ------------------------------------------------------------------------------------------


def branches(m, x):
    """A branch on a value, which no export can follow."""
    if x.sum() > 0:
        return x
    return -x


def reshapes(m, x):
    """A batch size in `len`."""
    return m.fc(x).reshape(len(x), 2, 2)


def loops(m, x):
    """Sample after sample."""
    return torch.stack([m.fc(sample) for sample in x])


def counts(m, x):
    """Sample after sample, by number."""
    return torch.cat([m.fc(x[i : i + 1]) for i in range(x.shape[0])])


def fixes(m, x):
    """The batch size of who wrote it."""
    return m.fc(x).view(2, 2, 2)


@pytest.mark.parametrize("body", [reshapes, loops, counts, fixes], ids=lambda body: body.__name__)
def test_a_fixed_batch_size_is_refused_at_its_line_in_our_own_words(body):
    """`len(x)`, a Python loop over the batch, a number: the user's line, and what to write instead."""
    with pytest.raises(UnsupportedNetwork) as refused:
        trace(Calls(body, fc=nn.Linear(3, 4)), [(3,)])
    assert refused.value.what.startswith("forward() takes the number of samples for a plain number")
    line = body.__code__.co_firstlineno + 2
    assert refused.value.where == f"{__file__}:{line} in {body.__name__}"
    assert "write x.shape[0] instead of len(x)" in refused.value.remedy
    assert "the whole batch instead of a Python loop" in refused.value.remedy


def test_what_the_remedy_of_a_fixed_batch_size_says_works():
    """x.shape[0] and the whole batch: the same values."""
    network = Calls(lambda m, x: m.fc(x).reshape(x.shape[0], 2, 2), fc=nn.Linear(3, 4))
    x = torch.rand(5, 3)
    assert torch.equal(run(trace(network, [(3,)]), x)[0], reshapes(network, x))


@pytest.mark.filterwarnings("ignore")
def test_a_branch_on_data_is_refused_at_its_line():
    """One UnsupportedNetwork; `where` is the user's own file and line, the remedy a way out."""
    line = inspect.getsourcelines(branches)[1] + 2  # def, docstring, if

    with pytest.raises(UnsupportedNetwork) as caught:
        trace(Calls(branches), [(3,)])

    assert f"test_trace.py:{line}" in caught.value.where
    assert "torch.where" in caught.value.remedy


def test_a_wrong_input_shape_is_refused():
    """The message names the shape and what torch says, the remedy where to look."""
    with pytest.raises(UnsupportedNetwork, match=r"shape \(3, 8, 8\)") as caught:
        trace(nn.Conv2d(1, 2, 3), [(3, 8, 8)])

    assert "dataset" in caught.value.remedy


def test_an_error_in_forward_names_the_users_line():
    """What fails in the user's own code is reported there."""

    def fails(m, x):
        raise ValueError("broken on purpose")

    with pytest.raises(UnsupportedNetwork, match="broken on purpose") as caught:
        trace(Calls(fails), [(3,)])

    assert "test_trace.py:" in caught.value.where


def test_an_output_without_input_is_refused():
    """A network that ignores its sample has nothing to convert."""
    with pytest.raises(UnsupportedNetwork, match="does not depend on its input"):
        trace(Calls(lambda m, x: m.fc.weight * 2, fc=nn.Linear(2, 2)), [(3,)])


# The user's network is left as it was --------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_untouched(training):
    """Weights, statistics, gradients' flags and the training mode are what they were."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout()).train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}

    graph = trace(network, [(1, 5, 5)])

    assert all(module.training is training for module in network.modules())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert not graph.of(Conv)[0].op.weight.requires_grad


def test_frozen_parts_stay_frozen():
    """A batch norm that the user put into eval mode alone is still so after tracing."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train()
    network[1].eval()

    trace(network, [(1, 5, 5)])

    assert [module.training for module in network] == [True, False]


def test_a_refusal_leaves_the_network_untouched_too():
    """The training mode is put back on the way out of an error."""
    network = nn.Conv2d(1, 2, 3).train()

    with pytest.raises(UnsupportedNetwork):
        trace(network, [(3, 8, 8)])

    assert network.training


def test_float64_networks_stay_float64():
    """Constants and weights keep the network's precision."""
    network = Calls(lambda m, x: F.relu(m.fc(x)) * 0.1, fc=nn.Linear(4, 3)).double()

    graph = trace(network, [(4,)])

    assert graph.of(Linear)[0].op.weight.dtype == torch.float64
    (scale,) = graph.of(Scale)
    assert float(scale.op.weight.double()) == pytest.approx(0.1, abs=1e-12)


def test_axes_are_permuted_without_the_batch():
    """`order` counts the axes of one sample."""
    (permute,) = trace(Calls(lambda m, x: x.permute(0, 3, 1, 2)), [(2, 3, 4)]).of(Permute)

    assert permute.op.order == (2, 0, 1)
    assert permute.shape == (4, 2, 3)


class ClassToken(nn.Module):
    """A learned token put before those of the sample."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 6))
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1))


def test_a_constant_that_every_sample_has_is_a_bias():
    """A class token is no operator of its own: zeros with a bias, so that it becomes integers."""
    torch.manual_seed(0)
    network = ClassToken().eval()
    graph = trace(network, [(4, 6)])

    assert not graph.of(Opaque)
    x = torch.randn(5, 4, 6)
    assert torch.allclose(run(graph, x)[0], network(x), atol=1e-6)


def test_inputs_by_name_are_in_the_order_of_the_networks_arguments():
    """Whatever the order of the shapes: the graph takes a tuple as the network does, and a dict."""
    network = CallsOnTwo(lambda self, a, b: self.fc(a) - b, fc=nn.Linear(3, 4)).eval()
    graph = trace(network, {"b": (4,), "a": (3,)})
    a, b = torch.randn(5, 3), torch.randn(5, 4)

    assert [(node.name, node.shape) for node in graph.inputs] == [("a", (3,)), ("b", (4,))]
    for x in ((a, b), {"b": b, "a": a}):
        torch.testing.assert_close(run(graph, x)[0], network(a, b).detach())


@pytest.mark.parametrize(
    ("shapes", "given"),
    [
        ({"c": (4,), "a": (3,)}, "c, a"),
        ({"a": (3,)}, "a"),
        ({"a": (3,), "b": (4,), "c": (4,)}, "a, b, c"),
        ([(3,)], "1 in order"),
        ([(3,), (4,), (4,)], "3 in order"),
    ],
)
def test_samples_for_other_inputs_are_refused_with_both_lists(shapes, given):
    """What forward takes, what there is, and what to give."""
    network = CallsOnTwo(lambda self, a, b: self.fc(a) - b, fc=nn.Linear(3, 4)).eval()
    with pytest.raises(UnsupportedNetwork) as refused:
        trace(network, shapes)
    assert refused.value.what == f"the network takes the inputs a, b, there are samples for {given}"
    assert refused.value.where == "CallsOnTwo.forward"
    assert (
        refused.value.remedy
        == "give samples by these names, or in the order of the inputs; with labels ((x1, x2), labels)"
    )
