"""The engine's threads: each infers one batch at a time, or keeps several under way where the engine can."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from deployments.detector.health import EngineHealth
from engines.errors import EngineError
from engines.protocol import Engine, PipelinedEngine
from engines.types import Detections, Thresholds, UInt8Array

LOOK_S = 0.0002
"""Between two looks at a batch under way while there is room for another: a fiftieth of one that takes 10 ms."""

SURELY = 0.8
"""Share of a batch's time during which nobody looks: so its last fifth costs some ten looks, not fifty."""

GROWTH = 1.25
"""By how much the first look may move back from one batch to the next: a batch that the device held up says little."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one batch.

    Attributes:
        found: one for each frame, or why there is none.
        started_at: when the engine got it (monotonic).
        took_s: how long the engine had it.
        cost_s: how much of that nothing else used: from when it was with the engine and the batch before it was done,
            until the engine could go on with the next one.
        free_at: when that was (monotonic).
    """

    found: list[Detections] | EngineError
    started_at: float
    took_s: float
    cost_s: float
    free_at: float


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that is ready for the engine; both calls come on a thread of the engine's.

    Attributes:
        read: its frames may be reused; they took so many seconds to be copied to where the engine needs them.
        done: its answer.
    """

    frames: Sequence[UInt8Array]
    thresholds: Sequence[Thresholds]
    read: Callable[[float], None]
    done: Callable[[Answer], None]


class Lanes(Protocol):
    """What infers batches, in the order in which they come."""

    def submit(self, batch: Batch) -> None:
        """Infer it when its turn comes; from any thread, at once."""
        ...

    def close(self) -> None:
        """Infer what is left, and end."""
        ...


class WholeBatches:
    """Infers one batch at a time on each thread."""

    def __init__(self, engine: Engine, threads: ThreadPoolExecutor, health: EngineHealth) -> None:
        self._engine, self._threads, self._health = engine, threads, health

    def submit(self, batch: Batch) -> None:
        """See `Lanes.submit`."""
        self._threads.submit(self._infer, batch)

    def close(self) -> None:
        """See `Lanes.close`. The engine's own thread stays, to close it."""
        if self._engine.lanes > 1:
            self._threads.shutdown()

    def _infer(self, batch: Batch) -> None:
        started = time.monotonic()
        self._health.busy(started)
        found = self._health.attempt(lambda: checked(self._engine.infer(batch.frames, batch.thresholds), batch))
        if not isinstance(found, EngineError):
            self._health.succeeded()
        self._health.idle()
        now = time.monotonic()
        batch.read(0.0)
        batch.done(Answer(found, started, now - started, now - started, now))


@dataclass(slots=True)
class _UnderWay:
    """A batch that was started: ``ready_at`` is when all of it was with the engine; it was looked at so many times."""

    batch: Batch
    ticket: Any
    started_at: float
    ready_at: float
    looks: int = 0


class FirstLooks:
    """When to look at a batch for the first time, by its size: learnt so that it isn't done yet by then.

    A batch that is found done at the first look may have been so for long: nobody can tell its time, and to take the
    time of the look for it would keep a look that is too late where it is. So such a look moves half way forward.
    """

    def __init__(self) -> None:
        self._after_s: dict[int, float] = {}

    def after_s(self, frames: int) -> float:
        """How long after its turn began."""
        return self._after_s.get(frames, 0.0)

    def learn(self, frames: int, took_s: float, *, at_first_look: bool) -> None:
        """A batch was found done ``took_s`` after its turn began."""
        before = self.after_s(frames)
        if at_first_look:
            self._after_s[frames] = before / 2
        else:
            self._after_s[frames] = min(SURELY * took_s, GROWTH * before + LOOK_S)


