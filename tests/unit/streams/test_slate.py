"""The picture that says that there is none."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.streams.frame import Frame
from deployments.streams.media.picture import AvPicture
from deployments.streams.slate import AFTER_S, FPS, GAPS, LONGEST_GAP_S, Slate, slate
from tests.support import media
from tests.support.streams import picture

NOON = 1_767_268_800.0
BASE = Fraction(1, 90_000)


def seen(number: int, decoded_at: float, pts: int = 0, stretch: int = 0) -> Frame:
    return Frame(number, pts, BASE, NOON, decoded_at, picture(number), stretch=stretch)


def shown(width: int, height: int, pixel_format: str = "yuv420p") -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Luma and red-difference of a slate of a picture of 40 to 220, which is asserted to be left alone."""
    before = AvPicture(media.frame(0, width, height, pixel_format))
    kept = before.writable().planes().y.copy()
    made = slate(before, NOON)
    assert np.array_equal(before.writable().planes().y, kept)
    assert (made.width, made.height) == (width, height)
    planes = made.planes()
    return planes.y, planes.v


def test_it_is_dim_but_for_white_text_on_a_bar_across_the_middle() -> None:
    luma, _ = shown(640, 480)
    middle = luma[200:280]
    assert middle.max() > 220
    assert (middle == 16).mean() > 0.5
    around = np.concatenate([luma[:160], luma[320:]])
    assert around.min() > 16
    assert around.max() == 16 + round((220 - 16) * 0.4 - 0.5)
    ink = np.flatnonzero((middle > 128).any(axis=0))
    assert 0.4 < (ink[-1] - ink[0]) / 640 < 0.72
    assert abs((ink[0] + ink[-1]) / 2 - 320) < 8


def test_another_time_is_another_text() -> None:
    big = AvPicture(media.frame(0, 640, 480))
    texts = [slate(big, at).planes().y for at in (NOON, NOON, NOON + 3661)]
    assert np.array_equal(texts[0], texts[1])
    assert not np.array_equal(texts[0], texts[2])


@pytest.mark.parametrize(
    ("width", "height", "pixel_format"),
    [
        (321, 241, "yuv444p"),
        (640, 360, "yuv422p"),
        (160, 120, "yuvj420p"),
        (1280, 720, "nv12"),
        (16, 16, "yuv420p"),
        (33, 1000, "yuv420p"),
        (3000, 64, "yuv420p"),
    ],
)
def test_any_size_and_format(width: int, height: int, pixel_format: str) -> None:
    luma, chroma = shown(width, height, pixel_format)
    assert luma.shape == (height, width)
    assert (chroma == 128).all()  # the source is grey


def test_ten_bits() -> None:
    eight: av.VideoFrame = media.frame(0, 320, 240)
    made = slate(AvPicture(eight.reformat(format="yuv420p10le")), NOON).planes()
    assert made.y.max() > 900
    assert made.y.min() == 64


def test_a_source_is_away_after_a_second_and_back_with_its_next_frame() -> None:
    kept = Slate()
    assert kept.due(1000.0) is None
    kept.saw(seen(0, 99.96))
    kept.saw(seen(1, 100.0, pts=9000))
    assert kept.due(100.0 + AFTER_S - 0.01) is None
    due = [kept.due(100.0 + after) for after in (AFTER_S, AFTER_S + 1)]
    assert due[0] is not None
    assert due[1] is not None
    assert [pts for pts, _ in due if due] == [9000 + 90_000, 9000 + 180_000]  # type: ignore[misc]
    assert due[0][1] is due[1][1]  # made once
    kept.saw(seen(2, 110.0, pts=900_000, stretch=1))
    assert kept.due(110.5) is None
    again = kept.due(113.0)
    assert again is not None
    assert again[0] == 900_000 + 270_000
    assert again[1] is not due[0][1]


def test_a_slow_source_is_not_away_between_its_frames() -> None:
    kept = Slate()
    for number in range(3):
        kept.saw(seen(number, 100.0 + 5 * number))
    assert kept.due(110.0 + 5 * GAPS - 0.1) is None
    assert kept.due(110.0 + 5 * GAPS) is not None
    assert kept.period_s == AFTER_S


def test_a_source_that_is_silent_again_and_again_is_away_once_at_most() -> None:
    """Though it is asked all the time: one frame in two seconds, and segments of six seconds that come at once."""
    for gaps in ([2.0] * 30, ([0.02] * 149 + [5.0]) * 3):
        kept, now, slates = Slate(), 100.0, 0
        for number, gap in enumerate(gaps):
            kept.saw(seen(number, now))
            times = [now + gap * part / 50 for part in range(50)]
            slates += any(kept.due(time) is not None for time in times)
            now += gap
        assert slates == 1


def test_a_source_that_was_silent_once_is_soon_seen_to_go_again() -> None:
    kept, now = Slate(), 100.0
    for number, gap in enumerate([0.04] * 10 + [8.0] + [0.04] * 750):
        now += gap
        kept.saw(seen(number, now))
    assert kept.due(now + AFTER_S) is not None


def test_a_source_that_was_away_for_hours_unseen_is_seen_to_go_again() -> None:
    kept = Slate()
    kept.saw(seen(0, 100.0))
    kept.saw(seen(1, 20_000.0))
    assert kept.due(20_000.0 + GAPS * LONGEST_GAP_S) is not None


def test_what_belongs_to_another_source_is_not_shown() -> None:
    kept = Slate()
    kept.saw(seen(0, 100.0))
    kept.forget()
    assert kept.due(1000.0) is None


@given(st.floats(0.001, 10), st.lists(st.floats(0.0001, 30), min_size=2, max_size=50))
def test_times_rise_with_the_clock_from_the_last_frame(gap: float, steps: list[float]) -> None:
    kept, now = Slate(), 100.0
    kept.saw(seen(0, now - gap))
    kept.saw(seen(1, now, pts=1234))
    assert 1 / FPS <= kept.period_s <= AFTER_S
    last = 1234
    for step in steps:
        now += step
        due = kept.due(now)
        assert (due is None) == (now - 100.0 < max(AFTER_S, GAPS * gap)) or abs(now - 100.0 - GAPS * gap) < 1e-6
        if due is not None:
            assert due[0] >= last
            assert abs(due[0] - 1234 - (now - 100.0) * 90_000) <= 1
            last = due[0]
