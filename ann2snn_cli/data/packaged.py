"""Datasets that need no download and no folder: digits, and one sample of ones for each debug network."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ann2snn_cli.data.samples import Data, from_tensors

IntArray = NDArray[np.int64]


def load_digits() -> Data:
    """scikit-learn's 1,797 handwritten digits as MNIST would show them: 1x28x28, 8 bits; 1,347 and 450."""
    images, labels = _digits_of_sklearn()
    x, y = torch.from_numpy(_like_mnist(images)), torch.from_numpy(labels)
    train, test = (torch.from_numpy(chosen) for chosen in _split(labels))
    names = tuple(str(digit) for digit in range(10))
    return from_tensors("digits", (x[train], y[train]), (x[test], y[test]), class_names=names)


def _digits_of_sklearn() -> tuple[IntArray, IntArray]:
    """[1797, 8, 8] and their labels, from its file: to import scikit-learn and scipy takes two seconds."""
    spec = find_spec("sklearn")
    file = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz" if spec and spec.origin else None
    if file is None or not file.is_file():  # another version: it knows where its digits are
        from sklearn.datasets import load_digits as load_raw

        raw = load_raw()
        return raw.images.astype(np.int64), raw.target.astype(np.int64)
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = np.loadtxt(lines, delimiter=",").astype(np.int64)  # 64 pixels and the label
    return rows[:, :-1].reshape(-1, 8, 8), np.ascontiguousarray(rows[:, -1])


def _like_mnist(images: IntArray) -> NDArray[np.uint8]:
    """Enlarge 8x8 images of 0..16 to a 20x20 box in the middle of 28x28, values 0..255.

    Bilinear, in whole numbers: the 20 sample points lie at tenths of a pixel, so weights are tenths and a
    pixel is a whole number of 1/1600. Floats would round differently on other machines where it falls on .5.
    """
    tenths = np.clip(4 * np.arange(20) - 3, 0, 70)  # where each of the 20 points lies between the 8 pixels
    weights = np.clip(10 - np.abs(tenths[:, None] - 10 * np.arange(8)), 0, 10)  # [20, 8]
    enlarged = weights @ images @ weights.T  # [samples, 20, 20], of 1600
    framed = np.pad((enlarged * 255 + 800) // 1600, ((0, 0), (4, 4), (4, 4)))
    return framed[:, None].astype(np.uint8)


def _split(labels: IntArray) -> tuple[IntArray, IntArray]:
    """Every fourth sample of each class to test. RandomState: its streams are the same in every numpy."""
    order = np.random.RandomState(0).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    test = np.sort(by_class[::4])
    return np.setdiff1d(by_class, test), test


def load_ones(name: str, shape: tuple[int, ...]) -> Data:
    """One sample of ones with label 0, to train and to test."""
    one: tuple[Tensor, Tensor] = torch.ones(1, *shape), torch.zeros(1, dtype=torch.int64)
    return from_tensors(name, one, one)


LOADERS: dict[str, Callable[[], Data]] = {
    "digits": load_digits,
    "debug0": partial(load_ones, "debug0", (1, 4, 4)),
    "debug1": partial(load_ones, "debug1", (1, 8, 8)),
    "debug2": partial(load_ones, "debug2", (1, 1, 1)),
}
