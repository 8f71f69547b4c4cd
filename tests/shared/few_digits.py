"""A tenth of the digits, for tests of what a command does with them and not of how well."""

from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import pytest
import torch

from ann2snn_cli import trees
from ann2snn_cli.data import packaged
from ann2snn_cli.data.samples import TensorSplit


@cache
def load():
    """`digits` with 134 samples to train on and 45 to test."""
    data = packaged.load_digits()

    def tenth(split):
        which = torch.arange(0, len(split.labels) - 9, 10)
        return TensorSplit(trees.index(split.x, which), split.labels[which])

    return replace(data, train=tenth(data.train), test=tenth(data.test))


@contextmanager
def few_digits():
    """Within it the dataset `digits` is that tenth."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(packaged.LOADERS, "digits", load)
        yield
