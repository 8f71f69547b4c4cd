"""How a value of each declared type is read: text from files, words and flags; Python values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ann2snn_cli.config.recipes import Decay
from ann2snn_cli.config.schedule import FinetuneOn, Schedule
from ann2snn_cli.ir.contract import Choice, Encoding, Method, Pooling, Reset, Rounding

AUTO = "auto"  # the word for None where a setting may be left to be decided by others

IntTable = Mapping[int, Mapping[int, int]]


@dataclass(frozen=True)
class ValueKind:
    """A type in words, and its reader, which raises ValueError for what it cannot read."""

    words: str
    read: Callable[[Any], Any]
    write: Callable[[Any], Any] = lambda value: value  # as plain Python, which `read` takes back
    choices: tuple[str, ...] = ()  # for help, where there are only a few


def plain(value: Any) -> Any:
    """A single number of numpy's or torch's as Python's own; all else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def _read_bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if not isinstance(value, str) or value.lower() not in words:
        raise ValueError
    return words[value.lower()]


def _read_int(value: object) -> int:
    """A whole number, however it is written: 4, "4", 4.0 and "4.0" are the same one."""
    # 010 is ten, as in YAML 1.2: nobody who writes it today means eight.
    if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]+(\.0*)?", value):
        return int(value.partition(".")[0])
    if isinstance(value, str | bool) or not isinstance(value, int | float) or value != value // 1:
        raise ValueError
    return int(value)


def _read_float(value: object) -> float:
    if isinstance(value, str):
        if not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value, re.ASCII):
            raise ValueError
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def read_text_or_number(value: object) -> str:
    """Text; a number as the text that means it, without an exponent."""
    return _read_str(value) if isinstance(value, str) else format(Decimal(repr(_read_float(value))), "f")


def _read_str(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _read_words(value: object) -> tuple[str, ...]:
    if isinstance(value, str):  # a comma list: check.allow=a,b
        value = [word.strip() for word in value.split(",") if word.strip()]
    if not isinstance(value, list | tuple) or not all(isinstance(word, str) and word for word in value):
        raise ValueError
    return tuple(value)


def _read_bool_or_auto(value: object) -> bool | None:
    return None if value is None or value == AUTO else _read_bool(value)


def _read_limit(value: object) -> int | None:
    return None if value is None or value == "none" else _read_int(value)


def _read_table(value: object) -> IntTable:
    if not isinstance(value, Mapping):
        raise ValueError
    return {_read_kernel(kernel): _read_row(row) for kernel, row in value.items()}


def _read_kernel(name: object) -> int:
    square = re.fullmatch(r"(\d+)x\1", name) if isinstance(name, str) else None
    return _read_int(square.group(1) if square else name)


def _read_row(row: object) -> dict[int, int]:
    if not isinstance(row, Mapping):
        raise ValueError
    return {_read_int(bits): _read_int(limit) for bits, limit in row.items()}


def _choice(kind: type[Choice]) -> ValueKind:
    """One of a few words."""
    words = tuple(each.value for each in kind)

    def read(value: object) -> Choice:
        return kind(_read_str(value))  # ValueError for another word

    return ValueKind(_either(words), read, str, words)


def _choice_or_auto(kind: type[Choice]) -> ValueKind:
    """One of a few words, or auto, which is None."""
    own = _choice(kind)
    words = (AUTO, *own.choices)

    def read(value: object) -> Choice | None:
        chosen: Choice | None = None if value is None or value == AUTO else own.read(value)
        return chosen

    return ValueKind(_either(words), read, lambda value: AUTO if value is None else str(value), words)


def _either(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


KINDS: dict[Any, ValueKind] = {
    bool: ValueKind("true or false", _read_bool),
    bool | None: ValueKind(
        "true, false or auto", _read_bool_or_auto, lambda value: AUTO if value is None else value
    ),
    int: ValueKind("a whole number", _read_int),
    float: ValueKind("a number", _read_float),
    str: ValueKind("text", _read_str),
    tuple[str, ...]: ValueKind("a list of words", _read_words, list),
    int | None: ValueKind("a whole number or none", _read_limit),
    IntTable: ValueKind("a table such as 3x3: {1: 113, 2: 56}", _read_table),
    Reset: _choice(Reset),
    Rounding: _choice(Rounding),
    Method: _choice(Method),
    Encoding | None: _choice_or_auto(Encoding),
    Pooling: _choice(Pooling),
    Pooling | None: _choice_or_auto(Pooling),
    Decay: _choice(Decay),
    Schedule | None: _choice_or_auto(Schedule),
    FinetuneOn | None: _choice_or_auto(FinetuneOn),
}
