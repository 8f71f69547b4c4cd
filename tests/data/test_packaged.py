"""The datasets that need nothing: digits and the ones of the debug networks."""

import hashlib

import pytest
import torch
from sklearn.datasets import load_digits as load_raw

from ann2snn_cli import data


@pytest.fixture(scope="module")
def digits():
    """The digits."""
    return data.load("digits")


def test_digits_are_like_mnist(digits):
    """28x28 grey images of 8 bits, a 20x20 box in a black frame; 1347 to train on and 450 to test."""
    assert (digits.input_shape, digits.classes) == ((1, 28, 28), 10)
    assert (digits.train_size, digits.test_size) == (1347, 450)
    x, _ = next(digits.test_batches(450))
    assert (float(x.min()), float(x.max())) == (0, 1)
    assert torch.equal((x * 255).round() / 255, x)
    assert not x[:, :, :4].any()
    assert not x[:, :, -4:].any()
    assert not x[..., :4].any()
    assert x[:, 0, 4:24, 4:24].flatten(1).any(1).all()


def test_digits_are_the_same_bytes_on_every_machine(digits):
    """Images, labels and split are pinned: an accuracy can be compared between machines and versions."""
    content = digits.test.x.numpy().tobytes() + digits.test.labels.numpy().tobytes()

    assert (
        hashlib.sha256(content).hexdigest()
        == "018df6b7319812cb851ccd5316b9d6777d3e039e80e1afbae36ccd8f5502d5b1"
    )


def test_digits_are_stratified(digits):
    """Each class has a quarter of its samples in the test split, and the first test samples are mixed."""
    train, test = (torch.bincount(split.labels) for split in (digits.train, digits.test))

    assert ((test.float() / (train + test) - 0.25).abs() < 0.01).all()
    assert len(set(digits.test.labels[:10].tolist())) > 4


def test_digits_are_enlarged_bilinearly(digits):
    """The box is what torch's own bilinear interpolation makes of the 8x8 original."""
    original = torch.from_numpy(load_raw().images)[:, None] / 16
    expected = torch.nn.functional.interpolate(original, size=(20, 20), mode="bilinear")
    pixels = torch.cat([digits.train.x, digits.test.x])[:, :, 4:24, 4:24].float()
    order = [torch.cat([digits.train.labels, digits.test.labels]), torch.from_numpy(load_raw().target)]

    assert torch.equal(*(labels.sort().values for labels in order))
    distance = (pixels[:50].flatten(1)[:, None] - 255 * expected.flatten(1)[None]).abs().amax(2)
    assert (distance.amin(1) <= 0.5 + 1e-6).all()


def test_nothing_is_in_both_splits(digits):
    """No test image was trained on, and all 1,797 are there."""
    train = {image.numpy().tobytes() for image in digits.train.x}
    test = {image.numpy().tobytes() for image in digits.test.x}

    assert len(train | test) == 1797
    assert not train & test


@pytest.mark.parametrize(
    ("name", "shape"), [("debug0", (1, 4, 4)), ("debug1", (1, 8, 8)), ("debug2", (1, 1, 1))]
)
def test_debug_data(name, shape):
    """One sample of ones with label 0 in both splits."""
    ones = data.load(name)

    for batches in (ones.test_batches(8), ones.train_batches(8, 0, 0), ones.calibration_batches(100, 8, 0)):
        ((x, y),) = list(batches)
        assert torch.equal(x, torch.ones(1, *shape))
        assert y.tolist() == [0]
    assert (ones.input_shape, ones.classes) == (shape, 1)
