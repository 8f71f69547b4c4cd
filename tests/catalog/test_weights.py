"""Checkpoints: every honest form is taken, everything else is refused in one sentence."""

import pathlib

import pytest
import torch
from torch import nn

from ann2snn_cli import catalog
from ann2snn_cli.errors import BadFile, BadWeights


def network():
    """A network with a batch norm."""
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


@pytest.fixture
def path(tmp_path):
    """Where the test's checkpoint goes."""
    return tmp_path / "weights.pth"


@pytest.mark.parametrize("wrapper", ["", "state_dict", "net", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("zipped", [True, False])
def test_forms_of_a_state_dict(path, wrapper, prefix, zipped):
    """A state dict, bare or under a training script's key, with torch's prefixes or without, both formats."""
    source, target = network(), network()
    state = {prefix + key: value for key, value in source.state_dict().items()}
    torch.save(
        {wrapper: state, "epoch": 3} if wrapper else state, path, _use_new_zipfile_serialization=zipped
    )

    catalog.load_weights(target, path)

    assert all(torch.equal(value, target.state_dict()[key]) for key, value in source.state_dict().items())


def test_provenance(path):
    """The checkpoint's own words about itself come back, with the file's name and hash."""
    torch.save({"state_dict": network().state_dict(), "provenance": {"dataset": "digits"}}, path)

    weights = catalog.load_weights(network(), path)

    assert weights.provenance == {"dataset": "digits"}
    assert weights.file == "weights.pth"
    assert len(weights.sha256) == 64
    assert weights.to_plain() == {"dataset": "digits", "file": weights.file, "sha256": weights.sha256}


def test_counters_of_batches_may_be_missing(path):
    """Checkpoints from before batch norms counted batches do fit."""
    state = {key: value for key, value in network().state_dict().items() if "num_batches" not in key}
    torch.save(state, path)

    catalog.load_weights(network(), path)


def test_mismatch_lists_every_key(path):
    """Missing, unexpected and differently shaped weights are all listed; the network is left as it was."""
    state = network().state_dict()
    del state["0.bias"]
    state["3.weight"] = torch.zeros(3, 9)
    state["head.weight"] = torch.zeros(1)
    torch.save(state, path)
    target = network()
    before = {key: value.clone() for key, value in target.state_dict().items()}

    with pytest.raises(BadWeights) as caught:
        catalog.load_weights(target, path)

    assert caught.value.what.splitlines()[1:] == [
        "  missing: 0.bias (2,)",
        "  unexpected: head.weight (1,)",
        "  shape: 3.weight is (3, 9) in the file and (3, 8) in the network",
    ]
    assert caught.value.where == str(path)
    assert "give the checkpoint of this network" in caught.value.remedy
    assert all(torch.equal(value, target.state_dict()[key]) for key, value in before.items())


def test_long_lists_are_cut(path):
    """Of a quite different network ten keys of a kind are shown, and how many more there are."""
    torch.save({f"layer{number}.weight": torch.zeros(1) for number in range(25)}, path)

    with pytest.raises(BadWeights) as caught:
        catalog.load_weights(network(), path)

    lines = [line for line in caught.value.what.splitlines() if "unexpected" in line]
    assert (len(lines), lines[-1]) == (11, "  unexpected: and 15 more")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_no_network_can_use(path, value):
    """NaN and infinity are refused with the names of the weights."""
    state = network().state_dict()
    state["3.bias"][1] = value
    torch.save(state, path)

    with pytest.raises(BadWeights, match="NaN or infinite") as caught:
        catalog.load_weights(network(), path)
    assert "3.bias" in caught.value.what
    assert "3.weight" not in caught.value.what


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_module_is_refused_unrun(path, zipped):
    """A whole pickled network names the refused class and how to save it instead."""
    torch.save(network(), path, _use_new_zipfile_serialization=zipped)

    with pytest.raises(BadWeights) as caught:
        catalog.load_weights(network(), path)

    assert "torch.nn.modules.container.Sequential" in caught.value.what
    assert "torch.save(network.state_dict()" in caught.value.remedy


def test_other_objects_are_refused(path):
    """Anything else that would have to be unpickled is named, too."""
    torch.save({"state_dict": network().state_dict(), "folder": pathlib.PurePosixPath("x")}, path)

    with pytest.raises(BadWeights, match=r"pathlib\.\w*PurePosixPath"):
        catalog.load_weights(network(), path)


@pytest.mark.parametrize("part", [0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_file(path, zipped, part):
    """A file cut anywhere is refused as damaged."""
    torch.save(network().state_dict(), path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])

    with pytest.raises(BadFile, match="truncated, or not a torch file"):
        catalog.load_weights(network(), path)


@pytest.mark.parametrize("end", range(4000, 24000, 4000))
def test_truncated_checkpoint_that_ships(path, end):
    """Torch searches the cut file before its beginning: that is no error of reading."""
    shipped = pathlib.Path(__file__).parents[2] / "checkpoints/example_net-digits.pth"
    path.write_bytes(shipped.read_bytes()[:end])

    with pytest.raises(BadFile, match="truncated, or not a torch file"):
        catalog.load_weights(network(), path)


def test_no_torch_file(path):
    """A text file is refused."""
    path.write_text("hello, this is no checkpoint")

    with pytest.raises(BadFile, match="truncated, or not a torch file") as caught:
        catalog.load_weights(network(), path)
    assert "torch.save" in caught.value.remedy


def test_missing_file(path):
    """A file that is not there is said to be not there."""
    with pytest.raises(BadFile, match="No such file"):
        catalog.load_weights(network(), path)


@pytest.mark.parametrize(
    ("content", "what"),
    [({"epoch": 3, "lr": 0.1}, "it holds epoch, lr"), ([1, 2], "it holds a list"), ({}, "nothing")],
)
def test_no_state_dict(path, content, what):
    """A file without weights says what it holds instead."""
    torch.save(content, path)

    with pytest.raises(BadWeights, match=what):
        catalog.load_weights(network(), path)
