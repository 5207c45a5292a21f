"""The store of the specs goes away, or can't write; no running stream may notice, and no change may be half made."""

from __future__ import annotations

import random

import httpx

from tests.chaos.faults.churn import change
from tests.chaos.faults.fault import Fault, Outcome, last
from tests.chaos.fleet import PATTERN, Fleet
from tests.chaos.store import SqliteStore, unavailable
from tests.support.redis_server import RedisServer

AWAY_S = 5.0


def stop_redis(fleet: Fleet, rng: random.Random) -> Outcome:
    """``kill -9``, and back after 5 s; a change meanwhile has to be refused."""
    assert isinstance(fleet.store, RedisServer)
    fleet.store.stop()
    try:
        _expect_refusal(fleet, f"away-{rng.getrandbits(32)}")
        last(AWAY_S)
    finally:
        fleet.store.start()
    return Outcome(restored=lambda: change(fleet, PATTERN, f"back-{rng.getrandbits(32)}") == httpx.codes.OK)


def fill_disk(fleet: Fleet, rng: random.Random) -> Outcome:
    """SQLite's file system of 1 MB is full; a change meanwhile has to be refused, or durable."""
    assert isinstance(fleet.store, SqliteStore)
    fleet.store.fill()
    try:
        for _ in range(20):  # the file of the log has some room of its own
            if change(fleet, PATTERN, f"full-{rng.getrandbits(32)}") != httpx.codes.OK:
                break
        last(AWAY_S)
    finally:
        fleet.store.empty()
    return Outcome(restored=lambda: change(fleet, PATTERN, f"back-{rng.getrandbits(32)}") == httpx.codes.OK)


def _expect_refusal(fleet: Fleet, mark: str) -> None:
    status = change(fleet, PATTERN, mark)
    if status != httpx.codes.SERVICE_UNAVAILABLE:
        fleet.journal.violation("nothing_forgotten", PATTERN, f"PATCH while the store was away: {status}, not 503")


def _no_redis(fleet: Fleet) -> str | None:
    return unavailable("redis") or (None if isinstance(fleet.store, RedisServer) else "the store is not Redis")


def _no_small_disk(fleet: Fleet) -> str | None:
    if (why := unavailable("sqlite")) is not None:
        return why
    if not isinstance(fleet.store, SqliteStore):
        return "the store is not SQLite"
    return None if fleet.store.mounted else "a small file system can't be mounted here: that needs root"


FAULTS = (Fault("store restarted", stop_redis, _no_redis), Fault("disk full", fill_disk, _no_small_disk))
