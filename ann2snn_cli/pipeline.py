"""START HERE: the stages in order, and what each gives.

    network --trace--> FLOAT --fold--> FOLDED --calibrate--> CALIBRATED --quantize--> QUANTIZED
            --threshold--> SPIKING

`prepare` goes to FOLDED and needs shapes only, so a chip's limits are checked before any compute is spent.
`convert` goes all the way. What is done with networks and SNNs beside this stands in `workflows/`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn

from ann2snn_cli import trees
from ann2snn_cli.config import KEYS, FinetuneOn, Hardware, Settings, parse_mode
from ann2snn_cli.errors import BadData, HardwareViolations, Setting, UsageError
from ann2snn_cli.ir.contract import Contract, Encoding, Method, Pooling, Reset
from ann2snn_cli.ir.encoding import encoded, refuse_real_spikes
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.ir.memory import refuse_too_long
from ann2snn_cli.ir.ops import Integrate, Relu
from ann2snn_cli.ir.precision import plain_arithmetic
from ann2snn_cli.ir.run import run
from ann2snn_cli.ir.user_rules import user_rules
from ann2snn_cli.ir.validate import validate_exact
from ann2snn_cli.stages import simulate as engines
from ann2snn_cli.stages.calibrate import calibrate
from ann2snn_cli.stages.check import Verdict, check, check_registers, violations
from ann2snn_cli.stages.fold import fold, spiking_pools
from ann2snn_cli.stages.keep_real import keep_real
from ann2snn_cli.stages.own_populations import own_populations
from ann2snn_cli.stages.pairs import too_long, with_pairs
from ann2snn_cli.stages.quantize.biases import Biases, Correction, Means
from ann2snn_cli.stages.quantize.correct import affordable
from ann2snn_cli.stages.quantize.finetune import Finetuning, Forward, Judge, closed_form, finetune, learns
from ann2snn_cli.stages.quantize.match import match
from ann2snn_cli.stages.quantize.on_spikes import clips_on_spikes
from ann2snn_cli.stages.quantize.phases import Phase, in_words, phases
from ann2snn_cli.stages.quantize.through_steps import ThroughSteps
from ann2snn_cli.stages.quantize.weights import quantize, with_bits
from ann2snn_cli.stages.threshold import threshold
from ann2snn_cli.stages.trace import OnnxNetwork, trace
from ann2snn_cli.tasks import Task, task_named
from ann2snn_cli.types import Batch, EpochReport, Inputs, InputShapes, Loss, Outputs, Shape, without_time
from ann2snn_cli.words import count_of

Rules = Mapping[str, Callable[[Any], Any]]  # a user's own, by what they decide (`ir/user_rules.py`)

CORRECTION_SAMPLES = 256


class Samples(Protocol):
    """What the pipeline asks of a dataset: batches of (x, labels) on the CPU (see `ann2snn_cli/data/`)."""

    @property
    def input_shapes(self) -> InputShapes:
        """The shape of one sample of each input, in order or by name."""

    @property
    def task(self) -> str | Task:
        """What labels mean: a task, or its name."""

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

    stage: Callable[[str, int | None], None] = lambda label, steps: None  # steps: ticks to come, if known
    epoch: Callable[[EpochReport], None] = lambda report: None
    tick: Callable[[], None] = lambda: None
    folded: Callable[[Graph], None] = lambda graph: None  # is shown, with its contract, what will be computed
    save: Callable[[dict[str, Any]], None] | None = None  # is handed the state of finetuning after each epoch
    resume: dict[str, Any] | None = None  # such a state, to go on from


# Shapes only ---------------------------------------------------------------------------------------


def prepare(
    network: nn.Module,
    input_shapes: InputShapes,
    settings: Settings,
    pooling: Pooling = Pooling.SUM,
    *,
    rules: Rules | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> Graph:
    """The network as a FOLDED graph: traced, in normal form, with the pooling of the hardware.

    A network is an nn.Module; what `load_onnx` gives is one. `rules` are the user's own (`ir/user_rules.py`);
    `note` is told which were used.
    """
    own = user_rules(rules or {})
    traced = trace(network, shown_in_a_step(input_shapes, settings), rules=own, note=note)
    shown = encoded(traced, settings.timing.shown, settings.run.seed)
    return folded(shown, settings, pooling, rules=own, note=note)


def shown_in_a_step(shapes: InputShapes, settings: Settings) -> InputShapes:
    """The shapes that the network takes, of samples of these shapes: of frames that of one."""
    if settings.timing.shown is not Encoding.FRAMES:
        return shapes
    if flat := [shape for shape in _each(shapes) if len(shape) < 2]:
        raise BadData(
            f"a sample has the shape {flat[0]}, and no axis of time before another one: it is no frames",
            remedy=f"give samples [T, ...], or leave out {Setting('encoding', 'frames')}",
        )
    return without_time(shapes)


def _refuse_other_frames(shapes: InputShapes, settings: Settings) -> None:
    """There is a frame for each step."""
    steps = settings.timing.timesteps
    for shape in _each(shapes) if settings.timing.shown is Encoding.FRAMES else ():
        if shape[0] != steps:
            raise BadData(
                f"a sample has {count_of(shape[0], 'frame')}, and there are {steps} timesteps",
                remedy=f"give {Setting('timesteps', shape[0])}, or {steps} frames a sample",
            )


def _each(shapes: InputShapes) -> Iterable[Shape]:
    return shapes.values() if isinstance(shapes, dict) else shapes


def folded(
    graph: Graph,
    settings: Settings,
    pooling: Pooling = Pooling.SUM,
    *,
    rules: Rules | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> Graph:
    """FLOAT -> FOLDED, with the pooling of the hardware and what the rules say of populations."""
    if settings.quantize.method is Method.TD:
        graph = keep_real(graph)
        refuse_real_spikes(graph)
    graph = fold(graph, batch_norm=settings.fold.batch_norm)
    graph = spiking_pools(graph) if pooling is Pooling.SPIKING else graph
    return own_populations(graph, user_rules(rules or {}), note)


def notes_of(network: nn.Module) -> tuple[str, ...]:
    """What a user should know of how the network was read: of an ONNX file, what was left out of it."""
    return network.notes if isinstance(network, OnnxNetwork) else ()


def pooling_of(settings: Settings, hardware: Hardware | None) -> Pooling:
    """What was asked for, else what the hardware does."""
    if settings.neurons.pooling is not None:
        return settings.neurons.pooling
    return hardware.pooling if hardware is not None else Pooling.SUM


def contract_of(settings: Settings) -> Contract:
    """The part of the settings that is the arithmetic's."""
    timing, neurons = settings.timing, settings.neurons
    return Contract(timing.timesteps, neurons.reset_mode, timing.firing_delay, neurons.rounding)


