"""Boxes are paired by class and overlap, the closest first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.evaluation.matching import overlaps, pair
from engines.types import Float32Array, Int32Array

Box = tuple[int, int, int, int]

BOXES = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 10), st.integers(0, 10), st.integers(0, 1)),
    max_size=8,
)


def arrays(boxes: list[tuple[int, int, int, int, int]]) -> tuple[Float32Array, Int32Array]:
    """Corners and classes of left, top, width, height, class."""
    corners = [[left, top, left + width, top + height] for left, top, width, height, _ in boxes]
    return np.array(corners, np.float32).reshape(-1, 4), np.array([box[4] for box in boxes], np.int32)


def slow_iou(left: Float32Array, right: Float32Array) -> float:
    """Count unit squares."""

    def squares(box: Float32Array) -> set[tuple[int, int]]:
        return {(x, y) for x in range(int(box[0]), int(box[2])) for y in range(int(box[1]), int(box[3]))}

    union = squares(left) | squares(right)
    return len(squares(left) & squares(right)) / len(union) if union else 0.0


@given(BOXES, BOXES)
def test_overlaps_are_shared_squares(left: list[Box], right: list[Box]) -> None:
    first, second = arrays(left)[0], arrays(right)[0]  # type: ignore[arg-type]
    wanted = [[slow_iou(one, other) for other in second] for one in first]
    np.testing.assert_allclose(overlaps(first, second), np.array(wanted).reshape(len(first), len(second)), atol=1e-12)


@given(BOXES, BOXES, st.sampled_from([0.3, 0.5, 0.75]))
def test_pairs_are_those_of_the_slow_reference(left: list[Box], right: list[Box], iou: float) -> None:
    one, other = arrays(left), arrays(right)  # type: ignore[arg-type]
    each = overlaps(one[0], other[0])
    candidates = [
        (-each[row, column], row, column)
        for row in range(len(left))
        for column in range(len(right))
        if one[1][row] == other[1][column] and each[row, column] >= iou
    ]
    wanted: list[tuple[int, int]] = []
    for _, row, column in sorted(candidates):
        if all(row != taken and column != gone for taken, gone in wanted):
            wanted.append((row, column))
    found = pair(*one, *other, iou)
    assert list(zip(found.left.tolist(), found.right.tolist(), strict=True)) == wanted
    assert found.iou.tolist() == [each[row, column] for row, column in wanted]


def test_the_closest_comes_first_whatever_the_order() -> None:
    left, right = arrays([(0, 0, 10, 10, 0), (1, 0, 10, 10, 0)]), arrays([(1, 0, 10, 10, 0), (50, 0, 5, 5, 0)])
    found = pair(*left, *right, 0.5)
    assert (found.left.tolist(), found.right.tolist(), found.iou.tolist()) == ([1], [0], [1.0])


@pytest.mark.parametrize("iou", [0.5, 0.9])
def test_nothing_pairs_with_nothing(iou: float) -> None:
    assert len(pair(*arrays([]), *arrays([(0, 0, 5, 5, 0)]), iou).left) == 0
