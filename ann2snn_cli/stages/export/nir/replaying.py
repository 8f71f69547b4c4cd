"""Replay: does an installed reader of NIR fire as the reference does? Counted, never assumed.

The readers bring their own neurons, but for nirtorch, which is given the equations of `modules.py`. snnTorch
is no reader here: what its 1.0.0 imports does not run (docs/nir.md).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ann2snn_cli.errors import Ann2SnnError, UsageError
from ann2snn_cli.ir.engine import Request, Run
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import Activity, Input, IntegrateFire
from ann2snn_cli.ir.precision import plain_arithmetic
from ann2snn_cli.ir.run import bind_inputs
from ann2snn_cli.stages.export.nir.draft import names
from ann2snn_cli.stages.export.nir.flavors import Flavor
from ann2snn_cli.stages.export.nir.library import library
from ann2snn_cli.stages.export.nir.modules import modules
from ann2snn_cli.stages.export.nir.writing import flavor_of
from ann2snn_cli.types import Inputs

Spikes = dict[str, Tensor]  # by node, [timesteps, batch, ...]


@dataclass(frozen=True)
class Agreement:
    """How the spikes of one population in a reader agree with those of the reference."""

    layer: str
    source: str
    spikes: int  # the reference's
    replayed: int  # the reader's
    agreeing: int  # of the same neuron at the same step

    @property
    def share(self) -> float:
        """The share of the spikes that one of both fired which both did; 1 if there are none."""
        either = self.spikes + self.replayed - self.agreeing
        return self.agreeing / either if either else 1.0


def readers() -> dict[str, str | None]:
    """Which readers `replay` knows, and their versions; None: not installed."""
    return {name: _version(name) for name in _READERS}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def replay(path: Path, graph: Graph, x: Inputs, engine: Run, *, reader: str | None = None) -> list[Agreement]:
    """Run a .nir that `write` made of `graph` in a reader, and compare population by population.

    `x` are samples as the network takes them. The reader is the one that the flavor is meant for unless named
    (nirtorch runs every flavor). `engine` runs ours, with a delay of 0: a reader has no other.
    """
    flavor = flavor_of(path)
    reader = _usable(reader or flavor.reader)
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise Ann2SnnError(
            "readers of NIR run one input and one output", remedy="export the branches one by one"
        )
    wanted, presented = _reference(graph, x, engine)
    own = names(graph)
    found = _run(reader, path, flavor, presented, {own[name] for name in wanted})
    return [_agreement(graph[name], wanted[name], found[own[name]]) for name in wanted]


def _usable(reader: str) -> str:
    if reader not in _READERS:
        raise UsageError(
            f"{reader!r} cannot replay a NIR file", remedy=f"choose one of {', '.join(_READERS)}"
        )
    if _version(reader) is None:
        raise Ann2SnnError(
            f"{reader} is not installed, so nothing was replayed", remedy=f"pip install {reader}"
        )
    return reader


def _reference(graph: Graph, x: Inputs, engine: Run) -> tuple[Spikes, Tensor]:
    """The spikes of every population with no delay, and the integers presented at every step."""
    parts: dict[str, list[Tensor]] = {}

    def watch(node: Node, activity: Activity) -> None:
        if isinstance(node.op, IntegrateFire):
            parts.setdefault(node.name, []).append(activity.train.double())

    engine(graph, Request(x, delay=0, watch=watch))
    (entry,) = graph.inputs
    assert isinstance(entry.op, Input)
    shown = entry.op.encode(bind_inputs(graph, x)[entry.name].double())
    presented = shown.expand(graph.timing.timesteps, *shown.shape)
    return {name: torch.cat(trains, dim=1) for name, trains in parts.items()}, presented


def _agreement(node: Node, wanted: Tensor, found: Tensor) -> Agreement:
    """Count all spikes, also of readers that fire several in a step."""
    found = found.to(wanted)
    agreeing = torch.minimum(wanted, found)
    return Agreement(node.name, node.source, *(int(train.sum()) for train in (wanted, found, agreeing)))


# Readers -------------------------------------------------------------------------------------------


def _run(reader: str, path: Path, flavor: Flavor, presented: Tensor, populations: set[str]) -> Spikes:
    graph = library().read(path)
    with warnings.catch_warnings(), torch.no_grad(), plain_arithmetic():
        warnings.simplefilter("ignore")  # the readers' own: deprecations among them
        try:
            return _READERS[reader](graph, flavor, presented, populations)
        except Exception as error:  # anything: it is their code on a file that it may not know
            raise Ann2SnnError(
                f"{reader} {_version(reader)} cannot run it: {type(error).__name__}: {error}",
                where=str(path),
                remedy="write the flavor that is meant for this reader, or replay with nirtorch 2.6 or newer",
            ) from error


class _Recorder:
    """Collects what the populations in a reader's module give, call by call."""

    def __init__(self, network: nn.Module, populations: set[str]) -> None:
        self.calls: dict[str, list[Tensor]] = {name: [] for name in populations}
        for name, calls in self.calls.items():
            network.get_submodule(name).register_forward_hook(_keep(calls))

    def trains(self) -> Spikes:
        """[calls, ...] by population."""
        return {name: torch.stack(calls) for name, calls in self.calls.items()}


def _keep(calls: list[Tensor]) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        calls.append(output[0] if isinstance(output, tuple) else output)  # (spikes, state)

    return hook


def _step_by_step(network: nn.Module, presented: Tensor, populations: set[str]) -> Spikes:
    recorder = _Recorder(network, populations)
    state = None
    for now in presented:
        _, state = network(now, state)
    return recorder.trains()


def _nirtorch(graph: Any, flavor: Flavor, presented: Tensor, populations: set[str]) -> Spikes:
    """Run in float64, which holds every integer of a network that was verified."""
    known = {getattr(library(), kind): module for kind, module in modules(flavor).items()}
    network = import_module("nirtorch").nir_to_torch(graph, known, dtype=torch.float64)
    return _step_by_step(network, presented, populations)


def _spikingjelly(graph: Any, flavor: Flavor, presented: Tensor, populations: set[str]) -> Spikes:
    exchange = import_module("spikingjelly.activation_based.nir_exchange")
    network = exchange.import_from_nir(graph, dt=1 / flavor.resistance)
    return _step_by_step(network, presented.float(), populations)


def _norse(graph: Any, flavor: Flavor, presented: Tensor, populations: set[str]) -> Spikes:
    """Sample by sample: its Flatten joins the batch too."""
    parts = []
    for sample in presented.float().unbind(1):
        network = import_module("norse.torch").from_nir(graph)
        parts.append(_step_by_step(network, sample, populations))
    return {name: torch.stack([part[name] for part in parts], dim=1) for name in populations}


def _sinabs(graph: Any, flavor: Flavor, presented: Tensor, populations: set[str]) -> Spikes:
    """All steps in one call, laid into the batch."""
    steps, batch = presented.shape[:2]
    network = import_module("sinabs.nir").from_nir(graph, batch_size=batch)
    recorder = _Recorder(network, populations)
    network(presented.float().transpose(0, 1).flatten(0, 1))
    return {
        name: train[0].reshape(batch, steps, *train.shape[2:]).transpose(0, 1)
        for name, train in recorder.trains().items()
    }


_READERS: dict[str, Callable[[Any, Flavor, Tensor, set[str]], Spikes]] = {
    "nirtorch": _nirtorch,
    "sinabs": _sinabs,
    "spikingjelly": _spikingjelly,
    "norse": _norse,
}
