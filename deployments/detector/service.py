"""Requests into batches for the engine, on threads of the engine's own; plain Python.

The engine is made, used and closed by one thread (CUDA contexts demand it), unless it has several lanes: then each
batch is inferred by the next of as many threads. It reads packed frames where they lie: a copy into a staging buffer
would take 0.25 ms of CPU for 640x640, as much as anything else between a stream and its batch, and the slot is the
frame's own until it is answered. Frames that came as I420 are unpacked, on a thread that does so for the next batch
while one runs, into staging buffers of which there is one more than lanes. A frame of the wrong shape or type fails
alone, before the batch is put together.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import numpy as np

from deployments.detector.config import DetectorConfig, DetectorSettings
from deployments.detector.port import DetectReply, DetectRequest, InvalidFrame
from deployments.detector.speed import BatchTimes
from deployments.link.pictures import layout_of, shapes, unpacked
from engines.errors import EngineDead, EngineError, InferenceFailed
from engines.fake import FakeEngine
from engines.onnx import OnnxEngine
from engines.package import load_package
from engines.protocol import Engine
from engines.types import EngineInfo, Thresholds, UInt8Array

logger = logging.getLogger(__name__)

MAX_FAILURES = 3
"""Failed batches in a row, of one lane, that end the engine: a broken device fails for ever, batch by batch."""

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
    """A batch that is ready for the engine.

    Attributes:
        outcomes: one for each arrival: its refusal, or None where it is in ``frames``.
        buffer: the staging buffer that it holds, if any.
    """

    outcomes: list[Outcome | None]
    valid: list[Arrival]
    frames: list[UInt8Array]
    buffer: UInt8Array | None
    thresholds: list[Thresholds]


def load_engine(config: DetectorConfig) -> Engine:
    """The engine that ``config`` names. Raises PackageError where its package doesn't fit."""
    if config.engine == "fake":
        return FakeEngine(**config.fake.model_dump())
    return OnnxEngine(load_package(config.package), threads=config.threads, device=config.device)


class DetectorService:
    """Owns the engine and its threads."""

    def __init__(self, load: Callable[[], Engine], *, stuck_after_s: float) -> None:
        self._stuck_after_s = stuck_after_s
        self._owner = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._stager = ThreadPoolExecutor(1, thread_name_prefix="staging")
        self._lock = threading.Lock()
        self._busy_since: dict[int, float] = {}  # by thread
        self._dead: EngineDead | None = None
        self._failures: Counter[int] = Counter()  # in a row, by thread
        self.staging = BatchTimes()
        self.speed = BatchTimes()
        self.settings = DetectorSettings()
        self._engine = self._owner.submit(load).result()
        info, lanes = self._engine.info, self._engine.lanes
        self._lanes = self._owner if lanes == 1 else ThreadPoolExecutor(lanes, thread_name_prefix="lane")
        self._shapes = shapes(info)
        self._last_staged: Future[None] = Future()
        self._last_staged.set_result(None)
        self._free: SimpleQueue[UInt8Array] = SimpleQueue()
        for _ in range(lanes + 1):  # one that each lane reads, one that is being filled
            self._free.put(np.zeros((info.max_batch_size, info.height, info.width, 3), np.uint8))
        self._owner.submit(self._engine.warmup).result()
        for each in [self._lanes.submit(self._measure) for _ in range(lanes)]:
            each.result()

    def _measure(self) -> None:
        """Time the smallest and the largest batch: the speed is known before the first stream asks."""
        frame = np.zeros((self.info.height, self.info.width, 3), np.uint8)
        for frames in {1, self.max_batch_size}:
            for _ in range(WARM_BATCHES):
                started = time.monotonic()
                self._engine.infer([frame] * frames, [self.settings.thresholds()] * frames)
                self.speed.learn(frames, time.monotonic() - started)

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
            EngineDead: it failed for good, or a batch has been running for longer than ``stuck_after_s``.
        """
        with self._lock:
            busy_since = min(self._busy_since.values(), default=None)
        if self._dead is not None:
            raise self._dead
        if busy_since is not None and now - busy_since > self._stuck_after_s:
            raise EngineDead(
                f"the engine has been in one batch for {now - busy_since:.1f} s: this replica must be replaced"
            )

    def close(self) -> None:
        """Free the engine; waits for a running batch."""
        self._stager.shutdown()
        if self._lanes is not self._owner:
            self._lanes.shutdown()
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
            frames = [arrival.request.image for arrival in valid]
            if buffer is not None:
                started = time.monotonic()
                frames = [
                    unpacked(arrival.request.image, row, self.info, arrival.request.rows)
                    for arrival, row in zip(valid, buffer, strict=False)
                ]
                self.staging.learn(len(valid), time.monotonic() - started)
            default = self.settings.thresholds()
            thresholds = [arrival.request.thresholds or default for arrival in valid]
            self._lanes.submit(self._infer, _Staged(outcomes, valid, frames, buffer, thresholds), done)
        except Exception as error:
            logger.exception("a batch could not be put together")
            self._release(buffer)
            done.set_exception(error)

    def _release(self, buffer: UInt8Array | None) -> None:
        if buffer is not None:
            self._free.put(buffer)

    def _infer(self, staged: _Staged, done: Future[list[Outcome]]) -> None:
        served = iter(self._infer_valid(staged) if staged.valid else ())
        self._release(staged.buffer)
        done.set_result([next(served) if outcome is None else outcome for outcome in staged.outcomes])

    def _infer_valid(self, staged: _Staged) -> Sequence[Outcome]:
        arrivals, started, this = staged.valid, time.monotonic(), threading.get_ident()
        if self._dead is not None:
            return [self._dead] * len(arrivals)
        with self._lock:
            self._busy_since[this] = started
        try:
            found = self._engine.infer(staged.frames, staged.thresholds)
            took = time.monotonic() - started
            replies = [
                DetectReply(detections, started - arrival.at, took, len(arrivals))
                for arrival, detections in zip(arrivals, found, strict=True)
            ]
        except InferenceFailed as error:
            return [self._failed(error)] * len(arrivals)
        except Exception as error:
            logger.exception("the engine failed for good")
            dead = error if isinstance(error, EngineDead) else EngineDead(f"the engine failed: {error!r}")
            self._dead = dead
            return [dead] * len(arrivals)
        finally:
            with self._lock:
                del self._busy_since[this]
        self._failures[this] = 0
        self.speed.learn(len(arrivals), took)
        return replies

    def _failed(self, error: InferenceFailed) -> EngineError:
        """What a failed batch's callers get; the last one that may fail is the engine's end."""
        this = threading.get_ident()
        self._failures[this] += 1
        if self._failures[this] < MAX_FAILURES:
            logger.warning("a batch failed: %s", error)
            return error
        self._dead = EngineDead(f"{MAX_FAILURES} batches in a row failed, the last one so: {error}")
        return self._dead

    def _refusal(self, request: DetectRequest) -> InvalidFrame | None:
        if layout_of(request.image, self._shapes, request.rows) is not None:
            return None
        image = request.image
        seen = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        shape = " or ".join(str(list(shape)) for shape in self._shapes.values())
        return InvalidFrame(f"a frame must be uint8 {shape}; this one is {seen}")
