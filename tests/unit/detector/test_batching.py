"""When waiting frames are let into the engine, on a real event loop with a scripted engine."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.detector.batching import LEAD_S, Batcher, WaitingFrame
from deployments.detector.port import DetectReply, DetectRequest
from deployments.detector.scheduler import DropReason, Scheduler
from deployments.detector.service import Outcome
from deployments.detector.speed import BatchTimes
from engines.types import Detections

SIDE = 4
IMAGE = np.zeros((SIDE, SIDE, 3), np.uint8)
REPLY = DetectReply(Detections.empty(), 0.0, 0.0, 1)
SOON = 0.02
"""Far more than a busy loop's turn takes, far less than `BUSY_S`."""
BUSY_S = 0.4


class Frame:
    """Keeps what became of it, however often."""

    def __init__(self, stream: str | None, number: int = 0, *, lives_s: float = 60.0) -> None:
        self.stream, self.number = stream, number
        self.image, self.rows, self.priority = IMAGE, None, 0
        self.request = DetectRequest(IMAGE, None)
        self.arrived_at = time.monotonic()
        self.expires_at = self.arrived_at + lives_s
        self.ends: list[str] = []

    def settle(self, outcome: Outcome) -> None:
        self.ends.append("settled")

    def drop(self, reason: DropReason, detail: str) -> None:
        self.ends.append(reason.value)


class Rig:
    """A batcher over an engine that is done when the test says so."""

    def __init__(self, *, room: int = 8, seconds: float = 0.0, lanes: int = 1) -> None:
        self.room = room
        self.speed = BatchTimes()
        self.speed.learn(1, seconds)
        self.speed.learn(room, seconds)
        self.inside: list[tuple[WaitingFrame, asyncio.Future[Outcome]]] = []
        self.entered_at: list[float] = []
        self.batches: list[Sequence[WaitingFrame]] = []
        self.changed = asyncio.Condition()
        scheduler: Scheduler[WaitingFrame] = Scheduler(SIDE, SIDE, waiting_per_stream=1)
        self.batcher = Batcher(
            asyncio.get_running_loop(),
            scheduler,
            BatchTimes(),
            self.speed,
            self.infer,
            lambda frames: min(frames, self.room),
            lanes,
            time.monotonic,
        )

    async def infer(self, frames: Sequence[WaitingFrame]) -> Sequence[Outcome]:
        loop = asyncio.get_running_loop()
        done: list[asyncio.Future[Outcome]] = [loop.create_future() for _ in frames]
        async with self.changed:
            self.batches.append(frames)
            self.inside += zip(frames, done, strict=True)
            self.entered_at += [time.monotonic()] * len(frames)
            self.changed.notify_all()
        return await asyncio.gather(*done)

    def offer(self, *frames: Frame) -> None:
        for frame in frames:
            self.batcher.offer(frame)

    async def until(self, true: Callable[[], bool]) -> None:
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(true), 20)

    async def entered(self, count: int) -> list[WaitingFrame]:
        await self.until(lambda: len(self.inside) >= count)
        await turns()
        assert len(self.inside) == count
        return [frame for frame, _ in self.inside]

    def finish(self, *numbers: int, error: Exception | None = None) -> None:
        for number in numbers:
            done = self.inside[number][1]
            done.set_result(REPLY) if error is None else done.set_exception(error)


async def turns(count: int = 20) -> None:
    """Let everything that is ready on the loop run."""
    for _ in range(count):
        await asyncio.sleep(0)


Scenario = Callable[[], Awaitable[None]]


def on_a_loop(scenario: Scenario) -> Callable[[], None]:
    def test() -> None:
        async def bounded() -> None:
            await asyncio.wait_for(scenario(), 25)

        asyncio.run(bounded())

    test.__name__, test.__doc__ = scenario.__name__, scenario.__doc__
    return test


@on_a_loop
async def test_an_idle_engine_gets_what_waits_at_once() -> None:
    rig = Rig(seconds=60)
    for number in range(3):
        frame = Frame("a", number)
        rig.offer(frame)
        assert (await rig.entered(number + 1))[-1] is frame
        rig.finish(number)
        await turns()
        assert frame.ends == ["settled"]


@on_a_loop
async def test_frames_that_come_together_go_together_and_fit_the_room() -> None:
    rig = Rig(room=3, seconds=60)
    frames = [Frame(str(number)) for number in range(5)]
    rig.offer(*frames)
    assert await rig.entered(3) == frames[:3]
    rig.room = 1
    rig.finish(0, 1)
    await turns()
    assert len(rig.inside) == 3  # the release isn't over
    rig.finish(2)
    assert await rig.entered(4) == frames[:4]
    rig.finish(3)
    assert await rig.entered(5) == frames
    rig.finish(4)
    await turns()
    assert [frame.ends for frame in frames] == [["settled"]] * 5


