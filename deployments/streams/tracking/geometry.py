"""Points, lines and polygons in a picture whose y axis points down; pure functions on plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum, hypot

import cv2
import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]

_GRID = 24
"""Points a side that are tried for the deepest one of a polygon: within a twentieth of its size."""


def length(a: Point, b: Point) -> float:
    """From one point to the other."""
    return hypot(b[0] - a[0], b[1] - a[1])


def side(a: Point, b: Point, p: Point) -> float:
    """Twice the area of the triangle: positive where ``p`` is on the right of who looks from ``a`` to ``b``.

    Exactly the negative for ``b`` and ``a`` exchanged.
    """
    return fsum(
        (a[0] * b[1], -a[1] * b[0], b[0] * p[1], -b[1] * p[0], p[0] * a[1], -p[1] * a[0])
    )  # rounded once, so that the order does not matter


def right_of(a: Point, b: Point, p: Point) -> float:
    """How far ``p`` is on the right of the endless line through ``a`` and ``b``, in their unit; negative: left."""
    return side(a, b, p) / length(a, b)


def separates(a: Point, b: Point, p: Point, q: Point) -> bool:
    """Whether the endless line through ``a`` and ``b`` has ``p`` and ``q`` on different sides, or on it."""
    one, other = side(a, b, p), side(a, b, q)
    return (one <= 0 <= other) or (other <= 0 <= one)


def area(points: Sequence[Point]) -> float:
    """Of a polygon that does not cross itself."""
    return abs(fsum(side((0.0, 0.0), one, other) for one, other in _edges(points))) / 2


def crosses_itself(points: Sequence[Point]) -> bool:
    """Whether two edges of the polygon that are no neighbours touch, or two neighbours lie on each other."""
    edges, count = list(_edges(points)), len(points)
    for first in range(count):
        (a, b), (_, c) = edges[first], edges[(first + 1) % count]
        if side(a, b, c) == 0 and (a[0] - b[0]) * (c[0] - b[0]) + (a[1] - b[1]) * (c[1] - b[1]) > 0:
            return True
        for second in range(first + 2, count - (first == 0)):
            if _touch(*edges[first], *edges[second]):
                return True
    return False


def inside_by(outline: NDArray[np.float32], p: Point) -> float:
    """How far ``p`` is inside the polygon, float32 ``[N, 2]``; negative: outside."""
    return float(cv2.pointPolygonTest(outline, p, True))


def depth(outline: NDArray[np.float32]) -> float:
    """How far inside a point of the polygon can be, a little less at most."""
    (left, top), (right, bottom) = outline.min(axis=0).tolist(), outline.max(axis=0).tolist()
    steps = [(step + 0.5) / _GRID for step in range(_GRID)]
    places = [(left + (right - left) * across, top + (bottom - top) * down) for across in steps for down in steps]
    return max(0.0, *(inside_by(outline, place) for place in places))


def _edges(points: Sequence[Point]) -> list[tuple[Point, Point]]:
    return list(zip(points, [*points[1:], points[0]], strict=True))


def _touch(a: Point, b: Point, p: Point, q: Point) -> bool:
    if side(a, b, p) == side(a, b, q) == 0:  # all on one line: they touch where their extents do
        return all(max(min(a[i], b[i]), min(p[i], q[i])) <= min(max(a[i], b[i]), max(p[i], q[i])) for i in (0, 1))
    return separates(a, b, p, q) and separates(p, q, a, b)
