"""The newest picture for any number of viewers."""

from __future__ import annotations

import threading
from fractions import Fraction

import cv2
import numpy as np
import pytest

from deployments.streams import live
from deployments.streams.annotate import Annotator
from deployments.streams.frame import Frame
from deployments.streams.live import VIEWER_LINGER_S, JpegRenderer, LivePicture
from engines.types import Detections
from tests.support.streams import box, picture
from tests.support.waiting import in_threads, started, until

EMPTY = Detections.empty()


def frame(sequence: int) -> Frame:
    return Frame(sequence, sequence, Fraction(1, 25), 100.0 + sequence, 5.0, picture(sequence))


def detections(number: int) -> Detections:
    return Detections(np.array([box(number)], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32))


def pixels(jpeg: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(decoded, np.uint8)


def test_a_viewer_gets_the_newest_picture_and_then_newer_ones() -> None:
    shown = LivePicture()
    shown.show(frame(3), EMPTY)
    shown.show(frame(4), EMPTY)
    first = shown.wait(None, 0)
    assert first is not None
    assert first[0].sequence == 4
    assert shown.wait(4, 0.01) is None
    shown.show(frame(5), boxes := detections(5))
    second = shown.wait(4, 0)
    assert second is not None
    assert (second[0].sequence, second[1]) == (5, boxes)


def test_viewers_wait_for_the_next_picture() -> None:
    shown = LivePicture()
    seen: list[int] = []

    def view() -> None:
        found = shown.wait(None, 20)
        assert found is not None
        seen.append(found[0].sequence)

    with started(view), started(view):
        shown.show(frame(9), EMPTY)
    assert seen == [9, 9]


def test_the_first_viewer_gets_the_next_picture_whose_boxes_were_waited_for() -> None:
    shown = LivePicture()
    shown.show(frame(1), EMPTY, awaited=False)
    seen: list[int] = []

    def view() -> None:
        found = shown.wait(None, 20)
        assert found is not None
        seen.append(found[0].sequence)

    with started(view):
        until(lambda: shown.watched)
        shown.show(frame(2), EMPTY, awaited=False)  # it was under way
        shown.show(frame(3), EMPTY)
    assert seen == [3]


def test_where_none_comes_soon_the_first_viewer_gets_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "AWAITED_WITHIN_S", 0.05)
    shown = LivePicture()
    shown.show(frame(1), EMPTY, awaited=False)
    found = shown.wait(None, 20)
    assert found is not None
    assert found[0].sequence == 1


def test_close_lets_viewers_go() -> None:
    shown, gone = LivePicture(), threading.Event()

    def view() -> None:
        assert shown.wait(None, 60) is None
        gone.set()

    with started(view):
        shown.close()
        assert gone.wait(20)


def test_it_is_watched_for_a_while_after_the_last_request(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(live.time, "monotonic", lambda: now)
    shown = LivePicture()
    assert not shown.watched
    shown.show(frame(0), EMPTY)
    shown.wait(None, 0)
    assert shown.watched
    now += VIEWER_LINGER_S - 0.1
    assert shown.watched
    now += 0.2
    assert not shown.watched


def test_a_jpeg_shows_the_picture_with_and_without_boxes() -> None:
    renderer, annotator = JpegRenderer(), Annotator(("bright",))
    plain = renderer.render(frame(9), detections(9), None)
    drawn = renderer.render(frame(9), detections(9), annotator)
    assert (plain.sequence, plain.captured_at) == (9, 109.0)
    left, top, right, bottom = box(9)
    bright = pixels(plain.jpeg)
    assert bright.shape == (48, 64, 3)
    assert bright[top + 2 : bottom - 2, left + 2 : right - 2].min() > 200
    assert bright[bottom + 8 :].max() < 60
    assert not np.array_equal(bright, pixels(drawn.jpeg))
    assert np.array_equal(pixels(renderer.render(frame(9), EMPTY, annotator).jpeg), pixels(drawn.jpeg))  # kept


def test_the_picture_itself_is_not_drawn_into() -> None:
    shown = frame(2)
    before = shown.picture.to_array(64, 48)
    JpegRenderer().render(shown, detections(2), Annotator(("bright",)))
    np.testing.assert_array_equal(shown.picture.to_array(64, 48), before)


def test_many_viewers_of_one_picture_share_its_jpeg() -> None:
    renderer, shown = JpegRenderer(), frame(1)
    made: list[bytes] = []
    in_threads(*[lambda: made.append(renderer.render(shown, EMPTY, None).jpeg)] * 8)
    assert len({id(jpeg) for jpeg in made}) == 1
    assert renderer.render(frame(2), EMPTY, None).jpeg != made[0]
