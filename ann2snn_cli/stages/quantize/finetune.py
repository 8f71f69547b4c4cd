"""Train with the integer arithmetic in the loop (SPEC 8).

The forward pass is `ir/integers.py` and, unless another is given, the closed form of `ir/run.py`: the very
network that is exported, with gradients passed straight through every rounding. What is learned: the float
master weights, the biases, every step α and every clip A. Steps and clips are learned by their logarithm, so
that they stay positive, with LSQ's scale on their gradients (Esser et al. 2020). A gradient that is long
beside what it changes is shortened: folded batch norms make some a hundred times longer than others, and one
step of such a one undoes what training learned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ann2snn_cli import trees
from ann2snn_cli.config.recipes import Decay
from ann2snn_cli.errors import BadFile, BadWeights, Setting
from ann2snn_cli.ir.graph import Graph, Level
from ann2snn_cli.ir.grid import largest_code
from ann2snn_cli.ir.integers import integers
from ann2snn_cli.ir.ops import Conv, Integrate, Linear, Op, Relu, Scale
from ann2snn_cli.ir.precision import plain_arithmetic, short_products
from ann2snn_cli.ir.run import run_counts
from ann2snn_cli.ir.validate import stage
from ann2snn_cli.stages.quantize.phases import Phase
from ann2snn_cli.stages.quantize.weights import with_bits
from ann2snn_cli.types import Batches, EpochReport, Inputs, Loss, Metric, Outputs

Forward = Callable[[Graph, Inputs], Outputs]  # of a QUANTIZED graph whose numbers are being learned


WithBits = Callable[[Graph, int], Graph]  # a QUANTIZED graph on another grid

LONGEST = 0.3  # length of a gradient, beside that of what it changes


def closed_form(graph: Graph, x: Inputs) -> Outputs:
    """The sums over all steps at once: what the SNN of delay T passes on."""
    return run_counts(integers(graph), x)


@dataclass(frozen=True)
class Finetuning:
    """The recipe: SGD with momentum; the rate falls by tens at 50 % and 75 % of the epochs, or steadily."""

    epochs: int = 5
    lr: float = 0.005
    momentum: float = 0.9
    wd: float = 5e-4
    schedule: Decay = Decay.STEP
    distill: float = 0.0  # how much the outputs of a teacher count beside the labels
    bf16: bool = False  # convolutions multiply in bfloat16 (`short_products`)
    phases: tuple[Phase, ...] = ()  # in which weights have more bits first; none: all epochs are alike

    @property
    def last(self) -> Phase:
        """The phase at the network's own bits, in which the rate falls."""
        return self.phases[-1] if self.phases else Phase(0, 0, self.epochs)

    def bits_at(self, epoch: int) -> int | None:
        """The bits of the weights in this epoch; None: those of the graph."""
        return next((each.bits for each in reversed(self.phases) if epoch >= each.first), None)

    def lr_at(self, done: float) -> float:
        """The learning rate when so many epochs, and parts of one, are done."""
        epochs, done = self.last.epochs, max(0.0, done - self.last.first)
        if self.schedule is Decay.COSINE:
            return self.lr * (1 + math.cos(math.pi * min(1.0, done / epochs))) / 2
        return self.lr * 0.1 ** sum(
            int(done) >= math.floor(share * epochs) for share in (0.5, 0.75) if epochs > 1
        )


@dataclass(frozen=True)
class Judge:
    """Chooses the epoch that is kept: the one whose graph scores highest, the later of equals."""

    score: Callable[[Graph], float]
    kept: Callable[[int, float], None] = lambda epoch, score: None  # is told which one, from 1, and its score


@stage(Level.QUANTIZED, Level.QUANTIZED)
def finetune(
    graph: Graph,
    batches: Callable[[int], Batches],
    recipe: Finetuning,
    *,
    loss: Loss,
    metric: Callable[[], Metric],
    report: Callable[[EpochReport], None] | None = None,
    tick: Callable[[], None] | None = None,
    save: Callable[[dict[str, Any]], None] | None = None,
    resume: dict[str, Any] | None = None,
    forward: Forward = closed_form,
    samples: int | None = None,
    teacher: Callable[[Inputs], Outputs] | None = None,
    judge: Judge | None = None,
    with_bits: WithBits = with_bits,
) -> Graph:
    """Needs QUANTIZED; gives QUANTIZED with trained weights, biases, steps and clips.

    `batches(epoch)` gives an epoch's samples on the graph's device; `metric()` is asked for a new metric an
    epoch. `save` is handed the whole state after every epoch; given back as `resume`, training goes on from
    there as if it had not stopped. `forward` gives the outputs that the loss is of, with gradients.
    With the number of `samples` in an epoch a cosine falls step by step, else epoch by epoch. `teacher` gives
    the outputs that the recipe's `distill` is about. The last epoch is what is given, unless a `judge` keeps
    another. `with_bits` puts weights on another grid where the recipe has phases.
    """
    training = Training(graph, recipe, forward, samples, teacher)
    start = training.restore(resume, with_bits) if resume else 0
    for epoch in range(start, recipe.epochs):
        training.enter(epoch, with_bits)
        outcome = training.epoch(epoch, batches(epoch), loss, metric(), tick)
        if judge is not None:
            training.judged(judge, epoch + 1)
        if report is not None:
            report(outcome)
        if save is not None:
            save(training.state(epoch + 1))
    if judge is not None and training.best is not None:
        training.take_best(judge)
    return training.graph()


