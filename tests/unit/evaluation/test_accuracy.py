"""Right and wrong detections, picture by picture."""

from __future__ import annotations

import json

import numpy as np
import pytest

from engines.evaluation.accuracy import judge
from engines.evaluation.labels import Labels, parse_labels
from engines.types import Detections
from tests.unit.evaluation.generated import CATEGORIES, annotation

CLASSES = np.array([0, 1, -1], np.int32)
"""Of a package that knows a person, a car, and something that the data set doesn't know."""


def labels() -> Labels:
    """A person and a crowd of them in the first picture, a car in the second."""
    annotations = [
        annotation(1, 1, 1, [0, 0, 10, 20]),
        annotation(2, 1, 1, [50, 50, 40, 40], crowd=True),
        annotation(3, 2, 3, [0, 0, 10, 20]),
    ]
    pictures = [{"id": image, "file_name": f"{image}.png", "width": 100, "height": 100} for image in (1, 2, 3)]
    document = {"images": pictures, "categories": CATEGORIES, "annotations": annotations}
    return parse_labels(json.dumps(document).encode())


def found(*rows: tuple[list[float], float, int]) -> Detections:
    """Boxes, confidences, classes."""
    boxes, confidence, classes = zip(*rows, strict=True)
    return Detections(np.array(boxes, np.float32), np.array(confidence, np.float32), np.array(classes, np.int32))


def test_a_detection_is_right_in_its_own_picture_and_class_only() -> None:
    first = found(([0, 0, 10, 20], 0.9, 0), ([0, 0, 10, 20], 0.8, 1), ([0, 0, 10, 20], 0.7, 2))
    second = found(([0, 0, 10, 20], 0.6, 0), ([1, 0, 11, 20], 0.5, 1))
    judged = judge(labels(), [first, second, found(([0, 0, 10, 20], 0.4, 0))], CLASSES)
    assert judged.confidence.tolist() == [pytest.approx(value) for value in (0.9, 0.8, 0.6, 0.5, 0.4)]
    assert judged.right.tolist() == [True, False, False, True, False]
    assert judged.category.tolist() == [0, 1, 0, 1, 0]


def test_of_two_on_one_object_the_closer_is_right_though_less_confident() -> None:
    first = found(([0, 0, 10, 15], 0.9, 0), ([0, 0, 10, 20], 0.2, 0))
    judged = judge(labels(), [first, Detections.empty(), Detections.empty()], CLASSES)
    assert judged.right.tolist() == [False, True]


def test_a_crowd_is_no_object() -> None:
    judged = judge(labels(), [found(([50, 50, 90, 90], 0.9, 0)), Detections.empty(), Detections.empty()], CLASSES)
    assert judged.right.tolist() == [False]


def test_an_overlap_of_a_half_is_enough() -> None:
    half = found(([0, 0, 10, 10], 0.9, 0), ([0, 0, 10, 9.9], 0.8, 0))
    judged = judge(labels(), [half, Detections.empty(), Detections.empty()], CLASSES)
    assert judged.right.tolist() == [True, False]
    judged = judge(labels(), [found(([0, 0, 10, 9.9], 0.8, 0)), Detections.empty(), Detections.empty()], CLASSES)
    assert judged.right.tolist() == [False]
