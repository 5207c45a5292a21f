"""Quotas: a token bucket for requests, a count for what stays open."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from deployments.errors import QuotaExceeded
from serve_app.auth.roles import Principal

BURST_S = 10.0
"""How long somebody may have been silent to be credited for it: a page asks for ten things at once."""

REMEMBERED = 10_000
"""Callers whose buckets are kept; of more, those that were silent longest begin with a full one."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Requests that may be made at once, as of a moment (monotonic seconds)."""

    tokens: float
    at: float


def capacity(per_minute: int) -> float:
    """The most requests at once; at least one."""
    return max(1.0, per_minute * BURST_S / 60.0)


def take(bucket: Bucket | None, per_minute: int, now: float) -> tuple[Bucket, float]:
    """One request at ``now``; the bucket after it, and the seconds to wait: 0 where it may be made.

    In any ``t`` seconds no more than ``capacity(per_minute) + per_minute * t / 60`` requests pass. A refused one
    costs nothing. None for a bucket is a full one.
    """
    full, rate = capacity(per_minute), per_minute / 60.0
    if bucket is None:
        bucket = Bucket(full, now)
    now = max(now, bucket.at)
    tokens = min(full, bucket.tokens + (now - bucket.at) * rate)
    if tokens >= 1.0:
        return Bucket(tokens - 1.0, now), 0.0
    return Bucket(tokens, now), (1.0 - tokens) / rate


class RequestMeter:
    """Counts requests of each caller."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def count(self, who: Principal) -> None:
        """One request. Raises QuotaExceeded."""
        limit = who.allowance.requests_per_minute
        if limit is None:
            return
        self._buckets[who.id], wait_s = take(self._buckets.get(who.id), limit, self._clock())
        self._buckets.move_to_end(who.id)
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        if wait_s > 0:
            raise QuotaExceeded(f"This key makes at most {limit} requests a minute.", max(1, math.ceil(wait_s)))


class OpenViews:
    """Counts what each caller holds open."""

    RETRY_AFTER_S = 5

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def enter(self, who: Principal) -> Callable[[], None]:
        """One more; call what it returns, once or more often, when it is closed. Raises QuotaExceeded."""
        limit, held = who.allowance.event_streams, self._open.get(who.id, 0)
        if limit is not None and held >= limit:
            raise QuotaExceeded(f"This key keeps at most {limit} live views open: close one.", self.RETRY_AFTER_S)
        self._open[who.id] = held + 1
        left = False

        def leave() -> None:
            nonlocal left
            if left:
                return
            left = True
            self._open[who.id] -= 1
            if not self._open[who.id]:
                del self._open[who.id]

        return leave

    def held(self, who: Principal) -> int:
        """How many are open."""
        return self._open.get(who.id, 0)
