"""Curves are what their definitions say, row by row."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.evaluation.curves import GRID, Curves, Judged, draw_curves, smooth

Row = tuple[float, bool, int]

CONFIDENCES = st.integers(0, 40).map(lambda step: step / 40) | st.floats(0, 1, width=32)
ROWS = st.lists(st.tuples(CONFIDENCES, st.booleans(), st.integers(0, 2)), max_size=40)


def judged(rows: list[Row]) -> Judged:
    """Rows as arrays."""
    return Judged(
        np.array([row[0] for row in rows], np.float64),
        np.array([row[1] for row in rows], np.bool_),
        np.array([row[2] for row in rows], np.int32),
    )


def counted(rows: list[Row], objects: int) -> list[tuple[float, float, float]]:
    """Confidence, precision, recall at each confidence there is, the highest first."""
    steps = []
    for threshold in sorted({confidence for confidence, _, _ in rows}, reverse=True):
        above = [right for confidence, right, _ in rows if confidence >= threshold]
        steps.append((threshold, sum(above) / len(above), sum(above) / objects))
    return steps


def between(points: list[tuple[float, float]], x: float) -> float:
    """Straight lines through points of rising x, of which the last counts where several have the same."""
    if x < points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= x < x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return points[-1][1]


def slow_at(steps: list[tuple[float, float, float]], x: float) -> tuple[float, float]:
    """Precision and recall at a confidence."""
    if x > steps[0][0]:
        return 1.0, 0.0
    rising = steps[::-1]
    return between([(c, p) for c, p, _ in rising], x), between([(c, r) for c, _, r in rising], x)


def slow_pr(steps: list[tuple[float, float, float]], recall: float) -> float:
    """Precision at a recall: the best that is reached from there on, in straight lines between the steps."""
    points = [(0.0, 1.0), *((r, p) for _, p, r in steps), (1.0, 0.0)]
    best = [(r, max(later for _, later in points[index:])) for index, (r, _) in enumerate(points)]
    return between(best, recall)


def objects_of(rows: list[Row], more: list[int]) -> list[int]:
    """At least as many objects as were found."""
    return [sum(right for _, right, kind in rows if kind == category) + more[category] for category in range(3)]


@settings(max_examples=60)
@given(ROWS, st.tuples(*[st.integers(0, 5)] * 3))
def test_curves_are_those_of_the_slow_reference(rows: list[Row], more: tuple[int, int, int]) -> None:
    objects = objects_of(rows, list(more))
    if not any(objects):
        return
    curves = draw_curves(judged(rows), np.array(objects))
    assert curves.categories.tolist() == [category for category in range(3) if objects[category]]
    for row, category in enumerate(curves.categories):
        mine = [each for each in rows if each[2] == category]
        if not mine:
            assert not curves.precision[row].any()
            assert not curves.recall[row].any()
            assert curves.area[row] == 0
            continue
        steps = counted(mine, objects[category])
        for point in range(0, 1000, 37):
            precision, recall = slow_at(steps, float(GRID[point]))
            assert curves.precision[row, point] == pytest.approx(precision, abs=1e-9)
            assert curves.recall[row, point] == pytest.approx(recall, abs=1e-9)
            f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0
            assert curves.f1[row, point] == pytest.approx(f1, abs=1e-9)
        at = [slow_pr(steps, step / 100) for step in range(101)]
        area = sum((left + right) / 200 for left, right in pairwise(at))
        assert curves.area[row] == pytest.approx(area, abs=1e-9)


@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_detections_does_not_matter(rows: list[Row], random: object) -> None:
    objects = np.array(objects_of(rows, [1, 1, 1]))
    mixed = rows.copy()
    random.shuffle(mixed)  # type: ignore[attr-defined]
    first, second = draw_curves(judged(rows), objects), draw_curves(judged(mixed), objects)
    for name in ("precision", "recall", "f1", "precision_at_recall", "area"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@given(ROWS)
def test_all_stays_between_0_and_1_and_recall_falls_as_confidence_rises(rows: list[Row]) -> None:
    curves = draw_curves(judged(rows), np.array(objects_of(rows, [1, 0, 2])))
    for values in (curves.precision, curves.recall, curves.f1, curves.precision_at_recall, curves.area):
        assert values.min() >= 0
        assert values.max() <= 1 + 1e-9
    assert (np.diff(curves.recall, axis=1) <= 1e-12).all()
    assert (np.diff(curves.precision_at_recall, axis=1) <= 1e-12).all()


def test_known_numbers() -> None:
    """Four objects; right, right, wrong, right by falling confidence."""
    curves = draw_curves(judged([(0.9, True, 0), (0.8, True, 0), (0.6, False, 0), (0.4, True, 0)]), np.array([4]))
    at = {confidence: int(np.abs(GRID - confidence).argmin()) for confidence in (0.2, 0.95)}
    assert curves.precision[0, at[0.2]] == pytest.approx(3 / 4)
    assert curves.recall[0, at[0.2]] == pytest.approx(3 / 4)
    assert curves.precision[0, at[0.95]] == 1
    assert curves.recall[0, at[0.95]] == 0
    # Precision 1 up to a recall of 1/2, then 3/4 up to 3/4, from where it falls to nought.
    assert curves.area[0] == pytest.approx(0.5 + 0.25 * 0.75 + 0.25 * 0.375, abs=2e-3)


def test_the_operating_point_is_where_the_smoothed_f1_is_best() -> None:
    """A lone spike is no place to work at; a broad plateau is."""
    f1 = np.full((1, 1000), 0.1)
    f1[0, 900] = 1.0
    f1[0, 200:400] = 0.8
    curves = Curves(np.array([0]), f1, f1, f1, f1, np.zeros(1))
    assert 249 <= curves.operating_point <= 350


@given(st.lists(st.floats(0, 1), min_size=30, max_size=60), st.sampled_from([0.05, 0.1, 0.3]))
def test_smoothing_is_a_running_mean_that_carries_the_ends_on(values: list[float], share: float) -> None:
    half = round(len(values) * share) // 2
    ends = [values[min(max(index, 0), len(values) - 1)] for index in range(-half, len(values) + half)]
    wanted = [sum(ends[index : index + 2 * half + 1]) / (2 * half + 1) for index in range(len(values))]
    np.testing.assert_allclose(smooth(np.array(values), share), wanted, atol=1e-12)
