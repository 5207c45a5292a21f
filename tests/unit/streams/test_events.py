"""Detection events for many readers: in order, from where each of them left off."""

from __future__ import annotations

import json
import threading
import time
from fractions import Fraction

import numpy as np
import pytest

from deployments.streams.events import REPLAY_EVENTS, EventLog, detection_event
from deployments.streams.frame import Frame
from engines.types import Detections
from tests.support.streams import picture
from tests.support.waiting import in_threads, started


def filled(count: int, first: int = 0) -> EventLog:
    log = EventLog(first)
    for sequence in range(first, first + count):
        log.append(sequence, b"%d" % sequence)
    return log


def test_a_reader_resumes_where_it_left_off() -> None:
    batch = filled(10).wait(after=6, timeout_s=0)
    assert batch.events == ((7, b"7"), (8, b"8"), (9, b"9"))
    assert (batch.lost, batch.newest) == (False, 9)


def test_a_reader_of_what_is_new_gets_nothing_old() -> None:
    log = filled(3)
    batch = log.wait(after=None, timeout_s=0)
    assert (batch.events, batch.lost, batch.newest) == ((), False, 2)
    log.append(3, b"3")
    assert log.wait(after=batch.newest, timeout_s=0).events == ((3, b"3"),)


@pytest.mark.parametrize("first", [0, 100_500])
def test_who_reads_before_the_first_event_loses_nothing(first: int) -> None:
    log = EventLog(first)
    position = log.wait(after=None, timeout_s=0).newest
    assert not log.wait(after=position, timeout_s=0).lost
    log.append(first + 2, b"x")
    batch = log.wait(after=position, timeout_s=0)
    assert (batch.events, batch.lost) == (((first + 2, b"x"),), False)


def test_a_gap_in_sequences_is_no_loss() -> None:
    log = EventLog(0)
    for sequence in (1, 5, 9):
        log.append(sequence, b"")
    assert not log.wait(after=1, timeout_s=0).lost
    assert [sequence for sequence, _ in log.wait(after=2, timeout_s=0).events] == [5, 9]


def test_what_is_no_longer_kept_is_lost() -> None:
    log = filled(REPLAY_EVENTS + 3)
    assert not log.wait(after=2, timeout_s=0).lost
    batch = log.wait(after=1, timeout_s=0)
    assert batch.lost
    assert [sequence for sequence, _ in batch.events] == list(range(3, REPLAY_EVENTS + 3))


def test_events_of_an_earlier_life_are_lost_once() -> None:
    log = EventLog(1000)
    batch = log.wait(after=17, timeout_s=20)  # answered at once
    assert (batch.events, batch.lost) == ((), True)
    log.append(1000, b"x")
    batch = log.wait(after=batch.newest, timeout_s=0)
    assert (len(batch.events), batch.lost) == (1, False)


def test_nothing_new_ends_after_the_time_out() -> None:
    log = filled(1)
    began = time.monotonic()
    assert log.wait(after=0, timeout_s=0.05).events == ()
    assert time.monotonic() - began >= 0.05


def test_close_lets_all_readers_go() -> None:
    log = filled(1)
    done = threading.Semaphore(0)

    def read() -> None:
        log.wait(after=0, timeout_s=60)
        done.release()

    with started(read), started(read):
        assert not done.acquire(timeout=0.02)
        log.close()
        assert all(done.acquire(timeout=20) for _ in range(2))
    assert log.wait(after=None, timeout_s=60).events == ()


def test_many_readers_get_every_event_once_and_in_order() -> None:
    log, count = EventLog(0), 400  # fewer than are kept: nobody may lose one
    seen: list[list[int]] = [[] for _ in range(8)]

    def read(mine: list[int]) -> None:
        position = -1
        while position < count - 1:
            batch = log.wait(position, 20)
            assert batch.events
            assert not batch.lost
            mine += [sequence for sequence, _ in batch.events]
            position = batch.newest

    def write() -> None:
        for sequence in range(count):
            log.append(sequence, b"")

    in_threads(write, *(lambda mine=mine: read(mine) for mine in seen))
    assert seen == [list(range(count))] * 8


def test_what_happened_in_zones_comes_with_its_frame_and_goes_with_it() -> None:
    log = EventLog(0)
    log.append(0, b"0", (b"enter", b"cross"))
    log.append(1, b"1")
    assert log.wait(-1, 0).in_zones == {0: (b"enter", b"cross")}
    assert log.wait(0, 0).in_zones == {}
    for sequence in range(2, REPLAY_EVENTS + 1):
        log.append(sequence, b"", (b"leave",))
    batch = log.wait(-1, 0)
    assert (batch.lost, len(batch.events), len(batch.in_zones)) == (True, REPLAY_EVENTS, REPLAY_EVENTS - 1)


def test_the_json_of_an_event() -> None:
    frame = Frame(7, 12, Fraction(1, 90_000), 1700000000.1234567, 5.0, picture(0))
    found = Detections(
        np.array([[1.234, 2, 3.999, 48]], np.float32), np.array([0.87654], np.float32), np.array([1], np.int32)
    )
    assert json.loads(detection_event("gate", frame, found, ("cat", "person"), 0.0123456)) == {
        "stream_id": "gate",
        "sequence": 7,
        "pts": 12,
        "time_base": "1/90000",
        "captured_at": 1700000000.123457,
        "width": 64,
        "height": 48,
        "latency_ms": 12.35,
        "detections": [
            {"class_id": 1, "label": "person", "confidence": 0.8765, "box": [1.23, 2.0, 4.0, 48.0], "tracker_id": None}
        ],
    }
