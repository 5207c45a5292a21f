"""From samples to slopes, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tests.soak.samples import Sample
from tests.soak.slope import Slope, fit


def report(samples: Sequence[Sample], streams: int, warm_up_hours: float) -> dict[str, Any]:
    """Slopes with their 95 % bounds of what was sampled after the warm-up, an hour; null where too little was.

    Resident memory is that of the whole system by the number of its streams; `rss_mb_an_hour_of` tells whose it is.
    """
    kept = [sample for sample in samples if sample.hours >= warm_up_hours]
    series: dict[str, list[tuple[float, float | None]]] = {
        "rss_mb_a_stream": [(s.hours, s.rss_mb / streams) for s in kept],
        "vram_mb": [(s.hours, s.vram_mb) for s in kept],
        "descriptors": [(s.hours, s.descriptors) for s in kept],
        "p99_ms": [(s.hours, s.p99_ms) for s in kept],
    }
    return {
        "streams": streams,
        "hours": round(samples[-1].hours, 4) if samples else 0.0,
        "warm_up_hours": round(warm_up_hours, 4),
        "samples": len(kept),
        "first": asdict(kept[0]) if kept else None,
        "last": asdict(kept[-1]) if kept else None,
        "slopes_an_hour": {name: _rounded(_slope(points)) for name, points in series.items()},
        "rss_mb_an_hour_of": {
            kind: _rounded(_slope([(s.hours, s.rss_mb_of.get(kind)) for s in kept]))
            for kind in sorted({kind for s in kept for kind in s.rss_mb_of})
        },
    }


def passes(result: dict[str, Any], max_mb_per_hour: float) -> bool:
    """Whether the upper bound of a stream's resident memory stays within the limit; False where it is not known."""
    slope = result["slopes_an_hour"]["rss_mb_a_stream"]
    return slope is not None and slope["high"] <= max_mb_per_hour


def _slope(points: Sequence[tuple[float, float | None]]) -> Slope | None:
    known = [(hours, value) for hours, value in points if value is not None]
    try:
        return fit([hours for hours, _ in known], [value for _, value in known])
    except ValueError:
        return None


def _rounded(slope: Slope | None) -> dict[str, float] | None:
    return None if slope is None else {name: round(value, 3) for name, value in asdict(slope).items()}
