"""What a load test finds, and what follows from it; pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

P99_BUDGET_MS = 75.0
"""From sending a frame to its detections: the most that a live stream may take."""

STREAM_RATES = (25, 30, 60)
"""Frames a second of the streams that are counted."""

MAX_CONCURRENCY = 1024
MAX_LEVELS = 32
_PART = re.compile(r"\s*(\d{1,5})\s*(?:\.\.\s*(\d{1,5})\s*)?", re.ASCII)


class LoadTestError(Exception):
    """The test can't be run, or not go on; the message says what to do, in one line."""


class NotReady(LoadTestError):
    """The server is there, and does not serve its model now."""


@dataclass(frozen=True, slots=True)
class Level:
    """What was measured with one number of requests at once.

    Attributes:
        over: ``http`` or ``grpc``.
        fps: frames a second that came back within the time of the measurement.
        answered: replies behind the latencies, milliseconds; these are None without any.
        failed: requests without a reply, by kind.
        utilisation: of the device, 0 to 1, see `Utilisation.of`.
        client_cpu: cores that the client itself took.
    """

    over: str
    concurrency: int
    fps: float
    answered: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    failed: Mapping[str, int]
    utilisation: float | None
    client_cpu: float


def read_concurrency(text: str) -> tuple[int, ...]:
    """Numbers of requests at once, in order: ``1,2,4..256`` doubles from 4 to 256.

    Raises:
        LoadTestError: it can't be read, or is out of bounds.
    """
    found: list[int] = []
    for part in text.split(","):
        written = _PART.fullmatch(part)
        if written is None:
            raise LoadTestError("--concurrency can't be read: write it as 1,2,4..256")
        number, end = int(written[1]), int(written[2] or written[1])
        if not 1 <= number <= end <= MAX_CONCURRENCY:
            raise LoadTestError(f"--concurrency: each must be from 1 to {MAX_CONCURRENCY}, the smaller first")
        while number <= end:
            found.append(number)
            number *= 2
    ordered = tuple(sorted(set(found)))
    if len(ordered) > MAX_LEVELS:
        raise LoadTestError(f"--concurrency has more than {MAX_LEVELS} levels")
    return ordered


def percentile(ordered: Sequence[float], part: float) -> float | None:
    """The nearest-rank percentile of a sorted sequence, ``part`` in (0, 1]; None of none."""
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)] if ordered else None


def best_within(levels: Sequence[Level], budget_ms: float) -> Level | None:
    """The level with most frames a second whose p99 keeps within the budget and of which nothing failed."""
    kept = [level for level in levels if level.p99_ms is not None and level.p99_ms <= budget_ms and not level.failed]
    return max(kept, key=lambda level: level.fps, default=None)


def streams_that_fit(levels: Sequence[Level], budget_ms: float = P99_BUDGET_MS) -> dict[str, int]:
    """Streams by their frames a second: floor(most frames a second within the budget / the stream's)."""
    best = best_within(levels, budget_ms)
    return {str(rate): 0 if best is None else int(best.fps // rate) for rate in STREAM_RATES}
