"""The hand-overs between threads: what is dropped, who waits, and that nothing is lost or doubled."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from deployments.streams.newest import DropOldestQueue, NewestSlot
from tests.support.waiting import in_threads, started, until

ITEMS = 3000


@given(st.integers(1, 5), st.lists(st.sampled_from(["put", "take"]), max_size=60))
def test_the_oldest_goes_when_there_is_no_room(size: int, steps: list[str]) -> None:
    queue: DropOldestQueue[int] = DropOldestQueue(size)
    model: list[int] = []
    for number, step in enumerate(steps):
        if step == "put":
            model.append(number)
            assert queue.put(number) == (model.pop(0) if len(model) > size else None)
        elif model:
            assert queue.take() == model.pop(0)
        assert len(queue) == len(model)


def test_a_slot_holds_the_newest() -> None:
    slot: NewestSlot[str] = NewestSlot()
    assert slot.put("old") is None
    assert slot.put("new") == "old"
    assert slot.take() == "new"


def test_put_waits_for_room_and_drops_nothing() -> None:
    slot: NewestSlot[int] = NewestSlot()
    slot.put(1)
    outcomes: list[int | None] = []
    done = threading.Event()

    def put() -> None:
        outcomes.append(slot.put(2, wait=True))
        done.set()

    with started(put):
        assert not done.wait(0.05)
        assert slot.take() == 1
        assert done.wait(20)
    assert outcomes == [None]
    assert slot.take() == 2


def test_drain_empties_and_lets_a_waiting_put_go_on() -> None:
    queue: DropOldestQueue[int] = DropOldestQueue(2)
    queue.put(1)
    queue.put(2)
    with started(lambda: _put(queue, 3)):
        assert queue.drain() == [1, 2]
        until(lambda: len(queue) == 1)
    assert queue.drain() == [3]
    assert queue.drain() == []


def _put(queue: DropOldestQueue[int], item: int) -> None:
    queue.put(item, wait=True)


def test_after_close_the_rest_can_be_taken_and_nothing_goes_in() -> None:
    queue: DropOldestQueue[int] = DropOldestQueue(2)
    queue.put(1)
    queue.put(2)
    queue.close()
    assert queue.put(3) == 3
    assert queue.put(4, wait=True) == 4
    assert [queue.take(), queue.take(), queue.take(), queue.take()] == [1, 2, None, None]


def test_close_wakes_who_waits_on_either_side() -> None:
    empty: DropOldestQueue[int] = DropOldestQueue(1)
    full: DropOldestQueue[int] = DropOldestQueue(1)
    full.put(1)
    results: list[int | None] = []
    ready = threading.Barrier(3)

    def take() -> None:
        ready.wait(20)
        results.append(empty.take())

    def put() -> None:
        ready.wait(20)
        results.append(full.put(2, wait=True))

    with started(take), started(put):
        ready.wait(20)
        empty.close()
        full.close()
    assert sorted(results, key=str) == [2, None]


def _pass_through(size: int, *, wait: bool) -> tuple[list[int], list[int]]:
    queue: DropOldestQueue[int] = DropOldestQueue(size)
    taken: list[int] = []
    dropped: list[int] = []

    def produce() -> None:
        for item in range(ITEMS):
            lost = queue.put(item, wait=wait)
            if lost is not None:
                dropped.append(lost)
        queue.close()

    def consume() -> None:
        while (item := queue.take()) is not None:
            taken.append(item)

    in_threads(produce, consume)
    return taken, dropped


def test_every_item_is_taken_or_dropped_once_and_in_order() -> None:
    for size in (1, 3):
        taken, dropped = _pass_through(size, wait=False)
        assert sorted(taken + dropped) == list(range(ITEMS))
        assert taken == sorted(taken)


def test_with_wait_every_item_arrives() -> None:
    for size in (1, 3):
        assert _pass_through(size, wait=True) == (list(range(ITEMS)), [])
