"""Finetuning trains the very network that is exported (SPEC 8)."""

from functools import partial
from types import MappingProxyType

import pytest
import torch

from ann2snn_cli.config.recipes import Decay
from ann2snn_cli.errors import BadFile, BadWeights
from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.integers import integers
from ann2snn_cli.ir.ops import Add, Conv, Input, Integrate, IntegrateFire, Linear, Relu, Reshape
from ann2snn_cli.ir.run import run_counts
from ann2snn_cli.stages.calibrate import calibrate
from ann2snn_cli.stages.quantize.finetune import LONGEST, Finetuning, Judge, Training, distance, finetune
from ann2snn_cli.stages.quantize.phases import phases
from ann2snn_cli.stages.quantize.weights import quantize, with_bits
from ann2snn_cli.stages.simulate import simulate
from ann2snn_cli.stages.threshold import threshold
from ann2snn_cli.tasks import task_named

TASK = task_named("classification")


def samples(count=96, seed=0):
    """Three classes of 1x4x4 images: a bright row, a bright column, or noise alone."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 1, 4, 4, generator=generator) * 0.6
    y = torch.randint(0, 3, (count,), generator=generator)
    x[y == 0, :, 1] += 0.4
    x[y == 1, :, :, 2] += 0.4
    return x, y


def quantized(bits=3, timesteps=4, channel_wise=False):
    """A small convolutional classifier with random weights, QUANTIZED."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(*shape, generator=generator) * 0.4

    nodes = (
        Node("x", Input(), (), (1, 4, 4)),
        Node("conv", Conv(normal(6, 1, 3, 3), padding=(1, 1)), ("x",), (6, 4, 4)),
        Node("relu", Relu(bias=normal(6, 1, 1)), ("conv",), (6, 4, 4)),
        Node("flat", Reshape(), ("relu",), (96,)),
        Node("fc", Linear(normal(3, 96)), ("flat",), (3,)),
        Node("out", Integrate(normal(3)), ("fc",), (3,)),
    )
    graph = calibrate(Graph(nodes, ("out",), Level.FOLDED), [samples()[0]])
    return quantize(graph, Contract(timesteps), weight_bitwidth=bits, channel_wise=channel_wise)


def batches(epoch):
    """An epoch in batches of 32, shuffled by its number."""
    x, y = samples()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
    for part in order.split(32):
        yield x[part], y[part]


def trained(recipe, quantizing=MappingProxyType({}), **options):
    """The graph after finetuning, and its reports."""
    reports = []
    graph = finetune(
        quantized(**quantizing),
        batches,
        recipe,
        loss=TASK.loss,
        metric=TASK.metric,
        report=reports.append,
        **options,
    )
    return graph, reports


def learned(graph):
    """All numbers that finetuning may change."""
    fields = ("weight", "bias", "step", "clip")
    return {
        f"{node.name}.{name}": getattr(node.op, name)
        for node in graph.nodes
        for name in fields
        if isinstance(getattr(node.op, name, None), torch.Tensor)
    }


def test_the_loss_falls():
    """Six epochs on an easy task: less than half the loss; all that is learned has moved."""
    before = quantized()

    graph, reports = trained(Finetuning(epochs=6, lr=0.2))

    assert reports[-1].loss < reports[0].loss / 2
    assert reports[-1].results["accuracy"] > max(0.8, reports[0].results["accuracy"])
    assert [report.samples for report in reports] == [96] * 6
    assert [report.lr for report in reports] == [Finetuning(epochs=6, lr=0.2).lr_at(e) for e in range(6)]
    assert [(report.epoch, report.epochs) for report in reports] == [(epoch, 6) for epoch in range(1, 7)]
    moved = {key for key, value in learned(graph).items() if not torch.equal(value, learned(before)[key])}
    assert moved == set(learned(before)) == {
        "conv.weight", "conv.step", "relu.bias", "relu.clip", "fc.weight", "fc.step", "out.bias",
    }  # fmt: skip


def test_what_finetune_was_handed_stays():
    """The graph before training is not written into."""
    graph = quantized()
    before = {key: value.clone() for key, value in learned(graph).items()}

    finetune(graph, batches, Finetuning(epochs=1, lr=0.1), loss=TASK.loss, metric=TASK.metric)

    assert all(torch.equal(value, before[key]) for key, value in learned(graph).items())


