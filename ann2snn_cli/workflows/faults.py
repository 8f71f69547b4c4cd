"""Faults: how good the vectors of a pack are, by how many ways of breaking the network they notice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ann2snn_cli.packs import faults
from ann2snn_cli.packs.faults import Coverage, MutantResult
from ann2snn_cli.twins.replay import Pack


@dataclass(frozen=True)
class FaultReport:
    """What became of every mutant, and which neurons the samples never bring near their threshold."""

    verdicts: tuple[MutantResult, ...]
    coverage: tuple[Coverage, ...]
    seed: int

    @property
    def killed(self) -> int:
        """Mutants that a sample notices."""
        return sum(bool(verdict.killed_by) for verdict in self.verdicts)

    @property
    def equivalent(self) -> int:
        """Mutants that are proved to be the same network."""
        return sum(bool(verdict.equivalent) for verdict in self.verdicts)

    @property
    def score(self) -> float:
        """The share that is noticed of those that are not equivalent."""
        return self.killed / max(1, len(self.verdicts) - self.equivalent)

    @property
    def survivors(self) -> list[MutantResult]:
        """Those that nothing notices."""
        return [verdict for verdict in self.verdicts if verdict.survives]

    @property
    def layers(self) -> list[dict[str, Any]]:
        """A row a layer: its mutants, how many were killed, how many are equivalent."""
        rows = []
        for layer in dict.fromkeys(verdict.mutant.layer for verdict in self.verdicts):
            own = FaultReport(tuple(v for v in self.verdicts if v.mutant.layer == layer), (), self.seed)
            row = {"mutants": len(own.verdicts), "killed": own.killed, "equivalent": own.equivalent}
            rows.append({"layer": layer, **row})
        return rows

    def facts(self) -> dict[str, Any]:
        """Two entries of a document: `faults` and `coverage`."""
        survivors = [asdict(v.mutant) | {"text": str(v.mutant), "idle": v.idle} for v in self.survivors]
        found = {
            "mutants": len(self.verdicts),
            "killed": self.killed,
            "equivalent": self.equivalent,
            "score": self.score,
            "seed": self.seed,
            "layers": self.layers,
            "survivors": survivors,
            "proved_equivalent": [
                {"text": str(v.mutant), "why": v.equivalent} for v in self.verdicts if v.equivalent
            ],
        }
        return {"faults": found, "coverage": [asdict(row) for row in self.coverage]}


def judged(
    pack: Pack, count: int, seed: int, names: Sequence[str], tick: Callable[[], None] = lambda: None
) -> FaultReport:
    """Break the network in `count` ways, drawn by the seed, and replay the named samples on each."""
    return FaultReport(
        tuple(faults.judge(pack, count, seed, tuple(names), tick)), tuple(faults.coverage(pack)), seed
    )
