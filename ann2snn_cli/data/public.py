"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100, read by torchvision (which verifies CIFAR's checksums)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ann2snn_cli.data.located import locate
from ann2snn_cli.data.samples import Data, from_tensors
from ann2snn_cli.errors import BadData, Setting

MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
CIFAR10_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")


@dataclass(frozen=True)
class Public:
    """A public dataset: its name in torchvision, where its files lie, and what is usual with it."""

    torchvision_name: str
    folder: str
    files: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    augmented: bool = False


PUBLIC = {
    "mnist": Public("MNIST", "MNIST/raw", MNIST_FILES),
    "fashion_mnist": Public("FashionMNIST", "FashionMNIST/raw", MNIST_FILES),
    "cifar10": Public(
        "CIFAR10",
        "cifar-10-batches-py",
        CIFAR10_FILES,
        mean=(0.49139968, 0.48215841, 0.44653091),
        std=(0.24703223, 0.24348513, 0.26158784),
        augmented=True,
    ),
    "cifar100": Public(
        "CIFAR100",
        "cifar-100-python",
        ("train", "test", "meta"),
        mean=(0.50707516, 0.48654887, 0.44091784),
        std=(0.26733429, 0.25643846, 0.27615047),
        augmented=True,
    ),
}


def load(name: str, root: Path) -> Data:
    """The dataset from the folder `root` (torchvision's layout), downloaded if it is not there."""
    public = PUBLIC[name]
    reader = _reader(public.torchvision_name)
    remedy = (
        f"put {', '.join(public.files)} (as they are, .gz or .xz) into {root / public.folder}; or name the "
        f"folder that holds {public.folder.partition('/')[0]}/ by {Setting('data_dir')} or ANN2SNN_DATA; "
        f"or take {Setting('dataset', 'digits')}, which is packaged"
    )

    def download(folder: Path) -> None:
        try:
            with redirect_stdout(sys.stderr):  # torchvision prints where stdout is for results
                reader(folder, download=True)
        except Exception as error:  # urllib's, torchvision's RuntimeError, the socket's
            reason = _reason(error)
            what = f"{name} is not there and cannot be downloaded: {reason}"
            raise BadData(what, where=str(root), remedy=remedy) from None

    home = locate(root, [f"{public.folder}/{file}" for file in public.files], download)
    try:
        train, test = reader(home, train=True), reader(home, train=False)
    except Exception as error:  # pickle's, numpy's and torchvision's own, for files that are damaged
        what = f"the files of {name} are damaged: {str(error).splitlines()[0] if str(error) else error!r}"
        raise BadData(what, where=str(home / public.folder), remedy=f"delete them; then {remedy}") from None
    names = tuple(train.classes)
    data = from_tensors(
        name, _tensors(train), _tensors(test), where=str(home), classes=len(names), class_names=names
    )
    return replace(data, mean=public.mean, std=public.std, augmented=public.augmented)


def _reason(error: Exception) -> str:
    """The first line of an error; where it ends at a colon, with the cause that stands last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if not lines[0].endswith(":"):
        return lines[0]
    causes = lines[:0:-1] or [repr(each) for each in (error.__cause__ or error.__context__,) if each]
    return f"{lines[0]} {causes[0]}" if causes else lines[0].removesuffix(":")


def _reader(torchvision_name: str) -> Callable[..., Any]:
    from torchvision import datasets

    reader: Callable[..., Any] = getattr(datasets, torchvision_name)
    return reader


def _tensors(dataset: Any) -> tuple[Tensor, Tensor]:
    images, labels = torch.as_tensor(dataset.data), torch.as_tensor(dataset.targets)
    x = images[:, None] if images.dim() == 3 else images.permute(0, 3, 1, 2)  # MNIST NHW, CIFAR NHWC
    return x.contiguous(), labels
