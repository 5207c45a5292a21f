"""Turns pictures upright that a phone or camera recorded with a display matrix."""

from __future__ import annotations

import av
import cv2
import numpy as np

from deployments.streams.media.picture import AvPicture

_TURN = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
"""Degrees counterclockwise, as FFmpeg states the matrix."""

_TURNABLE = ("yuv420p", "yuvj420p", "yuv444p", "yuvj444p", "yuv420p10le", "yuv444p10le")
"""Planar and subsampled alike both ways, so that each plane can be turned as it is."""


def upright(frame: av.VideoFrame) -> av.VideoFrame:
    """``frame`` itself where it needs no turn, else a turned copy; other angles than right ones are left alone."""
    angle = frame.rotation % 360
    if angle not in _TURN:
        return frame
    source = frame if frame.format.name in _TURNABLE else frame.reformat(format="yuv420p")
    width, height = (source.width, source.height) if angle == 180 else (source.height, source.width)
    turned = av.VideoFrame(width, height, source.format.name)
    turned.colorspace, turned.color_range = frame.colorspace, frame.color_range
    turned.color_primaries, turned.color_trc = frame.color_primaries, frame.color_trc
    turned.pts = frame.pts
    turned.time_base = frame.time_base
    before, after = AvPicture(source).planes(), AvPicture(turned).planes()
    for plane, into in ((before.y, after.y), (before.u, after.u), (before.v, after.v)):
        np.copyto(into, cv2.rotate(plane, _TURN[angle]))
    return turned
