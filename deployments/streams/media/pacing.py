"""Releases frames at the pace of their timestamps, so that a file behaves as a camera does."""

from __future__ import annotations

import threading
import time
from fractions import Fraction

MAX_LAG_S = 1.0
"""A reader that fell behind by more starts a new reckoning: a camera does not send late frames in a burst either."""


class Pacer:
    """Waits until a pts is due, reckoned from the first one, so that errors do not add up.

    Args:
        stop: ends every wait at once.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._origin: float | None = None

    def wait(self, pts: int, time_base: Fraction) -> bool:
        """Wait until ``pts`` is due; False when stopped meanwhile."""
        at = float(pts * time_base)
        now = time.monotonic()
        if self._origin is None or now - (self._origin + at) > MAX_LAG_S:
            self._origin = now - at
        remaining = self._origin + at - now
        if remaining > 0:
            return not self._stop.wait(remaining)
        return not self._stop.is_set()
