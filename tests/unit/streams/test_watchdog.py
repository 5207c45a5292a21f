"""When a connection that stands is of no use."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deployments.streams.media.watchdog import Watchdog

LIMIT_S = 10.0


def fed(times: list[float | None], fps: float, start: float = 100.0) -> tuple[Watchdog, int | None]:
    """A watchdog that saw pictures with these times, and which of them it barked at."""
    watchdog = Watchdog(LIMIT_S, start)
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
    watchdog = Watchdog(LIMIT_S, 100.0)
    assert (watchdog.picture_by, watchdog.packets) == (110.0, 0)
    watchdog.packet()
    watchdog.packet()
    assert (watchdog.picture_by, watchdog.packets) == (110.0, 2)
    watchdog.picture(0.0, 105.0)
    assert (watchdog.picture_by, watchdog.packets) == (115.0, 0)
    watchdog.handed_on(130.0)  # the reader was busy for 25 s: the source is given its time again
    assert watchdog.picture_by == 140.0
