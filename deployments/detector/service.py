"""Requests into batches for the engine, on threads of the engine's own; plain Python.

The engine is made, used and closed by one thread (CUDA contexts demand it), unless it has several lanes: then each
batch is inferred by the next of as many threads (`deployments.detector.lanes`). It reads packed frames where they lie:
a copy into a staging buffer would take 0.25 ms of CPU for 640x640, as much as anything else between a stream and its
batch, and the slot is the frame's own until it is answered. Frames that came as I420 are unpacked, on a thread that
does so for the next batch while one runs, into staging buffers of which there is one more than lanes. A frame of the
wrong shape or type fails alone, before the batch is put together.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import numpy as np

from deployments.detector.config import DetectorConfig, DetectorSettings
from deployments.detector.health import EngineHealth, patience_s
from deployments.detector.lanes import Answer, Batch, lanes_of
from deployments.detector.port import DetectReply, DetectRequest, InvalidFrame
from deployments.detector.speed import BatchTimes
from deployments.link.pictures import layout_of, shapes, unpacked
from engines.choose import open_engine
from engines.errors import EngineError
from engines.fake import FakeEngine
from engines.package import load_package
from engines.protocol import Engine, PipelinedEngine
from engines.types import EngineInfo, UInt8Array

logger = logging.getLogger(__name__)

UNPACKED_AT_ONCE = 2
"""Frames at most that are unpacked on the caller's thread: waking another one costs more than they do."""

WARM_BATCHES = 3
"""Batches of each end of the range that are timed before the first frame: the median of three bears one outlier."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request and the monotonic time at which it reached the replica."""

    request: DetectRequest
    at: float


Outcome = DetectReply | InvalidFrame | EngineError


@dataclass(frozen=True, slots=True)
class _Staged:
    """What is to be told of a batch that is with the engine.

    Attributes:
        outcomes: one for each arrival: its refusal, or None where it is in ``valid``.
        buffer: the staging buffer that it holds, if any.
        unpacking_s: how long it took to fill it.
    """

    outcomes: list[Outcome | None]
    valid: list[Arrival]
    buffer: UInt8Array | None
    unpacking_s: float


def load_engine(config: DetectorConfig) -> Engine:
    """The engine that ``config`` names, or the best of those that it allows.

    Raises:
        PackageError: its package doesn't fit.
        EngineError: none of them can be used here; the message says why, for each.
    """
    if config.engine == "fake":
        return FakeEngine(**config.fake.model_dump())
    return open_engine(load_package(config.package), config.engines, config.threads)


