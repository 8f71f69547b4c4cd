"""What the tests of commands share: a way to run one, a tiny network and its data, one conversion."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ann2snn_cli.__main__ import main

TINY = '''"""A convolution, average pooling and a linear layer: small enough to convert in a moment."""

from torch import nn

DATASET = "npz:tiny.npz"


def build(input_shape, classes):
    channels, height, width = input_shape
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * (height // 2) * (width // 2), classes),
    )
'''


@dataclass(frozen=True)
class Done:
    """What a command left: its exit code, and what it said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Stdout as exactly one JSON document."""
        document = json.loads(self.out)
        assert isinstance(document, dict)
        return document


def run(*words: str) -> Done:
    """Run one command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Networks this small gain nothing from threads, which wait for each other where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def ann2snn() -> Callable[..., Done]:
    """`ann2snn("convert", "example_net", "--json")` as a user would type it."""
    return run


def _save_tiny_data(path: Path) -> None:
    """Three classes of 1x8x8 images: a bright band at the top, in the middle or at the bottom."""
    random = np.random.default_rng(0)
    labels = np.arange(120) % 3
    images = random.integers(0, 90, (120, 1, 8, 8))
    for image, label in zip(images, labels, strict=True):
        image[0, 3 * label : 3 * label + 2] += 120
    x, y = images.astype(np.uint8), labels.astype(np.int64)
    np.savez(path, x_train=x[:90], y_train=y[:90], x_test=x[90:], y_test=y[90:])


@pytest.fixture(scope="session")
def trained(tmp_path_factory, ann2snn) -> Path:
    """A folder with tiny.py, tiny.npz and checkpoints/tiny-tiny.pth, which `ann2snn train` wrote."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.py").write_text(TINY)
    _save_tiny_data(folder / "tiny.npz")
    with _chdir(folder):
        done = ann2snn("train", "./tiny.py", "--epochs", "12", "--lr", "0.02", "--batch_size", "16", "--json")
    assert done.code == 0, done.err
    (folder / "train.json").write_text(done.out)
    return folder


@contextlib.contextmanager
def _chdir(folder: Path):
    import os

    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny(trained, here) -> Path:
    """A working directory with the tiny network, its data and its trained weights."""
    shutil.copytree(trained, here, dirs_exist_ok=True)
    (here / "train.json").unlink()
    return here


@pytest.fixture(scope="session")
def example(tmp_path_factory, ann2snn) -> tuple[Path, dict[str, Any]]:
    """`ann2snn convert example_net` as the README begins: its folder, and its document."""
    folder = tmp_path_factory.mktemp("example")
    with _chdir(folder):
        done = ann2snn(
            "convert", "example_net", "--weight_bitwidth", "4", "--timesteps", "16", "--json"
        )  # fmt: skip
    assert done.code == 0, done.err
    return folder, done.document


@pytest.fixture(scope="session")
def in_folder():
    """A context in which the working directory is another one."""
    return _chdir
