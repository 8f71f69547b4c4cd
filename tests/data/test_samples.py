"""Batches: every order follows from a seed alone, and what cannot be a dataset is refused in one sentence."""

from dataclasses import replace

import pytest
import torch

from ann2snn_cli.data.samples import Data, TensorSplit, from_tensors, split_indices
from ann2snn_cli.errors import BadData, UsageError


def numbered(samples=10, **more):
    """A dataset whose n-th train sample is n everywhere, with label n."""
    x = torch.arange(samples, dtype=torch.float32).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()
    split = TensorSplit(x, torch.arange(samples))
    return Data("numbered", (1, 2, 2), samples, split, split, **more)


def labels(batches):
    """The labels of all batches, in order."""
    return torch.cat([y for _, y in batches]).tolist()


def test_training_order_follows_from_seed_and_epoch():
    """Each epoch shows every sample once, in an order of its own, the same each time."""
    data = numbered(100)
    orders = [labels(data.train_batches(7, seed, epoch)) for seed, epoch in ((0, 0), (0, 1), (1, 0))]

    assert all(sorted(order) == list(range(100)) for order in orders)
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert labels(data.train_batches(7, 0, 1)) == orders[1]
    assert labels(data.train_batches(50, 0, 1)) == orders[1]


def test_fewer_test_samples_are_always_the_same_ones():
    """They are spread over the split, in its order; with all or more nothing changes."""
    data = numbered(100)
    few = data.with_test_samples(7)

    assert few.test_size == 7
    drawn = labels(few.test_batches(3))
    assert drawn == sorted(set(drawn))
    assert drawn != list(range(7)), "not only the first, which may all be of one class"
    assert [x[0, 0, 0, 0].item() for x, _ in few.test_batches(1)] == drawn
    assert few.test.labels.tolist() == drawn
    assert labels(numbered(100).with_test_samples(7).test_batches(7)) == drawn
    assert labels(few.train_batches(10, 0, 0)) == labels(data.train_batches(10, 0, 0))
    assert labels(data.with_test_samples(1000).test_batches(9)) == list(range(100))
    assert data.with_test_samples(None) is data


def test_order_ignores_and_leaves_the_callers_random_state():
    """Drawing an order neither reads nor changes the global generator."""
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = labels(numbered(50).train_batches(10, 0, 0))

    assert torch.equal(torch.rand(1), expected)
    assert labels(numbered(50).train_batches(10, 0, 0)) == first


def test_samples_stay_with_their_labels():
    """A shuffled batch pairs each sample with its own label."""
    for x, y in numbered(20).train_batches(6, 0, 0):
        assert x[:, 0, 0, 0].tolist() == y.tolist()


def test_test_order_is_the_datas_own():
    """Testing shows every sample once, in the dataset's order, whatever the batch size."""
    assert [len(y) for _, y in numbered(10).test_batches(4)] == [4, 4, 2]
    assert labels(numbered(10).test_batches(4)) == list(range(10))


def test_calibration_set_does_not_depend_on_batch_size():
    """A seed draws the same samples in batches of any size, another seed others; at most all are drawn."""
    data = numbered(100)
    drawn = labels(data.calibration_batches(30, 7, seed=0))

    assert len(set(drawn)) == 30
    assert labels(data.calibration_batches(30, 30, seed=0)) == drawn
    assert labels(data.calibration_batches(30, 7, seed=1)) != drawn
    assert sorted(labels(data.calibration_batches(1000, 64, seed=0))) == list(range(100))


def test_calibration_samples_are_training_samples():
    """What thresholds are set from is never what is tested."""
    train, test = (
        TensorSplit(torch.full((8, 1), value), torch.zeros(8, dtype=torch.int64)) for value in (1.0, 2)
    )

    x, _ = next(Data("two", (1,), 1, train, test).calibration_batches(8, 8, 0))

    assert x.flatten().tolist() == [1.0] * 8


def test_smaller_calibration_set_is_part_of_a_larger_one():
    """More calibration samples are the same ones and some more."""
    data = numbered(100)

    assert labels(data.calibration_batches(10, 4, 3)) == labels(data.calibration_batches(50, 4, 3))[:10]


