"""Which weights a conversion takes: those of its dataset, and it says which."""

import hashlib

import numpy as np
import pytest
import torch

FREE = ("-e", "0", "--vectors", "0", "--timesteps", "2")


@pytest.fixture
def other(tiny):
    """Data of the tiny network's shape that it was not trained on; the name of the dataset."""
    random = np.random.default_rng(1)
    np.savez("other.npz", x=random.integers(0, 255, (20, 1, 8, 8), np.uint8), y=np.arange(20) % 3)
    return "npz:other.npz"


def test_weights_of_other_data_are_never_taken_unasked(other, ann2snn):
    """The command that trains is named, and how to take the other weights all the same."""
    done = ann2snn("convert", "./tiny.py", "--dataset", other, *FREE)

    assert done.code == 2
    assert "there are no weights of network 'tiny' trained on npz:other.npz" in done.err
    assert "ann2snn train ./tiny.py --dataset npz:other.npz" in done.err
    assert "--ann_weight tiny-tiny --allow_other_dataset" in done.err
    chosen = ("--ann_weight", "tiny-tiny", "--allow_other_dataset")
    meant = ann2snn("convert", "./tiny.py", "--dataset", other, *FREE, *chosen)
    assert meant.code == 0, meant.err


@pytest.mark.parametrize("command", ["convert", "analyse-error"])
def test_a_checkpoint_that_names_other_data_is_refused(command, other, ann2snn):
    """By name or path, wherever weights are loaded."""
    words = (command, "./tiny.py", "--dataset", other, "-e", "0", "--timesteps", "1")
    done = ann2snn(*words, "--ann_weight", "checkpoints/tiny-tiny.pth")

    assert done.code == 2
    assert "the weights were trained on npz:tiny.npz, the data are npz:other.npz" in done.err
    assert "ann2snn train ./tiny.py --dataset npz:other.npz" in done.err
    assert "--allow_other_dataset" in done.err


def test_another_spelling_of_the_same_file_is_the_same_dataset(tiny, ann2snn):
    """`npz:./tiny.npz` is `npz:tiny.npz`."""
    assert ann2snn("convert", "./tiny.py", "--dataset", "npz:./tiny.npz", *FREE).code == 0


def test_the_weights_that_are_used_are_always_named(tiny, ann2snn):
    """On stderr before the work, and in the report: the file, its dataset and what it scored there."""
    done = ann2snn("convert", "./tiny.py", *FREE)
    score = torch.load("checkpoints/tiny-tiny.pth")["provenance"]["test_accuracy"]

    said = f"weights: checkpoints/tiny-tiny.pth, trained on npz:tiny.npz, accuracy {100 * score:.2f} %"
    assert said in done.err
    assert said in done.out
    report = ann2snn("convert", "./tiny.py", *FREE, "--json").document["weights"]
    assert (report["dataset"], report["test_accuracy"], report["file"]) == (
        "npz:tiny.npz",
        score,
        "tiny-tiny.pth",
    )


def test_a_plain_state_dict_loads_and_its_data_are_said_to_be_unknown(other, ann2snn):
    """Nobody can tell what a user's own weights were trained on."""
    torch.save(torch.load("checkpoints/tiny-tiny.pth")["state_dict"], "own.pth")
    done = ann2snn("convert", "./tiny.py", "--dataset", other, *FREE, "--ann_weight", "own.pth")

    assert done.code == 0, done.err
    assert "weights: own.pth, trained on unknown data (the file does not say)" in done.err
    untrained = ann2snn("convert", "./tiny.py", *FREE, "--ann_weight", "none")
    assert "weights: those that build() gives" in untrained.err


def test_no_word_at_all_for_the_weights_is_refused(tiny, ann2snn):
    """An empty variable of a shell script does not mean the default."""
    done = ann2snn("convert", "./tiny.py", *FREE, "--ann_weight", "")

    assert done.code == 2
    assert "it must be auto, none, or the name, path or URL of a checkpoint" in done.err


def test_training_on_other_data_keeps_the_earlier_weights(other, tiny, ann2snn):
    """Each dataset has its own file; even where two are called alike, none is replaced in silence."""
    before = (tiny / "checkpoints/tiny-tiny.pth").read_bytes()
    train = ("train", "./tiny.py", "--epochs", "1", "--dataset")
    assert ann2snn(*train, other).code == 0
    assert (tiny / "checkpoints/tiny-other.pth").is_file()
    (tiny / "elsewhere").mkdir()
    (tiny / "other.npz").rename(tiny / "elsewhere/tiny.npz")
    refused = ann2snn(*train, "npz:elsewhere/tiny.npz")

    assert refused.code == 1
    assert "it holds the weights of tiny trained on npz:tiny.npz" in refused.err
    assert (tiny / "checkpoints/tiny-tiny.pth").read_bytes() == before
    assert ann2snn(*train, "npz:elsewhere/tiny.npz", "--overwrite").code == 0


def test_weights_come_from_an_address(tiny, ann2snn, server, monkeypatch):
    """URL#sha256=HASH is a checkpoint like any other: fetched once, verified, named (B7)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tiny / "cache"))
    content = (tiny / "checkpoints/tiny-tiny.pth").read_bytes()
    server.files["/nets/tiny.pth"], server.cuts = content, 1
    address = f"{server.url}/nets/tiny.pth#sha256={hashlib.sha256(content).hexdigest()}"
    done = ann2snn("convert", "./tiny.py", *FREE, "--ann_weight", address, "--json")

    assert done.code == 0, done.err
    assert f"downloading {server.url}/nets/tiny.pth" in done.err
    assert done.document["weights"]["sha256"] == hashlib.sha256(content).hexdigest()
    server.close()
    again = ann2snn("convert", "--config", "tiny_snn.yaml")
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    ("path", "fragment", "what"),
    [("/no.pth", "", "the server answers 404"), ("/net.pth", "#sha256=" + "0" * 64, "it is another file")],
)
def test_an_address_that_fails_is_one_error(path, fragment, what, tiny, ann2snn, server, monkeypatch):
    """What, where, remedy; no traceback, and nothing in the cache that could be taken for weights (B7)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tiny / "cache"))
    server.files["/net.pth"] = b"no weights"
    done = ann2snn("convert", "./tiny.py", *FREE, "--ann_weight", f"{server.url}{path}{fragment}", "-q")

    assert done.code == 1
    assert done.err.startswith(f"error: {what}")
    assert f"where: {server.url}{path}" in done.err
    assert "remedy: check the address" in done.err
    assert not [each for each in (tiny / "cache").rglob("*.pth") if each.name == "net.pth"]
