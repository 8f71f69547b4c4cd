"""Where an SNN comes from: what a `.pth` says of its making. Every part may be unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Provenance:
    """Network, data, weights, settings and scores of a conversion; empty where nobody knows."""

    network: str = ""
    dataset: str = ""
    task: str = ""
    weights: Mapping[str, Any] = field(default_factory=dict)  # the checkpoint's file, hash and own provenance
    settings: Mapping[str, Any] = field(default_factory=dict)  # as `config.as_dict` gives them
    scores: Mapping[str, Any] = field(default_factory=dict)  # metrics by variant: ann, quantized, ...
    test_samples: int = 0
    damage: Mapping[str, Any] = field(default_factory=dict)  # relative errors against the float network
    notes: tuple[str, ...] = ()
    tool: str = ""
    bias_correction: Mapping[str, Any] = field(default_factory=dict)  # for which delay, and whether kept

    def to_plain(self) -> dict[str, Any]:
        """Plain Python, fit for a `.pth` and for JSON; what is unknown is left out."""
        known = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in known.items() if value
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Provenance:
        """The provenance in such a dict; what is missing, or of another type, is unknown."""
        empty = cls()
        known: dict[str, Any] = {}
        for each in fields(cls):
            value = plain.get(each.name)
            if isinstance(value, list):
                value = tuple(str(line) for line in value)
            if isinstance(value, type(getattr(empty, each.name))):
                known[each.name] = value
        return cls(**known)
