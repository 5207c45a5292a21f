"""Several batches under way: when they start, who gets which answer, what they cost, and who is stuck."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.detector import lanes
from deployments.detector.config import DetectorSettings
from deployments.detector.health import MAX_FAILURES, EngineHealth
from deployments.detector.lanes import LOOK_S, SURELY, Answer, Batch, FirstLooks, OverlappingBatches
from deployments.detector.port import DetectReply, DetectRequest
from deployments.detector.service import Arrival, DetectorService, Outcome
from engines.errors import EngineDead, InferenceFailed
from engines.fake import FakeEngine
from engines.types import Detections, Thresholds, UInt8Array
from tests.support.waiting import until

SIDE = 32
STUCK_S = 5.0

ENOUGH = 16
"""Batches that push what was measured before them out of the upper quartile."""


@dataclass(eq=False)
class Run:
    """A batch that the engine has; it is computed when the test lets it."""

    columns: list[int]
    limits: Sequence[Thresholds]
    frames: list[UInt8Array]
    computed: threading.Event = field(default_factory=threading.Event)


class OverlappingEngine(FakeEngine):
    """A `FakeEngine` with two batches under way, each of which waits for the test once `held`."""

    depth = 2
    buckets = (1, 2, 4, 8)

    def __init__(self) -> None:
        super().__init__(width=SIDE, height=SIDE, max_batch_size=8)
        self.held = False
        self.started: list[Run] = []
        self.finished: list[Run] = []
        self.threads: set[int] = set()
        self.start_fails: Exception | None = None
        self.finish_fails: Exception | None = None

    def start(self, frames: Sequence[UInt8Array], thresholds: Sequence[Thresholds]) -> Run:
        self.threads.add(threading.get_ident())
        if self.start_fails is not None:
            raise self.start_fails
        assert len(self.started) - len(self.finished) < self.depth
        columns = [int(np.flatnonzero(frame.max(axis=(0, 2)))[0]) if frame.any() else -1 for frame in frames]
        run = Run(columns, thresholds, [frame.copy() for frame in frames])
        if not self.held:
            run.computed.set()
        self.started.append(run)
        return run

    def ready(self, ticket: Run) -> bool:
        return ticket.computed.is_set()

    def wait(self, ticket: Run) -> None:
        ticket.computed.wait()

    def finish(self, ticket: Run) -> list[Detections]:
        self.threads.add(threading.get_ident())
        assert ticket is self.started[len(self.finished)]
        ticket.computed.wait()
        self.finished.append(ticket)
        if self.finish_fails is not None:
            raise self.finish_fails
        return super().infer(ticket.frames, ticket.limits)


def arrival(number: int) -> Arrival:
    frame = np.zeros((SIDE, SIDE, 3), np.uint8)
    frame[3, number] = 255
    return Arrival(DetectRequest(frame, None), time.monotonic())


def columns(batch: Future[list[Outcome]]) -> list[int]:
    found = []
    for outcome in batch.result(20):
        assert isinstance(outcome, DetectReply)
        found.append(int(outcome.detections.xyxy[0][0]))
    return found


@dataclass
class Rig:
    engine: OverlappingEngine
    service: DetectorService

    def submit(self, *numbers: int) -> Future[list[Outcome]]:
        return self.service.submit([arrival(number) for number in numbers])

    def under_way(self) -> list[list[int]]:
        return [run.columns for run in self.engine.started[len(self.engine.finished) :]]


@pytest.fixture
def rig() -> Iterator[Rig]:
    engine = OverlappingEngine()
    service = DetectorService(lambda: engine, stuck_after_s=STUCK_S)
    engine.held = True
    yield Rig(engine, service)
    engine.held = False
    for run in engine.started:
        run.computed.set()
    service.close()


def test_a_batch_starts_while_another_runs_and_no_third(rig: Rig) -> None:
    first = rig.submit(1, 2)
    until(lambda: rig.under_way() == [[1, 2]])
    second = rig.submit(3)
    until(lambda: rig.under_way() == [[1, 2], [3]])
    third = rig.submit(4, 5)
    rig.engine.started[-2].computed.set()
    assert columns(first) == [1, 2]
    until(lambda: rig.under_way() == [[3], [4, 5]])
    assert not second.done()
    for run in rig.engine.started:
        run.computed.set()
    assert (columns(second), columns(third)) == ([3], [4, 5])
    assert len(rig.engine.threads) == 1


def test_a_lone_batch_is_answered_without_another(rig: Rig) -> None:
    alone = rig.submit(7)
    until(lambda: rig.under_way() == [[7]])
    rig.engine.started[-1].computed.set()
    assert columns(alone) == [7]


def test_closing_answers_what_is_left(rig: Rig) -> None:
    batches = [rig.submit(number) for number in range(1, 6)]
    until(lambda: len(rig.under_way()) == 2)
    rig.engine.held = False
    for run in rig.engine.started:
        run.computed.set()
    rig.service._lanes.close()
    assert [columns(batch) for batch in batches] == [[1], [2], [3], [4], [5]]
    rig.service._lanes = lanes.WholeBatches(rig.engine, rig.service._owner, EngineHealth(STUCK_S))


def test_a_batch_that_cannot_start_fails_alone(rig: Rig) -> None:
    first = rig.submit(1)
    until(lambda: rig.under_way() == [[1]])
    rig.engine.start_fails = InferenceFailed("refused")
    (outcome,) = rig.submit(2).result(20)
    assert isinstance(outcome, InferenceFailed)
    rig.engine.start_fails = None
    second = rig.submit(3)
    for run in rig.engine.started:
        run.computed.set()
    until(lambda: len(rig.engine.started) >= 2)
    rig.engine.started[-1].computed.set()
    assert columns(first) == [1]
    until(lambda: all(run.computed.set() is None for run in rig.engine.started) and second.done())
    assert columns(second) == [3]
    rig.service.check_health(time.monotonic())


def test_batches_that_fail_in_a_row_end_the_engine(rig: Rig) -> None:
    rig.engine.held = False
    rig.engine.finish_fails = InferenceFailed("no answer")
    outcomes = [rig.submit(1).result(20)[0] for _ in range(MAX_FAILURES)]
    assert [type(outcome) for outcome in outcomes] == [InferenceFailed, InferenceFailed, EngineDead]
    with pytest.raises(EngineDead, match="in a row"):
        rig.service.check_health(time.monotonic())


@pytest.mark.parametrize("error", [EngineDead("it fell off the bus"), MemoryError("it fell off the bus")])
def test_when_the_engine_dies_all_batches_under_way_are_told(rig: Rig, error: Exception) -> None:
    batches = [rig.submit(number) for number in (1, 2, 3)]
    until(lambda: len(rig.under_way()) == 2)
    finished = len(rig.engine.finished)
    rig.engine.finish_fails = error
    rig.engine.started[-2].computed.set()  # the second one never is, and nobody waits for it
    for batch in batches:
        (outcome,) = batch.result(20)
        assert isinstance(outcome, EngineDead)
    assert len(rig.engine.finished) == finished + 1
    with pytest.raises(EngineDead, match="fell off the bus"):
        rig.service.check_health(time.monotonic())


def test_a_batch_counts_as_stuck_from_its_turn_on(rig: Rig) -> None:
    before_first = time.monotonic()
    first = rig.submit(1)
    second = rig.submit(2)
    until(lambda: len(rig.under_way()) == 2)
    both_run = time.monotonic()
    rig.service.check_health(before_first + STUCK_S)
    with pytest.raises(EngineDead, match="must be replaced"):
        rig.service.check_health(both_run + STUCK_S + 0.001)
    until(lambda: time.monotonic() > both_run)
    its_turn = time.monotonic()
    rig.engine.started[-2].computed.set()
    assert columns(first) == [1]
    rig.service.check_health(its_turn + STUCK_S)  # the second was started before that
    with pytest.raises(EngineDead, match="must be replaced"):
        rig.service.check_health(time.monotonic() + STUCK_S + 0.001)
    rig.engine.started[-1].computed.set()
    assert columns(second) == [2]
    rig.service.check_health(time.monotonic() + 10 * STUCK_S)


class Clock:
    """Time as an engine uses it up: it takes ``copy_s`` of its thread, then ``compute_s`` of a device after the one
    before it."""

    depth = 2
    lanes = 1

    def __init__(self, copy_s: float, compute_s: float) -> None:
        self.copy_s, self.compute_s = copy_s, compute_s
        self.now = self.device_free_at = 0.0
        self.gate = threading.Event()

    def start(self, frames: Sequence[UInt8Array], thresholds: Sequence[Thresholds]) -> float:
        self.gate.wait()
        self.now += self.copy_s
        self.device_free_at = max(self.device_free_at, self.now) + self.compute_s
        return self.device_free_at

    def ready(self, ticket: float) -> bool:
        return True  # nothing else comes: `finish` waits

    def wait(self, ticket: float) -> None:
        self.now = max(self.now, ticket)

    def finish(self, ticket: float) -> list[Detections]:
        return [Detections.empty()]


def answers(engine: Clock, batches: int, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Answer], list[float]]:
    """What becomes of so many batches of one frame that are all there at once, and how long their copies took."""
    monkeypatch.setattr(lanes.time, "monotonic", lambda: engine.now)
    got: list[Answer] = []
    copies: list[float] = []
    with ThreadPoolExecutor(1) as thread:
        running = OverlappingBatches(engine, thread, EngineHealth(STUCK_S))  # type: ignore[arg-type]
        for _ in range(batches):
            running.submit(Batch([np.zeros(1, np.uint8)], [Thresholds()], copies.append, got.append))
        engine.gate.set()
        running.close()
    monkeypatch.undo()
    return got, copies


@pytest.mark.parametrize(("copy_s", "compute_s"), [(1.0, 8.0), (0.0, 8.0), (8.0, 1.0)])
def test_at_full_load_a_batch_costs_the_time_since_the_one_before(
    monkeypatch: pytest.MonkeyPatch, copy_s: float, compute_s: float
) -> None:
    got, copies = answers(Clock(copy_s, compute_s), 6, monkeypatch)
    assert copies == [copy_s] * 6
    finishes = [answer.started_at + answer.took_s for answer in got]
    gaps = [later - earlier for earlier, later in itertools.pairwise(finishes)][:-1]  # the last one's had no next
    assert gaps == [max(copy_s, compute_s)] * 4
    assert [answer.cost_s for answer in got[1:-1]] == gaps


def test_a_lone_batch_costs_no_more_than_the_device_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    (answer,), copies = answers(Clock(2.0, 5.0), 1, monkeypatch)
    assert (answer.cost_s, answer.took_s, copies) == (5.0, 7.0, [2.0])


def test_copies_are_part_of_making_a_batch_ready() -> None:
    """So that the batcher lets it go early enough."""

    class SlowCopies(OverlappingEngine):
        delay: Callable[[], object] = staticmethod(lambda: None)

        def start(self, frames: Sequence[UInt8Array], thresholds: Sequence[Thresholds]) -> Run:
            self.delay()
            return super().start(frames, thresholds)

    engine = SlowCopies()
    service = DetectorService(lambda: engine, stuck_after_s=STUCK_S)
    engine.delay = lambda: threading.Event().wait(0.05)
    for _ in range(ENOUGH):
        service.submit([arrival(1)]).result(20)
    assert service.staging.seconds(1) >= 0.05
    assert service.speed.seconds(1) < 0.05
    service.close()


@given(st.floats(0.0005, 1.0), st.lists(st.floats(0.0005, 10.0), max_size=5))
def test_the_first_look_finds_its_way_to_shortly_before_the_end(steady_s: float, hiccups: list[float]) -> None:
    """Whatever the device did before: from then on few looks come too late, and then by little."""
    looks = FirstLooks()

    def seen_after(took_s: float) -> float:
        first = max(LOOK_S, looks.after_s(4))
        late = first >= took_s
        seen = first if late else first + LOOK_S * math.ceil((took_s - first) / LOOK_S)
        looks.learn(4, seen, at_first_look=late)
        return seen

    for took_s in [*hiccups, *[steady_s] * 60]:
        seen_after(took_s)
    assert all(seen_after(steady_s) <= steady_s + 2 * LOOK_S for _ in range(20))
    assert looks.after_s(4) >= 0.4 * steady_s - LOOK_S


def test_each_size_is_looked_at_in_its_own_time() -> None:
    looks = FirstLooks()
    for _ in range(60):
        looks.learn(8, 0.04, at_first_look=False)
    assert looks.after_s(8) == pytest.approx(SURELY * 0.04)
    assert looks.after_s(4) == 0.0


def test_a_batch_fills_a_size_that_the_engine_knows(rig: Rig) -> None:
    fits = [rig.service.fitting(waiting) for waiting in range(1, 12)]
    assert fits == [1, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8]
    rig.service.settings = DetectorSettings(max_batch_size=5)
    assert [rig.service.fitting(waiting) for waiting in (3, 5, 9)] == [2, 4, 4]


def test_an_engine_of_any_size_gets_all_that_waits() -> None:
    service = DetectorService(lambda: FakeEngine(max_batch_size=8), stuck_after_s=STUCK_S)
    assert [service.fitting(waiting) for waiting in (1, 3, 7, 8, 9)] == [1, 3, 7, 8, 8]
    service.close()
