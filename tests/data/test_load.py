"""Datasets by name."""

import numpy
import pytest

from ann2snn_cli import data
from ann2snn_cli.errors import UsageError


@pytest.mark.parametrize("name", ["minst", "imagenet", "my net:load", ""])
def test_unknown_name(name):
    """An unknown name lists the datasets and the ways to give one's own."""
    with pytest.raises(UsageError, match="unknown dataset") as caught:
        data.load(name)
    assert "cifar10, cifar100, debug0" in caught.value.remedy
    assert "folder:PATH" in caught.value.remedy


@pytest.mark.parametrize(("name", "meant"), [("minst", "mnist"), ("MINST", "mnist"), ("cifar-11", "cifar10")])
def test_nearest_name(name, meant):
    """A mistyped name is answered with the one that was meant."""
    with pytest.raises(UsageError, match="unknown dataset") as caught:
        data.load(name)
    assert f"did you mean {meant}?" in caught.value.remedy


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MNIST", "mnist"),
        ("CIFAR10", "cifar10"),
        ("CIFAR-100", "cifar100"),
        ("Fashion-MNIST", "fashion_mnist"),
    ],
)
def test_names_as_the_field_writes_them(name, meant):
    """C1: in any case, with hyphens or without."""
    assert data.full_name(name) == meant
    assert data.shapes_of(name) == data.shapes_of(meant)
    assert data.same_dataset(name, meant)


def test_a_path_says_what_it_holds(tmp_path):
    """C1: a folder of images and an .npz file need no more than their place."""
    arrays = tmp_path / "my.npz"
    numpy.savez(arrays, x=numpy.zeros((10, 1, 2, 2), numpy.uint8), y=numpy.arange(10) % 2)
    assert data.load(str(arrays)).input_shape == (1, 2, 2)
    assert data.same_dataset(str(arrays), f"npz:{arrays}")
    assert data.full_name(str(tmp_path)) == f"folder:{tmp_path}"


@pytest.mark.parametrize("name", ["digits", "debug0", "debug1", "debug2"])
def test_shapes_are_known_without_loading(name):
    """What `shapes_of` says before anything is loaded is what is loaded."""
    loaded = data.load(name)

    assert data.shapes_of(name) == (loaded.input_shapes, loaded.classes)


def test_every_dataset_goes_by_its_own_name():
    """The key is the name."""
    assert len(data.DATASETS) == 8
    assert all(name == each.name for name, each in data.DATASETS.items())
