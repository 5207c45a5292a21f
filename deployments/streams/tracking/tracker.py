"""`Tracker`: gives objects numbers that they keep, by ByteTrack as the library `trackers` has it.

Which library: ``trackers`` 2.6 (Roboflow, Apache-2.0) is where ``supervision`` moved its ByteTrack to; it needs no
torch, takes the time of each frame, so that frames that were not inferred do no harm, and its filters can be read and
set, so that a stream may move. Its price is SciPy and ``supervision``, 44 MiB and a second of CPU for the process that
imports them. Hence the import here is late: a stream without tracks does without. Parts of it that are not public are
used here and nowhere else; its version is held to 2.6 for that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deployments.streams.tracking.spec import TrackSpec
from engines.types import Detections

UNKNOWN = -1
"""Number of a box that belongs to no track, or to one that has been seen once only."""

FRAMES_TO_BEGIN = 2
"""Frames in a row in which an object is seen before it gets a number: most of what is no object is there for one."""

LEAST_IOU = 0.2
"""Overlap of a box with where its track is expected. On generated scenes HOTA is 0.75 with it and 0.72 with the
library's 0.1 (`python -m benchmarks.tracking`)."""

FIRST_RATE = 25.0
"""Frames a second until they are measured."""

RATE_FRAMES = 16
"""Intervals of which the median tells the rate."""

RATE_CHANGE = 1.5
"""A measured rate that departs by this factor is taken over. The filters' noise is tuned for a step of one frame, and
between frames that are three steps apart each, HOTA falls from 0.74 to 0.71."""

STANDS = 0.2
"""Heights of its box a second below which an object is taken to stand while its stream moves: what filters take for
speed of something that stands would carry it away in some seconds. People walk at 0.5 and more."""


@dataclass(frozen=True, slots=True)
class TrackState:
    """One track as it moves to another process.

    Attributes:
        state: left, top, right, bottom in pixels and how they change, pixels a second.
        covariance: of these eight, row by row.
        unseen_s: seconds since it was seen.
    """

    tracker_id: int
    state: tuple[float, ...]
    covariance: tuple[float, ...]
    unseen_s: float


def load() -> None:
    """Import what `Tracker` uses, seconds of work on a busy machine; else the first frame waits for it."""
    import supervision  # noqa: F401
    import trackers.core.bytetrack.tracklet  # noqa: F401


class Tracker:
    """Follows the objects of one stream; one thread uses it.

    Args:
        next_id: the number of the first object.
    """

    def __init__(self, next_id: int) -> None:
        from trackers import ByteTrackTracker

        self._tracker: Any = ByteTrackTracker(
            frame_rate=FIRST_RATE, minimum_consecutive_frames=FRAMES_TO_BEGIN, minimum_iou_threshold=LEAST_IOU
        )
        self._tracker._next_track_id = next_id
        self._intervals: deque[float] = deque(maxlen=RATE_FRAMES)
        self._last_at: float | None = None

    @property
    def next_id(self) -> int:
        """The number that the next object gets."""
        return int(self._tracker._next_track_id)

    @property
    def alive(self) -> set[int]:
        """Numbers of the objects that are followed, those that are not seen just now included."""
        return {track.tracker_id for track in self._tracker.tracks} - {UNKNOWN}

    def update(self, found: Detections, at: float, confidence: float, spec: TrackSpec) -> NDArray[np.int64]:
        """The number of each box, int64 ``[N]``, `UNKNOWN` where it has none.

        Args:
            at: seconds; rises from call to call, by as much as lies between the frames.
            confidence: boxes from it on begin tracks; lower ones continue such.
        """
        from supervision import Detections as Boxes

        tracker = self._tracker
        tracker.maximum_time_without_update = spec.lost_s
        tracker.high_conf_det_threshold = tracker.track_activation_threshold = confidence
        self._tell_rate(at)
        boxes = Boxes(found.xyxy, confidence=found.confidence, data={"index": np.arange(len(found))})
        tracked = tracker.update(boxes, timestamp=at)
        ids = np.full(len(found), UNKNOWN, np.int64)
        if len(tracked):
            ids[tracked.data["index"]] = tracked.tracker_id
        return ids

    def states(self, most: int) -> tuple[TrackState, ...]:
        """The tracks that have numbers, ``most`` at most: those seen last."""
        rate = self._tracker._frame_rate
        known = [track for track in self._tracker.tracks if track.tracker_id != UNKNOWN]
        known.sort(key=lambda track: float(track.time_since_update_seconds))
        return tuple(_state_of(track, rate) for track in known[:most])

    def resume(self, tracks: Sequence[TrackState], last_at: float, next_at: float) -> None:
        """Go on with tracks of another process, which stood so at ``last_at``; what passes until ``next_at`` does not
        count as not being seen."""
        from trackers.core.bytetrack.tracklet import ByteTrackTracklet

        tracker = self._tracker
        for given in tracks:
            state = np.array(given.state).reshape(8, 1)
            _, top, _, bottom, *speeds = given.state
            if hypot(speeds[0] + speeds[2], speeds[1] + speeds[3]) / 2 < STANDS * (bottom - top):
                state[4:] = 0.0
            track: Any = ByteTrackTracklet(state[:4, 0])
            _set_filter(track, state, np.array(given.covariance).reshape(8, 8), 1 / tracker._frame_rate)
            track.tracker_id, track.time_since_update = given.tracker_id, 1
            track.time_since_update_seconds = given.unseen_s - (next_at - last_at)
            tracker.tracks.append(track)
        tracker._last_timestamp = self._last_at = last_at

    def _tell_rate(self, at: float) -> None:
        if self._last_at is not None:
            self._intervals.append(at - self._last_at)
        self._last_at = at
        if len(self._intervals) < RATE_FRAMES:
            return
        rate, old = 1 / float(np.median(self._intervals)), self._tracker._frame_rate
        if not 1 / RATE_CHANGE < rate / old < RATE_CHANGE:
            for track in self._tracker.tracks:
                kalman = track.state_estimator.kf
                _set_filter(track, kalman.state, kalman.state_covariance, old / rate)
            self._tracker._frame_rate = rate


def _set_filter(track: Any, state: NDArray[np.float64], covariance: NDArray[np.float64], factor: float) -> None:
    """With ``factor`` times the speeds: the library's are pixels a frame."""
    scale = np.array([1.0] * 4 + [factor] * 4)
    kalman = track.state_estimator.kf
    kalman.state, kalman.state_covariance = state * scale[:, None], covariance * np.outer(scale, scale)


def _state_of(track: Any, rate: float) -> TrackState:
    kalman, scale = track.state_estimator.kf, np.array([1.0] * 4 + [rate] * 4)
    state = (kalman.state[:, 0] * scale).tolist()
    covariance = (kalman.state_covariance * np.outer(scale, scale)).ravel().tolist()
    return TrackState(int(track.tracker_id), tuple(state), tuple(covariance), float(track.time_since_update_seconds))
