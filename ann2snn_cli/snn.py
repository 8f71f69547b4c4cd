"""The converted network as a torch module: one call makes it, it runs, prints its graph, saves and loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ann2snn_cli import catalog, pipeline
from ann2snn_cli.config import KEYS, Hardware, Settings, load_hardware, resolve
from ann2snn_cli.data.samples import Data, from_tensors
from ann2snn_cli.errors import UsageError
from ann2snn_cli.ir import show
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.ir.run import Inputs
from ann2snn_cli.stages.export import pth
from ann2snn_cli.stages.simulate import Simulation, simulate
from ann2snn_cli.types import Loss


class SpikingNetwork(nn.Module):
    """A SPIKING graph that runs: `snn(x)` takes samples as the float network did and gives its outputs."""

    def __init__(self, graph: Graph, provenance: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.graph = graph
        self.provenance = provenance or {}

    def forward(self, x: Inputs) -> Tensor | tuple[Tensor, ...]:
        """The outputs after T steps, in real numbers; a tuple if there are several."""
        outputs = self.simulate(x).outputs
        return outputs[0] if len(outputs) == 1 else outputs

    def simulate(self, x: Inputs, *, schedule: str | None = None, watch: Any = None) -> Simulation:
        """The outputs after every step; `watch(node, activity)` is shown what every population does."""
        return simulate(self.graph, x, schedule=schedule, watch=watch)

    def save(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Write the `.pth` that `load` reads."""
        return pth.save(self.graph, self.provenance, Path(path), overwrite=overwrite)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SpikingNetwork:
        """Follow `.to(device)`. `.half()` and the like change nothing: these numbers are exact or wrong."""
        self.graph = self.graph.to(fn(torch.zeros(())).device)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def __repr__(self) -> str:
        columns = list(zip(show.HEADERS, *show.rows(self.graph), strict=True))
        widths = [max(map(len, column)) for column in columns]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in zip(*columns, strict=True)
        ]
        return "\n".join([f"SpikingNetwork({self.graph.timing})", *lines])


def load(path: Path | str) -> SpikingNetwork:
    """The network in a `.pth` that `ann2snn convert` or `SpikingNetwork.save` wrote."""
    return SpikingNetwork(*pth.load(Path(path)))


def convert(
    network: nn.Module,
    data: pipeline.Samples | Tensor | tuple[Tensor, Tensor],
    *,
    hardware: Hardware | str | None = None,
    device: torch.device | str = "cpu",
    loss: Loss | None = None,
    settings: Settings | None = None,
    **flags: Any,
) -> SpikingNetwork:
    """A trained network and data -> SNN.

    `data` are samples (x, or x and labels) or a dataset of `ann2snn_cli.data`; training-free unless
    `finetune_epochs` is given. Flags are those of the command line: weight_bitwidth=4, timesteps=16,
    mode="99.9%", channel_wise=True, schedule="layerwise", ...

        snn = ann2snn_cli.convert(network, x, mode="max", weight_bitwidth=8, timesteps=32)
    """
    chosen = settings or resolve(None, [], {"finetune.epochs": 0} | _by_dotted_name(flags))
    if settings is not None and flags:
        raise UsageError(
            "give settings or flags, not both", remedy=f"put {', '.join(flags)} into the settings"
        )
    limits = load_hardware(catalog.hardware_file(hardware)) if isinstance(hardware, str) else hardware
    samples = _dataset(data)
    network = network.to(device)
    task = samples.task if isinstance(samples, Data) else "classification"
    conversion = pipeline.convert(
        network, samples, chosen, hardware=limits, device=device, loss=loss, task=task
    )
    return SpikingNetwork(conversion.graph, {"notes": list(conversion.notes)})


def _by_dotted_name(flags: dict[str, Any]) -> dict[str, Any]:
    dotted = {key.flag: key.dotted for key in KEYS.values()}
    if unknown := [flag for flag in flags if flag not in dotted]:
        raise UsageError(
            f"unknown setting: {', '.join(unknown)}", remedy=f"there is: {', '.join(sorted(dotted))}"
        )
    return {dotted[flag]: value for flag, value in flags.items()}


def _dataset(data: pipeline.Samples | Tensor | tuple[Tensor, Tensor]) -> pipeline.Samples:
    if isinstance(data, Tensor):
        data = (data, torch.zeros(len(data), dtype=torch.int64))
    return from_tensors("samples", data, data) if isinstance(data, tuple) else data