def checked(folded: Graph, hardware: Hardware, settings: Settings) -> list[Verdict]:
    """All that shapes and settings decide: what `ann2snn check` says is what `convert` refuses or not."""
    quantize = settings.quantize
    return check(folded, hardware, quantize.weight_bitwidth, channel_wise=quantize.channel_wise)


def refuse_violations(verdicts: Sequence[Verdict], hardware: Hardware, allow: Sequence[str]) -> None:
    """Raise if a limit is broken that may not be: all of them at once."""
    broken = violations(verdicts, allow)
    if broken:
        rules = tuple(sorted({verdict.rule for verdict in broken}))
        raise HardwareViolations(
            f"the network breaks {count_of(len(broken), 'limit')} of hardware {hardware.name}",
            broken,
            remedy=f"change the layers listed, or allow what they break: {Setting('allow', rules)}",
        )


# Conversion ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Conversion:
    """A converted network and what the hardware says of it. All its graphs but `folded` are SPIKING."""

    graph: Graph  # biases corrected for its own delay
    folded: Graph  # what it was made of
    quantized: Graph  # before any correction of timing: in closed form, the quantized network
    by_delay: Mapping[int, Graph]  # the same network with biases corrected for other delays, and for its own
    verdicts: tuple[Verdict, ...] = ()
    notes: tuple[str, ...] = ()  # what was decided on the way
    corrections: Mapping[int, Correction] = field(default_factory=dict)  # by delay

    @property
    def correction(self) -> Correction | None:
        """Of the biases of `graph`; None where none was tried."""
        return self.corrections.get(self.graph.timing.delay)


