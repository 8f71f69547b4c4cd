"""ONNX operators that are linear, pooling or bent lines are read as such: against onnx.reference."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ann2snn_cli.errors import UnsupportedNetwork
from ann2snn_cli.ir.ops import Opaque
from ann2snn_cli.ir.run import run
from ann2snn_cli.stages.trace import load_onnx

MAP = (3, 6, 6)
CONSTANTS = {
    "zero": np.float32(0),
    "tenth": np.float32(0.1),
    "low": np.float32(-0.3),
    "high": np.float32(0.5),
    "slopes": np.float32([0.1, 0.5, -0.3]).reshape(3, 1, 1),
    "matrix": np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6),
    "borders": np.array([0, 0, 1, 1, 0, 0, 0, 1]),
    "space": np.array([2, 3]),
    "channels": np.array([1]),
    "all": np.array([1, 2, 3]),
    "twice": np.float32([1, 1, 2, 2]),
    "sizes": np.array([1, 3, 9, 5]),
    "tiles": np.array([1, 1, 2, 1]),
}


def node(kind, inputs="x", outputs="y", **attributes):
    """A node; names of values in one string, "_" for one that is left out."""
    names = ["" if each == "_" else each for each in inputs.split()]
    return helper.make_node(kind, names, outputs.split(), **attributes)


FORMS = {  # each reads x and gives y
    "LeakyRelu": [node("LeakyRelu", alpha=0.2)],
    "PRelu": [node("PRelu", "x slopes")],
    "Abs": [node("Abs")],
    "Clip": [node("Clip", "x low high")],
    "Clip from above": [node("Clip", "x _ high")],
    "Sub of two": [node("Neg", "x", "n"), node("Sub", "x n")],
    "Sub and Add that spread": [
        node("ReduceMean", "x space", "m"), node("Sub", "x m", "d"), node("Add", "m d"),
    ],
    "Max of two": [node("Mul", "x tenth", "t"), node("Max", "x t")],
    "Max of three": [node("Mul", "x tenth", "t"), node("Max", "x t tenth")],
    "Max with a constant": [node("Max", "zero x")],
    "Min of two": [node("Mul", "x low", "t"), node("Min", "x t")],
    "ReduceMax over space": [node("ReduceMax", "x space", keepdims=0)],
    "ReduceMax over all": [node("ReduceMax", "x all")],
    "ReduceMin over channels": [node("ReduceMin", "x channels")],
    "ReduceMean over channels": [node("ReduceMean", "x channels")],
    "ReduceSum": [node("ReduceSum", "x space", keepdims=0)],
    "Pad with a constant": [node("Pad", "x borders tenth")],
    "Pad by reflection": [node("Pad", "x borders", mode="reflect")],
    "Pad by the edge": [node("Pad", "x borders", mode="edge")],
    "Where(x > 0, x, 0)": [node("Greater", "x zero", "c"), node("Where", "c x zero")],
    "Where(0 >= x, 0.1x, x)": [
        node("GreaterOrEqual", "zero x", "c"), node("Mul", "x tenth", "t"), node("Where", "c t x"),
    ],
    "x times its sign": [node("Less", "zero x", "c"), node("Cast", "c", "f", to=TensorProto.FLOAT),
                         node("Mul", "x f")],
    "AveragePool, ceil_mode": [node("AveragePool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)],
    "Resize, linear": [
        node("Resize", "x _ twice", mode="linear", coordinate_transformation_mode="half_pixel"),
    ],
    "Resize, linear, by sizes": [
        node("Resize", "x _ _ sizes", mode="linear", coordinate_transformation_mode="align_corners"),
    ],
    "Tile": [node("Tile", "x tiles")],
    "Concat along rows": [node("Neg", "x", "n"), node("Concat", "x n", axis=2)],
    "MatMul from the left": [node("MatMul", "matrix x")],
}  # fmt: skip

OTHERS = {
    "Where(x > 0.1, x, 0)": [node("Greater", "x tenth", "c"), node("Where", "c x zero")],
    "And, Or, Not": [
        node("Greater", "x tenth", "a"), node("Less", "x low", "b"), node("Or", "a b", "c"),
        node("Not", "c", "d"), node("And", "d d", "e"), node("Cast", "e", to=TensorProto.FLOAT),
    ],
}  # fmt: skip


def read(nodes, folder):
    """(the model, the graph that was read)."""
    used = {name for each in nodes for name in each.input}
    graph = helper.make_graph(
        nodes,
        "form",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", *MAP))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in CONSTANTS.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, folder / "form.onnx")
    return model, load_onnx(folder / "form.onnx").graph


def assert_same(model, graph):
    """The graph computes what the reference does, in float32 and in float64."""
    x = torch.randn(1, *MAP, generator=torch.Generator().manual_seed(1))
    (wanted,) = ReferenceEvaluator(model).run(None, {"x": x.numpy()})
    for given in (x, x.double()):
        torch.testing.assert_close(run(graph, given)[0].float(), torch.tensor(wanted), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_read(name, tmp_path):
    """Not opaque, by the rule that its torch operator has."""
    model, graph = read(FORMS[name], tmp_path)

    assert not graph.of(Opaque)
    assert_same(model, graph)


@pytest.mark.parametrize("name", ["Where(x > 0, x, 0)", "x times its sign", "Max with a constant"])
def test_a_rectifier_in_other_words(name, tmp_path):
    """One population, and nothing is left of the comparison."""
    _, graph = read(FORMS[name], tmp_path)

    assert [each.op.kind for each in graph.nodes] == ["Input", "Relu"]


@pytest.mark.parametrize("name", OTHERS)
def test_conditions_stay_true_and_false(name, tmp_path):
    """What is no rectifier is opaque, and runs."""
    model, graph = read(OTHERS[name], tmp_path)

    assert graph.of(Opaque)
    assert_same(model, graph)


def test_a_resize_that_torch_does_not_compute_is_refused(tmp_path):
    """With the mode, at the node."""
    resize = node("Resize", "x _ twice", mode="linear", coordinate_transformation_mode="asymmetric")

    with pytest.raises(UnsupportedNetwork, match="asymmetric"):
        read([resize], tmp_path)
