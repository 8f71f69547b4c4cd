"""Where settings come from: a YAML file, words, flags; and what is said when they are wrong.

YAML is read as its author wrote it: the loader's own guesses (PyYAML takes `1e-4` for text, `no` for False,
`010` for 8 and `12:30` for 750) are left out, and each field's declared type decides instead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from ann2snn_cli.config.fields import Key, Mistake, refuse
from ann2snn_cli.config.settings import KEYS, SECTIONS, Settings, build, idle
from ann2snn_cli.errors import BadFile, Setting, UsageError

MOST_BYTES = 2**16  # of a file of settings: a hundred times what all of them take
MOST_VALUES = 10_000  # in one setting, those that an alias repeats counted each time
SAME_THING = (
    {"timing.schedule", "timing.delay"},  # a delay by its name and by its number
    {"save.save_file", "save.output_dir"},  # the place of what is written, as a file and as a folder
)


@dataclass(frozen=True)
class Given:
    """A value as somebody gave it."""

    dotted: str
    value: object
    where: str
    file: str = ""  # that it stands in


@dataclass(frozen=True)
class Resolved:
    """The settings of a run, and where those of them that were given stand; the others are defaults."""

    settings: Settings
    origins: Mapping[str, str]  # by dotted name


def resolve(
    config_file: Path | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    used: Collection[str] = KEYS,
) -> Settings:
    """The settings of a run: `resolved`, without where they come from."""
    return resolved(config_file, overrides, flags, used).settings


def resolved(
    config_file: Path | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    used: Collection[str] = KEYS,
) -> Resolved:
    """The settings of a run: defaults < config file < words < flags. Every mistake comes in one UsageError.

    `overrides` are words, "section.name=value"; `flags` go by dotted name and hold only what was given.
    One of these that changes nothing is a mistake: it is not in `used`, or does nothing beside the others. A
    file may be shared by runs of several kinds: see `unused`.
    """
    given, mistakes = from_file(config_file, SECTIONS) if config_file else ([], [])
    words = [_from_word(word) for word in overrides]
    by_flag = [_from_flag(dotted, value) for dotted, value in (flags or {}).items()]
    for stronger in (words, by_flag):
        given = _without_replaced(given, stronger) + stronger
    mistakes += [_not_used(each, used) for each in words if each.dotted in KEYS and each.dotted not in used]
    settings = build(settle(given, KEYS, mistakes))
    _refuse_idle([*words, *by_flag], settings)
    return Resolved(settings, {each.dotted: each.where for each in given})


def _refuse_idle(given: Sequence[Given], settings: Settings) -> None:
    """Refuse what does nothing beside the other settings."""
    found = idle(settings)
    idles = [(each, *found[each.dotted]) for each in given if each.dotted in found]
    refuse(
        Mistake(f"{each.dotted} does nothing {when}", each.where, f"leave it out, or {remedy}")
        for each, when, remedy in idles
    )


def unused(config_file: Path, used: Collection[str]) -> list[str]:
    """What a file sets that is not in `used`: sections, or settings where others of the section are."""
    given, _ = from_file(config_file, SECTIONS)
    partly = {dotted.partition(".")[0] for dotted in used}
    names = (each.dotted for each in given if each.dotted in KEYS and each.dotted not in used)
    return list(dict.fromkeys(name if (top := name.partition(".")[0]) in partly else top for name in names))


def _not_used(given: Given, used: Collection[str]) -> Mistake:
    own = [
        dotted
        for dotted in used
        if "." in dotted and dotted.partition(".")[0] == given.dotted.partition(".")[0]
    ]
    known = ", ".join(own or dict.fromkeys(dotted.partition(".")[0] for dotted in used))
    return Mistake(f"{given.dotted} does nothing here", given.where, f"leave it out; used here: {known}")


def _without_replaced(given: list[Given], stronger: Sequence[Given]) -> list[Given]:
    """What is given, without the one name of a thing where a stronger source gives it by the other."""
    named = {each.dotted for each in stronger}
    replaced = {dotted for names in SAME_THING if names & named for dotted in names}
    return [each for each in given if each.dotted not in replaced]


def settle(
    given: Iterable[Given], keys: Mapping[str, Key], mistakes: Iterable[Mistake] = ()
) -> dict[str, Any]:
    """Typed values by dotted name, the later of two the stronger; UsageError with all mistakes."""
    values: dict[str, Any] = {}
    found = list(mistakes)
    for each in given:
        key = keys.get(each.dotted)
        if key is None:
            found.append(_unknown(each, keys))
        elif mistake := key.mistake(each.value, each.where):
            alone = _correction(key, each.file)
            found.append(replace(mistake, remedy="", alone=alone) if alone else mistake)
        else:
            values[each.dotted] = key.parse(each.value)
    refuse(found)
    return values


def _correction(key: Key, file: str) -> str:
    return f"in {file}, set {key.dotted} to {key.words}, or leave it out" if file else ""


REMEDY = "give a YAML file with sections such as `quantize:`, as in `ann2snn cp example_net.yaml .`"


def from_file(
    path: Path, sections: Collection[str], remedy: str = REMEDY
) -> tuple[list[Given], list[Mistake]]:
    """What a YAML file gives, with its lines, and which keys it gives twice. `remedy`: for other files."""
    given: list[Given] = []
    mistakes: list[Mistake] = []
    for each in _walk(path, _compose(path, remedy), sections):
        earlier = next((other for other in given if other.dotted == each.dotted), None)
        if earlier:
            mistakes.append(
                Mistake(f"{each.dotted} is given twice", each.where, f"keep one (the other: {earlier.where})")
            )
        given.append(each)
    return given, mistakes


def _walk(path: Path, root: yaml.Node | None, sections: Collection[str]) -> Iterator[Given]:
    for name, node, line in _entries(root):
        if name in sections and (isinstance(node, yaml.MappingNode) or _plain(node) is None):
            for key, leaf, leaf_line in _entries(node):
                yield Given(f"{name}.{key}", _plain(leaf), f"{path}:{leaf_line}", str(path))
        else:
            yield Given(name, _plain(node), f"{path}:{line}", str(path))


def _compose(path: Path, remedy: str) -> yaml.Node | None:
    try:
        if path.stat().st_size > MOST_BYTES:
            what = f"it has {path.stat().st_size:,} bytes, more than the {MOST_BYTES:,} of any settings"
            raise UsageError(what, where=str(path), remedy=remedy)
        root = yaml.compose(path.read_bytes(), Loader=yaml.SafeLoader)
    except OSError as error:
        raise BadFile(f"cannot read it: {error.strerror}", where=str(path), remedy="check the path") from None
    except RecursionError:
        raise UsageError("it is nested too deeply", where=str(path), remedy=remedy) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
        raise UsageError(f"not a YAML file: {problem}", where=where, remedy=remedy) from None
    if root is not None and not isinstance(root, yaml.MappingNode) and _plain(root) is not None:
        raise UsageError("it holds no `key: value` lines", where=str(path), remedy=remedy)
    return root


def _entries(node: yaml.Node | None) -> Iterator[tuple[str, yaml.Node, int]]:
    if not isinstance(node, yaml.MappingNode):  # an empty file or section
        return
    for key, value in node.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else "(a key that is no word)"
        yield name.replace("-", "_"), value, key.start_mark.line + 1


def _plain(node: yaml.Node | None) -> Any:
    """Text, None, and lists and tables of them; one that aliases blow up is refused."""
    return _within(node, iter(range(MOST_VALUES)))


def _within(node: yaml.Node | None, budget: Iterator[int], depth: int = 3) -> Any:
    """The same, no deeper than a setting needs: `&a [*a]` holds itself."""
    if node is not None and next(budget, None) is None:
        raise UsageError(
            f"one setting holds more than {MOST_VALUES:,} values",
            where=f"line {node.start_mark.line + 1}",
            remedy="give each setting its value, without aliases (&, *) that repeat it",
        )
    if isinstance(node, yaml.MappingNode | yaml.SequenceNode) and depth == 0:
        return ()
    if isinstance(node, yaml.MappingNode):
        pairs = ((key.value, value) for key, value in node.value if isinstance(key, yaml.ScalarNode))
        return {name: _within(value, budget, depth - 1) for name, value in pairs}
    if isinstance(node, yaml.SequenceNode):
        return [_within(item, budget, depth - 1) for item in node.value]
    if not isinstance(node, yaml.ScalarNode):
        return None
    is_null = node.style is None and node.value in ("", "~", "null", "Null", "NULL")
    return None if is_null else node.value


def _from_word(word: str) -> Given:
    dotted, equals, value = word.partition("=")
    return Given(
        dotted.strip().replace("-", "_"), value.strip() if equals else None, str(Setting("set", word))
    )


def _from_flag(dotted: str, value: Any) -> Given:
    key = KEYS.get(dotted)
    return Given(dotted, value, str(Setting(key.flag)) if key else dotted)


def _unknown(given: Given, keys: Mapping[str, Key]) -> Mistake:
    sections = {key.section for key in keys.values()} - {""}
    if given.dotted in sections:
        example = next(key for key in keys.values() if key.section == given.dotted)
        remedy = f"name the setting in it, such as {example.dotted}"
        return Mistake(f"{given.dotted} is a section and has no value of its own", given.where, remedy)
    near = _nearest(given.dotted, keys, sections)
    remedy = f"did you mean {near}?" if near else f"known here: {', '.join(_neighbours(given.dotted, keys))}"
    remedy += f" It must be {keys[near].words}" if near in keys else ""
    return Mistake(f"{given.dotted or '(nothing)'} is not a setting", given.where, remedy)


def _nearest(dotted: str, keys: Mapping[str, Key], sections: Collection[str]) -> str:
    """The known name that was most likely meant; "" if none is near."""
    section, _, name = dotted.rpartition(".")
    names = {key.name: key.dotted for key in keys.values()} | {key.flag: key.dotted for key in keys.values()}
    if name in names:  # the right word in the wrong section
        return names[name]
    own = {key.name: key.dotted for key in keys.values() if key.section == section}
    whole = {word: word for word in (*keys, *sections)} if section not in sections else {}
    for known, word in ((own, name), (names, name), (whole, dotted)):
        if near := get_close_matches(word, known, n=1):
            return known[near[0]]
    return ""


def _neighbours(dotted: str, keys: Mapping[str, Key]) -> list[str]:
    section = dotted.rpartition(".")[0]
    own = [key.dotted for key in keys.values() if key.section == section and section]
    return own or sorted({key.section or key.name for key in keys.values()})