class DetectorService:
    """Owns the engine and its threads."""

    def __init__(self, load: Callable[[], Engine], *, stuck_after_s: float | None) -> None:
        self._health = EngineHealth()
        self._owner = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._stager = ThreadPoolExecutor(1, thread_name_prefix="staging")
        self.staging = BatchTimes()
        self.speed = BatchTimes()
        self.settings = DetectorSettings()
        self._engine = self._owner.submit(load).result()
        info, lanes = self._engine.info, self._engine.lanes
        self._overlaps = isinstance(self._engine, PipelinedEngine)
        self._shapes = shapes(info)
        self.free_at = 0.0  # when the engine could go on with the next batch, last (monotonic)
        self._last_staged: Future[None] = Future()
        self._last_staged.set_result(None)
        self._free: SimpleQueue[UInt8Array] = SimpleQueue()
        for _ in range(lanes + 1):  # one that each lane reads, one that is being filled
            self._free.put(np.zeros((info.max_batch_size, info.height, info.width, 3), np.uint8))
        self._owner.submit(self._engine.warmup).result()
        self._lanes = lanes_of(self._engine, self._owner, self._health)
        self._measure()
        slowest_s = self.speed.seconds(self.max_batch_size)
        self._health.patience_s = patience_s(stuck_after_s, info.device, slowest_s)

    def _measure(self) -> None:
        """Time the smallest and the largest batch: the speed is known before the first stream asks."""
        frame = np.zeros((self.info.height, self.info.width, 3), np.uint8)
        for frames in {1, self.max_batch_size}:
            arrivals = [Arrival(DetectRequest(frame, None), time.monotonic())] * frames
            for running in [self.submit(arrivals) for _ in range(WARM_BATCHES * self.lanes)]:
                for outcome in running.result():
                    if isinstance(outcome, EngineError):
                        raise outcome

    @property
    def info(self) -> EngineInfo:
        """What is loaded."""
        return self._engine.info

    @property
    def lanes(self) -> int:
        """Batches that are inferred at the same time."""
        return self._engine.lanes

    @property
    def max_batch_size(self) -> int:
        """What both the settings and the engine allow."""
        return min(self.settings.max_batch_size, self.info.max_batch_size)

    def fitting(self, frames: int) -> int:
        """How many of so many frames to infer at once.

        Where the engine knows a few sizes only, the largest that they fill: five frames take a YOLOv9-e on an H100
        43 ms, as long as eight do, but four 21 ms and one more 7 ms.
        """
        most = min(frames, self.max_batch_size)
        sizes = self._engine.buckets if isinstance(self._engine, PipelinedEngine) else (most,)
        return max((size for size in sizes if size <= most), default=most)

    @property
    def engine_fps(self) -> float:
        """Frames a second of the engine, measured over the latest batches of each size."""
        return self.speed.frames_per_second() * self.lanes

    def submit(self, arrivals: Sequence[Arrival]) -> Future[list[Outcome]]:
        """Infer one batch; one outcome for each arrival, in order. Its pictures must stay as they are until then."""
        done: Future[list[Outcome]] = Future()
        done.set_running_or_notify_cancel()  # from now on nobody can cancel it
        outcomes: list[Outcome | None] = [self._refusal(arrival.request) for arrival in arrivals]
        valid = [arrival for arrival, refusal in zip(arrivals, outcomes, strict=True) if refusal is None]
        to_unpack = sum(arrival.request.image.ndim == 2 for arrival in valid)
        if to_unpack <= UNPACKED_AT_ONCE and self._last_staged.done():  # so that no batch overtakes another
            with suppress(Empty):
                self._stage(self._free.get_nowait() if to_unpack else None, outcomes, valid, done)
                return done
        self._last_staged = self._stager.submit(
            lambda: self._stage(self._free.get() if to_unpack else None, outcomes, valid, done)
        )
        return done

    def check_health(self, now: float) -> None:
        """Return while the engine is well.

        Raises:
            EngineDead: it failed for good, or a batch has been running for longer than it may (`health.patience_s`).
        """
        self._health.check(now)

    def close(self) -> None:
        """Free the engine; waits for a running batch."""
        self._stager.shutdown()
        self._lanes.close()
        self._owner.submit(self._engine.close).result()
        self._owner.shutdown()

    def _stage(
        self,
        buffer: UInt8Array | None,
        outcomes: list[Outcome | None],
        valid: list[Arrival],
        done: Future[list[Outcome]],
    ) -> None:
        try:
            if len(valid) > self.info.max_batch_size:
                raise ValueError(f"{len(valid)} frames are more than the {self.info.max_batch_size} of a batch")
            frames, unpacking_s = [arrival.request.image for arrival in valid], 0.0
            if buffer is not None:
                started = time.monotonic()
                frames = [
                    unpacked(arrival.request.image, row, self.info, arrival.request.rows)
                    for arrival, row in zip(valid, buffer, strict=False)
                ]
                unpacking_s = time.monotonic() - started
                if not self._overlaps:
                    self.staging.learn(len(valid), unpacking_s)
            default = self.settings.thresholds()
            thresholds = [arrival.request.thresholds or default for arrival in valid]
            staged = _Staged(outcomes, valid, buffer, unpacking_s)
            if not valid:
                self._answer(staged, done, ())
                return
            self._lanes.submit(
                Batch(
                    frames,
                    thresholds,
                    lambda took_s: self._read(staged, took_s),
                    lambda answer: self._done(staged, done, answer),
                )
            )
        except Exception as error:
            logger.exception("a batch could not be put together")
            self._release(buffer)
            done.set_exception(error)

    def _release(self, buffer: UInt8Array | None) -> None:
        if buffer is not None:
            self._free.put(buffer)

    def _read(self, staged: _Staged, took_s: float) -> None:
        """An engine that overlaps copies its frames while it is busy with others: that is part of making them ready."""
        self._release(staged.buffer)
        if self._overlaps:
            self.staging.learn(len(staged.valid), staged.unpacking_s + took_s)

    def _done(self, staged: _Staged, done: Future[list[Outcome]], answer: Answer) -> None:
        self.free_at = answer.free_at
        if isinstance(answer.found, EngineError):
            self._answer(staged, done, [answer.found] * len(staged.valid))
            return
        self.speed.learn(len(staged.valid), answer.cost_s)
        replies = [
            DetectReply(detections, answer.started_at - arrival.at, answer.took_s, len(staged.valid))
            for arrival, detections in zip(staged.valid, answer.found, strict=True)
        ]
        self._answer(staged, done, replies)

    def _answer(self, staged: _Staged, done: Future[list[Outcome]], served: Sequence[Outcome]) -> None:
        each = iter(served)
        done.set_result([next(each) if outcome is None else outcome for outcome in staged.outcomes])

    def _refusal(self, request: DetectRequest) -> InvalidFrame | None:
        if layout_of(request.image, self._shapes, request.rows) is not None:
            return None
        image = request.image
        seen = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        shape = " or ".join(str(list(shape)) for shape in self._shapes.values())
        return InvalidFrame(f"a frame must be uint8 {shape}; this one is {seen}")
