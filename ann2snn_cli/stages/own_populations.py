"""Own populations: FOLDED -> FOLDED with what a user's own rules say of the populations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ann2snn_cli.ir.graph import Graph, Level
from ann2snn_cli.ir.ops import Op, Relu
from ann2snn_cli.ir.own_rule import OwnRule
from ann2snn_cli.ir.population_rules import ClipRule
from ann2snn_cli.ir.validate import stage


@stage(Level.FOLDED, Level.FOLDED)
def own_populations(
    graph: Graph, rules: Mapping[str, OwnRule], note: Callable[[str], None] = lambda line: None
) -> Graph:
    """Needs FOLDED; gives FOLDED, in which populations know who sets their clips. `note` is told of a rule.

    A population behind a pooling of spikes has the clip of what is pooled, whoever set that.
    """
    ops: dict[str, Op] = {}
    clip = rules.get("clip")
    for node in graph.nodes:
        if isinstance(node.op, Relu) and not node.op.inherits_clip and isinstance(clip, ClipRule):
            ops[node.name] = replace(node.op, clip_rule=clip)
    if isinstance(clip, ClipRule):
        note(f"rule for clip from {clip.origin}{'' if ops else ': not used'}")
    return graph.with_ops(ops)