def test_no_training_batch_of_one():
    """A single sample left over joins the batch before it: batch norm cannot be trained on it."""
    assert [len(y) for _, y in numbered(9).train_batches(4, 0, 0)] == [4, 5]
    assert [len(y) for _, y in numbered(1).train_batches(4, 0, 0)] == [1]


def test_bytes_become_fractions():
    """Images are kept as bytes and given as float32, 255 as 1."""
    x = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1)
    data = from_tensors("bytes", (x, torch.arange(3)), (x, torch.arange(3)))
    given = next(data.test_batches(3))[0]

    assert data.train.x.dtype == torch.uint8
    assert given.dtype == torch.float32
    assert given.flatten().tolist() == pytest.approx([0, 0.2, 1])


def test_normalisation_is_per_channel():
    """Batches are (x - mean) / std, in every split."""
    x = torch.tensor([0.5, 0.25]).reshape(1, 2, 1, 1)
    split = TensorSplit(x, torch.zeros(1, dtype=torch.int64))
    data = Data("two", (2, 1, 1), 1, split, split, mean=(0.25, 0.5), std=(0.5, 0.125))

    for batches in (data.test_batches(1), data.train_batches(1, 0, 0), data.calibration_batches(1, 1, 0)):
        assert next(iter(batches))[0].flatten().tolist() == [0.5, -2.0]


@pytest.mark.parametrize("mirrored", [True, False])
def test_augmentation_moves_and_mirrors(mirrored):
    """Augmented images are parts of their framed originals, mirrored where that is allowed."""
    pixels = torch.arange(1, 26, dtype=torch.uint8).reshape(1, 1, 5, 5)
    split = TensorSplit(pixels.repeat(200, 1, 1, 1), torch.zeros(200, dtype=torch.int64))
    data = Data("crops", (1, 5, 5), 1, split, split, augmented=True, mirrored=mirrored)
    framed = torch.nn.functional.pad(pixels[0, 0], (4, 4, 4, 4))
    parts = [framed[top : top + 5, left : left + 5] for top in range(9) for left in range(9)]
    images = [image for part in parts for image in ((part, part.flip(1)) if mirrored else (part,))]
    allowed = {tuple(image.flatten().tolist()) for image in images}
    given = next(data.train_batches(200, 0, 0))[0].mul(255).round().int()
    seen = {tuple(image.flatten().tolist()) for image in given}

    assert seen <= allowed
    assert len(seen) > (80 if mirrored else 60)  # of 162 or 81
    assert torch.equal(next(data.train_batches(200, 0, 0))[0].mul(255).round().int(), given)
    assert torch.equal(next(data.test_batches(1))[0].mul(255).round().int()[0], pixels[0].int())


def test_sizes():
    """The counts of both splits, the shape and the number of classes."""
    x = torch.zeros(4, 3, 2, 2)
    data = from_tensors("sizes", (x, torch.arange(4)), (x[:1], torch.zeros(1, dtype=torch.int32)))

    assert (data.train_size, data.test_size, data.input_shape, data.classes) == (4, 1, (3, 2, 2), 4)
    assert data.test.labels.dtype == torch.int64


X = torch.zeros(4, 1, 2, 2)
Y = torch.arange(4)


@pytest.mark.parametrize(
    ("x", "y", "what", "remedy"),
    [
        (X.long(), Y, "x is int64", "uint8"),
        (X > 1, Y, "x is bool", "uint8"),
        (X.flatten(), Y, r"shape \(16,\)", "counts samples"),
        (torch.zeros(4, 8, 8, 3), Y, "channels last", "transpose"),
        (X, Y.float(), "y is float32", "one whole number"),
        (X, torch.zeros(4, 10, dtype=torch.int64), r"shape \(4, 10\)", "one whole number"),
        (X, Y[:3], "4 samples in x and 3 labels in y", "one label a sample"),
        (X[:0], Y[:0], "x is empty", "at least one"),
        (X.index_fill(0, torch.tensor([1]), float("nan")), Y, "NaN", "replace"),
        (X.index_fill(0, torch.tensor([1]), float("inf")), Y, "infinite", "replace"),
        (X, Y - 1, "label -1 is out of range", "from 0"),
        (X, Y + 1000, "label 1003 is out of range", "0 to 999"),
        (X[:, :, :1], Y, "differ in shape", "one shape"),
    ],
)
def test_refusals(x, y, what, remedy):
    """Each way to be no dataset has its own sentence and remedy, and says where."""
    with pytest.raises(BadData, match=what) as caught:
        from_tensors("mine", (X, Y), (x, y), where="mine.npz")

    assert remedy in caught.value.remedy
    assert caught.value.where == "mine.npz"


