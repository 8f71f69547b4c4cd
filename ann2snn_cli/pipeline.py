"""START HERE: the stages in order, and what each gives.

    network --trace--> FLOAT --fold--> FOLDED --calibrate--> CALIBRATED --quantize--> QUANTIZED
            --threshold--> SPIKING --export--> files

`prepare` goes to FOLDED and needs shapes only, so a chip's limits are checked before any compute is spent.
`convert` goes all the way. `evaluate` runs the network and its three twins side by side: the ANN, the
quantized ANN, the SNN stepwise and the SNN layerwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ann2snn_cli import trees
from ann2snn_cli.config import Hardware, Settings
from ann2snn_cli.errors import HardwareViolations, VerificationMismatch
from ann2snn_cli.ir.graph import Contract, Graph, Node
from ann2snn_cli.ir.ops import IntegrateFire
from ann2snn_cli.ir.run import run, run_counts
from ann2snn_cli.ir.spikes import real_valued
from ann2snn_cli.ir.trains import Activity
from ann2snn_cli.ir.verify import verify, verify_exact
from ann2snn_cli.stages.calibrate import calibrate
from ann2snn_cli.stages.check import Verdict, check, check_registers, violations
from ann2snn_cli.stages.fold import fold, spiking_pools
from ann2snn_cli.stages.quantize.correct import correct_biases
from ann2snn_cli.stages.quantize.finetune import Finetuning, finetune
from ann2snn_cli.stages.quantize.weights import quantize
from ann2snn_cli.stages.simulate import simulate
from ann2snn_cli.stages.threshold import threshold
from ann2snn_cli.stages.trace import OnnxNetwork, trace
from ann2snn_cli.tasks import Task, task_named
from ann2snn_cli.types import EpochReport, Loss, Shape

Batch = tuple[Any, Any]  # types.Batch, of one input and one label a sample

CORRECTION_SAMPLES = 256


class Samples(Protocol):
    """What the pipeline asks of a dataset: batches of (x, y) on the CPU (see `ann2snn_cli/data/`)."""

    @property
    def input_shape(self) -> Shape:
        """Of one sample."""

    def train_batches(self, batch_size: int, seed: int, epoch: int, num_workers: int = 0) -> Iterator[Batch]:
        """The training split once, shuffled by (seed, epoch)."""

    def test_batches(self, batch_size: int, num_workers: int = 0) -> Iterator[Batch]:
        """The test split once, in order."""

    def calibration_batches(
        self, samples: int, batch_size: int, seed: int, num_workers: int = 0
    ) -> Iterator[Batch]:
        """Some training samples, drawn by the seed."""


@dataclass
class Listener:
    """Who is told how a conversion goes; every part may be left out."""

    stage: Callable[[str], None] = lambda line: None
    epoch: Callable[[EpochReport], None] = lambda report: None
    tick: Callable[[], None] = lambda: None
    save: Callable[[dict[str, Any]], None] | None = None  # is handed the state of finetuning after each epoch
    resume: dict[str, Any] | None = None  # such a state, to go on from


# Shapes only ---------------------------------------------------------------------------------------


def prepare(
    network: nn.Module, input_shape: Shape | Sequence[Shape], settings: Settings, pooling: str = "sum"
) -> Graph:
    """The network as a FOLDED graph: traced, in normal form, with the pooling of the hardware.

    A network is an nn.Module; what `load_onnx` gives is one.
    """
    shapes = [input_shape] if isinstance(input_shape[0], int) else list(input_shape)
    graph = verify(fold(verify(trace(network, shapes)), batch_norm=settings.fold.batch_norm))  # type: ignore[arg-type]
    return verify(spiking_pools(graph)) if pooling == "spiking" else graph


def notes_of(network: nn.Module) -> tuple[str, ...]:
    """What a user should know of how the network was read: of an ONNX file, what was left out of it."""
    return network.notes if isinstance(network, OnnxNetwork) else ()


def pooling_of(settings: Settings, hardware: Hardware | None) -> str:
    """`sum` or `spiking`: what was asked for, else what the hardware does."""
    if settings.threshold.pooling != "auto":
        return settings.threshold.pooling
    return hardware.pooling if hardware is not None else "sum"


def contract_of(settings: Settings) -> Contract:
    """The part of the settings that is the arithmetic's."""
    chosen = settings.threshold
    return Contract(chosen.timesteps, chosen.reset_mode, chosen.schedule, chosen.rounding)


