"""A user's own rules: checked when they are given, and again whenever one of them is used.

A table of them has two kinds of keys: the name of a torch operator, whose rule says what a call becomes
(`ir/rules.py`), and a word for a decision about every population (`ir/population_rules.py`).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ann2snn_cli import lookup
from ann2snn_cli.errors import UsageError
from ann2snn_cli.ir.ops import Op
from ann2snn_cli.ir.own_rule import OwnRule
from ann2snn_cli.ir.population_rules import ClipRule, NeuronRule
from ann2snn_cli.ir.rules import Call, Value, name_of, shape_after


@dataclass(frozen=True)
class UserRule(OwnRule):
    """A rule for the calls of a torch operator."""

    def __call__(self, call: Call) -> Op | Value | None:
        """Run the user's function, and refuse what is no op of the call's own shape."""
        outcome: Op | Value | None = self.run(call, call.source or "a call")
        self._refuse_nonsense(call, outcome)
        return outcome

    def _refuse_nonsense(self, call: Call, outcome: object) -> None:
        if isinstance(outcome, Op):
            shape = shape_after(outcome, [each.shape for each in call.inputs], call.shape, call.source)
        elif isinstance(outcome, Value):
            known = [*call.inputs, *(each.value for each in call.added)]
            shape = outcome.shape
            if not any(outcome is each for each in known):
                raise self._refused("gave a value that is not of this call")
        elif outcome is None:
            return
        else:
            raise self._refused(f"gave a {type(outcome).__name__}")
        if shape != call.shape:
            raise self._refused(
                f"gave a sample of shape {shape} at {call.source}, where the network has {call.shape}"
            )

    def _refused(self, what: str) -> UsageError:
        return UsageError(
            f"the rule for {self.target} {what}",
            where=self.reference.shown,
            remedy="return an op, what call.add() gave, call.input, or None (it stays as it is)",
        )


POPULATION_RULES: dict[str, tuple[type[OwnRule], str]] = {
    "clip": (ClipRule, "the layer: def clip(layer)"),
    "neuron": (NeuronRule, "the layer: def neuron(layer)"),
}


def user_rules(rules: Mapping[str, Any], reference: lookup.Reference | None = None) -> dict[str, OwnRule]:
    """Check a user's table of rules by target; UsageError if a key means nothing or a rule is no function.

    `reference` is the file they came from; else each function's own.
    """
    if not isinstance(rules, Mapping):
        raise UsageError(
            f"RULES is a {type(rules).__name__}, not a dict",
            where=reference.shown if reference else "",
            remedy='write RULES = {"aten.NAME.OVERLOAD": function}',
        )
    return {target: _user_rule(target, rule, reference) for target, rule in rules.items()}


def of_operators(rules: Mapping[str, OwnRule]) -> dict[str, UserRule]:
    """Of such a table the rules that say what a call becomes."""
    return {target: rule for target, rule in rules.items() if isinstance(rule, UserRule)}


def _user_rule(target: Any, rule: Any, reference: lookup.Reference | None) -> OwnRule:
    if isinstance(rule, OwnRule):
        return rule
    kind, argument = POPULATION_RULES.get(target, (UserRule, "the call: def rule(call)"))
    where = reference.shown if reference else "rules"
    if not callable(rule) or isinstance(rule, Op | type):
        raise UsageError(
            f"the rule for {target} is a {type(rule).__name__}, not a function",
            where=where,
            remedy=f"give a function of one argument, {argument}",
        )
    if kind is UserRule:
        _refuse_unknown(target, where)
    named = lookup.Reference(_file_of(rule), name_of(rule))
    own = (
        named
        if reference is None
        else reference
        if kind is UserRule
        else replace(reference, attribute=named.attribute)
    )
    return kind(rule, target, Path(own.source).name, own)


def _refuse_unknown(target: Any, where: str) -> None:
    """Refuse what torch does not have. (An operator of another library may be registered later.)"""
    parts = re.fullmatch(r"([A-Za-z_]\w*)\.(\w+)(?:\.(\w+))?", target if isinstance(target, str) else "")
    namespace, name, overload = parts.groups() if parts else ("", "", "")
    overloads = _overloads(name) if namespace == "aten" else []
    if overload and (namespace != "aten" or overload in overloads):
        return
    near = [f"aten.{name}.{each}" for each in overloads]
    words = " or ".join(f'"{word}"' for word in POPULATION_RULES)
    remedy = f"did you mean {' or '.join(near)}?" if near else f'write it as "aten.NAME.OVERLOAD", or {words}'
    raise UsageError(f"there is no operator {target!r}", where=where, remedy=remedy)


def _overloads(name: str) -> list[str]:
    """List the overloads that give tensors and write into none, as `torch.export` names them."""
    schemas = torch._C._jit_get_schemas_for_operator(f"aten::{name}")
    give_tensors = [each for each in schemas if any("Tensor" in str(item.type) for item in each.returns)]
    return [each.overload_name or "default" for each in give_tensors if not each.is_mutable]


def _file_of(rule: Any) -> str:
    try:
        return inspect.getsourcefile(rule) or "rules"
    except TypeError:  # a callable object has no source
        return "rules"
