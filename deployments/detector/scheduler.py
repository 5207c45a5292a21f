"""Which waiting frames the engine gets next; pure: no clock, no thread, no engine.

Streams send more frames than an engine can take, and old frames are worth nothing in a live picture. So a stream has
only a few places, in which newer frames replace older ones, and what is released is picked by priority, then in
turns. Calls through a handle or HTTP want an answer to each frame instead: they queue, in places kept for them.

Every frame that was offered is in the end released or dropped, once, and until then waiting; `Scheduler.counts` says
so at any moment.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

import numpy as np

from engines.types import UInt8Array

WAITING_DIRECT = 64
"""Frames of handle and HTTP callers that wait: some four full batches; more are refused at once."""

DIRECT_SHARE = 0.125
"""Part of each batch kept for handle and HTTP callers while they wait, but at least one place."""

PREFERRED_MORE = 1
"""Places more for a stream while lower priorities wait: its next frame often comes just before the release that would
have taken both, and the lower ones are to lose theirs first."""


class DropReason(StrEnum):
    """Why a frame got no detections."""

    SUPERSEDED = "superseded"
    STALE = "stale"
    INVALID = "invalid"
    OVERLOADED = "overloaded"
    GONE = "gone"
    FAILED = "failed"


class Schedulable(Protocol):
    """A frame as the scheduler sees it.

    Attributes:
        stream: whose frame it is; None for a handle or HTTP caller.
        image: uint8 ``[height, width, 3]``, or ``[height * 3 / 2, width]`` for I420.
        rows: where an I420 image has only some, the first of them and how many; see `DetectRequest`.
        priority: higher goes first, strictly; compared among streams only.
        expires_at: from then on it is stale, on the clock of `Scheduler.release`'s ``now``.
    """

    @property
    def stream(self) -> str | None: ...

    @property
    def image(self) -> UInt8Array: ...

    @property
    def rows(self) -> tuple[int, int] | None: ...

    @property
    def priority(self) -> int: ...

    @property
    def expires_at(self) -> float: ...


FrameT = TypeVar("FrameT", bound=Schedulable)


@dataclass(frozen=True, slots=True)
class Dropped(Generic[FrameT]):
    """A frame that won't be inferred; ``detail`` is for people."""

    frame: FrameT
    reason: DropReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Release(Generic[FrameT]):
    """The next batch, at most the room's worth, and what was found stale while looking for it."""

    frames: list[FrameT]
    dropped: list[Dropped[FrameT]]


@dataclass(frozen=True, slots=True)
class Counts:
    """The scheduler's ledger: ``offered == released + sum(dropped) + waiting``."""

    offered: int
    released: int
    dropped: dict[DropReason, int]
    waiting: int


class _Line(Generic[FrameT]):
    """One stream's waiting frames, oldest first, and the turn in which it was last served."""

    __slots__ = ("frames", "served")

    def __init__(self) -> None:
        self.frames: deque[FrameT] = deque()
        self.served = -1


