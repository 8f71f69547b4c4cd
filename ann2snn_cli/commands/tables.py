"""Tables of text. On a terminal they fit its width; a pipe or a log gets whole lines."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ann2snn_cli.commands.flags import in_flags

if TYPE_CHECKING:
    from ann2snn_cli.workflows.report import FileEntry

GAP = "  "
NARROWEST = 24  # that a column of words is made to fit

Column = tuple[str, ...]  # its heading, then its cells


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns aligned by hand; a column of numbers to the right.

    Where they are wider than the terminal, the widest column of words is folded; if that is not enough the
    columns stand below each other, each part with the first of them.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    columns: list[Column] = list(zip(headers, *cells, strict=True))
    right = {i for i in range(len(headers)) if rows and all(_is_number(row[i]) for row in rows)}
    width = _terminal_width()
    if width is None:
        return _drawn(columns, right, {})
    folded = _folded(columns, right, width)
    parts = _parts([folded.get(i, _width(column)) for i, column in enumerate(columns)], width)
    return "\n\n".join(
        _drawn(
            [columns[i] for i in part],
            {place for place, i in enumerate(part) if i in right},
            {place: folded[i] for place, i in enumerate(part) if i in folded},
        )
        for part in parts
    )


def files_table(files: Sequence[FileEntry]) -> str:
    """What was written: a line a file."""
    return table(["file", "bytes", "what"], [[file.path, file.bytes, file.what] for file in files])


def _terminal_width() -> int | None:
    """Of the terminal, or what COLUMNS says of it; None where the result goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _width(column: Column) -> int:
    return max(map(len, column))


def _folded(columns: Sequence[Column], right: set[int], width: int) -> dict[int, int]:
    """The column of words to fold, and how wide it may be; none where all fit, or folding is no help."""
    widths = [_width(column) for column in columns]
    excess = sum(widths) + len(GAP) * (len(widths) - 1) - width
    words = [i for i in range(len(columns)) if i not in right and any(" " in cell for cell in columns[i])]
    if excess <= 0 or not words:
        return {}
    widest = max(words, key=lambda i: widths[i])
    return {widest: max(NARROWEST, widths[widest] - excess)} if widths[widest] > NARROWEST else {}


def _parts(widths: Sequence[int], width: int) -> list[list[int]]:
    """Columns by number, as many to a part as fit; the first is in each."""
    parts: list[list[int]] = [[0]]
    for i in range(1, len(widths)):
        taken = sum(widths[each] + len(GAP) for each in parts[-1])
        if taken + widths[i] > width and len(parts[-1]) > 1:
            parts.append([0])
        parts[-1].append(i)
    return parts


def _drawn(columns: Sequence[Column], right: set[int], folded: dict[int, int]) -> str:
    """The lines of a table; `folded` says how wide some of its columns may be."""
    widths = [folded.get(i, _width(column)) for i, column in enumerate(columns)]
    head, *rows = zip(*columns, strict=True)
    lines = [_line(head, widths, right), _line(["-" * width for width in widths], widths, right)]
    for row in rows:
        wrapped = [
            textwrap.wrap(cell, folded[i], break_on_hyphens=False) if i in folded else [cell]
            for i, cell in enumerate(row)
        ]
        for depth in range(max(1, *map(len, wrapped))):
            texts = [cell[depth] if depth < len(cell) else "" for cell in wrapped]
            lines.append(_line(texts, widths, right))
    return "\n".join(lines)


def _line(texts: Sequence[str], widths: Sequence[int], right: set[int]) -> str:
    return GAP.join(
        text.rjust(width) if i in right else text.ljust(width)
        for i, (text, width) in enumerate(zip(texts, widths, strict=True))
    ).rstrip()


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else in_flags(str(value))


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float) or str(value).endswith(" %")