def test_label_beyond_the_named_classes():
    """Where the number of classes is known, a label beyond it is refused."""
    with pytest.raises(BadData, match="label 3 is out of range"):
        from_tensors("mine", (X, Y), (X, Y), classes=3)


# Several inputs, and other labels than classes --------------------------------------------------------


def two_inputs(form, samples=10):
    """An image of bytes and a vector of floats, both telling the sample's number; labels as well."""
    numbers = torch.arange(samples)
    image = numbers.to(torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()
    vector = numbers.double().reshape(-1, 1).repeat(1, 3)
    return ((image, vector) if form == "tuple" else {"image": image, "vector": vector}), numbers


@pytest.mark.parametrize("form", ["tuple", "dict"])
def test_inputs_of_a_sample_stay_together(form):
    """In every split and order each input belongs to the label; bytes become fractions, floats float32."""
    data = from_tensors("two", two_inputs(form), two_inputs(form, 4))
    every = [data.train_batches(3, 0, 0), data.test_batches(3), data.calibration_batches(5, 3, 0)]

    for batches, count in zip(every, (10, 4, 5), strict=True):
        seen = list(batches)
        assert sum(len(y) for _, y in seen) == count
        for x, y in seen:
            image, vector = x if form == "tuple" else (x["image"], x["vector"])
            assert (image[:, 0, 1, 1] * 255).round().tolist() == vector[:, 2].tolist() == y.tolist()
            assert image.dtype == vector.dtype == torch.float32


def test_shapes_of_several_inputs():
    """In order or by name; the shape of the one input is asked in vain."""
    in_order = from_tensors("two", two_inputs("tuple"), two_inputs("tuple"))
    by_name = from_tensors("two", two_inputs("dict"), two_inputs("dict"))

    assert in_order.input_shapes == ((1, 2, 2), (3,))
    assert by_name.input_shapes == {"image": (1, 2, 2), "vector": (3,)}
    assert numbered().input_shapes == ((1, 2, 2),)
    with pytest.raises(BadData, match="2 inputs, where one is expected"):
        _ = by_name.input_shape


@pytest.mark.parametrize("change", [{"mean": (0.5,), "std": (1.0,)}, {"augmented": True}])
def test_images_alone_are_normalised_and_moved(change):
    """With several inputs nobody could say which of them is meant."""
    data = from_tensors("two", two_inputs("tuple"), two_inputs("tuple"))
    with pytest.raises(BadData, match="has 2 inputs"):
        replace(data, **change)


@pytest.mark.parametrize(
    ("x", "what"),
    [
        ((X, X[:3]), r"test: 4 samples in x\[0\] and 3 in x\[1\]"),
        ((X, X.long()), r"test: x\[1\] is int64"),
        ({"a": X, "b": X / 0}, r"test: x\['b'\] holds NaN"),
        ((X, (X, X)), "holds more than tensors"),
        ({}, "or none"),
        ({"a": X, "b": "text"}, r"x\['b'\] is no tensor"),
        ({"a": X, "c": X}, r"differ in shape: \{'a': \(1, 2, 2\), 'b': .* and .*'c'"),
        ((X, X), "differ in shape"),
    ],
)
def test_refusals_of_several_inputs(x, what):
    """The input is named as Python would write it."""
    with pytest.raises(BadData, match=what) as caught:
        from_tensors("mine", ({"a": X, "b": X}, Y), (x, Y), where="here")
    assert caught.value.where == "here"
    assert caught.value.remedy


class Anything:
    """A task that takes every label."""

    name = headline = "anything"

    def count_classes(self, labels, most):
        return 0


def boxes(samples=4):
    """Labels as detection has them: floats, a map of bytes, a pair."""
    numbers = torch.arange(samples)
    return {
        "box": numbers[:, None] * 0.5,
        "map": numbers.to(torch.uint8)[:, None],
        "pair": (numbers, -numbers),
    }


def test_labels_may_be_any_tree():
    """They come as they were given, in the order of their samples."""
    data = from_tensors("boxes", (X, boxes()), (X, boxes()), task=Anything())
    ((_, given),) = data.train_batches(4, 0, 0)
    order = given["pair"][0]

    assert (data.train_size, data.classes) == (4, 0)
    assert sorted(order.tolist()) == [0, 1, 2, 3]
    assert order.tolist() != [0, 1, 2, 3]
    assert torch.equal(given["pair"][1], -order)
    assert torch.equal(given["box"], order[:, None] * 0.5)
    assert torch.equal(given["map"], order.to(torch.uint8)[:, None])


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (boxes() | {"map": torch.zeros(3, 1)}, r"test: 4 samples in y\['box'\] and 3 in y\['map'\]"),
        (boxes(3), r"test: 4 samples in x and 3 labels in y\['box'\]"),
        ({"box": torch.tensor(1.0)}, r"y\['box'\] is a single number"),
        ([], "y holds no tensor"),
    ],
)
def test_refusals_of_trees_of_labels(labels, what):
    """Every tensor has an entry for each sample."""
    with pytest.raises(BadData, match=what):
        from_tensors("boxes", (X, boxes()), (X, labels), task=Anything())