def convert(
    network: nn.Module,
    data: Samples,
    settings: Settings,
    *,
    hardware: Hardware | None = None,
    device: torch.device | str = "cpu",
    loss: Loss | None = None,
    rules: Rules | None = None,
    listener: Listener | None = None,
    delays: Iterable[int] = (),
) -> Conversion:
    """The trained network as an integer SNN. Limits of the hardware are checked first, registers last.

    What finetuning makes small is the loss of the task that the data name, unless another is given.
    Biases are corrected for the delay of the settings, and in graphs of their own for those in `delays`.
    """
    tell = listener or Listener()
    tell.stage("trace and fold", None)
    pooling, of_rules = pooling_of(settings, hardware), list[str]()
    _refuse_other_frames(data.input_shapes, settings)
    folded = prepare(network, data.input_shapes, settings, pooling, rules=rules, note=of_rules.append)
    verdicts = checked(folded, hardware, settings) if hardware is not None else []
    if hardware is not None:
        refuse_violations(verdicts, hardware, settings.check.allow)

    contract = contract_of(settings)
    _refuse_unable(folded, settings, device, tell)
    folded, graph, of_pairs = _quantized(folded, data, settings, device, tell)
    if of_pairs and hardware is not None:
        verdicts = checked(folded, hardware, settings)
        refuse_violations(verdicts, hardware, settings.check.allow)
    biases = _biases(folded, graph, data, settings, device, tell)
    biases, of_training = _finetuned(biases, folded, data, settings, device, loss, tell)
    wanted = {delay: biases.for_delay(delay) for delay in dict.fromkeys((contract.delay, *delays))}
    closed_form = biases.for_rounding()
    tell.stage("threshold", None)
    quantized = set_weights_and_thresholds(closed_form)
    by_delay = {delay: set_weights_and_thresholds(each) for delay, each in wanted.items()}
    spiking = by_delay[contract.delay]
    if hardware is not None:
        registers = check_registers(spiking, hardware)
        refuse_violations(registers, hardware, settings.check.allow)
        known = {(verdict.rule, verdict.layer) for verdict in registers}  # now with their numbers
        verdicts = [each for each in verdicts if (each.rule, each.layer) not in known] + registers
    own = biases.corrections.get(contract.delay)
    of_method = _of_method(folded, graph, settings)
    notes = (*notes_of(network), *of_rules, *of_method, *of_pairs, *of_training, *([own.note] if own else []))
    return Conversion(spiking, folded, quantized, by_delay, tuple(verdicts), notes, biases.corrections)


def _of_method(folded: Graph, graph: Graph, settings: Settings) -> Iterator[str]:
    """What became of the method, where a user may wonder."""
    if settings.finetune.epochs > 0 and not learns(graph):
        yield "nothing was finetuned: no layer has weights on a grid, and no population fires"
    elif settings.finetune.epochs > 0 and settings.finetune.on is None and _finetunes_on_spikes(settings):
        yield "finetuned on the spikes of the delay in use: with a reset to zero counts have no closed form"
    if settings.quantize.method is Method.TD and not any(node.op.gives_reals for node in folded.nodes):
        yield f"{Setting('method', 'td')} changes nothing: the network holds no operator of real numbers"


def _quantized(
    folded: Graph, data: Samples, settings: Settings, device: torch.device | str, tell: Listener
) -> tuple[Graph, Graph, list[str]]:
    """FOLDED, with pairs where integers would grow too large, its graph at QUANTIZED, and notes of that."""
    weight_bitwidth, channel_wise = settings.quantize.weight_bitwidth, settings.quantize.channel_wise
    notes: list[str] = []
    _refuse_two_clips(folded, settings)
    while True:
        graph = _calibrated(folded.to(device), data, settings, device, tell)
        tell.stage("quantize", None)
        graph = quantize(
            graph, contract_of(settings), weight_bitwidth=weight_bitwidth, channel_wise=channel_wise
        )
        graph = _layer_by_layer(graph, data, settings, device, tell)
        chains = too_long(graph, folded)
        if not chains:
            return folded, graph, notes
        layers = ", ".join(dict.fromkeys(folded[name].source or name for name in chains))
        notes.append(
            f"too many linear layers without a ReLU between them: behind {layers} a pair of populations, "
            "relu(x - m) - relu(m - x), hands the values on, or the integers would exceed 2^53"
        )
        folded = with_pairs(folded, chains, some_samples(data, settings))


def _layer_by_layer(
    graph: Graph, data: Samples, settings: Settings, device: torch.device | str, tell: Listener
) -> Graph:
    """Where the mode says so."""
    mode, wanted = parse_mode(settings.calibrate.mode), settings.quantize
    if mode.kind not in ("spikes", "match"):
        return graph
    x = affordable(graph, trees.to(some_samples(data, settings), device))
    if mode.kind == "spikes":
        tell.stage("set clips on spikes", None)
        return clips_on_spikes(graph, x, percent=mode.value, channel_wise=wanted.channel_wise)
    tell.stage("match layers", len(graph.nodes))
    return match(graph, x, channel_wise=wanted.channel_wise, biases=wanted.bias_correction, tick=tell.tick)


# Stages one at a time ------------------------------------------------------------------------------


