"""An engine with no model, for tests and benchmarks: known answers, known times, failures on demand."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engines.batches import check_batch
from engines.errors import EngineDead, InferenceFailed
from engines.types import Detections, EngineInfo, Thresholds, UInt8Array

BRIGHT = 128
"""A pixel is bright when one of its channels reaches this."""


class FakeEngine:
    """Finds the bright area of each frame and takes ``fixed_ms + per_frame_ms * B`` for it.

    A frame with bright pixels has one object of class 0: the box around all of them, with the brightest value
    divided by 255 as the confidence. A dark frame has none. Batches hang while a file named ``hang_while`` exists, for
    those who can't call the engine in its process. `fail_next`, `die`, `hang` and `resume` may be called from
    any thread.
    """

    def __init__(
        self,
        fixed_ms: float = 0.0,
        per_frame_ms: float = 0.0,
        max_batch_size: int = 8,
        width: int = 416,
        height: int = 416,
        class_names: tuple[str, ...] = ("bright",),
        stride: int = 1,
        hang_while: Path | None = None,
        lanes: int = 1,
    ) -> None:
        """``stride``: looks at each n-th row and column only, so that finding the box costs next to nothing."""
        self._fixed_s = fixed_ms / 1000
        self._per_frame_s = per_frame_ms / 1000
        self._stride = stride
        self._info = EngineInfo("fake", "fake", width, height, "bgr", class_names, max_batch_size, "cpu")
        self._hang_while = hang_while
        self._lanes = lanes
        self._lock = threading.Lock()
        self._failures = 0
        self._dead: str | None = None
        self._flowing = threading.Event()
        self._flowing.set()

    @property
    def lanes(self) -> int:
        """Batches that it infers at the same time."""
        return self._lanes

    @property
    def info(self) -> EngineInfo:
        """What would be loaded."""
        return self._info

    def fail_next(self, batches: int = 1) -> None:
        """Make the next batches raise InferenceFailed."""
        with self._lock:
            self._failures = batches

    def die(self) -> None:
        """Make all further batches raise EngineDead, one that hangs included."""
        self._stop("was told to die")

    def hang(self) -> None:
        """Make the next batches wait until `resume`, `die` or `close`."""
        self._flowing.clear()

    def resume(self) -> None:
        """End `hang`; waiting batches go on."""
        self._flowing.set()

    def warmup(self) -> None:
        """Do nothing: the first frame is as fast as the others."""

    def infer(self, frames: Sequence[UInt8Array], thresholds: Sequence[Thresholds]) -> list[Detections]:
        """Find the bright areas; see `Engine.infer`."""
        ends = time.monotonic() + self._fixed_s + self._per_frame_s * len(frames)
        check_batch(frames, thresholds, self._info)
        self._flowing.wait()
        while self._hang_while is not None and self._hang_while.exists():
            time.sleep(0.01)
        with self._lock:
            if self._dead is not None:
                raise EngineDead(f"the fake engine {self._dead}; make a new one")
            fails = self._failures > 0
            self._failures -= fails
        found = [] if fails else [self._find(frame, limits) for frame, limits in zip(frames, thresholds, strict=True)]
        time.sleep(max(0.0, ends - time.monotonic()))
        if fails:
            raise InferenceFailed("the fake engine was told to fail this batch")
        return found

    def close(self) -> None:
        """Make all further batches raise EngineDead."""
        self._stop("is closed")

    def _find(self, frame: UInt8Array, limits: Thresholds) -> Detections:
        found = _bright(frame[:: self._stride, :: self._stride], limits)
        return Detections(found.xyxy * self._stride, found.confidence, found.class_id)

    def _stop(self, reason: str) -> None:
        with self._lock:
            self._dead = self._dead or reason
        self._flowing.set()


def _bright(frame: UInt8Array, thresholds: Thresholds) -> Detections:
    by_column = frame.max(axis=0).max(axis=1)
    columns = np.flatnonzero(by_column >= BRIGHT)
    confidence = int(by_column.max()) / 255
    if not len(columns) or confidence < thresholds.confidence or thresholds.max_detections < 1:
        return Detections.empty()
    rows = np.flatnonzero(frame.reshape(len(frame), -1).max(axis=1) >= BRIGHT)
    box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    return Detections(np.array([box], np.float32), np.array([confidence], np.float32), np.zeros(1, np.int32))
