from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.streams.tracking.geometry import area, crosses_itself, depth, inside_by, right_of, separates, side

SQUARE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
BOW_TIE = ((0.0, 0.0), (1.0, 1.0), (1.0, 0.0), (0.0, 1.0))
coordinates = st.floats(-2000, 2000, allow_nan=False)
points = st.tuples(coordinates, coordinates)


@given(points, points, points)
def test_the_other_way_round_is_exactly_the_other_side(a: tuple, b: tuple, p: tuple) -> None:  # type: ignore[type-arg]
    assert side(a, b, p) == -side(b, a, p)


def test_right_is_below_for_who_looks_along_x() -> None:
    assert right_of((0, 0), (10, 0), (3, 2)) == pytest.approx(2)
    assert right_of((0, 0), (10, 0), (3, -2)) == pytest.approx(-2)


@given(points, points, points, points)
def test_whether_a_line_separates_does_not_depend_on_any_order(a: tuple, b: tuple, p: tuple, q: tuple) -> None:  # type: ignore[type-arg]
    assert separates(a, b, p, q) == separates(b, a, q, p)


@pytest.mark.parametrize(
    ("outline", "crosses"),
    [
        (SQUARE, False),
        (BOW_TIE, True),
        (((0, 0), (4, 0), (4, 4), (2, 0), (0, 4)), True),  # a corner on another edge
        (((0, 0), (4, 0), (2, 0), (2, 3)), True),  # back along its own edge
        (((0, 0), (4, 0), (4, 4), (2, 1), (0, 4)), False),
        (((0, 0), (2, 0), (4, 0), (4, 4)), False),  # a point within an edge does no harm
        (((0, 0), (1, 1), (2, 2)), True),
    ],
)
def test_crosses_itself(outline: tuple[tuple[float, float], ...], crosses: bool) -> None:
    assert crosses_itself(outline) is crosses
    assert crosses_itself(outline[::-1]) is crosses


@given(st.lists(st.floats(1, 1.9), min_size=3, max_size=12))
def test_a_star_around_a_point_does_not_cross_itself(weights: list[float]) -> None:
    steps = 2 * np.pi * np.array(weights) / sum(weights)  # each less than half a turn
    outline = [(float(np.cos(angle)), float(np.sin(angle))) for angle in np.cumsum(steps)]
    assert not crosses_itself(outline)
    assert area(outline) == pytest.approx(0.5 * np.sin(steps).sum(), rel=1e-6)


def test_depth_of_a_square_is_half_its_side() -> None:
    square = np.array(SQUARE, np.float32) * 100
    assert 45 <= depth(square) <= 50
    assert inside_by(square, (10, 50)) == pytest.approx(10)
    assert inside_by(square, (-10, 50)) == pytest.approx(-10)
