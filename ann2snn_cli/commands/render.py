"""How results and progress look: results on stdout, as text or as one JSON document; progress on stderr."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import click
from tqdm import tqdm


def emit(document: dict[str, Any], as_json: bool, text: Callable[[], str]) -> None:
    """Print the result of a command, once: the document, which names its `schema`, or the text for people.

    With --json, `main` keeps everything else off stdout, so the result goes to the stream it put aside.
    """
    context = click.get_current_context(silent=True)
    stream = context.find_root().obj if context else None
    click.echo(to_json(document) if as_json else text().rstrip("\n"), file=stream, color=_color())


def to_json(document: dict[str, Any]) -> str:
    """One JSON document. JSON knows no NaN and no infinity: they become null."""
    return json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False, default=str)


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns aligned by hand; a column of numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    columns = list(zip(headers, *cells, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(headers))]
    lines = [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in [list(headers), ["-" * width for width in widths], *cells]
    ]
    return "\n".join(lines)


def percent(fraction: float | None) -> str:
    """`0.9711` as `97.11 %`; a dash where there is no number."""
    return "-" if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.2f} %"


def paint(text: str, color: str) -> str:
    """Coloured text. `emit` strips the colour where stdout is no terminal or NO_COLOR is set."""
    return click.style(text, fg=color)


def note(line: str) -> None:
    """One line of progress, on stderr."""
    click.echo(line, err=True, color=_color())


class Progress:
    """A bar on stderr; where stderr is no terminal, only the plain lines.

    with Progress("finetune", total=5 * batches) as progress:
        progress.advance()
        progress.line("epoch 1/5  loss 0.312  accuracy 96.40 %")
    """

    def __init__(self, label: str, total: int | None = None, unit: str = "step") -> None:
        # disable=None is tqdm's own way to say: only on a terminal.
        self._bar = tqdm(total=total, desc=label, unit=unit, disable=None, leave=False, dynamic_ncols=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def advance(self, count: int = 1) -> None:
        """So many steps more are done."""
        self._bar.update(count)

    def line(self, text: str) -> None:
        """A plain line, above the bar if there is one."""
        with tqdm.external_write_mode():
            note(text)


def _color() -> bool | None:
    return False if os.environ.get("NO_COLOR") else None  # None: click asks the stream


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float) or str(value).endswith(" %")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
