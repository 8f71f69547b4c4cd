"""Images in class folders."""

import numpy as np
import pytest
import torch
from PIL import Image

from ann2snn_cli import data
from ann2snn_cli.errors import BadData


def put(path, size=(6, 4), color=128, mode="L"):
    """An image of one colour; `size` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)
    return path


def load(folder):
    """The dataset in this folder."""
    return data.load(f"folder:{folder}")


def test_train_and_test_folders(tmp_path):
    """PATH/train and PATH/test are the splits; labels follow the names of the class folders."""
    for part, count in (("train", 3), ("test", 2)):
        for name, color in (("cat", 51), ("dog", 255)):
            for number in range(count):
                put(tmp_path / part / name / f"{number}.png", color=color)

    loaded = load(tmp_path)
    x, y = next(loaded.test_batches(10))

    assert (loaded.input_shape, loaded.classes, loaded.class_names) == ((1, 4, 6), 2, ("cat", "dog"))
    assert (loaded.train_size, loaded.test_size) == (6, 4)
    assert x.shape == (4, 1, 4, 6)
    assert x[:, 0, 0, 0].tolist() == pytest.approx([0.2, 0.2, 1, 1])
    assert y.tolist() == [0, 0, 1, 1]


def test_without_splits_a_fifth_is_held_out(tmp_path):
    """Class folders alone are split 80 to 20, always alike."""
    for number in range(10):
        put(tmp_path / "abc"[number % 3] / f"{number}.png", color=number)

    first, second = load(tmp_path), load(tmp_path)

    assert (first.train_size, first.test_size) == (8, 2)
    assert first.test.paths == second.test.paths
    assert not set(first.test.paths) & set(first.train.paths)


def test_what_is_done_to_images_of_another_form_is_said(tmp_path):
    """How many are resized, and how many turned grey; nothing where all are alike."""
    for number in range(5):
        put(tmp_path / "train" / "ab"[number % 2] / f"{number}.png")
        put(tmp_path / "test" / "ab"[number % 2] / f"{number}.png")
    assert load(tmp_path).notes == ()
    put(tmp_path / "test" / "b" / "9.png", size=(9, 9))
    put(tmp_path / "train" / "b" / "8.png", size=(9, 9), color=(0, 0, 9), mode="RGB")
    resized, grey = load(tmp_path).notes
    assert resized == "2 images of 12 resized to 6x4, the size of the first"
    assert grey == "1 image of 12 turned grey, as the first is"


@pytest.mark.parametrize("num_workers", [0, 3])
def test_all_images_take_the_form_of_the_first(tmp_path, num_workers):
    """A first image in colour: all are RGB of its size, by any number of workers, in the order asked for."""
    put(tmp_path / "a" / "1.png", color=(255, 0, 51), mode="RGB")
    put(tmp_path / "a" / "2.jpg", size=(20, 30), color=255)
    put(tmp_path / "b" / "3.png", size=(3, 3), color=(0, 255, 0, 255), mode="RGBA")
    loaded = load(tmp_path)
    loaded = type(loaded)("all", loaded.input_shape, 2, loaded.train, loaded.train)

    images = torch.cat([x for x, _ in loaded.test_batches(2, num_workers)])

    assert loaded.input_shape == (3, 4, 6)
    assert images.shape == (2, 3, 4, 6)
    paths = [path.name for path in loaded.train.paths]
    corner = {"1.png": [1, 0, 0.2], "2.jpg": [1, 1, 1], "3.png": [0, 1, 0]}
    assert images[:, :, 0, 0].tolist() == [pytest.approx(corner[name]) for name in paths]


def test_other_files_are_passed_over(tmp_path):
    """Hidden folders and files that are no images do not count."""
    put(tmp_path / "a" / "1.png")
    put(tmp_path / "a" / "2.png")
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / ".cache").mkdir()

    assert (load(tmp_path).classes, load(tmp_path).train_size) == (1, 1)


def test_missing_folder(tmp_path):
    """A folder that is not there is said to be not there."""
    with pytest.raises(BadData, match="does not exist") as caught:
        load(tmp_path / "no")
    assert "PATH/CLASS/image.png" in caught.value.remedy


def test_no_class_folders(tmp_path):
    """Images without class folders have no labels."""
    put(tmp_path / "1.png")

    with pytest.raises(BadData, match="no class folders") as caught:
        load(tmp_path)
    assert "PATH/CLASS/image.png" in caught.value.remedy


def test_empty_class_folder(tmp_path):
    """A class without images is named: it would only lower the accuracy."""
    put(tmp_path / "a" / "1.png")
    (tmp_path / "b").mkdir()

    with pytest.raises(BadData, match="holds no images") as caught:
        load(tmp_path)
    assert caught.value.where == str(tmp_path / "b")


def test_classes_differ(tmp_path):
    """A class of test/ that train/ lacks is named."""
    put(tmp_path / "train" / "a" / "1.png")
    put(tmp_path / "test" / "a" / "1.png")
    put(tmp_path / "test" / "x" / "1.png")

    with pytest.raises(BadData, match="train/ has no class 'x'"):
        load(tmp_path)


def test_damaged_image(tmp_path):
    """An image that cannot be read is named, whether at once or in the middle of a batch."""
    for number in range(5):
        put(tmp_path / "a" / f"{number}.png", size=(60, 40))
    loaded = load(tmp_path)
    victim = loaded.train.paths[2]
    victim.write_bytes(victim.read_bytes()[:60])
    with pytest.raises(BadData, match="cannot read the image") as caught:
        list(loaded.train_batches(8, 0, 0))
    assert caught.value.where == str(victim)

    loaded.train.paths[0].write_text("no image")
    with pytest.raises(BadData, match="cannot read the image") as caught:
        load(tmp_path)
    assert caught.value.where == str(loaded.train.paths[0])


def test_deep_images_are_refused(tmp_path):
    """16 bits a pixel would be cut off at white: refused with a remedy."""
    for number in range(2):
        Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(put(tmp_path / "a" / f"{number}.png"))

    with pytest.raises(BadData, match="more than 8 bits") as caught:
        load(tmp_path)
    assert "8 bits" in caught.value.remedy
