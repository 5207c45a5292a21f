"""What earlier lives of streams left behind: how soon the next may begin, above which number, and
with which tracks; plain Python."""

from __future__ import annotations

from collections import defaultdict

from deployments.streams.backoff import Backoff


class Past:
    """By stream id. Times are seconds on the monotonic clock."""

    def __init__(self) -> None:
        self.unplaced: set[str] = set()
        """Streams that ask for no place on a GPU any more, since no node had room for them there."""
        self._deaths: defaultdict[str, Backoff] = defaultdict(Backoff)
        self._not_before: dict[str, float] = {}
        self._seen: dict[str, int] = {}
        self.carried: dict[str, bytes] = {}
        """What lives that ended in good order handed on, for the next one alone."""

    def ended(self, stream_id: str, next_sequence: int) -> None:
        """A life ends that was last heard of before it gave a frame that number."""
        self._seen[stream_id] = max(next_sequence, self.seen(stream_id))

    def hand_on(self, stream_id: str, carried: bytes | None) -> None:
        """A life ended in good order, and this is what the next one goes on with; None for nothing."""
        if carried is not None:
            self.carried[stream_id] = carried

    def died(self, stream_id: str, now: float) -> None:
        """It was no good end: the next one waits, longer each time."""
        self._not_before[stream_id] = now + self._deaths[stream_id].next_delay()

    def healthy(self, stream_id: str, now: float) -> None:
        """It works: after a good while the next death counts as the first."""
        if stream_id in self._deaths:
            self._deaths[stream_id].healthy(now)

    def not_before(self, stream_id: str) -> float:
        """When the next life may begin."""
        return self._not_before.get(stream_id, 0.0)

    def seen(self, stream_id: str) -> int:
        """The highest number that a frame may get next, as far as was heard."""
        return self._seen.get(stream_id, 0)

    def try_now(self, stream_id: str) -> None:
        """Begin the next life at once, on a GPU if there is a place."""
        self._not_before.pop(stream_id, None)
        self.unplaced.discard(stream_id)

    def forget(self, stream_id: str) -> None:
        """Nobody wants it any more."""
        self.try_now(stream_id)
        self._deaths.pop(stream_id, None)
        self._seen.pop(stream_id, None)
        self.carried.pop(stream_id, None)
