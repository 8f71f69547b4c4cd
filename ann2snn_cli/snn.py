"""The converted network as a torch module: one call makes it, it runs, prints its graph, saves and loads."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ann2snn_cli import lookup, trees
from ann2snn_cli.config import KEYS, Hardware, Provenance, Schedule, Settings, chosen_delay, resolve
from ann2snn_cli.data.collect import collect
from ann2snn_cli.data.given import kind, read_samples
from ann2snn_cli.data.samples import as_floats
from ann2snn_cli.errors import UsageError, WrongKind, spelled
from ann2snn_cli.ir import show
from ann2snn_cli.ir.engine import Request, Simulation, Watch
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.ir.module import GraphModule
from ann2snn_cli.ir.run import bind_inputs
from ann2snn_cli.pipeline import Rules
from ann2snn_cli.stages import simulate as engines
from ann2snn_cli.stages.export import pth
from ann2snn_cli.types import Inputs, Loss
from ann2snn_cli.workflows import prepare
from ann2snn_cli.workflows.convert import converted, provenance_of
from ann2snn_cli.workflows.damage import warning


class DamageWarning(UserWarning):
    """The outputs of an SNN are far from those of the network it was made of."""


class SpikingNetwork(GraphModule):
    """A SPIKING graph that runs: `snn(x)` takes samples as the float network did and gives its outputs.

    Its integers are buffers, by the names of the network's layers (`ir/module.py`): `state_dict`,
    `load_state_dict` and `.to` are those of any module. T, D and the rest of the contract are in none of
    them: `save` keeps all.
    """

    def __init__(self, graph: Graph, provenance: Provenance | None = None) -> None:
        super().__init__(graph)
        self.provenance = provenance or Provenance()

    def forward(self, *samples: Any, **by_name: Any) -> Tensor | tuple[Tensor, ...]:
        """The outputs after T steps, in real numbers; a tuple if there are several.

        Samples are a tensor, a numpy array or nested lists of numbers, [samples, ...]. Several inputs are
        given as the float network takes them: in order, or by name.
        """
        x = samples[0] if len(samples) == 1 and not by_name else self._joined(samples, by_name)
        outputs = engines.simulate(self.graph, self._as_taken(x)).outputs
        return outputs[0] if len(outputs) == 1 else outputs

    def _joined(self, samples: Sequence[Any], by_name: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs of a call by their names."""
        names = [node.name for node in self.graph.inputs]
        in_order = dict(zip(names, samples, strict=False))
        is_none = not in_order and not by_name
        if is_none or len(samples) > len(names) or in_order.keys() & by_name.keys():
            raise UsageError(
                f"the network takes the inputs {', '.join(names)}, each once",
                remedy="give them in order, or by name",
            )
        return {**in_order, **by_name}

    def _as_taken(self, x: Any) -> Inputs:
        """Samples of every kind as `convert` takes them, where the network is: bytes are fractions of 255."""
        taken = read_samples(x)
        bind_inputs(self.graph, taken)
        taken = taken if self.graph.device is None else trees.to(taken, self.graph.device)
        has_bytes = any(leaf.dtype == torch.uint8 for leaf in trees.leaves(taken))
        return as_floats(taken) if has_bytes else taken

    def simulate(
        self,
        x: Any,
        *,
        delay: int | None = None,
        schedule: Schedule | str | None = None,
        by_step: bool = False,
        counts: bool = False,
        watch: Watch | None = None,
        potentials: bool = False,
        engine: str = engines.AUTO,
    ) -> Simulation:
        """The outputs, and what else is asked for; at the network's own delay unless another is given.

        Several inputs are a tuple in order or a dict by name. `by_step` asks for the outputs after each step,
        `counts` for the spike counts of every population; `watch(node, activity)` is shown the train of every
        population, and its potentials if asked for.
        """
        asked = _delay(self.graph.timing.timesteps, schedule, delay)
        request = Request(
            self._as_taken(x), asked, by_step=by_step, counts=counts, potentials=potentials, watch=watch
        )
        return engines.run(self.graph, request, engine)

    def save(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Write the `.pth` that `load` reads."""
        return pth.save(
            self.graph, self.provenance.to_plain(), _path(path), overwrite=overwrite, setting="path"
        )

    def __repr__(self) -> str:
        return show.table(self.graph).replace("Graph(SPIKING, ", "SpikingNetwork(", 1)


def load(path: Path | str) -> SpikingNetwork:
    """The network in a `.pth` that `ann2snn convert` or `SpikingNetwork.save` wrote."""
    graph, provenance = pth.load(_path(path))
    return SpikingNetwork(graph, Provenance.from_plain(provenance))


def convert(
    network: nn.Module,
    data: Any,
    *,
    hardware: Hardware | str | None = None,
    device: torch.device | str | None = None,
    loss: Loss | None = None,
    settings: Settings | None = None,
    rules: Rules | str | None = None,
    **flags: Any,
) -> SpikingNetwork:
    """A trained network and data -> SNN.

    `data` are samples x, a pair (x, labels), a list or generator of such batches, a torch Dataset, a
    DataLoader, or a dataset of `ann2snn_cli.data`; training-free unless `finetune_epochs` is given. x is a
    tensor, a numpy array or nested lists of numbers, or of a network with several inputs a dict by the names
    of its arguments, {"a": x1, "b": x2}, or in a pair a tuple in their order, ((x1, x2), labels): a pair
    (x1, x2) by itself is samples and labels. Only as many samples are kept as `calibration_samples` says,
    unless they are in memory already. Flags are those of the command line: weight_bitwidth=4, timesteps=16,
    mode="99.9%", channel_wise=True, delay=4, schedule="layerwise", ... or `settings` holds them all. `rules`
    say what an activation becomes, by its torch operator (see `ann2snn_cli/ir/rules.py`), or name a file of
    such rules.

        snn = ann2snn_cli.convert(network, x, mode="max", weight_bitwidth=8, timesteps=32)
    """
    if not isinstance(settings, Settings | None):
        raise WrongKind(
            f"the settings are of type {type(settings).__name__}",
            remedy="give a Settings, or single settings by name: convert(network, data, weight_bitwidth=4)",
        )
    if settings is not None and flags:
        raise UsageError(
            "give settings or flags, not both", remedy=f"put {', '.join(flags)} into the settings"
        )
    given = _by_dotted_name(flags)
    chosen = settings or resolve(None, [], {"finetune.epochs": 0} | given)
    samples = collect(
        data,
        samples=chosen.data.calibration_samples,
        seed=chosen.run.seed,
        epochs=chosen.finetune.epochs,
        batch_size=chosen.data.batch_size,
        task=chosen.data.task,
    )
    prepared = prepare.from_objects(
        network,
        samples,
        chosen,
        hardware=hardware,
        device=device,
        loss=loss,
        rules=rules,
        given=given,
    )
    conversion, damage = converted(prepared)
    if damage.is_large:
        warnings.warn(spelled(warning(damage)), DamageWarning, stacklevel=2)
    return SpikingNetwork(conversion.graph, provenance_of(prepared, conversion, damage))


def _path(given: Any) -> Path:
    try:
        return Path(given)
    except TypeError:
        raise WrongKind(
            f"the path is {kind(given)}", remedy="give the path of a .pth, as text or as a pathlib.Path"
        ) from None


def _by_dotted_name(flags: Mapping[str, Any]) -> dict[str, Any]:
    dotted = {key.flag: key.dotted for key in KEYS.values()}
    for flag in flags:
        if flag not in dotted:
            meant = (each for each, name in dotted.items() if name not in prepare.OF_THE_COMMAND_LINE)
            raise lookup.unknown("setting", flag, meant)
    return {dotted[flag]: value for flag, value in flags.items()}


def _delay(timesteps: int, schedule: Schedule | str | None, delay: int | None) -> int | None:
    """The delay that is asked for, by the rules of these settings; None where none is."""
    given = {"timing.timesteps": timesteps, "timing.schedule": schedule, "timing.delay": delay}
    timing = resolve(None, [], given).timing
    return chosen_delay(timesteps, timing.schedule, timing.delay)
