"""What callers have taken of their quotas, through all replicas of the API; pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from deployments.errors import RaysightError
from serve_app.auth.bucket import Bucket, take

REMEMBERED = 10_000
"""Callers whose requests are counted; of more, those that were silent longest begin with a full bucket."""

HEARD_S = 30.0
"""What a replica holds open counts for so long after it said so: one that died says nothing any more."""


class TallyAway(RaysightError):
    """What all replicas count together can't be reached: each goes by what it counted itself."""


class Together(Protocol):
    """A `Tally` that all replicas share. Both raise TallyAway."""

    async def take(self, caller: str, per_minute: int, most: int) -> tuple[int, float]: ...

    async def hold(self, caller: str, held: int, limit: int) -> bool: ...


class Tally:
    """Counts requests and open views by caller.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self._held: dict[str, dict[str, tuple[int, float]]] = {}

    def take(self, caller: str, per_minute: int, most: int) -> tuple[int, float]:
        """Requests that the caller may make now, ``most`` at most, and, where there are none, the seconds to wait."""
        bucket, now, granted, wait_s = self._buckets.get(caller), self._clock(), 0, 0.0
        while granted < most:
            bucket, wait_s = take(bucket, per_minute, now)
            if wait_s > 0:
                break
            granted += 1
        if bucket is not None:
            self._buckets[caller] = bucket
            self._buckets.move_to_end(caller)
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return granted, 0.0 if granted else wait_s

    def hold(self, replica: str, caller: str, held: int, limit: int) -> bool:
        """Whether a replica may hold so many views open for the caller; if so, it counts as that many from now on.

        No more than it was held already always may be.
        """
        now = self._clock()
        known = {name: told for name, told in self._held.pop(caller, {}).items() if now - told[1] < HEARD_S}
        before = known.get(replica, (0, now))[0]
        others = sum(count for count, _ in known.values()) - before
        allowed = held <= before or held + others <= limit
        if allowed:
            known[replica] = (held, now)
        if known := {name: told for name, told in known.items() if told[0]}:
            self._held[caller] = known
        return allowed
