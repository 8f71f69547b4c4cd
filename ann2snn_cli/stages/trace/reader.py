"""The walk over the exported calls: what each kind of call becomes."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node as FxNode

from ann2snn_cli.errors import UnsupportedNetwork
from ann2snn_cli.ir.ops import Batch, Gather, Input, Op, Opaque
from ann2snn_cli.stages.trace import layers, moves, sums
from ann2snn_cli.stages.trace.calls import batch_size, leaves, module_of, operator_of, shape_of, target_of
from ann2snn_cli.stages.trace.draft import Draft, Reading
from ann2snn_cli.stages.trace.opaque import opaque
from ann2snn_cli.stages.trace.program import Program

# One reader for each ATen call we have an op for; the others stay opaque.
_READERS: dict[str, Callable[[Draft, FxNode], Reading]] = {**layers.READERS, **sums.READERS, **moves.READERS}

# Calls that give a tuple, of which the network takes items.
_ITEM_READERS: dict[str, Callable[[Draft, FxNode, int], Reading]] = {
    **layers.ITEM_READERS,
    **moves.ITEM_READERS,
}


@dataclass
class Reader:
    """Walks the exported calls and collects our nodes in the draft."""

    program: Program
    draft: Draft = field(default_factory=Draft)

    def read(self, call: FxNode) -> None:
        """Read one call of the exported program."""
        if call.op == "placeholder":
            self._placeholder(call)
        elif call.op == "output":
            self._outputs(call)
        elif call.op == "get_attr":
            self.draft.constants[call] = attribute_of(self.program, str(call.target))
        elif call.target is operator.getitem:
            self._item(call)
        elif all(source in self.draft.constants for source in call.all_input_nodes):
            self._constant(call)
        elif not isinstance(call.meta.get("val"), Tensor):
            self._shape_or_tuple(call)
        else:
            self._emit(call, *_READERS.get(target_of(call), opaque)(self.draft, call))

    def _placeholder(self, call: FxNode) -> None:
        signature = self.program.graph_signature
        for table in (signature.inputs_to_parameters, signature.inputs_to_buffers):
            if call.name in table:
                self.draft.constants[call] = state_of(self.program, table[call.name])
                return
        if call.name in signature.inputs_to_lifted_tensor_constants:
            self.draft.constants[call] = self.program.constants[
                signature.inputs_to_lifted_tensor_constants[call.name]
            ]
            return
        self.draft.names[call] = self.draft.add(Input(), (), shape_of(call), call.name, call.name)

    def _outputs(self, call: FxNode) -> None:
        (results,) = call.args
        for result in results if isinstance(results, list | tuple) else (results,):
            if isinstance(result, FxNode) and result in self.draft.names:
                self.draft.outputs.append(self.draft.names[result])
        if not self.draft.outputs:
            raise UnsupportedNetwork(
                "the network's output does not depend on its input", remedy="return what the layers computed"
            )

    def _constant(self, call: FxNode) -> None:
        target = operator_of(call)
        with torch.no_grad():
            args = torch.fx.node.map_arg(call.args, lambda source: self.draft.constants[source])
            kwargs = torch.fx.node.map_arg(call.kwargs, lambda source: self.draft.constants[source])
            if any(isinstance(value, Batch) for value in leaves((args, kwargs))):
                self._batch_sized(call)
            else:
                self.draft.constants[call] = target(*args, **kwargs)

    def _batch_sized(self, call: FxNode) -> None:
        """A size computed from the batch, or a constant repeated for each sample of it."""
        result = call.meta.get("val")
        if isinstance(result, Tensor):
            self._emit(call, *opaque(self.draft, call))
        else:
            self.draft.constants[call] = batch_size(result)

    def _shape_or_tuple(self, call: FxNode) -> None:
        result = call.meta.get("val")
        if isinstance(result, int | torch.SymInt):
            self.draft.constants[call] = batch_size(result)
        # else a tuple of tensors: read where an item of it is taken

    def _item(self, call: FxNode) -> None:
        source, index = call.args
        assert isinstance(source, FxNode)
        assert isinstance(index, int)
        if source in self.draft.constants:
            self.draft.constants[call] = self.draft.constants[source][index]
            return
        reader = _ITEM_READERS.get(target_of(source))
        if reader is not None and (index == 0 or target_of(source) in moves.ITEM_READERS):
            self._emit(call, *reader(self.draft, source, index))
            return
        op, inputs = opaque(self.draft, source)
        assert isinstance(op, Opaque)
        self._emit(call, Opaque(op.target, op.args, op.kwargs, index), inputs)

    # our nodes

    def _emit(self, call: FxNode, op: Op | None, inputs: tuple[FxNode, ...]) -> None:
        if op is None:  # the call hands on its input: dropout in eval mode, contiguous, clone
            self.draft.names[call] = self.draft.names[inputs[0]]
            return
        source = module_of(call)
        own = call.target is operator.getitem and not isinstance(op, Gather)
        base = str(call.args[0].name) if own and isinstance(call.args[0], FxNode) else call.name
        name = source.leaf or ".".join(filter(None, (source.path, re.sub(r"_\d+$", "", base))))
        self.draft.names[call] = self.draft.add(
            op, tuple(self.draft.names[item] for item in inputs), shape_of(call), name, source.label
        )


def state_of(program: Program, name: str) -> Tensor:
    """A parameter or buffer."""
    state: Tensor = program.state_dict[name] if name in program.state_dict else program.constants[name]
    return state.detach()


def attribute_of(program: Program, target: str) -> Any:
    """What a `get_attr` call gets."""
    value: Any = program.graph_module
    for part in target.split("."):
        value = getattr(value, part)
    return value
