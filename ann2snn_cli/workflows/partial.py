"""Partial: some layers of a network become spiking, the rest stays as it is.

The network is traced and split in three (`ir/split.py`). While it is trained, the part runs as its integers
will, with gradients passed through every rounding, and the rest in real numbers, in eval mode. Then the part
becomes an SNN, and the mixed network runs that between the same rest.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ann2snn_cli import pipeline, trees
from ann2snn_cli.config import Provenance, as_dict
from ann2snn_cli.errors import UsageError
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.ir.integers import integers
from ann2snn_cli.ir.module import GraphModule
from ann2snn_cli.ir.precision import plain_arithmetic
from ann2snn_cli.ir.run import bind_inputs, run, run_counts
from ann2snn_cli.ir.split import Split, split
from ann2snn_cli.stages import simulate as engines
from ann2snn_cli.stages.export import pack as vector_pack
from ann2snn_cli.stages.export import pth, replacement
from ann2snn_cli.stages.quantize.finetune import Finetuning, Training
from ann2snn_cli.stages.trace import reading, trace
from ann2snn_cli.tasks import Task, task_named
from ann2snn_cli.types import Batch, Inputs, InputShapes, Outputs
from ann2snn_cli.version import tool
from ann2snn_cli.workflows import pack
from ann2snn_cli.workflows.pack import PackRequest
from ann2snn_cli.workflows.prepare import Prepared
from ann2snn_cli.workflows.report import SILENT, Progress
from ann2snn_cli.workflows.saved import origin

Values = Mapping[str, Tensor]  # by the name of the node that gave them

SNN_FILE = "part_snn.pth"


class Rest(nn.Module):
    """A FLOAT graph that runs on values by name, and learns the parameters in it."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, values: Values) -> dict[str, Tensor]:
        """The outputs by name."""
        given = {node.name: values[node.name] for node in self.graph.inputs}
        return dict(zip(self.graph.outputs, run(self.graph, given), strict=True))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Rest:
        """Follow `.to(device)`."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.graph = self.graph.to(fn(torch.zeros(())).device)
        return self


class Around(nn.Module):
    """A network whose part runs in a way of its own; outputs have the form that the network gives them."""

    def __init__(self, pieces: Split, form: pytree.TreeSpec | None) -> None:
        super().__init__()
        self.before, self.after = Rest(pieces.before), Rest(pieces.after)
        self.part_inputs = tuple(node.name for node in pieces.part.inputs)
        self.part_outputs = pieces.part.outputs
        self.form = form  # of what the network gives; None: a tuple

    def part(self, x: Values) -> Outputs:
        """What the part makes of the values it reads."""
        raise NotImplementedError

    def forward(self, *samples: Any, **by_name: Any) -> Any:
        """What the network gives for samples, given as the network takes them."""
        outputs = self.outputs(
            samples[0] if len(samples) == 1 and not by_name else self._by_name(samples, by_name)
        )
        if self.form is not None:
            return pytree.tree_unflatten(list(outputs), self.form)
        return outputs[0] if len(outputs) == 1 else outputs

    def outputs(self, x: Inputs) -> Outputs:
        """The outputs as a tuple, whatever the network's own form."""
        device = self.before.graph.device
        given = bind_inputs(self.before.graph, x if device is None else trees.to(x, device))
        values = dict(self.before(given))
        found = self.part({name: values[name] for name in self.part_inputs})
        values |= {name: value.float() for name, value in zip(self.part_outputs, found, strict=True)}
        after = self.after(values)
        return tuple(after[name] for name in self.after.graph.outputs)

    def _by_name(self, samples: Sequence[Any], by_name: Mapping[str, Any]) -> dict[str, Any]:
        names = [node.name for node in self.before.graph.inputs]
        return {**dict(zip(names, samples, strict=False)), **by_name}


class MixedNetwork(Around):
    """A network of which a part is an SNN: what `SNNTransformer.generate_ann_snn` returns."""

    def __init__(
        self,
        pieces: Split,
        form: pytree.TreeSpec | None,
        graph: Graph,
        provenance: Provenance,
        engine: str = engines.AUTO,
    ) -> None:
        super().__init__(pieces, form)
        self.snn = GraphModule(graph)
        self.provenance = provenance
        self.engine = engine

    @property
    def graph(self) -> Graph:
        """The SPIKING graph of the part."""
        return self.snn.graph

    def part(self, x: Values) -> Outputs:
        """The SNN, at its own delay."""
        given = {name: value.detach() for name, value in x.items()}
        return engines.simulate(self.graph, given, engine=self.engine).outputs


