"""How long a source may be silent, told by how it has sent until now. Pure: no clock."""

from __future__ import annotations

KNOWN_S = 30.0
"""A connection is watched for so long before it is held to its own rate; only the last such while counts."""

SHORTEST_S = 3.0
"""No silence is an alarm before: the retransmissions of TCP bridge some seconds, at 0.2 s, 0.6 s, 1.4 s and 3 s after a
loss (RFC 6298 with Linux's shortest timeout of 0.2 s)."""

INTERVALS = 30
"""Mean intervals between packets that a silence has to last."""

GAPS = 3
"""Times that a silence has to last longer than any before, which leaves alone what comes in bursts."""


class Rhythm:
    """Watches the packets of one connection; ``now`` is monotonic seconds throughout, never falling.

    Args:
        longest_s: the silence that is an alarm for any source.
    """

    def __init__(self, longest_s: float, now: float) -> None:
        self._longest_s = longest_s
        self._since = now
        self._packets = 0
        self._gap_s = 0.0
        self._known: tuple[float, float] | None = None

    def packet(self, now: float, waited_s: float) -> None:
        """A packet came after ``waited_s`` in which nobody but the source was waited for."""
        self._packets += 1
        self._gap_s = max(self._gap_s, waited_s)
        if (watched_s := now - self._since) >= KNOWN_S:
            self._known = watched_s / self._packets, self._gap_s
            self._since, self._packets, self._gap_s = now, 0, 0.0

    @property
    def patience_s(self) -> float:
        """The silence from which on something is wrong."""
        if self._known is None:
            return self._longest_s
        interval_s, gap_s = self._known
        return min(self._longest_s, max(SHORTEST_S, INTERVALS * interval_s, GAPS * max(gap_s, self._gap_s)))
