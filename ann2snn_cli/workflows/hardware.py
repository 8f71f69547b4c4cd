"""What a chip says of a network: every verdict, and which of its limits are broken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ann2snn_cli.config import Hardware
from ann2snn_cli.errors import Setting
from ann2snn_cli.stages.check import Verdict, violations


@dataclass(frozen=True)
class HardwareReport:
    """The verdicts of one chip; without a chip there are none."""

    name: str  # "none" where no limits were checked
    verdicts: tuple[Verdict, ...] = ()
    violations: tuple[Verdict, ...] = ()  # those that count
    allowed: tuple[Verdict, ...] = ()  # limits that are broken, and may be
    synapse_lines: int | None = None  # what limits are derived from where none is published
    notes: tuple[str, ...] = ()  # rules that may be broken, and are not

    @property
    def ok(self) -> bool:
        """Is no limit broken?"""
        return not self.violations

    def facts(self) -> dict[str, Any]:
        """Give plain Python, for JSON."""
        return {
            "name": self.name,
            "ok": self.ok,
            "synapse_lines": self.synapse_lines,
            "violations": [verdict_facts(verdict) for verdict in self.violations],
            "allowed": [verdict_facts(verdict) for verdict in self.allowed],
            "verdicts": [verdict_facts(verdict) for verdict in self.verdicts],
            "notes": list(self.notes),
        }


def judged(
    hardware: Hardware | None, verdicts: Sequence[Verdict], allow: Sequence[str] = ()
) -> HardwareReport:
    """The report on these verdicts; rules in `allow` may be broken."""
    if hardware is None:
        return HardwareReport("none")
    broken = violations(verdicts)
    notes = tuple(_allowed_for_nothing(allow, verdicts))
    counts = tuple(violations(verdicts, allow))
    allowed = tuple(verdict for verdict in broken if verdict not in counts)
    return HardwareReport(hardware.name, tuple(verdicts), counts, allowed, hardware.synapse_lines, notes)


def _allowed_for_nothing(allow: Sequence[str], verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Rules that may be broken, and are not: no fault, but who allows one believes that it is broken."""
    for rule in allow:
        found = [verdict for verdict in verdicts if verdict.rule == rule]
        if all(verdict.ok for verdict in found):
            reason = "no layer breaks that limit" if found else "that limit was not checked here"
            yield f"{Setting('allow', rule)} does nothing: {reason}"


def verdict_facts(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain Python."""
    names = ("rule", "layer", "actual", "limit", "remedy", "ok", "derived", "headroom", "proof")
    return {name: getattr(verdict, name) for name in names}