class OverlappingBatches:
    """Starts a batch that is there while the engine is busy with another, so that its copies overlap.

    One thread, the engine's, starts and finishes them all. While there is room for another batch it waits for one,
    and looks now and then whether the oldest is ready; otherwise it waits for the oldest alone.
    """

    def __init__(self, engine: PipelinedEngine, thread: ThreadPoolExecutor, health: EngineHealth) -> None:
        self._engine, self._health = engine, health
        self._first_looks = FirstLooks()
        self._waiting: SimpleQueue[Batch | None] = SimpleQueue()
        self._under_way: deque[_UnderWay] = deque()
        self._free_at = 0.0  # when the latest batch was done
        self._running = thread.submit(self._run)

    def submit(self, batch: Batch) -> None:
        """See `Lanes.submit`."""
        self._waiting.put(batch)

    def close(self) -> None:
        """See `Lanes.close`."""
        self._waiting.put(None)
        self._running.result()

    def _run(self) -> None:
        self._health.attempt(self._serve)  # where that fails, nobody starts or finishes anything any more

    def _serve(self) -> None:
        open_ = True
        while open_ or self._under_way:
            if open_ and len(self._under_way) < self._engine.depth:
                try:
                    batch = self._waiting.get(timeout=self._pause_s())
                except Empty:
                    if self._is_ready():
                        self._finish()
                    continue
                open_ = batch is not None
                if batch is not None:
                    self._start(batch)
            else:
                self._finish()

    def _pause_s(self) -> float | None:
        """How long to wait for another batch before the oldest is looked at; None while none is under way."""
        if not self._under_way:
            return None
        oldest = self._under_way[0]
        if oldest.looks:
            return LOOK_S
        return max(LOOK_S, self._began(oldest) + self._first_looks.after_s(len(oldest.batch.frames)) - time.monotonic())

    def _began(self, batch: _UnderWay) -> float:
        """When its turn began: it was with the engine, and the one before it was done."""
        return max(batch.ready_at, self._free_at)

    def _is_ready(self) -> bool:
        """Whether to finish the oldest: also where the engine is dead, since nobody waits for it then."""
        oldest = self._under_way[0]
        oldest.looks += 1
        return self._health.attempt(lambda: self._engine.ready(oldest.ticket)) is not False

    def _start(self, batch: Batch) -> None:
        started = time.monotonic()
        if not self._under_way:
            self._health.busy(started)
        ticket = self._health.attempt(lambda: self._engine.start(batch.frames, batch.thresholds))
        if isinstance(ticket, EngineError):
            self._rest()
            batch.read(0.0)
            now = time.monotonic()
            batch.done(Answer(ticket, started, now - started, 0.0, now))
            return
        ready = time.monotonic()
        self._under_way.append(_UnderWay(batch, ticket, started, ready))
        batch.read(ready - started)

    def _finish(self) -> None:
        oldest = self._under_way.popleft()
        self._health.attempt(lambda: self._engine.wait(oldest.ticket))  # `finish` fails too, where this does
        free_at = time.monotonic()
        cost = free_at - self._began(oldest)
        self._first_looks.learn(len(oldest.batch.frames), cost, at_first_look=oldest.looks == 1)
        self._free_at = free_at
        found = self._health.attempt(lambda: checked(self._engine.finish(oldest.ticket), oldest.batch))
        if not isinstance(found, EngineError):
            self._health.succeeded()
        self._rest()
        oldest.batch.done(Answer(found, oldest.started_at, time.monotonic() - oldest.started_at, cost, free_at))

    def _rest(self) -> None:
        """A batch is done: the next one under way is in its turn from now on."""
        if self._under_way:
            self._health.busy(time.monotonic())
        else:
            self._health.idle()


def checked(found: list[Detections], batch: Batch) -> list[Detections]:
    """Raises ValueError where an engine doesn't answer each frame."""
    if len(found) != len(batch.frames):
        raise ValueError(f"{len(found)} answers for {len(batch.frames)} frames")
    return found


def lanes_of(engine: Engine, owner: ThreadPoolExecutor, health: EngineHealth) -> Lanes:
    """What suits the engine; ``owner`` is the thread that made it, and does all where there is one lane."""
    if isinstance(engine, PipelinedEngine):
        return OverlappingBatches(engine, owner, health)
    if engine.lanes == 1:
        return WholeBatches(engine, owner, health)
    return WholeBatches(engine, ThreadPoolExecutor(engine.lanes, thread_name_prefix="lane"), health)
