"""Evaluate a graph: in real numbers (FLOAT to CALIBRATED), or in spike counts (SPIKING).

Counts in closed form are the integer quantized network.

`linear` and `real` are also what the engines and the stages compute a node with: one home for each equation.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ann2snn_cli.errors import InvalidGraph
from ann2snn_cli.ir import neuron
from ann2snn_cli.ir.graph import Graph, Node, sweep
from ann2snn_cli.ir.ops import (
    Add,
    AvgPool,
    Batch,
    BatchNorm,
    Concat,
    Conv,
    Gather,
    Input,
    Integrate,
    IntegrateFire,
    Linear,
    MaxPool,
    Op,
    Opaque,
    Permute,
    Ref,
    Relu,
    Reshape,
    Scale,
)

Inputs = Tensor | Sequence[Tensor] | Mapping[str, Tensor]

_CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}
_AVG_POOL: dict[int, Callable[..., Tensor]] = {2: F.avg_pool2d, 3: F.avg_pool3d}


def bind_inputs(graph: Graph, x: Inputs) -> dict[str, Tensor]:
    """The samples by the name of the input node they belong to: one tensor, several in order, or by name."""
    names = [node.name for node in graph.inputs]
    if isinstance(x, Tensor):
        x = (x,)
    given = dict(x) if isinstance(x, Mapping) else dict(zip(names, x, strict=False))
    if set(given) != set(names) or (not isinstance(x, Mapping) and len(x) != len(names)):
        raise InvalidGraph(f"the network takes the inputs {names}, it was given {len(x)}: {sorted(given)}")
    for node in graph.inputs:
        if tuple(given[node.name].shape[1:]) != node.shape:
            raise InvalidGraph(
                f"input {node.name!r} takes samples of shape {node.shape}, "
                f"not {tuple(given[node.name].shape[1:])}"
            )
    return given


# Linear ops and moves: the same in real numbers and in integers -------------------------------------


def _conv(node: Node, op: Conv, xs: list[Tensor]) -> Tensor:
    (x,) = xs
    rank = len(op.kernel)
    weight, bias = _like(op.weight, x), _like(op.bias, x)
    if op.transposed:
        return _CONV_TRANSPOSED[rank](
            x, weight, bias, op.stride, op.padding, op.output_padding, op.groups, op.dilation
        )
    return _CONV[rank](x, weight, bias, op.stride, op.padding, op.dilation, op.groups)


def _linear(node: Node, op: Linear, xs: list[Tensor]) -> Tensor:
    return F.linear(xs[0], _like(op.weight, xs[0]), _like(op.bias, xs[0]))


def _scale(node: Node, op: Scale, xs: list[Tensor]) -> Tensor:
    y: Tensor = xs[0] * _like(op.weight, xs[0])
    return y if op.bias is None else y + _like(op.bias, xs[0])


def _add(node: Node, op: Add, xs: list[Tensor]) -> Tensor:
    if op.weights is not None:
        xs = [_like(weight, x) * x for weight, x in zip(op.weights, xs, strict=True)]
    return reduce(operator.add, xs)


def _concat(node: Node, op: Concat, xs: list[Tensor]) -> Tensor:
    return torch.cat(xs, dim=1)


def _sum_pool(node: Node, op: AvgPool, xs: list[Tensor]) -> Tensor:
    (x,) = xs
    if len(op.kernel) == 1:  # torch's 1d pooling cannot leave the division out
        kernel, stride, padding = (1, *op.kernel), (1, *op.stride), (0, *op.padding)
        return F.avg_pool2d(x.unsqueeze(2), kernel, stride, padding, divisor_override=1).squeeze(2)
    return _AVG_POOL[len(op.kernel)](x, op.kernel, op.stride, op.padding, divisor_override=1)


def _reshape(node: Node, op: Reshape, xs: list[Tensor]) -> Tensor:
    return xs[0].reshape(xs[0].shape[0], *node.shape)


def _permute(node: Node, op: Permute, xs: list[Tensor]) -> Tensor:
    return xs[0].permute(0, *(axis + 1 for axis in op.order))


def _gather(node: Node, op: Gather, xs: list[Tensor]) -> Tensor:
    padded = F.pad(xs[0].flatten(1), (0, 1))  # index -1 reads this last zero
    return padded[:, op.index.flatten()].reshape(-1, *node.shape)


_LINEAR: dict[type[Op], Callable[[Node, Any, list[Tensor]], Tensor]] = {
    Conv: _conv,
    Linear: _linear,
    Scale: _scale,
    Add: _add,
    AvgPool: _sum_pool,
    Concat: _concat,
    Reshape: _reshape,
    Permute: _permute,
    Gather: _gather,
}


def is_linear(op: Op) -> bool:
    """Does this op map sums to sums? (Then it may be applied at every step or once to the counts.)"""
    return type(op) in _LINEAR


def linear(node: Node, xs: list[Tensor]) -> Tensor:
    """A linear op or a move, in the units of SPIKING: average pooling is a sum."""
    return _LINEAR[type(node.op)](node, node.op, xs)


def _like(parameter: Any, x: Tensor) -> Any:
    return None if parameter is None else parameter.to(x.dtype)


# Real numbers --------------------------------------------------------------------------------------


def _avg_pool(node: Node, op: AvgPool, xs: list[Tensor]) -> Tensor:
    return _sum_pool(node, op, xs) / op.area


def _batch_norm(node: Node, op: BatchNorm, xs: list[Tensor]) -> Tensor:
    (x,) = xs
    return F.batch_norm(
        x, _like(op.mean, x), _like(op.var, x), _like(op.weight, x), _like(op.bias, x), eps=op.eps
    )


def _relu(node: Node, op: Relu, xs: list[Tensor]) -> Tensor:
    x = xs[0] if op.bias is None else xs[0] + _like(op.bias, xs[0])
    return torch.clamp(x, 0, op.limit) if op.limit is not None else torch.relu(x)


def _integrate(node: Node, op: Integrate, xs: list[Tensor]) -> Tensor:
    return xs[0] if op.bias is None else xs[0] + _like(op.bias, xs[0])


def pool_geometry(op: MaxPool) -> dict[str, object]:
    """The keywords of torch's max pooling."""
    return {"stride": op.stride, "padding": op.padding, "dilation": op.dilation, "ceil_mode": op.ceil_mode}


