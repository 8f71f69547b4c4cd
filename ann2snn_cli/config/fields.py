"""A setting: its default, the values it may take, and the words about it: said once for all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, get_type_hints

from ann2snn_cli.config.kinds import KINDS, plain
from ann2snn_cli.errors import UsageError


@dataclass(frozen=True)
class Rule:
    """What a value must be: the words end the sentence "it must be ...", and `holds` is the test of them."""

    words: str
    holds: Callable[[Any], bool]
    examples: tuple[
        str, ...
    ] = ()  # values for a remedy, where the words alone do not show how one is written
    read: Callable[[Any], Any] | None = None  # where more is taken than what the declared type reads


MOST = 2**31 - 1  # what torch counts with in 32 bits; nothing here is ever so large


def at_least(low: int) -> Rule:
    """A whole number, `low` or more, and no larger than makes sense."""
    return Rule(f"a whole number, {low} or more, at most {MOST}", lambda value: low <= value <= MOST)


def between(low: int, high: int) -> Rule:
    """A whole number within both ends."""
    return Rule(f"a whole number from {low} to {high}", lambda value: low <= value <= high)


def about(help: str, rule: Rule | None = None, *, flag: str = "", short: str = "") -> dict[str, Any]:
    """What a dataclass field carries. `flag` is only given where it differs from the field's name."""
    return {"help": help, "rule": rule, "flag": flag, "short": short}


def setting(default: Any, help: str, rule: Rule | None = None, *, flag: str = "", short: str = "") -> Any:
    """A dataclass field with its default and its words."""
    return field(default=default, metadata=about(help, rule, flag=flag, short=short))


@dataclass(frozen=True)
class Key:
    """One setting as files and flags name it."""

    section: str  # "" at the top level
    name: str
    kind: Any  # the declared type
    default: Any
    help: str
    rule: Rule | None
    flag: str  # without the dashes
    short: str  # with its dash, or ""

    @property
    def dotted(self) -> str:
        """The name that words (`section.name=value`) and messages use."""
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def words(self) -> str:
        """What a value must be."""
        return self.rule.words if self.rule else KINDS[self.kind].words

    @property
    def choices(self) -> tuple[str, ...]:
        """The words it may be, where there are only a few."""
        return KINDS[self.kind].choices

    def of(self, settings: Any) -> Any:
        """Its value in the settings."""
        return getattr(getattr(settings, self.section) if self.section else settings, self.name)

    def parse(self, value: object) -> Any:
        """The value as its declared type, from text or from Python; ValueError with the whole sentence."""
        read = (self.rule and self.rule.read) or KINDS[self.kind].read
        try:
            parsed = read(plain(value))
            fits = self.rule is None or self.rule.holds(parsed)
        except ValueError:
            fits = False
        if not fits:
            is_what = "has no value" if value is None else f"is {_shown(value)}"
            raise ValueError(f"{self.dotted} {is_what}; it must be {self.words}")
        return parsed

    def mistake(self, value: object, where: str) -> Mistake | None:
        """What is wrong with the value; None if nothing is."""
        try:
            self.parse(value)
        except ValueError as error:
            return Mistake(str(error), where, self._remedy(value))
        return None

    def _remedy(self, value: object) -> str:
        """The word that was most likely meant, or those there are."""
        words = self.choices or (self.rule.examples if self.rule else ())
        word = "".join(str(value).lower().split())
        near = get_close_matches(word, words, n=1)
        if near and (re.search("[a-z]", word) or near[0].startswith(word)):  # 0.5 is not meant by 1.5
            return f"did you mean {near[0]}?"
        return f"give {', '.join(words[:-1])} or {words[-1]}" if words else ""


@cache
def keys_of(described: type, section: str = "") -> dict[str, Key]:
    """The settings of a dataclass by dotted name, those of the sections it holds included."""
    found: dict[str, Key] = {}
    types = get_type_hints(described)
    for item in fields(described):
        kind, words = types[item.name], item.metadata
        if isinstance(kind, type) and is_dataclass(kind):
            found |= keys_of(kind, item.name)
            continue
        flag = words["flag"] or item.name
        own = (section, item.name, kind, item.default)
        key = Key(*own, words["help"], words["rule"], flag, words["short"])
        found[key.dotted] = key
    return found


class Checked:
    """Base of the dataclasses of settings: a value that breaks its rule is refused, whoever gave it.

    Words for one of a few choices become that choice: `Neurons(reset_mode="zero")` holds `Reset.ZERO`.
    """

    @classmethod
    def section(cls) -> str:
        """The section its settings stand in; "" at the top level."""
        return ""

    def __post_init__(self) -> None:
        own_type: Any = type(self)
        section = self.section()
        own = [key for key in keys_of(own_type, section).values() if key.section == section]
        found = (key.mistake(getattr(self, key.name), type(self).__name__) for key in own)
        refuse(mistake for mistake in found if mistake)
        for key in own:
            object.__setattr__(self, key.name, key.parse(getattr(self, key.name)))


class Section(Checked):
    """Base of the sections: each is named after its class."""

    @classmethod
    def section(cls) -> str:
        """The section's name in files."""
        return cls.__name__.lower()


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong with the settings."""

    what: str
    where: str = ""
    remedy: str = ""
    alone: str = ""  # the remedy where there is no other mistake; in a list of them it would only repeat


def refuse(mistakes: Iterable[Mistake]) -> None:
    """Raise one UsageError that lists every mistake; do nothing if there is none."""
    found = list(mistakes)
    if not found:
        return
    if len(found) == 1:
        remedy = found[0].remedy or found[0].alone or "give such a value, or leave it out"
        raise UsageError(found[0].what, where=found[0].where, remedy=remedy)
    lines = [f"{each.what}  [{each.where}]{each.remedy and '; '}{each.remedy}" for each in found]
    raise UsageError(
        "\n  - ".join([f"{len(found)} settings are wrong:", *lines]),
        where=", ".join(dict.fromkeys(each.where for each in found if each.where)),
        remedy="correct each of them, or leave it out",
    )


MOST_SHOWN = 100  # letters of a wrong value


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
    return text if text and " " not in text and text.isprintable() else repr(text)
