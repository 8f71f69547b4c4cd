"""Images with rectangles (class 1) and discs (class 2) on a dark ground, drawn by numpy, saved by PIL."""

import json

import numpy as np
from PIL import Image

SIDE = 24


def drawn(random, shapes=2, side=SIDE):
    """An image, its mask, and (class, x, y, width, height) of each shape; later ones hide earlier ones."""
    image = random.integers(0, 50, (side, side)).astype(np.uint8)
    mask = np.zeros((side, side), np.uint8)
    boxes = []
    rows, columns = np.mgrid[:side, :side]
    for _ in range(shapes):
        kind, size = int(random.integers(1, 3)), int(random.integers(7, 11))
        x, y = (int(random.integers(0, side - size + 1)) for _ in range(2))
        inside = (columns >= x) & (columns < x + size) & (rows >= y) & (rows < y + size)
        if kind == 2:
            middle = (size - 1) / 2
            inside &= (columns - x - middle) ** 2 + (rows - y - middle) ** 2 <= (size / 2) ** 2
        image[inside] = 120 if kind == 1 else 230
        mask[inside] = kind
        boxes.append((kind, x, y, size, size))
    return image, mask, boxes


def save_masks(folder, images=60, shapes=2):
    """PATH/images and PATH/masks; the border of each mask does not count."""
    random = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in range(images):
        image, mask, _ = drawn(random, shapes)
        mask[0] = 255
        Image.fromarray(image).save(folder / "images" / f"{number:03}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number:03}.png")


def save_boxes(folder, images=60, edit=lambda content: None):
    """PATH/images and PATH/annotations.json, as COCO has it: ids with gaps, every other image without a box.

    `edit` may change what is written.
    """
    random = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    content = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 90, "name": "disc"}, {"id": 7, "name": "box"}],
    }
    for number in range(images):
        image, _, boxes = drawn(random, shapes=number % 2)
        name = f"{number:03}.png"
        Image.fromarray(image).save(folder / "images" / name)
        content["images"].append({"id": 1000 + 3 * number, "file_name": name, "height": SIDE, "width": SIDE})
        for kind, *bbox in boxes:
            about = {"image_id": 1000 + 3 * number, "category_id": {1: 7, 2: 90}[kind], "bbox": bbox}
            about |= {"id": len(content["annotations"]) + 1, "area": bbox[2] * bbox[3], "iscrowd": 0}
            content["annotations"].append(about)
    edit(content)
    (folder / "annotations.json").write_text(json.dumps(content))
    return content
