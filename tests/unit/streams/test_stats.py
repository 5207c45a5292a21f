"""Percentiles and rates over sliding windows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.streams.stats import RATE_SPAN_S, WINDOW, RateMeter, StageTimes
from tests.support.waiting import in_threads


def test_percentiles_are_in_milliseconds_by_stage() -> None:
    times = StageTimes()
    assert times.percentiles() == {}
    for number in range(101):
        times.add("infer", number / 1000)
    times.add("draw", 0.5)
    found = times.percentiles()
    assert found.keys() == {"infer", "draw"}
    assert (found["infer"].p50, found["infer"].p95, found["infer"].p99) == (50.0, 95.0, 99.0)
    assert found["draw"].p99 == 500.0


def test_old_samples_are_forgotten() -> None:
    times = StageTimes()
    for seconds in [9.0] * WINDOW + [0.001] * WINDOW:
        times.add("whole", seconds)
    assert times.percentiles()["whole"].p99 == 1.0


def test_stages_come_while_percentiles_are_read() -> None:
    times = StageTimes()

    def add(stage: int) -> None:
        for number in range(300):
            times.add(f"{stage}.{number % 20}", 0.001)

    def read() -> None:
        for _ in range(20):
            assert all(found.p50 == 1.0 for found in times.percentiles().values())

    in_threads(lambda: add(1), lambda: add(2), read)
    assert len(times.percentiles()) == 40


@given(st.floats(1, 240), st.floats(0, 1e6), st.floats(1, 60))
def test_a_steady_rate_is_measured(fps: float, start: float, seconds: float) -> None:
    meter = RateMeter()
    frames = int(fps * seconds)
    for number in range(frames):
        meter.tick(start + number / fps)
    now = start + frames / fps
    span = min(max(now - start, 0.2), RATE_SPAN_S)
    assert meter.rate(now) == pytest.approx(fps, abs=1.01 / span + 0.01)


def test_a_rate_falls_to_zero_when_nothing_comes() -> None:
    meter = RateMeter()
    assert meter.rate(7.0) == 0.0
    for number in range(50):
        meter.tick(number / 10)
    rates = [meter.rate(5.0 + later) for later in (0.0, 1.0, 2.5, 6.0)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == 0.0
