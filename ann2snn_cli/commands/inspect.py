"""`ann2snn inspect`: the graph of a network, or of a converted network, as a table."""

from __future__ import annotations

from typing import Any

import click

from ann2snn_cli.commands.options import json_option, settings_options
from ann2snn_cli.commands.render import emit, table
from ann2snn_cli.config import Settings


@click.command()
@settings_options("network", "data", "fold", "check", "threshold", "run")
@json_option
def command(settings: Settings, as_json: bool) -> None:
    """Show the graph of a network or of a converted network.

    \b
    ann2snn inspect resnet20
    ann2snn inspect example_net_snn.pth
    """
    from ann2snn_cli.ir import show

    title, graph, facts = _snn(settings) if settings.network.endswith(".pth") else _network(settings)
    nodes = [dict(zip(show.HEADERS, row, strict=True)) for row in show.rows(graph)]
    document = {
        "schema": "ann2snn/inspect/1",
        "level": graph.level.name,
        "parameters": show.parameters(graph),
        "neurons": show.neurons(graph),
        **facts,
        "nodes": nodes,
    }

    def text() -> str:
        counts = f"{document['parameters']} weights, {document['neurons']} neurons"
        return f"{title}: level {graph.level.name}, {counts}\n\n{table(show.HEADERS, show.rows(graph))}"

    emit(document, as_json, text)


def _snn(settings: Settings) -> tuple[str, Any, dict[str, Any]]:
    from dataclasses import asdict
    from pathlib import Path

    from ann2snn_cli.stages.export import pth

    graph, provenance = pth.load(Path(settings.network))
    contract = asdict(graph.timing)
    title = f"{settings.network} ({', '.join(f'{name} {value}' for name, value in contract.items())})"
    return title, graph, {"contract": contract, "provenance": provenance}


def _network(settings: Settings) -> tuple[str, Any, dict[str, Any]]:
    from ann2snn_cli import pipeline
    from ann2snn_cli.commands.bench import plan

    planned = plan(settings)
    pooling = pipeline.pooling_of(planned.settings, planned.hardware)
    return (
        planned.spec.name,
        pipeline.prepare(planned.network, planned.input_shape, planned.settings, pooling),
        {},
    )
