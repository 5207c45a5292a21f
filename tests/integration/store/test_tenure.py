"""The right to publish, kept by a real Redis that is up, down, or silent."""

from __future__ import annotations

import queue
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.store.redis import RedisStore
from deployments.streams.lease import HOLD_S
from deployments.streams.tenure import BEGINS, CUT_OFF, LEASE, SUCCEEDED, WAITS, Tenancy, Tenure
from tests.support.redis_server import RedisServer

SOON_S = 5.0
"""`LOOK_S` and `TICK_S`, and what a busy machine adds."""


class Life:
    """A stream's life that keeps its lease, and what it was told."""

    def __init__(self, redis: RedisServer, wait_s: float = 0.0) -> None:
        self.store = RedisStore(redis.url)
        self.told: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.term = self.begin()
        self.tenure = Tenure(Tenancy(redis.url, self.term, wait_s), "gate", {}, self.told.put)
        assert not self.tenure.publishes
        assert self.tenure.trouble == BEGINS
        self.tenure.start()

    def begin(self) -> int:
        """What the supervisor does before a life begins."""
        return self.store.put(LEASE, "gate", b"", None)

    def next(self, within_s: float = SOON_S) -> str | None:
        return self.told.get(timeout=within_s)

    def nothing_for(self, seconds: float) -> bool:
        try:
            self.told.get(timeout=seconds)
        except queue.Empty:
            return True
        return False


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def life(redis: RedisServer) -> Iterator[Life]:
    life = Life(redis)
    yield life
    life.tenure.stop()
    life.store.close()


def test_a_life_publishes_once_it_reads_its_term_and_ends_for_good_when_another_has_begun(life: Life) -> None:
    assert life.next() is None
    assert life.tenure.publishes
    life.begin()
    assert life.next() == SUCCEEDED
    life.tenure.vouched(life.tenure.stamp)
    assert life.tenure.trouble == SUCCEEDED


def test_a_life_whose_record_was_removed_publishes_no_more(life: Life) -> None:
    assert life.next() is None
    life.store.delete(LEASE, "gate", None)
    assert life.next() == SUCCEEDED


def test_a_life_without_a_shared_store_publishes_from_the_start() -> None:
    told: list[str | None] = []
    tenure = Tenure(Tenancy(), "gate", {}, told.append)
    tenure.start()
    assert tenure.publishes
    tenure.stop()
    assert told == []


@pytest.mark.long
def test_a_successor_waits_for_its_predecessor(redis: RedisServer) -> None:
    life = Life(redis, wait_s=2.0)
    assert life.next() == WAITS
    assert life.next() is None
    life.tenure.stop()


@pytest.mark.long
def test_a_store_that_is_known_to_be_down_takes_no_right_away(life: Life, redis: RedisServer) -> None:
    assert life.next() is None
    redis.stop()
    assert life.nothing_for(HOLD_S + 3)
    assert life.tenure.publishes
    redis.start()
    assert life.nothing_for(SOON_S)


@pytest.mark.long
def test_a_store_without_an_answer_does_unless_the_supervisor_vouches(life: Life, redis: RedisServer) -> None:
    assert life.next() is None
    redis.signal(signal.SIGSTOP)
    try:
        for _ in range(int(HOLD_S) + 3):
            life.tenure.vouched(life.tenure.stamp)
            assert life.nothing_for(1.0)
        assert life.next(HOLD_S + SOON_S) == CUT_OFF
    finally:
        redis.signal(signal.SIGCONT)
    assert life.next(2 * SOON_S) is None
