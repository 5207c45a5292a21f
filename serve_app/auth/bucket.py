"""A token bucket: what may be taken at once, and how it fills again; pure."""

from __future__ import annotations

from dataclasses import dataclass

BURST_S = 10.0
"""How long somebody may have been silent to be credited for it: a page asks for ten things at once."""


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
