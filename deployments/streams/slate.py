"""What outputs show while the source is away: its last frame, dimmed, and since when there is no signal.

Used by the video thread, which turns to it when it has no frame to show; only `Slate.forget` may come from another
one. Times go on by the clock from the last frame, as those of the source do when it comes back (`media.timeline`), so
that players see one continuous video.
"""

from __future__ import annotations

import time
from typing import Any

import cv2
import numpy as np

from deployments.streams.frame import Frame, Picture, Planes

AFTER_S = 1.0
"""A source that is silent for so long is taken to be away; the watchdog of a source that stalls takes longer."""

GAPS = 3
"""The same as a number of frames, for a source that has less than two frames a second."""

LONGEST_GAP_S = 10.0
"""A source with longer gaps between its frames stalls all the time; most likely it has just come back."""

GAP_KEPT = 0.995
"""Part of the longest gap that a frame leaves of it: sources that send in bursts, such as HLS, are silent between."""

FPS = 5
"""Pictures a second, less where the source has less: nothing moves in them, and players only must not starve."""

_DIMMED = 0.4
"""What is left of brightness and colour: what was seen can be made out, and is not taken for live."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_TEXT_WIDTH = 0.7
"""Part of the picture's width that the text takes at most."""

_LEGIBLE = 32
"""Sides below which there is no room for a text."""


class Slate:
    """Knows the last frame of the source, and makes the picture once for each time that it is away."""

    def __init__(self) -> None:
        self._last: Frame | None = None
        self._gap_s = 0.0
        self._picture: Picture | None = None

    @property
    def period_s(self) -> float:
        """Seconds from one picture to the next."""
        return max(1 / FPS, min(self._gap_s, AFTER_S))

    def saw(self, frame: Frame) -> None:
        """``frame`` is the newest one now."""
        last = self._last
        if last is not None and (self._picture is None or frame.stretch == last.stretch):
            gap_s = min(frame.decoded_at - last.decoded_at, LONGEST_GAP_S)
            self._gap_s = max(gap_s, GAP_KEPT * self._gap_s)
        self._last, self._picture = frame, None

    def forget(self) -> None:
        """What was seen belongs to a source that is shown no more."""
        self._last = self._picture = None

    def due(self, now: float) -> tuple[int, Picture] | None:
        """The pts and the picture to show at ``now``, on the monotonic clock; None while the source is not away."""
        last, picture = self._last, self._picture
        if last is None or now - last.decoded_at < max(AFTER_S, GAPS * self._gap_s):
            return None
        if picture is None:
            picture = self._picture = slate(last.picture, last.captured_at)
        return last.pts + int((now - last.decoded_at) / last.time_base), picture


def slate(picture: Picture, since: float) -> Picture:
    """A dimmed copy of ``picture`` that says that there is no signal since Unix time ``since``."""
    made = picture.writable()
    planes = made.planes()
    black, grey = _levels(planes)
    for plane, middle in ((planes.y, black), (planes.u, grey), (planes.v, grey)):
        plane[...] = middle + (plane.astype(np.float32) - middle) * _DIMMED
    _write(planes, f"no signal since {time.strftime('%H:%M:%S', time.gmtime(since))} UTC")
    return made


def _levels(planes: Planes) -> tuple[int, int]:
    """Luma of black and chroma of grey."""
    unit = 1 << (planes.depth - 8)
    return 0 if planes.full_range else 16 * unit, 128 * unit


def _write(planes: Planes, text: str) -> None:
    """White text on a black bar across the middle."""
    height, width = planes.y.shape
    if min(height, width) < _LEGIBLE:
        return
    scale = height / 480
    (across, _), _ = cv2.getTextSize(text, _FONT, scale, 1)
    scale *= min(1.0, _TEXT_WIDTH * width / across)
    stroke = max(1, round(2 * scale))
    (across, up), below = cv2.getTextSize(text, _FONT, scale, stroke)
    rows = min(height, (2 * (up + below) + 1) & ~1)
    mask: Any = np.zeros((rows, width), np.uint8)
    cv2.putText(mask, text, ((width - across) // 2, (rows + up) // 2), _FONT, scale, 255, stroke, cv2.LINE_AA)
    black, grey = _levels(planes)
    white = 255 if planes.full_range else 235
    unit = 1 << (planes.depth - 8)
    top = (height - rows) // 2 & ~1
    bar: Any = planes.y[top : top + rows]
    bar[...] = black + mask[: bar.shape[0]].astype(np.float32) / 255 * (white * unit - black)
    for plane in (planes.u, planes.v):
        plane[top // planes.sub_y : -(-(top + rows) // planes.sub_y)] = grey
