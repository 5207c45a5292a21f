"""The newest frame of a stream as a JPEG, made only when somebody asks for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import cv2

from deployments.streams.annotate import Annotator
from deployments.streams.frame import Frame
from deployments.streams.zone_marks import ZoneMark
from engines.types import Detections

JPEG_QUALITY = 80
"""A 768x576 street scene takes some 70 kB; above it, size grows faster than anyone can see."""

VIEWER_LINGER_S = 3.0
"""After the last request somebody is taken to be watching still: longer than a client's pause between two pictures."""


AWAITED_WITHIN_S = 1.0
"""How long the first viewer waits for a frame whose boxes were waited for, before an older or later one has to do."""


@dataclass(frozen=True, slots=True)
class JpegPicture:
    """One frame for a viewer."""

    sequence: int
    captured_at: float
    jpeg: bytes


class LivePicture:
    """Holds the newest frame with its boxes, for any number of viewers."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._newest: tuple[Frame, Detections] | None = None
        self._awaited = False
        self._asked_at = float("-inf")
        self._closed = False

    @property
    def watched(self) -> bool:
        """Whether somebody asked for a picture lately, so that boxes are worth waiting for."""
        return time.monotonic() - self._asked_at < VIEWER_LINGER_S

    @property
    def newest(self) -> tuple[Frame, Detections] | None:
        """The newest frame with the boxes that it has; asking makes nobody a viewer."""
        return self._newest

    def show(self, frame: Frame, detections: Detections, *, awaited: bool = True) -> None:
        """Replace the newest frame; ``awaited`` where its own boxes were waited for, else they may be older ones."""
        with self._changed:
            self._newest, self._awaited = (frame, detections), awaited
            self._changed.notify_all()

    def wait(self, newer_than: int | None, timeout_s: float) -> tuple[Frame, Detections] | None:
        """The newest frame with a sequence above ``newer_than``, None after ``timeout_s`` without one.

        Where nobody has been watching, its boxes may trail behind: then it is the next one, if that comes soon.
        """
        self._asked_at = began = time.monotonic()
        with self._changed:
            for awaited, until_s in ((True, min(timeout_s, AWAITED_WITHIN_S)), (False, timeout_s)):
                self._changed.wait_for(
                    lambda: self._closed or (self._is_newer(newer_than) and self._awaited >= awaited),  # noqa: B023
                    max(0.0, began + until_s - time.monotonic()),
                )
            return self._newest if self._is_newer(newer_than) else None

    def close(self) -> None:
        """Let all viewers go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _is_newer(self, than: int | None) -> bool:
        return self._newest is not None and (than is None or self._newest[0].sequence > than)


class JpegRenderer:
    """Draws and encodes; remembers the last picture, since several viewers ask for the same one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[bool, JpegPicture] = {}

    def render(
        self, frame: Frame, detections: Detections, annotator: Annotator | None, marks: Sequence[ZoneMark] = ()
    ) -> JpegPicture:
        """The frame as a JPEG, with boxes and zones where there is an annotator."""
        with self._lock:
            last = self._last.get(annotator is not None)
            if last is not None and last.sequence == frame.sequence:
                return last
            picture = frame.picture
            if annotator is not None:
                picture = picture.writable()
                annotator.draw(picture.planes(), detections, marks)
            bgr = picture.to_array(picture.width, picture.height)
            encoded = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))[1]
            made = JpegPicture(frame.sequence, frame.captured_at, encoded.tobytes())
            self._last[annotator is not None] = made
            return made