def refuse_violations(verdicts: Sequence[Verdict], hardware: Hardware, allow: Sequence[str]) -> None:
    """Raise if a limit is broken that may not be: all of them at once."""
    broken = violations(verdicts, allow)
    if broken:
        rules = sorted({verdict.rule for verdict in broken})
        raise HardwareViolations(
            f"the network breaks {len(broken)} limit{'s' * (len(broken) > 1)} of hardware {hardware.name}",
            broken,
            remedy="mend the layers listed, or go on in spite of it with "
            + " ".join(f"--allow {r}" for r in rules),
        )


# Conversion ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Conversion:
    """A converted network and what the hardware says of it."""

    graph: Graph  # SPIKING
    verdicts: tuple[Verdict, ...] = ()
    notes: tuple[str, ...] = ()  # what was decided on the way


def convert(
    network: nn.Module,
    data: Samples,
    settings: Settings,
    *,
    hardware: Hardware | None = None,
    device: torch.device | str = "cpu",
    loss: Loss | None = None,
    task: Task | str = "classification",
    listener: Listener | None = None,
) -> Conversion:
    """The trained network as an integer SNN. Limits of the hardware are checked first, registers last."""
    tell, task = listener or Listener(), task_named(task)
    tell.stage("trace and fold")
    graph = prepare(network, data.input_shape, settings, pooling_of(settings, hardware))
    verdicts: list[Verdict] = []
    if hardware is not None:
        verdicts += check(graph, hardware, settings.quantize.weight_bitwidth)
        refuse_violations(verdicts, hardware, settings.check.allow)

    tell.stage("calibrate")
    graph = _calibrated(graph.to(device), data, settings, device)
    tell.stage("quantize")
    graph = verify(
        quantize(
            graph,
            contract_of(settings),
            weight_bitwidth=settings.quantize.weight_bitwidth,
            channel_wise=settings.quantize.channel_wise,
        )
    )
    graph, notes = _improved(graph, data, settings, device, task, loss or task.loss, tell)
    tell.stage("threshold")
    spiking = verify_exact(verify(threshold(graph))).to("cpu")
    if hardware is not None:
        registers = check_registers(spiking, hardware)
        refuse_violations(registers, hardware, settings.check.allow)
        verdicts += registers
    return Conversion(spiking, tuple(verdicts), (*notes_of(network), *notes))


def _calibrated(graph: Graph, data: Samples, settings: Settings, device: torch.device | str) -> Graph:
    batches = (
        x.to(device)
        for x, _ in data.calibration_batches(
            settings.data.calibration_samples,
            settings.data.batch_size,
            settings.run.seed,
            settings.data.num_workers,
        )
    )
    return verify(
        calibrate(graph, batches, mode=settings.calibrate.mode, timesteps=settings.threshold.timesteps)
    )


def _improved(
    graph: Graph,
    data: Samples,
    settings: Settings,
    device: torch.device | str,
    task: Task,
    loss: Loss,
    tell: Listener,
) -> tuple[Graph, list[str]]:
    """Bias correction, finetuning, and after that a correction of timing where it pays (SPEC 8)."""
    x = _some_samples(data, settings).to(device)
    recipe = Finetuning(
        settings.finetune.epochs, settings.finetune.lr, settings.finetune.momentum, settings.finetune.wd
    )
    schedule = graph.timing.schedule
    notes: list[str] = []
    if recipe.epochs == 0:
        tell.stage("correct biases")
        return _if_better(graph, correct_biases(graph, x, schedule), x, trained=False, notes=notes), notes
    graph = _if_better(
        graph, correct_biases(graph, x, "layerwise"), x, trained=False, notes=[], schedule="layerwise"
    )
    tell.stage(f"finetune, {recipe.epochs} epochs")

    def batches(epoch: int) -> Iterable[Batch]:
        seed, size, workers = settings.run.seed, settings.data.batch_size, settings.data.num_workers
        for samples, target in data.train_batches(size, seed, epoch, workers):
            yield trees.to(samples, device), trees.to(target, device)

    graph = finetune(
        graph,
        batches,
        recipe,
        loss=loss,
        metric=task.metric,
        report=tell.epoch,
        tick=tell.tick,
        save=tell.save,
        resume=tell.resume,
    )
    if schedule == "stepwise":
        tell.stage("correct biases for the stepwise schedule")
        graph = _if_better(
            graph, correct_biases(graph, x, schedule, trained=True), x, trained=True, notes=notes
        )
    return verify(graph), notes