@dataclass(frozen=True, eq=False)
class PartSamples:
    """A dataset as the part sees it: what comes before the part makes its samples."""

    data: pipeline.Samples
    around: Around
    is_end: bool  # does the part give the outputs of the whole?

    @property
    def input_shapes(self) -> InputShapes:
        """Of what the part reads, by name."""
        shapes = {node.name: node.shape for node in self.around.before.graph}
        return {name: shapes[name] for name in self.around.part_inputs}

    @property
    def task(self) -> str | Task:
        """That of the data; labels say nothing of a part whose outputs are not those of the whole."""
        return self.data.task if self.is_end else WITHOUT_PREDICTION

    def train_batches(self, batch_size: int, seed: int, epoch: int, num_workers: int = 0) -> Iterator[Batch]:
        """The training split once."""
        return self._seen(self.data.train_batches(batch_size, seed, epoch, num_workers))

    def test_batches(self, batch_size: int, num_workers: int = 0) -> Iterator[Batch]:
        """The test split once."""
        return self._seen(self.data.test_batches(batch_size, num_workers))

    def calibration_batches(
        self, samples: int, batch_size: int, seed: int, num_workers: int = 0
    ) -> Iterator[Batch]:
        """Some training samples."""
        return self._seen(self.data.calibration_batches(samples, batch_size, seed, num_workers))

    def _seen(self, batches: Any) -> Iterator[Batch]:
        before = self.around.before
        device = before.graph.device or "cpu"
        for x, labels in batches:
            with torch.no_grad():
                values = before(bind_inputs(before.graph, trees.to(x, device)))
            yield {name: values[name].cpu() for name in self.around.part_inputs}, labels


