"""The frameworks' own post-processing, written anew row by row, for the decoders to be held against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engines.families import FAMILIES
from engines.families.decoder import Candidates, Objects
from engines.postprocess import detections
from engines.types import Detections, Float32Array, Thresholds
from tests.unit.engines.packages import described, specs


class Found(NamedTuple):
    """One object: its confidence, its class and left, top, right, bottom."""

    confidence: float
    class_id: int
    box: tuple[float, float, float, float]


def corners(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    """The box around a centre."""
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))


def best_class(scores: list[float], box: tuple[float, float, float, float]) -> Found:
    """A candidate of the class that it scores highest."""
    return Found(max(scores), scores.index(max(scores)), box)


def overlap(one: Found, other: Found) -> float:
    width = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    height = min(one.box[3], other.box[3]) - max(one.box[1], other.box[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one.box, other.box)]
    return width * height / (sum(areas) - width * height)


def confident(found: list[Found], limits: Thresholds) -> list[Found]:
    """Those above the threshold that have an area, the most confident first."""
    kept = [one for one in found if one.confidence >= limits.confidence]
    kept = [one for one in kept if one.box[2] > one.box[0] and one.box[3] > one.box[1]]
    return sorted(kept, key=lambda one: -one.confidence)


def suppressed(found: list[Found], limits: Thresholds) -> list[Found]:
    """Non-maximum suppression, class by class."""
    kept: list[Found] = []
    for one in confident(found, limits):
        rivals = [other for other in kept if other.class_id == one.class_id]
        if all(overlap(one, other) <= limits.iou for other in rivals):
            kept.append(one)
    return kept[: limits.max_detections]


def assert_same(detections: Detections, expected: list[Found], tolerance: float = 1e-2) -> None:
    """Hold ``detections`` against ``expected``, in order."""
    assert detections.class_id.tolist() == [one.class_id for one in expected]
    np.testing.assert_allclose(detections.confidence, [one.confidence for one in expected], rtol=1e-4, atol=1e-6)
    boxes = np.array([one.box for one in expected]).reshape(-1, 4)
    np.testing.assert_allclose(detections.xyxy, boxes, rtol=1e-4, atol=tolerance)
    arrays = (detections.xyxy, detections.confidence, detections.class_id)
    assert [array.dtype.name for array in arrays] == ["float32", "float32", "int32"]


def assert_detects(
    family: str,
    outputs: dict[str, Float32Array],
    size: tuple[int, int],
    classes: int,
    limits: Sequence[Thresholds],
    expected: list[list[Found]],
) -> Sequence[Candidates | Objects]:
    """A family's decoder and the choice behind it give what is expected of each frame; returns what was decoded."""
    decoder = FAMILIES[family].check(specs(outputs), described(*size, classes))
    decoded = decoder.decode(outputs, [each.confidence for each in limits])
    assert any(expected)
    for frame, each, found in zip(decoded, limits, expected, strict=True):
        best = frame.confidence if isinstance(frame, Objects) else frame.scores.max(axis=1)
        assert (best >= np.float32(each.confidence)).all()
        assert_same(detections(frame, each), found)
    return decoded
