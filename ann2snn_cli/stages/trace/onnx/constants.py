"""Evaluating nodes whose inputs are known, by the reference implementation that comes with onnx."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np
from onnx import ModelProto, NodeProto, ValueInfoProto, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from ann2snn_cli.stages.trace.onnx.draft import Refused
from ann2snn_cli.stages.trace.onnx.file import Array, first_line

IR_VERSION = 8

# A length that follows the batch is computed with this number in the batch's place. It is a prime larger
# than any axis, so a multiple of it can have come from nothing else.
ANY_BATCH = 1_000_003

MOST_FOLDED = 2**23  # numbers of a constant that is computed, unless it is computed from as many
MOST_SIZES = 64  # numbers that may be the sizes of a result

_RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}
_FILLS = {"ConstantOfShape", "EyeLike", "Expand", "OneHot", "Range", "Tile"}


def is_constant(node: NodeProto, constants: Mapping[str, Array]) -> bool:
    """Can the node be evaluated now, and always with the same result?"""
    stands_alone = not any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
    known = all(name in constants for name in node.input if name)
    return known and stands_alone and node.op_type not in _RANDOM


def fold(node: NodeProto, constants: Mapping[str, Array], opset: int) -> list[Array]:
    """The results of a node, all of whose inputs are known."""
    inputs = {name: constants[name] for name in node.input if name}
    if node.op_type in _FILLS and any(_follows_batch(array) for array in inputs.values()):
        raise Refused("it repeats a constant for each sample of the batch")
    _refuse_large(node, inputs, opset)
    return evaluate(node, inputs, opset)


def _refuse_large(node: NodeProto, inputs: Mapping[str, Array], opset: int) -> None:
    """Refuse a node whose result would be far larger than what it is computed from, before it is computed."""
    small = {
        name: array
        for name, array in inputs.items()
        if array.size <= MOST_SIZES and array.dtype.kind in "iuf"
    }
    graph = helper.make_graph(
        [node],
        "one",
        [_typed(name, array) for name, array in inputs.items() if name not in small],
        [helper.make_empty_tensor_value_info(name) for name in node.output if name],
        [numpy_helper.from_array(array, name) for name, array in small.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid(node.domain, opset)], ir_version=IR_VERSION
    )
    try:
        inferred = shape_inference.infer_shapes(model).graph.output
    except Exception:  # its own errors, for what evaluating it then refuses in words
        return
    most = max(MOST_FOLDED, sum(array.size for array in inputs.values()))
    for output in inferred:
        shape = [each.dim_value for each in output.type.tensor_type.shape.dim]
        if prod(shape) > most:
            raise Refused(f"it makes a constant of {'x'.join(map(str, shape))} numbers")


def _typed(name: str, array: Array) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


def evaluate(node: NodeProto, inputs: Mapping[str, Array], opset: int) -> list[Array]:
    """The results of a node for these inputs, by name."""
    model = ModelProto(ir_version=IR_VERSION)
    model.opset_import.add(domain=node.domain, version=opset)
    model.graph.node.append(node)
    for name in inputs:
        model.graph.input.add(name=name)
    for name in filter(None, node.output):
        model.graph.output.add(name=name)
    try:
        with np.errstate(all="ignore"):
            results = list(ReferenceEvaluator(model).run(None, dict(inputs)))
    except Exception as error:  # each operator of the reference raises its own
        raise Refused(f"its value cannot be computed: {first_line(error)}") from error
    return [np.asarray(result) for result in results]


def grows_with_batch(array: Array) -> bool:
    """Is one of these numbers a multiple of the batch's length, and not that itself?"""
    if array.dtype.kind not in "iu":
        return False
    return bool(((array % ANY_BATCH == 0) & (array != 0) & (array != ANY_BATCH)).any())


def _follows_batch(array: Array) -> bool:
    return array.dtype.kind in "iu" and bool((np.abs(array) >= ANY_BATCH).any())
