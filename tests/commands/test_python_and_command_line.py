"""What the command line saves, Python runs; and data from a user's own function are found again."""

import json

import pytest
import torch

import ann2snn_cli
from ann2snn_cli import data

FREE = ("-e", "0", "--vectors", "0", "--timesteps", "3")


def test_what_the_command_line_saves_python_runs(tiny, ann2snn):
    """The same accuracy on the same samples, at any delay."""
    assert ann2snn("convert", "./tiny.py", *FREE).code == 0
    snn = ann2snn_cli.load("tiny_snn.pth")
    x, y = next(data.load("npz:tiny.npz").test_batches(100))

    for schedule in ("stepwise", "layerwise"):
        right = (snn.simulate(x, schedule=schedule).outputs[0].argmax(1) == y).float().mean()
        report = json.loads((tiny / "tiny_snn.json").read_text())
        assert float(right) == pytest.approx(report["accuracy"][schedule])


def test_an_snn_of_own_data_finds_them_again(tiny, ann2snn):
    """The name that loads them is kept, whatever the Data is called; loaders and their split are noted."""
    (tiny / "mine.py").write_text(
        "from torch.utils.data import TensorDataset\n"
        "from ann2snn_cli import data\n\n"
        "def named():\n    return data.load('npz:tiny.npz')\n\n"
        "def whole():\n    given = data.load('npz:tiny.npz').train\n"
        "    return TensorDataset(given.x, given.labels)\n"
    )
    for loader in ("mine.py:named", "mine.py:whole"):
        words = ("--dataset", loader, *FREE, "--ann_weight", "tiny-tiny", "--allow_other_dataset")
        converted = ann2snn("convert", "./tiny.py", *words)
        assert converted.code == 0, converted.err
        simulated = ann2snn("simulate", "tiny_snn.pth", "--json")
        assert simulated.code == 0, simulated.err
        assert simulated.document["dataset"] == loader
    assert "72 samples to train on, 18 to test" in converted.err
    assert "note: 72 samples to train on, 18 to test" in converted.out
    assert torch.load("tiny_snn.pth")["provenance"]["dataset"] == "mine.py:whole"
