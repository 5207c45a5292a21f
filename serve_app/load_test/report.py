"""The result as a document: levels, streams that fit, and under which circumstances they were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from engines import circumstances
from serve_app.load_test.levels import P99_BUDGET_MS, Level, best_within, streams_that_fit

PACKAGES = ("ray", "aiohttp", "grpcio", "protobuf")


def document(levels: Sequence[Level], device: str, target: dict[str, Any], command: str) -> dict[str, Any]:
    """All there is to know, ready for JSON."""
    return {
        **circumstances.of(command, PACKAGES),
        "target": target,
        "utilisation_of": f"{device} of the machine that ran the test",
        "p99_budget_ms": P99_BUDGET_MS,
        "levels": [_rounded(level) for level in levels],
        "streams": {over: summary(part) for over, part in by_way(levels).items()},
    }


def by_way(levels: Sequence[Level]) -> dict[str, list[Level]]:
    """Levels over HTTP and over gRPC apart, in order."""
    ways: dict[str, list[Level]] = {}
    for level in levels:
        ways.setdefault(level.over, []).append(level)
    return ways


def summary(levels: Sequence[Level]) -> dict[str, Any]:
    """Most frames a second at all, and within the budget with the streams that fit then."""
    best = best_within(levels, P99_BUDGET_MS)
    return {
        "fps": round(max(level.fps for level in levels), 1),
        "fps_within_budget": None if best is None else round(best.fps, 1),
        "fit": streams_that_fit(levels),
    }


def _rounded(level: Level) -> dict[str, Any]:
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(level).items()}
