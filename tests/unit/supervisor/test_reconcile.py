"""From what runs to what is wanted: the right actions, and that doing them ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.streams.hardware import Grant
from deployments.streams.spec import SourceSpec, StreamSpec
from deployments.supervisor.reconcile import Action, Observed, Reap, Start, Stop, Update, reconcile
from deployments.supervisor.registry import Entry


def entry(stream_id: str, generation: int = 1) -> Entry:
    return Entry(StreamSpec(id=stream_id, source=SourceSpec(url="testsrc://")), generation)


WANTED = entry("a", 2)


@pytest.mark.parametrize(
    ("wanted", "seen", "actions"),
    [
        (None, None, []),
        (WANTED, None, [Start(WANTED)]),
        (WANTED, Observed(2, alive=True), []),
        (WANTED, Observed(1, alive=True), [Update(WANTED)]),
        (WANTED, Observed(3, alive=True), [Update(WANTED)]),  # deleted and made anew
        (WANTED, Observed(2, alive=False), [Reap("a")]),
        (WANTED, Observed(1, alive=True, stopping=True), []),
        (WANTED, Observed(1, alive=False, stopping=True), [Reap("a")]),
        (WANTED, Observed(2, alive=True, unplaced=True), [Stop("a")]),
        (WANTED, Observed(1, alive=True, grant=Grant(nvenc=True)), [Update(WANTED)]),
        (WANTED, Observed(1, alive=True, grant=Grant(nvdec=True)), [Stop("a")]),  # it has nothing to decode now
        (None, Observed(1, alive=True), [Stop("a")]),
        (None, Observed(1, alive=True, stopping=True), []),
        (None, Observed(1, alive=False), [Reap("a")]),
        (None, Observed(1, alive=False, stopping=True), [Reap("a")]),
    ],
)
def test_one_stream(wanted: Entry | None, seen: Observed | None, actions: list[Action]) -> None:
    assert reconcile([wanted] if wanted else [], {"a": seen} if seen else {}) == actions


def do(actions: list[Action], running: dict[str, Observed]) -> None:
    """What the supervisor does, at once; never two actors for one stream."""
    for action in actions:
        match action:
            case Start(wanted):
                assert wanted.spec.id not in running
                running[wanted.spec.id] = Observed(wanted.generation, alive=True)
            case Update(wanted):
                assert running[wanted.spec.id].alive
                running[wanted.spec.id] = Observed(wanted.generation, alive=True)
            case Stop(stream_id):
                running[stream_id] = Observed(running[stream_id].generation, alive=True, stopping=True)
            case Reap(stream_id):
                assert not running[stream_id].alive
                del running[stream_id]


ids = st.sampled_from("abcdef")
wanted_streams = st.dictionaries(ids, st.integers(1, 3)).map(lambda found: [entry(*pair) for pair in found.items()])
grants = st.builds(Grant, st.booleans(), st.just(False))
seen_streams = st.dictionaries(
    ids, st.builds(Observed, st.integers(1, 3), st.booleans(), st.booleans(), grants, st.booleans())
)


@given(wanted_streams, seen_streams)
def test_each_stream_gets_one_action_at_most_and_asking_changes_nothing(
    wanted: list[Entry], seen: dict[str, Observed]
) -> None:
    before = dict(seen)
    actions = reconcile(wanted, seen)
    named = [a.entry.spec.id if isinstance(a, Start | Update) else a.stream_id for a in actions]
    assert len(named) == len(set(named))
    assert reconcile(wanted, seen) == actions
    assert seen == before


@given(wanted_streams, seen_streams, st.data())
def test_it_ends_with_just_what_is_wanted(
    wanted: list[Entry], running: dict[str, Observed], data: st.DataObject
) -> None:
    for _ in range(5):  # actions get lost, and actors die
        actions = reconcile(wanted, running)
        do(data.draw(st.lists(st.sampled_from(actions), unique_by=id)) if actions else [], running)
        for stream_id in data.draw(st.lists(st.sampled_from(sorted(running)), unique=True)) if running else []:
            seen = running[stream_id]
            running[stream_id] = Observed(seen.generation, alive=False, stopping=seen.stopping)
    for _ in range(4):  # then nothing comes between any more: stop, end, reap, start
        do(reconcile(wanted, running), running)
        for stream_id, seen in running.items():
            if seen.stopping:
                running[stream_id] = Observed(seen.generation, alive=False, stopping=True)
    assert running == {found.spec.id: Observed(found.generation, alive=True) for found in wanted}
    assert reconcile(wanted, running) == []
