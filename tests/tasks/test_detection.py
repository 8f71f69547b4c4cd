"""Detection (A3): boxes from a grid, worked out by hand; average precision of cases whose value is known."""

import pytest
import torch

from ann2snn_cli.errors import BadData
from ann2snn_cli.tasks import task_named, task_of

pytest.importorskip("pycocotools")
TASK = task_named("detection")


def labels(*boxes, most=3, **more):
    """Of one image of 40x80 pixels (height, width); a box is (class, left, top, right, bottom)."""
    given = {
        "boxes": torch.zeros(1, most, 4),
        "classes": torch.full((1, most), -1),
        "size": torch.tensor([[40, 80]]),
    }
    for place, (kind, *box) in enumerate(boxes):
        given["classes"][0, place], given["boxes"][0, place] = kind, torch.tensor(box)
    return given | more


def grid(*found, classes=2, rows=4, columns=8):
    """An output with these: (class, row, column, logit, x, y, log width, log height)."""
    output = torch.full((1, classes + 4, rows, columns), -20.0)
    for kind, row, column, logit, *numbers in found:
        output[0, kind, row, column] = logit
        output[0, -4:, row, column] = torch.tensor(numbers)
    return output


def score(output, given):
    """What the metric says of one batch."""
    metric = TASK.metric()
    metric.update((output,), given)
    return metric.result()


BOX = (1, 0.25, 0.25, 0.5, 0.75)  # 2 of 8 columns and 2 of 4 rows wide, its centre in column 3, row 2
FOUND = (1, 2, 3, 5.0, 0.0, 0.0, torch.log(torch.tensor(2.0)).item(), torch.log(torch.tensor(2.0)).item())


def test_a_box_that_is_found_exactly_scores_one():
    """A cell's numbers are where in it the centre is, and the logarithms of width and height in cells."""
    result = score(grid(FOUND), labels(BOX))
    assert (result["map"], result["map_50"], result["map_75"]) == pytest.approx((1, 1, 1))
    assert next(iter(result)) == TASK.headline.name


def test_a_box_found_with_an_iou_of_0_6_counts_at_050_055_and_060_alone():
    """3 of the 10 thresholds: the box found has the same place, and 0.62 of its height."""
    (*others, height) = FOUND
    result = score(grid((*others, height + torch.log(torch.tensor(0.62)).item())), labels(BOX))
    assert (result["map"], result["map_50"], result["map_75"]) == pytest.approx((0.3, 1, 0))


def test_another_class_elsewhere_is_no_find_and_a_missed_box_halves_the_recall():
    """Average precision at 101 recalls: 51 of them are reached where one of two boxes is found."""
    assert score(grid((0, 0, 6, *FOUND[3:])), labels(BOX))["map"] == 0
    result = score(grid(FOUND), labels(BOX, (1, 0.7, 0.1, 0.9, 0.4)))
    assert result["map"] == pytest.approx(51 / 101)


def test_what_is_found_in_an_image_without_boxes_lowers_the_precision():
    """With the higher score it comes first: one right of two."""
    metric = TASK.metric()
    metric.update((grid((1, 0, 0, 9.0, 0, 0, 0, 0)),), labels())
    metric.update((grid(FOUND),), labels(BOX))
    assert metric.result()["map"] == pytest.approx(0.5)


def test_without_a_box_there_is_no_number():
    """None, also where all boxes are crowds."""
    assert TASK.metric().result() == {"map": None, "map_50": None, "map_75": None, "loss": None}
    assert score(grid(FOUND), labels())["map"] is None
    crowd = torch.tensor([[True, False, False]])
    assert score(grid(FOUND), labels(BOX, crowd=crowd))["map"] is None


def test_the_loss_is_least_for_the_true_boxes():
    """And finite, with gradients, for an image without any."""
    true, given = grid(FOUND), labels(BOX)
    least = float(TASK.loss((true,), given))
    for channel, row, column in ((1, 2, 3), (0, 0, 0), (2, 2, 3), (5, 2, 3)):
        other = true.clone()
        other[0, channel, row, column] += 12 * (1 if channel != 1 else -1)
        assert float(TASK.loss((other,), given)) > least
    output = true.clone().requires_grad_()
    TASK.loss((output,), labels()).backward()
    assert torch.isfinite(output.grad).all()


@pytest.mark.parametrize(
    ("outputs", "what"),
    [((torch.rand(1, 3),), "gives \\[3\\] a sample, which is no grid"),
     ((grid(), grid()), "2 outputs, which is no"),
     ((grid(classes=1),), "class 1 is out of range: the grid has scores for 1")],
)  # fmt: skip
def test_an_output_that_is_no_grid_is_refused(outputs, what):
    """With what it should be."""
    with pytest.raises(BadData, match=what):
        TASK.loss(outputs, labels(BOX))


@pytest.mark.parametrize(
    ("given", "what"),
    [(torch.rand(3, 4), "no boxes"),
     (labels((1, 0.5, 0.5, 0.4, 0.6)), "of no area"),
     (labels((1, 0.5, 0.5, 1.4, 0.6)), "outside its image"),
     (labels((7, 0.0, 0.0, 1.0, 1.0)), "class 7 is out"),
     (labels((-2, 0.0, 0.0, 1.0, 1.0)), "holds -2"),
     (labels(BOX) | {"boxes": torch.rand(1, 4)}, "holds boxes")],
)  # fmt: skip
def test_labels_that_are_no_boxes_are_refused(given, what):
    """Each with its sentence and its remedy."""
    with pytest.raises(BadData, match=what) as caught:
        TASK.count_classes(given, 5)
    assert "fractions of the image" in caught.value.remedy


def test_the_labels_show_the_task():
    """A dict with boxes; the classes are counted without the places that hold none."""
    assert (task_of(labels(BOX)), TASK.count_classes(labels(BOX), 5)) == ("detection", 2)
