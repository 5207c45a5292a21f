"""`Follower`: the stage between detections and events that knows who is who, and who is where.

It owns the tracks and zones of one stream. The thread that collects detections calls `follow`, in the order of the
frames; other threads read `zones` and `tracks`, which are replaced as a whole.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deployments.streams.frame import Frame
from deployments.streams.tracking.carried import MAX_TRACKS, Carried, carried_tracks, carried_zone, unpack, zone_from
from deployments.streams.tracking.spec import TrackSpec, ZoneSpec, ZoneStatus
from deployments.streams.tracking.tracker import UNKNOWN, Tracker, TrackState
from deployments.streams.tracking.zones import AnyZone, Place, ZoneEvent, adapt, margin_of
from engines.types import Detections

IDS_OF_A_LIFE = 1_000_000_000
"""Numbers that each life of a stream's process has for itself, so that none comes twice within a stream."""

MOVE_S = 30.0
"""A move that takes longer begins with new tracks: nobody is where he was. It takes a few seconds; a stopping process
may take 8 of them."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Followed:
    """What there is to tell of one frame.

    Attributes:
        detections: with `tracker_id`, unless the stream has no tracks; without those that were looked for only to
            continue tracks, and did not.
    """

    detections: Detections
    events: tuple[ZoneEvent, ...] = ()


class Follower:
    """Follows the objects of one stream through its frames.

    Args:
        epoch: which life of the stream this is, from 1.
        carried: what its predecessor handed on.
        replayed: the source began anew with this life: it is a file.
    """

    def __init__(self, epoch: int, carried: bytes | None, *, replayed: bool) -> None:
        self.zones: tuple[ZoneStatus, ...] = ()
        self.tracks = 0
        """Objects that are followed now."""
        self._next_id = (epoch - 1) * IDS_OF_A_LIFE + 1
        self._tracker: Tracker | None = None
        self._votes: defaultdict[int, dict[str, float]] = defaultdict(dict)
        self._zones: list[AnyZone] = []
        self._wanted: tuple[ZoneSpec, ...] | None = None
        self._stretch: int | None = None
        self._size = (0, 0)
        self._offset = 0.0
        self._at = 0.0
        self._captured_at = 0.0
        self._replayed = replayed
        self._carried = unpack(carried)
        if self._carried is not None:
            self._next_id = self._carried.next_id

    def load(self) -> None:
        """Have the tracking library there before the first frame comes: it takes a second."""
        self._tracker = self._tracker or Tracker(self._next_id)

    def follow(
        self,
        frame: Frame,
        found: Detections,
        labels: Sequence[str],
        confidence: float,
        track: TrackSpec | None,
        zones: tuple[ZoneSpec, ...],
    ) -> Followed:
        """Take the next inferred frame.

        Args:
            found: down to the confidence that ``track`` asks for.
            labels: by class id.
            confidence: what counts as a detection without tracks.
        """
        if track is None:
            self._forget()
            return Followed(_above(found, confidence))  # on its way while tracks were wanted, it may have had more
        try:
            return self._follow(frame, found, labels, confidence, track, zones)
        except Exception:
            logger.exception("tracking failed on a frame; it begins anew")
            if self._tracker is not None:
                self._next_id = self._tracker.next_id
            self._tracker = None  # its tracks are lost to the zones with the next frame
            return Followed(_above(found, confidence))

    def carry(self) -> bytes | None:
        """What the next life goes on with; only after the last `follow`."""
        tracker = self._tracker
        if self._carried is not None or tracker is None or self._wanted is None:
            return self._carried.pack() if self._carried is not None else None  # no frame came meanwhile
        tracks = tracker.states(MAX_TRACKS)
        moving = {track.tracker_id for track in tracks}
        return Carried(
            at=self._at,
            captured_at=self._captured_at,
            size=self._size,
            next_id=tracker.next_id,
            tracks=carried_tracks(tracks, self._votes),
            zones=tuple(carried_zone(zone, moving) for zone in self._zones),
        ).pack()

    def _follow(
        self,
        frame: Frame,
        found: Detections,
        labels: Sequence[str],
        confidence: float,
        track: TrackSpec,
        zones: tuple[ZoneSpec, ...],
    ) -> Followed:
        tracker, events = self._begin(frame)
        changed = zones != self._wanted
        if changed:
            self._zones = adapt(self._zones, zones, self._size, frame.captured_at)
            self._wanted = zones
        ids = tracker.update(found, self._at, confidence, track)
        kept = (found.confidence >= confidence) | (ids != UNKNOWN)
        seen = Detections(found.xyxy[kept], found.confidence[kept], found.class_id[kept], ids[kept])
        self._next_id = tracker.next_id
        events += self._lose_all_but(tracker.alive)
        events += self._in_zones(seen, ids[kept], labels)
        self.tracks = len(self._votes)
        if changed or events:
            self.zones = tuple(zone.status() for zone in self._zones)
        return Followed(seen, tuple(events))

    def _begin(self, frame: Frame) -> tuple[Tracker, list[ZoneEvent]]:
        """The tracker for a frame, and what ended before it: a picture of another size, or from another time, has
        nothing to do with the last one."""
        size, before = (frame.picture.width, frame.picture.height), self._at
        continues = (frame.stretch, size) == (self._stretch, self._size)
        self.load()
        carried, self._carried = self._carried, None
        if carried is not None:
            self._resume(carried, frame, size)
            return self._running, self._lose_all_but(self._running.alive)
        self._at = self._offset + float(frame.pts * frame.time_base)
        self._stretch, self._captured_at = frame.stretch, frame.captured_at
        if continues:
            return self._running, []
        self._tracker = Tracker(self._next_id)
        now, self._at = self._at, before  # they end where they were seen last
        events = self._lose_all_but(set())
        self._at = now
        if size != self._size:
            self._size, self._wanted = size, None  # zones are drawn anew
        return self._running, events

    @property
    def _running(self) -> Tracker:
        assert self._tracker is not None
        return self._tracker

    def _resume(self, carried: Carried, frame: Frame, size: tuple[int, int]) -> None:
        """Go on where the last life ended, by the clock of its frames; what is over by then is over."""
        passed = max(1e-3, frame.captured_at - carried.captured_at)
        self._at = carried.at + passed
        self._offset = self._at - float(frame.pts * frame.time_base)
        self._stretch, self._size, self._captured_at = frame.stretch, size, frame.captured_at
        self._zones = [zone_from(zone, carried.size) for zone in carried.zones]
        self.zones = tuple(zone.status() for zone in self._zones)
        self._wanted = tuple(zone.spec for zone in self._zones) if size == carried.size else None
        self._votes.clear()
        for track in carried.tracks:
            self._votes[track.tracker_id] = dict(track.votes)
        if size == carried.size and passed <= MOVE_S and not self._replayed:
            states = [TrackState(one.tracker_id, one.state, one.covariance, one.unseen_s) for one in carried.tracks]
            self._running.resume(states, carried.at, self._at)

    def _lose_all_but(self, alive: set[int]) -> list[ZoneEvent]:
        gone = sorted(self._votes.keys() - alive)
        for track in gone:
            del self._votes[track]
        return [event for track in gone for zone in self._zones for event in zone.lose(track, self._at)]

    def _in_zones(self, seen: Detections, ids: NDArray[np.int64], labels: Sequence[str]) -> Iterator[ZoneEvent]:
        for index in np.flatnonzero(ids != UNKNOWN).tolist():
            left, top, right, bottom = seen.xyxy[index].tolist()
            votes = self._votes[int(ids[index])]
            label = labels[int(seen.class_id[index])]
            votes[label] = votes.get(label, 0.0) + float(seen.confidence[index])
            label = max(votes, key=votes.__getitem__)
            place = Place(int(ids[index]), label, ((left + right) / 2, bottom), margin_of(self._size[1], bottom - top))
            for zone in self._zones:
                yield from zone.see(place, self._at)
        for zone in self._zones:
            yield from zone.pass_time(self._at)

    def _forget(self) -> None:
        """Nobody wants tracks any more."""
        if self._tracker is None and self._carried is None:
            return
        self._tracker = self._carried = self._wanted = self._stretch = None
        self._votes.clear()
        self._zones, self.zones, self.tracks = [], (), 0


def _above(found: Detections, confidence: float) -> Detections:
    kept = found.confidence >= confidence
    return found if kept.all() else Detections(found.xyxy[kept], found.confidence[kept], found.class_id[kept])
