"""MNIST and CIFAR from files that lie there, packed or not, in folders one may write to or not."""

import gzip
import hashlib
import io
import lzma
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest
import torch
from torchvision import datasets

from ann2snn_cli import data
from ann2snn_cli.data.located import cache_of
from ann2snn_cli.errors import BadData

RANDOM = np.random.RandomState(0)
CLOSED = "http://127.0.0.1:9/"  # nothing listens there
IMAGES = {
    "train": RANDOM.randint(0, 256, (12, 28, 28), np.uint8),
    "t10k": RANDOM.randint(0, 256, (5, 28, 28), np.uint8),
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """No test downloads; the cache is a folder of the test."""

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("ANN2SNN_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"{CLOSED}first/", f"{CLOSED}second/"])
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{CLOSED}cifar-10-python.tar.gz")


def idx_files():
    """A tiny MNIST: the four files as bytes."""
    files = {}
    for part, images in IMAGES.items():
        files[f"{part}-images-idx3-ubyte"] = struct.pack(">4I", 0x803, *images.shape) + images.tobytes()
        labels = np.arange(len(images), dtype=np.uint8) % 10
        files[f"{part}-labels-idx1-ubyte"] = struct.pack(">2I", 0x801, len(images)) + labels.tobytes()
    return files


def write_mnist(root, pack=lambda content: content, suffix=""):
    """A tiny MNIST under root, in torchvision's layout."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in idx_files().items():
        (raw / f"{name}{suffix}").write_bytes(pack(content))
    return raw


@pytest.fixture
def read_only(tmp_path):
    """A folder with a packed MNIST that must not be written to."""
    raw = write_mnist(tmp_path / "shared", gzip.compress, ".gz")
    raw.chmod(0o555)
    yield tmp_path / "shared"
    raw.chmod(0o755)


def assert_is_the_tiny_mnist(loaded):
    """Every count, and the samples themselves."""
    assert (loaded.input_shape, loaded.classes, loaded.train_size, loaded.test_size) == (
        (1, 28, 28),
        10,
        12,
        5,
    )
    assert torch.equal(loaded.test.x, torch.from_numpy(IMAGES["t10k"])[:, None])
    assert loaded.train.labels[:11].tolist() == [*range(10), 0]


@pytest.mark.parametrize(
    ("pack", "suffix"), [(lambda content: content, ""), (gzip.compress, ".gz"), (lzma.compress, ".xz")]
)
def test_files_that_lie_there(tmp_path, pack, suffix):
    """Plain files are read, packed ones unpacked beside themselves, without a network."""
    raw = write_mnist(tmp_path / "mine", pack, suffix)

    assert_is_the_tiny_mnist(data.load("mnist", str(tmp_path / "mine")))

    assert {f"{name}{suffix}" for name in idx_files()} | set(idx_files()) == set(os.listdir(raw))
    assert not (tmp_path / "cache").exists()


def test_where_data_lie(tmp_path, monkeypatch):
    """--data_dir comes first, then ANN2SNN_DATA, then ./data."""
    write_mnist(tmp_path / "data")
    assert_is_the_tiny_mnist(data.load("mnist"))
    monkeypatch.setenv("ANN2SNN_DATA", str(tmp_path / "empty"))
    with pytest.raises(BadData):
        data.load("mnist")
    assert_is_the_tiny_mnist(data.load("mnist", str(tmp_path / "data")))


def test_read_only_folder_goes_through_the_cache(read_only, tmp_path):
    """A folder marked read-only stays as it is, for root too: unpacked files go to the user's cache, once."""
    before = sorted(os.listdir(read_only / "MNIST" / "raw"))

    assert_is_the_tiny_mnist(data.load("mnist", str(read_only)))

    assert sorted(os.listdir(read_only / "MNIST" / "raw")) == before
    unpacked = cache_of(read_only) / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    written = unpacked.stat().st_ino
    assert_is_the_tiny_mnist(data.load("mnist", str(read_only)))
    assert unpacked.stat().st_ino == written


def test_changed_source_is_unpacked_again(read_only):
    """A cached file does not outlive its source's change."""
    data.load("mnist", str(read_only))
    labels = read_only / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(struct.pack(">2I", 0x801, 5) + bytes([9, 9, 9, 9, 9])))
    os.utime(labels, (1, 1))

    assert data.load("mnist", str(read_only)).test.labels.tolist() == [9] * 5


def test_caches_of_two_folders_are_apart(tmp_path):
    """Two folders never share a cache."""
    assert cache_of(tmp_path / "a") != cache_of(tmp_path / "b")


def test_absent_data(tmp_path, capsys):
    """Neither files nor network: one cause, one remedy that names folder and files; nothing is left."""
    with pytest.raises(BadData) as caught:
        data.load("mnist", str(tmp_path / "typo"))

    assert caught.value.what == (
        f"mnist is not there and cannot be downloaded from {CLOSED}first/train-images-idx3-ubyte.gz: "
        "the server cannot be reached: Connection refused"
    )
    assert caught.value.where == str(tmp_path / "typo")
    for word in (
        "train-images-idx3-ubyte",
        str(tmp_path / "typo" / "MNIST" / "raw"),
        "ANN2SNN_DATA",
        "digits",
    ):
        assert word in caught.value.remedy
    assert not (tmp_path / "typo").exists()
    assert capsys.readouterr().out == ""


def test_mnist_is_downloaded_and_a_cut_download_goes_on(tmp_path, monkeypatch, server):
    """From the second mirror if the first fails; each file is verified; half a dataset is none (B7)."""
    archives = {f"/{name}.gz": gzip.compress(content) for name, content in idx_files().items()}
    sums = [(name[1:], hashlib.md5(content).hexdigest()) for name, content in archives.items()]
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"{server.url}/"])
    monkeypatch.setattr(datasets.MNIST, "resources", sums)
    server.files |= archives
    server.cuts = 3
    with pytest.raises(BadData, match="cut after") as caught:
        data.load("mnist")
    assert caught.value.remedy.startswith("repeat the command: it goes on where it stopped; or put ")
    assert not (tmp_path / "data").exists()

    monkeypatch.setattr(datasets.MNIST, "mirrors", [CLOSED, f"{server.url}/"])
    assert_is_the_tiny_mnist(data.load("mnist"))
    assert server.ranges[-4] != ""
    assert set(os.listdir(tmp_path / "data" / "MNIST" / "raw")) == set(idx_files())
    assert os.listdir(tmp_path / "data") == ["MNIST"]
    server.close()
    assert_is_the_tiny_mnist(data.load("mnist", str(tmp_path / "elsewhere")))