def max_pool(node: Node, op: MaxPool, xs: list[Tensor]) -> Tensor:
    """The maximum of each window: of real numbers, or of counts."""
    return neuron.max_pool(xs[0], op.kernel, **pool_geometry(op))


def opaque(node: Node, op: Opaque, xs: list[Tensor]) -> Tensor:
    """Any other torch operator on real numbers."""
    batch = xs[-1].shape[0]  # where a `Batch` occurs, the last input is the sample

    def resolve(value: Any) -> Any:
        if isinstance(value, Ref):
            return xs[value.input]
        if isinstance(value, Batch):
            return value.factor * batch + value.offset
        if isinstance(value, tuple):
            return [resolve(item) for item in value]
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.to(xs[0].dtype)
        return value

    namespace, name, overload = op.target.split(".")
    target = getattr(getattr(getattr(torch.ops, namespace), name), overload)
    result = target(*(resolve(arg) for arg in op.args), **{key: resolve(arg) for key, arg in op.kwargs})
    value: Tensor = result if op.output is None else result[op.output]
    return value


_REAL: dict[type[Op], Callable[[Node, Any, list[Tensor]], Tensor]] = {
    **_LINEAR,
    AvgPool: _avg_pool,
    BatchNorm: _batch_norm,
    Relu: _relu,
    Integrate: _integrate,
    MaxPool: max_pool,
    Opaque: opaque,
}