def test_no_gradient_is_long_beside_what_it_changes():
    """A loss times a million moves weights no further than a share of their length, at any rate."""
    recipe, before = Finetuning(epochs=1, lr=0.01, momentum=0.0, wd=0.0), learned(quantized())
    steps = len(list(batches(0)))
    graph = finetune(
        quantized(), batches, recipe, loss=lambda *found: 1e6 * TASK.loss(*found), metric=TASK.metric
    )  # fmt: skip
    for key in ("conv.weight", "fc.weight"):
        moved = (learned(graph)[key] - before[key]).norm() / before[key].norm()
        assert 0.01 * LONGEST * 0.5 < moved <= 0.01 * LONGEST * steps * 1.01


def test_no_epochs_change_nothing():
    """epochs = 0 gives the same numbers back."""
    graph, reports = trained(Finetuning(epochs=0))

    assert reports == []
    assert all(torch.equal(value, learned(quantized())[key]) for key, value in learned(graph).items())


@pytest.mark.parametrize("stop", [1, 2])
def test_resuming_is_as_if_it_had_not_stopped(stop):
    """After epoch k the saved state leads to the same graph, bit for bit, as going on."""
    recipe = Finetuning(epochs=4, lr=0.05)
    states = []
    whole, _ = trained(recipe, save=lambda state: states.append(torch_copy(state)))

    resumed, reports = trained(recipe, resume=states[stop - 1])

    assert [report.epoch for report in reports] == list(range(stop + 1, 5))
    assert all(torch.equal(value, learned(whole)[key]) for key, value in learned(resumed).items())


def torch_copy(state):
    """The state as it comes back from a file, read by torch's safe default."""
    import io

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_a_state_of_another_network_is_refused():
    """The remedy: start anew."""
    states = []
    trained(Finetuning(epochs=1), save=states.append)
    states[0]["leaves"].pop("fc.weight")

    with pytest.raises(BadFile, match="another network") as caught:
        trained(Finetuning(epochs=2), resume=states[0])

    assert "without resume" in str(caught.value)


@pytest.mark.parametrize("channel_wise", [False, True])
@pytest.mark.parametrize(("bits", "timesteps"), [(1, 4), (2, 4), (4, 16), (8, 5)])
def test_the_trained_network_is_the_exported_one(bits, timesteps, channel_wise):
    """A5: The counts of the training forward are those of the integers, and of layerwise spikes."""
    graph = finetune(
        quantized(bits, timesteps, channel_wise), batches, Finetuning(epochs=1, lr=0.02),
        loss=TASK.loss, metric=TASK.metric,
    )  # fmt: skip
    x = samples(64, seed=9)[0]
    with_gradients = graph.map_tensors(lambda tensor: tensor.clone().requires_grad_())
    trained_counts, exported_counts, spikes = {}, {}, {}

    def note(kept):
        return lambda node, value: kept.update({node.name: value})

    run_counts(integers(with_gradients), x.float(), note(trained_counts))
    exported = threshold(graph)
    run_counts(exported, x.double(), note(exported_counts))
    simulate(
        exported, x, delay=timesteps,
        watch=lambda node, activity: spikes.update({node.name: activity.train.sum(0)}),
    )  # fmt: skip

    assert isinstance(exported["relu"].op, IntegrateFire)
    for name in ("relu", "out"):
        assert trained_counts[name].requires_grad
        assert torch.equal(trained_counts[name].detach().double(), exported_counts[name]), name
        assert torch.equal(spikes[name].double(), exported_counts[name]), name


