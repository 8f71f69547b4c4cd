"""A task is one object: a new one works everywhere, and only its own file knows what its labels are."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ann2snn_cli.data.samples import from_tensors
from ann2snn_cli.errors import UsageError
from ann2snn_cli.ir.graph import Contract
from ann2snn_cli.stages.calibrate import calibrate
from ann2snn_cli.stages.fold import fold
from ann2snn_cli.stages.quantize.finetune import Finetuning, finetune
from ann2snn_cli.stages.quantize.weights import quantize
from ann2snn_cli.stages.trace import trace
from ann2snn_cli.stages.train import measure, train
from ann2snn_cli.tasks import TASKS, Headline, register, task_named


class Deviation:
    """The root of the mean squared error of all coordinates."""

    def __init__(self):
        self.squares = self.seen = 0.0

    def update(self, outputs, labels):
        self.squares += float(((outputs[0] - torch.stack([labels["at"][key] for key in "xy"], 1)) ** 2).sum())
        self.seen += outputs[0].numel()

    def result(self):
        return {"deviation": (self.squares / self.seen) ** 0.5}


class Position:
    """Regression: where in the image the bright pixel is. Labels are a dict in a dict."""

    name = "position"
    headline = Headline("deviation", is_share=False, higher_is_better=False)

    def loss(self, outputs, labels):
        return F.mse_loss(outputs[0], torch.stack([labels["at"][key] for key in "xy"], 1))

    def metric(self):
        return Deviation()

    def prediction(self, outputs):
        return None

    def count_classes(self, labels, most):
        return 0


@pytest.fixture
def registered(monkeypatch):
    """The task under its name, for one test."""
    monkeypatch.setattr("ann2snn_cli.tasks.TASKS", dict(TASKS))
    register(Position())
    return "position"


def dataset(task, samples=60):
    """Dim 4x4 images with one bright pixel, and its coordinates in 0..1."""
    generator = torch.Generator().manual_seed(0)
    x = 0.1 * torch.rand(samples, 1, 4, 4, generator=generator)
    place = torch.randint(16, (samples,), generator=generator)
    x.flatten(1)[torch.arange(samples), place] = 1.0
    column, row = (place % 4) / 3, place // 4 / 3
    halves = [
        (x[part], {"at": {"x": column[part], "y": row[part]}, "pixel": place[part].reshape(-1, 1)})
        for part in (slice(40), slice(40, None))
    ]
    return from_tensors("positions", *halves, task=task)


def deviation(network, batches):
    """The same number from torch alone."""
    batches = list(batches)
    given = torch.cat([network(x) for x, _ in batches]).detach()
    wanted = torch.cat([torch.stack([y["at"]["x"], y["at"]["y"]], 1) for _, y in batches])
    return float(F.mse_loss(given, wanted)) ** 0.5


def build():
    """One hidden layer, two outputs."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))


@pytest.mark.parametrize("how", ["by name", "as an object"])
def test_a_new_task_is_trained_finetuned_and_measured(how, registered):
    """Registered in one line, or handed over with the data: no other file knows of it."""
    data = dataset(registered if how == "by name" else Position())
    task, network = task_named(data.task), build()
    untrained = deviation(network, data.test_batches(8))

    def batches(epoch):
        return data.train_batches(8, 0, epoch)

    history = train(network, batches, loss=task.loss, metric=task.metric, epochs=40, lr=0.01,
                    weight_decay=0.0, seed=0, device="cpu")  # fmt: skip
    trained = measure(network, data.test_batches(8), task.metric(), "cpu")

    assert data.classes == 0
    assert list(history[-1].results) == [task.headline.name] == ["deviation"]
    assert trained["deviation"] == pytest.approx(deviation(network, data.test_batches(20)), rel=1e-5)
    assert trained["deviation"] < untrained / 2

    graph = fold(trace(network.eval(), [data.input_shape]))
    graph = calibrate(graph, [x for x, _ in data.calibration_batches(40, 8, 0)])
    reports = []
    finetune(
        quantize(graph, Contract(8), weight_bitwidth=3), batches, Finetuning(epochs=6, lr=0.02),
        loss=task.loss, metric=task.metric, report=reports.append,
    )  # fmt: skip
    assert reports[-1].results["deviation"] == pytest.approx(reports[-1].loss ** 0.5, rel=1e-5)
    assert reports[-1].loss < reports[0].loss


def test_a_name_that_is_taken_is_refused():
    """Two tasks of one name would be one of them by chance."""

    class Other(Position):
        name = "classification"

    with pytest.raises(UsageError, match="there is a task 'classification' already: Classification"):
        register(Other())


def test_a_name_that_is_not_there_is_refused_with_the_nearest():
    """The remedy names it and lists all."""
    with pytest.raises(UsageError, match="unknown task 'clasification'") as caught:
        task_named("clasification")
    assert "did you mean classification?" in caught.value.remedy
    assert all(name in caught.value.remedy for name in TASKS)


def test_every_task_goes_by_its_own_name():
    """The key is the task's name, and its metric's first number the headline."""
    assert "classification" in TASKS
    for name, task in TASKS.items():
        assert task.name == name
        assert next(iter(task.metric().result())) == task.headline.name


def test_a_task_that_is_handed_over_is_itself():
    """A user's own needs no registration."""
    mine = Position()
    assert task_named(mine) is mine
