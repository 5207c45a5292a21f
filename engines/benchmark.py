"""How fast an engine is by itself: how long a batch takes, and how many frames a second it manages, by batch size."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from engines.pipelined import buckets
from engines.protocol import Engine, PipelinedEngine
from engines.types import Thresholds, UInt8Array
from engines.utilisation import Device, Utilisation

STREAM_FPS = (25, 30, 60)
"""Usual rates of cameras, for which the streams that fit are worked out."""

LEAST = 5
"""Batches that are timed at least, however long they take."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured with one batch size.

    Attributes:
        p50_ms, p95_ms, p99_ms: from a batch's start to its detections, one batch at a time.
        fps: frames a second with as many batches under way as the engine can have.
        utilisation, utilisation_of: per cent, during the latter.
    """

    batch: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    fps: float
    utilisation: float
    utilisation_of: Device

    def streams(self, stream_fps: int) -> int:
        """Streams of that rate which fit: whole ones."""
        return int(self.fps // stream_fps)


def sizes(max_batch_size: int) -> tuple[int, ...]:
    """The batch sizes that are measured: those that engines have a bucket for."""
    return buckets(max_batch_size)


def benchmark(engine: Engine, frames: Sequence[UInt8Array], seconds: float, gpu: int | None) -> Iterator[Figures]:
    """Measure each of `sizes` for ``seconds``: half of it for the latency, half for the frames a second."""
    for size in sizes(engine.info.max_batch_size):
        batch = [frames[row % len(frames)] for row in range(size)]
        limits = [Thresholds()] * size
        engine.infer(batch, limits)
        took: list[float] = []
        _until(seconds / 2, LEAST, lambda: took.append(_timed(engine, batch, limits)))  # noqa: B023 - runs at once
        with Utilisation([] if gpu is None else [gpu]) as used:
            fps = _frames_per_second(engine, batch, limits, seconds / 2)
        p50, p95, p99 = (float(value) * 1000 for value in np.percentile(took, (50, 95, 99)))
        yield Figures(size, p50, p95, p99, fps, used.percent, used.of)


def _timed(engine: Engine, batch: Sequence[UInt8Array], limits: Sequence[Thresholds]) -> float:
    started = time.perf_counter()
    engine.infer(batch, limits)
    return time.perf_counter() - started


def _until(seconds: float, least: int, step: Callable[[], object]) -> int:
    """Repeat ``step`` for as long, and at least as often; returns how often."""
    ends, count = time.perf_counter() + seconds, 0
    while count < least or time.perf_counter() < ends:
        step()
        count += 1
    return count


def _frames_per_second(
    engine: Engine, batch: Sequence[UInt8Array], limits: Sequence[Thresholds], seconds: float
) -> float:
    started = time.perf_counter()
    if isinstance(engine, PipelinedEngine):
        batches = _overlapping(engine, batch, limits, seconds)
    elif engine.lanes == 1:
        batches = _until(seconds, LEAST, lambda: engine.infer(batch, limits))
    else:
        with ThreadPoolExecutor(engine.lanes) as threads:
            lanes = [
                threads.submit(_until, seconds, LEAST, lambda: engine.infer(batch, limits)) for _ in range(engine.lanes)
            ]
            batches = sum(lane.result() for lane in lanes)
    return batches * len(batch) / (time.perf_counter() - started)


def _overlapping(
    engine: PipelinedEngine, batch: Sequence[UInt8Array], limits: Sequence[Thresholds], seconds: float
) -> int:
    under_way: deque[Any] = deque()

    def step() -> None:
        if len(under_way) == engine.depth:
            engine.finish(under_way.popleft())
        under_way.append(engine.start(batch, limits))

    count = _until(seconds, LEAST, step)
    while under_way:
        engine.finish(under_way.popleft())
    return count