def test_the_schedule_of_the_learning_rate():
    """Times 0.1 at 50 % and at 75 % of the epochs; a single epoch is not cut."""
    assert [Finetuning(8, lr=1.0).lr_at(epoch) for epoch in range(8)] == pytest.approx(
        [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    assert [Finetuning(5, lr=1.0).lr_at(epoch) for epoch in range(5)] == pytest.approx(
        [1, 1, 0.1, 0.01, 0.01]
    )
    assert Finetuning(1, lr=1.0).lr_at(0) == 1


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
def test_divergence_is_reported():
    """A loss that is no number stops training; the remedy names the learning rate."""
    with pytest.raises(BadWeights, match="diverged") as caught:
        finetune(
            quantized(), batches, Finetuning(epochs=3, lr=7.5),
            loss=lambda outputs, target: outputs[0].sum() * float("inf"), metric=TASK.metric,
        )  # fmt: skip

    assert "epoch 1" in caught.value.where
    assert "7.5" in caught.value.remedy


def two_inputs(x):
    """The samples of `samples` as the two halves that the graph of `halves` takes."""
    return x[:, 0, :2].flatten(1), x[:, 0, 2:].flatten(1)


def halves():
    """A classifier of two inputs a and b, QUANTIZED: a layer each, their sum, a ReLU, a layer."""
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(*shape, generator=generator) * 0.4 for shape in ((6, 8), (6, 8), (3, 6))]
    nodes = (
        Node("a", Input(), (), (8,)),
        Node("b", Input(), (), (8,)),
        Node("left", Linear(weights[0]), ("a",), (6,)),
        Node("right", Linear(weights[1]), ("b",), (6,)),
        Node("sum", Add(), ("left", "right"), (6,)),
        Node("relu", Relu(bias=torch.zeros(6)), ("sum",), (6,)),
        Node("fc", Linear(weights[2]), ("relu",), (3,)),
        Node("out", Integrate(torch.zeros(3)), ("fc",), (3,)),
    )
    graph = calibrate(Graph(nodes, ("out",), Level.FOLDED), [two_inputs(samples()[0])])
    return quantize(graph, Contract(4), weight_bitwidth=4)


def test_samples_of_several_inputs_train_it_in_order_or_by_name():
    """A tuple, and a dict in another order: the same graph to the last bit, and the loss falls."""
    reports = []

    def trained_by(form):
        def give(epoch):
            return ((form(*two_inputs(x)), y) for x, y in batches(epoch))

        return finetune(
            halves(), give, Finetuning(epochs=6, lr=0.3), loss=TASK.loss, metric=TASK.metric,
            report=reports.append,
        )  # fmt: skip

    in_order, by_name = trained_by(lambda a, b: (a, b)), trained_by(lambda a, b: {"b": b, "a": a})

    assert all(torch.equal(value, learned(by_name)[key]) for key, value in learned(in_order).items())
    assert reports[5].loss < 0.8 * reports[0].loss
    assert [report.samples for report in reports] == [96] * 12


def test_weights_at_the_edge_of_their_grid_go_on_learning():
    """At 2 bits all weights but the zeros are at the edge: LSQ gives gradients there, and none beyond."""
    graph = quantized(bits=2, timesteps=16).map_tensors(lambda tensor: tensor.clone().requires_grad_())
    x, y = samples()

    TASK.loss(run_counts(integers(graph), x), y).backward()

    op = graph["fc"].op
    exported = threshold(graph)["fc"].op.weight
    gradients = op.weight.grad[exported != 0]
    assert float((gradients != 0).double().mean()) > 0.3


def test_another_forward_pass_is_what_is_trained():
    """The loss is of the outputs that `forward` gives for the graph with its present numbers."""
    asked = []

    def forward(graph, x):
        asked.append(graph.level)
        return tuple(0 * output for output in run_counts(integers(graph), x))

    _, reports = trained(Finetuning(epochs=1), forward=forward)

    assert asked == [Level.QUANTIZED] * 3  # 96 samples in batches of 32
    assert reports[0].loss == pytest.approx(torch.tensor(3.0).log().item())  # of three equal scores


def test_a_cosine_falls_to_nothing_step_by_step():
    """With the number of samples each step has its rate; without it each epoch."""
    recipe = Finetuning(epochs=2, lr=0.1, schedule=Decay.COSINE)

    assert [recipe.lr_at(done) for done in (0, 0.5, 1, 1.5, 2)] == pytest.approx(
        [0.1, 0.0853553, 0.05, 0.0146447, 0], abs=1e-6
    )
    rates = {}
    for samples_known in (None, 96):
        seen = rates.setdefault(samples_known, [])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Training, "_set_rate", lambda self, done, seen=seen: seen.append(done))
            trained(recipe, samples=samples_known)
    assert rates == {None: [0, 0, 0, 1, 1, 1], 96: pytest.approx([0, 1 / 3, 2 / 3, 1, 4 / 3, 5 / 3])}


