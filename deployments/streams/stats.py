"""Latencies by stage and frame rates, over sliding windows."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from deployments.streams.spec import Percentiles

WINDOW = 500
"""Samples behind a percentile: 20 s at 25 fps, so that p99 rests on five frames."""

RATE_SPAN_S = 5.0
"""Time behind a frame rate: long enough to be steady, short enough to show a stall."""


class StageTimes:
    """The newest latencies of each stage; safe to call from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._samples: dict[str, deque[float]] = {}

    def add(self, stage: str, seconds: float) -> None:
        """One frame spent ``seconds`` in ``stage``."""
        with self._lock:
            self._samples.setdefault(stage, deque(maxlen=WINDOW)).append(seconds)

    def percentiles(self) -> dict[str, Percentiles]:
        """Milliseconds by stage."""
        with self._lock:
            samples = {stage: np.array(values) for stage, values in self._samples.items()}
        return {stage: _percentiles(values * 1e3) for stage, values in samples.items()}


def _percentiles(values: np.ndarray) -> Percentiles:
    p50, p95, p99 = (round(float(v), 2) for v in np.percentile(values, (50, 95, 99)))
    return Percentiles(p50=p50, p95=p95, p99=p99)


class RateMeter:
    """Events a second, counted over the last `RATE_SPAN_S`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: deque[float] = deque()
        self._started: float | None = None

    def tick(self, now: float) -> None:
        """One event at monotonic time ``now``."""
        with self._lock:
            self._started = now if self._started is None else self._started
            self._times.append(now)
            self._forget(now)

    def rate(self, now: float) -> float:
        """Events a second; over the time since the first one while that is shorter."""
        with self._lock:
            self._forget(now)
            if self._started is None:
                return 0.0
            span = min(max(now - self._started, 0.2), RATE_SPAN_S)
            return round(len(self._times) / span, 2)

    def _forget(self, now: float) -> None:
        while self._times and self._times[0] < now - RATE_SPAN_S:
            self._times.popleft()
