"""A source that needs no camera: ``testsrc://?fps=30&size=1280x720`` moves, counts its frames and shows the time.

The time is there for people, and as `CODE_CELLS` black and white cells along the lower edge for programs that measure
how old a picture is when it is seen: the bits of `time_code`, the highest first.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl

import av
import cv2
import numpy as np

from deployments.errors import InvalidSpec
from deployments.streams.frame import UInt8Array
from deployments.streams.media.items import AudioItem, VideoItem
from deployments.streams.media.pacing import Pacer
from deployments.streams.media.picture import AvPicture
from deployments.streams.media.timeline import Timeline
from deployments.streams.spec import SourceInfo

FPS = (1, 240)
WIDTH = (16, 3840)
HEIGHT = (16, 2160)
TEXT_WIDTH, TEXT_HEIGHT = 120, 60
"""Pixels below which the text would cover the pattern without being readable."""

CODE_CELLS, CHECK_BITS = 32, 4
"""28 bits of time, and four by which a picture of something else is told apart."""

CODE_ROWS = 12
"""The strip's part of the height is one in so many."""

_FIELD = "source.url"
_STEP = 4
"""Pixels by which the pattern moves each frame."""


def parse(url: str) -> tuple[int, int, int]:
    """Frames a second, width and height of a ``testsrc`` URL.

    Raises:
        InvalidSpec: an unknown parameter or a value out of bounds.
    """
    given = dict(parse_qsl(url.partition("?")[2], keep_blank_values=True))
    unknown = sorted(given.keys() - {"fps", "size"})
    if unknown:
        raise InvalidSpec(_FIELD, f"Unknown parameter {unknown[0]!r}; known are fps and size.")
    size = re.fullmatch(r"(\d{1,5})x(\d{1,5})", given.get("size", "1280x720"))
    if size is None:
        raise InvalidSpec(_FIELD, "size is written as 1280x720.")
    fps = given.get("fps", "30")
    if not re.fullmatch(r"\d{1,4}", fps):
        raise InvalidSpec(_FIELD, "fps is a whole number.")
    width, height = int(size[1]), int(size[2])
    for name, value, (least, most) in (
        ("fps", int(fps), FPS),
        ("width", width, WIDTH),
        ("height", height, HEIGHT),
    ):
        if not least <= value <= most:
            raise InvalidSpec(_FIELD, f"{name} must be from {least} to {most}, not {value}.")
    return int(fps), width, height


def time_code(at: float) -> int:
    """Milliseconds of a Unix time, modulo 2**28 (three days), and behind them the XOR of its seven nibbles."""
    value = int(at * 1000) & 0xFFFFFFF
    check = 0
    for shift in range(0, 28, 4):
        check ^= value >> shift & 15
    return value << 4 | check


class PatternSource:
    """The test pattern as a live source; see `deployments.streams.media.items.Source`."""

    audio: av.AudioStream | None = None
    undecodable = 0

    def __init__(self, url: str, timeline: Timeline) -> None:
        self._fps, self._width, self._height = parse(url)
        self.info = SourceInfo(codec="rawvideo", width=self._width, height=self._height, fps=float(self._fps))
        self._timeline = timeline
        self._stop = threading.Event()
        self._pacer = Pacer(self._stop)
        self._drawing = _Drawing(self._width, self._height)
        timeline.connected(Fraction(1, self._fps))

    def items(self) -> Iterator[VideoItem | AudioItem]:
        """Pictures at the stated rate, without end until `interrupt`."""
        number = 0
        base = self._timeline.time_base
        while True:
            pts = self._timeline.video(number, Fraction(1, self._fps))
            if not self._pacer.wait(pts, base):
                return
            now = time.time()
            started = time.monotonic()
            picture = self._drawing.picture(number, now)
            drawn = time.monotonic()
            yield VideoItem(picture, pts, base, now, drawn, drawn - started, self._timeline.stretch)
            number += 1

    def interrupt(self) -> None:
        """Make `items` end now; from any thread."""
        self._stop.set()

    def close(self) -> None:
        """Make `items` end."""
        self._stop.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Drawing:
    """Copies a window out of a pattern twice as wide, which costs no more than filling the picture once."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        even = width + width % 2
        ramp = (np.arange(2 * even + _STEP) % even * (200.0 / even) + 24).astype(np.uint8)
        self._luma: UInt8Array = np.ascontiguousarray(np.broadcast_to(ramp, (height, ramp.size)))
        self._period = even
        rows = -(-height // 2)
        bars = np.arange(ramp.size // 2) * 16 // even % 8
        self._blue: UInt8Array = np.ascontiguousarray(
            np.broadcast_to((64 + 16 * bars).astype(np.uint8), (rows, bars.size))
        )
        self._red: UInt8Array = np.ascontiguousarray(
            np.broadcast_to((192 - 16 * bars).astype(np.uint8), (rows, bars.size))
        )

    def picture(self, number: int, now: float) -> AvPicture:
        """Frame ``number``, drawn at Unix time ``now``."""
        picture = AvPicture(av.VideoFrame(self._width, self._height, "yuv420p"))
        planes = picture.planes()
        shift = number * _STEP % self._period
        half, columns = shift // 2, -(-self._width // 2)
        np.copyto(planes.y, self._luma[:, shift : shift + self._width])
        np.copyto(planes.u, self._blue[:, half : half + columns])
        np.copyto(planes.v, self._red[:, half : half + columns])
        if self._width >= TEXT_WIDTH and self._height >= TEXT_HEIGHT:
            self._write(planes.y, number, now)
            bits = np.array([time_code(now) >> bit & 1 for bit in reversed(range(CODE_CELLS))], np.uint8)
            cells = np.repeat(16 + bits * 219, self._width // CODE_CELLS)
            planes.y[-(self._height // CODE_ROWS) :, : cells.size] = cells
        return picture

    def _write(
        self, luma: np.ndarray[tuple[int, ...], np.dtype[np.uint8 | np.uint16]], number: int, now: float
    ) -> None:
        clock = time.strftime("%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d} UTC"
        scale = max(0.3, self._height / 720)
        line = round(40 * scale)
        patch = np.full((min(self._height, 2 * line + line // 2), min(self._width, round(330 * scale))), 16, np.uint8)
        for row, text in enumerate((f"frame {number}", clock)):
            origin = (round(8 * scale), (row + 1) * line)
            cv2.putText(patch, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, 235, max(1, round(2 * scale)))
        luma[: patch.shape[0], : patch.shape[1]] = patch
