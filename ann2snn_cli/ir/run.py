"""Evaluate a graph: in real numbers (FLOAT to CALIBRATED), or in sums over all steps (SPIKING).

Sums in closed form are the integer quantized network: what the SNN of delay T passes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import torch
from torch import Tensor

from ann2snn_cli.errors import BadData, Setting
from ann2snn_cli.ir.graph import Graph, Node, sweep
from ann2snn_cli.ir.neuron import straight_through
from ann2snn_cli.ir.ops import Input
from ann2snn_cli.types import Inputs, Shape


def bind_inputs(graph: Graph, x: Inputs, *, time_first: bool = False) -> dict[str, Tensor]:
    """The samples by the name of the input node they belong to: one tensor, several in order, or by name.

    Of frames the first axis counts samples, or where `time_first` says so the frames.
    """
    names = [node.name for node in graph.inputs]
    if isinstance(x, Tensor):
        x = (x,)
    given = dict(x) if isinstance(x, Mapping) else dict(zip(names, x, strict=False))
    if set(given) != set(names) or (not isinstance(x, Mapping) and len(x) != len(names)):
        there = ", ".join(map(str, given)) if isinstance(x, Mapping) else f"{len(x)} in order"
        raise BadData(
            f"the network takes the inputs {', '.join(names)}, there are samples for {there or 'none'}",
            remedy="give samples by these names, or in the order of the inputs",
        )
    for node in graph.inputs:
        shape = tuple(given[node.name].shape)
        if isinstance(node.op, Input) and node.op.has_frames:
            _refuse_other_frames(graph, node, shape, time_first=time_first)
        elif len(shape) == 0 or shape[1:] != node.shape:
            wanted = ", ".join(map(str, ("samples", *node.shape)))
            what = f"the samples of input {node.name!r} have the shape {shape}, and not [{wanted}]"
            raise BadData(what, remedy=_shape_remedy(shape, node.shape))
    return given


def _refuse_other_frames(graph: Graph, node: Node, shape: Shape, *, time_first: bool) -> None:
    """A sample of frames has one for each step."""
    steps = graph.contract.timesteps if graph.contract is not None else None
    axes = ("frames", "samples") if time_first else ("samples", "frames")
    time = axes.index("frames")
    are_frames = shape[2:] == node.shape and len(shape) > 1 and shape[time] > 0
    if are_frames and steps in (None, shape[time]):
        return
    sizes = (steps if axis == "frames" and steps is not None else axis for axis in axes)
    wanted = ", ".join(map(str, (*sizes, *node.shape)))
    remedy = f"the first axis counts {axes[0]}, the second {axes[1]}"
    if are_frames and shape[1 - time] == steps:
        remedy = f"{remedy}: give x.swapaxes(0, 1)"
    elif are_frames:
        remedy = f"convert with {Setting('timesteps', shape[time])}, or give {steps} frames of each sample"
    raise BadData(
        f"the samples of input {node.name!r} have the shape {shape}, and not [{wanted}], a frame a step",
        remedy=remedy,
    )


def _shape_remedy(shape: Shape, wanted: Shape) -> str:
    """How to make samples of what was given, where that can be seen."""
    if shape == wanted:
        return "the first axis counts samples: a single one is x[None]"
    if len(wanted) > 1 and shape[1:] == (*wanted[1:], wanted[0]):
        axes = ", ".join(map(str, (0, len(wanted), *range(1, len(wanted)))))
        return f"the channels come first: give x.transpose({axes}); of a tensor x.permute({axes})"
    if 0 < prod(wanted) in (prod(shape), prod(shape[1:])) and sorted(shape[1:]) != sorted(wanted):
        return f"if only the axes are missing: x.reshape({', '.join(map(str, (-1, *wanted)))})"
    return "give samples of the shape that the network was converted for; the first axis counts them"


def run(graph: Graph, x: Inputs, watch: Callable[[Node, Tensor], None] | None = None) -> tuple[Tensor, ...]:
    """Evaluate a graph below SPIKING in real numbers; `watch` is shown every node's value."""
    given = bind_inputs(graph, x)

    def compute(node: Node, xs: list[Tensor]) -> Tensor:
        if isinstance(node.op, Input):
            value = node.op.without_time(given[node.name])
        else:
            value = node.op.real(xs, node.shape)
        if watch is not None:
            watch(node, value)
        return value

    values = sweep(graph, compute)
    return tuple(values[name] for name in graph.outputs)


def run_counts(
    graph: Graph,
    x: Inputs,
    watch: Callable[[Node, Tensor], None] | None = None,
    fired: Mapping[str, Tensor] | None = None,
    dtypes: Mapping[str, torch.dtype] | None = None,
) -> tuple[Tensor, ...]:
    """The quantized network: one integer forward whatever T, equal to the SNN of delay T (SPEC 5).

    Needs SPIKING and reset by subtraction. Returns real values, count·unit/T; `watch` is shown every node's
    counts. Runs in the input's floating type: exact in float64 (`ir/validate.py` holds the bound), and
    differentiable for finetuning. Or each node in its own of `dtypes`, in which its sums are proved exact;
    outputs are then in float64. `fired`: counts of populations that a simulation found; they take the place
    of those in closed form, and the gradients stay those of the closed form.
    """
    given, known = bind_inputs(graph, x), fired or {}

    def compute(node: Node, xs: list[Tensor]) -> Tensor:
        if isinstance(node.op, Input):
            value = node.op.total(given[node.name], graph.timing.timesteps)
        elif dtypes is not None:
            value = node.op.sums([x.to(dtypes[node.name]) for x in xs], graph.place(node))
            value = value.round() if value.dtype == torch.float32 else value  # as in `LinearOp.train`
        else:
            value = node.op.sums(xs, graph.place(node))
        if node.op.fires and node.name in known:
            value = straight_through(value, known[node.name].to(value.dtype))
        if watch is not None:
            watch(node, value)
        return value

    sums = sweep(graph, compute)
    return decode(graph, sums if dtypes is None else {name: total.double() for name, total in sums.items()})


def decode(graph: Graph, sums: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The real outputs that sums over the T steps stand for: sum·unit/T."""

    def value(total: Tensor, unit: Tensor) -> Tensor:
        # By a tensor: a GPU multiplies by the reciprocal of a plain number, which rounds otherwise.
        return total * unit.to(total.dtype) / total.new_tensor(graph.timing.timesteps)

    return tuple(value(sums[name], graph[name].known_unit) for name in graph.outputs)
