"""The walk over the exported calls: what each becomes, and all that is refused, at once."""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node as FxNode

from ann2snn_cli.errors import UnsupportedNetwork
from ann2snn_cli.ir import allowed
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.ir.ops import BatchSize, Gather, Input, Integrate, Op
from ann2snn_cli.ir.rules import Added, Call, Rule, Value, leaves
from ann2snn_cli.stages.trace.built_in import BUILT_IN
from ann2snn_cli.stages.trace.calls import batch_size, module_of, result_of, target_of
from ann2snn_cli.stages.trace.common import CONSTANT, reads_numbers
from ann2snn_cli.stages.trace.draft import Draft
from ann2snn_cli.stages.trace.forms import widened
from ann2snn_cli.stages.trace.opaque import opaque
from ann2snn_cli.stages.trace.program import Program, results_of

_FILLS = [f"aten.{fill}_like.default" for fill in ("zeros", "ones", "full")]
_FILLS += [f"aten.new_{fill}.default" for fill in ("zeros", "ones", "full")]
_SIZES = ("operator", "_operator", "math", "builtins", "torch")  # homes of functions that compute sizes only

_CONSTANT_REMEDY = "compute it once, in __init__, and keep it with register_buffer()"
_BY_VALUES_REMEDY = (
    "keep it a tensor (x.max() instead of x.max().item()), and every shape the same for all samples "
    "(torch.where(mask, x, 0) instead of x[mask])"
)
_MIXED_REMEDY = "compute over the axes of each sample: x.mean(1) instead of x.mean(0) or x.mean()"
_FIRST_REMEDY = (
    "the first axis of each output counts samples: return y.transpose(0, 1) instead of y where they are the "
    "second axis (batch_first=False), and no state of a recurrent layer"
)


