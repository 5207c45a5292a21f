"""What is drawn of zones: outlines as pixels, worked out once for each size of picture, and a caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from deployments.streams.tracking.spec import ZoneSpec, ZoneStatus

ARROW = 0.05
"""Length of the arrow that shows which side of a line is the right one, of the picture's height."""

Pixels = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Rows and columns."""


@dataclass(frozen=True, slots=True)
class ZoneMark:
    """One zone as it is drawn.

    Attributes:
        points: x and y as parts of the picture's width and height.
        caption: ASCII, as OpenCV's fonts have nothing else.
    """

    kind: Literal["polygon", "line"]
    points: tuple[tuple[float, float], ...]
    caption: str


def zone_marks(zones: Sequence[ZoneSpec], counted: Sequence[ZoneStatus]) -> tuple[ZoneMark, ...]:
    """The zones with their names, and what they count: who is inside; who went to the right and to the left."""
    known = {status.name: status for status in counted}
    return tuple(ZoneMark(zone.kind, zone.points, _caption(zone, known.get(zone.name))) for zone in zones)


def _caption(zone: ZoneSpec, status: ZoneStatus | None) -> str:
    if status is None or status.kind != zone.kind:
        return zone.name
    if zone.kind == "polygon":
        return f"{zone.name}: {sum(status.inside.values())}"
    right, left = (sum(status.crossed.get(way, {}).values()) for way in ("left_to_right", "right_to_left"))
    return f"{zone.name}: {right} to the right, {left} to the left"


def outline_of(mark: ZoneMark, width: int, height: int, thickness: int) -> Pixels:
    """The pixels of a zone's outline; of a line also an arrow to its right side."""
    corners = np.rint(np.array(mark.points) * (width - 1, height - 1)).astype(np.int32)
    mask = np.zeros((height, width), np.uint8)
    cv2.polylines(mask, [corners], mark.kind == "polygon", 255, thickness)
    if mark.kind == "line":
        along = (corners[1] - corners[0]).astype(np.float64)
        right = np.array([-along[1], along[0]]) / max(1.0, float(np.hypot(*along))) * ARROW * height
        middle = corners.mean(axis=0)
        start, end = (tuple(np.rint(place).astype(int).tolist()) for place in (middle, middle + right))
        cv2.arrowedLine(mask, start, end, 255, thickness, tipLength=0.4)
    rows, columns = np.nonzero(mask)
    return rows, columns


def subsampled(pixels: Pixels, width: int, sub_x: int, sub_y: int) -> Pixels:
    """The chroma samples that these pixels have, each once."""
    across = -(-width // sub_x)
    flat = np.unique((pixels[0] // sub_y) * across + pixels[1] // sub_x)
    return flat // across, flat % across


def anchor(mark: ZoneMark, width: int, height: int) -> tuple[int, int]:
    """Left and top of the caption: the zone's first point."""
    x, y = mark.points[0]
    return int(x * (width - 1)) & ~1, int(y * (height - 1)) & ~1
