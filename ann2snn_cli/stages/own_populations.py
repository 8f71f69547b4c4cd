"""Own populations: FOLDED -> FOLDED with what a user's own rules say of the populations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ann2snn_cli.errors import Setting, UsageError
from ann2snn_cli.ir.graph import Graph, Level
from ann2snn_cli.ir.ops import Neuron, Op, Relu
from ann2snn_cli.ir.own_rule import OwnRule
from ann2snn_cli.ir.population_rules import ClipRule, NeuronRule
from ann2snn_cli.ir.populations import Layer
from ann2snn_cli.ir.validate import stage


@stage(Level.FOLDED, Level.FOLDED)
def own_populations(
    graph: Graph, rules: Mapping[str, OwnRule], note: Callable[[str], None] = lambda line: None
) -> Graph:
    """Needs FOLDED; gives FOLDED: populations know their neurons, and who sets their clips.

    `note` is told of each rule. A population behind a pooling of spikes hands on what is pooled: it has the
    clip of that, and neurons of ours.
    """
    populations = {
        node.name: (node, node.op)
        for node in graph.nodes
        if isinstance(node.op, Relu) and not node.op.inherits_clip
    }
    clip, rule = rules.get("clip"), rules.get("neuron")
    setter = clip if isinstance(clip, ClipRule) else None
    ops: dict[str, Op] = {}
    neurons: dict[str, Neuron] = {}
    for name, (node, op) in populations.items():
        if isinstance(rule, NeuronRule) and (own := rule(Layer(name, node.source, node.shape, op.limit))):
            neurons[name] = own
        ops[name] = replace(op, clip_rule=setter, neuron=neurons.get(name))
    if clip is not None:
        note(f"rule for clip from {clip.origin}{'' if ops else ': not used'}")
    if rule is not None:
        note(f"rule for neuron from {rule.origin}: {_shown(neurons) or 'not used'}")
    if len(populations) < len(graph.of(Relu)):
        _refuse_bursts(neurons)
    return graph.with_ops(ops)


def _shown(neurons: Mapping[str, Neuron]) -> str:
    return ", ".join(f"{neuron.kind} in {name}" for name, neuron in neurons.items())


def _refuse_bursts(neurons: Mapping[str, Neuron]) -> None:
    """A pooling of spikes counts on at most one in a step."""
    for name, neuron in neurons.items():
        if neuron.most > 1:
            raise UsageError(
                f"{neuron.kind} fires up to {neuron.most} spikes a step, and a pooling of spikes takes one",
                where=name,
                remedy=f"give {Setting('pooling', 'sum')}, or neurons with most=1",
            )
