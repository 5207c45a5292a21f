"""When a connection that stands is of no use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.streams.media.rhythm import SHORTEST_S
from deployments.streams.media.watchdog import Watchdog

LIMIT_S = 10.0


def fed(times: list[float | None], fps: float, start: float = 100.0) -> tuple[Watchdog, int | None]:
    """A watchdog that saw pictures with these times, and which of them it barked at."""
    watchdog = Watchdog(LIMIT_S, start, live=True)
    for number, at_s in enumerate(times):
        if not watchdog.picture(at_s, start + number / fps):
            return watchdog, number
    return watchdog, None


@given(st.floats(0.5, 240), st.floats(-1e5, 1e5), st.integers(1, 3000))
def test_a_source_whose_time_runs_is_left_alone_at_any_rate(fps: float, first: float, pictures: int) -> None:
    assert fed([first + number / fps for number in range(pictures)], fps)[1] is None


@given(st.floats(0.5, 60), st.floats(-1e5, 1e5), st.floats(0, 0.0009))
def test_times_that_stand_still_are_noticed_at_the_limit(fps: float, first: float, step: float) -> None:
    pictures = int(LIMIT_S * fps) + 2
    barked = fed([first + number * step for number in range(pictures)], fps)[1]
    assert barked is not None
    assert LIMIT_S <= barked / fps + 1e-6 < LIMIT_S + 1 / fps + 1e-6


def test_a_time_that_freezes_later_is_noticed_within_two_limits() -> None:
    running = [number / 25 for number in range(300)]
    barked = fed(running + [running[-1]] * 600, 25)[1]
    assert barked is not None
    assert 300 + LIMIT_S * 25 - 1 <= barked <= 300 + 2 * LIMIT_S * 25


def test_slow_clocks_loops_and_pictures_without_a_time_are_no_reason() -> None:
    counted_as_25 = [number / 25 for number in range(60)]
    assert fed(list(counted_as_25), 1)[1] is None
    assert fed([number % 50 / 25 for number in range(1000)], 25)[1] is None
    assert fed([None] * 1000, 25)[1] is None


def test_it_knows_until_when_a_picture_must_come_and_whether_packets_did() -> None:
    watchdog = Watchdog(LIMIT_S, 100.0, live=True)
    assert (watchdog.due, watchdog.silent) == (110.0, True)
    watchdog.packet(101.0)
    watchdog.packet(102.0)
    assert (watchdog.due, watchdog.silent) == (110.0, False)
    watchdog.picture(0.0, 105.0)
    assert (watchdog.due, watchdog.silent) == (112.0, True)
    watchdog.handed_on(130.0)  # the reader was busy for 25 s: the source is given its time again
    assert watchdog.due == 140.0


def silence_after(gaps: list[float], *, live: bool = True, busy_s: float = 0.0) -> float:
    """How long after the last of packets with these gaps between them the next one is due; each holds a picture."""
    watchdog, now = Watchdog(LIMIT_S, 100.0, live=live), 100.0
    for gap in gaps:
        now += gap
        watchdog.packet(now)
        watchdog.picture(now, now)
        now += busy_s
        watchdog.handed_on(now)
    return watchdog.due - now


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ([0.1] * 250, LIMIT_S),  # 25 s: not known yet
        ([0.1] * 350, SHORTEST_S),
        ([0.04] * 1000, SHORTEST_S),
        ([0.2] * 200, 6.0),
        ([1.0] * 60, LIMIT_S),
        ([0.04] * 99 + [2.0] + [0.04] * 900, 6.0),  # a break that it survived
        ([0.04] * 1000 + [1.5] + [0.04] * 5, 4.5),  # also one just now
        (([0.0] * 59 + [4.0]) * 10, LIMIT_S),  # in bursts
        (([0.0] * 9 + [1.0]) * 40, SHORTEST_S),
    ],
)
def test_a_silence_is_measured_by_the_rate_of_the_source(gaps: list[float], expected: float) -> None:
    assert silence_after(gaps) == pytest.approx(expected)
    assert silence_after(gaps, live=False) == LIMIT_S


@given(st.lists(st.floats(0, 20), min_size=1, max_size=300), st.floats(0, 2))
def test_silence_is_given_the_shortest_time_at_least_and_thrice_what_was_survived(
    gaps: list[float], busy_s: float
) -> None:
    due_s = silence_after(gaps, busy_s=busy_s)
    assert SHORTEST_S - 1e-6 <= due_s <= LIMIT_S + 1e-6
    assert due_s >= min(LIMIT_S, 3 * max(gaps[-20:])) - 1e-6 or sum(gaps[-20:]) >= 30


def test_the_time_that_the_reader_takes_is_no_silence() -> None:
    assert silence_after([0.01] * 400, busy_s=1.5) == LIMIT_S  # it comes for a packet only every 1.5 s
    assert silence_after([0.01] * 4000, busy_s=0.09) == pytest.approx(SHORTEST_S)


def test_a_source_that_falls_silent_between_pictures_is_silent() -> None:
    watchdog, now = Watchdog(LIMIT_S, 100.0, live=True), 100.0
    for _ in range(400):
        now += 0.1
        watchdog.packet(now)
        watchdog.picture(now, now)
    watchdog.packet(now + 0.1)
    assert watchdog.due == pytest.approx(now + 0.1 + SHORTEST_S)
    assert watchdog.silent
