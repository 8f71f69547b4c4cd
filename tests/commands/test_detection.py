"""Detection on the command line and from Python (A3): rectangles and discs are found in drawn images."""

import json
import sys

import pytest
import torch
from drawn_shapes import SIDE, save_boxes
from PIL import Image

import ann2snn_cli
from ann2snn_cli import catalog, data

pytest.importorskip("pycocotools")
DATASET = ("--dataset", "coco:shapes")
FREE = ("-e", "0", "--weight_bitwidth", "8", "--batch_size", "16", *DATASET)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory, ann2snn, in_folder):
    """Drawn shapes, detect_small trained on them and converted, and the documents of both."""
    folder = tmp_path_factory.mktemp("shapes")
    save_boxes(folder / "shapes", images=60)
    words = ("--epochs", "15", "--lr", "0.02", "--batch_size", "8", *DATASET, "--json")
    with in_folder(folder):
        trained = ann2snn("train", "detect_small", *words)
        assert trained.code == 0, trained.err
        converted = ann2snn("convert", "detect_small", *FREE, "--vectors", "0", "--json")
    assert converted.code == 0, converted.err
    return folder, trained, converted


def test_it_is_trained_converted_and_scored(shapes, ann2snn, monkeypatch):
    """Mean average precision before and after; layerwise is the quantized network."""
    folder, trained, converted = shapes
    monkeypatch.chdir(folder)
    report = converted.document

    assert (trained.document["classes"], trained.document["task"]) == (2, "detection")
    assert trained.document["test_map"] > 0.3
    assert report["metric"] == "map"
    assert report["map"]["ann"] == pytest.approx(trained.document["test_map"])
    assert report["map"]["quantized"] == report["map"]["layerwise"]
    assert report["map"]["layerwise"] > 0.6 * report["map"]["ann"]
    assert report["scores"]["ann"]["map_50"] > report["map"]["ann"]
    table = ann2snn("simulate", "detect_small_snn.pth").out
    assert f"SNN stepwise   {100 * report['map']['stepwise']:.2f} %" in table


def test_the_analysis_and_python(shapes, ann2snn, monkeypatch):
    """A picture of the score over time; the dataset by its name is data for `convert`."""
    folder, _, _ = shapes
    monkeypatch.chdir(folder)
    done = ann2snn("analyse-error", "detect_small", *FREE, "--timesteps", "1", "--test_samples", "6")
    assert done.code == 0, done.err
    assert (folder / "detect_small_analysis" / "map.png").exists()
    network = catalog.network("detect_small").build((1, SIDE, SIDE), 2)
    catalog.load_weights(network, catalog.checkpoint_file("detect_small-shapes"))
    given = data.load("coco:shapes")
    snn = ann2snn_cli.convert(network, given, finetune_epochs=1, weight_bitwidth=8, timesteps=32)
    assert snn.provenance.task == "detection"
    assert snn(torch.rand(2, 1, SIDE, SIDE)).shape == (2, 6, SIDE // 4, SIDE // 4)


def test_ids_with_gaps_are_classes_in_their_order(here):
    """7 is class 0, and 90 class 1; an image without annotations has no box."""
    content = save_boxes(here / "shapes", images=10)
    found = data.load("coco:shapes")
    images = {each["id"]: int(each["file_name"][:3]) for each in content["images"]}
    wanted = {images[each["image_id"]]: each for each in content["annotations"]}

    assert found.class_names == ("box", "disc")
    for split in (found.train, found.test):
        for row, path in enumerate(split.paths):
            classes = split.labels["classes"][row].tolist()
            about = wanted.get(int(path.stem))
            assert classes == [-1 if about is None else [7, 90].index(about["category_id"])]
            if about:
                left, top, width, height = about["bbox"]
                box = [left / SIDE, top / SIDE, (left + width) / SIDE, (top + height) / SIDE]
                assert split.labels["boxes"][row, 0].tolist() == pytest.approx(box)


def changed(place, **values):
    """An edit of one annotation."""
    return lambda content: content["annotations"][place].update(values)


def test_boxes_over_the_border_are_cut_and_those_outside_left_out_with_a_note(here):
    """Nothing is skipped in silence."""

    def edit(content):
        content["annotations"][0]["bbox"] = [-4, 0, 10, SIDE]
        content["annotations"][1]["bbox"] = [SIDE, 0, 5, 5]
        content["annotations"][2]["bbox"] = [3, 3, 0, 5]

    save_boxes(here / "shapes", images=10, edit=edit)
    found = data.load("coco:shapes")
    boxes = torch.cat([split.labels["boxes"].flatten(0, 1) for split in (found.train, found.test)])
    classes = torch.cat([split.labels["classes"].flatten() for split in (found.train, found.test)])

    assert [0.0, 0.0, 6 / SIDE, 1.0] in boxes.tolist()
    assert int((classes >= 0).sum()) == 3
    assert "1 box of annotations.json cut off at the border of the image" in found.notes
    assert "2 boxes of annotations.json left out: outside the image, or of no area" in found.notes


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (changed(0, image_id=5), "an annotation is of image 5, which is not among its images"),
        (changed(0, category_id=8), "of category 8, which is not among its categories"),
        (changed(0, bbox=[1, 2]), "it is no file of COCO's annotations: ValueError"),
        (lambda content: content["images"][0].update(file_name="no.png"), "names an image that is not there"),
        (lambda content: content["images"][0].update(width=5), "annotations.json says 5x24"),
        (lambda content: content.pop("categories"), "KeyError 'categories'"),
        (lambda content: content.update(images=[], annotations=[]), "it names no image"),
    ],
)
def test_annotations_that_do_not_fit_are_refused_in_words(edit, what, here, ann2snn):
    """The file, what is wrong with it and what to do."""
    save_boxes(here / "shapes", images=6, edit=edit)
    done = ann2snn("train", "detect_small", "--epochs", "1", *DATASET)
    assert (done.code in (1, 2), what in done.err, "remedy:" in done.err) == (True, True, True), done.err


def test_the_layout_of_coco_itself(here):
    """annotations/instances_train2017.json beside train2017/, and val2017 to test."""
    for part, images in (("train2017", 4), ("val2017", 2)):
        save_boxes(here / part, images=images)
        (here / "shapes" / "annotations").mkdir(parents=True, exist_ok=True)
        (here / part / "annotations.json").rename(here / "shapes" / "annotations" / f"instances_{part}.json")
        (here / part / "images").rename(here / "shapes" / part)
    Image.new("L", (2 * SIDE, SIDE)).save(here / "shapes" / "val2017" / "000.png")
    path = here / "shapes" / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["images"][0]["width"] = 2 * SIDE
    path.write_text(json.dumps(content))
    found = data.load("coco:shapes")

    assert (found.train_size, found.test_size) == (4, 2)
    assert found.test.labels["size"].tolist() == [[SIDE, 2 * SIDE], [SIDE, SIDE]]
    assert "1 image of 6 resized to 24x24, the size of the first" in found.notes


def test_without_pycocotools_one_error_names_the_command(here, ann2snn, monkeypatch):
    """Before any work."""
    save_boxes(here / "shapes", images=6)
    monkeypatch.setitem(sys.modules, "pycocotools.cocoeval", None)
    done = ann2snn("train", "detect_small", *DATASET)
    assert done.code == 2
    assert "remedy: pip install pycocotools" in done.err
