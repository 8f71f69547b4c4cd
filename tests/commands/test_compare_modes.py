"""`compare-modes`: accuracy after every step for each way of setting thresholds."""

import csv
import json
import shutil
import struct

import numpy as np
import pytest
import torch

import ann2snn_cli
from ann2snn_cli.config import Quantize, Timing
from ann2snn_cli.workflows.compare_modes import CompareModesRequest, compare_modes

FILES = {"accuracy.png", "accuracy.csv", "references.csv", "manifest.json"}
# Weights by chance: the trained ones are right at every step, in every mode.
UNTRAINED = ("./tiny.py", "--ann_weight", "none", "-T", "5", "--weight_bitwidth", "3")
WORDS = ("compare-modes", *UNTRAINED, "--modes", "max, 1/3,mse")


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory, in_folder, ann2snn):
    """A folder in which the modes of the tiny network were compared."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("compared"), dirs_exist_ok=True)
    with in_folder(folder):
        done = ann2snn(*WORDS, "--json")
    assert done.code == 0, done.err
    (folder / "modes.json").write_text(done.out)
    return folder


@pytest.fixture
def there(folder, monkeypatch):
    """Work in that folder."""
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def compared(there):
    """The comparison as a document."""
    return json.loads((there / "modes.json").read_text())


def table(path):
    """The rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def png_size(path):
    """Width and height as the header of a PNG says them."""
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", content[16:24])


def accuracies(values, labels):
    """The share of samples whose largest output is that of their class, after each step."""
    return [(step.argmax(1) == labels).double().mean().item() for step in values]


@pytest.mark.parametrize("mode", ["max", "1/3", "mse"])
def test_a_curve_is_the_accuracy_of_the_snn_of_that_mode_after_each_step(mode, compared, there, ann2snn):
    """(B5) Counted here, by argmax, from what the SNN that `convert` saves says after each step."""
    words = ("convert", *UNTRAINED, "-e", "0", "--vectors", "0", "--mode", mode, "--overwrite")
    converted = ann2snn(*words, "--json").document
    data = np.load(there / "tiny.npz")
    snn = ann2snn_cli.load(there / "tiny_snn.pth")
    found = snn.simulate(data["x_test"], by_step=True).by_step[0]

    own = compared["modes"][mode]
    assert own["accuracy_by_step"] == pytest.approx(accuracies(found, torch.from_numpy(data["y_test"])))
    assert own["quantized"] == converted["accuracy"]["quantized"]
    assert compared["ann"] == converted["accuracy"]["ann"]
    assert [float(row[mode]) for row in table(there / "tiny_modes/accuracy.csv")] == own["accuracy_by_step"]


def test_the_modes_differ(compared):
    """Not one SNN under several names."""
    curves = {tuple(own["accuracy_by_step"]) for own in compared["modes"].values()}
    assert len(curves) > 1


def test_the_files_are_a_picture_and_its_numbers(compared, there):
    """A row a step; the lines that have no steps in a table of their own."""
    folder = there / "tiny_modes"
    assert {path.name for path in folder.iterdir()} == FILES
    assert {path.rpartition("/")[2] for path in compared["files"]} == FILES - {"manifest.json"}
    width, height = png_size(folder / "accuracy.png")
    assert width > height > 500
    assert [row["step"] for row in table(folder / "accuracy.csv")] == ["1", "2", "3", "4", "5"]
    lines = {row["network"]: float(row["accuracy"]) for row in table(folder / "references.csv")}
    assert lines == {
        "ann": compared["ann"],
        **{f"quantized {mode}": own["quantized"] for mode, own in compared["modes"].items()},
    }


@pytest.mark.usefixtures("there")
def test_a_second_run_replaces_the_first_and_its_text_names_the_files(ann2snn):
    """A table with a line a mode."""
    done = ann2snn(*WORDS)
    assert done.code == 0, done.err
    for said in ("no finetuning", "step 4", "step 5", "quantized ANN", "mse", "tiny_modes/accuracy.png"):
        assert said in done.out


@pytest.mark.usefixtures("there")
def test_python_gives_the_same_numbers(compared):
    """The workflow that the command calls, with settings of the same names."""
    settings = ann2snn_cli.Settings(
        network="./tiny.py",
        ann_weight="none",
        timing=Timing(timesteps=5),
        quantize=Quantize(weight_bitwidth=3),
    )
    report = compare_modes(CompareModesRequest(settings, ["max", "mse"]))
    assert list(report.by_mode) == ["max", "mse"]
    for mode, scores in report.by_mode.items():
        assert list(scores.by_step) == compared["modes"][mode]["accuracy_by_step"]


@pytest.mark.parametrize(
    ("modes", "said"),
    [
        ("max,nonsense,2", "2 settings are wrong"),
        ("max,Max", "named twice: max"),
        (",", "no mode is named"),
        ("99.99", "it must be a percentile"),
    ],
)
def test_wrong_modes_are_refused_at_once(modes, said, tiny, ann2snn):
    """Before anything is loaded, by the flag's name."""
    done = ann2snn("compare-modes", "./tiny.py", "--modes", modes)
    assert done.code == 2
    assert said in done.err
    assert "--modes" in done.err
    assert "load the network" not in done.err
    assert not (tiny / "tiny_modes").exists()


def test_a_network_without_scores_is_refused(here, ann2snn):
    """The debug networks give maps: there is nothing to draw, and nothing is written."""
    done = ann2snn("compare-modes", "debug_net2", "-T", "2", "--modes", "max")
    assert done.code == 1
    assert "there is no accuracy to compare" in done.err
    assert list(here.iterdir()) == []


def test_what_is_not_ours_is_refused(tiny, ann2snn):
    """A folder of somebody else's under that name, before any work."""
    (tiny / "mine").mkdir()
    (tiny / "mine/notes.txt").write_text("mine")
    done = ann2snn(*WORDS, "--save_dir", "mine")
    assert done.code == 1
    assert "--save_dir" in done.err
    assert "mode max" not in done.err
    assert [path.name for path in (tiny / "mine").iterdir()] == ["notes.txt"]
