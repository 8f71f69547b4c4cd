"""Trace: any nn.Module -> Graph FLOAT, by torch.export; or an ONNX file, by its nodes.

The exported program (`program.py`) is a flat list of ATen calls with the user's module names attached.
`reader.py` walks it; a rule (`ir/rules.py`) says what a call becomes. The built-in rules are the tables that
`built_in.py` joins; a user's own take their place for a run. What no rule makes an op of
becomes `Opaque` (`opaque.py`) and is still run exactly, if its operator is allowed (`ir/allowed.py`).
`onnx/` reads ONNX files with tables of its own; what both share is in `common.py` and `draft.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from ann2snn_cli.errors import UsageError
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.ir.user_rules import UserRule, of_operators, user_rules
from ann2snn_cli.ir.validate import validate
from ann2snn_cli.stages.trace.apart import refuse_joined
from ann2snn_cli.stages.trace.built_in import BUILT_IN
from ann2snn_cli.stages.trace.forms import materialised, narrow_types, notes, reading, to_eval, unwrapped
from ann2snn_cli.stages.trace.onnx import OnnxNetwork, load_onnx
from ann2snn_cli.stages.trace.program import export_program, refuse_changing
from ann2snn_cli.stages.trace.reader import Reader
from ann2snn_cli.types import Shape

__all__ = [
    "BUILT_IN",
    "OnnxNetwork",
    "load_onnx",
    "materialised",
    "narrow_types",
    "reading",
    "to_eval",
    "trace",
    "unwrapped",
]


def trace(
    network: nn.Module,
    input_shapes: Sequence[Shape] | Mapping[str, Shape],
    *,
    rules: Mapping[str, Callable[[Any], Any]] | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> Graph:
    """Give FLOAT: the network in eval mode, op by op.

    `input_shapes` are one sample's, in the order of the network's arguments or by their names. `rules` are
    the user's own, by target: they take the place of the built-in ones; what they say of populations is not
    read here. `note` is told of each.
    """
    own = of_operators(user_rules(rules or {}))
    network = unwrapped(network)
    if isinstance(network, OnnxNetwork):
        return validate(_refuse_rules(own, network).traced(input_shapes))
    for line in notes(network):
        note(line)
    program, repeats = export_program(network, input_shapes)
    reader = Reader(program, {**BUILT_IN, **own})
    graph = validate(reader.graph())
    if not repeats:
        refuse_changing(program, network)
    else:
        refuse_joined(graph, network)
    for rule in own.values():
        note(f"rule for {rule.target} from {rule.origin}{'' if reader.used[rule.target] else ': not used'}")
    return graph


def _refuse_rules(own: Mapping[str, UserRule], network: OnnxNetwork) -> OnnxNetwork:
    if own:
        raise UsageError(
            "rules are for operators of torch: an ONNX file is read by tables of its own",
            where=str(network.path),
            remedy="leave the rules out, or convert the network that the file was exported from",
        )
    return network
