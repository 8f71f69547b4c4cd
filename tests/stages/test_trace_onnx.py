"""ONNX files: what their operators become, and that it computes what onnx.reference computes."""

import io
import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn
from torch.nn import functional as F

from ann2snn_cli import catalog, pipeline
from ann2snn_cli.config import Settings
from ann2snn_cli.errors import BadFile, BadWeights, UnsupportedNetwork
from ann2snn_cli.ir.ops import AvgPool, BatchNorm, Conv, Gather, Linear, Relu
from ann2snn_cli.ir.run import run
from ann2snn_cli.ir.validate import validate
from ann2snn_cli.stages.fold import fold
from ann2snn_cli.stages.trace import load_onnx, trace

MAP = ("n", 3, 7, 6)  # an odd and an even side


def weights(*shape, seed=0):
    """Numbers for a weight, of a size that keeps the result near 1."""
    random = np.random.default_rng((seed, *shape))
    return (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def whole(*numbers):
    """Integers, as shapes and axes are written."""
    return np.array(numbers, dtype=np.int64)


def node(kind, inputs="x", outputs="y", name="", **attributes):
    """A node; names of values in one string."""
    inputs = ["" if each == "_" else each for each in inputs.split()]
    return helper.make_node(kind, inputs, outputs.split(), name=name, **attributes)


def model(*nodes, shape=MAP, opset=18, outputs="y", kind=TensorProto.FLOAT, ir_version=8, **constants):
    """A model of these nodes, which reads x and knows the constants."""
    graph = helper.make_graph(
        list(nodes),
        "hand_made",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(each, TensorProto.FLOAT, None) for each in outputs.split()],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def read(made, folder, shape=None):
    """The network in a file that holds this model."""
    onnx.save(made, folder / "model.onnx")
    return load_onnx(folder / "model.onnx", None if shape is None else [shape])


def check(made, folder, batch=3, torchs=None):
    """Read it, and hold the graph against the reference, or torch where that is wrong; gives the graph."""
    network = read(made, folder)
    validate(network.graph)
    given = made.graph.input[0].type.tensor_type.shape.dim[0].dim_value or batch
    x = torch.randn(given, *network.graph.inputs[0].shape, generator=torch.Generator().manual_seed(1))
    expected = [torchs(x)] if torchs else ReferenceEvaluator(made).run(None, {"x": x.numpy()})
    same(network(x), expected)
    return network.graph


def same(results, expected):
    """Equal to a relative 1e-5, output by output."""
    results = results if isinstance(results, tuple) else (results,)
    assert len(results) == len(expected)
    for result, wanted in zip(results, expected, strict=True):
        wanted = torch.as_tensor(np.ascontiguousarray(wanted))
        torch.testing.assert_close(result, wanted, rtol=1e-5, atol=1e-5)


def kinds(graph):
    """The ops of a graph, in order, without the inputs."""
    return [each.op.kind for each in graph.nodes if each.op.kind != "Input"]


# Layers --------------------------------------------------------------------------------------------

SIDES = {"kernel 3": 3, "kernel 2": 2, "kernel 4": 4}


@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (3, 2)])
@pytest.mark.parametrize("kernel", SIDES.values(), ids=SIDES)
@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_a_convolution_that_pads_by_name(tmp_path, auto_pad, kernel, strides):
    """Uneven padding becomes a move before the layer, even padding a part of it."""
    conv = node("Conv", "x w b", auto_pad=auto_pad, strides=strides)

    graph = check(model(conv, w=weights(4, 3, kernel, kernel), b=weights(4)), tmp_path)

    assert kinds(graph) in (["Conv"], ["Gather", "Conv"])
    assert auto_pad != "VALID" or kinds(graph) == ["Conv"]


