"""How a hardware's verdicts are shown: a line a layer, and every violation with its remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ann2snn_cli.commands.render import table

if TYPE_CHECKING:
    from ann2snn_cli.stages.check import Verdict


def plain_verdict(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain Python, for JSON."""
    names = ("rule", "layer", "actual", "limit", "remedy", "ok", "derived", "headroom", "proof")
    return {name: getattr(verdict, name) for name in names}


def verdict_table(verdicts: list[dict[str, Any]]) -> str:
    """A line a layer, a column a rule: actual/limit; `!` marks a broken limit, `*` one that is derived."""
    rules = list(dict.fromkeys(verdict["rule"] for verdict in verdicts))
    layers: dict[str, dict[str, dict[str, Any]]] = {}
    for verdict in verdicts:
        own, rule = layers.setdefault(verdict["layer"], {}), verdict["rule"]
        own[rule] = _worse(own.get(rule, verdict), verdict)
    rows = [
        [
            layer,
            "ok" if all(v["ok"] for v in own.values()) else "VIOLATION",
            *(_cell(own.get(rule)) for rule in rules),
        ]
        for layer, own in layers.items()
    ]
    text = table(["layer", "verdict", *rules], rows)
    if any(verdict["derived"] for verdict in verdicts):
        text += "\n* derived: not in the published table, 1024 // (kernel * kernel * bits)"
    return text


def _worse(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """A module that is called twice has one line, which shows the call with the least room."""

    def room(verdict: dict[str, Any]) -> tuple[bool, float]:
        return verdict["ok"], 1.0 if verdict["headroom"] is None else verdict["headroom"]

    return min(one, other, key=room)


def _cell(verdict: dict[str, Any] | None) -> str:
    if verdict is None:
        return ""
    shown = isinstance(verdict["actual"], int) and isinstance(verdict["limit"], int)
    words = f"{verdict['actual']}/{verdict['limit']}" if shown else ("ok" if verdict["ok"] else "no")
    return words + ("*" if verdict["derived"] else "") + ("" if verdict["ok"] else " !")


def violation_list(violations: list[dict[str, Any]]) -> str:
    """Every violation: layer, rule, actual, limit, remedy."""
    rows = [[v["layer"], v["rule"], v["actual"], v["limit"], v["remedy"]] for v in violations]
    return table(["layer", "rule", "actual", "limit", "remedy"], rows)