def _if_better(
    graph: Graph, corrected: Graph, x: Tensor, *, trained: bool, notes: list[str], schedule: str | None = None
) -> Graph:
    """The corrected graph if its outputs on the calibration samples are nearer to those it stands for."""
    with torch.no_grad():
        wanted = run_counts(threshold(graph), x.double())[0] if trained else run(graph, x.double())[0]
        before, after = (_distance(threshold(each), x, wanted, schedule) for each in (graph, corrected))
    kept = after < before
    notes.append(
        f"bias correction {'kept' if kept else 'not kept'}: "
        f"mean output error {before:.4g} -> {after:.4g} on {len(x)} calibration samples"
    )
    return corrected if kept else graph


def _distance(graph: Graph, x: Tensor, wanted: Tensor, schedule: str | None) -> float:
    return float((simulate(graph, x, schedule=schedule).outputs[0] - wanted).abs().mean())


def _some_samples(data: Samples, settings: Settings) -> Tensor:
    count = min(CORRECTION_SAMPLES, settings.data.calibration_samples)
    return torch.cat(
        [x for x, _ in data.calibration_batches(count, count, settings.run.seed, settings.data.num_workers)]
    )


# Evaluation ----------------------------------------------------------------------------------------


@dataclass
class Score:
    """How often an output's largest value was the label's; None where outputs are no class scores."""

    right: int = 0
    seen: int = 0
    scored: bool = True

    def add(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Count a batch and give its predictions."""
        self.seen += len(labels)
        if outputs.dim() != 2 or outputs.shape[1] < 2:
            self.scored = False
            return outputs
        predictions = outputs.argmax(1)
        self.right += int((predictions == labels.to(predictions.device)).sum())
        return predictions

    @property
    def accuracy(self) -> float | None:
        """As a fraction of 1."""
        return self.right / self.seen if self.scored and self.seen else None


@dataclass
class Evaluation:
    """The ANN and its twins on the test set."""

    ann: Score = field(default_factory=Score)
    quantized: Score = field(default_factory=Score)
    stepwise: Score = field(default_factory=Score)
    layerwise: Score = field(default_factory=Score)
    by_step: list[Score] = field(
        default_factory=list
    )  # stopped after 1, 2, ... T steps, in the graph's schedule
    spikes: dict[str, int] = field(default_factory=dict)  # by population, over all samples
    differing_outputs: int = 0  # samples on which the layerwise SNN is not the quantized network
    largest_error: float = 0.0  # |SNN − ANN| at an output, as a fraction of the ANN's largest output

    @property
    def samples(self) -> int:
        """How many samples were tested."""
        return self.stepwise.seen

    def firing_rate(self, graph: Graph) -> dict[str, float]:
        """Spikes of a neuron a step, by population."""
        return {
            name: count / (self.samples * graph.timing.timesteps * torch.Size(graph[name].shape).numel())
            for name, count in self.spikes.items()
        }


def evaluate(
    graph: Graph,
    batches: Iterable[Batch],
    *,
    network: nn.Module | None = None,
    device: torch.device | str = "cpu",
    tick: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Run SPIKING `graph`, the integer quantized network and, where given, the ANN on labelled samples."""
    graph = graph.to(device)
    result = Evaluation(by_step=[Score() for _ in range(graph.timing.timesteps)])
    for x, labels in batches:
        x = x.to(device)
        ann = _ann_outputs(network, x)
        if ann is not None:
            result.ann.add(ann, labels)
        snn = _evaluate_batch(graph, x, labels, result)
        if ann is not None and snn.shape == ann.shape:
            error = (snn - ann).abs().max() / ann.abs().max().clamp_min(1e-30)
            result.largest_error = max(result.largest_error, float(error))
        tick()
    return result


def _ann_outputs(network: nn.Module | None, x: Tensor) -> Tensor | None:
    if network is None:
        return None
    with torch.no_grad():
        outputs = network.eval()(x)
    return outputs if isinstance(outputs, Tensor) else outputs[0]


def _evaluate_batch(graph: Graph, x: Tensor, labels: Tensor, result: Evaluation) -> Tensor:
    """Both schedules and the quantized network on a batch; gives the outputs in the graph's own schedule."""

    def count(node: Node, activity: Activity) -> None:
        if isinstance(node.op, IntegrateFire):
            result.spikes[node.name] = result.spikes.get(node.name, 0) + int(activity.train.sum())

    own = graph.timing.schedule
    runs = {
        schedule: simulate(
            graph, x, schedule=schedule, watch=count if schedule == own else None, potentials=False
        )
        for schedule in ("stepwise", "layerwise")
    }
    with torch.no_grad():
        quantized = run_counts(graph, x.double())[0]
    layerwise = runs["layerwise"].outputs[0]
    result.quantized.add(quantized, labels)
    result.layerwise.add(layerwise, labels)
    result.stepwise.add(runs["stepwise"].outputs[0], labels)
    result.differing_outputs += int((layerwise != quantized).flatten(1).any(dim=1).sum())
    for score, outputs in zip(result.by_step, runs[own].by_step[0], strict=True):
        score.add(outputs, labels)
    return runs[own].outputs[0]


def theorem_holds(graph: Graph) -> bool:
    """Is the layerwise SNN the quantized network exactly? Not with zero reset, floats or opaque nodes."""
    integer = all(not unit.is_floating_point() for unit in _thresholds(graph))
    return graph.timing.reset_mode == "subtraction" and integer and not real_valued(graph)


def _thresholds(graph: Graph) -> list[Tensor]:
    return [node.op.threshold for node in graph.nodes if isinstance(node.op, IntegrateFire)]


def refuse_mismatch(graph: Graph, evaluation: Evaluation) -> None:
    """The theorem of SPEC 5, held against every test sample."""
    if theorem_holds(graph) and evaluation.differing_outputs:
        raise VerificationMismatch(
            f"the layerwise SNN differs from the quantized network on {evaluation.differing_outputs} of "
            f"{evaluation.samples} samples",
            remedy="this is a fault of ann2snn: please report it with the network and the settings",
        )


# Latency -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Latency:
    """Steps until a sample's answer is there, and steps between two samples (SPEC 5)."""

    timesteps: int
    depth: int  # populations on the longest way through the network

    def steps(self, schedule: str) -> int:
        """Stepwise T; layerwise one pass of T steps for each layer of neurons."""
        return self.timesteps if schedule == "stepwise" else self.timesteps * max(1, self.depth)

    def report(self) -> dict[str, dict[str, int]]:
        """Both schedules: latency of a sample, and steps a sample with potentials buffered twice or once."""
        steps = self.timesteps
        return {
            "stepwise": {"latency_steps": steps, "steps_per_sample": steps},
            "layerwise": {
                "latency_steps": self.steps("layerwise"),
                "steps_per_sample": steps,
                "steps_per_sample_single_buffered": 2 * steps,
            },
        }


def latency(graph: Graph) -> Latency:
    """The latency of a SPIKING graph."""
    depth: dict[str, int] = {}
    for node in graph.nodes:
        before = max((depth[name] for name in node.inputs), default=0)
        depth[node.name] = before + isinstance(node.op, IntegrateFire)
    return Latency(graph.timing.timesteps, max(depth.values(), default=0))
