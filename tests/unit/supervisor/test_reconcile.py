"""From what runs to what is wanted: the right actions, and that doing them ends."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.streams.hardware import Grant
from deployments.streams.spec import SourceSpec, StreamSpec
from deployments.supervisor.reconcile import (
    PLACE_PATIENCE_S,
    RENEWED_AT_ONCE,
    START_S,
    Action,
    Observed,
    Reap,
    Restart,
    Start,
    Stop,
    Update,
    Wanted,
    reconcile,
)
from deployments.supervisor.registry import Entry

NOW = 1000.0


def entry(stream_id: str, generation: int = 1) -> Entry:
    return Entry(StreamSpec(id=stream_id, source=SourceSpec(url="testsrc://")), generation)


def seen(generation: int = 2, **changes: object) -> Observed:
    return replace(Observed("one", "a", generation, epoch=1, started=NOW - 100), **changes)


WANTED = entry("a", 2)
UNSEEN = seen(grant=Grant(nvenc=True), reported=False, started=NOW - PLACE_PATIENCE_S - 1)


@pytest.mark.parametrize(
    ("wanted", "found", "actions"),
    [
        (None, None, []),
        (WANTED, None, [Start(WANTED)]),
        (WANTED, seen(2), []),
        (WANTED, seen(1), [Update("one", WANTED)]),
        (WANTED, seen(3), [Update("one", WANTED)]),  # deleted and made anew
        (WANTED, seen(2, alive=False), [Reap("one")]),
        (WANTED, seen(1, stopping=True), []),
        (WANTED, seen(1, alive=False, stopping=True), [Reap("one")]),
        (WANTED, UNSEEN, [Restart("one", unplaced=True)]),
        (WANTED, replace(UNSEEN, started=NOW - PLACE_PATIENCE_S + 1), []),
        (WANTED, replace(UNSEEN, patient=False), []),
        (WANTED, seen(2, reported=False, started=0.0), []),  # it holds no place that it could do without
        (WANTED, seen(1, grant=Grant(nvenc=True)), [Update("one", WANTED)]),
        (WANTED, seen(1, grant=Grant(nvdec=True)), [Restart("one")]),  # it has nothing to decode now
        (WANTED, seen(2, current=False), [Restart("one")]),
        (WANTED, seen(1, current=False, stopping=True), []),
        (None, seen(1), [Stop("one")]),
        (None, seen(1, stopping=True), []),
        (None, seen(1, alive=False), [Reap("one")]),
        (None, seen(1, alive=False, stopping=True), [Reap("one")]),
    ],
)
def test_one_stream(wanted: Entry | None, found: Observed | None, actions: list[Action]) -> None:
    assert reconcile([Wanted(wanted)] if wanted else [], [found] if found else [], NOW) == actions


def test_a_successor_waits_until_it_may_begin() -> None:
    assert reconcile([Wanted(WANTED, NOW + 0.1)], [], NOW) == []
    assert reconcile([Wanted(WANTED, NOW + 0.1)], [], NOW + 0.1) == [Start(WANTED)]


def test_of_two_actors_of_a_stream_the_newer_life_stays() -> None:
    old, new = seen(1, actor="old", epoch=3), seen(2, actor="new", epoch=4)
    for found in ([old, new], [new, old]):
        assert reconcile([Wanted(WANTED)], found, NOW) == [Stop("old")]
    assert reconcile([Wanted(WANTED)], [replace(old, stopping=True), new], NOW) == []


def test_none_is_started_while_another_is_alive_or_only_just_dead() -> None:
    dead, ending = seen(actor="dead", alive=False), seen(actor="ending", stopping=True)
    assert reconcile([Wanted(WANTED)], [dead, ending], NOW) == [Reap("dead")]
    assert reconcile([Wanted(WANTED)], [ending], NOW) == []
    assert reconcile([Wanted(WANTED)], [dead], NOW) == [Reap("dead")]


def test_actors_with_old_code_are_replaced_a_few_at_a_time() -> None:
    names = [f"s{number}" for number in range(10)]
    wanted = [Wanted(entry(name)) for name in names]
    running = {name: Observed(name, name, 1, current=False, started=NOW - 100) for name in names}
    ended = [action.actor for action in reconcile(wanted, running.values(), NOW) if isinstance(action, Restart)]
    assert ended == names[:RENEWED_AT_ONCE]
    for name in ended:
        running[name] = replace(running[name], stopping=True)
    assert reconcile(wanted, running.values(), NOW) == []
    running[names[0]] = Observed("new", names[0], 1, reported=False, started=NOW)
    assert reconcile(wanted, running.values(), NOW) == []
    running[names[0]] = replace(running[names[0]], reported=True)
    assert reconcile(wanted, running.values(), NOW) == [Restart(names[RENEWED_AT_ONCE])]
    running[names[0]] = replace(running[names[0]], reported=False, started=NOW - START_S)  # no node has room for it
    assert reconcile(wanted, running.values(), NOW) == [Restart(names[RENEWED_AT_ONCE])]


# Any number of actors for any stream ----------------------------------------------------------------------------------

ids = st.sampled_from("abcdef")
wanted_streams = st.dictionaries(ids, st.integers(1, 3)).map(
    lambda found: [Wanted(entry(*pair), 0.0) for pair in found.items()]
)
grants = st.builds(Grant, st.booleans(), st.just(False))
observed = st.builds(
    Observed,
    actor=st.integers(0, 99).map(lambda number: f"found-{number}"),
    stream_id=ids,
    generation=st.integers(0, 3),
    epoch=st.integers(0, 3),
    alive=st.booleans(),
    stopping=st.booleans(),
    reported=st.booleans(),
    started=st.sampled_from([0.0, NOW - 1]),
    grant=grants,
    patient=st.booleans(),
    current=st.booleans(),
)
seen_actors = st.lists(observed, max_size=12, unique_by=lambda found: found.actor)


@given(wanted_streams, seen_actors)
def test_each_actor_gets_one_action_at_most_and_asking_changes_nothing(
    wanted: list[Wanted], found: list[Observed]
) -> None:
    before = list(found)
    actions = reconcile(wanted, found, NOW)
    named = [action.entry.spec.id if isinstance(action, Start) else action.actor for action in actions]
    assert len(named) == len(set(named))
    assert reconcile(wanted, found, NOW) == actions
    assert found == before
    started = {action.entry.spec.id for action in actions if isinstance(action, Start)}
    assert not started & {one.stream_id for one in found}


@given(wanted_streams, seen_actors, st.data())
def test_it_ends_with_one_actor_for_each_stream_that_is_wanted(
    wanted: list[Wanted], found: list[Observed], data: st.DataObject
) -> None:
    world = World(found)
    for _ in range(4):  # actions get lost, and actors die
        actions = reconcile(wanted, world.actors.values(), world.now)
        world.do(data.draw(st.lists(st.sampled_from(actions), unique_by=id)) if actions else [])
        for actor in data.draw(st.lists(st.sampled_from(sorted(world.actors)), unique=True)) if world.actors else []:
            world.actors[actor] = replace(world.actors[actor], alive=False)
    for _ in range(12):  # then nothing comes between any more
        world.do(reconcile(wanted, world.actors.values(), world.now))
        world.pass_time()
    assert {one.stream_id: one.generation for one in world.actors.values()} == {
        want.entry.spec.id: want.entry.generation for want in wanted
    }
    assert len(world.actors) == len(wanted)
    assert all(one.current for one in world.actors.values())
    assert reconcile(wanted, world.actors.values(), world.now) == []


class World:
    """What the supervisor does, at once, and what comes of it."""

    def __init__(self, found: list[Observed]) -> None:
        self.actors = {one.actor: one for one in found}
        self.now = NOW
        self._numbers = count()

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Start(wanted):
                    assert all(one.stream_id != wanted.spec.id for one in self.actors.values() if one.alive)
                    name = f"made-{next(self._numbers)}"
                    self.actors[name] = Observed(
                        name, wanted.spec.id, wanted.generation, 9, reported=False, started=self.now
                    )
                case Update(actor, wanted):
                    assert self.actors[actor].alive
                    self.actors[actor] = replace(self.actors[actor], generation=wanted.generation)
                case Restart(actor) | Stop(actor):
                    assert self.actors[actor].alive
                    self.actors[actor] = replace(self.actors[actor], stopping=True)
                case Reap(actor):
                    assert not self.actors.pop(actor).alive

    def pass_time(self) -> None:
        """Who was told to stop has ended, who was started has reported."""
        self.now += START_S
        for actor, one in list(self.actors.items()):
            self.actors[actor] = replace(one, alive=one.alive and not one.stopping, reported=True)
