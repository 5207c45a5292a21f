"""How many frames may be out, and which may be sent at all."""

from __future__ import annotations

import itertools
import random
import threading
from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.link.attachments import WINDOW
from deployments.streams.inflight import MAX_IN_FLIGHT, FrameRateCap, InFlightGate
from tests.support.waiting import in_threads, started


def test_as_many_may_be_out_as_the_link_has_places_and_one_more_waits() -> None:
    gate, fifth = InFlightGate(), threading.Event()
    assert MAX_IN_FLIGHT == WINDOW == 4
    for _ in range(MAX_IN_FLIGHT):
        assert gate.enter()

    def enter() -> None:
        assert gate.enter()
        fifth.set()

    with started(enter):
        assert not fifth.wait(0.05)
        gate.leave()
        assert fifth.wait(20)


def test_it_is_empty_once_the_last_one_left() -> None:
    gate, empty = InFlightGate(), threading.Event()
    for _ in range(MAX_IN_FLIGHT):
        gate.enter()
    gate.wait_until_empty(0.0)  # gives up

    def wait() -> None:
        gate.wait_until_empty(20)
        empty.set()

    with started(wait):
        for _ in range(MAX_IN_FLIGHT):
            assert not empty.is_set()
            gate.leave()
        assert empty.wait(10)


def test_no_place_is_lost_and_none_is_given_twice() -> None:
    gate, lock = InFlightGate(), threading.Lock()
    out = most = entered = 0

    def work() -> None:
        nonlocal out, most, entered
        for _ in range(300):
            assert gate.enter()
            with lock:
                out, entered = out + 1, entered + 1
                most = max(most, out)
            with lock:
                out -= 1
            gate.leave()

    in_threads(*[work] * 8)
    assert entered == 2400
    assert 1 <= most <= MAX_IN_FLIGHT
    assert all(gate.enter() for _ in range(MAX_IN_FLIGHT))


def test_close_lets_nobody_in() -> None:
    gate, refused = InFlightGate(), threading.Event()
    for _ in range(MAX_IN_FLIGHT):
        gate.enter()

    def enter() -> None:
        assert not gate.enter()
        refused.set()

    with started(enter):
        gate.close()
        assert refused.wait(20)
    gate.leave()
    assert not gate.enter()


def admitted(times: list[float], max_fps: float) -> list[float]:
    cap = FrameRateCap()
    return [at for at in times if cap.admit(at, max_fps)]


def most_in(times: list[float], window_s: float) -> int:
    return max((bisect_right(times, at + window_s) - index for index, at in enumerate(times)), default=0)


def regular(fps: float, seconds: float, jitter_s: float = 0.0, seed: int = 1) -> list[float]:
    chance = random.Random(seed)
    return sorted(number / fps + chance.uniform(-jitter_s, jitter_s) for number in range(round(fps * seconds)))


steps = st.lists(st.floats(0.0005, 3.0), min_size=1, max_size=200)


@given(steps, st.floats(0.5, 60), st.floats(0.0, 10.0))
def test_no_window_holds_more_than_the_cap_and_one_late_frame(
    steps: list[float], max_fps: float, window_s: float
) -> None:
    times = admitted(list(itertools.accumulate(steps)), max_fps)
    # One for the window's edge, one for a frame that was late; a millisecond early is still on time.
    assert most_in(times, window_s) <= (window_s + 2e-3) * max_fps + 2


@given(st.integers(1, 60), st.floats(1.0, 4.0))
def test_a_regular_source_never_exceeds_the_cap_by_more_than_one_frame_a_second(max_fps: int, times: float) -> None:
    found = admitted(regular(max_fps * times, 10), max_fps)
    assert most_in(found, 0.999) <= max_fps + 1


@pytest.mark.parametrize(
    ("fps", "max_fps"), [(25, 10), (30, 20), (30, 25), (25, 12.5), (60, 7), (29.97, 10), (50, 49), (25, 0.5)]
)
@pytest.mark.parametrize("jitter_ms", [0, 5])
def test_the_mean_rate_is_the_cap_and_frames_are_evenly_spaced(fps: float, max_fps: float, jitter_ms: int) -> None:
    seconds = 60
    found = admitted(regular(fps, seconds, jitter_ms / 1e3), max_fps)
    assert len(found) / seconds == pytest.approx(max_fps, rel=0.02)
    gaps = [after - before for before, after in itertools.pairwise(found)]
    slack = 1 / fps + 2 * jitter_ms / 1e3 + 1e-3
    assert 1 / max_fps - slack <= min(gaps)
    assert max(gaps) <= 1 / max_fps + slack


@given(st.floats(5, 60), st.floats(1.0, 3.0), st.integers(0, 99))
def test_a_source_below_the_cap_loses_nothing_to_jitter(fps: float, times: float, seed: int) -> None:
    frames = regular(fps, 20, jitter_s=0.3 / fps, seed=seed)
    assert len(frames) - len(admitted(frames, fps * times)) <= 1


@given(st.floats(1, 30), st.floats(-1e5, 1e5), st.integers(0, 50))
def test_a_jump_in_either_direction_costs_two_intervals_at_most(max_fps: float, jump: float, before: int) -> None:
    cap = FrameRateCap()
    for number in range(before):
        cap.admit(number / 25, max_fps)
    start = before / 25 + jump
    after = [at for at in (start + number / 25 for number in range(500)) if cap.admit(at, max_fps)]
    assert after[0] <= start + 2 / max_fps + 0.05
    assert most_in(after, 1.0) <= max_fps + 2 + 2e-3 * max_fps


def test_a_change_of_the_cap_counts_at_once() -> None:
    cap = FrameRateCap()
    assert cap.admit(0.0, 0.1)
    assert not cap.admit(0.04, 0.1)
    assert cap.admit(0.08, 25)
    assert not cap.admit(0.09, 25)
    assert cap.admit(0.1, None)
