"""Data sets that are made up: pictures of bright rectangles, labels, and what a detector that errs makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from engines.evaluation.coco import Result
from engines.evaluation.contenders import Contender
from engines.fake import FakeEngine

CATEGORIES = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}, {"id": 13, "name": "stop sign"}]
"""With gaps, as COCO's ids have them."""

WIDTH, HEIGHT = 320, 240


def annotation(number: int, image: int, category: int, box: list[float], crowd: bool = False) -> dict[str, Any]:
    """One object as COCO has it."""
    area = box[2] * box[3] * 0.8  # an outline covers less than its box
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "area": area,
        "iscrowd": int(crowd),
        "segmentation": [],
    }


def document(images: int, seed: int) -> dict[str, Any]:
    """Labels of 0 to 5 objects a picture, of all sizes, one in ten of them a crowd; every seventh picture is empty."""
    random = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    for image in range(1, images + 1):
        for _ in range(0 if image % 7 == 0 else int(random.integers(1, 6))):
            width, height = np.exp(random.uniform(np.log(8), np.log(180), 2))
            left, top = random.uniform(0, WIDTH - width), random.uniform(0, HEIGHT - min(height, HEIGHT))
            box = [round(float(side), 2) for side in (left, top, width, min(height, HEIGHT))]
            category = int(random.choice([category["id"] for category in CATEGORIES], p=[0.6, 0.3, 0.1]))
            annotations.append(annotation(len(annotations) + 1, image, category, box, bool(random.random() < 0.1)))
    pictures = [
        {"id": image, "file_name": f"{image:06}.png", "width": WIDTH, "height": HEIGHT, "license": 1}
        for image in range(1, images + 1)
    ]
    return {"info": {"year": 2026}, "images": pictures, "categories": CATEGORIES, "annotations": annotations}


def erring(labels: dict[str, Any], seed: int) -> list[Result]:
    """What a detector finds that misses some, shifts others, mistakes classes, sees things, and is unsure alike."""
    random = np.random.default_rng(seed)
    results: list[Result] = []

    def add(image: int, category: int, box: np.ndarray[Any, Any], score: float) -> None:
        sides = [round(float(side), 3) for side in box]
        results.append({"image_id": image, "category_id": category, "bbox": sides, "score": round(score, 2)})

    for each in labels["annotations"]:
        for _ in range(int(random.choice([0, 1, 1, 1, 2, 6 if each["iscrowd"] else 1]))):
            box = np.array(each["bbox"]) + np.tile(each["bbox"][2:], 2) * random.normal(0, 0.05, 4)
            category = each["category_id"] if random.random() < 0.9 else CATEGORIES[0]["id"]
            add(each["image_id"], int(category), box, float(random.uniform(0.2, 1)))
    for image in labels["images"]:
        for _ in range(int(random.integers(0, 4))):
            box = np.array([*random.uniform(0, 200, 2), *random.uniform(5, 100, 2)])
            add(image["id"], CATEGORIES[int(random.integers(3))]["id"], box, float(random.uniform(0, 0.7)))
    return results


def bright_rectangles(folder: Path, images: int, seed: int = 5) -> Path:
    """Write a data set that `FakeEngine` can be run on: at most one rectangle a picture, not quite where labels say."""
    random = np.random.default_rng(seed)
    (folder / "annotations").mkdir(parents=True)
    (folder / "val2017").mkdir()
    pictures, annotations = [], []
    for image in range(1, images + 1):
        picture = np.full((HEIGHT, WIDTH, 3), 20, np.uint8)
        if image % 5:
            left, top = (int(side) for side in random.integers(0, 120, 2))
            width, height = (int(side) for side in random.integers(12, 120, 2))
            picture[top : top + height, left : left + width] = int(random.integers(130, 256))
            off = random.integers(-8, 9, 4) / 2
            box = [float(side) for side in np.array([left, top, width, height]) + off]
            annotations.append(annotation(len(annotations) + 10, image, 7, box, image % 11 == 0))
        name = f"{image:012}.png"
        cv2.imwrite(str(folder / "val2017" / name), picture)
        pictures.append({"id": image, "file_name": name, "width": WIDTH, "height": HEIGHT})
    labels = {"images": pictures, "categories": [{"id": 7, "name": "bright"}], "annotations": annotations}
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(labels))
    return folder


def fake(label: str = "fake", **options: Any) -> Contender:
    """A `FakeEngine` that takes part in an evaluation."""
    engine = {"width": WIDTH, "height": HEIGHT, "class_names": ("bright",), **options}
    return Contender(label, Path(label), engine["class_names"], lambda: FakeEngine(**engine))


def silent(_: str, __: int | None) -> Any:
    """A progress bar that nobody sees."""
    return lambda frames: None