@dataclass
class Reader:
    """Walks the exported calls and collects our nodes in the draft."""

    program: Program
    rules: Mapping[str, Rule] = field(default_factory=lambda: BUILT_IN)
    draft: Draft = field(default_factory=Draft)
    used: Counter[str] = field(default_factory=Counter)  # targets whose rule had something to say
    refused: list[UnsupportedNetwork] = field(default_factory=list)
    mixed: dict[str, FxNode] = field(default_factory=dict)  # by node, the call that gives one value for all

    def graph(self) -> Graph:
        """Read every call; gives the graph, or one error with all that cannot be read."""
        for call in self.program.graph.nodes:
            if call.op == "placeholder":
                self._placeholder(call)
            elif call.op == "output":
                self._outputs()
            elif call.op == "get_attr":
                self.draft.constants[call] = attribute_of(self.program, str(call.target))
            elif call.users:  # what nobody reads is a check on sizes or types, which the export has made
                self._refuse_by_values(call)
                self._read(call)
        self._refuse()
        graph = self.draft.graph()
        self._refuse_mixed(graph)
        return graph

    def _read(self, call: FxNode) -> None:
        try:
            if call.target is operator.getitem:
                self._item(call)
            elif all(source in self.draft.constants for source in call.all_input_nodes):
                self._constant(call)
            elif target_of(call) in _FILLS:
                self._filled(call)
            elif isinstance(call.meta.get("val"), Tensor):
                self._value(call, call)
            elif isinstance(call.meta.get("val"), int | torch.SymInt):
                self.draft.constants[call] = batch_size(call.meta["val"])
            # else a tuple of tensors: read where an item of it is taken
        except UnsupportedNetwork as refused:
            self.refused.append(_located(refused, call))
            self._stand_in(call)  # to go on, and find what else is refused

    def _refuse_by_values(self, call: FxNode) -> None:
        """Raise at once for a number, or a shape, that values decide: what reads it cannot be looked at."""
        # Here, as sympy comes with it, which a command that reads no network needs not wait for.
        from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

        is_constant = all(source in self.draft.constants for source in call.all_input_nodes)
        val = call.meta.get("val")
        if is_constant or val is None or not free_unbacked_symbols(val):
            return
        what = f"{target_of(call)} gives a number or a shape that depends on the values of the samples"
        self.refused.append(_located(UnsupportedNetwork(what, remedy=_BY_VALUES_REMEDY), call))
        self._refuse()

    def _stand_in(self, call: FxNode) -> None:
        """Give a refused call a value of its own shape; the graph is not going to be used."""
        if isinstance(call.meta.get("val"), Tensor):
            self.draft.values[call] = result_of(call)
            self.draft.names[self.draft.values[call]] = self.draft.names[self.draft.first_input()]

    def _placeholder(self, call: FxNode) -> None:
        name = self._kept.get(call.name)
        if name is None:
            self._node(call, result_of(call), Input(), (), call.name, call.name)
        else:
            self.draft.constants[call] = state_of(self.program, name)

    @cached_property
    def _kept(self) -> dict[str, str]:
        """By name of an input of the export: the parameter, buffer or constant that it is."""
        signature = self.program.graph_signature  # each table of it is made anew whenever it is asked for
        return {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }

    def _outputs(self) -> None:
        for result in results_of(self.program):
            if isinstance(result, FxNode) and result in self.draft.values:
                self._refuse_other_order(result)
                self.draft.outputs.append(self.draft.names[self.draft.values[result]])
        if not self.draft.outputs and not self.refused:
            raise UnsupportedNetwork(
                "the network's output does not depend on its input", remedy="return what the layers computed"
            )

    def _refuse_mixed(self, graph: Graph) -> None:
        """Raise where an output depends on a value that has no axis of the batch: one for all samples."""
        calls = [self.mixed[node.name] for node in graph.nodes if node.name in self.mixed]
        mixed = UnsupportedNetwork("it moves values between samples", remedy=_MIXED_REMEDY)
        self.refused += [_located(mixed, call) for call in calls]
        self._refuse()

    def _refuse_other_order(self, result: FxNode) -> None:
        """Refuse an output that is not one of each sample: simulation runs samples in portions."""
        if isinstance(result.meta.get("val"), Tensor) and not result_of(result).keeps_batch:
            refused = UnsupportedNetwork(
                "the network returns a value whose first axis is not that of the samples",
                remedy=_FIRST_REMEDY,
            )
            self.refused.append(_located(refused, result))

    def _constant(self, call: FxNode) -> None:
        args, kwargs = (self.draft.argument(each) for each in (call.args, tuple(call.kwargs.items())))
        if not any(isinstance(value, BatchSize) for value in leaves((args, kwargs))):
            with torch.no_grad():
                self.draft.constants[call] = _runnable(call)(*args, **dict(kwargs))
        elif not isinstance(call.meta.get("val"), Tensor):
            self.draft.constants[call] = batch_size(call.meta.get("val"))
        elif (constant := _of_each_sample(call, args, dict(kwargs))) is not None:
            self._repeated(call, constant)
        else:
            self._value(call, call)

    def _filled(self, call: FxNode) -> None:
        """Read `zeros_like` and the like: they take the shape of a value, and nothing else of it."""
        args = tuple(_dummy(value) for value in self.draft.argument(call.args))
        kwargs = {key: self.draft.argument(value) for key, value in call.kwargs.items()}
        if all(isinstance(size, int) for size in call.meta["val"].shape):
            with torch.no_grad():
                self.draft.constants[call] = _runnable(call)(*args, **kwargs)
        elif result_of(call).keeps_batch and (constant := _of_each_sample(call, args, kwargs)) is not None:
            self._repeated(call, constant)
        else:
            self._value(call, call)

    def _repeated(self, call: FxNode, constant: Tensor) -> None:
        """Add a constant that every sample has (a class token): zeros, and the constant as their bias."""
        first = next(iter(self.draft.names))
        zeros = Gather(torch.full(tuple(constant.shape), -1))
        value = result_of(call)
        described = Call(target_of(call), {CONSTANT: constant}, value)
        nothing = described.add(zeros, first)
        self._add(call, call, Added(Integrate(constant), (nothing,), value), described)

    def _item(self, call: FxNode) -> None:
        source, index = call.args
        assert isinstance(source, FxNode)
        assert isinstance(index, int)
        if source in self.draft.constants:
            self.draft.constants[call] = self.draft.constants[source][index]
        else:
            self._value(source, call, index)

    # our nodes

    def _value(self, call: FxNode, result: FxNode, output: int | None = None) -> None:
        """Add the nodes that a call becomes; `result` is the call, or takes an item of what it gives."""
        rule = self.rules.get(target_of(call))
        described = self.draft.call(call, result, output)
        outcome = rule(described) if rule is not None and described.inputs else None
        built_in = rule is BUILT_IN.get(target_of(call))
        if outcome is None or (built_in and not reads_numbers(described, outcome)):
            op, inputs = opaque(self.draft, call, output)
            described.added.clear()
            self._add(call, result, Added(op, inputs, described.result), described)
            if all(isinstance(size, int) for size in result.meta["val"].shape):
                self.mixed[self.draft.names[described.result]] = call
            return
        self.used[target_of(call)] += 1
        if isinstance(outcome, Op):
            self._add(call, result, Added(outcome, described.inputs, described.result), described)
        else:
            self._compose(call, result, outcome, described)

    def _compose(self, call: FxNode, result: FxNode, outcome: Value, described: Call) -> None:
        """Add the nodes of a composition, or hand on the call's own input."""
        last = next((each for each in described.added if each.value is outcome), None)
        if last is None:
            self.draft.values[result] = outcome
            return
        described.added.remove(last)
        self._add(call, result, last, described)

    def _add(self, call: FxNode, result: FxNode, last: Added, described: Call) -> None:
        """Add a call's nodes; the last of them carries the name of the call."""
        place = module_of(result)
        # The exporter's name of the call; of one of several pieces (`chunk`) that of the piece.
        own = result if isinstance(last.op, Gather) else call
        name = place.leaf or ".".join(filter(None, (place.path, re.sub(r"_\d+$", "", own.name))))
        for each in described.added:
            self._node(None, each.value, each.op, each.inputs, f"{name}.{each.op.kind.lower()}", place.label)
        self._node(result, last.value, last.op, last.inputs, name, place.label)
        self.draft.makers[last.value] = described

    def _node(
        self, call: FxNode | None, value: Value, op: Op, inputs: tuple[Value, ...], name: str, source: str
    ) -> None:
        names = tuple(self.draft.names[each] for each in inputs)
        self.draft.names[value] = self.draft.add(op, names, value.shape, name, source)
        if call is not None:
            self.draft.values[call] = value

    def _refuse(self) -> None:
        """Raise what was refused: one error for all."""
        if not self.refused:
            return
        lines = list(dict.fromkeys(f"{each.where}: {each.what}" for each in self.refused))
        if len(lines) == 1:
            raise self.refused[0]
        raise UnsupportedNetwork(
            "\n  ".join([f"{len(lines)} calls of the network cannot be converted", *lines]),
            where=", ".join(dict.fromkeys(each.where for each in self.refused)),
            remedy="; ".join(dict.fromkeys(each.remedy for each in self.refused)),
        )


