from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.streams.backoff import Backoff

seeds = st.integers(0, 2**32)
positive = st.floats(0.001, 100)


@given(seeds, positive, st.floats(1, 100), st.floats(1, 10), st.floats(0, 1), st.integers(1, 60))
def test_every_delay_lies_between_the_jittered_and_the_whole_step(
    seed: int, initial: float, times: float, factor: float, jitter: float, tries: int
) -> None:
    cap = initial * times
    backoff = Backoff(initial, cap, factor, jitter, rng=random.Random(seed))
    step = initial
    for _ in range(tries):
        delay = backoff.next_delay()
        assert step * (1 - jitter) - 1e-9 <= delay <= step <= cap
        step = min(cap, step * factor)


@given(seeds, st.integers(1, 30), st.floats(0, 1e9))
def test_a_healthy_minute_forgives_all_failures(seed: int, failures: int, now: float) -> None:
    backoff = Backoff(jitter=0.0, rng=random.Random(seed))
    for _ in range(failures):
        backoff.next_delay()
    backoff.healthy(now)
    backoff.healthy(now + 61)
    assert backoff.next_delay() == 0.5


@given(st.integers(1, 30), st.floats(0, 1e6), st.lists(st.floats(0, 60), max_size=5))
def test_health_shrinks_the_wait_as_it_lasts_however_often_it_is_told(
    failures: int, now: float, told: list[float]
) -> None:
    backoff = Backoff(jitter=0.0)
    for _ in range(failures):
        backoff.next_delay()
    step = min(30.0, 0.5 * 1.5**failures)
    for lived in [0.0, *sorted(told)]:
        backoff.healthy(now + lived)
    lived = max(told, default=0.0)
    assert backoff.next_delay() == pytest.approx(max(0.5, step * 60 ** (-lived / 60)), rel=1e-4)


def test_a_connection_that_breaks_at_once_keeps_the_waits_growing() -> None:
    backoff = Backoff(jitter=0.0)
    steps = []
    for start in range(0, 100, 10):
        backoff.healthy(start)
        backoff.healthy(start + 1.0)
        steps.append(backoff.next_delay())
    assert steps == sorted(steps)
    assert steps[-1] > 8 * steps[0]


@given(seeds, st.floats(1, 25))
def test_what_was_away_is_tried_again_within_as_long_and_half_a_second(seed: int, away_s: float) -> None:
    backoff = Backoff(rng=random.Random(seed))
    tried_s = 0.0
    while tried_s < away_s:
        tried_s += backoff.next_delay()
    assert tried_s - away_s <= away_s + 0.5 + 1e-9


def test_different_streams_do_not_come_back_in_step() -> None:
    assert len({Backoff(rng=random.Random(seed)).next_delay() for seed in range(50)}) == 50
