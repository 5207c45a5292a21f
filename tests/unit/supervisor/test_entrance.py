"""What the supervisor makes of reports, nodes and models: who waits, who is refused, where streams start."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.errors import NoCapacity, StreamErrorCode
from deployments.models.versions import ModelState, ReplicaState
from deployments.streams.cpu import CpuUse
from deployments.streams.hardware import NOTHING, Budget
from deployments.streams.spec import StreamSpec, StreamStatus
from deployments.supervisor.config import SupervisorConfig
from deployments.supervisor.entrance import STARTS_A_PASS, Entrance, Placed, Survey
from deployments.supervisor.placement import NodeSeen
from deployments.supervisor.records import Kept
from deployments.supervisor.registry import Entry
from tests.unit.models.test_board import INFO

NODES = tuple(NodeSeen(name, {"CPU": 4.0}, {"CPU": 4.0, "memory": 1e12}) for name in "ab")
NEED = SupervisorConfig().resources


def kept(name: str, epoch: int, since: float = 0.0, **changes: Any) -> Kept:
    spec = StreamSpec.model_validate({"id": name, "source": {"url": "rtsp://camera/1"}, **changes})
    return Kept(Entry(spec, 1), epoch, accepted_at=since)


def model(*speeds: tuple[str, float]) -> ModelState:
    return ModelState("default", None, INFO, tuple(ReplicaState(node, fps) for node, fps in speeds))


class World:
    """One supervisor's entrance and what it is told."""

    def __init__(self, admission: str, *streams: Kept, engine: float = 33.0) -> None:
        self.entrance = Entrance()
        self.config = SupervisorConfig.model_validate({"admission": admission})
        self.streams = list(streams)
        self.engine = engine

    def survey(self) -> Survey:
        placed = {one.entry.spec.id: Placed("a", NOTHING) for one in self.streams if one.epoch > 0}
        return self.entrance.survey(self.config, self.streams, placed, NODES, [model(("a", self.engine))])

    def waiting(self) -> dict[str, str]:
        """What one pass decides, by stream."""
        fresh = [one for one in self.streams if one.epoch == 0]
        self.entrance.open(self.survey(), fresh, Budget())
        found = {one.entry.spec.id: self.entrance.why_not(one.entry.spec) for one in fresh}
        for name, why in found.items():
            if why is None:
                self.entrance.let_in(name)
            else:
                self.entrance.wait(name, StreamErrorCode.NO_CAPACITY, why)
        return {name: why for name, why in found.items() if why is not None}


def test_who_comes_too_late_waits_and_starts_when_there_is_room() -> None:
    world = World("pending", kept("runs", 1), kept("new", 0))
    why = world.waiting()["new"]
    assert "manages 33 frames a second and 25 are spoken for" in why
    assert (world.survey().waiting, world.entrance.waiting["new"].code) == (1, "no_capacity")
    world.engine = 60.0
    assert world.waiting() == {}
    assert world.entrance.waiting == {}


def test_as_shipped_nobody_waits_and_nobody_is_refused() -> None:
    config = SupervisorConfig()
    assert config.admission == "off"
    world = World(config.admission, kept("runs", 1), kept("new", 0))
    assert world.waiting() == {}
    world.entrance.require_room(kept("more", 0).entry.spec, world.survey())


def test_who_ran_before_comes_back_whatever_the_engine_manages() -> None:
    world = World("pending", kept("first", 3), kept("second", 1), engine=1.0)
    world.entrance.open(world.survey(), world.streams, Budget())
    assert [world.entrance.why_not(one.entry.spec) for one in world.streams] == [None, None]


def test_refusing_counts_what_was_accepted_and_does_not_run_yet() -> None:
    world = World("refuse", kept("runs", 0))
    with pytest.raises(NoCapacity, match="25 are spoken for"):
        world.entrance.require_room(kept("more", 0).entry.spec, world.survey())
    world.entrance.require_room(kept("slow", 0, detect={"max_fps": 8}).entry.spec, world.survey())
    assert world.waiting() == {}


def test_the_unmeasured_wait_only_at_the_very_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World("pending", kept("new", 0), engine=0.0)
    assert "about to be measured" in world.waiting()["new"]
    monkeypatch.setattr("deployments.supervisor.entrance.ENGINE_PATIENCE_S", 0.0)
    assert world.waiting() == {}


def test_measured_cost_counts_at_the_stream_s_node() -> None:
    runs = kept("runs", 1)
    world = World("pending", runs, engine=1000.0)
    status = StreamStatus(online=True, node="a", fps={"decoded": 30.0})
    world.entrance.hear(runs.entry.spec, status, NOTHING, CpuUse(3.0, 0.1))
    found = world.survey()
    rooms = {room.node: room for room in found.room.nodes}
    assert rooms["a"].used == pytest.approx(3.0)
    assert rooms["b"].used == 0.0
    assert rooms["a"].engines == {"default": 970.0}
    world.entrance.open(found, [kept("new", 0)], Budget())
    assert world.entrance.place(kept("new", 0).entry.spec, NOTHING, NEED) == "b", "a's CPUs have no room for its like"


def test_streams_that_start_at_once_see_each_other() -> None:
    world = World("off", engine=1000.0)
    world.entrance.open(world.survey(), [], Budget())
    places = [world.entrance.place(kept(f"s{n}", 0).entry.spec, NOTHING, NEED) for n in range(40)]
    assert places[0] == "a", "beside its replica"
    assert "b" in places, "until its CPUs have no room"


def test_another_source_is_another_stream() -> None:
    world = World("pending", engine=1000.0)
    old, new = (kept("gate", 1, source={"url": url}).entry.spec for url in ("rtsp://camera/1", "rtsp://camera/2"))
    status = StreamStatus(online=True, fps={"decoded": 50.0})
    world.entrance.hear(old, status, NOTHING, None)
    world.streams = [Kept(Entry(new, 2), 1)]
    world.entrance.hear(new, StreamStatus(), NOTHING, None)
    assert world.survey().room.spoken == {"default": 25.0}


@pytest.mark.parametrize("admission", ["off", "pending"])
def test_a_crowd_starts_in_parts_in_its_order(admission: str) -> None:
    world = World(admission, engine=1e6)
    crowd = [kept(f"s{n:03}", 0) for n in range(STARTS_A_PASS + 50)]
    started: list[str] = []
    for _ in range(2):
        rest = [one for one in crowd if one.entry.spec.id not in started]
        world.entrance.open(world.survey(), rest, Budget())
        before = len(started)
        for one in world.entrance.in_turn(rest):
            if world.entrance.why_not(one.entry.spec) is None:
                world.entrance.let_in(one.entry.spec.id)
                started.append(one.entry.spec.id)
        assert len(started) - before <= STARTS_A_PASS
    assert started == [one.entry.spec.id for one in crowd]


def test_who_was_not_looked_at_does_not_start_by_oversight() -> None:
    """Those before it may have been let in, and then found no place on a GPU."""
    world = World("pending", engine=1e6)
    crowd = [kept(f"s{n:03}", 0) for n in range(STARTS_A_PASS + 1)]
    world.entrance.open(world.survey(), crowd, Budget())
    assert world.entrance.why_not(crowd[0].entry.spec) is None
    assert world.entrance.why_not(crowd[-1].entry.spec) is not None


def test_replicas_on_a_node_that_is_lost_count_for_nothing() -> None:
    found = Entrance().survey(SupervisorConfig(), [], {}, NODES[:1], [model(("a", 30.0), ("b", 60.0))])
    assert found.room.engines == {"default": 30.0}
    assert [node.node for node in found.room.nodes] == ["a"]
