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

    Of a converted one also, for every population and read-out, the lowest and the highest potential that any
    input can bring about and the bits of a register that holds both, proved from the weights.

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
        return f"{title}: level {graph.level.name}, {counts}\n\n{_table(graph)}"

    emit(document, as_json, text)


def _table(graph: Any) -> str:
    from ann2snn_cli.ir import show
    from ann2snn_cli.ir.graph import Level
    from ann2snn_cli.ir.registers import registers

    if graph.level != Level.SPIKING:
        return table(show.HEADERS, show.rows(graph))
    return table(show.REGISTER_HEADERS, show.rows_with_registers(graph, registers(graph)))


def _snn(settings: Settings) -> tuple[str, Any, dict[str, Any]]:
    from dataclasses import asdict
    from pathlib import Path

    from ann2snn_cli.ir.registers import registers
    from ann2snn_cli.stages.export import pth

    graph, provenance = pth.load(Path(settings.network))
    contract = graph.timing.to_plain()
    title = f"{settings.network} ({', '.join(f'{name} {value}' for name, value in contract.items())})"
    held = [asdict(register) for register in registers(graph)]
    return title, graph, {"contract": contract, "provenance": provenance, "registers": held}


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
