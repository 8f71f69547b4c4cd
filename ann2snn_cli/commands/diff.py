"""`ann2snn diff`: where two vector packs differ, or a pack and a simulator's log."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ann2snn_cli.commands.options import json_option
from ann2snn_cli.commands.render import emit

if TYPE_CHECKING:
    from ann2snn_cli.packs.diff import Comparison
    from ann2snn_cli.twins.replay import Pack


@click.command()
@click.argument("one", metavar="PACK", type=click.Path(path_type=Path, exists=True))
@click.argument("other", metavar="PACK|LOG", type=click.Path(path_type=Path, exists=True))
@json_option
def command(one: Path, other: Path, as_json: bool) -> int:
    """Find the first difference between two vector packs, or a pack and a simulator's log.

    A log is a CSV with the columns sample, layer, step, neuron, and spike or potential (steps count from 1,
    neurons are flat indices from 0), or a folder of memory files named as in a pack's expect/. Any part of a
    run will do. A difference exits with 4.

    \b
    ann2snn diff old_snn_pack new_snn_pack
    ann2snn diff example_net_snn_pack rtl_log.csv
    """
    from ann2snn_cli import verification

    pack, found = verification.differences(one, other)
    document = {"schema": "ann2snn/diff/1", "one": str(one), "other": str(other), **_document(pack, found)}
    emit(document, as_json, lambda: _text(document))
    return 0 if found.same else 4


def _document(pack: Pack, found: Comparison) -> dict[str, Any]:
    from ann2snn_cli.packs.diff import describe

    activity = found.activity
    first = activity.first
    return {
        "same": found.same,
        "network": found.network,
        "checked": activity.checked,
        "mismatches": activity.mismatches,
        "first": None if first is None else asdict(first) | {"text": describe(pack, first)},
    }


def _text(document: dict[str, Any]) -> str:
    counted = f"{document['checked']} values compared, {document['mismatches']} differ"
    verdict = "the same" if document["same"] else "DIFFERENT"
    title = f"{document['one']} | {document['other']}: {verdict}, {counted}"
    first = [f"first difference: {document['first']['text']}"] if document["first"] else []
    return "\n".join([title, *document["network"], *first])
