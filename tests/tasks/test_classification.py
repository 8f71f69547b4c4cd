"""Classification: torch's cross entropy, and how often the highest score is at the label."""

import pytest
import torch
from torch.nn import functional as F

from ann2snn_cli.errors import BadData
from ann2snn_cli.tasks import task_named

TASK = task_named("classification")
SCORES = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 2, 1, 1, 0, 2, 2, 0, 1, 0])


def measured(*batches):
    """What a new metric says of these batches."""
    metric = TASK.metric()
    for outputs, labels in batches:
        metric.update(outputs, labels)
    return metric.result()


def test_the_loss_is_torchs_cross_entropy():
    """Of one output."""
    assert torch.equal(TASK.loss((SCORES,), LABELS), F.cross_entropy(SCORES, LABELS))


def test_the_loss_of_several_outputs_is_their_sum():
    """An auxiliary head counts like the main one."""
    other = SCORES.flip(1)
    expected = F.cross_entropy(SCORES, LABELS) + F.cross_entropy(other, LABELS)
    assert float(TASK.loss((SCORES, other), LABELS)) == pytest.approx(float(expected), rel=1e-6)


def test_a_map_has_a_score_for_each_of_its_values():
    """A debug network that ends in a map can be trained all the same."""
    maps = torch.randn(10, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    assert torch.equal(TASK.loss((maps,), LABELS), F.cross_entropy(maps.reshape(10, 8), LABELS))


@pytest.mark.parametrize("sizes", [[10], [1, 9], [4, 4, 2]])
def test_the_metric_is_the_mean_over_all_samples(sizes):
    """However they are divided into batches; the headline comes first."""
    result = measured(*(((s,), y) for s, y in zip(SCORES.split(sizes), LABELS.split(sizes), strict=True)))

    assert next(iter(result)) == TASK.headline.name == "accuracy"
    assert (
        result["accuracy"] == sum(int(s.argmax()) == int(y) for s, y in zip(SCORES, LABELS, strict=True)) / 10
    )
    assert result["loss"] == pytest.approx(float(F.cross_entropy(SCORES, LABELS)), rel=1e-5)


def test_the_first_output_is_the_classifier():
    """Accuracy is its; the loss is that of all."""
    other = SCORES.flip(1)
    result = measured(((SCORES, other), LABELS))

    assert result["accuracy"] == float((SCORES.argmax(1) == LABELS).double().mean())
    assert result["loss"] == pytest.approx(float(TASK.loss((SCORES, other), LABELS)), rel=1e-6)


@pytest.mark.parametrize("shape", [(10, 1), (10,), (10, 3, 4, 4)])
def test_outputs_that_are_no_class_scores_have_neither_number(shape):
    """A map, or one value: None, not a number that means nothing."""
    assert measured(((torch.ones(shape),), LABELS)) == {"accuracy": None, "loss": None}
    assert TASK.prediction((torch.ones(shape),)) is None


def test_a_label_without_a_score_is_a_miss():
    """Two scores, three classes: the accuracy counts it as wrong; a loss does not exist."""
    scores, labels = torch.eye(2)[[0, 1, 1]], torch.tensor([0, 1, 2])
    assert measured(((scores,), labels)) == {"accuracy": 2 / 3, "loss": None}


def test_without_samples_there_are_no_numbers():
    """None, and no division by zero."""
    assert measured() == {"accuracy": None, "loss": None}


def test_the_prediction_is_the_highest_score():
    """A class index a sample."""
    assert TASK.prediction((SCORES,)).tolist() == [int(row.argmax()) for row in SCORES]


def test_the_classes_are_counted():
    """The highest label and one; as many as may be there are allowed."""
    assert TASK.count_classes(torch.tensor([0, 4, 2], dtype=torch.int32), most=5) == 5


@pytest.mark.parametrize(
    ("labels", "what", "remedy"),
    [
        (LABELS.float(), r"y is float32 of shape \(10,\)", "one whole number"),
        (LABELS > 1, "y is bool", "one whole number"),
        (F.one_hot(LABELS), r"y is int64 of shape \(10, 3\)", "one whole number"),
        ({"y": LABELS}, "y is of type dict", "one whole number"),
        (LABELS - 1, "label -1 is out of range", "from 0"),
        (LABELS + 8, "label 10 is out of range", "0 to 9"),
    ],
)
def test_what_cannot_be_class_labels_is_refused(labels, what, remedy):
    """Each with its sentence and its remedy."""
    with pytest.raises(BadData, match=what) as caught:
        TASK.count_classes(labels, most=10)
    assert remedy in caught.value.remedy
