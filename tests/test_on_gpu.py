"""The commands on a GPU, where there is one: what is written there runs on a CPU, to the same score."""

import json

import pytest
import torch

import ann2snn_cli
from ann2snn_cli.__main__ import main
from ann2snn_cli.stages.trace import trace

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


def called(capsys, *words):
    """The JSON document of a command that succeeds."""
    code = main([*words, "--json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return json.loads(printed.out)


@pytest.mark.parametrize("delay", ["0", "3", "8"])
def test_a_conversion_on_a_gpu_is_replayed_on_a_cpu(capsys, tmp_path, monkeypatch, delay):
    """The SNN and its vector pack are for any machine: a CPU gives the same score, and the pack verifies."""
    monkeypatch.chdir(tmp_path)
    words = ("mnist_cnn", "--timesteps", "8", "--delay", delay, "--finetune_epochs", "1", "--vectors", "2")
    document = called(capsys, "convert", *words, "--device", "cuda")
    assert document["layerwise_differs_from_quantized"] == 0
    scores = [
        called(capsys, "simulate", "mnist_cnn_snn.pth", "--device", device)["accuracy"]
        for device in ("cpu", "cuda")
    ]
    assert scores[0] == scores[1]
    assert main(["verify", "mnist_cnn_snn_pack"]) == 0


def test_training_on_a_gpu_ends_on_the_cpu(capsys, tmp_path, monkeypatch):
    """Its checkpoint is read where there is no GPU."""
    monkeypatch.chdir(tmp_path)
    called(capsys, "train", "mnist_cnn", "--epochs", "1", "--device", "cuda")
    saved = torch.load(tmp_path / "checkpoints/mnist_cnn-digits.pth")
    assert all(value.device.type == "cpu" for value in saved["state_dict"].values())


def test_a_network_on_a_gpu_is_traced_there(small_network):
    """Samples that tracing makes for its own tests are put where the network is."""
    graph = trace(small_network.cuda(), ((2, 6, 6),))
    assert graph.device is not None
    assert graph.device.type == "cuda"


def test_from_python_a_network_and_data_on_a_gpu(small_network, small_data):
    """What the SNN gives there is what it gives on a CPU."""
    snn = ann2snn_cli.convert(
        small_network.cuda(), small_data.x.cuda(), weight_bitwidth=8, timesteps=64, mode="max"
    )
    there = snn.to("cuda")(small_data.x.cuda())
    assert torch.equal(there.cpu(), snn.to("cpu")(small_data.x))