CONVOLUTIONS = {
    "1d": ({"pads": [1, 1], "strides": [2]}, ("n", 4, 9), (6, 4, 3)),
    "3d": ({}, ("n", 2, 4, 5, 3), (3, 2, 2, 2, 2)),
    "grouped": ({"group": 3}, MAP, (6, 1, 3, 3)),
    "dilated": ({"dilations": [2, 1], "pads": [2, 1, 2, 1]}, MAP, (4, 3, 3, 3)),
    "uneven pads": ({"pads": [0, 1, 2, 0]}, MAP, (4, 3, 3, 3)),
    "fixed batch of 1": ({"pads": [1, 1, 1, 1]}, (1, 3, 7, 6), (4, 3, 3, 3)),
    "fixed batch of 5": ({"pads": [1, 1, 1, 1]}, (5, 3, 7, 6), (4, 3, 3, 3)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(tmp_path, name):
    """One Conv serves 1d, 2d, 3d, grouped and dilated; the batch may be open or fixed."""
    attributes, shape, weight = CONVOLUTIONS[name]
    graph = check(model(node("Conv", "x w", **attributes), shape=shape, w=weights(*weight)), tmp_path)
    assert len(graph.of(Conv)) == 1


TRANSPOSED = {
    "plain": {"strides": [2, 2]},
    "output padding": {"strides": [2, 3], "pads": [1, 1, 1, 1], "output_padding": [1, 2]},
    "dilated": {"dilations": [2, 1]},
    "uneven pads": {"strides": [2, 2], "pads": [0, 1, 1, 0]},
    "uneven pads, output padding": {"strides": [2, 2], "pads": [0, 1, 1, 0], "output_padding": [1, 0]},
    "SAME_UPPER": {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    "SAME_LOWER": {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_transposed_convolutions(tmp_path, name):
    """With output padding and dilation; uneven padding is cut off afterwards."""
    made = model(node("ConvTranspose", "x w b", **TRANSPOSED[name]), w=weights(3, 2, 3, 3), b=weights(2))
    (conv,) = check(made, tmp_path).of(Conv)
    assert conv.op.transposed


@pytest.mark.parametrize("mode", ["NOTSET", "SAME_UPPER"])
def test_a_transposed_convolution_to_a_wanted_shape(tmp_path, mode):
    """What its windows give too much (15x13) is cut off: the odd one in front, with SAME_UPPER behind."""
    weight = weights(3, 2, 3, 3)
    wanted = {"strides": [2, 2], "output_shape": [14, 12], "auto_pad": mode}
    part = slice(1, None) if mode == "NOTSET" else slice(None, -1)

    def torchs(x):
        return F.conv_transpose2d(x, torch.from_numpy(weight), stride=2)[:, :, part, part]

    check(model(node("ConvTranspose", "x w", **wanted), w=weight), tmp_path, torchs=torchs)


def test_a_transposed_convolution_in_groups(tmp_path):
    """Each group has channels of its own."""
    weight = weights(3, 2, 3, 3)
    made = model(node("ConvTranspose", "x w", group=3), w=weight)
    check(made, tmp_path, torchs=lambda x: F.conv_transpose2d(x, torch.from_numpy(weight), groups=3))


def test_a_convolution_with_negative_padding(tmp_path):
    """It cuts the map."""
    weight = weights(4, 3, 3, 3)
    made = model(node("Conv", "x w", pads=[-1, 0, 0, 2]), w=weight)
    check(made, tmp_path, torchs=lambda x: F.conv2d(F.pad(x[:, :, 1:], (0, 2)), torch.from_numpy(weight)))


GEMMS = {
    "transB": ({"transB": 1}, (5, 8), (5,)),
    "without transB": ({}, (8, 5), (5,)),
    "alpha, beta": ({"alpha": 0.5, "beta": 2.0}, (8, 5), (1, 5)),
    "a number for a bias": ({}, (8, 5), ()),
}


@pytest.mark.parametrize("name", GEMMS)
def test_gemm(tmp_path, name):
    """One Linear, with alpha and beta in its weights."""
    attributes, weight, bias = GEMMS[name]
    made = model(
        node("Gemm", "x w b", **attributes),
        shape=("n", 8),
        w=weights(*weight),
        b=np.full(bias, 0.7, np.float32),
    )
    assert kinds(check(made, tmp_path)) == ["Linear"]


def test_a_matrix_product_and_its_bias_are_one_layer(tmp_path):
    """MatMul, Add -> Linear, on flat features and along the last axis of tokens."""
    nodes = node("MatMul", "x w", "h"), node("Add", "b h")
    for shape in (("n", 8), ("n", 3, 8)):
        graph = check(model(*nodes, shape=shape, w=weights(8, 5), b=weights(5)), tmp_path)
        assert kinds(graph) == ["Linear"]
        assert graph.of(Linear)[0].op.bias is not None
    nodes = node("MatMul", "x w", "h"), node("Mul", "h m", "i"), node("Add", "i b")
    constants = {"w": weights(8, 5), "m": weights(5), "b": weights(5, seed=1)}
    assert kinds(check(model(*nodes, shape=("n", 8), **constants), tmp_path)) == ["Linear"]


def test_scales_and_biases_after_a_convolution_go_into_it(tmp_path):
    """Conv, Mul, Add by channel: one Conv. Not where something else reads the convolution."""
    nodes = node("Conv", "x w", "a"), node("Mul", "a m", "b"), node("Add", "b c")
    constants = {"w": weights(4, 3, 3, 3), "m": weights(4, 1, 1), "c": weights(1, 4, 1, 1)}

    assert kinds(check(model(*nodes, **constants), tmp_path)) == ["Conv"]
    assert kinds(check(model(*nodes, outputs="y a", **constants), tmp_path)) == ["Conv", "Scale"]


def test_scales_after_a_transposed_convolution_go_into_it_unless_it_has_groups(tmp_path):
    """Its output channels lie on another axis of its weight."""
    weight, gain = weights(3, 4, 2, 2), weights(12, 1, 1)

    def check_kinds(groups, expected):
        factor = gain[: 4 * groups]
        made = model(node("ConvTranspose", "x w", "a", group=groups), node("Mul", "a m"), w=weight, m=factor)
        torchs = F.conv_transpose2d
        graph = check(
            made,
            tmp_path,
            torchs=lambda x: torchs(x, torch.tensor(weight), groups=groups) * torch.tensor(factor),
        )
        assert kinds(graph) == expected

    check_kinds(1, ["ConvTranspose"])
    check_kinds(3, ["ConvTranspose", "Scale"])


@pytest.mark.parametrize("opset", [7, 9, 15])
def test_a_batch_norm_of_its_own_is_kept_for_folding(tmp_path, opset):
    """With its epsilon, in every opset's form; folding merges it into the convolution."""
    nodes = node("Conv", "x w", "h"), node("BatchNormalization", "h s b m v", epsilon=0.01)
    weight, scale, bias, mean, var = (
        weights(4, 3, 3, 3),
        *(weights(4, seed=seed) for seed in range(3)),
        np.full(4, 0.3, np.float32),
    )
    made = model(*nodes, opset=opset, w=weight, s=scale, b=bias, m=mean, v=var)

    def torchs(x):
        values = [torch.tensor(each) for each in (weight, mean, var, scale, bias)]
        return F.batch_norm(F.conv2d(x, values[0]), *values[1:], eps=0.01)

    graph = check(made, tmp_path, torchs=torchs)
    assert [type(each.op) for each in graph.nodes[1:]] == [Conv, BatchNorm]
    assert not fold(graph).of(BatchNorm)


# Pooling -------------------------------------------------------------------------------------------

POOLS = {
    "plain": {"kernel_shape": [2, 2], "strides": [2, 2]},
    "even pads": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    "uneven pads": {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [0, 1, 2, 0]},
    "pads beyond half a window": {"kernel_shape": [3, 3], "strides": [1, 2], "pads": [2, 2, 2, 2]},
    "SAME_UPPER": {"kernel_shape": [2, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    "SAME_LOWER": {"kernel_shape": [2, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    "VALID": {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "VALID"},
    "ceil": {"kernel_shape": [3, 3], "strides": [2, 3], "ceil_mode": 1},
    "ceil, even pads": {"kernel_shape": [2, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    "ceil, uneven pads": {"kernel_shape": [2, 3], "strides": [2, 2], "pads": [0, 0, 1, 1], "ceil_mode": 1},
}


@pytest.mark.parametrize("name", POOLS)
def test_max_pooling(tmp_path, name):
    """Negative values too: what lies beyond the map never wins."""

    def torchs(x):  # the reference forgets a row here
        return F.max_pool2d(F.pad(x, (1, 0, 1, 0), value=-torch.inf), (2, 3), 2)

    made = model(node("MaxPool", **POOLS[name]), opset=19)
    graph = check(made, tmp_path, torchs=torchs if name == "SAME_LOWER" else None)
    assert "MaxPool" in kinds(graph)


@pytest.mark.parametrize("pads", [[2, 1, 2, 1], [1, 0, 2, 3], [3, 0, 0, 1]])
def test_dilated_max_pooling(tmp_path, pads):
    """A place beyond the map repeats one that the same window sees."""
    pool = node("MaxPool", kernel_shape=[2, 3], dilations=[3, 2], pads=pads)
    assert "MaxPool" in kinds(check(model(pool), tmp_path))


@pytest.mark.parametrize("with_padding", [0, 1])
@pytest.mark.parametrize("name", POOLS)
def test_average_pooling(tmp_path, name, with_padding):
    """Windows at the border are divided by as many values as the file says they hold."""
    pool = node("AveragePool", count_include_pad=with_padding, **POOLS[name])
    graph = check(model(pool, opset=19), tmp_path)
    assert kinds(graph) in (["AvgPool"], ["Gather", "AvgPool"])
    if name in ("plain", "VALID") or (name == "even pads" and with_padding):
        assert kinds(graph) == ["AvgPool"]


def test_global_pooling_in_one_and_three_axes_too(tmp_path):
    """One window, as large as the map."""
    for shape in (("n", 3, 7), MAP, ("n", 2, 3, 4, 5)):
        axes = tuple(range(2, len(shape)))
        mean = check(model(node("GlobalAveragePool"), shape=shape), tmp_path)
        largest = check(
            model(node("GlobalMaxPool"), shape=shape),
            tmp_path,
            torchs=lambda x, axes=axes: x.amax(axes, keepdim=True),
        )
        assert (kinds(mean), kinds(largest)) == (["AvgPool"], ["MaxPool"])


MEANS = {
    "both axes": ((2, 3), 1, ["AvgPool"]),
    "both axes, dropped": ((-1, -2), 0, ["AvgPool", "Reshape"]),
    "one axis": ((3,), 1, ["AvgPool"]),
    "one axis, dropped": ((2,), 0, ["AvgPool", "Reshape"]),
    "channels": ((1,), 1, ["Permute", "Reshape", "AvgPool", "Reshape"]),
}


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("name", MEANS)
def test_means_over_axes(tmp_path, name, opset):
    """The axes are an attribute, from opset 18 on an input."""
    axes, keep, expected = MEANS[name]
    if opset == 13:
        made = model(node("ReduceMean", axes=axes, keepdims=keep), opset=opset)
    else:
        made = model(node("ReduceMean", "x a", keepdims=keep), a=whole(*axes), opset=opset)
    assert kinds(check(made, tmp_path)) == expected


# Element by element --------------------------------------------------------------------------------

CLIPS = {
    "attributes": (node("Clip", min=0.0, max=1.5), 7, {}, 1.5),
    "attributes by default": (node("Clip", min=0.0), 7, {}, None),
    "inputs": (node("Clip", "x low high"), 18, {"low": np.float32(0), "high": np.float32(0.5)}, 0.5),
    "one input": (node("Clip", "x low"), 18, {"low": np.float32(0)}, None),
    "no limit by its type": (
        node("Clip", "x low high"),
        18,
        {"low": np.float32(0), "high": np.finfo(np.float32).max},
        None,
    ),
}


@pytest.mark.parametrize("name", CLIPS)
def test_a_clip_from_zero_is_a_rectifier(tmp_path, name):
    """Its bounds are attributes, from opset 11 on inputs."""
    clip, opset, bounds, limit = CLIPS[name]
    graph = check(model(clip, opset=opset, **bounds), tmp_path, torchs=lambda x: x.clamp(0, limit))
    (relu,) = graph.of(Relu)
    assert relu.op.limit == limit


def test_a_hard_sigmoid_is_a_scale_and_a_rectifier_with_a_limit(tmp_path):
    """clip(x/5 + 1/2, 0, 1), or with factors of its own."""
    for attributes in ({}, {"alpha": 0.3, "beta": 0.4}):
        graph = check(model(node("HardSigmoid", **attributes)), tmp_path)
        assert kinds(graph) == ["Scale", "Relu"]


OPAQUE = {
    "elu": (node("Elu", alpha=0.7), {}),
    "sigmoid": (node("Sigmoid"), {}),
    "tanh": (node("Tanh"), {}),
    "erf": (node("Erf"), {}),
    "hardswish": (node("HardSwish"), {}),
    "GELU": (node("Gelu", approximate="tanh"), {}),
    "LayerNorm": (node("LayerNormalization", "x s b", axis=-1), {"s": weights(6), "b": weights(6, seed=1)}),
    "mul": (node("Mul", "x x"), {}),
    "pow": (node("Pow", "x two"), {"two": np.float32(2)}),
    "div": (node("Div", "c x"), {"c": np.float32(0.3)}),
    "matmul": (node("MatMul", "x x", "y"), {}),
}


@pytest.mark.parametrize("name", OPAQUE)
def test_what_has_no_spiking_form_is_opaque(tmp_path, name):
    """torch's own function with the file's settings."""
    made, constants = OPAQUE[name]
    shape = ("n", 3, 6, 6) if name == "matmul" else MAP
    assert kinds(check(model(made, opset=20, shape=shape, **constants), tmp_path)) == [name]


SCALES = {
    "div in front": node("Div", "x c"),
    "mul": node("Mul", "c x"),
    "sub": node("Sub", "x c"),
    "constant minus x": node("Sub", "c x"),
    "add": node("Add", "x c"),
    "neg": node("Neg"),
}


@pytest.mark.parametrize("shape", [(), (1,), (3, 1, 1), (1, 3, 1, 1), (6,)])
@pytest.mark.parametrize("name", SCALES)
def test_arithmetic_with_constants_is_a_scale(tmp_path, name, shape):
    """A number, one for each channel, or one for each column."""
    constant = np.abs(np.asarray(weights(*shape, 1)[..., 0])) + np.float32(0.5)
    graph = check(model(SCALES[name], c=constant), tmp_path)
    assert kinds(graph) == ["Scale"]


def test_preprocessing_in_front_is_one_scale(tmp_path):
    """(x/255 − mean)/std."""
    nodes = node("Div", "x k", "a"), node("Sub", "a m", "b"), node("Div", "b s")
    constants = {
        "k": np.float32(255),
        "m": np.abs(weights(1, 3, 1, 1)),
        "s": np.full((1, 3, 1, 1), 0.3, np.float32),
    }
    assert kinds(check(model(*nodes, **constants), tmp_path)) == ["Scale"]


def test_sums_of_values(tmp_path):
    """Add and Sum of values are synapses; a value that is spread over another is repeated first."""
    pool = node("GlobalAveragePool", "x", "p")
    assert kinds(check(model(node("Relu", "x", "r"), node("Add", "x r")), tmp_path)) == ["Relu", "Add"]
    assert kinds(check(model(node("Relu", "x", "r"), node("Sum", "x r x")), tmp_path)) == ["Relu", "Add"]
    assert kinds(check(model(pool, node("Add", "x p")), tmp_path)) == ["AvgPool", "Gather", "Add"]


# Moves ---------------------------------------------------------------------------------------------

RESIZE = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}

MOVES = {
    "concat": ([node("Relu", "x", "r"), node("Concat", "r x", axis=-3)], {}, ["Relu", "Concat"]),
    "flatten": ([node("Flatten")], {}, ["Reshape"]),
    "flatten from behind": ([node("Flatten", axis=-3)], {}, ["Reshape"]),
    "reshape": ([node("Reshape", "x s")], {"s": whole(0, 3, -1)}, ["Reshape"]),
    "reshape, batch left open": ([node("Reshape", "x s")], {"s": whole(-1, 126)}, ["Reshape"]),
    "reshape to itself": ([node("Reshape", "x s")], {"s": whole(0, 0, 7, 6)}, []),
    "unsqueeze, squeeze": (
        [node("Unsqueeze", "x a", "u"), node("Squeeze", "u a")],
        {"a": whole(1)},
        ["Reshape", "Reshape"],
    ),
    "squeeze what is 1": (
        [node("GlobalAveragePool", "x", "p"), node("Squeeze", "p")],
        {},
        ["AvgPool", "Reshape"],
    ),
    "transpose": ([node("Transpose", perm=[0, 3, 1, 2])], {}, ["Permute"]),
    "transpose to itself": ([node("Transpose", perm=[0, 1, 2, 3])], {}, []),
    "identity, dropout, cast": (
        [node("Identity", "x", "a"), node("Dropout", "a", "b"), node("Cast", "b", to=TensorProto.FLOAT)],
        {},
        [],
    ),
    "pad": ([node("Pad", "x p")], {"p": whole(0, 1, 0, 2, 0, 0, 1, 0)}, ["Gather"]),
    "pad by the edge": ([node("Pad", "x p", mode="edge")], {"p": whole(0, 0, 1, 1, 0, 0, 1, 1)}, ["Gather"]),
    "slice": (
        [node("Slice", "x b e a s")],
        {"b": whole(1, -1), "e": whole(9, -9), "a": whole(2, 3), "s": whole(2, -1)},
        ["Gather"],
    ),
    "slice of everything": (
        [node("Slice", "x b e a")],
        {"b": whole(0), "e": whole(2**31), "a": whole(0)},
        [],
    ),
    "gather": ([node("Gather", "x i", axis=1)], {"i": whole(2, 0)}, ["Gather"]),
    "gather of one": ([node("Gather", "x i", axis=2)], {"i": np.array(3)}, ["Gather"]),
    "split": (
        [node("Split", "x s", "a b", axis=1), node("Concat", "b a", axis=1)],
        {"s": whole(1, 2)},
        ["Gather", "Gather", "Concat"],
    ),
    "resize": ([node("Resize", "x _ s", **RESIZE)], {"s": np.float32([1, 1, 2, 2])}, ["Gather"]),
    "depth to space": (
        [node("Concat", "x x x x", "c", axis=1), node("DepthToSpace", "c", blocksize=2)],
        {},
        ["Concat", "Gather"],
    ),
}


def test_a_resize_to_sizes_that_hold_the_batch(tmp_path):
    """As exporters write it where the batch is open."""
    nodes = [
        node("Shape", "x", "s", end=1),
        node("Concat", "s rest", "t", axis=0),
        node("Resize", "x _ _ t", **RESIZE),
    ]
    assert kinds(check(model(*nodes, rest=whole(3, 14, 12)), tmp_path)) == ["Gather"]


@pytest.mark.parametrize("shape", [MAP, (1, *MAP[1:])], ids=["open batch", "batch of 1"])
@pytest.mark.parametrize("name", MOVES)
def test_moves(tmp_path, name, shape):
    """Values change their places and nothing else, sample by sample."""
    if name == "squeeze what is 1":
        shape = ("n" if shape[0] == 1 else 4, *MAP[1:])  # a batch of 1 would be squeezed too
    nodes, constants, expected = MOVES[name]
    assert kinds(check(model(*nodes, shape=shape, **constants), tmp_path)) == expected


OLD_MOVES = {
    "slice": (node("Slice", axes=[2], starts=[1], ends=[5]), 9, lambda x: x[:, :, 1:5]),
    "split": (node("Split", "x", "y z", axis=1, split=[2, 1]), 11, lambda x: x[:, :2]),
    "squeeze": (node("Unsqueeze", axes=[2]), 11, lambda x: x[:, :, None]),
    "pad": (node("Pad", pads=[0, 0, 1, 0, 0, 0, 0, 2]), 10, lambda x: F.pad(x, (0, 2, 1, 0))),
    "dropout": (node("Dropout", ratio=0.5), 7, lambda x: x),
}


@pytest.mark.parametrize("name", OLD_MOVES)
def test_moves_of_older_opsets(tmp_path, name):
    """What are inputs today were attributes."""
    made, opset, torchs = OLD_MOVES[name]
    check(model(made, opset=opset), tmp_path, torchs=torchs)


def test_constants_are_folded(tmp_path):
    """A weight through Reshape, Transpose, Cast, Identity and Constant: one Linear."""
    shape = numpy_helper.from_array(whole(5, 8), "shape")
    nodes = [
        node("Constant", "", "s", value=shape),
        node("Reshape", "w s", "a"),
        node("Transpose", "a", "b", perm=[1, 0]),
        node("Cast", "b", "c", to=TensorProto.FLOAT),
        node("Identity", "c", "d"),
        node("MatMul", "x d"),
    ]
    assert kinds(check(model(*nodes, shape=("n", 8), w=weights(40).astype(np.float64)), tmp_path)) == [
        "Linear"
    ]


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("shape", [MAP, (1, *MAP[1:]), (4, *MAP[1:])], ids=["open", "1", "4"])
def test_a_shape_computed_from_the_batch(tmp_path, opset, shape):
    """x.view(x.size(0), -1), and a fixed batch of 1 that is written as 1: the shape of a sample."""
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "g", axis=0),
        node("Unsqueeze", "g a", "b"),
        node("Concat", "b rest", "t", axis=0),
        node("Reshape", "x t"),
    ]
    made = model(*nodes, shape=shape, opset=opset, zero=np.array(0), a=whole(0), rest=whole(-1))
    assert kinds(check(made, tmp_path)) == ["Reshape"]
    if shape[0] == 1:
        assert kinds(check(model(node("Reshape", "x s"), shape=shape, s=whole(1, -1)), tmp_path)) == [
            "Reshape"
        ]


# Files of PyTorch's exporters ----------------------------------------------------------------------


class Block(nn.Module):
    """A residual block, with a function call and a pad by functions."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, groups=2)

    def forward(self, x):
        return F.relu(self.conv2(F.relu(self.bn1(self.conv1(x)))) + x)


class Small(nn.Module):
    """A little of everything that exporters write in their own way."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU6())
        self.layer1 = nn.Sequential(Block(), Block())
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(7, 5)

    def forward(self, x):
        x = self.layer1(self.stem(x / 0.5))
        x = torch.cat([self.up(F.avg_pool2d(x, 2)), x[:, :, :, :4]], dim=1)
        x = F.pad(x, (0, 1, 0, 0)).mean((2, 3))
        x = self.drop(x).view(x.size(0), -1)
        return F.softmax(self.fc(x), dim=1)


def trained_like(network):
    """In eval mode, with batch norms that are not the identity."""
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.running_var, module.weight.data, module.bias.data):
                values.copy_(torch.rand(values.shape, generator=generator) + 0.2)
    return network.eval()


def export(network, shape, path, opset, dynamo, open_batch=True):
    """By either of PyTorch's exporters."""
    x = torch.zeros(2 if open_batch else 1, *shape)
    batch = {0: torch.export.Dim.DYNAMIC} if dynamo else {0: "n"}
    shapes = {"dynamic_shapes": (batch,)} if dynamo else {"dynamic_axes": {"x": batch}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # around this call only: each version of torch has others to give
        torch.onnx.export(
            network,
            (x,),
            path,
            opset_version=opset,
            dynamo=dynamo,
            input_names=["x"],
            verbose=False,
            **(shapes if open_batch else {}),
        )


EXPORTS = {f"TorchScript, opset {opset}": (opset, False) for opset in (13, 17, 18, 20)}
EXPORTS |= {f"torch.export, opset {opset}": (opset, True) for opset in (18, 20)}


@pytest.fixture(scope="module")
def small():
    """The network that is exported, and a batch for it."""
    torch.manual_seed(0)
    return trained_like(Small()), torch.randn(3, 1, 8, 8)


@pytest.fixture(scope="module", params=EXPORTS)
def exported(request, small, tmp_path_factory):
    """The path of its file, by one of the exporters."""
    path = tmp_path_factory.mktemp("export") / "small.onnx"
    export(small[0], (1, 8, 8), path, *EXPORTS[request.param])
    return path


def test_an_export_computes_what_the_network_and_the_reference_compute(exported, small):
    """Both exporters, opsets 13 to 20; the softmax at the end is left out, and a note says so."""
    network, x = small
    imported = load_onnx(exported)
    validate(imported.graph)
    with torch.no_grad():
        same(imported(x).softmax(1), [network(x)])
    same(imported(x).softmax(1), ReferenceEvaluator(onnx.load(exported)).run(None, {"x": x.numpy()}))
    (note,) = imported.notes
    assert "Softmax" in note
    assert "predictions are the same" in note


@pytest.fixture(scope="module")
def traced(small):
    """The same network as `trace` reads the module."""
    return fold(trace(small[0], [(1, 8, 8)]))


def test_an_export_arrives_as_the_network_does(exported, traced):
    """The same ops as torch.export's trace, once batch norms are folded; populations of the same shapes."""
    imported = fold(load_onnx(exported).graph)
    populations = [each.shape for each in traced.of(Relu)]
    assert [each.shape for each in imported.of(Relu)] == populations
    for kind in (Conv, Linear, AvgPool, Gather):
        assert len(imported.of(kind)) == len(traced.of(kind))


def test_nodes_are_called_by_the_modules_of_the_network(exported):
    """Layers by their module, function calls by the module that makes them."""
    graph = load_onnx(exported).graph
    sources = {each.source for each in graph.nodes}
    assert {"stem.0", "stem.1", "up", "fc", "layer1.0.conv2"} <= sources
    assert sum(source.startswith("layer1.1.") and "elu" in source for source in sources) == 2


NAMES = {
    "/layer1/layer1.0/conv1/Conv": ("layer1.0.conv1", "layer1.0.conv1"),  # a module with one call
    "/layer1/layer1.0/Relu_1": ("layer1.0.Relu_1", "layer1.0.Relu_1"),  # a function called by a module
    "/fc/MatMul": ("fc.MatMul", "fc"),  # a module with calls of two kinds
    "/fc/Relu": ("fc.Relu", "fc"),
    "/act/Relu": ("act", "act"),  # a module that is called twice
    "/act/Relu_1": ("act:2", "act"),
    "model/dense/Relu": ("model.dense", "model.dense"),  # other tools
    "plain": ("plain", "plain"),
    "": ("out", "out"),  # no name: that of what it gives
}


def test_names_are_read_from_the_paths_that_exporters_write(tmp_path):
    """The node's name, and what a user calls it."""
    values = ["x", *(f"v{index}" for index in range(len(NAMES) - 1)), "out"]
    made = [
        node("Neg" if "MatMul" in name or "Conv" in name else "Relu", values[i], values[i + 1], name=name)
        for i, name in enumerate(NAMES)
    ]
    graph = read(model(*made, outputs="out"), tmp_path).graph
    assert [(each.name, each.source) for each in graph.nodes[1:]] == list(NAMES.values())


def test_names_in_the_metadata_come_first(tmp_path):
    """torch.export's own, and before them the module whose weight is read; damaged ones are passed over."""
    made = model(
        node("Conv", "x conv.weight", "a", name="c"), node("Relu", "a", "b", name="r"), node("Relu", "b")
    )
    made.graph.initializer.append(numpy_helper.from_array(weights(4, 3, 1, 1), "conv.weight"))
    scopes = ("['', 'bn', 'native_batch_norm']", "['', 'layer1', 'relu_1']", "['', 'layer")
    for each, scope in zip(made.graph.node, scopes, strict=True):
        each.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scope)
    sources = [each.source for each in read(made, tmp_path).graph.nodes]
    assert sources == ["x", "conv", "layer1", "y"]


@pytest.mark.parametrize("dynamo", [False, True], ids=["TorchScript", "torch.export"])
def test_an_export_with_a_fixed_batch_of_one_takes_any_batch(tmp_path, small, dynamo):
    """Shapes that were written with a 1 in front are shapes of a sample."""
    export(small[0], (1, 8, 8), tmp_path / "one.onnx", 18, dynamo, open_batch=False)
    with torch.no_grad():
        same(load_onnx(tmp_path / "one.onnx")(small[1]).softmax(1), [small[0](small[1])])


@pytest.mark.parametrize("dynamo", [False, True], ids=["TorchScript", "torch.export"])
def test_a_bundled_network_arrives_node_by_node(tmp_path, dynamo):
    """mnist_cnn: the names, ops and shapes of the trace, and the same numbers."""
    shape = (1, 28, 28)
    torch.manual_seed(0)
    network = catalog.network("mnist_cnn").build(shape, 10).eval()
    export(network, shape, tmp_path / "mnist_cnn.onnx", 18, dynamo)

    imported, wanted = load_onnx(tmp_path / "mnist_cnn.onnx"), trace(network, [shape])

    described = [
        [(each.name, each.op.kind, each.shape, each.source) for each in graph.nodes[1:]]
        for graph in (fold(imported.graph), fold(wanted))
    ]
    assert described[0] == described[1]
    x = torch.randn(2, *shape)
    with torch.no_grad():
        same(imported(x), [network(x)])


# Outputs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", [11, 13])
def test_a_softmax_is_left_out_at_the_end_only(tmp_path, kind, opset):
    """By way of an Identity too; elsewhere it is computed."""
    shape = ("n", 8)
    last = read(model(node(kind, "x", "s"), node("Identity", "s"), shape=shape, opset=opset), tmp_path)
    assert (kinds(last.graph), len(last.notes)) == ([], 1)
    inside = model(node(kind, "x", "s"), node("Relu", "s"), shape=shape, opset=opset)
    assert kinds(check(inside, tmp_path)) == [{"LogSoftmax": "log_softmax"}.get(kind, kind), "Relu"]
    read_twice = model(node(kind, "x", "s"), node("Relu", "s"), shape=shape, opset=opset, outputs="s y")
    assert "Relu" in kinds(check(read_twice, tmp_path))
    nodes = node(kind, "x", "s"), node("Identity", "s", "y"), node("Relu", "s", "z")
    read_behind = model(*nodes, shape=shape, opset=opset, outputs="y z")
    assert len(kinds(check(read_behind, tmp_path))) == 2


def test_a_softmax_over_several_axes_is_computed_over_one_only(tmp_path):
    """Before opset 13 it was over all axes from the named one on, by default from the channels."""
    shape = ("n", 3, 5)

    def inside(opset, **attributes):
        return model(node("Softmax", "x", "s", **attributes), node("Relu", "s"), shape=shape, opset=opset)

    for made in (inside(11, axis=2), inside(13), inside(13, axis=1)):
        assert kinds(check(made, tmp_path)) == ["Softmax", "Relu"]
    for made in (inside(11), inside(11, axis=1)):
        with pytest.raises(UnsupportedNetwork, match="over several axes at once"):
            read(made, tmp_path)


def test_several_outputs(tmp_path):
    """As a tuple, in the order of the file."""
    check(model(node("Relu", "x", "y"), node("Neg", "x", "z"), outputs="z y"), tmp_path)


def test_what_no_output_needs_is_not_read(tmp_path):
    """A branch that leads nowhere may hold anything."""
    assert kinds(check(model(node("NonZero", "x", "z"), node("Relu")), tmp_path)) == ["Relu"]


# The sample ----------------------------------------------------------------------------------------


def test_open_sizes_are_filled_in_from_the_data(tmp_path):
    """A file for maps of any size becomes a graph for this size."""
    made = model(node("Relu"), shape=("n", 3, "h", "w"))
    assert read(made, tmp_path, (3, 5, 4)).graph.inputs[0].shape == (3, 5, 4)
    with pytest.raises(UnsupportedNetwork, match="leaves more sizes open") as error:
        read(made, tmp_path)
    assert "give the shape of a sample" in error.value.remedy


@pytest.mark.parametrize("shape", [(3, 6, 6), (3, 7), (3, 7, 6, 1)])
def test_data_of_another_shape_is_refused(tmp_path, shape):
    """The error says both shapes."""
    with pytest.raises(UnsupportedNetwork, match=r"takes samples of shape \(3, 7, 6\)") as error:
        read(model(node("Relu")), tmp_path, shape)
    assert str(shape) in error.value.what
    assert "(dataset)" in str(error.value)


def two_inputs(first, second):
    """x + z, of these shapes."""
    made = model(node("Add", "x z"), shape=first)
    made.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, second))
    return made


def test_a_network_of_two_inputs(tmp_path):
    """In the order of the file; there must be a shape for each, and one batch for both."""
    network = read(two_inputs(("n", 3), ("m", 3)), tmp_path)
    same(network(torch.ones(2, 3), torch.ones(2, 3)), [np.full((2, 3), 2.0, np.float32)])
    with pytest.raises(UnsupportedNetwork, match=r"takes 2 inputs \(x, z\)"):
        read(two_inputs(("n", 3), ("m", 3)), tmp_path, (3,))
    with pytest.raises(UnsupportedNetwork, match="different lengths"):
        read(two_inputs((2, 3), ("m", 3)), tmp_path)
    given = {"z": torch.ones(2, 3), "x": torch.full((2, 3), 2.0)}
    same(network(**given), [np.full((2, 3), 3.0, np.float32)])
    assert trace(network, {"z": (3,), "x": (3,)}) is network.graph
    with pytest.raises(UnsupportedNetwork, match=r"of shape x \(3,\), z \(3,\), not x \(3,\), y \(3,\)"):
        trace(network, {"x": (3,), "y": (3,)})


def test_an_input_without_a_sample_is_refused(tmp_path):
    """One axis is the batch's; it leaves none for the sample."""
    with pytest.raises(UnsupportedNetwork, match="no axes but a batch's"):
        read(model(node("Relu"), shape=(8,)), tmp_path)


def test_a_graph_is_for_the_shape_it_was_read_for(tmp_path):
    """`trace` gives it for that shape only."""
    network = read(model(node("Relu")), tmp_path)
    assert trace(network, [(3, 7, 6)]) is network.graph
    with pytest.raises(UnsupportedNetwork, match="was read for samples of shape"):
        trace(network, [(3, 8, 8)])


def test_an_input_of_bytes_is_noted(tmp_path):
    """Samples come as real numbers, whatever the file declares."""
    made = model(node("Cast", "x", "f", to=TensorProto.FLOAT), node("Relu", "f"), kind=TensorProto.UINT8)
    network = read(made, tmp_path)
    assert kinds(network.graph) == ["Relu"]
    assert "uint8" in network.notes[0]


def test_weights_may_be_listed_as_inputs(tmp_path):
    """As files before IR version 4 do."""
    made = model(node("Conv", "x w"), w=weights(4, 3, 3, 3), ir_version=3)
    made.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, (4, 3, 3, 3)))
    assert kinds(read(made, tmp_path).graph) == ["Conv"]


def test_weights_in_a_file_beside(tmp_path):
    """They are read with the model, and count for its fingerprint; without them there is a clear error."""
    made = model(node("Conv", "x w"), w=weights(4, 3, 3, 3))
    onnx.save(made, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    network = load_onnx(tmp_path / "m.onnx")
    assert kinds(network.graph) == ["Conv"]
    data = (tmp_path / "m.data").read_bytes()
    (tmp_path / "m.data").write_bytes(bytes(len(data)))
    assert load_onnx(tmp_path / "m.onnx").sha256 != network.sha256
    (tmp_path / "m.data").write_bytes(data[:20])
    with pytest.raises(BadFile, match="weights cannot be read"):
        load_onnx(tmp_path / "m.onnx")
    (tmp_path / "m.data").unlink()
    with pytest.raises(BadFile, match="not there") as error:
        load_onnx(tmp_path / "m.onnx")
    assert "m.data" in error.value.what
    assert "together" in error.value.remedy


def test_a_constant_in_a_file_beside(tmp_path):
    """The tensor of a Constant node may lie there as well."""
    made = model(
        node("Constant", "", "c", value=numpy_helper.from_array(weights(3, 1, 1))), node("Add", "x c")
    )
    onnx.save(
        made,
        tmp_path / "m.onnx",
        save_as_external_data=True,
        location="m.data",
        size_threshold=0,
        convert_attribute=True,
    )
    assert kinds(load_onnx(tmp_path / "m.onnx").graph) == ["Scale"]
    (tmp_path / "m.data").unlink()
    with pytest.raises(BadFile, match="not there"):
        load_onnx(tmp_path / "m.onnx")


def test_the_standard_operators_by_their_other_name(tmp_path):
    """Some tools write the domain ai.onnx where others write nothing."""
    made = model(
        helper.make_node("Constant", [], ["c"], domain="ai.onnx", value_float=2.0), node("Mul", "x c")
    )
    plain = model(node("Constant", "", "c", value_float=2.0), node("Mul", "x c"))
    made.opset_import[0].domain = made.graph.node[1].domain = "ai.onnx"
    x = torch.randn(2, 3, 7, 6)
    same(read(made, tmp_path)(x), ReferenceEvaluator(plain).run(None, {"x": x.numpy()}))


def test_functions_of_the_file_are_inlined(tmp_path):
    """A model may define operators of its own by standard ones."""
    body = [helper.make_node("Neg", ["a"], ["b"]), helper.make_node("Relu", ["b"], ["c"])]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    own = helper.make_function("mine", "NegRelu", ["a"], ["c"], body, opsets[:1])
    made = model(helper.make_node("NegRelu", ["x"], ["y"], domain="mine"))
    made = helper.make_model(made.graph, opset_imports=opsets, functions=[own], ir_version=8)
    assert kinds(check(made, tmp_path)) == ["Scale", "Relu"]


# Refusals ------------------------------------------------------------------------------------------


def test_all_that_cannot_be_read_is_listed_at_once(tmp_path):
    """With the names that the file gives, the operators that stand behind one another too, and a remedy."""
    made = model(
        node("Relu", "x", "r"),
        node("Det", "r", "d", name="/head/Det"),
        node("Relu", "d", "e"),
        node("LSTM", "e w w", "l", name="/rnn/LSTM", hidden_size=2),
        node("Det", "x", "f", name="other"),
        node("Transpose", "x", "t", name="turn", perm=[1, 0, 2, 3]),
        node("Sum", "l f t"),
        w=weights(1, 1, 1),
    )
    with pytest.raises(UnsupportedNetwork) as error:
        read(made, tmp_path)
    for words in (
        "4 of its nodes",
        "Det: ",
        "head (/head/Det), other",
        "LSTM: there is no reader",
        "rnn (/rnn/LSTM)",
        "turn",
        "batch axis",
    ):
        assert words in error.value.what
    assert "export it again" in error.value.remedy
    assert "ConvTranspose" in error.value.remedy
    assert "model.onnx" in error.value.where


def test_what_follows_from_an_unread_node_is_no_further_problem(tmp_path):
    """Neither its readers nor the arithmetic on its shape, whose operators could have been evaluated."""
    made = model(
        node("Det", "x", "d"),
        node("Shape", "d", "s"),
        node("ConstantOfShape", "s", "z"),
        node("Add", "d z"),
    )
    with pytest.raises(UnsupportedNetwork, match="1 of its nodes"):
        read(made, tmp_path)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (node("QuantizeLinear", "x s"), "before it was quantized"),
        (node("NonZero"), "change these layers"),
    ],
)
def test_an_unknown_operator_has_a_remedy_of_its_own(tmp_path, made, words):
    """Where there is one."""
    with pytest.raises(UnsupportedNetwork) as error:
        read(model(made, s=np.float32(0.1)), tmp_path)
    assert words in error.value.remedy


REFUSED = {
    "the batch is squeezed": (node("Squeeze", "x a"), {"a": whole(0)}, "drops the batch axis"),
    "an axis before the batch": (node("Unsqueeze", "x a"), {"a": whole(0)}, "before the batch"),
    "another batch": (node("Reshape", "x s"), {"s": whole(5, 126)}, "between samples"),
    "samples become channels": (node("Reshape", "x s"), {"s": whole(3, -1)}, "between samples"),
    "everything in one row": (node("Flatten", axis=0), {}, "between samples"),
    "a sample is chosen": (node("Gather", "x i", axis=0), {"i": np.array(0)}, "chooses among the samples"),
    "samples are cut off": (
        node("Slice", "x b e a"),
        {"b": whole(1), "e": whole(9), "a": whole(0)},
        "between samples",
    ),
    "samples are joined": (node("Concat", "x x", axis=0), {}, "along the batch"),
    "mean over the batch": (node("ReduceMean", "x a"), {"a": whole(0)}, "over the batch"),
    "mean over everything": (node("ReduceMean"), {}, "over the batch"),
    "softmax over the batch": (node("Softmax", axis=0), {}, "samples of a batch"),
    "transA": (node("Gemm", "x w", transA=1), {"w": weights(3, 3)}, "transA"),
    "a weight from the sample": (node("Conv", "x x"), {}, "computed from the sample"),
    "a weight that does not fit": (node("Conv", "x w"), {"w": weights(4, 5, 3, 3)}, "do not fit"),
    "a window of other axes": (node("MaxPool", kernel_shape=[2]), {}, "has 1 axes"),
    "interpolation": (
        node("Resize", "x _ s", mode="linear", coordinate_transformation_mode="asymmetric"),
        {"s": np.float32([1, 1, 2, 2])},
        "not what torch computes",
    ),
    "rounding": (node("Cast", to=TensorProto.INT64), {}, "rounds"),
    "dropout in training": (
        node("Dropout", "x r t"),
        {"r": np.float32(0.5), "t": np.array(True)},
        "network.eval()",
    ),
    "batch norm in training": (
        node("BatchNormalization", "x w w w w", "y m v", training_mode=1),
        {"w": weights(3)},
        "network.eval()",
    ),
    "a constant for each sample": (node("Add", "x c"), {"c": weights(4, 3, 7, 6)}, "does not fit a sample"),
    "a constant that is larger": (node("Add", "x c"), {"c": weights(3, 7, 1, 1)}, "does not fit a sample"),
    "an attribute is missing": (node("Concat", "x x"), {}, "not valid"),
    "a second result": (node("Relu", "h"), {}, "'h', a result that is not computed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_mix_samples_or_does_not_fit_is_refused(tmp_path, name):
    """Each with the reason, at the node."""
    made, constants, words = REFUSED[name]
    with pytest.raises(UnsupportedNetwork) as error:
        read(model(made, **constants), tmp_path)
    assert words in error.value.what
    assert error.value.remedy


def test_a_constant_that_repeats_the_sample_is_refused(tmp_path):
    """One channel plus four numbers would be four channels."""
    made = model(node("Add", "x c"), shape=("n", 1, 7, 6), c=weights(4, 1, 1))
    with pytest.raises(UnsupportedNetwork, match="does not fit a sample"):
        read(made, tmp_path)


def test_a_constant_repeated_for_each_sample_is_refused(tmp_path):
    """As a class token is; no memory is filled to find out."""
    nodes = node("Shape", "x", "s"), node("Expand", "c s", "e"), node("Add", "x e")
    with pytest.raises(UnsupportedNetwork, match="repeats a constant for each sample"):
        read(model(*nodes, c=np.float32(1)), tmp_path)


def test_sizes_that_grow_with_the_batch_are_refused(tmp_path):
    """A map twice as many columns wide as there are samples."""
    nodes = [
        node("Shape", "x", "s", end=1),
        node("Mul", "s two", "d"),
        node("Concat", "s rest d", "t", axis=0),
        node("Resize", "x _ _ t", **RESIZE),
    ]
    with pytest.raises(UnsupportedNetwork, match="sizes grow with the batch"):
        read(model(*nodes, two=whole(2), rest=whole(3, 7)), tmp_path)


def test_an_output_that_is_constant_is_refused(tmp_path):
    """There is nothing to convert."""
    with pytest.raises(UnsupportedNetwork, match="does not depend on its input"):
        read(model(node("Identity", "c"), c=weights(3)), tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path, bad):
    """The layer is named."""
    weight = weights(4, 3, 3, 3)
    weight[0, 0, 0, 0] = bad
    with pytest.raises(BadWeights, match="first"):
        read(model(node("Conv", "x w", name="first"), w=weight), tmp_path)


@pytest.mark.parametrize(("opset", "words"), [(6, "opset_version=18"), (99, "pip install -U onnx")])
def test_opsets_too_old_or_too_new_are_refused(tmp_path, opset, words):
    """The error says which can be read."""
    with pytest.raises(UnsupportedNetwork, match="opsets 7 to") as error:
        read(model(node("Relu"), opset=opset), tmp_path)
    assert words in error.value.remedy


def test_files_that_are_no_onnx_are_refused(tmp_path):
    """Truncated, empty, of another kind, or not there: with the command that writes a good one."""
    buffer = io.BytesIO()
    onnx.save(model(node("Conv", "x w"), w=weights(4, 3, 3, 3)), buffer)
    torch.save({}, tmp_path / "weights.onnx")
    for content in (buffer.getvalue()[:-40], b"", b"hello world", (tmp_path / "weights.onnx").read_bytes()):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(BadFile) as error:
            load_onnx(tmp_path / "bad.onnx")
        assert "torch.onnx.export" in error.value.remedy
    with pytest.raises(BadFile, match="cannot read it"):
        load_onnx(tmp_path / "missing.onnx")


# As a network --------------------------------------------------------------------------------------


def test_the_pipeline_takes_it_as_it_takes_a_module(tmp_path):
    """Folding keeps the function."""
    network = read(
        model(
            node("Conv", "x w b"), node("Relu", "y", "z"), outputs="z", w=weights(4, 3, 3, 3), b=weights(4)
        ),
        tmp_path,
    )
    x = torch.randn(2, 3, 7, 6)
    graph = pipeline.prepare(network, ((3, 7, 6),), Settings())
    same(run(graph, x), [network(x)])


def test_it_follows_the_device_and_the_samples(tmp_path):
    """`.to` moves its graph; float64 samples are computed in float64."""
    network = read(model(node("Conv", "x w"), w=weights(4, 3, 3, 3)), tmp_path).to("meta")
    assert network.graph.of(Conv)[0].op.weight.device.type == "meta"
    network = read(model(node("Conv", "x w"), w=weights(4, 3, 3, 3)), tmp_path)
    assert network(torch.zeros(1, 3, 7, 6, dtype=torch.float64)).dtype == torch.float64
