"""Datasets by name."""

import pytest

from ann2snn_cli import data
from ann2snn_cli.errors import UsageError


@pytest.mark.parametrize("name", ["minst", "MNIST", "cifar-10", "imagenet", "my net:load", ""])
def test_unknown_name(name):
    """An unknown name lists the datasets and the ways to give one's own."""
    with pytest.raises(UsageError, match="unknown dataset") as caught:
        data.load(name)
    assert "cifar10, cifar100, debug0" in caught.value.remedy
    assert "folder:PATH" in caught.value.remedy


@pytest.mark.parametrize(("name", "meant"), [("minst", "mnist"), ("MNIST", "mnist"), ("cifar-10", "cifar10")])
def test_nearest_name(name, meant):
    """A mistyped name is answered with the one that was meant."""
    with pytest.raises(UsageError, match="unknown dataset") as caught:
        data.load(name)
    assert f"did you mean {meant}?" in caught.value.remedy


@pytest.mark.parametrize("name", ["digits", "debug0", "debug1", "debug2"])
def test_shapes_are_known_without_loading(name):
    """What `shapes_of` says before anything is loaded is what is loaded."""
    loaded = data.load(name)

    assert data.shapes_of(name) == (loaded.input_shapes, loaded.classes)


def test_every_dataset_goes_by_its_own_name():
    """The key is the name."""
    assert len(data.DATASETS) == 8
    assert all(name == each.name for name, each in data.DATASETS.items())
