"""`ann2snn cp`: a copy of a bundled file, to edit."""

from __future__ import annotations

from pathlib import Path

import click

from ann2snn_cli.commands.options import json_option, overwrite_option
from ann2snn_cli.commands.render import emit


@click.command()
@click.argument("name")
@click.argument("folder", default=".")
@overwrite_option
@json_option
def command(name: str, folder: str, overwrite: bool, as_json: bool) -> None:
    """Copy a bundled file here, to edit it.

    NAME is what `ann2snn ls` shows: a network, config, hardware or checkpoint, such as example_net, or
    example_net.yaml where a network has the name too.

    \b
    ann2snn cp example_net .
    ann2snn cp v1 .
    """
    from ann2snn_cli import catalog

    target = catalog.copy(name, folder, overwrite)
    next_command = _next_command(target)
    document = {"schema": "ann2snn/cp/1", "file": str(target), "next": next_command}
    edit = "" if target.suffix == ".pth" else "edit it, then "
    emit(document, as_json, lambda: f"{target}\n  next: {edit}{next_command}")


def _next_command(target: Path) -> str:
    path = target if target.is_absolute() else f"./{target}"
    if target.suffix == ".py":
        return f"ann2snn train {path}"
    if target.suffix == ".pth":
        return f"ann2snn convert {target.stem.rpartition('-')[0] or 'NETWORK'} --ann_weight {path}"
    is_hardware = any(line.startswith("in_channels:") for line in target.read_text("utf-8").splitlines())
    return (
        f"ann2snn check example_net --hardware {path}" if is_hardware else f"ann2snn convert --config {path}"
    )
