from __future__ import annotations

import random

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


@given(st.integers(2, 30), st.floats(0, 1e9), st.floats(0, 59))
def test_a_shorter_while_forgives_nothing(failures: int, now: float, lived: float) -> None:
    backoff = Backoff(jitter=0.0)
    steps = [backoff.next_delay() for _ in range(failures)]
    backoff.healthy(now)
    backoff.healthy(now + lived)
    assert backoff.next_delay() == min(30.0, steps[-1] * 2)


def test_health_does_not_add_up_over_failures() -> None:
    backoff = Backoff(jitter=0.0)
    backoff.next_delay()
    for start in (0.0, 100.0):
        backoff.healthy(start)
        backoff.healthy(start + 40)
        backoff.next_delay()
    assert backoff.next_delay() == 4.0


def test_different_streams_do_not_come_back_in_step() -> None:
    assert len({Backoff(rng=random.Random(seed)).next_delay() for seed in range(50)}) == 50
