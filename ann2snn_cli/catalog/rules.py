"""A user's file of rules: what a call of a torch operator becomes (see `ir/rules.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ann2snn_cli import lookup
from ann2snn_cli.errors import UsageError
from ann2snn_cli.lookup import Reference

if TYPE_CHECKING:
    from ann2snn_cli.ir.own_rule import OwnRule

RULES = 'RULES = {"aten.leaky_relu.default": rule}, with def rule(call)'


def load_rules(name: str) -> dict[str, OwnRule]:
    """Load the rules in `path.py` or `package.module`, by the operator they are for; "" names none."""
    from ann2snn_cli.ir.user_rules import user_rules

    if not name:
        return {}
    reference = _reference(name)
    return user_rules(lookup.load(reference, RULES), reference)


def _reference(name: str) -> Reference:
    path = Path(name).expanduser()
    if path.is_file():
        return Reference(str(path), "RULES")
    if name.endswith(".py") or not lookup.is_dotted_name(name):
        what = "is a folder" if path.is_dir() else "does not exist"
        remedy = "correct the path, or name a module: package.module"
        raise UsageError(f"the file of rules {what}", where=name, remedy=remedy)
    return Reference(name, "RULES", in_module=True)