def _runnable(call: FxNode) -> Callable[..., Any]:
    """The function that a call runs, if it may be run: an allowed operator, or arithmetic of sizes."""
    target = call.target
    assert callable(target)
    of_sizes = getattr(target, "__module__", "") in _SIZES and not isinstance(call.meta.get("val"), Tensor)
    if not of_sizes and (why := allowed.refusal(target_of(call))):
        raise UnsupportedNetwork(f"{target_of(call)} is not run: {why}", remedy=_CONSTANT_REMEDY)
    return target


def _of_each_sample(call: FxNode, args: Any, kwargs: Mapping[str, Any]) -> Tensor | None:
    """The constant that a call repeats for each sample of the batch; None if it is something else."""
    function = _runnable(call)
    with torch.no_grad():
        values = function(*_for_batch(args, 2), **{key: _for_batch(arg, 2) for key, arg in kwargs.items()})
    if not (isinstance(values, Tensor) and values.is_floating_point() and values.dim() > 1):
        return None
    return values[0].clone() if len(values) == 2 and torch.equal(values[0], values[1]) else None


def _dummy(value: Any) -> Any:
    """Zeros in the place of a value, of two samples."""
    if not isinstance(value, Value):
        return value
    return torch.zeros((2,) * value.keeps_batch + value.shape, dtype=value.dtype)


def _for_batch(value: Any, batch: int) -> Any:
    """The value with every size that follows the batch filled in."""
    if isinstance(value, BatchSize):
        return value.factor * batch + value.offset
    return [_for_batch(item, batch) for item in value] if isinstance(value, tuple) else value


def _located(refused: UnsupportedNetwork, call: FxNode) -> UnsupportedNetwork:
    return UnsupportedNetwork(
        refused.what, where=refused.where or module_of(call).label or call.name, remedy=refused.remedy
    )


def state_of(program: Program, name: str) -> Tensor:
    """Give a parameter or buffer."""
    state: Tensor = program.state_dict[name] if name in program.state_dict else program.constants[name]
    return widened(state.detach())  # type: ignore[no-any-return]


def attribute_of(program: Program, target: str) -> Any:
    """Give what a `get_attr` call gets."""
    value: Any = program.graph_module
    for part in target.split("."):
        value = getattr(value, part)
    return widened(value)
