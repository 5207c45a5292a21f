"""How long batches take, learnt from those that ran."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.detector.speed import SAMPLES, BatchTimes

few = settings(max_examples=30)
times = st.floats(1e-4, 10.0)


def learnt(seconds: dict[int, float]) -> BatchTimes:
    speed = BatchTimes()
    for frames, took in seconds.items():
        speed.learn(frames, took)
    return speed


def test_nothing_is_known_at_first() -> None:
    assert BatchTimes().seconds(4) == BatchTimes().frames_per_second() == 0.0


@few
@given(st.dictionaries(st.integers(1, 64), times, min_size=1, max_size=5))
def test_measured_sizes_are_as_measured(seconds: dict[int, float]) -> None:
    speed = learnt(seconds)
    assert [speed.seconds(frames) for frames in seconds] == list(seconds.values())


@few
@given(st.sets(st.integers(1, 24), min_size=2, max_size=5), st.lists(times, min_size=5, max_size=5))
def test_between_measured_sizes_times_rise_with_the_size(sizes: set[int], took: list[float]) -> None:
    seconds = dict(zip(sorted(sizes), sorted(took), strict=False))
    speed = learnt(seconds)
    expected = [speed.seconds(frames) for frames in range(min(sizes), max(sizes) + 1)]
    assert all(after >= before * (1 - 1e-9) for before, after in itertools.pairwise(expected))
    for (small, fast), (large, slow) in itertools.pairwise(sorted(seconds.items())):
        for frames in range(small, large + 1):
            assert fast * (1 - 1e-9) <= speed.seconds(frames) <= slow * (1 + 1e-9)


@few
@given(st.integers(1, 16), times, st.integers(1, 48))
def test_beyond_what_was_measured_it_is_careful(size: int, took: float, frames: int) -> None:
    """A larger batch takes as much longer as it is larger; a smaller one as long as the smallest."""
    assert learnt({size: took}).seconds(frames) == pytest.approx(took * max(1.0, frames / size))


@few
@given(st.lists(st.floats(0.009, 0.011), min_size=24, max_size=24), st.lists(times, max_size=7), st.integers(0, 99))
def test_batches_that_were_held_up_change_nothing(usual: list[float], odd: list[float], seed: int) -> None:
    """Up to a quarter of them: what is expected is the upper quartile."""
    mixed = [*usual, *odd]
    random.Random(seed).shuffle(mixed)
    speed = BatchTimes()
    for took in mixed:
        speed.learn(4, took)
    assert 0.009 <= speed.seconds(4) <= 0.011


def test_a_lasting_change_is_followed() -> None:
    speed = BatchTimes()
    for took in [0.01] * 1000 + [0.05] * (SAMPLES // 2 + 1):
        speed.learn(1, took)
    assert speed.seconds(1) == 0.05


@few
@given(st.dictionaries(st.integers(1, 64), times, min_size=1, max_size=5))
def test_the_engine_manages_what_its_best_size_does(seconds: dict[int, float]) -> None:
    best = max(frames / took for frames, took in seconds.items())
    assert learnt(seconds).frames_per_second() == pytest.approx(best)