def quantized(
    folded: Graph,
    data: Samples,
    settings: Settings,
    *,
    device: torch.device | str = "cpu",
    listener: Listener | None = None,
) -> Biases:
    """FOLDED -> QUANTIZED: clips, and weights on their grid; biases are chosen when the delay is known."""
    tell = listener or Listener()
    _refuse_unable(folded, settings, device, tell)
    folded, graph, _ = _quantized(folded, data, settings, device, tell)
    return _biases(folded, graph, data, settings, device, tell)


def quantize_and_finetune(
    folded: Graph,
    data: Samples,
    settings: Settings,
    *,
    device: torch.device | str = "cpu",
    loss: Loss | None = None,
    listener: Listener | None = None,
) -> Graph:
    """FOLDED -> QUANTIZED: clips, weights on their grid, training if asked for, biases for the delay."""
    biases = quantized(folded, data, settings, device=device, listener=listener)
    biases, _ = _finetuned(biases, folded, data, settings, device, loss, listener or Listener())
    return biases.for_delay(settings.timing.firing_delay).to("cpu")


def set_weights_and_thresholds(graph: Graph) -> Graph:
    """QUANTIZED -> SPIKING: the integers that a chip is loaded with."""
    return validate_exact(threshold(graph)).to("cpu")


def _refuse_unable(folded: Graph, settings: Settings, device: torch.device | str, tell: Listener) -> None:
    """Raise for what the settings ask and nothing here can do, before any of it is done."""
    refuse_too_long(folded, device, settings.timing.timesteps)
    timed = replace(folded, contract=contract_of(settings))
    tell.folded(timed)
    engines.refuse_unable(timed, engines.Request(()), settings.run.engine)


def _refuse_two_clips(folded: Graph, settings: Settings) -> None:
    key, mode = KEYS["calibrate.mode"], settings.calibrate.mode
    if mode != key.default and any(isinstance(node.op, Relu) and node.op.clip_rule for node in folded):
        raise UsageError(
            f"{Setting('mode', mode)} does nothing: a rule of yours sets the clips",
            where=str(Setting("mode")),
            remedy='leave it out, or the rule for "clip"; a rule may ask for layer.by_mode("max")',
        )


def _finetuned(
    biases: Biases,
    folded: Graph,
    data: Samples,
    settings: Settings,
    device: torch.device | str,
    loss: Loss | None,
    tell: Listener,
) -> tuple[Biases, list[str]]:
    """The same, trained if that was asked for and there is something to train; and what to know of that."""
    notes: list[str] = []
    if settings.finetune.epochs == 0 or not learns(biases.graph):
        return biases, notes
    delay = contract_of(settings).delay if _finetunes_on_spikes(settings) else None
    if way := _phases(settings):
        start = biases.graph  # corrected biases are those of its own few bits
        notes.append(in_words(way))
    else:
        start = biases.for_rounding() if delay is None else biases.for_delay(delay)
    graph = _trained(start, folded, data, settings, device, loss, tell, notes.append)
    return biases.trained(graph, spikes_of=delay), notes


def _phases(settings: Settings) -> tuple[Phase, ...]:
    return phases(settings.quantize.weight_bitwidth, settings.finetune.epochs)


def _finetunes_on_spikes(settings: Settings) -> bool:
    """As was asked for, else where counts have no closed form. At D = T the spikes are as it says."""
    contract = contract_of(settings)
    to_zero = contract.reset_mode is Reset.ZERO
    chosen = settings.finetune.on or (FinetuneOn.SPIKES if to_zero else FinetuneOn.COUNTS)
    return chosen is FinetuneOn.SPIKES and (to_zero or contract.delay < contract.timesteps)


def _calibrated(
    graph: Graph, data: Samples, settings: Settings, device: torch.device | str, tell: Listener
) -> Graph:
    samples, size = settings.data.calibration_samples, settings.data.batch_size
    known = _train_size(data)
    tell.stage("calibrate", None if known is None else _batches(min(samples, known), size))

    def batches() -> Iterator[Inputs]:
        for x, _ in data.calibration_batches(samples, size, settings.run.seed, settings.data.num_workers):
            yield trees.to(x, device)
            tell.tick()

    return calibrate(graph, batches(), mode=settings.calibrate.mode, timesteps=settings.timing.timesteps)


def _train_size(data: Samples) -> int | None:
    """The size of the training split, where the dataset knows it."""
    return getattr(data, "train_size", None)


