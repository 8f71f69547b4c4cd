"""How a hardware's verdicts are shown: a line a layer, and every violation with its remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ann2snn_cli.commands.tables import table
from ann2snn_cli.words import count_of

if TYPE_CHECKING:
    from ann2snn_cli.stages.check import Verdict
    from ann2snn_cli.workflows.hardware import HardwareReport


def verdict_line(hardware: HardwareReport) -> str:
    """Whether the network fits, and except for what."""
    if not hardware.ok:
        return count_of(len(hardware.violations), "violation")
    if not hardware.allowed:
        return "fits"
    layers: dict[str, dict[str, None]] = {}
    for verdict in hardware.allowed:
        layers.setdefault(verdict.rule, {})[verdict.layer] = None
    words = [f"{rule} ({', '.join(names)})" for rule, names in layers.items()]
    return f"fits except for {', '.join(words)}, which --allow lets pass"


def verdict_table(hardware: HardwareReport) -> str:
    """A line a layer, a column a rule: actual/limit; `!` marks a broken limit, `*` one that is derived."""
    rules = list(dict.fromkeys(verdict.rule for verdict in hardware.verdicts))
    layers: dict[str, dict[str, Verdict]] = {}
    for verdict in hardware.verdicts:
        own, rule = layers.setdefault(verdict.layer, {}), verdict.rule
        own[rule] = _worse(own.get(rule, verdict), verdict)
    rows = [
        [
            layer,
            "ok" if all(verdict.ok for verdict in own.values()) else "VIOLATION",
            *(_cell(own.get(rule)) for rule in rules),
        ]
        for layer, own in layers.items()
    ]
    text = table(["layer", "verdict", *rules], rows)
    if any(verdict.derived for verdict in hardware.verdicts):
        formula = f"{hardware.synapse_lines} // (kernel * kernel * bits)"
        text += f"\n* derived: not in the published table, {formula}"
    return text


def _worse(one: Verdict, other: Verdict) -> Verdict:
    """A module that is called twice has one line, which shows the call with the least room."""

    def room(verdict: Verdict) -> tuple[bool, float]:
        return verdict.ok, 1.0 if verdict.headroom is None else verdict.headroom

    return min(one, other, key=room)


def _cell(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    shown = isinstance(verdict.actual, int) and isinstance(verdict.limit, int)
    words = f"{verdict.actual}/{verdict.limit}" if shown else ("ok" if verdict.ok else "no")
    return words + ("*" if verdict.derived else "") + ("" if verdict.ok else " !")


def violation_list(violations: Sequence[Verdict]) -> str:
    """Every violation: layer, rule, actual, limit, remedy."""
    rows = [[v.layer, v.rule, v.actual, v.limit, v.remedy] for v in violations]
    return table(["layer", "rule", "actual", "limit", "remedy"], rows)
