"""Regression on the command line and from Python (A3): where in the image the bright square is."""

import csv
import json

import numpy as np
import pytest
import torch

import ann2snn_cli
from ann2snn_cli import data

DATASET = ("--dataset", "npz:places.npz")


def save_places(path, **more):
    """Images of 1x8x8 with a square of 3x3, and its row and column as fractions of the room it has."""
    random = np.random.default_rng(0)
    at = random.integers(0, 6, (160, 2))
    x = random.integers(0, 60, (160, 1, 8, 8)).astype(np.uint8)
    for image, (row, column) in zip(x, at, strict=True):
        image[0, row : row + 3, column : column + 3] += 150
    y = (at / 5).astype(np.float32)
    np.savez(path, **{"x": x, "y": y, **more})


@pytest.fixture(scope="module")
def places(tmp_path_factory, trained, ann2snn, in_folder):
    """A folder with the tiny network trained on them, converted and analysed, and the documents of these."""
    folder = tmp_path_factory.mktemp("places")
    (folder / "tiny.py").write_text((trained / "tiny.py").read_text())
    save_places(folder / "places.npz")
    free = ("-e", "1", "--finetune_lr", "0.01", "--weight_bitwidth", "8", "--batch_size", "16")
    commands = {
        "train": ("--epochs", "30", "--lr", "0.01", "--batch_size", "16", *DATASET),
        "convert": (*free, *DATASET, "--timesteps", "8", "--vectors", "1"),
        "analyse-error": (*free, *DATASET, "--timesteps", "4"),
    }
    with in_folder(folder):
        found = {name: ann2snn(name, "./tiny.py", *words, "--json") for name, words in commands.items()}
    assert [done.code for done in found.values()] == [0, 0, 0], [done.err for done in found.values()]
    return folder, found


def rmse(outputs, y):
    """By numpy alone."""
    return float(np.sqrt(np.mean((np.asarray(outputs, np.float64) - np.asarray(y, np.float64)) ** 2)))


def test_it_is_trained_converted_and_scored(places, ann2snn, monkeypatch):
    """The error of ANN and SNN is what numpy makes of their outputs, far below that of a guess."""
    folder, found = places
    monkeypatch.chdir(folder)
    report = found["convert"].document
    x, y = next(data.load("npz:places.npz").test_batches(100))
    network = ann2snn_cli.load("tiny_snn.pth")
    guess = rmse(y.mean(0), y)

    assert found["train"].document["classes"] == 2
    assert found["train"].document["test_rmse"] < guess / 2
    assert (report["metric"], report["higher_is_better"]) == ("rmse", False)
    for schedule in ("stepwise", "layerwise"):
        if schedule == "stepwise":
            assert report["rmse"][schedule] == pytest.approx(rmse(network(x), y), rel=1e-5)
        assert report["rmse"][schedule] < guess / 2
    assert report["rmse"]["quantized"] == report["rmse"]["layerwise"]
    assert "the task is regression, as the labels are real numbers" in report["notes"]

    simulated = ann2snn("simulate", "tiny_snn.pth", "--json").document
    assert simulated["rmse"]["stepwise"] == pytest.approx(report["rmse"]["stepwise"])
    assert len(simulated["rmse_by_step"]) == 8
    assert torch.load("tiny_snn.pth")["provenance"]["task"] == "regression"


def test_tables_say_that_lower_is_better(places, ann2snn, monkeypatch):
    """And show the numbers as they are, not as percent."""
    folder, found = places
    monkeypatch.chdir(folder)
    table = ann2snn("simulate", "tiny_snn.pth").out
    shown = f"{found['convert'].document['rmse']['stepwise']:.4g}"

    assert "rmse (lower is better)" in table
    assert f"SNN stepwise   {shown} " in table
    assert "rmse 0." in found["train"].err


def test_the_analysis_has_a_picture_and_numbers_of_it(places):
    """They are called after the score."""
    folder, found = places
    rows = list(csv.DictReader((folder / "tiny_analysis" / "rmse.csv").read_text().splitlines()))

    assert [row["timesteps"] for row in rows] == ["1", "2", "4"]
    assert float(rows[-1]["layerwise"]) == found["analyse-error"].document["rmse"][-1]["layerwise"]
    assert (folder / "tiny_analysis" / "rmse.png").read_bytes().startswith(b"\x89PNG")


def test_from_python_it_is_finetuned_on_targets(places, monkeypatch):
    """A pair of samples and real numbers is regression; whole numbers are, if it is asked for."""
    folder, _ = places
    monkeypatch.chdir(folder)
    x, y = next(data.load("npz:places.npz").test_batches(100))
    network = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)
    )
    for labels, task in ((y, "auto"), ((5 * y).round().long(), "regression")):
        snn = ann2snn_cli.convert(network, (x, labels), task=task, finetune_epochs=1, weight_bitwidth=8)
        assert snn.provenance.task == "regression"
    with pytest.raises(ann2snn_cli.BadData, match="y is int64 of shape"):
        ann2snn_cli.convert(network, (x, (5 * y).round().long()), timesteps=4)


def test_targets_and_tasks_that_do_not_fit_are_refused_in_words(places, here, ann2snn):
    """Classes that are real numbers, data of another task, floats that may be classes, one more column."""
    folder, _ = places
    (here / "tiny.py").write_text((folder / "tiny.py").read_text())
    save_places("places.npz")
    save_places("whole.npz", y=np.arange(160, dtype=np.float32) % 3)
    save_places("two.npz", x_train=np.zeros((4, 1, 8, 8), np.uint8), y_train=np.ones((4, 2)) / 2,
                x_test=np.zeros((4, 1, 8, 8), np.uint8), y_test=np.ones((4, 3)) / 2)  # fmt: skip
    for words, what in (
        ((*DATASET, "--task", "classification"), "y is float32 of shape"),
        (("--dataset", "digits", "--task", "regression"), "digits is for classification, not for regression"),
        ((*DATASET, "--task", "regresion"), "did you mean regression?"),
        (("--dataset", "npz:whole.npz"), "--task regression"),
        (("--dataset", "npz:two.npz"), "labels of train and test differ in shape"),
    ):
        done = ann2snn("train", "./tiny.py", "--epochs", "1", *words)
        assert (done.code in (1, 2), "Traceback" in done.err) == (True, False)
        assert what in done.err
    done = ann2snn(
        "train", "./tiny.py", "--epochs", "1", "--dataset", "npz:whole.npz", "--task", "regression"
    )
    assert done.code == 0, done.err
    assert "--task regression" in done.out


def test_a_network_of_another_width_is_refused(places, here, ann2snn):
    """What the network gives and what the data hold, before weights are changed."""
    folder, _ = places
    (here / "tiny.py").write_text((folder / "tiny.py").read_text().replace("2), classes)", "2), 5)"))
    save_places("places.npz")
    done = ann2snn("train", "./tiny.py", "--epochs", "1", *DATASET)
    assert done.code == 1
    assert "the network gives 5 numbers a sample, and y holds 2" in done.err
    assert json.loads(ann2snn("train", "./tiny.py", "--epochs", "1", *DATASET, "--json").out)["error"]