def _batches(samples: int, batch_size: int) -> int:
    return -(-samples // batch_size)


def _trained(
    graph: Graph,
    folded: Graph,
    data: Samples,
    settings: Settings,
    device: torch.device | str,
    loss: Loss | None,
    tell: Listener,
    note: Callable[[str], None],
) -> Graph:
    chosen, task = settings.finetune, task_named(data.task)
    recipe = Finetuning(
        chosen.epochs,
        chosen.lr,
        chosen.momentum,
        chosen.wd,
        chosen.schedule,
        chosen.distill,
        chosen.bf16,
        _phases(settings),
    )
    judge = None
    if chosen.held_out:
        data, unseen = _held_out(data, chosen.held_out, settings.run.seed)
        judge = _judge(unseen, task, settings, device, _forward(settings), note)
    known = _train_size(data)
    steps = None if known is None else recipe.epochs * _batches(known, settings.data.batch_size)
    tell.stage(f"finetune, {count_of(recipe.epochs, 'epoch')}", steps)

    def batches(epoch: int) -> Iterable[Batch]:
        seed, size, workers = settings.run.seed, settings.data.batch_size, settings.data.num_workers
        for samples, target in data.train_batches(size, seed, epoch, workers):
            yield trees.to(samples, device), trees.to(target, device)

    return finetune(
        graph,
        batches,
        recipe,
        loss=loss or task.loss,
        metric=task.metric,
        report=tell.epoch,
        tick=tell.tick,
        save=tell.save,
        resume=tell.resume,
        forward=_forward(settings),
        samples=known,
        teacher=_teacher(folded.to(device)) if chosen.distill else None,
        judge=judge,
        with_bits=partial(with_bits, channel_wise=settings.quantize.channel_wise),
    )


def _teacher(folded: Graph) -> Callable[[Inputs], Outputs]:
    """The outputs of the float network."""

    def outputs(x: Inputs) -> Outputs:
        with torch.no_grad():
            return run(folded, x)

    return outputs


def _held_out(data: Samples, share: float, seed: int) -> tuple[Samples, Samples]:
    """The data without this share of the training set, and that share as a test split."""
    split: Callable[[float, int], tuple[Samples, Samples]] | None = getattr(data, "held_out", None)
    if split is None:
        raise UsageError(
            f"{Setting('held_out', share)}: the data make their own batches, and none can be held out",
            where=str(Setting("held_out")),
            remedy="leave it out",
        )
    return split(share, seed)


def _judge(
    unseen: Samples,
    task: Task,
    settings: Settings,
    device: torch.device | str,
    forward: Forward,
    note: Callable[[str], None],
) -> Judge:
    """Scores a graph by the task's headline on samples that are not trained on."""
    headline = task.headline
    sign = 1.0 if headline.higher_is_better else -1.0

    def score(graph: Graph) -> float:
        metric = task.metric()
        with torch.no_grad(), plain_arithmetic():
            for x, labels in unseen.test_batches(settings.data.test_batch_size, settings.data.num_workers):
                x = trees.map_leaves(lambda values: values.float(), trees.to(x, device))
                metric.update(forward(graph, x), trees.to(labels, device))
        value = metric.result()[headline.name]
        return -math.inf if value is None else sign * value

    def kept(epoch: int, value: float) -> None:
        shown, samples = headline.shown(sign * value), count_of(getattr(unseen, "test_size", 0), "sample")
        which = f"epoch {epoch} of {settings.finetune.epochs}"
        note(f"finetuning: {which} was kept, {headline.name} {shown} on {samples} held out")

    return Judge(score, kept)


def _forward(settings: Settings) -> Forward:
    """What is trained: the closed form, or what an engine says that the neurons fire."""
    if not _finetunes_on_spikes(settings):
        return closed_form
    return ThroughSteps(threshold, partial(engines.run_or_auto, engine=settings.run.engine))


def _biases(
    folded: Graph, graph: Graph, data: Samples, settings: Settings, device: torch.device | str, tell: Listener
) -> Biases:
    engine = settings.run.engine

    def outputs(spiking: Graph, x: Inputs) -> Outputs:
        return engines.run_or_auto(spiking, engines.Request(x), engine).outputs

    means = Means(threshold, partial(engines.run_or_auto, engine=engine), outputs, tell.stage, tell.tick)
    x = trees.to(some_samples(data, settings), device)
    has_biases = bool(graph.of(Relu, Integrate))
    wanted = settings.quantize.bias_correction and has_biases
    return Biases(graph, x, means, wanted, floats=folded.to(device))


def some_samples(data: Samples, settings: Settings) -> Inputs:
    """Those that biases are corrected with."""
    count = min(CORRECTION_SAMPLES, settings.data.calibration_samples)
    return trees.cat(
        [x for x, _ in data.calibration_batches(count, count, settings.run.seed, settings.data.num_workers)]
    )
