"""A verdict: one limit held against one layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ann2snn_cli.ir.graph import Node


@dataclass(frozen=True)
class Verdict:
    """One limit held against one layer. A violation is a verdict that is not ok."""

    rule: str
    layer: str  # the user's name
    actual: int | str
    limit: int | str
    ok: bool
    remedy: str = ""
    derived: bool = False  # the limit follows from a formula, it is not in the published table
    proof: str = ""  # where `actual` is proved: of what

    @property
    def headroom(self) -> float | None:
        """How much of the limit is free, as a fraction; negative where it is broken."""
        if isinstance(self.actual, int) and isinstance(self.limit, int) and self.limit > 0:
            return 1 - self.actual / self.limit
        return None


def violations(verdicts: Sequence[Verdict], allow: Sequence[str] = ()) -> list[Verdict]:
    """The verdicts that are not ok, but for the rules that are allowed to be broken."""
    return [verdict for verdict in verdicts if not verdict.ok and verdict.rule not in allow]


def layer_of(node: Node) -> str:
    """The layer as the user knows it."""
    return node.source or node.name
