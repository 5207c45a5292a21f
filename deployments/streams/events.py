"""Detection events: built once as JSON, kept for late readers, waited for by many."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deployments.streams.frame import Frame
from deployments.streams.tracking.zones import ZoneEvent
from engines.types import Detections

REPLAY_EVENTS = 512
"""Events kept for `Last-Event-ID`: 20 s at 25 fps, longer than a browser takes to reconnect (3 s by default)."""


@dataclass(frozen=True, slots=True)
class EventBatch:
    """What a reader gets: events in order, each with its sequence and its JSON as bytes.

    Attributes:
        lost: events between the reader's position and the first of these are no longer kept.
        newest: sequence of the newest event there is, from which a reader goes on.
        in_zones: what happened in zones, JSON each, by the sequence of the event of ``events`` that they belong to.
    """

    events: tuple[tuple[int, bytes], ...]
    lost: bool
    newest: int
    in_zones: Mapping[int, tuple[bytes, ...]] = field(default_factory=dict)


class EventLog:
    """The newest events of one stream, for any number of readers."""

    def __init__(self, first_sequence: int) -> None:
        self._changed = threading.Condition()
        self._events: deque[tuple[int, bytes]] = deque(maxlen=REPLAY_EVENTS)
        self._in_zones: dict[int, tuple[bytes, ...]] = {}
        self._forgotten = first_sequence - 1
        self._newest = first_sequence - 1
        self._closed = False
        self._listeners: list[Callable[[int, bytes, tuple[bytes, ...]], None]] = []

    def subscribe(self, listener: Callable[[int, bytes, tuple[bytes, ...]], None]) -> None:
        """Call ``listener`` with each event from now on, on the detection's thread: it must not wait."""
        self._listeners.append(listener)

    def append(self, sequence: int, event: bytes, in_zones: tuple[bytes, ...] = ()) -> None:
        """Add the next event, and what happened in zones on that frame; sequences rise."""
        with self._changed:
            if len(self._events) == REPLAY_EVENTS:
                self._forgotten = self._events[0][0]
                self._in_zones.pop(self._forgotten, None)
            if in_zones:
                self._in_zones[sequence] = in_zones
            self._events.append((sequence, event))
            self._newest = sequence
            self._changed.notify_all()
        for listener in self._listeners:
            listener(sequence, event, in_zones)

    def wait(self, after: int | None, timeout_s: float) -> EventBatch:
        """Events with a sequence above ``after`` (None: above the newest there is now), waiting for the first."""
        with self._changed:
            position = self._newest if after is None else after
            self._changed.wait_for(lambda: self._closed or self._newest > position, timeout_s)
            fresh = tuple(event for event in self._events if event[0] > position)
            lost = after is not None and after < self._forgotten
            in_zones = {at: self._in_zones[at] for at, _ in fresh if at in self._in_zones}
            return EventBatch(fresh, lost, self._newest, in_zones)

    def close(self) -> None:
        """Let all readers go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def detection_event(
    stream_id: str, frame: Frame, detections: Detections, class_names: tuple[str, ...], latency_s: float
) -> bytes:
    """The JSON of one inferred frame, boxes in pixels of the source frame."""
    ids = detections.tracker_id
    found = [
        {
            "class_id": class_id,
            "label": class_names[class_id],
            "confidence": round(confidence, 4),
            "box": [round(side, 2) for side in box],
            "tracker_id": tracker_id if tracker_id is not None and tracker_id >= 0 else None,
        }
        for box, confidence, class_id, tracker_id in zip(
            detections.xyxy.tolist(),
            detections.confidence.tolist(),
            detections.class_id.tolist(),
            ids.tolist() if ids is not None else [None] * len(detections),
            strict=True,
        )
    ]
    event = {
        **_of(stream_id, frame),
        "width": frame.picture.width,
        "height": frame.picture.height,
        "latency_ms": round(latency_s * 1e3, 2),
        "detections": found,
    }
    return _packed(event)


def zone_events(stream_id: str, frame: Frame, events: Iterable[ZoneEvent]) -> tuple[bytes, ...]:
    """The JSON of what happened in zones on one frame."""
    return tuple(_packed({**_of(stream_id, frame), **event.shown()}) for event in events)


def _of(stream_id: str, frame: Frame) -> dict[str, Any]:
    return {
        "stream_id": stream_id,
        "sequence": frame.sequence,
        "pts": frame.pts,
        "time_base": f"{frame.time_base.numerator}/{frame.time_base.denominator}",
        "captured_at": round(frame.captured_at, 6),
    }


def _packed(event: dict[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()
