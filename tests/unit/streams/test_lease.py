"""Who may publish: never two, whatever is cut, late or away; and who goes on while what is away."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.streams.lease import HOLD_S, WAIT_S, Lease

CLOSING_S = 4.5
"""A holder's outputs take that long to close, and to notice that they have to."""

LONG_S = 3600


class Life:
    """A stream's actor with its own clock and its own ways to the store and to the supervisor."""

    def __init__(self, term: int, wait_s: float, clock: float) -> None:
        self.lease = Lease(wait_s)
        self.term = term
        self.clock = clock
        self.cut_from_store = self.cut_from_supervisor = self.ended = False
        self.published = float("-inf")


class World:
    """A store that comes and goes, a supervisor, lives; and what is under way, each for as long as it is told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.up, self.server, self.term = True, 1, 0
        self.lives: list[Life] = []
        self._late: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self.begin(0.0)

    def after(self, delay: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._late, (self.now + delay, next(self._numbers), what))

    def step(self, seconds: float) -> None:
        end = self.now + seconds
        while self._late and self._late[0][0] <= end:
            self.now, _, what = heapq.heappop(self._late)
            what()
            self.check()
        self.now = end
        self.check()

    def check(self) -> None:
        publishing = [life for life in self.lives if not life.ended and life.lease.publishes(self.now + life.clock)]
        assert len(publishing) <= 1
        for life in publishing:
            life.published = self.now
            others = [other for other in self.lives if other is not life and not other.ended]
            assert all(self.now >= other.published + CLOSING_S for other in others)

    # What may happen

    def toggle_store(self) -> None:
        self.up = not self.up
        self.server += self.up

    def begin(self, clock: float) -> None:
        """The supervisor gives the stream to another life, also while the last one lives: it can't know."""
        if not self.up:
            return
        self.term += 1
        sure = all(life.ended for life in self.lives)
        self.lives.append(Life(self.term, 0.0 if sure else WAIT_S, clock))

    def look(self, life: Life, there: float, back: float) -> None:
        """Ask the store: it is read ``there`` later, and the answer is back after another while."""
        asked = self.now + life.clock

        def read() -> None:
            if life.cut_from_store:
                return
            if not self.up:
                self.after(back, lambda: life.lease.store_down(asked))
            elif self.term == life.term:
                server = str(self.server)
                self.after(back, lambda: life.lease.read_own(asked, server))
            else:
                self.after(back, life.lease.read_other)

        self.after(there, read)

    def report(self, life: Life, there: float, back: float) -> None:
        """A stamp reaches the supervisor, which vouches for it unless another life was begun."""
        stamp = self.now + life.clock

        def heard() -> None:
            if not life.cut_from_supervisor and self.term == life.term:
                self.after(back, lambda: life.lease.vouched(stamp))

        self.after(there, heard)


def times(longest: float) -> st.SearchStrategy[float]:
    return st.floats(0, longest, allow_nan=False)


WHICH = st.integers(0, 3)
EVENTS = st.one_of(
    st.tuples(st.just("step"), times(6.0)),
    st.tuples(st.just("run"), st.integers(1, 30), times(0.5)),
    st.tuples(st.just("store")),
    st.tuples(st.just("begin"), times(1000.0)),
    st.tuples(st.just("end"), WHICH),
    st.tuples(st.just("cut store"), WHICH),
    st.tuples(st.just("cut supervisor"), WHICH),
    st.tuples(st.just("look"), WHICH, times(8.0), times(8.0)),
    st.tuples(st.just("report"), WHICH, times(15.0), times(15.0)),
)


def run(world: World, seconds: int, delay: float) -> None:
    """As the actors do: all look once a second."""
    for _ in range(seconds):
        for life in world.lives:
            world.look(life, delay, delay)
            world.report(life, delay, delay)
        world.step(1.0)


def happen(world: World, name: str, *values: Any) -> None:
    match name:
        case "step":
            world.step(*values)
        case "run":
            run(world, *values)
        case "store":
            world.toggle_store()
        case "begin":
            world.begin(*values)
        case _:
            strike(world, name, world.lives[-1 - values[0] % len(world.lives)], *values[1:])
    world.step(0.0)


def strike(world: World, name: str, life: Life, *delays: float) -> None:
    match name:
        case "end":
            life.ended = True
        case "cut store":
            life.cut_from_store = not life.cut_from_store
        case "cut supervisor":
            life.cut_from_supervisor = not life.cut_from_supervisor
        case "look":
            world.look(life, *delays)
        case "report":
            world.report(life, *delays)


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, max_size=40))
def test_there_are_never_two_publishers(events: list[tuple[Any, ...]]) -> None:
    world = World()
    for event in events:
        happen(world, *event)


def holder() -> Lease:
    lease = Lease(0.0)
    assert not lease.publishes(0.0)
    lease.read_own(0.0, "store-1")
    return lease


def test_a_holder_that_hears_nothing_stops_and_goes_on_once_it_reads_its_own_term() -> None:
    lease = holder()
    assert lease.publishes(HOLD_S - 0.1)
    assert not lease.publishes(HOLD_S)
    lease.read_own(20.0, "store-1")
    assert lease.publishes(20.1)


def test_a_holder_goes_on_for_as_long_as_the_store_is_down() -> None:
    lease = holder()
    for second in range(1, LONG_S):
        lease.store_down(second)
        assert lease.publishes(second + 0.5)


def test_a_store_that_is_down_gives_nobody_the_right_back() -> None:
    lease = holder()
    lease.store_down(HOLD_S)
    assert not lease.publishes(HOLD_S + 0.1)


def test_a_holder_goes_on_for_as_long_as_the_supervisor_vouches_though_no_store_answers() -> None:
    lease = holder()
    for second in range(2, LONG_S, 2):
        lease.vouched(second - 1.5)
        assert lease.publishes(second)
    assert not lease.publishes(LONG_S + HOLD_S)


def test_a_word_that_was_long_under_way_gives_no_more_than_it_did_when_it_was_asked_for() -> None:
    lease = holder()
    lease.vouched(1.0)
    assert not lease.publishes(1.0 + HOLD_S)


def test_who_was_succeeded_never_publishes_again() -> None:
    lease = holder()
    lease.read_other()
    lease.read_own(1.0, "store-1")
    lease.vouched(1.0)
    assert lease.succeeded
    assert not lease.publishes(1.0)


def test_a_successor_publishes_after_its_wait_and_no_sooner() -> None:
    lease = Lease(WAIT_S)
    for second in range(int(WAIT_S)):
        lease.read_own(second, "store-1")
        assert lease.waiting
        assert not lease.publishes(second)
    lease.read_own(WAIT_S, "store-1")
    assert lease.publishes(WAIT_S)


def test_a_successor_waits_anew_for_a_store_that_was_down() -> None:
    lease = Lease(WAIT_S)
    lease.read_own(0.0, "store-1")
    lease.read_own(WAIT_S, "store-2")
    lease.read_own(2 * WAIT_S - 0.5, "store-2")
    assert not lease.publishes(2 * WAIT_S - 0.5)
    lease.read_own(2 * WAIT_S, "store-2")
    assert lease.publishes(2 * WAIT_S)


def test_a_successor_does_not_begin_by_the_supervisors_word_alone() -> None:
    lease = Lease(WAIT_S)
    lease.read_own(0.0, "store-1")
    lease.vouched(WAIT_S)
    assert not lease.publishes(WAIT_S)
