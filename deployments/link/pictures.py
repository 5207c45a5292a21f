"""Pictures as the link carries them: the engine's packed channels, or I420 with half the bytes.

I420 rather than NV12, which has the same bytes in another order, as both swscale and OpenCV make I420 directly.
Its colours are BT.601, limited range: a stream that has other YUV converts it when it scales.
Each of the two conversions costs about 0.25 ms of CPU for 640x640 (one core of a 2024 EPYC).

What is above and below a letterboxed picture doesn't travel as I420: of 16:9 in a square that is 7/16 of the bytes, and
they are what TCP with CURVE costs by.
"""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np

from deployments.link.messages import Layout
from engines.types import Colour, EngineInfo, UInt8Array

# OpenCV would start a thread for each core on every conversion: ten times the CPU for a picture this small.
cv2.setNumThreads(1)

Rows: TypeAlias = tuple[int, int]
"""The first of a picture's rows, and how many there are."""

_TO_I420 = {"bgr": cv2.COLOR_BGR2YUV_I420, "rgb": cv2.COLOR_RGB2YUV_I420}
_FROM_I420 = {"bgr": cv2.COLOR_YUV2BGR_I420, "rgb": cv2.COLOR_YUV2RGB_I420}


def shapes(info: EngineInfo) -> dict[Layout, tuple[int, ...]]:
    """The layouts in which an engine's frames may travel; I420 needs even sides."""
    packed: dict[Layout, tuple[int, ...]] = {Layout.PACKED: (info.height, info.width, 3)}
    if info.width % 2 == info.height % 2 == 0:
        packed[Layout.I420] = (info.height * 3 // 2, info.width)
    return packed


def shape_of(layout: Layout, rows: Rows | None, shapes: dict[Layout, tuple[int, ...]]) -> tuple[int, ...] | None:
    """The shape that a picture of these rows has; None where there can be none."""
    shape = shapes.get(layout)
    if shape is None or rows is None or layout is Layout.PACKED:
        return shape
    (top, count), height = rows, shapes[Layout.PACKED][0]
    possible = top % 2 == count % 2 == 0 and 0 <= top < top + count <= height
    return (count * 3 // 2, shape[1]) if possible else None


def layout_of(image: UInt8Array, shapes: dict[Layout, tuple[int, ...]], rows: Rows | None = None) -> Layout | None:
    """Which of the layouts an image has; None where it is none of them."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        return None
    return next((layout for layout in shapes if image.shape == shape_of(layout, rows, shapes)), None)


def even(rows: Rows, height: int) -> Rows | None:
    """The fewest even rows with all of these; None where that is all of ``height``, or these aren't among them."""
    top, count = rows
    if not 0 <= top < top + count <= height:
        return None
    first, end = top - top % 2, top + count + (top + count) % 2
    return None if (first, end) == (0, height) else (first, end - first)


def to_i420(image: UInt8Array, colour: Colour, rows: Rows | None = None) -> UInt8Array:
    """Packed channels as I420, or the `even` rows of them; both sides must be even."""
    if rows is not None:
        image = image[rows[0] : sum(rows)]
    return np.asarray(cv2.cvtColor(image, _TO_I420[colour]), np.uint8)


def unpacked(image: UInt8Array, into: UInt8Array, info: EngineInfo, rows: Rows | None = None) -> UInt8Array:
    """An image of either layout as packed channels: itself, or converted into ``into``, ``[height, width, 3]``."""
    if image.ndim == 3:
        return image
    top, end = (0, info.height) if rows is None else (rows[0], sum(rows))
    into[:top] = into[end:] = info.pad
    cv2.cvtColor(image, _FROM_I420[info.colour], dst=into[top:end])
    return into
