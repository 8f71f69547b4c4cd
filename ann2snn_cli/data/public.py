"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100, read by torchvision (which verifies CIFAR's checksums).

torchvision says where they can be had; they are fetched by `downloads`, and their archives stay in the cache.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ann2snn_cli import downloads
from ann2snn_cli.data.located import bring, locate
from ann2snn_cli.data.samples import Data, from_tensors
from ann2snn_cli.errors import BadData, DownloadFailed, Setting

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
    augmented: bool = False  # unless a user says otherwise
    shift: int = 1  # pixels; what fills its image and is centred in it, as these do, is not moved further
    mirrored: bool = False


PUBLIC = {
    "mnist": Public("MNIST", "MNIST/raw", MNIST_FILES),
    "fashion_mnist": Public("FashionMNIST", "FashionMNIST/raw", MNIST_FILES, mirrored=True),
    "cifar10": Public(
        "CIFAR10",
        "cifar-10-batches-py",
        CIFAR10_FILES,
        mean=(0.49139968, 0.48215841, 0.44653091),
        std=(0.24703223, 0.24348513, 0.26158784),
        augmented=True,
        shift=4,
        mirrored=True,
    ),
    "cifar100": Public(
        "CIFAR100",
        "cifar-100-python",
        ("train", "test", "meta"),
        mean=(0.50707516, 0.48654887, 0.44091784),
        std=(0.26733429, 0.25643846, 0.27615047),
        augmented=True,
        shift=4,
        mirrored=True,
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
            archives = [_fetched(*each) for each in _archives(reader)]
        except DownloadFailed as error:
            what = f"{name} is not there and cannot be downloaded from {error.where}: {error.what}"
            again = f"{downloads.AGAIN}; or " if error.remedy == downloads.AGAIN else ""
            raise BadData(what, where=str(root), remedy=again + remedy) from None
        _unpack(archives, public, folder)

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
    data = replace(data, augmented=public.augmented, shift=public.shift, mirrored=public.mirrored)
    return replace(data, mean=public.mean, std=public.std)


def _archives(reader: Any) -> list[tuple[list[str], str]]:
    """Of each file to fetch: where it can be had, and its MD5. torchvision knows both."""
    if hasattr(reader, "resources"):
        return [([mirror + file for mirror in reader.mirrors], md5) for file, md5 in reader.resources]
    return [([reader.url], reader.tgz_md5)]


def _fetched(urls: list[str], md5: str) -> Path:
    """The file from the first address that gives it; DownloadFailed of the first if none does."""
    failures = []
    for url in urls:
        try:
            return downloads.fetch(url, downloads.in_cache(url), downloads.Checksum("md5", md5))
        except DownloadFailed as error:
            failures.append(error)
    raise failures[0]


def _unpack(archives: list[Path], public: Public, folder: Path) -> None:
    """The files of the dataset below the folder: each was packed alone, or all in one archive."""
    for archive in archives:
        if archive.suffixes[-2:] == [".tar", ".gz"]:
            with tarfile.open(archive) as packed:
                for file in public.files:
                    _extract(packed, f"{public.folder}/{file}", folder)
        else:
            bring(archive, folder / public.folder / archive.stem)


def _extract(packed: tarfile.TarFile, name: str, folder: Path) -> None:
    """One file, by its name: whatever else an archive holds, and wherever it would go, stays in it."""
    content = packed.extractfile(name)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    if content is not None:
        (folder / name).write_bytes(content.read())


def _reader(torchvision_name: str) -> Callable[..., Any]:
    from torchvision import datasets

    reader: Callable[..., Any] = getattr(datasets, torchvision_name)
    return reader


def _tensors(dataset: Any) -> tuple[Tensor, Tensor]:
    images, labels = torch.as_tensor(dataset.data), torch.as_tensor(dataset.targets)
    x = images[:, None] if images.dim() == 3 else images.permute(0, 3, 1, 2)  # MNIST NHW, CIFAR NHWC
    return x.contiguous(), labels
