"""`Picture` over PyAV's `VideoFrame`: conversion with the right matrix and range, and safe drawing.

Shrinking comes before conversion, and plane by plane, with OpenCV's two-tap filter: the one that an image of
`/v1/detect` gets. It reads a part of the picture only and takes 0.8 ms of CPU from 1080p to 640x360, where swscale,
which filters all of it, takes 1.6 ms and gets further away from what the same frame gives as an image.
"""

from __future__ import annotations

import threading
from typing import Any, Literal

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from deployments.streams.frame import LumaPlane, Picture, Planes, UInt8Array

_DRAWABLE = {
    "yuv420p": (2, 2, 8, False),
    "yuvj420p": (2, 2, 8, True),
    "yuv422p": (2, 1, 8, False),
    "yuvj422p": (2, 1, 8, True),
    "yuv444p": (1, 1, 8, False),
    "yuvj444p": (1, 1, 8, True),
    "nv12": (2, 2, 8, False),
    "yuv420p10le": (2, 2, 10, False),
    "yuv422p10le": (2, 1, 10, False),
    "yuv444p10le": (1, 1, 10, False),
}
"""Formats that are drawn into as they are: sub_x, sub_y, bits, full range. Others become yuv420p first."""

_SHRINKABLE = frozenset({"yuv420p", "yuvj420p", "nv12"})
"""What cameras send, as software and the GPU decode it; other formats are left to swscale."""

_SHRUNK = "yuv422p"
"""Chroma keeps its full height: in 4:2:0 the model would miss a twentieth of the objects of a 1080p street scene."""

_SWS_MATRIX = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: 9,
}
"""FFmpeg's AVColorSpace (H.273 matrix coefficients) to swscale's SWS_CS_*; 9 is BT.2020, which PyAV does not name."""

_SETTLED = {1: 1, 4: 4, 5: 6, 6: 6, 7: 7, 9: 9, 10: 9}
"""Matrices that are kept; 5 and 6 are the same numbers, and so, for swscale, are 9 and 10."""


