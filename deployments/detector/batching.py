"""Lets waiting frames into `@serve.batch` when the engine has room for them, and not before.

`@serve.batch` closes a batch when its wait is over even while the engine is busy, so small closed batches pile up
and never merge. Frames therefore wait in the `Scheduler`, where newer ones replace older ones, and are released a
batch's worth at a time: at once while the engine is idle; else shortly before it falls free, so that making them ready
overlaps with the batch that runs, and yet no frame grows old in a closed batch.

A release enters `@serve.batch` as one item, which fills its batch: so it never waits there, and its use of the wall
clock can delay nobody. Entering each frame as an item of its own would cost the event loop 0.3 ms of CPU a frame, as
`@serve.batch` inspects the signature of its function on every call.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from deployments.detector.port import DetectRequest
from deployments.detector.scheduler import Dropped, DropReason, Schedulable, Scheduler
from deployments.detector.service import Outcome
from deployments.detector.speed import BatchTimes

logger = logging.getLogger(__name__)

MAX_LANES = 64
"""Of the engine: `@serve.batch` must let that many batches run, and one more."""

LEAD_S = 0.003
"""From a release to the engine, beside making it ready: hand-overs, and `@serve.batch`'s loop."""


@dataclass(slots=True, eq=False)
class _UnderWay:
    """A release that the engine isn't done with.

    Attributes:
        ends_at: when it is expected to be.
        waits: whether all lanes were busy when it was released, so that it begins when another one ends.
    """

    size: int
    ends_at: float
    waits: bool


class WaitingFrame(Schedulable, Protocol):
    """A frame that somebody waits for."""

    @property
    def request(self) -> DetectRequest: ...

    @property
    def arrived_at(self) -> float: ...

    def settle(self, outcome: Outcome) -> None:
        """It was in a batch: the reply, or the error that all of the batch got."""
        ...

    def drop(self, reason: DropReason, detail: str) -> None:
        """It was in none."""
        ...


class Batcher:
    """Stands between all that offers frames and the engine.

    `offer` and `forget` may be called from any thread, the rest happens on ``loop``. Under way are at most as many
    releases as the engine has lanes, and one that is made ready meanwhile.

    Args:
        staging: how long it takes to make a batch ready.
        speed: how long the engine takes for it.
        infer: enters a release into `@serve.batch`, and returns an outcome for each frame, in order.
        fitting: how many of so many frames to infer at once, asked before each release.
        lanes: batches that the engine infers at the same time.
        engine_free_at: when it could go on with the next batch, last (monotonic); its detections may have been read
            later, and those of the batch before it are read meanwhile.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        scheduler: Scheduler[WaitingFrame],
        staging: BatchTimes,
        speed: BatchTimes,
        infer: Callable[[Sequence[WaitingFrame]], Awaitable[Sequence[Outcome]]],
        fitting: Callable[[int], int],
        lanes: int,
        engine_free_at: Callable[[], float],
    ) -> None:
        self.loop = loop
        self._scheduler = scheduler
        self._staging = staging
        self._speed = speed
        self._infer = infer
        self._fitting = fitting
        self._lanes = min(lanes, MAX_LANES)
        self._engine_free_at = engine_free_at
        self._lock = threading.Lock()
        self._pump_is_due = False  # one will come without a further call
        self._last_size = 0
        self._under_way: list[_UnderWay] = []  # oldest first
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def offer(self, frame: WaitingFrame) -> None:
        """Let a frame wait for its turn."""
        with self._lock:
            dropped = self._scheduler.offer(frame)
            due, self._pump_is_due = self._pump_is_due, True
        if not due:
            self.loop.call_soon_threadsafe(self._pump)
        if dropped is not None:
            _tell([dropped])

    @property
    def waiting(self) -> int:
        """Frames that wait for their turn."""
        with self._lock:
            return len(self._scheduler)

    @property
    def busy(self) -> bool:
        """Whether a frame waits or is with the engine."""
        return bool(self.waiting or self._under_way)

    def forget(self, stream: str) -> None:
        """Drop what waits of a stream that is gone."""
        with self._lock:
            dropped = self._scheduler.forget(stream)
        _tell(dropped)

    def _pump(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = time.monotonic()
        full = len(self._under_way) > self._lanes
        with self._lock:
            waiting = len(self._scheduler)
            wait_s = self._wait_s(self._fitting(max(waiting, self._last_size)), now)
            self._pump_is_due = full or bool(waiting and wait_s > 0)
        if full or not waiting:
            return  # the end of a batch, or the next offer, comes back here
        if wait_s > 0:
            self._timer = self.loop.call_later(wait_s, self._pump)
            return
        with self._lock:
            release = self._scheduler.release(now, self._fitting(-(-waiting // self._lanes)))  # all lanes get some
        if release.frames:
            self._start(release.frames, now)
        _tell(release.dropped)
        if release.frames:
            self._pump()  # for what had no room: it goes shortly before this release is done

    def _wait_s(self, frames: int, now: float) -> float:
        """How long not to release yet, when as many frames are to be made ready."""
        free_at = self._free_at()
        return 0.0 if free_at is None else free_at - LEAD_S - self._staging.seconds(frames) - now

    def _free_at(self) -> float | None:
        """When a lane is expected to be free, None where one is."""
        if len(self._under_way) < self._lanes:
            return None
        return min(release.ends_at for release in self._under_way)

    def _start(self, frames: Sequence[WaitingFrame], now: float) -> None:
        size = self._last_size = len(frames)
        free_at = self._free_at()
        begins_at = now if free_at is None else max(now, free_at)
        release = _UnderWay(size, begins_at + self._speed.seconds(size), free_at is not None)
        self._under_way.append(release)
        task = self.loop.create_task(self._run(frames, release))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, frames: Sequence[WaitingFrame], release: _UnderWay) -> None:
        try:
            outcomes = await self._infer(frames)
        except asyncio.CancelledError:
            _tell([Dropped(frame, DropReason.FAILED, "the detector is leaving") for frame in frames])
            raise
        except Exception as error:
            logger.exception("a batch failed")
            why = f"the batch failed: {type(error).__name__}"
            _tell([Dropped(frame, DropReason.FAILED, why) for frame in frames])
        else:
            for frame, outcome in zip(frames, outcomes, strict=True):
                _settle(frame, outcome)
        finally:
            self._ended(release)

    def _ended(self, ended: _UnderWay) -> None:
        self._under_way.remove(ended)
        for release in self._under_way:
            if release.waits:  # it began when the engine was free, whenever that was expected
                release.waits, release.ends_at = False, self._engine_free_at() + self._speed.seconds(release.size)
        self._pump()


def _settle(frame: WaitingFrame, outcome: Outcome) -> None:
    try:
        frame.settle(outcome)
    except Exception:  # others wait too
        logger.exception("nobody could be told of a reply")


def _tell(dropped: Sequence[Dropped[WaitingFrame]]) -> None:
    for drop in dropped:
        try:
            drop.frame.drop(drop.reason, drop.detail)
        except Exception:  # others wait too
            logger.exception("nobody could be told of a dropped frame")
