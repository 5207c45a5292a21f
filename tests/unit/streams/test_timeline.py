"""The timeline rises whatever a source sends, and keeps its time where the source keeps its own."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.streams.media.timeline import MAX_JUMP_S, Timeline, fraction

MILLIS = Fraction(1, 1000)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class AvRational:
    """As PyAV 19 states rationals: falsy for 0/1."""

    numerator: int
    denominator: int

    def __bool__(self) -> bool:
        return self.numerator != 0


@pytest.mark.parametrize(
    ("rational", "expected"),
    [
        (None, None),
        (Fraction(0), None),
        (Fraction(1, 25), Fraction(1, 25)),
        (AvRational(0, 1), None),
        (AvRational(30000, 1001), Fraction(30000, 1001)),
        (AvRational(-1, 25), None),
        (AvRational(1, 0), None),
    ],
)
def test_rationals_of_both_majors(rational: object, expected: Fraction | None) -> None:
    assert fraction(rational) == expected


STAMPS = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(0, 10_000))
BASES = st.sampled_from([None, Fraction(1, 90_000), MILLIS, Fraction(1, 25), Fraction(1001, 30_000)])
EVENTS = st.one_of(
    st.tuples(st.just("connected"), st.sampled_from([None, Fraction(1, 25), Fraction(1, 240)]), st.booleans()),
    st.tuples(st.just("video"), STAMPS, BASES),
    st.tuples(st.just("audio"), STAMPS, BASES),
    st.tuples(st.just("pass"), st.floats(-5, 100), st.none()),
)


@given(st.lists(EVENTS, max_size=60))
def test_strictly_rising_and_bounded_whatever_comes_in(events: list[tuple[str, object, object]]) -> None:
    clock = Clock()
    line = Timeline(clock=clock)
    video: list[int] = []
    audio: list[int] = []
    for what, first, second in events:
        if what == "connected":
            line.connected(first, keep_gap=bool(second))  # type: ignore[arg-type]
        elif what == "pass":
            clock.now += first  # type: ignore[operator]
        elif what == "video":
            video.append(line.video(first, second))  # type: ignore[arg-type]
        elif (placed := line.audio(first, second)) is not None:  # type: ignore[arg-type]
            audio.append(placed)
    for series in (video, audio):
        assert all(type(pts) is int and pts >= 0 for pts in series)
        assert all(later > earlier for earlier, later in pairwise(series))
    passed = sum(max(0.0, first) for what, first, _ in events if what == "pass")  # type: ignore[type-var]
    if video:
        assert video[-1] * line.time_base <= passed + len(video) * (MAX_JUMP_S + 1)


def test_a_regular_source_is_passed_through() -> None:
    line = Timeline()
    line.connected(Fraction(1, 25))
    assert [line.video(5000 + 40 * n, MILLIS) for n in range(3)] == [0, 3600, 7200]


def test_a_loop_goes_on_one_frame_later() -> None:
    line = Timeline()
    for _ in range(2):
        line.connected(Fraction(1, 25), keep_gap=False)
        stamps = [line.video(pts, MILLIS) for pts in (0, 40, 80)]
    assert stamps == [10_800, 14_400, 18_000]


def test_a_reconnect_shows_the_time_that_was_lost() -> None:
    clock = Clock()
    line = Timeline(clock=clock)
    line.connected(Fraction(1, 25))
    line.video(0, MILLIS)
    clock.now += 7.5
    line.connected(Fraction(1, 25))
    assert line.video(123_456, MILLIS) == 7.5 * 90_000
    assert line.video(123_496, MILLIS) == 7.5 * 90_000 + 3600


def test_a_wrap_of_33_bits_goes_on_one_frame_later() -> None:
    line = Timeline()
    line.connected(Fraction(1, 25))
    base = Fraction(1, 90_000)
    stamps = [line.video(pts % 2**33, base) for pts in range(2**33 - 7200, 2**33 + 7200, 3600)]
    assert stamps == [0, 3600, 7200, 10_800]


def test_a_pause_of_the_camera_is_kept_but_a_leap_is_not() -> None:
    clock = Clock()
    line = Timeline(clock=clock)
    line.connected(Fraction(1, 25))
    line.video(0, MILLIS)
    clock.now += 30
    assert line.video(30_000, MILLIS) == 30 * 90_000
    clock.now += 0.04
    assert line.video(3_000_000, MILLIS) == pytest.approx(30.04 * 90_000, abs=2)


def test_a_stretch_ends_where_the_sources_own_clock_begins_anew() -> None:
    """A pause or missing timestamps are none of that."""
    clock = Clock()
    line = Timeline(clock=clock)
    seen = []
    for pts in ("open", 0, 40, None, 30_000, "open", 0, 40, 3_000_000, 3_000_040, 10, "open"):
        clock.now += 30 if pts == 30_000 else 0.04
        if isinstance(pts, str):
            line.connected(Fraction(1, 25))
        else:
            line.video(pts, MILLIS)
        seen.append(line.stretch)
    assert seen == [1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5]


def test_missing_timestamps_advance_by_frames() -> None:
    line = Timeline()
    line.connected(Fraction(1, 30))
    assert [line.video(None, None) for _ in range(3)] == [0, 3000, 6000]


def test_audio_keeps_its_place_beside_the_video() -> None:
    line = Timeline()
    line.connected(Fraction(1, 25))
    assert line.audio(5000, MILLIS) is None, "there is no video to place it by yet"
    line.video(5000, MILLIS)
    assert line.audio(5020, MILLIS) == 1800
    assert line.audio(5020, MILLIS) is None
    assert line.audio(None, None) is None
