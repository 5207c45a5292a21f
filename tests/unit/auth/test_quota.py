"""Quotas: a bucket for requests, a count for what stays open, of one replica and of several together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.errors import QuotaExceeded
from serve_app.auth import quota
from serve_app.auth.bucket import Bucket, capacity, take
from serve_app.auth.quota import OpenViews, RequestMeter
from serve_app.auth.roles import Allowance, Principal, Role
from serve_app.auth.tally import HEARD_S, Tally, TallyAway
from tests.support.closed_api import Clock
from tests.support.waiting import until_so


@given(st.integers(1, 10_000), st.lists(st.floats(0, 100), min_size=1, max_size=200))
def test_no_window_takes_more_than_its_share(per_minute: int, pauses: list[float]) -> None:
    bucket: Bucket | None = None
    now, taken = 0.0, []
    for pause in pauses:
        now += pause
        bucket, wait_s = take(bucket, per_minute, now)
        if wait_s == 0:
            taken.append(now)
    for first, start in enumerate(taken):
        for last, end in enumerate(taken[first:], first):
            assert last - first + 1 <= capacity(per_minute) + per_minute * (end - start) / 60 + 1e-6


@given(st.integers(1, 10_000), st.floats(0, 20), st.floats(0, 1000))
def test_whoever_waits_as_told_is_served(per_minute: int, tokens: float, now: float) -> None:
    held, wait_s = take(Bucket(min(tokens, capacity(per_minute)), now), per_minute, now)
    if wait_s > 0:
        assert held.tokens < 1
        assert take(held, per_minute, now + wait_s + 1e-6)[1] == 0
    assert take(held, per_minute, now - 5)[0].at >= held.at  # a clock that goes back gives nothing


def who(name: str = "a", **allowance: int) -> Principal:
    return Principal(f"key:{name}", name, Role.VIEWER, {}, Allowance(**allowance))


def test_each_caller_has_a_bucket() -> None:
    clock = Clock()
    meter = RequestMeter(clock)
    one, other = (who(name, requests_per_minute=6) for name in "ab")

    async def counted() -> None:
        await meter.count(one)
        with pytest.raises(QuotaExceeded) as refused:
            await meter.count(one)
        assert refused.value.retry_after_s == 10
        await meter.count(other)
        clock.now += 10
        await meter.count(one)

    asyncio.run(counted())


class OneTally:
    """`Together` of one replica, in this process."""

    def __init__(self, tally: Tally, name: str) -> None:
        self._tally = tally
        self._name = name
        self.away = False
        self.asked = self.answered = 0

    async def take(self, caller: str, per_minute: int, most: int) -> tuple[int, float]:
        await self._reached()
        return self._tally.take(caller, per_minute, most)

    async def hold(self, caller: str, held: int, limit: int) -> bool:
        await self._reached()
        self.answered += 1
        return self._tally.hold(self._name, caller, held, limit)

    async def told(self, times: int, since: int) -> None:
        """Until it was told so many times more than it had been."""
        await until_so(lambda: self.answered >= since + times)

    async def _reached(self) -> None:
        self.asked += 1
        await asyncio.sleep(0)  # whoever else is ready goes first
        if self.away:
            raise TallyAway("away")


def replicas(clock: Clock) -> list[OneTally]:
    tally = Tally(clock)
    return [OneTally(tally, name) for name in ("one", "other")]


async def passed(meter: RequestMeter, caller: Principal) -> int:
    try:
        await meter.count(caller)
    except QuotaExceeded:
        return 0
    return 1


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 3000), st.lists(st.tuples(st.floats(0, 5), st.integers(1, 40)), min_size=1, max_size=12))
def test_replicas_that_are_asked_at_once_let_in_no_more_than_one_would(
    per_minute: int, rounds: list[tuple[float, int]]
) -> None:
    clock, caller = Clock(), who(requests_per_minute=per_minute)
    meters = [RequestMeter(clock, together) for together in replicas(clock)]

    async def run() -> None:
        count, began = 0, clock.now
        for pause, asked in rounds:
            clock.now += pause
            tries = [passed(meter, caller) for meter in meters for _ in range(asked)]
            count += sum(await asyncio.gather(*tries))
            assert count <= capacity(per_minute) + per_minute * (clock.now - began) / 60 + 1e-6

    asyncio.run(run())


def test_many_requests_cost_few_questions_and_all_that_may_pass_do() -> None:
    clock, caller = Clock(), who(requests_per_minute=24_000)
    together = replicas(clock)[0]
    meter = RequestMeter(clock, together)
    assert asyncio.run(counted(meter, caller, 4000)) == 4000
    assert together.asked == 40
    assert asyncio.run(counted(meter, caller, 1)) == 0


async def counted(meter: RequestMeter, caller: Principal, times: int) -> int:
    return sum([await passed(meter, caller) for _ in range(times)])


def test_each_replica_counts_for_itself_while_the_count_of_all_is_away() -> None:
    clock, caller = Clock(), who(requests_per_minute=12)
    together = replicas(clock)[0]
    meter = RequestMeter(clock, together)
    together.away = True
    assert asyncio.run(counted(meter, caller, 5)) == 2


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1)), max_size=60), st.integers(0, 5), st.booleans())
def test_open_views_are_counted_exactly(steps: list[tuple[bool, int]], limit: int, shared: bool) -> None:
    """By one replica alone, and by two together."""
    clock, caller = Clock(), who(event_streams=limit)
    together = replicas(clock)
    views = [OpenViews(one) for one in together] if shared else [OpenViews()] * 2
    leaves: list[tuple[int, Callable[[], None]]] = []

    async def run() -> None:
        for enters, at in steps:
            if not enters and leaves:
                entered, leave = leaves.pop(0)
                before = together[entered].answered
                leave()
                leave()
                await together[entered].told(int(shared), before)
            elif enters and len(leaves) < limit:
                leaves.append((at, await views[at].enter(caller)))
            elif enters:
                with pytest.raises(QuotaExceeded):
                    await views[at].enter(caller)
            for place, each in enumerate(views):
                assert each.held(caller) == sum(not shared or entered == place for entered, _ in leaves)

    asyncio.run(run())


def test_views_that_come_to_two_replicas_at_once_are_no_more_than_allowed() -> None:
    clock, caller = Clock(), who(event_streams=3)
    views = [OpenViews(together) for together in replicas(clock)]

    async def run() -> None:
        tries = [each.enter(caller) for each in views for _ in range(8)]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert 0 < sum(callable(outcome) for outcome in outcomes) <= 3

    asyncio.run(run())


def test_views_of_a_replica_that_died_count_no_more_and_those_of_one_that_lives_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quota, "RENEW_S", 0.01)
    clock, caller = Clock(), who(event_streams=1)
    mine, others = replicas(clock)
    living, other = OpenViews(mine), OpenViews(others)

    async def run() -> None:
        leave = await living.enter(caller)
        for _ in range(3):
            clock.now += HEARD_S - 1
            await mine.told(2, mine.answered)  # the second time after now for certain
            with pytest.raises(QuotaExceeded):
                await other.enter(caller)
        mine.away = True  # it says nothing any more
        clock.now += HEARD_S
        await other.enter(caller)
        leave()

    asyncio.run(run())
