"""The scheduler: every frame accounted for, turns fair, nobody starved."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from deployments.detector.scheduler import WAITING_DIRECT, DropReason, Scheduler
from engines.types import UInt8Array

PACKED = np.zeros((4, 6, 3), np.uint8)
I420 = np.zeros((6, 6), np.uint8)


@dataclass(eq=False)
class Offered:
    stream: str | None
    image: UInt8Array = field(default_factory=lambda: PACKED)
    rows: tuple[int, int] | None = None
    priority: int = 0
    expires_at: float = 1e9


def make(waiting_per_stream: int = 2) -> Scheduler[Offered]:
    return Scheduler(6, 4, waiting_per_stream)


def test_a_newer_frame_replaces_the_oldest_of_its_stream() -> None:
    scheduler = make(waiting_per_stream=1)
    old, new = Offered("a"), Offered("a")
    assert scheduler.offer(old) is None
    dropped = scheduler.offer(new)
    assert dropped is not None
    assert (dropped.frame, dropped.reason) == (old, DropReason.SUPERSEDED)
    assert scheduler.release(0, 8).frames == [new]


def test_frames_of_one_stream_leave_in_order() -> None:
    scheduler = make()
    first, second = Offered("a"), Offered("a")
    scheduler.offer(first)
    scheduler.offer(second)
    assert scheduler.release(0, 8).frames == [first, second]


def test_a_second_frame_waits_until_all_streams_had_their_first() -> None:
    scheduler = make()
    a1, a2, b = Offered("a"), Offered("a"), Offered("b")
    for frame in (a1, a2, b):
        scheduler.offer(frame)
    assert scheduler.release(0, 2).frames == [a1, b]


def test_stale_frames_never_reach_the_engine() -> None:
    scheduler = make()
    stale, fresh, call = Offered("a", expires_at=5), Offered("b", expires_at=6), Offered(None, expires_at=5)
    for frame in (stale, fresh, call):
        scheduler.offer(frame)
    release = scheduler.release(5, 8)
    assert release.frames == [fresh]
    assert {(d.frame, d.reason) for d in release.dropped} == {(stale, DropReason.STALE), (call, DropReason.STALE)}


@pytest.mark.parametrize(
    "image", [np.zeros((4, 6), np.uint8), np.zeros((4, 6, 3), np.float32), np.zeros((6, 4, 3), np.uint8), "no image"]
)
def test_a_wrong_frame_fails_alone(image: UInt8Array) -> None:
    scheduler = make()
    good = [Offered("a"), Offered("b", I420)]
    for frame in good:
        assert scheduler.offer(frame) is None
    dropped = scheduler.offer(Offered("a", image))
    assert dropped is not None
    assert dropped.reason is DropReason.INVALID
    assert "uint8 [4, 6, 3] or [6, 6]" in dropped.detail
    assert scheduler.release(0, 8).frames == good


def test_of_i420_some_rows_are_enough() -> None:
    scheduler = make()
    assert scheduler.offer(Offered("a", I420[:3], rows=(2, 2))) is None
    assert scheduler.offer(Offered("a", rows=(1, 2))) is None
    for wrong in (Offered("b", I420[:3]), Offered("b", I420, rows=(2, 2))):
        dropped = scheduler.offer(wrong)
        assert dropped is not None
        assert dropped.reason is DropReason.INVALID


def test_an_input_with_odd_sides_takes_no_i420() -> None:
    scheduler: Scheduler[Offered] = Scheduler(5, 4)
    assert scheduler.offer(Offered("a", np.zeros((6, 5), np.uint8))) is not None


def test_higher_priority_goes_first() -> None:
    scheduler = make()
    low, high = Offered("a"), Offered("b", priority=1)
    scheduler.offer(low)
    scheduler.offer(high)
    assert scheduler.release(0, 1).frames == [high]
    assert scheduler.release(0, 1).frames == [low]


def test_a_preferred_stream_loses_no_frame_that_the_next_release_can_take() -> None:
    scheduler = make(waiting_per_stream=1)
    assert scheduler.release(0, 3).frames == []
    low, other = Offered("low"), Offered("other")
    scheduler.offer(low)
    scheduler.offer(other)
    first, second, third = (Offered("high", priority=1) for _ in range(3))
    assert scheduler.offer(first) is None
    assert scheduler.offer(second) is None  # lower ones make room for both
    dropped = scheduler.offer(third)
    assert dropped is not None
    assert (dropped.frame, dropped.reason) == (first, DropReason.SUPERSEDED)
    assert scheduler.release(0, 3).frames == [second, third, low]


def test_a_preferred_stream_keeps_its_newest_frame_alone_where_its_like_fill_the_release() -> None:
    scheduler = make(waiting_per_stream=1)
    assert scheduler.release(0, 2).frames == []
    scheduler.offer(Offered("low"))
    scheduler.offer(Offered("b", priority=1))
    old, new = Offered("a", priority=1), Offered("a", priority=1)
    scheduler.offer(old)
    dropped = scheduler.offer(new)
    assert dropped is not None
    assert dropped.frame is old


def test_a_stream_that_is_gone_leaves_nothing() -> None:
    scheduler = make()
    scheduler.offer(Offered("a"))
    assert [dropped.reason for dropped in scheduler.forget("a")] == [DropReason.GONE]
    assert scheduler.forget("a") == []
    assert len(scheduler) == 0


def test_too_many_calls_are_refused() -> None:
    scheduler = make()
    for _ in range(WAITING_DIRECT):
        assert scheduler.offer(Offered(None)) is None
    dropped = scheduler.offer(Offered(None))
    assert dropped is not None
    assert dropped.reason is DropReason.OVERLOADED


@pytest.mark.parametrize("room", [1, 2, 7, 8, 16, 32])
def test_calls_and_streams_never_starve_each_other(room: int) -> None:
    scheduler = make()
    calls = streams = 0
    for _ in range(100):
        for n in range(40):
            scheduler.offer(Offered(f"{n}"))
            scheduler.offer(Offered(None))
        frames = scheduler.release(0, room).frames
        assert len(frames) == room
        calls += sum(frame.stream is None for frame in frames)
        streams += sum(frame.stream is not None for frame in frames)
    fair = 50 if room == 1 else 100 * max(1, room // 8)
    assert calls == fair
    assert streams == 100 * room - fair


def test_who_is_alone_gets_all_places() -> None:
    scheduler = make()
    for n in range(20):
        scheduler.offer(Offered(None))
        scheduler.offer(Offered(f"{n}"))
    assert len(scheduler.release(0, 16).frames) == 16
    assert len(scheduler.release(0, 24).frames) == 24


@settings(max_examples=20, deadline=None)
@given(
    fps=st.lists(st.integers(20, 60), min_size=60, max_size=60),
    room=st.integers(1, 16),
    per_stream=st.integers(1, 2),
)
def test_sixty_overloading_streams_get_the_same(fps: list[int], room: int, per_stream: int) -> None:
    scheduler = make(per_stream)
    served: Counter[str | None] = Counter()
    due = [0.0] * len(fps)
    # 20 batches a second of at most 16 frames: 320 of at least 1,200 offered.
    for batch in range(60 * 12 // room):
        for n, rate in enumerate(fps):
            due[n] += rate / 20
            for _ in range(int(due[n])):
                scheduler.offer(Offered(f"{n}"))
            due[n] %= 1
        served.update(frame.stream for frame in scheduler.release(batch / 20, room).frames)
    counts = [served[f"{n}"] for n in range(len(fps))]
    assert max(counts) - min(counts) <= 1
    assert min(counts) >= 11


@settings(max_examples=100, deadline=None)
@given(
    priorities=st.lists(st.integers(-100, 100), min_size=1, max_size=24),
    room=st.integers(1, 24),
    ticks=st.integers(1, 60),
)
def test_under_overload_rates_shrink_by_priority_and_evenly_inside_one(
    priorities: list[int], room: int, ticks: int
) -> None:
    """All streams offer a frame a tick, the engine takes ``room``: what is over goes to the next lower priority."""
    scheduler = make(waiting_per_stream=1)
    served: Counter[str] = Counter()
    born: dict[int, int] = {}
    for tick in range(ticks):
        for number, priority in enumerate(priorities):
            frame = Offered(str(number), priority=priority)
            born[id(frame)] = tick
            scheduler.offer(frame)
        released = scheduler.release(tick, room).frames
        assert len(released) == min(room, len(priorities))
        # The newest of each, or the one before it, which had a place while lower priorities waited: never older.
        assert all(tick - born[id(frame)] <= 1 for frame in released)
        served.update(str(frame.stream) for frame in released)
    left = room
    for priority in sorted(set(priorities), reverse=True):
        inside = [served[str(number)] for number, own in enumerate(priorities) if own == priority]
        if left >= len(inside):
            assert inside == [ticks] * len(inside)
        else:
            assert sum(inside) == left * ticks
            assert max(inside) - min(inside) <= 1
        left = max(0, left - len(inside))


class Accounts(RuleBasedStateMachine):
    """Whatever happens, each frame is released or dropped once, or waits; and no batch is too large."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = make()
        self.now = 0.0
        self.offered = 0
        self.ended: set[int] = set()
        self.frames: list[Offered] = []

    def end(self, frames: list[Offered]) -> None:
        for frame in frames:
            assert id(frame) not in self.ended
            self.ended.add(id(frame))

    @rule(
        stream=st.sampled_from([None, "a", "b", "c"]),
        image=st.sampled_from([PACKED, I420, PACKED[:2]]),
        priority=st.integers(-1, 1),
        budget=st.floats(0, 3),
    )
    def offer(self, stream: str | None, image: UInt8Array, priority: int, budget: float) -> None:
        frame = Offered(stream, image, priority=priority, expires_at=self.now + budget)
        self.frames.append(frame)
        dropped = self.scheduler.offer(frame)
        self.end([dropped.frame] if dropped else [])

    @rule(step=st.floats(0, 2), room=st.integers(0, 4))
    def release(self, step: float, room: int) -> None:
        self.now += step
        release = self.scheduler.release(self.now, room)
        assert len(release.frames) <= room
        assert all(frame.expires_at > self.now and frame.image.shape != (2, 6, 3) for frame in release.frames)
        self.end(release.frames)
        self.end([dropped.frame for dropped in release.dropped])

    @rule(stream=st.sampled_from(["a", "b", "c"]))
    def forget(self, stream: str) -> None:
        self.end([dropped.frame for dropped in self.scheduler.forget(stream)])

    @invariant()
    def balanced(self) -> None:
        counts = self.scheduler.counts
        assert counts.offered == len(self.frames)
        assert counts.offered == counts.released + sum(counts.dropped.values()) + counts.waiting
        assert counts.waiting == len(self.frames) - len(self.ended)


TestAccounts = Accounts.TestCase
