"""A function that a user gave, run as theirs: whatever it raises is an error at their own line."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ann2snn_cli import lookup
from ann2snn_cli.errors import UsageError


@dataclass(frozen=True)
class OwnRule(ABC):
    """One entry of a user's table of rules."""

    apply: Callable[[Any], Any]
    target: str  # its key in the table
    origin: str  # "my_rules.py", to be named in notes
    reference: lookup.Reference

    @abstractmethod
    def __call__(self, given: Any) -> Any:
        """Run the user's function, and refuse what it may not give."""

    def run(self, given: Any, place: str) -> Any:
        """What the user's function makes of something at a place of the network."""
        remedy = f"the rule for {self.target} failed at {place}: correct it"
        with lookup.users_code(self.reference, UsageError, remedy):
            return self.apply(given)
