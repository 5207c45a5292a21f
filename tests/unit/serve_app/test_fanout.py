"""One subscription serves all viewers, and none of them can hold up another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from deployments.errors import StreamNotFound
from serve_app.api.fanout import Broadcast, Fanout, Seats, StreamEnded, patiently
from serve_app.api.problems import Refused


class Upstream:
    """A subscription that tests feed by hand, and that counts how often it was opened."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = asyncio.Event()
        self.gone = asyncio.Event()
        self.broadcast: Broadcast[int] | None = None

    async def pump(self, stream_id: str, broadcast: Broadcast[int]) -> None:
        self.opened += 1
        self.broadcast = broadcast
        broadcast.started.set()
        try:
            await self.gone.wait()
            raise StreamNotFound(stream_id)
        finally:
            self.closed.set()

    def publish(self, *items: int) -> None:
        assert self.broadcast is not None
        for item in items:
            self.broadcast.publish(item)


def _run(test: Callable[[Upstream, Fanout[int], Seats], Awaitable[None]], newest: bool = False) -> None:
    async def whole() -> None:
        upstream, seats = Upstream(), Seats(50)
        fanout = Fanout(upstream.pump, seats, capacity=4, replay_newest=newest, grace_s=0.01)
        async with asyncio.timeout(10):
            await test(upstream, fanout, seats)
        fanout.close()

    asyncio.run(whole())


def test_fifty_viewers_share_one_subscription() -> None:
    async def test(upstream: Upstream, fanout: Fanout[int], seats: Seats) -> None:
        viewers = [fanout.join("a") for _ in range(50)]
        await viewers[0][1].started.wait()
        upstream.publish(1, 2)
        assert [[await viewer.next(1), await viewer.next(1)] for viewer, _ in viewers] == [[1, 2]] * 50
        assert (upstream.opened, seats.taken) == (1, 50)
        with pytest.raises(Refused, match="too_many_viewers"):
            fanout.join("b")

    _run(test)


def test_a_slow_viewer_loses_the_oldest_and_is_told_how_many() -> None:
    async def test(upstream: Upstream, fanout: Fanout[int], seats: Seats) -> None:
        slow, broadcast = fanout.join("a")
        fast, _ = fanout.join("a")
        await broadcast.started.wait()
        for item in range(10):
            upstream.publish(item)
            assert await fast.next(1) == item
        assert (fast.take_dropped(), slow.take_dropped(), slow.take_dropped()) == (0, 6, 0)
        assert [await slow.next(1) for _ in range(4)] == [6, 7, 8, 9]
        assert await slow.next(0.001) is None

    _run(test)


def test_the_subscription_ends_after_the_last_viewer_and_starts_again() -> None:
    async def test(upstream: Upstream, fanout: Fanout[int], seats: Seats) -> None:
        viewer, broadcast = fanout.join("a")
        await broadcast.started.wait()
        viewer.leave()
        viewer.leave()
        assert seats.taken == 0
        again, _ = fanout.join("a")
        assert upstream.opened == 1, "a viewer that comes back at once finds the subscription running"
        again.leave()
        await upstream.closed.wait()
        _, restarted = fanout.join("a")
        await restarted.started.wait()
        assert upstream.opened == 2

    _run(test)


def test_a_deleted_stream_ends_its_viewers_after_what_they_have() -> None:
    async def test(upstream: Upstream, fanout: Fanout[int], seats: Seats) -> None:
        viewer, broadcast = fanout.join("a")
        await broadcast.started.wait()
        upstream.publish(1)
        upstream.gone.set()
        await upstream.closed.wait()
        assert await viewer.next(1) == 1
        with pytest.raises(StreamEnded) as ended:
            await viewer.next(1)
        assert ended.value.deleted

    _run(test)


def test_closing_ends_viewers_of_streams_that_live_on() -> None:
    async def test(upstream: Upstream, fanout: Fanout[int], seats: Seats) -> None:
        viewer, broadcast = fanout.join("a")
        await broadcast.started.wait()
        fanout.close()
        with pytest.raises(StreamEnded) as ended:
            await viewer.next(1)
        assert not ended.value.deleted

    _run(test)


def test_who_joins_late_gets_the_newest_at_once() -> None:
    async def test(upstream: Upstream, fanout: Fanout[int], seats: Seats) -> None:
        _, broadcast = fanout.join("a", rate=5)
        await broadcast.started.wait()
        upstream.publish(1, 2)
        late, _ = fanout.join("a", rate=30)
        assert await late.next(1) == 2
        assert broadcast.rate == 30

    _run(test, newest=True)


def test_errors_upstream_are_waited_out(caplog: pytest.LogCaptureFixture) -> None:
    tries = 0

    async def poll() -> str:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise ConnectionError("moving")
        return "there"

    assert asyncio.run(patiently(poll, "events", 0.0)) == "there"
    assert len(caplog.records) == 1, "said once, not at each try"
