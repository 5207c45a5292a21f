"""What was observed, judged: pure functions over times of frames and states of streams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

FRESH_S = 1.5
"""A stream whose newest detections are older than this is not back yet."""

SETTLED_S = 1.0
"""So long a stream has to stay healthy to count as back: a connection that breaks at once was none."""

INTERRUPTION_PERIODS = 2.5
"""A time without detections of this many frame periods or more is an interruption. Fewer are single frames that gave
way to newer ones, which an engine under load is meant to do."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest that is known of one stream, times in seconds.

    Attributes:
        online: whether the API says so, with the newest accepted generation in force; None where it doesn't answer.
        status_at: when it said so, monotonic.
        event_at: when the newest detections came, monotonic.
        captured_at: Unix time at which their frame was decoded.
    """

    online: bool | None
    status_at: float
    event_at: float
    captured_at: float


@dataclass
class Recovery:
    """Follows streams after the cause of a fault has ended, until all are healthy and stay so.

    Attributes:
        ended, ended_wall: when the cause ended, monotonic and in Unix time.
    """

    ended: float
    ended_wall: float
    since: dict[str, float] = field(default_factory=dict)

    def observe(self, now: float, seen: Mapping[str, Seen]) -> bool:
        """Take in what is known at ``now``; True once every stream has been healthy for `SETTLED_S`."""
        for stream_id, one in seen.items():
            if healthy(one, now, self.ended, self.ended_wall):
                self.since.setdefault(stream_id, max(self.ended, min(now, max(one.status_at, one.event_at))))
            else:
                self.since.pop(stream_id, None)
        return all(stream_id in self.since and now - self.since[stream_id] >= SETTLED_S for stream_id in seen)

    def seconds(self, stream_id: str, now: float) -> float:
        """From the end of the cause until the stream was back; until ``now`` where it is not."""
        return self.since.get(stream_id, now) - self.ended


def healthy(seen: Seen, now: float, ended: float, ended_wall: float) -> bool:
    """Whether the API says online, and detections of a frame decoded after the cause ended are fresh."""
    told = seen.online is True and seen.status_at >= ended
    return told and seen.captured_at >= ended_wall and now - seen.event_at <= FRESH_S


def interruptions(captured: Iterable[float], fps: float, start: float, end: float) -> list[float]:
    """Times without detections between ``start`` and ``end`` in seconds, each of `INTERRUPTION_PERIODS` or more.

    ``captured``: Unix times at which the frames with detections were decoded, of any order.
    """
    inside = sorted(time for time in captured if start < time < end)
    points = [start, *inside, end]
    gaps = [later - earlier for earlier, later in pairwise(points)]
    return [gap for gap in gaps if gap >= INTERRUPTION_PERIODS / fps]


def frames_lost(gaps: Sequence[float], fps: float) -> int:
    """Frames that a source of ``fps`` frames a second would have given in these gaps between two frames."""
    return sum(max(0, round(gap * fps) - 1) for gap in gaps)


def ledger_errors(frames: Mapping[str, Any]) -> list[str]:
    """What does not add up in the ``frames`` of a status, in words."""
    detected = frames["inferred"] + sum(frames["dropped"].values()) + frames["in_flight"]
    shown = frames["published"] + frames["video_dropped"] + frames["queued"]
    found = []
    if frames["decoded"] != detected:
        found.append(f"decoded {frames['decoded']} but inferred + dropped + in_flight {detected}: {dict(frames)}")
    if frames["decoded"] != shown:
        found.append(f"decoded {frames['decoded']} but published + video_dropped + queued {shown}: {dict(frames)}")
    if min(frames["in_flight"], frames["queued"]) < 0:
        found.append(f"less than nothing under way: {dict(frames)}")
    return found
