"""A data set is found where COCO's lie, and what is wrong with it is said before anything runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines.errors import EvaluationError
from engines.evaluation.classes import NO_CATEGORY, category_of_class
from engines.evaluation.dataset import open_dataset
from engines.evaluation.labels import Category
from tests.unit.evaluation.generated import bright_rectangles

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set of six pictures."""
    return bright_rectangles(tmp_path / "set", 6)


def labels_file(root: Path) -> Path:
    """Its labels."""
    return root / "annotations" / "instances_val2017.json"


@pytest.mark.parametrize("place", ["val2017", "images/val2017", "images", "."])
def test_pictures_are_found_where_they_usually_lie(root: Path, place: str) -> None:
    pictures = list((root / "val2017").iterdir())
    (root / place).mkdir(parents=True, exist_ok=True)
    for picture in pictures if place != "val2017" else []:
        picture.rename(root / place / picture.name)
    dataset = open_dataset(root)
    assert dataset.folder.resolve() == (root / place).resolve()
    assert [frame.read().shape for frame in dataset.frames()] == [(240, 320, 3)] * 6


def test_of_training_and_validation_labels_the_latter_are_taken_and_others_by_name(root: Path) -> None:
    train = root / "annotations" / "instances_train2017.json"
    shutil.copy(labels_file(root), train)
    assert open_dataset(root).annotations == labels_file(root)
    assert open_dataset(root, train).annotations == train
    shutil.copy(train, root / "annotations" / "instances_valminusminival.json")
    with pytest.raises(
        EvaluationError, match=r"has instances_val2017\.json, instances_valminusminival\.json; name one"
    ):
        open_dataset(root)


def test_a_limit_takes_the_first_pictures_and_their_labels(root: Path) -> None:
    labels = open_dataset(root, limit=2).labels
    assert [picture.id for picture in labels.images] == [1, 2]
    assert {each.image_id for each in labels.annotations} == {1, 2}


def set_field(part: str, field: str, value: Any) -> Change:
    """Change one field of the second of a part."""
    return lambda labels: labels[part][1].update({field: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda labels: labels.pop("images"), "images: Field required"),
        (lambda labels: labels.update(annotations=[]), "has no annotations; without labels, measure the agreement"),
        (lambda labels: labels.update(images=[], annotations=[]), "has no images"),
        (set_field("images", "id", 1), "images have the id 1 twice"),
        (set_field("annotations", "id", 10), "annotations have the id 10 twice"),
        (lambda labels: labels["categories"].append({"id": 7, "name": "x"}), "categories have the id 7 twice"),
        (lambda labels: labels["categories"].append({"id": 8, "name": "bright"}), "the name 'bright' twice"),
        (set_field("annotations", "category_id", 9), "annotation 11 is of category 9, which isn't in categories"),
        (set_field("annotations", "image_id", 99), "annotation 11 is in image 99, which isn't in images"),
        (set_field("annotations", "bbox", [1, 2, -3, 4]), "annotations.1.bbox.2: Input should be greater than or"),
        (set_field("annotations", "bbox", [1, 2, 3]), "annotations.1.bbox.3: Field required"),
        (set_field("annotations", "bbox", [1, 2, float("nan"), 4]), "annotations.1.bbox.2"),
        (set_field("images", "width", 0), "images.1.width: Input should be greater than or equal to 1"),
        (set_field("images", "file_name", "gone.png"), "1 of 6 images are missing in .*val2017, the first is gone.png"),
    ],
)
def test_labels_that_do_not_fit_are_refused_in_one_line(root: Path, change: Change, message: str) -> None:
    labels = json.loads(labels_file(root).read_bytes())
    change(labels)
    labels_file(root).write_text(json.dumps(labels))
    with pytest.raises(EvaluationError, match=message) as raised:
        open_dataset(root)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: shutil.rmtree(root), "is no folder"),
        (lambda root: shutil.rmtree(root / "annotations"), "should have one annotations/.*, but has none"),
        (lambda root: shutil.rmtree(root / "val2017"), r"000000000001\.png and the other images are in none of"),
        (lambda root: labels_file(root).write_text('{"images": ['), r"instances_val2017\.json isn't JSON \("),
        (lambda root: labels_file(root).write_bytes(b"\xff\xfe\x00"), r"instances_val2017\.json isn't JSON \("),
        (lambda root: labels_file(root).write_text("[]"), r"instances_val2017\.json the whole file: Input should be"),
        (lambda root: (root / "val2017" / "000000000003.png").unlink(), "1 of 6 images are missing"),
        (lambda root: (root / "val2017" / "000000000003.png").write_text("x"), r"3\.png is no image that OpenCV knows"),
    ],
)
def test_a_data_set_with_a_fault_is_refused_before_anything_runs(
    root: Path, spoil: Callable[[Path], Any], message: str
) -> None:
    spoil(root)
    with pytest.raises(EvaluationError, match=message) as raised:
        open_dataset(root)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_named_must_be_there(root: Path) -> None:
    with pytest.raises(EvaluationError, match=r"can't read .*other\.json \(No such file or directory\)"):
        open_dataset(root, root / "other.json")


CATEGORIES = (Category(id=1, name="person"), Category(id=13, name="Stop Sign"))


def test_classes_are_mapped_by_name() -> None:
    mapped = category_of_class(CATEGORIES, ("N/A", "stop_sign", "N/A", "person"))
    assert mapped.tolist() == [NO_CATEGORY, 1, NO_CATEGORY, 0]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("car",), "2 of 2 categories are no class of the package: person, Stop Sign; name the classes alike"),
        (("person", "car"), "1 of 2 categories are no class of the package: Stop Sign;"),
        (("person", "stop sign", "stop-sign"), "category 'Stop Sign' has more than one counterpart"),
    ],
)
def test_classes_that_do_not_fit_are_refused_by_name(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        category_of_class(CATEGORIES, names)


def test_two_categories_that_are_one_class_are_refused() -> None:
    with pytest.raises(EvaluationError, match="'stop-sign' has more than one counterpart"):
        category_of_class([*CATEGORIES, Category(id=14, name="stop-sign")], ("person", "stop sign"))