def learns(graph: Graph) -> bool:
    """Is there anything in it that finetuning could change?"""
    return any(_learned(node.op, 1, 1) for node in graph.nodes)


class Training:
    """The leaves that are learned, by node and field, and their optimizer."""

    def __init__(
        self,
        graph: Graph,
        recipe: Finetuning,
        forward: Forward = closed_form,
        samples: int | None = None,
        teacher: Callable[[Inputs], Outputs] | None = None,
    ) -> None:
        self.recipe = recipe
        self.forward = forward
        self.samples = samples
        self.teacher = teacher
        self.bits: int | None = None  # of the phase; None before any
        self._begin(graph)

    def _begin(self, graph: Graph) -> None:
        self.start = graph
        self.best: dict[str, Any] | None = None  # the score of the best epoch, its number, its leaves
        self.leaves: dict[str, nn.Parameter] = {}
        self.rates: dict[str, float] = {}  # of a logarithm: √(LSQ's gradient scale)
        self.sizes: dict[str, float] = {}  # the length of what a gradient changes
        for node in graph.nodes:
            for name, value, rate in _learned(node.op, math.prod(node.shape), graph.timing.timesteps):
                key = f"{node.name}.{name}"
                leaf = torch.zeros_like(value) if rate is not None else value.detach().clone()
                self.leaves[key] = nn.Parameter(leaf)
                self.sizes[key] = _size(node.op, name, value, rate)
                if rate is not None:
                    self.rates[key] = rate
        decayed = [leaf for key, leaf in self.leaves.items() if key.endswith(".weight")]
        others = [leaf for key, leaf in self.leaves.items() if not key.endswith(".weight")]
        groups = [
            {"params": decayed, "weight_decay": self.recipe.wd},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.SGD(
            [g for g in groups if g["params"]], lr=self.recipe.lr, momentum=self.recipe.momentum
        )

    def enter(self, epoch: int, with_bits: WithBits) -> None:
        """Begin the phase that this epoch belongs to, unless it has begun."""
        bits = self.recipe.bits_at(epoch)
        if bits is not None and bits != self.bits:
            self._begin(with_bits(self.graph(), bits))
            self.bits = bits

    def graph(self, *, detach: bool = True) -> Graph:
        """The QUANTIZED graph with the leaves' present values."""
        ops: dict[str, Op] = {}
        for node in self.start.nodes:
            changes: dict[str, Tensor] = {}
            for name, value, rate in _learned(node.op, 1, 1):
                leaf: Tensor = self.leaves[f"{node.name}.{name}"]
                if rate is not None:
                    leaf = value * torch.exp(self.rates[f"{node.name}.{name}"] * leaf)
                changes[name] = leaf.detach().clone() if detach else leaf
            if changes:
                ops[node.name] = replace(node.op, **changes)
        return self.start.with_ops(ops)

    def epoch(
        self, epoch: int, batches: Batches, loss: Loss, metric: Metric, tick: Callable[[], None] | None
    ) -> EpochReport:
        """One pass over the training set."""
        report = EpochReport(epoch + 1, self.recipe.epochs, self.recipe.lr_at(epoch))
        for x, labels in batches:
            self._set_rate(epoch + (min(1.0, report.samples / self.samples) if self.samples else 0.0))
            with plain_arithmetic(), short_products(wanted=self.recipe.bf16):
                x = trees.map_leaves(lambda values: values.float(), x)
                outputs = self.forward(self.graph(detach=False), x)
                value = loss(outputs, labels)
                if self.teacher is not None and self.recipe.distill:
                    value = value + self.recipe.distill * distance(outputs, self.teacher(x))
                self.optimizer.zero_grad()
                value.backward()  # type: ignore[no-untyped-call]
            self._shorten()
            self.optimizer.step()
            number = float(value.detach())
            if not math.isfinite(number):
                raise BadWeights(
                    f"finetuning diverged: the loss is {number}",
                    where=f"epoch {epoch + 1}",
                    remedy=f"lower {Setting('finetune_lr')} (it is {self.recipe.lr:g})",
                )
            # A GPU is waited for once: whatever a metric asks of its numbers, it asks the CPU.
            metric.update(tuple(output.detach().cpu() for output in outputs), trees.to(labels, "cpu"))
            report = report.after(number, trees.sample_count(x))
            if tick is not None:
                tick()
        return report.ended(metric)

    def _shorten(self) -> None:
        """No gradient is longer than a share of what it changes."""
        for key, leaf in self.leaves.items():
            if leaf.grad is not None:
                leaf.grad.mul_((LONGEST * self.sizes[key] / leaf.grad.norm()).clamp(max=1.0).nan_to_num(1.0))

    def _set_rate(self, done: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr_at(done)

    def judged(self, judge: Judge, epoch: int) -> None:
        """Remember the leaves after this epoch, counted from 1, if none before was better."""
        score = judge.score(self.graph())
        if self.best is None or score >= self.best["score"]:
            self.best = {"score": score, "epoch": epoch, "leaves": self._leaves()}

    def take_best(self, judge: Judge) -> None:
        """Go back to the best epoch."""
        assert self.best is not None
        self._set_leaves(self.best["leaves"])
        judge.kept(self.best["epoch"], self.best["score"])

    def _leaves(self) -> dict[str, Tensor]:
        return {key: leaf.detach().clone() for key, leaf in self.leaves.items()}

    def _set_leaves(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for key, leaf in self.leaves.items():
                leaf.copy_(values[key])

    def state(self, epochs_done: int) -> dict[str, Any]:
        """All that going on needs, in tensors and plain values."""
        return {
            "epochs_done": epochs_done,
            "leaves": self._leaves(),
            "best": self.best,
            "bits": self.bits,
            "start": {key: value for key, value in self._values() if key in self.rates},
            "sizes": self.sizes,
            "optimizer": self.optimizer.state_dict(),
        }

    def _values(self) -> Iterator[tuple[str, Tensor]]:
        """What the phase began with, of all that is learned."""
        for node in self.start.nodes:
            for name, value, _ in _learned(node.op, 1, 1):
                yield f"{node.name}.{name}", value

    def _begin_as(self, bits: int | None, values: dict[str, Tensor], with_bits: WithBits) -> None:
        """Begin the phase of so many bits, with these steps and clips."""
        if bits is not None:
            self._begin(with_bits(self.start, bits))
            self.bits = bits
        ops = {}
        for node in self.start.nodes:
            learned = [name for name, _, rate in _learned(node.op, 1, 1) if rate is not None]
            if learned:
                ops[node.name] = replace(node.op, **{name: values[f"{node.name}.{name}"] for name in learned})
        self.start = self.start.with_ops(ops)

    def restore(self, state: dict[str, Any], with_bits: WithBits = with_bits) -> int:
        """Take up a saved state; gives how many epochs it has behind it."""
        remedy = f"start it anew, without {Setting('resume')}"
        try:
            self._begin_as(state["bits"], state["start"], with_bits)
            shapes = {key: leaf.shape for key, leaf in self.leaves.items()}
            if {key: leaf.shape for key, leaf in state["leaves"].items()} != shapes:
                raise BadFile("the saved finetuning belongs to another network", remedy=remedy)
            self._set_leaves(state["leaves"])
            self.sizes = {key: float(state["sizes"][key]) for key in self.leaves}
            self.best = state["best"]
            self.optimizer.load_state_dict(state["optimizer"])
            return range(self.recipe.epochs + 1).index(state["epochs_done"])
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise BadFile(f"the saved finetuning is damaged: {error}", remedy=remedy) from error


def distance(outputs: Outputs, wanted: Outputs) -> Tensor:
    """How far outputs are from those of the float network: the mean square, as a share of their variance."""
    pairs = [(found.flatten(1), aim.flatten(1)) for found, aim in zip(outputs, wanted, strict=True)]
    shares = [(found - aim).square().mean() / aim.var().clamp_min(1e-12) for found, aim in pairs]
    return torch.stack(shares).mean()


def _size(op: Op, name: str, value: Tensor, rate: float | None) -> float:
    """The length of what a gradient changes; a bias is measured by the clip of what it is added to."""
    if rate is not None:
        return math.sqrt(value.numel()) / rate
    if name == "bias":
        clip = op.clip if isinstance(op, Relu) else None
        return math.inf if clip is None else float((torch.ones_like(value) * clip).detach().norm())
    return float(value.detach().norm()) or math.inf  # weights of zero have yet to get a length


def _learned(op: Op, neurons: int, timesteps: int) -> list[tuple[str, Tensor, float | None]]:
    """What of an op is learned: (field, value, rate of its logarithm or None)."""
    found: list[tuple[str, Tensor, float | None]] = []
    if isinstance(op, Conv | Linear | Scale):
        found.append(("weight", op.weight, None))
        if op.step is not None:
            top = largest_code(op.bits or 1)
            found.append(("step", op.step, (op.weight.numel() / op.step.numel() * top) ** -0.25))
    if isinstance(op, Relu | Integrate) and op.bias is not None:
        found.append(("bias", op.bias, None))
    if isinstance(op, Relu) and op.clip is not None:
        found.append(("clip", op.clip, (max(1, neurons) * timesteps) ** -0.25))
    return found
