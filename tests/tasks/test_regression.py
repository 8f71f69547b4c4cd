"""Regression (A3): mean squared error and its root, held against numbers worked out by hand and torch."""

import pytest
import torch
from torch.nn import functional as F

from ann2snn_cli.errors import BadData, UsageError
from ann2snn_cli.tasks import refuse_other_task, task_named, task_of

TASK = task_named("regression")


def test_the_root_mean_square_error_by_hand():
    """Errors 1, 2, 2, 5 of four numbers: the mean of the squares is 8.5, however they are divided."""
    outputs, labels = torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([[0.0, 4.0], [1.0, 0.0]])
    whole, parts = TASK.metric(), TASK.metric()
    whole.update((outputs,), labels)
    for place in range(2):
        parts.update((outputs[place : place + 1],), labels[place : place + 1])

    assert whole.result() == {"rmse": 8.5**0.5, "loss": 8.5}
    assert parts.result() == whole.result()
    assert next(iter(whole.result())) == TASK.headline.name


def test_the_loss_is_torchs():
    """Of several outputs, the sum; a target of any shape has as many numbers as the output."""
    outputs, labels = torch.rand(5, 6), torch.rand(5, 2, 3)
    wanted = F.mse_loss(outputs, labels.flatten(1))

    assert torch.equal(TASK.loss((outputs,), labels), wanted)
    assert torch.equal(TASK.loss((outputs, outputs), labels), wanted + wanted)
    assert torch.equal(
        TASK.loss((outputs[:, :1],), labels[:, 0, 0]), F.mse_loss(outputs[:, 0], labels[:, 0, 0])
    )


def test_an_output_of_another_width_is_refused_and_not_broadcast():
    """One number against three would be a loss of something."""
    with pytest.raises(BadData, match="gives 1 numbers a sample, and y holds 3"):
        TASK.loss((torch.rand(4, 1),), torch.rand(4, 3))


def test_lower_is_better_and_is_no_percentage():
    """Tables say so, and show the number as it is."""
    assert TASK.headline.heading == "rmse (lower is better)"
    assert (TASK.headline.shown(0.5), TASK.headline.shown(None)) == ("0.5", "-")
    assert task_named("classification").headline.shown(0.5) == "50.00 %"


def test_without_samples_there_is_no_number():
    """None, and no division by zero."""
    assert TASK.metric().result() == {"rmse": None, "loss": None}


@pytest.mark.parametrize(
    ("labels", "task"),
    [
        (torch.tensor([0, 1, 2]), "classification"),
        (torch.tensor([0.5, 1, 2]), "regression"),
        (torch.rand(3, 4), "regression"),
        (torch.tensor([0.0, 1, 2]), "classification"),  # which refuses them: classes, or numbers?
    ],
)
def test_the_kind_of_labels_shows_the_task(labels, task):
    """Unless one is asked for."""
    assert task_of(labels) == task
    assert task_of(labels, "regression") == "regression"


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (torch.tensor([1.0, float("nan")]), "NaN or infinite values in 1 of 2 samples, first in y\\[1\\]"),
        (torch.tensor([True, False]), "y is bool"),
        (torch.tensor([1j]), "y is complex64"),
        ({"y": torch.rand(2)}, "y is of type dict"),
    ],
)
def test_what_cannot_be_a_target_is_refused(labels, what):
    """Each with its sentence and its remedy."""
    with pytest.raises(BadData, match=what) as caught:
        TASK.count_classes(labels, 10)
    assert caught.value.remedy


def test_numbers_of_a_target_are_counted():
    """What build() is told: whole numbers are numbers too, if regression is asked for."""
    assert [
        TASK.count_classes(y, 1) for y in (torch.rand(5), torch.rand(5, 3), torch.ones(5, 2, 2).int())
    ] == [
        1,
        3,
        4,
    ]


def test_data_for_another_task_are_refused():
    """With both names, and the setting."""
    with pytest.raises(UsageError, match="digits is for classification, not for regression") as caught:
        refuse_other_task("classification", "regression", "digits")
    assert "task" in str(caught.value.where)
    with pytest.raises(UsageError, match="unknown task 'regresion'"):
        refuse_other_task("classification", "regresion", "digits")
