"""Time bases and timestamps: one rising timeline over reconnects, loops and what broken sources send.

This is the one place that touches the rationals of PyAV: `fractions.Fraction` or None up to 18, `AVRational`, where
"unknown" is 0/1 and falsy, from 19 on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

TIME_BASE = Fraction(1, 90_000)
"""The clock of RTP video and MPEG-TS: finer than any frame rate in use, whole for 24, 25, 30, 50 and 60 fps."""

MAX_JUMP_S = 10.0
"""A source whose timestamps leap ahead by more than this without as much time passing is taken to have restarted."""

DEFAULT_FRAME = Fraction(1, 25)
"""Seconds a frame lasts where the source does not say."""


def fraction(rational: Any) -> Fraction | None:
    """A rational of either PyAV major as a Fraction; None for unknown, zero and negative ones."""
    if not rational or not rational.denominator:
        return None
    value = Fraction(int(rational.numerator), int(rational.denominator))
    return value if value > 0 else None


class Timeline:
    """Gives every frame of a stream's life a strictly rising pts in `time_base`.

    One instance lives as long as the stream, over all its connections; only the thread that reads uses it.

    Args:
        time_base: seconds a tick.
        clock: monotonic seconds, for the gap that a reconnect leaves.
    """

    def __init__(self, time_base: Fraction = TIME_BASE, clock: Callable[[], float] = time.monotonic) -> None:
        self.time_base = time_base
        self.stretch = 0
        """Counts how often the source's own clock began anew: connections, loops, and leaps behind one of them."""
        self._clock = clock
        self._frame = self._ticks(DEFAULT_FRAME)
        self._offset: int | None = None
        self._last: int | None = None
        self._last_audio: int | None = None
        self._last_at = 0.0
        self._keep_gap = False

    def connected(self, frame_duration: Fraction | None = None, *, keep_gap: bool = True) -> None:
        """A source opened: its timestamps start anew.

        Args:
            frame_duration: seconds from one frame to the next; None where unknown.
            keep_gap: True for a reconnect, which shows the time that was lost; False for a loop, which goes on
                seamlessly one frame later.
        """
        self._frame = max(1, self._ticks(frame_duration or DEFAULT_FRAME))
        self._offset = None
        self._keep_gap = keep_gap
        self.stretch += 1

    def video(self, pts: int | None, time_base: Fraction | None) -> int:
        """The pts of the next video frame; ``pts`` None or a ``time_base`` of None means one frame on."""
        now = self._clock()
        ticks = None if pts is None or time_base is None else self._ticks(pts * time_base)
        value = self._next(ticks, now)
        self._last, self._last_at = value, now
        return value

    def audio(self, pts: int | None, time_base: Fraction | None) -> int | None:
        """The pts of an audio packet beside the video; None where it can't be placed: leave the packet out."""
        if pts is None or time_base is None or self._offset is None:
            return None
        value = self._ticks(pts * time_base) + self._offset
        if value < 0 or (self._last_audio is not None and value <= self._last_audio):
            return None
        if self._last is not None and value > self._last + self._jump:
            return None
        self._last_audio = value
        return value

    def packet(self, pts: int | None, time_base: Fraction | None) -> int | None:
        """Where a time of the source's lies, once a picture of the connection has come; it need not rise."""
        if pts is None or time_base is None or self._offset is None:
            return None
        return self._ticks(pts * time_base) + self._offset

    @property
    def _jump(self) -> int:
        return self._ticks(Fraction(MAX_JUMP_S))

    def _next(self, ticks: int | None, now: float) -> int:
        if self._last is None:
            self._keep_gap = False
            self._offset = None if ticks is None else -ticks
            return 0
        follows = self._last + self._frame
        passed = self._last + max(self._frame, self._ticks(Fraction(max(0.0, now - self._last_at))))
        if self._offset is None:
            start = passed if self._keep_gap else follows
            self._keep_gap = False
            self._offset = None if ticks is None else start - ticks
            return start
        if ticks is None:
            return follows
        return self._continue(ticks, follows, passed)

    def _continue(self, ticks: int, follows: int, passed: int) -> int:
        assert self._last is not None
        assert self._offset is not None
        value = ticks + self._offset
        if value <= self._last - self._frame:  # a wrap or a restart behind the same connection
            self._offset = follows - ticks
            self.stretch += 1
            return follows
        if value > max(passed, self._last) + self._jump:
            self._offset = passed - ticks
            self.stretch += 1
            return passed
        return max(value, self._last + 1)  # a repeated timestamp is no reason to drift away from the audio

    def _ticks(self, seconds: Fraction) -> int:
        return round(seconds / self.time_base)