class AvPicture:
    """One decoded picture; see `deployments.streams.frame.Picture`.

    The branches of the pipeline read one picture side by side. A conversion by PyAV is no mere reading: its state is
    kept with the frame, whose colour tags it changes until it is done. So there is one `converted` at a time, and the
    tags are read before the first one.

    Attributes:
        primaries, transfer: H.273 numbers of the frame.
    """

    __slots__ = ("_converting", "frame", "primaries", "transfer")

    def __init__(self, frame: av.VideoFrame) -> None:
        """Settle the frame's matrix and range, before other threads see it."""
        if not frame.format.is_rgb:
            frame.colorspace = _SETTLED.get(int(frame.colorspace), _guessed_matrix(frame.height))
            frame.color_range = _range(frame)
        self.frame = frame
        self.primaries, self.transfer = int(frame.color_primaries), int(frame.color_trc)
        self._converting = threading.Lock()

    @property
    def width(self) -> int:
        return self.frame.width

    @property
    def height(self) -> int:
        return self.frame.height

    def to_array(self, width: int, height: int, colour: Literal["bgr", "rgb"] = "bgr") -> UInt8Array:
        """Scaled to uint8 ``[height, width, 3]``."""
        shrinks = width <= self.width and height <= self.height and (width, height) != (self.width, self.height)
        picture = self._shrunk(width, height) if shrinks and self.frame.format.name in _SHRINKABLE else self
        scaled: Any = picture.converted(
            width,
            height,
            f"{colour}24",
            src_colorspace=_SWS_MATRIX.get(int(self.frame.colorspace)),
            src_color_range=int(self.frame.color_range),
            dst_color_range=ColorRange.JPEG,
            interpolation=Interpolation.BILINEAR,
            threads=1,  # the cores are shared by many streams
        )
        (plane,) = scaled.planes
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:height, : 3 * width]
        pixels: UInt8Array = rows.reshape(height, width, 3)  # a view of them where no row has padding
        return pixels

    def writable(self, earlier: Picture | None = None) -> AvPicture:
        """A copy in a drawable format that shares no buffer with the decoder; see `Picture.writable`."""
        if self.frame.format.name not in _DRAWABLE:
            drawable = self.converted(format="yuv420p")
            drawable.color_primaries, drawable.color_trc = self.primaries, self.transfer
            return AvPicture(drawable)
        name = self.frame.format.name
        copy = self._room(earlier)
        copy.color_range = self.frame.color_range
        copy.colorspace = self.frame.colorspace
        copy.color_primaries = self.primaries
        copy.color_trc = self.transfer
        depth = _DRAWABLE[name][2]
        for source, target in zip(self.frame.planes, copy.planes, strict=True):
            samples = _view(source, depth)
            into = _view(target, depth)
            columns = min(samples.shape[1], into.shape[1])
            np.copyto(into[: source.height, :columns], samples[: source.height, :columns])
        return AvPicture(copy)

    def _room(self, earlier: Picture | None) -> av.VideoFrame:
        form = (self.width, self.height, self.frame.format.name)
        if isinstance(earlier, AvPicture) and (earlier.width, earlier.height, earlier.frame.format.name) == form:
            earlier.frame.make_writable()  # new memory where an encoder still refers to the old
            return earlier.frame
        return av.VideoFrame(*form)

    def converted(self, *args: Any, **how: Any) -> av.VideoFrame:
        """The frame as `av.VideoFrame.reformat` makes it."""
        with self._converting:
            return self.frame.reformat(*args, **how)

    def _shrunk(self, width: int, height: int) -> AvPicture:
        small = av.VideoFrame(width, height, _SHRUNK)
        small.colorspace = self.frame.colorspace
        small.color_range = self.frame.color_range
        shrunk = AvPicture(small)
        before, after = self.planes(), shrunk.planes()
        _shrink(before.y, after.y)
        if self.frame.format.name == "nv12":
            _shrink_pairs(_view(self.frame.planes[1], 8), before.u.shape, after.u, after.v)
        else:
            _shrink(before.u, after.u)
            _shrink(before.v, after.v)
        return shrunk

    def planes(self) -> Planes:
        """Views of the planes; only of a `writable` picture."""
        name = self.frame.format.name
        sub_x, sub_y, depth, full = _DRAWABLE[name]
        full = full or self.frame.color_range == ColorRange.JPEG
        height, width = self.height, self.width
        rows, columns = -(-height // sub_y), -(-width // sub_x)
        y = _view(self.frame.planes[0], depth)[:height, :width]
        if name == "nv12":
            uv = _view(self.frame.planes[1], depth)[:rows]
            return Planes(y, uv[:, 0 : 2 * columns : 2], uv[:, 1 : 2 * columns : 2], sub_x, sub_y, depth, full)
        u, v = (_view(plane, depth)[:rows, :columns] for plane in self.frame.planes[1:3])
        return Planes(y, u, v, sub_x, sub_y, depth, full)


def _shrink(plane: LumaPlane, into: LumaPlane) -> None:
    """OpenCV's INTER_LINEAR; by an odd whole factor (1080p to 640x360) it is the middle pixel, for half of the CPU."""
    (height, width), (rows, columns) = plane.shape[:2], into.shape[:2]
    down, across = height // rows, width // columns
    if down % 2 == across % 2 == 1 and (down * rows, across * columns) == (height, width):
        np.copyto(into, plane[down // 2 :: down, across // 2 :: across])
    else:
        cv2.resize(plane, (columns, rows), dst=into, interpolation=cv2.INTER_LINEAR)


def _shrink_pairs(samples: LumaPlane, shape: tuple[int, ...], u: LumaPlane, v: LumaPlane) -> None:
    """`_shrink` for U and V side by side, ``shape`` of each, without pulling them apart at full size first."""
    rows, columns = shape
    pairs = samples[:rows, : 2 * columns].reshape(rows, columns, 2)
    small = np.empty((*u.shape, 2), np.uint8)
    _shrink(pairs, small)
    u[...], v[...] = small[..., 0], small[..., 1]


def _view(plane: Any, depth: int) -> LumaPlane:
    dtype = np.dtype(np.uint8 if depth == 8 else np.uint16)
    samples: LumaPlane = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype.itemsize)
    return samples


def _range(frame: av.VideoFrame) -> ColorRange:
    if frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj"):
        return ColorRange.JPEG
    return ColorRange.MPEG


def _guessed_matrix(height: int) -> int:
    """BT.709 from 720 lines on and BT.601 below, as players take it."""
    return 1 if height >= 720 else 6
