"""The converted network as a torch module: one call makes it, it runs, prints its graph, saves and loads."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ann2snn_cli import lookup, trees
from ann2snn_cli.config import KEYS, Hardware, Provenance, Schedule, Settings, chosen_delay, resolve
from ann2snn_cli.data.given import kind, read_samples
from ann2snn_cli.data.samples import as_floats
from ann2snn_cli.errors import UsageError, WrongKind, spelled
from ann2snn_cli.ir import show
from ann2snn_cli.ir.contract import Encoding
from ann2snn_cli.ir.encoding import encoded, encoding_of, reencoded, step_by_step
from ann2snn_cli.ir.engine import Request, Simulation, Watch
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.ir.module import GraphModule
from ann2snn_cli.ir.run import bind_inputs
from ann2snn_cli.pipeline import Rules
from ann2snn_cli.stages import simulate as engines
from ann2snn_cli.stages.export import pth
from ann2snn_cli.stages.simulate import stepping
from ann2snn_cli.types import Inputs, Loss, Outputs
from ann2snn_cli.workflows import prepare
from ann2snn_cli.workflows.convert import converted, provenance_of
from ann2snn_cli.workflows.damage import warning

if TYPE_CHECKING:
    from ann2snn_cli.stages.simulate.exported import Programs


class DamageWarning(UserWarning):
    """The outputs of an SNN are far from those of the network it was made of."""


class SpikingNetwork(GraphModule):
    """A SPIKING graph that runs: `snn(x)` takes samples as the float network did and gives its outputs.

    Its integers are buffers, by the names of the network's layers (`ir/module.py`): `state_dict`,
    `load_state_dict` and `.to` are those of any module. T, D and the rest of the contract are in none of
    them: `save` keeps all.
    """

    provenance = Provenance()

    def __init__(self, graph: Graph, provenance: Provenance | None = None) -> None:
        super().__init__(graph)
        self.provenance = provenance or Provenance()
        self._state = stepping.State()

    def forward(self, *samples: Any, **by_name: Any) -> Tensor | tuple[Tensor, ...]:
        """The outputs after T steps, in real numbers; a tuple if there are several.

        Samples are a tensor, a numpy array or nested lists of numbers, [samples, ...]. Several inputs are
        given as the float network takes them: in order, or by name.
        """
        graph = self.graph
        return _one_or_all(engines.simulate(graph, _as_taken(graph, self._given(samples, by_name))).outputs)

    def step(self, *samples: Any, **by_name: Any) -> Tensor | tuple[Tensor, ...]:
        """One time step: `samples` are what is shown in it, [samples, ...], as in a call.

        Gives the outputs so far: after t steps since `reset`, what was passed on in all of them, times its
        unit, by t. After T steps of the same samples that is `snn(samples)`, bit for bit where there are no
        real numbers. There may be more than T steps, and other samples may be shown in each. Needs D = 0.
        """
        graph = step_by_step(self.graph)
        given = bind_inputs(graph, _as_taken(graph, self._given(samples, by_name)))
        outputs, self._state = stepping.step(graph, given, self._state.to(graph.device))
        return _one_or_all(outputs)

    def reset(self, state: Mapping[str, Any] | None = None) -> None:
        """Begin anew: the next step is the first. With an earlier `state`: go on after it."""
        self._state = (
            stepping.State() if state is None else stepping.from_plain(state, step_by_step(self.graph))
        )

    @property
    def state(self) -> dict[str, Any]:
        """What is held after the last step: {"format", "step": t, "nodes": {node: {name: [samples, ...]}}}.

        Of a population its `potential` and its `count` of spikes, of a read-out its `count`, the potential
        that it never resets. A copy, for `torch.save`; `torch.load` reads it by its safe default.
        """
        return self._state.to_plain()

    def export_step(self) -> Programs:
        """One step for `torch.export.save`: the first, and any later one; they run without ann2snn.

            first, later = (program.module() for program in snn.export_step())
            outputs, state = first({"input": x}, {})
            outputs, state = later({"input": x}, state)

        `outputs` are added up over the steps: divided by their number they are those of `step`. Needs D = 0.
        Samples are in float32, and as many in `later` as in the state; anew begins whoever calls `first`.
        """
        from ann2snn_cli.stages.simulate import exported  # torch.export takes a second to import

        graph = step_by_step(self.graph)
        if encoding_of(self.graph) is Encoding.POISSON:
            raise UsageError(
                "every step draws other spikes from its samples, and an exported step knows no number",
                remedy="convert with the encoding direct, and give spikes as samples: later(spikes, state)",
            )
        return exported.programs(graph)

    def sequence(self, x: Any, **asked: Any) -> Simulation:
        """What is shown changes from step to step: x is [T, samples, ...], of several inputs each is.

        Any delay will do. What is asked for is that of `simulate`: delay, by_step, counts, watch, ...
        """
        if encoding_of(self.graph) is Encoding.POISSON:
            raise UsageError(
                "the SNN draws its spikes from images, and a sequence is what is shown itself",
                remedy="show the images step by step: snn.step(x[t])",
            )
        given = bind_inputs(encoded(self.graph, Encoding.FRAMES), read_samples(x), time_first=True)
        frames = {name: leaf.movedim(0, 1) for name, leaf in given.items()}
        return self.simulate(frames, encoding=Encoding.FRAMES, **asked)

    def _given(self, samples: Sequence[Any], by_name: Mapping[str, Any]) -> Any:
        """The inputs of a call: one, or several by their names."""
        return samples[0] if len(samples) == 1 and not by_name else self._joined(samples, by_name)

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
        encoding: Encoding | str | None = None,
        seed: int | None = None,
    ) -> Simulation:
        """The outputs, and what else is asked for; at the network's own delay unless another is given.

        `encoding` says how x is shown unless as the network was converted for: "direct", the same at every
        step; "poisson", as spikes by chance, which `seed` changes; "frames", x is [samples, T, ...].

        Several inputs are a tuple in order or a dict by name. `by_step` asks for the outputs after each step,
        `counts` for the spike counts of every population; `watch(node, activity)` is shown the train of every
        population, and its potentials if asked for.
        """
        if watch is not None and not callable(watch):
            raise TypeError(f"watch is a function of a node and its activity, not a {type(watch).__name__}")
        graph = _encoded(self.graph, encoding, seed)
        chosen = _delay(graph.timing.timesteps, schedule, delay)
        request = Request(
            _as_taken(graph, x), chosen, by_step=by_step, counts=counts, watch=watch, potentials=potentials
        )
        return engines.run(graph, request, engine)

    def save(self, path: Path | str, *, overwrite: bool = False) -> Path:
        """Write the `.pth` that `load` reads."""
        return pth.save(
            self.graph, self.provenance.to_plain(), _path(path), overwrite=overwrite, setting="path"
        )

    def __repr__(self) -> str:
        return show.table(self.graph).replace("Graph(SPIKING, ", "SpikingNetwork(", 1)


def _as_taken(graph: Graph, x: Any) -> Inputs:
    """Samples of every kind as `convert` takes them, where the network is: bytes are fractions of 255."""
    taken = read_samples(x)
    bind_inputs(graph, taken)
    taken = taken if graph.device is None else trees.to(taken, graph.device)
    has_bytes = any(leaf.dtype == torch.uint8 for leaf in trees.leaves(taken))
    return as_floats(taken) if has_bytes else taken


def _encoded(graph: Graph, encoding: Encoding | str | None, seed: int | None) -> Graph:
    """As it is asked for, by the rules of these settings."""
    settings = resolve(None, [], {"timing.encoding": encoding} | ({} if seed is None else {"run.seed": seed}))
    return reencoded(graph, settings.timing.encoding, None if seed is None else settings.run.seed)


def _one_or_all(outputs: Outputs) -> Tensor | tuple[Tensor, ...]:
    return outputs[0] if len(outputs) == 1 else outputs


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
    say what an activation becomes, by its torch operator, and by the keys "clip" and "neuron" what its
    largest value is and which neurons take its place (docs/rules.md), or name a file of such rules.

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
    samples = prepare.collected(data, chosen)
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
