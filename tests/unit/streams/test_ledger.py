"""Both ledgers add up whenever one looks."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from deployments.streams.ledger import DropReason, Ledger
from deployments.streams.spec import FrameCounts
from tests.support.waiting import in_threads, started

FRAMES = 2000


def dropped(counts: FrameCounts) -> int:
    return sum(counts.dropped.model_dump().values())


def assert_adds_up(counts: FrameCounts) -> None:
    assert counts.decoded == counts.inferred + dropped(counts) + counts.in_flight
    assert counts.decoded == counts.published + counts.video_dropped + counts.queued
    assert counts.in_flight >= 0
    assert counts.queued >= 0


class LedgerMachine(RuleBasedStateMachine):
    """Any order of settling in both branches, against plain numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.in_flight = self.queued = self.inferred = self.published = self.found = 0
        self.reasons = dict.fromkeys(DropReason, 0)

    @rule()
    def decoded(self) -> None:
        self.ledger.decoded()
        self.in_flight += 1
        self.queued += 1

    @precondition(lambda self: self.in_flight)
    @rule(found=st.integers(0, 9))
    def infer(self, found: int) -> None:
        self.ledger.inferred(found)
        self.in_flight -= 1
        self.inferred += 1
        self.found += found

    @precondition(lambda self: self.in_flight)
    @rule(reason=st.sampled_from(DropReason))
    def drop(self, reason: DropReason) -> None:
        self.ledger.dropped(reason)
        self.in_flight -= 1
        self.reasons[reason] += 1

    @precondition(lambda self: self.queued)
    @rule(dropped=st.booleans())
    def leave_the_video_branch(self, dropped: bool) -> None:
        (self.ledger.video_dropped if dropped else self.ledger.published)()
        self.queued -= 1
        self.published += not dropped

    @precondition(lambda self: not self.in_flight)
    @rule(reason=st.sampled_from(DropReason))
    def settle_too_often(self, reason: DropReason) -> None:
        for settle in (lambda: self.ledger.inferred(1), lambda: self.ledger.dropped(reason)):
            with pytest.raises(RuntimeError, match="settled twice"):
                settle()

    @precondition(lambda self: not self.queued)
    @rule()
    def publish_too_often(self) -> None:
        for settle in (self.ledger.published, self.ledger.video_dropped):
            with pytest.raises(RuntimeError, match="settled twice"):
                settle()

    @invariant()
    def the_snapshot_is_right(self) -> None:
        counts = self.ledger.snapshot()
        assert_adds_up(counts)
        assert (counts.in_flight, counts.queued) == (self.in_flight, self.queued)
        assert (counts.inferred, counts.published) == (self.inferred, self.published)
        assert counts.dropped.model_dump() == {reason.value: count for reason, count in self.reasons.items()}
        assert self.ledger.detections == self.found


TestAnyOrder = LedgerMachine.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_it_adds_up_at_any_moment_under_many_threads() -> None:
    ledger, over = Ledger(), threading.Event()
    to_infer, to_publish = threading.Semaphore(0), threading.Semaphore(0)
    moments: list[FrameCounts] = []

    def decode() -> None:
        for _ in range(FRAMES):
            ledger.decoded()
            to_infer.release()
            to_publish.release()

    def infer(reason: DropReason) -> None:
        _settle(to_infer, lambda: ledger.inferred(1), 3, lambda: ledger.dropped(reason))

    def publish() -> None:
        _settle(to_publish, ledger.published, 5, ledger.video_dropped)

    def sample() -> None:
        while not over.is_set():
            moments.append(ledger.snapshot())

    with started(sample), started(sample):
        in_threads(decode, lambda: infer(DropReason.STALE), lambda: infer(DropReason.SUPERSEDED), publish, publish)
        over.set()
    for moment in moments:
        assert_adds_up(moment)
    assert any(moment.in_flight for moment in moments)
    end = ledger.snapshot()
    assert (end.decoded, end.in_flight, end.queued) == (FRAMES, 0, 0)
    assert dropped(end) == 2 * -(-(FRAMES // 2) // 3)
    assert end.video_dropped == 2 * (FRAMES // 2 // 5)
    assert ledger.detections == end.inferred


def _settle(frames: threading.Semaphore, done: Callable[[], None], nth: int, drop: Callable[[], None]) -> None:
    """Half of the frames; every nth is dropped."""
    for number in range(FRAMES // 2):
        assert frames.acquire(timeout=20)
        (done if number % nth else drop)()


def test_the_end_of_publishing_can_be_waited_for() -> None:
    ledger = Ledger()
    assert ledger.wait_published(0)
    ledger.decoded()
    ledger.decoded()
    assert not ledger.wait_published(0.01)
    seen = threading.Event()
    with started(lambda: seen.set() if ledger.wait_published(20) else None):
        ledger.published()
        assert not seen.is_set()
        ledger.video_dropped()
        assert seen.wait(20)