def test_distillation_draws_outputs_to_those_of_the_teacher():
    """Where the teacher counts alone, outputs come as near to it as labels would have taken them away."""
    x, _ = samples()
    start = quantized(bits=8)
    wanted = run_counts(integers(start), x)[0].flip(1)  # as no label would have it

    def teacher(x):
        with torch.no_grad():
            return (run_counts(integers(start), x)[0].flip(1),)

    def error(recipe, **options):
        graph = finetune(start, batches, recipe, loss=TASK.loss, metric=TASK.metric, **options)
        return float((run_counts(integers(graph), x)[0] - wanted).square().mean() / wanted.var())

    untaught = error(Finetuning(epochs=15, lr=0.1))
    taught = error(Finetuning(epochs=15, lr=0.1, distill=5.0), teacher=teacher)

    assert taught < 0.5 * untaught


def test_the_distance_to_the_teacher_has_no_unit():
    """The mean square error as a share of the variance: outputs twice as large are as far away."""
    a, b = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 2.0]])

    assert float(distance((a,), (b,))) == pytest.approx(0.25)  # 1/2 of variance 2
    assert float(distance((2 * a,), (2 * b,))) == pytest.approx(0.25)


def judged(scores, epochs=3, **options):
    """A training whose epochs score so; its graph, which epoch was kept and with what score."""
    given, kept = iter(scores), []
    judge = Judge(lambda graph: next(given), lambda epoch, score: kept.append((epoch, score)))
    graph, _ = trained(Finetuning(epochs=epochs, lr=0.05), judge=judge, **options)
    return graph, kept


def test_the_best_epoch_is_kept():
    """The graph after the epoch that the judge scored highest; of equals the later one."""
    graph, kept = judged([0.1, 0.9, 0.5])
    states = []
    judged([0.1, 0.9, 0.5], save=lambda state: states.append(torch_copy(state)))
    assert kept == [(2, 0.9)]
    assert judged([0.9, 0.9, 0.5])[1] == [(2, 0.9)]
    assert torch.equal(learned(graph)["conv.weight"], states[1]["leaves"]["conv.weight"])
    assert not torch.equal(learned(graph)["conv.weight"], states[2]["leaves"]["conv.weight"])


def test_resuming_remembers_the_best_epoch():
    """A training that stopped after its best epoch gives that epoch all the same."""
    states = []
    whole, _ = judged([0.9, 0.5, 0.1], save=lambda state: states.append(torch_copy(state)))

    resumed, kept = judged([0.1], resume=states[1])

    assert kept == [(1, 0.9)]
    assert all(torch.equal(value, learned(whole)[key]) for key, value in learned(resumed).items())


def test_bfloat16_changes_gradients_alone():
    """The loss of the first step is nearly that of exact products: an input alone has more than 8 bits."""
    first, losses = [next(batches(0))], []
    for bf16 in (False, True):
        finetune(
            quantized(), lambda epoch: first, Finetuning(epochs=1, bf16=bf16), loss=TASK.loss,
            metric=TASK.metric, report=lambda report: losses.append(report.loss),
        )  # fmt: skip
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize("channel_wise", [False, True])
@pytest.mark.parametrize("stop", [1, 2, 4])
def test_one_bit_by_way_of_more_resumes_as_if_it_had_not_stopped(stop, channel_wise):
    """Each phase has its own grid, steps and clips; at the end all weights have one bit."""
    recipe = Finetuning(epochs=5, lr=0.05, phases=phases(1, 5))
    options = {
        "quantizing": {"bits": 1, "channel_wise": channel_wise},
        "with_bits": partial(with_bits, channel_wise=channel_wise),
    }
    states = []
    whole, reports = trained(recipe, save=lambda state: states.append(torch_copy(state)), **options)
    resumed, _ = trained(recipe, resume=states[stop - 1], **options)

    assert [state["bits"] for state in states] == [4, 2, 1, 1, 1]
    assert {node.op.bits for node in whole.nodes if isinstance(node.op, Conv | Linear)} == {1}
    assert [report.lr for report in reports][:3] == [0.05] * 3
    assert all(torch.equal(value, learned(whole)[key]) for key, value in learned(resumed).items())
