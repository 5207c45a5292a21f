"""Who is let in: never more than was measured to fit, in order, and never for want of a measurement."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.supervisor.admission import EDGE, Asked, Limit, Room, admit, how_many, lack
from deployments.supervisor.demand import Demand
from deployments.supervisor.placement import CPU_SHARE, NodeRoom

NEED = {"CPU": 0.03}


def demand(fps: float = 25.0, cores: float = 0.0, model: str = "default", *, measured: bool = True) -> Demand:
    return Demand(model, fps, cores, measured)


def room(engine: float | None = 33.0, spoken: float = 0.0, *cores: float) -> Room:
    engines = {} if engine is None else {"default": engine}
    nodes = tuple(NodeRoom(f"node-{n}", cpus, free={"CPU": cpus}) for n, cpus in enumerate(cores))
    return Room(engines, {"default": spoken}, nodes)


def asked(name: str, wanted: Demand, priority: int = 0, since: float = 0.0, *, waits: bool = False) -> Asked:
    return Asked(name, priority, since, wanted, NEED, waits)


queues = st.lists(
    st.builds(
        lambda number, fps, cores, priority, since, model, waits: asked(
            f"s{number}", demand(fps, cores, model), priority, since, waits=waits
        ),
        st.integers(0, 10**6),
        st.floats(0, 60),
        st.floats(0, 1.5),
        st.integers(-2, 2),
        st.floats(0, 5),
        st.sampled_from(["default", "street"]),
        st.booleans(),
    ),
    max_size=12,
    unique_by=lambda each: each.stream_id,
)
rooms = st.builds(
    lambda default, street, spoken, cores: Room(
        {name: fps for name, fps in (("default", default), ("street", street)) if fps is not None},
        {"default": spoken},
        tuple(NodeRoom(f"n{n}", each, free={"CPU": each}) for n, each in enumerate(cores)),
    ),
    st.none() | st.floats(1, 200),
    st.none() | st.floats(1, 200),
    st.floats(0, 100),
    st.lists(st.floats(0, 8), max_size=3),
)


def test_the_reason_names_the_numbers_and_what_to_do() -> None:
    found = lack(demand(25.0), room(33.0, 30.0))
    assert found is not None
    assert found.limit is Limit.ENGINE
    assert "manages 33 frames a second and 30 are spoken for" in found.message
    assert "max_fps" in found.message
    assert "add a GPU" in found.message
    found = lack(demand(5.0, 1.0), room(None, 0.0, 1.0, 0.5))
    assert found is not None
    assert found.limit is Limit.CPU
    assert "no node has the 1.00 CPUs free" in found.message


@given(queues, rooms)
def test_what_is_let_in_fits_together(queue: list[Asked], there: Room) -> None:
    verdicts = admit(queue, there)
    entered = [one for one in queue if verdicts[one.stream_id] is None]
    for model, engine in there.engines.items():
        added = sum(one.demand.engine_fps for one in entered if one.demand.model == model)
        assert added == 0 or there.spoken.get(model, 0.0) + added <= engine + 1e-3
    taken = sum(one.demand.cores for one in entered)
    if there.nodes and any(node.cores > 0 for node in there.nodes):
        assert taken <= sum(node.cores for node in there.nodes) * CPU_SHARE + 1e-3


@given(queues, rooms)
def test_nobody_overtakes_on_the_same_engine(queue: list[Asked], there: Room) -> None:
    verdicts = admit(queue, there)
    ranked = sorted(queue, key=lambda one: one.rank)
    for place, first in enumerate(ranked):
        found = verdicts[first.stream_id]
        if found is None or not found.ever or found.limit is not Limit.ENGINE:
            continue
        for later in ranked[place + 1 :]:
            same = later.demand.model == first.demand.model and later.demand.engine_fps > 0
            assert not same or verdicts[later.stream_id] is not None


@given(queues)
def test_what_was_never_measured_refuses_nobody(queue: list[Asked]) -> None:
    unmeasured = [replace(one, demand=replace(one.demand, measured=False)) for one in queue]
    nodes = (NodeRoom("small", 0.1, free={"CPU": 0.1}),)
    assert set(admit(unmeasured, Room({}, {}, nodes)).values()) <= {None}
    assert set(admit(queue, Room({}, {}, ())).values()) <= {None}


@given(st.floats(0.1, 60), st.floats(0, 2), rooms)
def test_who_waits_needs_more_room_than_who_comes(fps: float, cores: float, there: Room) -> None:
    wanted = demand(fps, cores)
    if lack(wanted, there, waits=True) is None:
        assert lack(wanted, there) is None


def test_a_passing_peak_lets_nobody_in() -> None:
    full = room(25.0 * (1 + EDGE / 2))
    assert admit([asked("new", demand())], full) == {"new": None}
    assert admit([asked("waits", demand(), waits=True)], full)["waits"] is not None
    assert admit([asked("waits", demand(), waits=True)], room(25.0 * (1 + EDGE)))["waits"] is None


def test_priority_goes_before_age_and_age_before_the_name() -> None:
    queue = [asked("a", demand(), 0, 2.0), asked("b", demand(), 0, 1.0), asked("c", demand(), 5, 9.0)]
    names = [[name for name, found in admit(queue, room(fps)).items() if found is None] for fps in (25.0, 50.0, 75.0)]
    assert names == [["c"], ["c", "b"], ["c", "b", "a"]]


def test_one_that_never_fits_holds_nobody_up() -> None:
    verdicts = admit([asked("huge", demand(60.0), 9), asked("small", demand(5.0))], room(33.0))
    assert verdicts["huge"] is not None
    assert verdicts["small"] is None


@pytest.mark.parametrize(
    ("wanted", "there", "total", "limit"),
    [
        (demand(10.0, 0.1), room(33.0, 3.0, 8.0), 3, Limit.ENGINE),
        (demand(10.0, 0.5), room(100.0, 0.0, 1.0, 1.2), 3, Limit.CPU),  # 0.9 and 1.08 of them: one and two streams
        (demand(0.1, 0.0), room(None, 0.0, 0.3), 10, Limit.ACTORS),
        (demand(10.0, 0.1), room(None), None, None),
    ],
)
def test_how_many_more_fit(wanted: Demand, there: Room, total: int | None, limit: Limit | None) -> None:
    fit = how_many(wanted, NEED, there)
    assert (fit.total, fit.limit) == (total, limit)


@given(st.floats(1, 60), st.floats(0.01, 2), rooms)
def test_as_many_fit_as_would_be_let_in(fps: float, cores: float, there: Room) -> None:
    """The answer beforehand is what admission then does, apart from Ray's own shares."""
    wanted = demand(fps, cores)
    total = how_many(wanted, {}, there).total
    if total is None or total > 50 or not there.nodes or all(node.cores == 0 for node in there.nodes):
        return
    queue = [replace(asked(f"s{n:03}", wanted, since=n), need={}) for n in range(total + 1)]
    entered = [found is None for found in admit(queue, there).values()]
    assert entered == [True] * total + [False]


def test_nothing_is_said_of_those_behind_the_last_that_may_start_now() -> None:
    queue = [asked(f"s{n}", demand(5.0), since=n) for n in range(5)]
    huge = asked("huge", demand(60.0), 9)
    verdicts = admit([huge, *queue], room(33.0), most=2)
    assert [name for name, found in verdicts.items() if found is None] == ["s0", "s1"]
    assert list(verdicts) == ["huge", "s0", "s1"]
