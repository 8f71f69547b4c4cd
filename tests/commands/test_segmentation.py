"""Segmentation on the command line and from Python (A3): rectangles and discs are found."""

import numpy as np
import pytest
from drawn_shapes import SIDE, save_masks
from PIL import Image

import ann2snn_cli
from ann2snn_cli import catalog, data

SMALL = '''"""Three convolutions: a score for each class at each pixel."""

from torch import nn


def build(input_shape, classes):
    return nn.Sequential(
        nn.Conv2d(input_shape[0], 6, 3, padding=1), nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, classes, 1),
    )
'''
DATASET = ("--dataset", "segmentation:shapes")
FREE = ("-e", "0", "--weight_bitwidth", "8", "--vectors", "0", *DATASET)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory, ann2snn, in_folder):
    """Drawn shapes, a small network that was trained on them and converted, and the documents of both."""
    folder = tmp_path_factory.mktemp("shapes")
    save_masks(folder / "shapes", images=40)
    (folder / "small.py").write_text(SMALL)
    with in_folder(folder):
        trained = ann2snn(
            "train", "./small.py", "--epochs", "25", "--lr", "0.01", "--batch_size", "8", *DATASET, "--json"
        )
        assert trained.code == 0, trained.err
        converted = ann2snn("convert", "./small.py", *FREE, "--timesteps", "16", "--json")
    assert converted.code == 0, converted.err
    return folder, trained, converted


def mean_iou(predicted, labels):
    """By numpy alone."""
    predicted, labels = predicted[labels != 255], labels[labels != 255]
    each = [
        np.sum((predicted == kind) & (labels == kind)) / np.sum((predicted == kind) | (labels == kind))
        for kind in np.unique(labels)
    ]
    return float(np.mean(each))


def test_it_is_trained_converted_and_scored(shapes, ann2snn, monkeypatch):
    """The mean IoU before and after the conversion is numpy's, and the shapes are found."""
    folder, trained, converted = shapes
    monkeypatch.chdir(folder)
    report = converted.document
    x, masks = next(data.load("segmentation:shapes").test_batches(100))
    found = ann2snn_cli.load("small_snn.pth").simulate(x, schedule="layerwise").outputs[0]

    assert trained.document["classes"] == 3
    assert "mean_iou" in trained.err
    assert trained.document["test_mean_iou"] > 0.6
    assert report["metric"] == "mean_iou"
    assert report["mean_iou"]["ann"] == pytest.approx(trained.document["test_mean_iou"])
    assert report["mean_iou"]["quantized"] == report["mean_iou"]["layerwise"]
    assert report["mean_iou"]["layerwise"] > report["mean_iou"]["ann"] - 0.1
    simulated = ann2snn("simulate", "small_snn.pth")
    assert "mean_iou" in simulated.out
    assert "layerwise" in simulated.out
    by_numpy = mean_iou(found.argmax(1).numpy(), masks.numpy())
    assert ann2snn("simulate", "small_snn.pth", "--json").document["mean_iou"]["layerwise"] == pytest.approx(
        by_numpy
    )


def test_the_analysis_names_its_files_after_the_score(shapes, ann2snn, monkeypatch):
    """A picture, its numbers, and the errors by layer."""
    folder, _, _ = shapes
    monkeypatch.chdir(folder)
    done = ann2snn(
        "analyse-error", "./small.py", *FREE[:4], *DATASET, "--timesteps", "1", "--test_samples", "4"
    )
    assert done.code == 0, done.err
    assert (folder / "small_analysis" / "mean_iou.png").exists()
    assert (folder / "small_analysis" / "mean_iou.csv").read_text().startswith("timesteps,quantized")


def test_from_python_masks_are_labels(shapes, monkeypatch):
    """A dataset by name, or samples with maps of whole numbers: finetuned without another word."""
    folder, _, _ = shapes
    monkeypatch.chdir(folder)
    samples = data.load("segmentation:shapes")
    x, masks = next(samples.test_batches(100))
    network = catalog.network("./small.py").build((1, SIDE, SIDE), 3)
    catalog.load_weights(network, catalog.checkpoint_file("small-shapes"))
    for given in (samples, (x, masks)):
        snn = ann2snn_cli.convert(
            network, given, finetune_epochs=1, weight_bitwidth=8, timesteps=32, batch_size=32
        )
        assert snn.provenance.task == "segmentation"


def edit(folder, **changed):
    """The same folder with other files: an array, or None for none."""
    for name, values in changed.items():
        part, _, stem = name.partition("_")
        path = folder / part / f"{stem}.png"
        path.unlink(missing_ok=True)
        if values is not None:
            Image.fromarray(values).save(path)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"masks_003": np.zeros((8, 9), np.uint8)}, "the mask is 9x8, its image 24x24"),
        ({"masks_003": np.zeros((SIDE, SIDE, 3), np.uint8)}, "this one is RGB"),
        ({"masks_003": None}, "1 of 5 have no mask of the same name, first 003.png"),
        ({"images_003": None}, "1 of 5 have no image of the same name, first 003.png"),
        ({f"masks_00{n}": None for n in range(5)}, "it holds no images"),
    ],
)
def test_masks_that_do_not_fit_are_refused_in_words(changed, what, here, ann2snn):
    """The file, what is wrong with it and what to do."""
    save_masks(here / "shapes", images=5)
    (here / "small.py").write_text(SMALL)
    edit(here / "shapes", **changed)
    done = ann2snn("train", "./small.py", "--epochs", "1", *DATASET)
    assert done.code == 1, done.err
    assert what in done.err
    assert "remedy:" in done.err


def test_images_of_another_size_are_resized_with_their_masks(here):
    """A note says how many; no class is mixed from two."""
    save_masks(here / "shapes", images=5)
    large = np.zeros((2 * SIDE, 2 * SIDE), np.uint8)
    large[:SIDE] = 2
    edit(here / "shapes", images_004=large, masks_004=large)
    found = data.load("segmentation:shapes")
    masks = next(found.train_batches(10, 0, 0))[1].tolist() + next(found.test_batches(10))[1].tolist()

    assert "1 image of 5 resized to 24x24, the size of the first" in found.notes
    assert [[2] * SIDE] * (SIDE // 2) + [[0] * SIDE] * (SIDE // 2) in masks


def test_names_of_classes_and_train_and_test_folders(here, ann2snn):
    """classes.txt names them, also such as no image has; a mask beyond them is refused."""
    (here / "small.py").write_text(SMALL)
    for part in ("train", "test"):
        save_masks(here / "shapes" / part, images=2, shapes=0)
    (here / "shapes" / "classes.txt").write_text("ground\nrectangle\ndisc\nstar\n")
    found = data.load("segmentation:shapes")
    assert (found.classes, found.class_names[3], found.train_size, found.test_size) == (4, "star", 2, 2)
    (here / "shapes" / "classes.txt").write_text("ground\n")
    edit(here / "shapes" / "train", masks_001=np.full((SIDE, SIDE), 7, np.uint8))
    done = ann2snn("train", "./small.py", *DATASET)
    assert "it names 1 classes, and a mask holds class 7" in done.err