def real(node: Node, xs: list[Tensor]) -> Tensor:
    """Any op below SPIKING, in real numbers."""
    return _REAL[type(node.op)](node, node.op, xs)


def run(graph: Graph, x: Inputs, watch: Callable[[Node, Tensor], None] | None = None) -> tuple[Tensor, ...]:
    """Evaluate a graph below SPIKING in real numbers; `watch` is shown every node's value."""
    given = bind_inputs(graph, x)

    def compute(node: Node, xs: list[Tensor]) -> Tensor:
        value = given[node.name] if isinstance(node.op, Input) else real(node, xs)
        if watch is not None:
            watch(node, value)
        return value

    values = sweep(graph, compute)
    return tuple(values[name] for name in graph.outputs)


# Spike counts: the integer quantized network --------------------------------------------------------


def encode(op: Input, x: Tensor) -> Tensor:
    """The integers that the chip is given at every step: clamp(round(x / unit), low, high)."""
    assert op.unit is not None
    return torch.clamp(torch.round(x / op.unit), op.low, op.high)


def charge(op: IntegrateFire, drive: Tensor, timesteps: int) -> Tensor:
    """All that a neuron receives: V0 + 2^fraction_bits·U + T·B."""
    drive = drive * 2**op.fraction_bits if op.fraction_bits else drive
    return drive + (op.initial + timesteps * op.bias).to(drive.dtype)


def total(op: Integrate, drive: Tensor, timesteps: int) -> Tensor:
    """What neurons that never fire pass on over all steps."""
    if op.bias is not None:
        drive = drive + (timesteps * op.bias).to(drive.dtype)
    return drive if op.initial is None else drive + op.initial.to(drive.dtype)


def means(graph: Graph, node: Node, xs: list[Tensor], steps: int) -> list[Tensor]:
    """The real values that sums over so many steps stand for."""
    return [x * feeder.worth.to(x.dtype) / steps for feeder, x in zip(graph.fed_by(node), xs, strict=True)]


def count_node(graph: Graph, node: Node, xs: list[Tensor]) -> Tensor:
    """What a node of a SPIKING graph passes on over all T steps at D = T, in closed form."""
    op, steps = node.op, graph.timing.timesteps
    if isinstance(op, IntegrateFire):
        return neuron.count(charge(op, xs[0], steps), op.threshold.to(xs[0].dtype), steps)
    if isinstance(op, Integrate):
        return total(op, xs[0], steps)
    if isinstance(op, MaxPool):
        return max_pool(node, op, xs)
    if isinstance(op, Opaque):
        return opaque(node, op, means(graph, node, xs, steps)) * steps
    return linear(node, xs)


def run_counts(
    graph: Graph, x: Inputs, watch: Callable[[Node, Tensor], None] | None = None
) -> tuple[Tensor, ...]:
    """The quantized network: one integer forward whatever T, equal to the SNN of delay T (SPEC 5).

    Needs SPIKING and reset by subtraction. Returns real values, count·unit/T; `watch` is shown every node's
    counts. Runs in the input's floating type: exact in float64 (`ir/verify.py` holds the bound), and
    differentiable for finetuning.
    """
    given = bind_inputs(graph, x)

    def compute(node: Node, xs: list[Tensor]) -> Tensor:
        if isinstance(node.op, Input):
            value = encode(node.op, given[node.name]) * graph.timing.timesteps
        else:
            value = count_node(graph, node, xs)
        if watch is not None:
            watch(node, value)
        return value

    values = sweep(graph, compute)
    return decode(graph, values)


def decode(graph: Graph, sums: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The real outputs that sums over the T steps stand for: sum·unit/T."""

    def value(total: Tensor, unit: Tensor) -> Tensor:
        # By a tensor: a GPU multiplies by the reciprocal of a plain number, which rounds otherwise.
        return total * unit.to(total.dtype) / total.new_tensor(graph.timing.timesteps)

    return tuple(value(sums[name], graph[name].worth) for name in graph.outputs)