@pytest.mark.parametrize("lanes", [1, 2, 5])
def test_under_way_is_one_release_more_than_the_engine_has_lanes(lanes: int) -> None:
    @on_a_loop
    async def scenario() -> None:
        rig = Rig(seconds=0.0, lanes=lanes)  # it looks as if the engine were free at any moment
        for number in range(lanes + 1):
            rig.offer(Frame("a", number))
            await rig.entered(number + 1)
        waiting = [Frame("a", number) for number in range(lanes + 1, lanes + 5)]
        rig.offer(*waiting)
        await turns()
        assert len(rig.inside) == lanes + 1
        rig.finish(0)
        assert (await rig.entered(lanes + 2))[-1] is waiting[-1]
        assert [frame.ends for frame in waiting] == [["superseded"]] * 3 + [[]]
        rig.finish(*range(1, lanes + 2))

    scenario()


@on_a_loop
async def test_frames_are_spread_over_all_lanes() -> None:
    rig = Rig(seconds=60, lanes=3)
    frames = [Frame(str(number)) for number in range(12)]
    rig.offer(*frames[:6])
    assert await rig.entered(5) == frames[:5]
    assert [len(batch) for batch in rig.batches] == [2, 2, 1]
    rig.offer(*frames[6:])
    await turns()
    assert len(rig.inside) == 5  # all lanes are busy for a minute
    rig.finish(4)
    assert await rig.entered(8) == frames[:8]  # not all seven that wait: they would wait for each other
    rig.finish(0, 1, 2, 3, 5, 6, 7)


@on_a_loop
async def test_the_next_release_comes_before_the_first_lane_is_free() -> None:
    rig = Rig(room=1, seconds=BUSY_S, lanes=2)
    rig.offer(Frame("a"))
    await rig.entered(1)
    rig.batcher.loop.call_later(BUSY_S / 2, rig.offer, Frame("b"))
    await rig.entered(2)  # at once: a lane was idle
    rig.offer(Frame("c"))
    await rig.entered(3)
    assert BUSY_S - LEAD_S - SOON <= rig.entered_at[2] - rig.entered_at[0] < BUSY_S * 1.25
    rig.offer(Frame("d"))
    await turns()
    rig.finish(0)  # "c" begins only now: "b" ends before it
    await rig.entered(4)
    assert rig.entered_at[3] - rig.entered_at[1] >= BUSY_S - LEAD_S - SOON
    rig.finish(1, 2, 3)


@on_a_loop
async def test_the_next_release_comes_shortly_before_the_engine_is_free_with_the_newest_frames() -> None:
    rig = Rig(seconds=BUSY_S)
    rig.offer(Frame("a"))
    await rig.entered(1)
    frames = [Frame(stream, number) for number in range(5) for stream in ("a", "b")]
    rig.offer(*frames)
    await turns()
    assert len(rig.inside) == 1
    late = Frame("a", 5)
    rig.batcher.loop.call_later(BUSY_S / 2, rig.offer, late)
    assert (await rig.entered(3))[1:] == [frames[-1], late]
    assert rig.entered_at[1] - rig.entered_at[0] >= BUSY_S - LEAD_S - SOON
    assert not rig.inside[0][1].done()
    rig.finish(0, 1, 2)


@on_a_loop
async def test_what_had_no_room_goes_while_the_release_before_it_still_runs() -> None:
    """Nothing is offered any more, and nothing has ended: the timer alone wakes it."""
    rig = Rig(room=2, seconds=0.05)
    rig.offer(*(Frame(str(number)) for number in range(3)))
    await rig.entered(3)
    assert not any(done.done() for _, done in rig.inside)
    rig.finish(0, 1, 2)


@on_a_loop
async def test_a_batch_that_took_too_long_moves_the_next_release() -> None:
    """The second one begins when the first has ended, not when that was expected to."""
    rig = Rig(seconds=BUSY_S)
    rig.offer(Frame("a"))
    await rig.entered(1)
    rig.offer(Frame("a"))
    await rig.entered(2)
    held_up = asyncio.Event()
    rig.batcher.loop.call_later(2 * BUSY_S, held_up.set)
    await held_up.wait()
    rig.offer(Frame("a"))
    rig.finish(0)
    ended = time.monotonic()
    await rig.entered(3)
    assert rig.entered_at[2] - ended >= BUSY_S - LEAD_S - SOON
    rig.finish(1, 2)


