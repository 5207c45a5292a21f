"""Whether the video of a connection that stands is of any use: pictures must come, and their time must move on.

Pure: no clock. What a camera sends when its encoder hangs looks well on the wire: packets without a picture in them, or
pictures that all bear one time, which players and outputs show as a single one.
"""

from __future__ import annotations

from deployments.streams.media.rhythm import Rhythm

MOVES_S = 0.001
"""A picture must be this much later than the one before it, on average: a quarter of what 240 frames a second have.
The time of a slow source may lag behind the clock as far as it likes: MJPEG over HTTP counts its pictures as 25 a
second, however many come."""


class Watchdog:
    """Watches one connection; ``now`` is monotonic seconds throughout, never falling.

    Args:
        limit_s: how long pictures may stay away, or their time stand still.
        live: the source sends as it goes, and may not be silent for longer than its `Rhythm` says.
    """

    def __init__(self, limit_s: float, now: float, *, live: bool) -> None:
        self._limit_s = limit_s
        self._picture_by = now + limit_s
        self._waiting_since = now
        self._rhythm = Rhythm(limit_s, now) if live else None
        self._packets = 0
        self._last_s: float | None = None
        self._since = now
        self._pictures = 0
        self._moved_s = 0.0

    @property
    def due(self) -> float:
        """When the next packet, or the next picture, has to be there."""
        if self._rhythm is None:
            return self._picture_by
        return min(self._picture_by, self._waiting_since + self._rhythm.patience_s)

    @property
    def silent(self) -> bool:
        """Of a source that is late: whether it sends nothing, or packets without a picture."""
        return not self._packets or self.due < self._picture_by

    def packet(self, now: float) -> None:
        """A packet of video came."""
        self._packets += 1
        if self._rhythm is not None:
            self._rhythm.packet(now, now - self._waiting_since)
        self._waiting_since = now

    def picture(self, at_s: float | None, now: float) -> bool:
        """Take a picture and its presentation time in seconds, None where the source gives none.

        False where times stand still: over the last ``limit_s`` they moved by less than `MOVES_S` a picture.
        """
        self._packets, self._picture_by = 0, now + self._limit_s
        if at_s is None:
            self._last_s, self._since, self._pictures, self._moved_s = None, now, 0, 0.0
            return True
        if self._last_s is not None:
            self._pictures += 1
            self._moved_s += abs(at_s - self._last_s)
        self._last_s = at_s
        if now - self._since < self._limit_s:
            return True
        moves = self._moved_s >= MOVES_S * self._pictures
        self._since, self._pictures, self._moved_s = now, 0, 0.0
        return moves

    def handed_on(self, now: float) -> None:
        """The reader comes back for more: the time that it took is none that the source needed."""
        self._picture_by, self._waiting_since = now + self._limit_s, now
