"""Segmentation (A3): mean IoU worked out by hand, and cross entropy against torch."""

import pytest
import torch
from torch.nn import functional as F

from ann2snn_cli.errors import BadData
from ann2snn_cli.tasks import task_named, task_of

TASK = task_named("segmentation")


def scores(classes, predicted):
    """An output whose highest scores are at these classes."""
    return F.one_hot(torch.tensor(predicted), classes).permute(0, 3, 1, 2).float()


def test_the_mean_iou_by_hand():
    """Class 0: 2 of 4, class 1: 1 of 2. Class 2 is in no label: left out, its pixel wrong; 255 is ignored."""
    labels = torch.tensor([[[0, 0, 0], [1, 1, 255]]], dtype=torch.uint8)
    predicted = [[[0, 0, 2], [1, 0, 1]]]
    metric = TASK.metric()
    metric.update((scores(3, predicted),), labels)
    result = metric.result()

    assert result["mean_iou"] == pytest.approx((2 / 4 + 1 / 2) / 2)
    assert result["pixel_accuracy"] == pytest.approx(3 / 5)
    assert next(iter(result)) == TASK.headline.name


def test_batches_are_counted_together():
    """It is no mean of the IoUs of images: unions and intersections are summed first."""
    generator = torch.Generator().manual_seed(0)
    outputs, labels = (
        torch.rand(6, 4, 5, 5, generator=generator),
        torch.randint(4, (6, 5, 5), generator=generator),
    )
    predicted, wanted = outputs.argmax(1), []
    for each in range(4):
        both, either = (predicted == each) & (labels == each), (predicted == each) | (labels == each)
        wanted.append(float(both.sum() / either.sum()))
    metric = TASK.metric()
    for place in range(0, 6, 2):
        metric.update((outputs[place : place + 2],), labels[place : place + 2])

    assert metric.result()["mean_iou"] == pytest.approx(sum(wanted) / 4)


def test_the_loss_is_torchs():
    """The mean over pixels that count; 0, with gradients, where none does."""
    outputs, labels = torch.rand(2, 3, 4, 4, requires_grad=True), torch.randint(3, (2, 4, 4))
    labels[0, :2] = 255

    assert torch.allclose(
        TASK.loss((outputs,), labels.byte()), F.cross_entropy(outputs, labels, ignore_index=255)
    )
    nothing = TASK.loss((outputs,), torch.full_like(labels, 255))
    nothing.backward()
    assert (float(nothing.detach()), float(outputs.grad.abs().sum().detach())) == (0, 0)


def test_without_a_pixel_that_counts_there_is_no_number():
    """None, and no division by zero."""
    metric = TASK.metric()
    assert metric.result()["mean_iou"] is None
    metric.update((torch.rand(1, 2, 2, 2),), torch.full((1, 2, 2), 255))
    assert metric.result()["mean_iou"] is None


@pytest.mark.parametrize(
    ("output", "what"),
    [((1, 3), "gives \\[3\\] a sample, and its mask is \\[4, 4\\]"), ((1, 3, 2, 2), "gives \\[3, 2, 2\\]"),
     ((1, 2, 4, 4), "class 2 is out of range: the output has 2 scores")],
)  # fmt: skip
def test_an_output_that_is_no_map_of_the_mask_is_refused(output, what):
    """With what is missing."""
    with pytest.raises(BadData, match=what):
        TASK.loss((torch.rand(output),), torch.full((1, 4, 4), 2))


@pytest.mark.parametrize(
    ("labels", "what"),
    [(torch.rand(2, 3, 3), "float32"), (torch.ones(3).long(), "int64 of shape"),
     (-torch.ones(1, 2, 2).int(), "-1"),
         ({}, "type dict"), (torch.full((1, 2, 2), 12), "class 12 is out of range")],
)  # fmt: skip
def test_what_is_no_mask_is_refused(labels, what):
    """Each with its sentence and its remedy."""
    with pytest.raises(BadData, match=what) as caught:
        TASK.count_classes(labels, 10)
    assert "255" in caught.value.remedy or "10" in caught.value.what


def test_maps_of_whole_numbers_are_masks():
    """And 255 is no class."""
    labels = torch.tensor([[[0, 3], [255, 1]]], dtype=torch.uint8)
    assert (task_of(labels), TASK.count_classes(labels, 10)) == ("segmentation", 4)