class Scheduler(Generic[FrameT]):
    """Keeps what waits and picks what goes; the caller holds a lock around it."""

    def __init__(self, width: int, height: int, waiting_per_stream: int = 2) -> None:
        """Schedule frames of ``width`` x ``height`` pixels; I420 where both are even.

        ``waiting_per_stream``: from the next one on, a stream's newer frame replaces its oldest, unless it is of lower
        ones that frames have to be dropped (`PREFERRED_MORE`). With 1 the engine gets the newest frame; 2 is what a
        stream sends that may lose none, such as a file's.
        """
        self._width, self._height = width, height
        self._waiting_per_stream = waiting_per_stream
        self._lines: dict[str, _Line[FrameT]] = {}
        self._direct: deque[FrameT] = deque()
        self._turn = 0
        self._room = 0
        self._direct_next = False
        self._offered = 0
        self._released = 0
        self._drops: Counter[DropReason] = Counter()

    def __len__(self) -> int:
        return len(self._direct) + sum(len(line.frames) for line in self._lines.values())

    @property
    def counts(self) -> Counts:
        """What became of all frames so far."""
        return Counts(self._offered, self._released, dict(self._drops), len(self))

    def offer(self, frame: FrameT) -> Dropped[FrameT] | None:
        """Let a frame wait; returns the one that is dropped for it: itself, its stream's oldest, or none."""
        self._offered += 1
        wrong = self._wrong(frame.image, frame.rows)
        if wrong:
            return self._drop(frame, DropReason.INVALID, wrong)
        if frame.stream is None:
            if len(self._direct) >= WAITING_DIRECT:
                return self._drop(frame, DropReason.OVERLOADED, f"{WAITING_DIRECT} frames are waiting already")
            self._direct.append(frame)
            return None
        line = self._lines.setdefault(frame.stream, _Line())
        line.frames.append(frame)
        over = len(line.frames) - self._waiting_per_stream
        if over > PREFERRED_MORE or (over > 0 and not self._preferred(frame)):
            return self._drop(line.frames.popleft(), DropReason.SUPERSEDED)
        return None

    def release(self, now: float, room: int) -> Release[FrameT]:
        """Take out the next frames, at most ``room``.

        Handle and HTTP callers get their share of the places while they wait, and what streams leave over; streams
        the same. Where there is room for a single frame the two take turns.
        """
        self._room = room
        dropped = self._drop_stale(now)
        of_streams = self._by_turn(room)
        kept = self._places_for_direct(room, len(of_streams))
        direct = [self._direct.popleft() for _ in range(kept)]
        taken = of_streams[: room - kept]
        frames = direct + [self._take(line) for line in taken]
        self._released += len(frames)
        return Release(frames, dropped)

    def forget(self, stream: str) -> list[Dropped[FrameT]]:
        """Drop what waits of a stream that is gone."""
        line = self._lines.pop(stream, None)
        return [self._drop(frame, DropReason.GONE) for frame in line.frames] if line else []

    def _wrong(self, image: UInt8Array, rows: tuple[int, int] | None) -> str:
        shapes: list[tuple[int, ...]] = [(self._height, self._width, 3)]
        if self._width % 2 == self._height % 2 == 0:
            shapes.append(((rows[1] if rows else self._height) * 3 // 2, self._width))
        if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape in shapes:
            return ""
        seen = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        wanted = " or ".join(str(list(shape)) for shape in shapes)
        return f"a frame must be uint8 {wanted}; this one is {seen}"

    def _preferred(self, frame: FrameT) -> bool:
        """Whether lower priorities wait that will make room in the next release for all that waits above them."""
        waiting = [other.priority for line in self._lines.values() for other in line.frames]
        return min(waiting) < frame.priority and sum(own >= frame.priority for own in waiting) <= self._room

    def _drop(self, frame: FrameT, reason: DropReason, detail: str = "") -> Dropped[FrameT]:
        self._drops[reason] += 1
        return Dropped(frame, reason, detail)

    def _drop_stale(self, now: float) -> list[Dropped[FrameT]]:
        dropped = []
        for waiting in (self._direct, *(line.frames for line in self._lines.values())):
            fresh = [frame for frame in waiting if frame.expires_at > now]
            if len(fresh) < len(waiting):
                dropped += [self._drop(f, DropReason.STALE) for f in waiting if f.expires_at <= now]
                waiting.clear()
                waiting.extend(fresh)
        return dropped

    def _by_turn(self, room: int) -> list[_Line[FrameT]]:
        """The lines to take a frame from, in order, one entry a frame: priority, then who was served longest ago."""
        entries = [
            (nth, -frame.priority, line.served, line)
            for line in self._lines.values()
            for nth, frame in enumerate(line.frames)
        ]
        entries.sort(key=lambda entry: (entry[1], entry[0], entry[2]))
        return [line for *_, line in entries[:room]]

    def _places_for_direct(self, room: int, of_streams: int) -> int:
        waiting = len(self._direct)
        if room <= 0 or not waiting:
            return 0
        if room == 1 and of_streams:
            self._direct_next = not self._direct_next
            return int(self._direct_next)
        kept = max(1, int(room * DIRECT_SHARE))
        return min(waiting, max(kept, room - of_streams))

    def _take(self, line: _Line[FrameT]) -> FrameT:
        self._turn += 1
        line.served = self._turn
        return line.frames.popleft()
