"""Boxes and labels drawn straight into the YUV planes of a picture.

Going through RGB would cost two conversions of the whole picture (some 3 ms at 1080p); filling a few rectangles in
place costs well below 1 ms, whatever the size of the picture.
"""

from __future__ import annotations

import colorsys
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deployments.streams.frame import Planes
from deployments.streams.tracking.follower import IDS_OF_A_LIFE
from deployments.streams.zone_marks import Pixels, ZoneMark, anchor, outline_of, subsampled
from engines.types import Detections

_GOLDEN_RATIO = 0.618033988749895
"""Steps of the hue: neighbouring class ids get colours far apart, and a class keeps its colour for ever."""

_MAX_PATCHES = 512
"""Labels kept rendered; some 10 KB each at 1080p."""

_MAX_OUTLINES = 64
"""Outlines kept: more than a stream has zones, and some are being moved about with the mouse."""

ZONE = -1
"""In place of a class id: the colour of zones."""

ZONE_COLOUR = (1.0, 0.85, 0.0)
"""Red, green, blue, 0 to 1."""

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

    Attributes:
        names: those labels.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.names = tuple(class_names)
        self._patches: OrderedDict[tuple[str, int, _Style], tuple[Samples, Samples, Samples]] = OrderedDict()
        self._outlines: dict[tuple[ZoneMark, tuple[int, ...], _Style], tuple[Pixels, Pixels]] = {}

    def draw(self, planes: Planes, detections: Detections, marks: Sequence[ZoneMark] = ()) -> None:
        """Draw zones, and over them a box and a label for each detection, the most confident on top.

        A label is such as ``person 0.83``, or ``person #17`` where objects are followed and it has a number.
        Coordinates are pixels of the picture; boxes are clipped to it, those outside or not finite are left out.
        """
        height, width = planes.y.shape
        style = _style(planes)
        self._draw_zones(planes, marks, style)
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
            name = self.names[class_id] if 0 <= class_id < len(self.names) else str(class_id)
            text = f"{name} {self._tag(detections, index)}"
            _paste(planes, self._patch(text, class_id, style), box[0], box[1], style)

    def _draw_zones(self, planes: Planes, marks: Sequence[ZoneMark], style: _Style) -> None:
        height, width = planes.y.shape
        y, u, v = _yuv(*ZONE_COLOUR, style)
        for mark in marks:
            key = (replace(mark, caption=""), planes.y.shape, style)
            if key not in self._outlines:
                if len(self._outlines) >= _MAX_OUTLINES:  # they are being moved about
                    self._outlines.clear()
                pixels = outline_of(mark, width, height, style.line)
                self._outlines[key] = pixels, subsampled(pixels, width, style.sub_x, style.sub_y)
            luma, chroma = self._outlines[key]
            planes.y[luma], planes.u[chroma], planes.v[chroma] = y, u, v
            _paste(planes, self._patch(mark.caption, ZONE, style), *anchor(mark, width, height), style)

    @staticmethod
    def _tag(detections: Detections, index: int) -> str:
        ids = detections.tracker_id
        if ids is None or ids[index] < 0:
            return f"{float(detections.confidence[index]):.2f}"
        return f"#{int(ids[index]) % IDS_OF_A_LIFE}"  # without the part that tells lives of the stream apart

    def _patch(self, text: str, class_id: int, style: _Style) -> tuple[Samples, Samples, Samples]:
        key = (text, class_id, style)
        patch = self._patches.get(key)
        if patch is None:
            colour = _yuv(*ZONE_COLOUR, style) if class_id == ZONE else _colour(class_id, style)
            patch = self._patches[key] = _render(text, colour, style)
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


def class_colour(class_id: int) -> tuple[float, float, float]:
    """Red, green and blue, 0 to 1: hues by the golden ratio, two levels of saturation and brightness in turn."""
    vivid = class_id % 2 == 0
    return colorsys.hsv_to_rgb(class_id * _GOLDEN_RATIO % 1.0, 0.95 if vivid else 0.65, 1.0 if vivid else 0.8)


def _colour(class_id: int, style: _Style) -> Yuv:
    return _yuv(*class_colour(class_id), style)


def _yuv(red: float, green: float, blue: float, style: _Style) -> Yuv:
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
