"""What a stream went through, in one life and over several."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from deployments.errors import StreamErrorCode
from deployments.streams.history import KEPT, Histories, StreamHistory
from deployments.streams.spec import LastError, StreamState
from tests.support.waiting import in_threads

STATES = list(StreamState)


def error(code: StreamErrorCode = StreamErrorCode.ENDED, message: str = "The source ended.") -> LastError:
    return LastError(code=code, message=message, at=time.time(), retryable=True)


def test_changes_and_errors_stand_in_order() -> None:
    before = time.time()
    history = StreamHistory(epoch=3)
    history.add(StreamState.CONNECTING, None)
    history.add(StreamState.RECONNECTING, broke := error())
    changes, entries = history.since(0)
    assert changes == 2
    assert [(entry.epoch, entry.number, entry.state, entry.error) for entry in entries] == [
        (3, 1, StreamState.CONNECTING, None),
        (3, 2, StreamState.RECONNECTING, broke),
    ]
    assert all(before <= entry.at == entry.last_at <= time.time() for entry in entries)


def test_an_error_that_comes_again_is_counted_and_told_again() -> None:
    history = StreamHistory(epoch=1)
    history.add(StreamState.RECONNECTING, error())
    told, first = history.since(0)
    for _ in range(500):
        history.add(StreamState.RECONNECTING, newest := error())
    (again,) = history.since(told)[1]
    assert (again.number, again.at, again.times, again.error) == (1, first[0].at, 501, newest)
    assert again.last_at >= again.at
    history.add(StreamState.RECONNECTING, error(StreamErrorCode.TIMEOUT))
    history.add(StreamState.RECONNECTING, error())
    history.add(StreamState.ONLINE, None)
    history.add(StreamState.RECONNECTING, error())
    assert [entry.times for entry in history.since(0)[1]] == [502, 1, 1, 1]


def test_what_was_heard_is_not_told_twice() -> None:
    history = StreamHistory(epoch=1)
    history.add(StreamState.CONNECTING, None)
    told, _ = history.since(0)
    assert history.since(told) == (told, ())
    history.add(StreamState.ONLINE, None)
    assert [entry.number for entry in history.since(told)[1]] == [2]


@given(st.lists(st.tuples(st.sampled_from(STATES), st.sampled_from([None, *StreamErrorCode])), max_size=400))
def test_only_so_many_are_kept_the_newest(steps: list[tuple[StreamState, StreamErrorCode | None]]) -> None:
    history = StreamHistory(epoch=1)
    for state, code in steps:
        history.add(state, None if code is None else error(code))
    changes, entries = history.since(0)
    assert changes == len(steps)
    assert len(entries) <= KEPT
    numbers = [entry.number for entry in entries]
    assert numbers == list(range(numbers[0], numbers[-1] + 1)) if numbers else not steps
    if len(entries) < KEPT:
        assert sum(entry.times for entry in entries) == len(steps)
    if steps:
        newest = max(entries, key=lambda entry: (entry.last_at, entry.number))
        assert entries[-1].state is newest.state is steps[-1][0]


def test_threads_may_add_at_the_same_time() -> None:
    history = StreamHistory(epoch=1)

    def add() -> None:
        for _ in range(50):
            history.add(StreamState.ONLINE, None)

    in_threads(add, add)
    assert [entry.number for entry in history.since(0)[1]] == list(range(1, 101))


@given(
    st.lists(st.integers(1, 120), min_size=1, max_size=5),
    st.lists(st.integers(0, 40), min_size=1, max_size=8),
)
def test_whatever_is_heard_when_the_newest_of_all_lives_are_kept(lives: list[int], pauses: list[int]) -> None:
    """Each life tells what is new after every so many steps; what it adds after its last report is lost with it."""
    histories, reported = Histories(), []
    for epoch, length in enumerate(lives, 1):
        life, heard, step = StreamHistory(epoch), 0, 0
        while step < length:
            pause = pauses[step % len(pauses)] + 1
            for number in range(step, min(length, step + pause)):
                life.add(STATES[number % len(STATES)], None)
            step += pause
            heard, fresh = life.since(heard)
            histories.take("gate", fresh)
            histories.take("gate", fresh)  # a report may come twice
            reported += [(entry.epoch, entry.number) for entry in fresh]
    kept = [(entry.epoch, entry.number) for entry in histories.of("gate")]
    assert kept == sorted(set(reported), reverse=True)[:KEPT]


def test_a_stream_that_is_gone_leaves_nothing() -> None:
    histories, life = Histories(), StreamHistory(1)
    life.add(StreamState.ONLINE, None)
    histories.take("gate", life.since(0)[1])
    assert len(histories.of("gate")) == 1
    histories.forget("gate")
    histories.forget("gate")
    assert histories.of("gate") == ()


def test_errors_are_counted_by_code_also_where_one_comes_again() -> None:
    history = StreamHistory(1)
    for code, output in (("timeout", None), ("timeout", None), ("stalled", None), ("timeout", "rtsp://out")):
        error = LastError(code=code, message="no", at=1.0, retryable=True)
        history.add(StreamState.RECONNECTING, error, output)
    history.add(StreamState.ONLINE, None)
    assert history.errors == {"timeout": 3, "stalled": 1}
