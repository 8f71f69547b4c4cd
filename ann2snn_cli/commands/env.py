"""`ann2snn env`: what a bug report should begin with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from ann2snn_cli.commands.options import json_option
from ann2snn_cli.commands.render import emit
from ann2snn_cli.version import tool_version

PACKAGES = ("torch", "torchvision", "numpy", "onnx", "click")


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Print versions and devices, ready to paste into a report."""
    from ann2snn_cli import devices

    machine = devices.describe()
    facts = {"ann2snn": tool_version(), "python": platform.python_version(), "platform": platform.platform()}
    facts |= {name: _version(name) for name in PACKAGES}
    document = {"schema": "ann2snn/env/1", **facts, "devices": machine}
    emit(document, as_json, lambda: _text(facts | {"devices": _devices(machine)}))


def _text(facts: dict[str, str]) -> str:
    width = max(map(len, facts))
    return "\n".join(f"{name.ljust(width)}  {fact}" for name, fact in facts.items())


def _devices(machine: dict[str, Any]) -> str:
    """Such as `cpu (16 threads), cuda:0 NVIDIA H200 (143771 MiB); auto takes cuda:0`."""
    gpus = [f"{gpu['device']} {gpu['name']} ({gpu['memory_mib']} MiB)" for gpu in machine["gpus"]]
    present = ", ".join([f"cpu ({machine['cpu_threads']} threads)", *gpus])
    return f"{present}; auto takes {machine['auto']}; CUDA of torch: {machine['cuda'] or 'none'}"


def _version(package: str) -> str:
    """Tell the version installed, without the seconds an import would take."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"
