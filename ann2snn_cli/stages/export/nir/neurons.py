"""Populations and read-outs in NIR.

The composite neuron, where the edge that closes a circle is one step late, as discrete readers have it:

    v(t) = v(t−1) + x(t) + B + [t = 1]·V0 − θ·s(t−1)      I
    s(t) = 1 if v(t) > θ − 1/2                            Threshold: V ≥ θ for integers
    θ·s(t)                                                Scale, back to I

NIR has no constants. Ones come from a Threshold below every number; the bias is a Scale of them. The first
step is where ones and their own sum so far part: start(t) = 1 − held(t−1), held(t) = held(t−1) + start(t).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ann2snn_cli.errors import Setting
from ann2snn_cli.ir.contract import Reset
from ann2snn_cli.ir.graph import Node
from ann2snn_cli.ir.ops import Integrate, IntegrateFire
from ann2snn_cli.stages.export.nir.draft import NirDraft, Sources, array, extent
from ann2snn_cli.stages.export.nir.layers import absorbed, by_channel, multiplied

LOWEST = torch.finfo(torch.float32).min


def population(draft: NirDraft, node: Node, op: IntegrateFire) -> Sources:
    """Neurons that fire: an IF, or the composite where a spike subtracts."""
    drive = _charged(draft, node, op)
    if draft.flavor.composite and draft.graph.timing.reset_mode is Reset.SUBTRACTION:
        return (_composite(draft, node, op, drive),)
    _lose(draft, node, op)
    half = 0.5 if draft.flavor.half_below(draft.graph.timing) else 0.0
    fields = {
        "r": array(torch.tensor(draft.flavor.resistance), node.shape),
        "v_threshold": array(op.threshold.double() - half, node.shape),
        "v_reset": array(torch.zeros(()), node.shape),
    }
    return (draft.put(node, "IF", drive, **fields),)


def _composite(draft: NirDraft, node: Node, op: IntegrateFire, drive: Sources) -> str:
    potential = draft.put(node, "I", drive, "potential", r=array(torch.ones(()), node.shape))
    spikes = draft.put(
        node, "Threshold", (potential,), threshold=array(op.threshold.double() - 0.5, node.shape)
    )
    reset = draft.scaled(node, (spikes,), -op.threshold, "reset")
    draft.edges.append((reset, potential))
    return spikes


def _lose(draft: NirDraft, node: Node, op: IntegrateFire) -> None:
    contract, flavor = draft.graph.timing, draft.flavor
    if not flavor.keeps_reset(contract):
        what = "subtraction" if contract.reset_mode is Reset.SUBTRACTION else "setting to zero"
        draft.lose(
            node, f"reset by {what}", "another potential after every spike, so other spikes",
            f"{Setting('flavor', 'composite')}, or set the reset in the reader's neurons",
        )  # fmt: skip
    if not flavor.keeps_ties(contract):
        draft.lose(
            node, "that V = threshold fires", "NIR says V > v_threshold: such a spike comes later or never",
            f"{Setting('flavor', 'composite')}, or a reader that compares with >=",
        )  # fmt: skip


# Charge --------------------------------------------------------------------------------------------


def _charged(draft: NirDraft, node: Node, op: IntegrateFire | Integrate) -> Sources:
    """What the neurons integrate: their input, the bias at every step, the first potential."""
    gain, bias = remaining(draft, node, op)
    sources = draft.fed(node)
    if draft.flavor.composite:
        if gain > 1:
            sources = (draft.scaled(node, sources, torch.tensor(gain), "gain"),)
        sources += _constants(draft, node, sources, bias, op.initial)
    elif gain > 1 or bias is not None:
        sources = (_shifted(draft, node, sources, gain, bias),)
    if op.initial is not None and bool(op.initial.any()) and not draft.flavor.composite:
        _lose_charge(draft, node, int(op.initial.abs().max()))
    return sources


def _lose_charge(draft: NirDraft, node: Node, largest: int) -> None:
    fires = isinstance(node.op, IntegrateFire)
    draft.lose(
        node, f"the first potential, up to {largest}",
        "spikes come later by up to that charge" if fires else "the sum is smaller by up to that charge",
        f"{Setting('flavor', 'composite')}, or convert with {Setting('rounding', 'bias')} "
        "(which drops the rest of the bias)",
    )  # fmt: skip


def remaining(draft: NirDraft, node: Node, op: IntegrateFire | Integrate) -> tuple[int, Tensor | None]:
    """(gain, bias) that the synapse before the neurons did not take over; None for a bias of zeros."""
    (feeder,) = draft.graph.fed_by(node)
    gain = 2**op.fraction_bits if isinstance(op, IntegrateFire) else 1
    taken = absorbed(draft, feeder)
    bias = None if taken.bias is not None or op.bias is None or not bool(op.bias.any()) else op.bias
    return gain // taken.gain, bias


def _shifted(draft: NirDraft, node: Node, sources: Sources, gain: int, bias: Tensor | None) -> str:
    return multiplied(draft, node, sources, torch.tensor(gain), by_channel(bias, node.shape), "bias")


def _constants(
    draft: NirDraft, node: Node, sources: Sources, bias: Tensor | None, initial: Tensor | None
) -> Sources:
    """The bias at every step and the first potential at the first, element by element."""
    initial = initial if initial is not None and bool(initial.any()) else None
    if bias is None and initial is None:
        return ()
    ones = draft.put(node, "Threshold", sources, "ones", threshold=array(torch.tensor(LOWEST), node.shape))
    found: Sources = ()
    if bias is not None:
        found += (draft.scaled(node, (ones,), bias, "bias"),)
    if initial is not None:
        found += (draft.scaled(node, (_start(draft, node, ones),), initial, "initial"),)
    return found


def _start(draft: NirDraft, node: Node, ones: str) -> str:
    """1 at the first step, 0 at every other."""
    one = torch.ones(())
    start = draft.scaled(node, (ones,), one, "start")
    held = draft.put(node, "I", (start,), "held", r=array(one, node.shape))
    draft.edges.append((draft.scaled(node, (held,), -one, "past"), start))
    return start


# Read-outs -----------------------------------------------------------------------------------------


def readout(draft: NirDraft, node: Node, op: Integrate) -> Sources:
    """Neurons that never fire pass on their charge."""
    return _charged(draft, node, op)


def outputs(draft: NirDraft) -> None:
    """An Output for every output: spikes, or the potential of the last layer."""
    for name in dict.fromkeys(draft.graph.outputs):
        node = draft.graph[name]
        sources = draft.values[name]
        if isinstance(node.op, Integrate):
            sources = _summed(draft, node, sources)
        output = draft.put(node, "Output", sources, "output", output_type={"output": extent(node.shape)})
        draft.outputs[output] = node


def _summed(draft: NirDraft, node: Node, sources: Sources) -> Sources:
    if "I" in draft.flavor.nodes:
        return (draft.put(node, "I", sources, r=array(torch.ones(()), node.shape)),)
    draft.lose(
        node, "the potential that is read out", "the output is what arrives at each step",
        "sum the output over the steps",
    )  # fmt: skip
    if len(sources) == 1:
        return sources
    return (multiplied(draft, node, sources, torch.ones((), dtype=torch.int64), role="sum"),)
