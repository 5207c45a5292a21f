"""How many frames a stream may have at the detector, and which frames it may send at all."""

from __future__ import annotations

import threading

MAX_IN_FLIGHT = 4
"""As many places as the link has for a stream: one frame with the engine, one released, one waiting, one on its way."""


class InFlightGate:
    """Lets so many frames out and no more.

    `MAX_IN_FLIGHT` is more than the engine takes from one stream at a time, on purpose: a frame that waits at the
    detector is replaced there by the stream's next one, so that the engine always gets the newest. A stream that may
    lose no frame therefore has one out at a time.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._out = 0
        self._closed = False

    def enter(self, limit: int = MAX_IN_FLIGHT) -> bool:
        """Wait until fewer than ``limit`` are out and take a place; False once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._out < limit)
            if self._closed:
                return False
            self._out += 1
            return True

    def leave(self) -> None:
        """Give the place back."""
        with self._changed:
            self._out -= 1
            self._changed.notify_all()

    def wait_until_empty(self, timeout_s: float) -> None:
        """Return once all places are free, or after ``timeout_s``."""
        with self._changed:
            self._changed.wait_for(lambda: self._out == 0, timeout_s)

    def close(self) -> None:
        """Let nobody in any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class FrameRateCap:
    """Decides by presentation time which frames fit under ``max_fps``, evenly spaced.

    Frames are due on a grid of ``1 / max_fps``. A late one leaves the grid as it is, so that the mean rate is exact
    for any rate of the source, and one that comes early after it still counts: a source below ``max_fps`` loses none
    to jitter. The grid lags by one interval at most, so that a pause brings no burst.
    """

    def __init__(self) -> None:
        self._next_s: float | None = None

    def admit(self, at_s: float, max_fps: float | None) -> bool:
        """Whether the frame presented at ``at_s`` may be inferred."""
        if max_fps is None:
            return True
        interval = 1.0 / max_fps
        if self._next_s is None or at_s < self._next_s - 2 * interval:
            self._next_s = at_s
        self._next_s = max(self._next_s, at_s - interval)
        # A frame up to a millisecond early still counts: presentation times are rounded to the time base.
        if at_s + 1e-3 < self._next_s:
            return False
        self._next_s += interval
        return True
