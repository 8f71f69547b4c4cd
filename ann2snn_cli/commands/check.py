"""`ann2snn check`: every limit of a chip that a network breaks, before any training."""

from __future__ import annotations

from typing import Any

import click

from ann2snn_cli.commands.options import json_option, settings_options
from ann2snn_cli.commands.render import emit
from ann2snn_cli.commands.verdicts import plain_verdict, verdict_table, violation_list
from ann2snn_cli.config import Settings

USUAL = "v1"  # what a network that names no hardware is checked against


@click.command()
@settings_options("network", "rules", "data", "fold", "quantize", "threshold", "check", "run")
@json_option
def command(settings: Settings, as_json: bool) -> int:
    """List every limit of a chip that a network breaks.

    Each comes with its remedies; the exit code is 3 if there is any. Shapes decide: nothing is trained, no
    weights are needed. The hardware is the network's own, else v1.

    \b
    ann2snn check example_net
    ann2snn check vgg16 --hardware v1 --weight_bitwidth 2
    """
    from ann2snn_cli import catalog, pipeline
    from ann2snn_cli.commands.bench import plan
    from ann2snn_cli.errors import UsageError
    from ann2snn_cli.stages import check

    planned = plan(settings, usual_hardware=USUAL)
    hardware = planned.hardware
    if hardware is None:
        raise UsageError("no hardware is named", remedy="name one: --hardware v1 (ann2snn ls hardware)")
    settings = planned.settings
    graph = pipeline.prepare(
        planned.network,
        planned.input_shape,
        settings,
        pipeline.pooling_of(settings, hardware),
        rules=catalog.load_rules(settings.rules),
    )
    verdicts = check.check(graph, hardware, settings.quantize.weight_bitwidth)
    broken = check.violations(verdicts, settings.check.allow)
    document = {
        "schema": "ann2snn/check/1",
        "network": planned.spec.name,
        "input_shape": list(planned.input_shape),
        "weight_bitwidth": settings.quantize.weight_bitwidth,
        "hardware": {
            "name": hardware.name,
            "ok": not broken,
            "violations": [plain_verdict(verdict) for verdict in broken],
            "verdicts": [plain_verdict(verdict) for verdict in verdicts],
        },
    }
    emit(document, as_json, lambda: _text(document))
    return 3 if broken else 0


def _text(document: dict[str, Any]) -> str:
    hardware = document["hardware"]
    shape = "x".join(map(str, document["input_shape"]))
    title = (
        f"{document['network']} ({shape}, {document['weight_bitwidth']}-bit weights) "
        f"on hardware {hardware['name']}: "
    )
    broken = hardware["violations"]
    title += "fits" if not broken else f"{len(broken)} violation{'s' * (len(broken) > 1)}"
    parts = [title, verdict_table(hardware["verdicts"])]
    return "\n\n".join([*parts, violation_list(broken)] if broken else parts)
