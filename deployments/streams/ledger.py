"""Both ledgers of one epoch: where every decoded frame went.

``decoded = inferred + dropped{...} + in_flight`` and ``decoded = published + video_dropped + queued``. What is
counted are the events; ``in_flight`` and ``queued`` are what remains, and every change and every reading happens
under one lock, so the sums hold at any moment. A branch that settles more frames than were decoded is a bug and
raises.
"""

from __future__ import annotations

import threading
from enum import StrEnum

from deployments.detector.scheduler import DropReason as DetectorDrop
from deployments.streams.spec import DropCounts, FrameCounts


class DropReason(StrEnum):
    """Why a decoded frame was never inferred."""

    SUPERSEDED = "superseded"
    MAX_FPS = "max_fps"
    STALE = "stale"
    NO_DETECTOR = "no_detector"
    INVALID = "invalid"


DROPPED_THERE = {
    DetectorDrop.SUPERSEDED: DropReason.SUPERSEDED,
    DetectorDrop.STALE: DropReason.STALE,
    DetectorDrop.INVALID: DropReason.INVALID,
    DetectorDrop.OVERLOADED: DropReason.SUPERSEDED,
    DetectorDrop.GONE: DropReason.NO_DETECTOR,
    DetectorDrop.FAILED: DropReason.NO_DETECTOR,
}
"""What the stream's ledger says of a frame that the detector gave up."""


class Ledger:
    """Counts frames by what became of them; one for each life of a stream's actor."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._decoded = 0
        self._inferred = 0
        self._dropped = dict.fromkeys(DropReason, 0)
        self._published = 0
        self._video_dropped = 0
        self._detections = 0

    def decoded(self) -> None:
        """A frame came out of the decoder: it is now in both branches."""
        with self._changed:
            self._decoded += 1

    def inferred(self, detections: int) -> None:
        """The detection branch is done with a frame, and found so many objects."""
        with self._changed:
            _require(self._in_flight())
            self._inferred += 1
            self._detections += detections

    def dropped(self, reason: DropReason) -> None:
        """The detection branch gave a frame up."""
        with self._changed:
            _require(self._in_flight())
            self._dropped[reason] += 1

    def published(self) -> None:
        """The video branch is done with a frame."""
        with self._changed:
            _require(self._queued())
            self._published += 1
            self._changed.notify_all()

    def video_dropped(self) -> None:
        """The video branch gave a frame up, since drawing or encoding failed or didn't keep up."""
        with self._changed:
            _require(self._queued())
            self._video_dropped += 1
            self._changed.notify_all()

    def wait_published(self, timeout_s: float) -> bool:
        """Wait until the video branch is done with every frame; False when it isn't within ``timeout_s``."""
        with self._changed:
            return self._changed.wait_for(lambda: self._queued() == 0, timeout_s)

    @property
    def detections(self) -> int:
        """Objects found so far."""
        with self._changed:
            return self._detections

    def snapshot(self) -> FrameCounts:
        """Both ledgers at one moment."""
        with self._changed:
            return FrameCounts(
                decoded=self._decoded,
                inferred=self._inferred,
                dropped=DropCounts(**{reason.value: count for reason, count in self._dropped.items()}),
                in_flight=self._in_flight(),
                published=self._published,
                video_dropped=self._video_dropped,
                queued=self._queued(),
            )

    def _in_flight(self) -> int:
        return self._decoded - self._inferred - sum(self._dropped.values())

    def _queued(self) -> int:
        return self._decoded - self._published - self._video_dropped


def _require(unsettled: int) -> None:
    if unsettled < 1:
        raise RuntimeError("a frame was settled twice: this is a bug in raysight, please report it")