@pytest.mark.parametrize("room", [1, 4])
def test_a_failed_release_drops_its_frames_and_the_next_goes_on(room: int) -> None:
    @on_a_loop
    async def scenario() -> None:
        rig = Rig(room=room)
        frames = [Frame(str(number)) for number in range(room)]
        rig.offer(*frames)
        await rig.entered(room)
        rig.finish(*range(room), error=RuntimeError("cuda"))
        after = Frame("after")
        rig.offer(after)
        await rig.entered(room + 1)
        rig.finish(room)
        await turns()
        assert [frame.ends for frame in frames] == [["failed"]] * room
        assert after.ends == ["settled"]

    scenario()


class Deaf(Frame):
    """Whoever waits for it can't be told anything."""

    def settle(self, outcome: Outcome) -> None:
        raise OSError("gone")

    def drop(self, reason: DropReason, detail: str) -> None:
        raise OSError("gone")


@on_a_loop
async def test_one_that_cannot_be_told_holds_nobody_up() -> None:
    rig = Rig()
    rig.offer(Deaf("a"), Deaf("a"), Frame("b"), Deaf("c", lives_s=0.0))
    await rig.entered(2)
    rig.finish(0, 1)
    await turns()
    last = Frame("a")
    rig.offer(last)
    await rig.entered(3)
    rig.finish(2)
    await turns()
    assert last.ends == ["settled"]


@on_a_loop
async def test_what_waits_of_a_stream_that_is_gone_is_dropped() -> None:
    rig = Rig(seconds=60)
    inside, gone, stays = Frame("a"), Frame("a"), Frame("b")
    rig.offer(inside)
    await rig.entered(1)
    rig.offer(gone, stays)
    rig.batcher.forget("a")
    rig.batcher.forget("nobody")
    assert (gone.ends, stays.ends) == (["gone"], [])
    rig.finish(0)
    await rig.entered(2)
    rig.finish(1)
    await turns()
    assert (inside.ends, stays.ends) == (["settled"], ["settled"])


@on_a_loop
async def test_frames_that_waited_too_long_are_dropped_and_hold_nothing_up() -> None:
    rig = Rig()
    stale, fresh = Frame("a", lives_s=0.0), Frame("b")
    rig.offer(stale)
    await turns()
    assert stale.ends == ["stale"]
    rig.offer(fresh)
    await rig.entered(1)
    rig.finish(0)


class Tally:
    """An engine that answers by itself and watches what the batcher promises."""

    def __init__(self, seed: int, room: int) -> None:
        self.chance, self.room = random.Random(seed), room
        self.inside = self.most = 0

    async def infer(self, frames: Sequence[WaitingFrame]) -> Sequence[Outcome]:
        self.inside += len(frames)
        self.most = max(self.most, self.inside)
        try:
            await turns(self.chance.randrange(4))
            if self.chance.random() < 0.1:
                raise RuntimeError("cuda")
        finally:
            self.inside -= len(frames)
        return [REPLY] * len(frames)


@settings(max_examples=12)
@given(st.integers(0, 999), st.integers(1, 6), st.sampled_from([0.0, 0.001, 0.004]), st.integers(1, 3))
def test_frames_of_several_threads_end_once_each(seed: int, room: int, seconds: float, lanes: int) -> None:
    threads, each = 4, 60

    async def scenario() -> None:
        loop, engine, speed = asyncio.get_running_loop(), Tally(seed, room), BatchTimes()
        speed.learn(1, seconds)
        scheduler: Scheduler[WaitingFrame] = Scheduler(SIDE, SIDE, waiting_per_stream=1)
        batcher = Batcher(
            loop, scheduler, BatchTimes(), speed, engine.infer, lambda frames: min(frames, room), lanes, time.monotonic
        )
        frames = [[Frame(f"{thread}{number % 2}", number) for number in range(each)] for thread in range(threads)]

        def send(own: list[Frame]) -> None:
            for number, frame in enumerate(own):
                batcher.offer(frame)
                if number % 17 == 16:
                    batcher.forget(str(frame.stream))

        await asyncio.gather(*(asyncio.to_thread(send, own) for own in frames))
        every = [frame for own in frames for frame in own]
        deadline = time.monotonic() + 20
        while not all(frame.ends for frame in every):
            assert time.monotonic() < deadline, "a frame was forgotten"
            await asyncio.sleep(0.001)
        await turns()
        assert [len(frame.ends) for frame in every] == [1] * len(every)
        assert engine.most <= room * (lanes + 1)
        assert not engine.inside
        ends = Counter(frame.ends[0] for frame in every)
        assert set(ends) <= {"settled", "superseded", "failed", "gone"}
        assert ends["settled"] + ends["failed"], "none was released"

    asyncio.run(scenario())
    assert threading.active_count() < 20
