"""Times in a few numbers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def spread_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Milliseconds; empty for none."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    p95 = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
    named = {"p50": statistics.median(ordered), "p95": p95, "max": ordered[-1]}
    return {name: round(value * 1e3, 2) for name, value in named.items()}
