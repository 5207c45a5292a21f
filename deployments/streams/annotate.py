"""Boxes and labels drawn straight into the YUV planes of a picture.

Going through RGB would cost two conversions of the whole picture (some 3 ms at 1080p); filling a few rectangles in
place costs well below 1 ms, whatever the size of the picture.
"""

from __future__ import annotations

import colorsys
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deployments.streams.frame import Planes
from engines.types import Detections

_GOLDEN_RATIO = 0.618033988749895
"""Steps of the hue: neighbouring class ids get colours far apart, and a class keeps its colour for ever."""

_MAX_PATCHES = 512
"""Labels kept rendered; some 10 KB each at 1080p."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LUMA_WEIGHTS = {False: (0.299, 0.114), True: (0.2126, 0.0722)}
"""Weights of red and blue in luma: BT.601, and BT.709 where True."""

Samples = NDArray[np.uint8] | NDArray[np.uint16]
Yuv = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Style:
    """What a colour and a label depend on besides class and text; equal for all frames of a stream."""

    hd: bool
    full_range: bool
    depth: int
    sub_x: int
    sub_y: int
    line: int
    text_scale: float
    stroke: int


class Annotator:
    """Draws detections; one per stream, used by one thread at a time.

    Args:
        class_names: labels by class id; ids beyond are shown as numbers.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self._names = tuple(class_names)
        self._patches: OrderedDict[tuple[str, int, _Style], tuple[Samples, Samples, Samples]] = OrderedDict()

    def draw(self, planes: Planes, detections: Detections) -> None:
        """Draw a box and a label such as ``person 0.83`` for each detection, the most confident on top.

        Coordinates are pixels of the picture; boxes are clipped to it, those outside or not finite are left out.
        """
        height, width = planes.y.shape
        style = _style(planes)
        limits = np.array([width, height, width, height], np.float32)
        xyxy = np.asarray(detections.xyxy, np.float32)
        usable: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(xyxy), axis=1)
        corners = np.clip(np.where(usable[:, None], xyxy, 0), 0, limits)
        usable &= (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
        boxes = np.rint(corners).astype(int).tolist()
        for index in np.flatnonzero(usable)[::-1].tolist():
            class_id = int(detections.class_id[index])
            left, top, right, bottom = boxes[index]
            box = (left & ~1, top & ~1, min(right + 1 & ~1, width), min(bottom + 1 & ~1, height))
            _frame(planes, box, style.line, _colour(class_id, style))
            name = self._names[class_id] if 0 <= class_id < len(self._names) else str(class_id)
            text = f"{name} {float(detections.confidence[index]):.2f}"
            _paste(planes, self._patch(text, class_id, style), box[0], box[1], style)

    def _patch(self, text: str, class_id: int, style: _Style) -> tuple[Samples, Samples, Samples]:
        key = (text, class_id, style)
        patch = self._patches.get(key)
        if patch is None:
            patch = self._patches[key] = _render(text, _colour(class_id, style), style)
            if len(self._patches) > _MAX_PATCHES:
                self._patches.popitem(last=False)
        else:
            self._patches.move_to_end(key)
        return patch


def _style(planes: Planes) -> _Style:
    """Sizes grow with the picture; lines are even so that they cover whole chroma samples."""
    height = planes.y.shape[0]
    return _Style(
        hd=height >= 720,  # as players guess it, and as `media.picture` does
        full_range=planes.full_range,
        depth=planes.depth,
        sub_x=planes.sub_x,
        sub_y=planes.sub_y,
        line=max(2, round(height / 540) * 2),
        text_scale=max(0.4, height / 1440),
        stroke=max(1, round(height / 720)),
    )


def _colour(class_id: int, style: _Style) -> Yuv:
    """The colour of a class: hues by the golden ratio, two levels of saturation and brightness in turn."""
    vivid = class_id % 2 == 0
    red, green, blue = colorsys.hsv_to_rgb(
        class_id * _GOLDEN_RATIO % 1.0, 0.95 if vivid else 0.65, 1.0 if vivid else 0.8
    )
    of_red, of_blue = _LUMA_WEIGHTS[style.hd]
    y = of_red * red + (1 - of_red - of_blue) * green + of_blue * blue
    u, v = (blue - y) / (2 - 2 * of_blue), (red - y) / (2 - 2 * of_red)
    unit = 1 << (style.depth - 8)
    if style.full_range:
        top = 256 * unit - 1
        return round(y * top), round(u * top + 128 * unit), round(v * top + 128 * unit)
    return round((16 + 219 * y) * unit), round((128 + 224 * u) * unit), round((128 + 224 * v) * unit)


def _frame(planes: Planes, box: tuple[int, int, int, int], line: int, colour: Yuv) -> None:
    left, top, right, bottom = box
    across, down = min(line, right - left), min(line, bottom - top)
    _fill(planes, left, top, right, top + down, colour)
    _fill(planes, left, bottom - down, right, bottom, colour)
    _fill(planes, left, top, left + across, bottom, colour)
    _fill(planes, right - across, top, right, bottom, colour)


def _fill(planes: Planes, left: int, top: int, right: int, bottom: int, colour: Yuv) -> None:
    sub_x, sub_y = planes.sub_x, planes.sub_y
    planes.y[top:bottom, left:right] = colour[0]
    rows, columns = slice(top // sub_y, -(-bottom // sub_y)), slice(left // sub_x, -(-right // sub_x))
    planes.u[rows, columns] = colour[1]
    planes.v[rows, columns] = colour[2]


def _render(text: str, colour: Yuv, style: _Style) -> tuple[Samples, Samples, Samples]:
    """A label as Y, U and V samples: the text, black or white, on the class's colour."""
    (across, up), below = cv2.getTextSize(text, _FONT, style.text_scale, style.stroke)
    margin = style.line
    width, height = (across + 2 * margin + 1) & ~1, (up + below + margin + 1) & ~1
    mask: Any = np.zeros((height, width), np.uint8)
    origin = (margin, margin // 2 + up)
    cv2.putText(mask, text, origin, _FONT, style.text_scale, 255, style.stroke, cv2.LINE_AA)
    unit = 1 << (style.depth - 8)
    dark, bright = (0, 255 * unit) if style.full_range else (16 * unit, 235 * unit)
    ink = (dark if 2 * colour[0] > dark + bright else bright, 128 * unit, 128 * unit)
    share = mask.astype(np.float32) / 255
    dtype = np.uint8 if style.depth == 8 else np.uint16
    shares = (share, *(share[:: style.sub_y, :: style.sub_x],) * 2)
    y, u, v = (
        np.rint(ground + (letter - ground) * part).astype(dtype)
        for ground, letter, part in zip(colour, ink, shares, strict=True)
    )
    return y, u, v


def _paste(planes: Planes, patch: tuple[Samples, Samples, Samples], left: int, top: int, style: _Style) -> None:
    """Put a label above the corner, inside where there is no room above, moved left where it would stick out."""
    width = planes.y.shape[1]
    rows, columns = patch[0].shape
    top = top - rows if top >= rows else top
    left = max(0, min(left, (width - columns) & ~1))
    for plane, samples, sub_x, sub_y in zip(
        (planes.y, planes.u, planes.v), patch, (1, style.sub_x, style.sub_x), (1, style.sub_y, style.sub_y), strict=True
    ):
        target: Any = plane[top // sub_y : (top + rows) // sub_y, left // sub_x : (left + columns) // sub_x]
        target[...] = samples[: target.shape[0], : target.shape[1]]
