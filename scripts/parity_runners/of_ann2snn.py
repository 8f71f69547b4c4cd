"""Ours, as README.md says: convert(network, data, ...), snn(x)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from torch import nn

import ann2snn_cli
from ann2snn_cli.ir.ops import IntegrateFire
from parity_runners import oracle
from parity_runners.rows import Row

PACKAGE, DATA = "ann2snn_cli", "pairs"


def converted(network: nn.Module, data: Any, row: Row) -> Any:
    """Weights of 8 bits unless the row asks for another number."""
    settings: dict[str, Any] = {"mode": row.mode, "timesteps": row.timesteps, "weight_bitwidth": row.bits}
    if row.transformer:
        settings["method"] = "td"
    if row.timesteps < oracle.MANY:  # what so few steps can say is wanted, not what is nearest to the floats
        settings["bias_correction"] = False
    return ann2snn_cli.convert(network, data, **settings)


def run(snn: Any, x: tuple[Any, ...], row: Row) -> tuple[Any, int]:
    """At D = 0, like the others: all layers at every step."""
    return snn(*x), sum(isinstance(node.op, IntegrateFire) for node in snn.graph.nodes)


def lossless(snn: Any, x: tuple[Any, ...]) -> Any:
    """At D = T."""
    return snn.simulate(x if len(x) > 1 else x[0], schedule="layerwise").outputs


def through_a_file(snn: Any, row: Row) -> Any:
    """`save` and `load`."""
    with tempfile.TemporaryDirectory() as place:
        return ann2snn_cli.load(snn.save(Path(place) / "mine_snn.pth"))