class PartialNetwork(Around):
    """A network of which a part runs quantized: made to be trained, and then to become an SNN."""

    def __init__(self, prepared: Prepared, layers: Sequence[str]) -> None:
        shapes, rules = prepared.data.input_shapes, prepared.rules
        self._check_layers(layers)
        graph = trace(prepared.network, shapes, rules=rules)
        learned = _learned(prepared.network, graph)
        pieces = split(graph.map_tensors(lambda each: learned.by_place.get(_place(each), each)), layers)
        super().__init__(pieces, _form(prepared, len(graph.outputs)))
        self.layers, self.settings, self.prepared, self.pieces = (
            tuple(layers),
            prepared.settings,
            prepared,
            pieces,
        )
        self.rest = nn.ParameterDict(learned.within(pieces))
        self.to(prepared.device)
        self.samples = PartSamples(prepared.data, self, pieces.is_whole)
        self._biases = pipeline.quantized(self._folded(), self.samples, self.settings, device=prepared.device)
        recipe = self.settings.finetune
        self.quantized = Training(
            self._biases.for_rounding(), Finetuning(1, recipe.lr, recipe.momentum, recipe.wd)
        )
        self.learned = nn.ParameterDict({_key(name): leaf for name, leaf in self.quantized.leaves.items()})
        self.optimizer = self.quantized.optimizer
        if len(self.rest):
            self.optimizer.add_param_group(
                {"params": list(self.rest.parameters()), "weight_decay": recipe.wd}
            )
        self._start = {name: leaf.detach().clone() for name, leaf in self.named_parameters()}

    @staticmethod
    def _check_layers(layers: Any) -> None:
        if isinstance(layers, str) or not all(isinstance(each, str) for each in layers):
            raise UsageError(
                f"the layers are {layers!r}",
                remedy="give a list of names, as in ['backbone.*', 'neck.conv1']",
            )

    def _folded(self) -> Graph:
        hardware, settings = self.prepared.hardware, self.settings
        folded = pipeline.folded(
            self.pieces.part.map_tensors(Tensor.detach),
            settings,
            pipeline.pooling_of(settings, hardware),
            rules=self.prepared.rules,
        )
        if hardware is not None:
            verdicts = pipeline.checked(folded, hardware, settings)
            pipeline.refuse_violations(verdicts, hardware, settings.check.allow)
        return folded

    def part(self, x: Values) -> Outputs:
        """The integers of the part, in closed form; exact in eval mode, in float32 while it is trained."""
        to = Tensor.float if self.training else Tensor.double
        with plain_arithmetic():
            return run_counts(
                integers(self.quantized.graph(detach=False)), {name: to(value) for name, value in x.items()}
            )

    def generate_ann_snn(self) -> MixedNetwork:
        """The network with the part as an SNN and the rest as it is now: a module that only runs."""
        graph = self.spiking()
        pieces = copy.deepcopy(replace(self.pieces, before=self.before.graph, after=self.after.graph))
        engine = self.settings.run.engine
        mixed = MixedNetwork(_frozen(pieces), self.form, graph, self._provenance(), engine).eval()
        return mixed.to(self.before.graph.device or "cpu")

    def spiking(self) -> Graph:
        """The SNN of the part as it is now, with biases for its delay."""
        biases = self._biases
        if self._is_trained():
            x = trees.to(pipeline.some_samples(self.samples, self.settings), self.prepared.device)
            biases = replace(biases.trained(self.quantized.graph()), x=x)
        return pipeline.set_weights_and_thresholds(biases.for_delay(self.settings.timing.firing_delay))

    def _is_trained(self) -> bool:
        now = dict(self.named_parameters())
        return any(
            not torch.equal(start.to(now[name].device), now[name]) for name, start in self._start.items()
        )

    def save_snn(
        self,
        directory: Path | str,
        *,
        vectors: int = 10,
        overwrite: bool = False,
        progress: Progress = SILENT,
    ) -> Path:
        """Write the SNN of the part, `part_snn.pth`, and its input test cases, the pack `part_snn_pack/`.

        The cases are what the part reads of the first `vectors` test samples, and corner cases. An SNN that
        no pack can hold, as one with real numbers in it, is refused.
        """
        path = Path(directory) / SNN_FILE
        graph = self.spiking()
        vector_pack.refuse(graph)
        self.save(graph, path, vectors=vectors, overwrite=overwrite, progress=progress)
        return path

    def save(
        self, graph: Graph, path: Path, *, vectors: int, overwrite: bool = False, progress: Progress = SILENT
    ) -> None:
        """Write this SNN of the part and, for some `vectors`, its pack beside it: NAME.pth and NAME_pack/."""
        folder, provenance = path.with_name(f"{path.stem}_pack"), self._provenance()
        if vectors:
            replacement.refuse_loss_in(folder, overwrite=overwrite)
        pth.save(graph, provenance.to_plain(), path, overwrite=overwrite)
        if not vectors:
            return
        pack.write_pack(
            graph,
            self.samples.test_batches(self.settings.data.test_batch_size),
            task_named(self.samples.task),
            folder,
            PackRequest(vectors, origin=origin(provenance, provenance.dataset)),
            progress,
            overwrite=overwrite,
        )

    def _provenance(self) -> Provenance:
        return Provenance(
            network=self.prepared.name,
            dataset=self.prepared.dataset,
            settings=as_dict(self.settings),
            notes=(f"a part of the network: {', '.join(self.layers)}",),
            tool=tool(),
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PartialNetwork:
        """Follow `.to(device)`."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if "quantized" in vars(self):
            self.quantized.start = self.quantized.start.to(fn(torch.zeros(())).device)
        return self


# Parameters of the rest ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Learned:
    """Copies of the parameters of a network, by the place in memory of the original, and their names."""

    by_place: Mapping[Any, nn.Parameter]
    names: Mapping[int, str]  # by id of the copy

    def within(self, pieces: Split) -> dict[str, nn.Parameter]:
        """Those that the rest reads."""
        found: dict[str, nn.Parameter] = {}

        def note(tensor: Tensor) -> Tensor:
            if isinstance(tensor, nn.Parameter):
                found[_key(self.names[id(tensor)])] = tensor
            return tensor

        for graph in (pieces.before, pieces.after):
            graph.map_tensors(note)
        return found


def _learned(network: nn.Module, graph: Graph) -> _Learned:
    copies = {
        name: nn.Parameter(each.detach().clone(), requires_grad=each.requires_grad)
        for name, each in network.named_parameters()
        if each.is_floating_point()
    }
    places = {name: _place(each) for name, each in network.named_parameters()}
    return _Learned(
        {places[name]: each for name, each in copies.items()},
        {id(each): name for name, each in copies.items()},
    )


def _place(tensor: Tensor) -> Any:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def _key(name: str) -> str:
    """A name as torch takes it in a ParameterDict."""
    return name.replace(".", "/")


def _frozen(pieces: Split) -> Split:
    """With plain tensors in the place of parameters."""

    def plain(tensor: Tensor) -> Tensor:
        return tensor.detach()

    return Split(*(each.map_tensors(plain) for each in (pieces.before, pieces.part, pieces.after)))


# The form of what a network gives ------------------------------------------------------------------


def _form(prepared: Prepared, outputs: int) -> pytree.TreeSpec | None:
    """How the network's outputs are nested, where all of them follow from its inputs."""
    batch = next(iter(prepared.data.calibration_batches(1, 1, prepared.settings.run.seed)))
    network = prepared.network
    with torch.no_grad(), reading(network):
        arguments = trees.as_taken(network, batch[0])
        given = network(**arguments) if isinstance(arguments, Mapping) else network(*arguments)
    leaves, form = pytree.tree_flatten(given)
    return form if len(leaves) == outputs and all(isinstance(each, Tensor) for each in leaves) else None


class _WithoutPrediction:
    """The task of a part in the midst of a network: its outputs predict nothing."""

    name = "none"

    def prediction(self, outputs: Outputs) -> Tensor | None:
        """None."""
        return None


WITHOUT_PREDICTION: Any = _WithoutPrediction()
