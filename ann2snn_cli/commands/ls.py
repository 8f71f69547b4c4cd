"""`ann2snn ls`: what can be named, and where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from ann2snn_cli.commands.options import json_option
from ann2snn_cli.commands.render import emit
from ann2snn_cli.commands.tables import table
from ann2snn_cli.lookup import unknown

KINDS = ("networks", "datasets", "configs", "hardware", "checkpoints")
YOUR_DATASETS = (
    "folder:PATH (images in class folders), segmentation:PATH (images and masks), coco:PATH (images and "
    "boxes), npz:PATH (samples and labels), path.py:loader"
)


@click.command()
@click.argument("kinds", nargs=-1, metavar="[KIND]...")
@json_option
def command(kinds: tuple[str, ...], as_json: bool) -> None:
    """List networks, datasets, configs, hardware and checkpoints.

    KIND is one or more of these five words; without one, all are listed. A file in ./networks, ./configs or
    ./checkpoints hides the bundled one of the same name. `ann2snn cp NAME .` gives a copy to edit.
    """
    chosen = [_kind(word) for word in kinds] or list(KINDS)
    found = {kind: _rows(kind) for kind in chosen}
    emit({"schema": "ann2snn/ls/1", **found}, as_json, lambda: "\n\n".join(map(_text, found, found.values())))


def _kind(word: str) -> str:
    """The kind that is meant; the singular is understood too."""
    for kind in KINDS:
        if word in (kind, kind.removesuffix("s")):
            return kind
    raise unknown("kind", word, KINDS)


def _rows(kind: str) -> list[dict[str, str]]:
    from ann2snn_cli import catalog, data

    if kind == "datasets":
        return [{"name": each.name, "description": each.description} for each in data.DATASETS.values()]
    listers: dict[str, Callable[[], list[catalog.Entry]]] = {
        "networks": catalog.list_networks,
        "configs": catalog.list_configs,
        "hardware": catalog.list_hardware,
        "checkpoints": catalog.list_checkpoints,
    }
    return [
        {
            "name": entry.name,
            "origin": entry.origin,
            "description": entry.description,
            "path": str(entry.path),
        }
        for entry in listers[kind]()
    ]


def _text(kind: str, rows: Sequence[dict[str, str]]) -> str:
    if not rows:
        return f"{kind}\n  (none)"
    columns = [column for column in ("origin", "description") if column in rows[0]]
    lines = table([kind, *columns], [[row["name"], *(row[column] for column in columns)] for row in rows])
    return lines + ("\nor your own: " + YOUR_DATASETS if kind == "datasets" else "")