def test_cifar_is_downloaded(cifar, tmp_path, monkeypatch, server):
    """One archive for all, of which only the files of the dataset are unpacked (B7)."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(cifar[0], "cifar-10-batches-py")
        archive.addfile(tarfile.TarInfo("../outside"))
    server.files["/cifar-10-python.tar.gz"] = packed.getvalue()
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{server.url}/cifar-10-python.tar.gz")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", hashlib.md5(packed.getvalue()).hexdigest())

    loaded = data.load("cifar10", str(tmp_path / "new"))

    assert (loaded.train_size, loaded.test_size) == (20, 4)
    assert not list(tmp_path.rglob("outside"))


def test_damaged_archive(tmp_path):
    """A packed file that is cut short is named, and leaves nothing half unpacked."""
    raw = write_mnist(tmp_path / "mine", gzip.compress, ".gz")
    path = raw / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:100])
    before = sorted(os.listdir(raw))

    with pytest.raises(BadData, match="cannot unpack it") as caught:
        data.load("mnist", str(tmp_path / "mine"))

    assert caught.value.where == str(path)
    assert sorted(os.listdir(raw)) == before


def test_damaged_file(tmp_path):
    """An unpacked file with the wrong content is one error, too."""
    raw = write_mnist(tmp_path / "mine")
    (raw / "train-images-idx3-ubyte").write_bytes(b"nonsense")

    with pytest.raises(BadData, match="the files of mnist are damaged") as caught:
        data.load("mnist", str(tmp_path / "mine"))
    assert caught.value.where == str(raw)


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """A tiny CIFAR-10 whose checksums torchvision is told; gives its folder and the images."""
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    images = RANDOM.randint(0, 256, (24, 3072), np.uint8)
    sums = {}
    for number, name in enumerate([f"data_batch_{each}" for each in range(1, 6)] + ["test_batch"]):
        batch = {"data": images[4 * number : 4 * number + 4], "labels": [0, 1, 2, number]}
        (folder / name).write_bytes(pickle.dumps(batch))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    names = ["airplane", "automobile", *"cdefghij"]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    meta = hashlib.md5((folder / "batches.meta").read_bytes()).hexdigest()
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [(name, sums[name]) for name in list(sums)[:5]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [("test_batch", sums["test_batch"])])
    monkeypatch.setattr(datasets.CIFAR10, "meta", datasets.CIFAR10.meta | {"md5": meta})
    return folder, images


def test_cifar10(cifar):
    """Colour images, normalised, augmented in training only, with the names of their classes."""
    loaded = data.load("cifar10")

    assert (loaded.input_shape, loaded.classes, loaded.train_size, loaded.test_size) == (
        (3, 32, 32),
        10,
        20,
        4,
    )
    assert loaded.class_names[:2] == ("airplane", "automobile")
    assert (loaded.augmented, loaded.mirrored) == (True, True)
    x, y = next(loaded.test_batches(4))
    mean = torch.tensor([0.49139968, 0.48215841, 0.44653091]).reshape(3, 1, 1)
    std = torch.tensor([0.24703223, 0.24348513, 0.26158784]).reshape(3, 1, 1)
    expected = (torch.from_numpy(cifar[1][20:].reshape(4, 3, 32, 32)) / 255 - mean) / std
    assert torch.allclose(x, expected, atol=1e-6)
    assert y.tolist() == [0, 1, 2, 5]


def test_cifar10_is_verified_before_it_is_unpickled(cifar):
    """A batch with another checksum is refused: these files are pickles, which could run code."""
    (cifar[0] / "data_batch_3").write_bytes(pickle.dumps({"data": cifar[1][:4], "labels": [0, 1, 2, 3]}))

    with pytest.raises(BadData, match="the files of cifar10 are damaged"):
        data.load("cifar10")
