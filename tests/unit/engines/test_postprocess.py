"""Selection of objects, against a reference that compares each pair of boxes in plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.families.decoder import Candidates, Objects
from engines.postprocess import MAX_CANDIDATES, detections, select
from engines.types import Float32Array, Thresholds

CLASSES = 3
ROW = st.tuples(
    st.tuples(st.integers(-20, 30), st.integers(-20, 30), st.integers(-1, 25), st.integers(-1, 25)),
    st.tuples(*[st.integers(0, 10)] * CLASSES),
)


def _arrays(rows: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> tuple[Float32Array, Float32Array]:
    boxes = np.array([(x, y, x + w, y + h) for (x, y, w, h), _ in rows], np.float32).reshape(-1, 4)
    scores = np.array([tenths for _, tenths in rows], np.float32).reshape(-1, CLASSES) / np.float32(10)
    return boxes, scores


def _overlap(one: list[float], other: list[float]) -> float:
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    both = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width * height / (both - width * height)


def _reference(boxes: Float32Array, scores: Float32Array, limits: Thresholds) -> list[tuple[int, int]]:
    """Row and class of each object, in order."""
    found: list[tuple[float, int, int]] = []
    for row, (box, row_scores) in enumerate(zip(boxes.tolist(), scores.tolist(), strict=True)):
        best = max(row_scores)
        if best >= limits.confidence and box[2] > box[0] and box[3] > box[1]:
            found.append((-best, row, row_scores.index(best)))
    kept: list[tuple[int, int]] = []
    for _, row, one_class in sorted(found):
        rivals = [other for other, other_class in kept if other_class == one_class]
        if all(_overlap(boxes[row].tolist(), boxes[other].tolist()) <= limits.iou for other in rivals):
            kept.append((row, one_class))
    return kept[: limits.max_detections]


@given(
    st.lists(ROW, max_size=40),
    st.sampled_from([0.15, 0.35, 0.85]),
    st.sampled_from([0.0, 0.3, 0.45, 0.6, 1.0]),
    st.integers(0, 12),
)
def test_select_is_the_reference(
    rows: list[tuple[tuple[int, ...], tuple[int, ...]]], confidence: float, iou: float, most: int
) -> None:
    boxes, scores = _arrays(rows)
    limits = Thresholds(confidence, iou, most)
    expected = _reference(boxes, scores, limits)
    found = select(boxes, scores, limits)
    assert found.class_id.tolist() == [one_class for _, one_class in expected]
    np.testing.assert_array_equal(found.xyxy, boxes[[row for row, _ in expected]].reshape(-1, 4))
    np.testing.assert_array_equal(found.confidence, scores[[row for row, _ in expected]].max(axis=1, initial=0))
    assert [str(array.dtype) for array in (found.xyxy, found.confidence, found.class_id)] == [
        "float32",
        "float32",
        "int32",
    ]


@given(
    st.lists(ROW, min_size=1, max_size=10),
    st.sampled_from([np.nan, np.inf, -np.inf]),
    st.integers(0, 3 + CLASSES),
    st.data(),
)
def test_rows_that_are_not_finite_never_survive(
    rows: list[tuple[tuple[int, ...], tuple[int, ...]]], value: float, column: int, data: st.DataObject
) -> None:
    boxes, scores = _arrays(rows)
    row = data.draw(st.integers(0, len(rows) - 1))
    table = np.concatenate([boxes, scores], axis=1)
    table[row, column] = value
    limits = Thresholds(confidence=0.05)
    found = select(table[:, :4], table[:, 4:], limits)
    without = select(np.delete(boxes, row, axis=0), np.delete(scores, row, axis=0), limits)
    np.testing.assert_array_equal(found.xyxy, without.xyxy)
    np.testing.assert_array_equal(found.confidence, without.confidence)
    np.testing.assert_array_equal(found.class_id, without.class_id)


def test_boxes_whose_area_overflows_are_dropped() -> None:
    found = select(np.array([[-3e38, 0, 3e38, 9]], np.float32), np.ones((1, 1), np.float32), Thresholds())
    assert len(found) == 0


def test_an_overlap_of_just_the_limit_stays() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 6]], np.float32)
    scores = np.array([[0.9], [0.8]], np.float32)
    assert len(select(boxes, scores, Thresholds(iou=0.6))) == 2
    assert len(select(boxes, scores, Thresholds(iou=0.59))) == 1


def test_a_box_is_of_its_best_class_only() -> None:
    found = select(np.array([[0, 0, 9, 9]], np.float32), np.array([[0.5, 0.9, 0.8]], np.float32), Thresholds())
    assert found.class_id.tolist() == [1]


def test_only_the_most_confident_candidates_are_looked_at() -> None:
    count = MAX_CANDIDATES + 50
    left = np.arange(count, dtype=np.float32) * 10
    boxes = np.stack([left, left * 0, left + 5, left * 0 + 5], axis=1)
    scores = np.linspace(0.4, 0.9, count, dtype=np.float32)[:, None]
    found = select(boxes, scores, Thresholds(max_detections=count))
    np.testing.assert_array_equal(found.confidence, scores[::-1][:MAX_CANDIDATES, 0])


@pytest.mark.parametrize("rows", [0, 5])
def test_nothing_found_is_empty(rows: int) -> None:
    found = select(np.zeros((rows, 4), np.float32), np.zeros((rows, 2), np.float32), Thresholds())
    assert len(found) == 0
    assert found.xyxy.shape == (0, 4)


OVERLAPPING = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 8]], np.float32)


def test_only_candidates_suppress_each_other() -> None:
    confidence = np.array([0.5, 0.9, 0.7], np.float32)
    assert len(detections(Candidates(OVERLAPPING, confidence[:, None]), Thresholds())) == 1
    found = detections(Objects(OVERLAPPING, confidence, np.array([4, 5, 6], np.int32)), Thresholds())
    np.testing.assert_array_equal(found.xyxy, OVERLAPPING[[1, 2, 0]])
    np.testing.assert_array_equal(found.confidence, confidence[[1, 2, 0]])
    assert found.class_id.tolist() == [5, 6, 4]


@pytest.mark.parametrize(
    ("limits", "classes"),
    [
        (Thresholds(confidence=0.75), [5, 6]),
        (Thresholds(confidence=0.76), [5]),
        (Thresholds(max_detections=2), [5, 6]),
        (Thresholds(confidence=0.95), []),
        (Thresholds(max_detections=0), []),
    ],
)
def test_thresholds_hold_for_objects_too(limits: Thresholds, classes: list[int]) -> None:
    objects = Objects(OVERLAPPING, np.array([0.5, 0.9, 0.75], np.float32), np.array([4, 5, 6], np.int32))
    assert detections(objects, limits).class_id.tolist() == classes


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", range(5))
def test_objects_that_are_not_finite_never_survive(value: float, column: int) -> None:
    table = np.concatenate([OVERLAPPING, np.full((3, 1), 0.8, np.float32)], axis=1)
    table[1, column] = value
    found = detections(Objects(table[:, :4], table[:, 4], np.arange(3, dtype=np.int32)), Thresholds())
    assert found.class_id.tolist() == [0, 2]


def test_objects_without_an_area_are_dropped() -> None:
    boxes = np.array([[0, 0, 0, 9], [5, 0, 4, 9], [0, 0, 1, 1]], np.float32)
    found = detections(Objects(boxes, np.ones(3, np.float32), np.arange(3, dtype=np.int32)), Thresholds())
    assert found.class_id.tolist() == [2]
