"""A frame of the video gets its own boxes if they come in time, else the last ones."""

from __future__ import annotations

import threading
import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.streams.boxes import BoxBoard
from engines.types import Detections
from tests.support.waiting import started

FAR = 1e9


def found(number: int) -> Detections:
    return Detections(np.full((1, 4), number, np.float32), np.ones(1, np.float32), np.zeros(1, np.int32))


def test_own_boxes_that_are_there_are_taken_at_once() -> None:
    board = BoxBoard()
    board.expect(1)
    board.expect(2)
    board.settle(1, one := found(1))
    board.settle(2, two := found(2))
    assert board.take(1, FAR, time.monotonic) is one
    assert board.take(2, FAR, time.monotonic) is two


def test_own_boxes_are_waited_for() -> None:
    board, own = BoxBoard(), found(1)
    board.expect(1)
    taken: list[Detections] = []
    with started(lambda: taken.append(board.take(1, FAR, time.monotonic))):
        board.settle(1, own)
    assert taken == [own]


def test_the_last_boxes_are_taken_when_the_time_is_over() -> None:
    board, last = BoxBoard(), found(1)
    board.settle(1, last)
    board.expect(2)
    began = time.monotonic()
    assert board.take(2, began + 0.05, time.monotonic) is last
    assert 0.05 <= time.monotonic() - began < 5
    assert board.take(2, began, time.monotonic) is last


def test_boxes_that_come_too_late_are_the_last_ones_of_later_frames() -> None:
    board, late = BoxBoard(), found(1)
    board.expect(1)
    assert len(board.take(1, 0.0, time.monotonic)) == 0
    board.settle(1, late)
    assert board.take(2, FAR, time.monotonic) is late


def test_nobody_waits_for_a_dropped_or_an_unexpected_frame() -> None:
    board, last = BoxBoard(), found(1)
    board.settle(1, last)
    board.expect(2)
    board.settle(2, None)
    assert board.take(2, FAR, time.monotonic) is last
    assert board.take(3, FAR, time.monotonic) is last


def test_a_frame_that_is_dropped_meanwhile_ends_the_wait() -> None:
    board, done = BoxBoard(), threading.Event()
    board.expect(1)

    def take() -> None:
        board.take(1, FAR, time.monotonic)
        done.set()

    with started(take):
        assert not done.wait(0.02)
        board.settle(1, None)
        assert done.wait(20)


def test_close_ends_every_wait() -> None:
    board = BoxBoard()
    board.expect(1)
    with started(lambda: board.take(1, FAR, time.monotonic) and None):
        board.close()
    board.expect(2)
    assert len(board.take(2, FAR, time.monotonic)) == 0


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["find", "drop", "never"]), st.sampled_from(["take", "forget"])), max_size=80)
)
def test_it_answers_rightly_in_any_order_and_keeps_no_frame_that_left(fates: list[tuple[str, str]]) -> None:
    """Boxes come before or after the video branch is done with a frame; `held` must not grow with the frames."""
    board = BoxBoard()
    last: Detections | None = None
    for sequence, (fate, leaving) in enumerate(fates):
        board.expect(sequence)
        own = found(sequence) if fate == "find" else None
        if fate != "never":
            board.settle(sequence, own)
            last = own or last
        if leaving == "take":
            taken = board.take(sequence, 0.0, time.monotonic)
            assert taken is (own or last) or (last is None and len(taken) == 0)
        else:
            board.forget(sequence)
        if fate == "never" and sequence % 2:
            board.settle(sequence, late := found(sequence))  # too late for its own frame
            last = late
        assert held(board) <= 1


def held(board: BoxBoard) -> int:
    """Objects that the board refers to, the last boxes included."""
    return sum(len(part) for part in vars(board).values() if isinstance(part, dict | set))


def test_boxes_of_another_model_are_forgotten() -> None:
    board = BoxBoard()
    board.expect(1)
    board.settle(1, found(1))
    board.clear()
    assert len(board.take(1, 0.0, time.monotonic)) == 0
    assert len(board.take(2, 0.0, time.monotonic)) == 0