def test_only_images_with_classes_are_moved():
    """The labels of another task may say where in the image something is."""
    data = from_tensors("boxes", (X, boxes()), (X, boxes()), task=Anything())
    with pytest.raises(BadData, match="would move without their labels"):
        replace(data, augmented=True)


def test_augmentation_can_be_asked_for_and_left_out():
    """`with_augmentation` says yes or no; None leaves what is usual with the data."""
    plain = numbered()
    moved = plain.with_augmentation(True)

    assert (plain.augmented, moved.augmented) == (False, True)
    assert plain.with_augmentation(None) is plain
    assert not moved.with_augmentation(False).augmented


def test_some_of_the_training_set_can_be_held_out():
    """A share of it becomes a test split; the rest is trained on; together they are all of it, once."""
    whole = numbered(40)
    seen, unseen = whole.held_out(0.25, seed=1)
    held, rest = labels(unseen.test_batches(7)), labels(seen.train_batches(7, 0, 0))

    assert (len(held), len(rest)) == (10, 30)
    assert sorted(held + rest) == sorted(labels(whole.train_batches(40, 0, 0)))
    assert labels(whole.held_out(0.25, seed=1)[1].test_batches(40)) == held
    assert labels(whole.held_out(0.25, seed=2)[1].test_batches(40)) != held
    assert labels(seen.test_batches(40)) == labels(whole.test_batches(40))
    assert whole.held_out(0.001, seed=0)[1].test_size == 1
    with pytest.raises(UsageError, match="no part of the training set can be held out"):
        numbered(2).held_out(0.9, seed=0)


@pytest.mark.parametrize(
    "data",
    [
        from_tensors("boxes", (X, boxes()), (X, boxes()), task=Anything()),
        from_tensors("vectors", (X[:, 0, 0], Y), (X[:, 0, 0], Y)),
    ],
    ids=["another task", "no images"],
)
def test_what_cannot_be_moved_is_refused(data):
    """With the setting that asked for it."""
    with pytest.raises(UsageError, match="cannot be augmented") as caught:
        data.with_augmentation(True)
    assert "leave augment out" in str(caught.value)


def test_an_unknown_task_is_refused_at_once():
    """Not when it is used; the nearest is named."""
    with pytest.raises(UsageError, match="unknown task 'clasification'"):
        from_tensors("mine", (X, Y), (X, Y), task="clasification")
    with pytest.raises(UsageError, match="unknown task"):
        replace(numbered(), task="clasification")


def test_split_is_fixed_and_complete():
    """80 % to train on, the rest to test: the same ones always, none in both."""
    train, test = split_indices(50, "here")

    assert (len(train), len(test)) == (40, 10)
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(50))
    assert torch.equal(split_indices(50, "here")[1], test)
    with pytest.raises(BadData, match="1 sample cannot be split"):
        split_indices(1, "here")
