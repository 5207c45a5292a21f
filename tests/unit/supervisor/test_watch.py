"""What operators are told of streams, the store and the room that is left."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from deployments.errors import StoreAway, StreamErrorCode
from deployments.streams.spec import LastError, StreamSpec, StreamState, StreamStatus, StreamView
from deployments.supervisor import watch
from deployments.supervisor.admission import Room
from deployments.supervisor.demand import Costs
from deployments.supervisor.entrance import Survey
from deployments.supervisor.placement import NodeRoom
from deployments.supervisor.registry import Entry
from deployments.supervisor.watch import ModelRoom, Watch, model_rooms, wanted_online

NODE = NodeRoom("node", 4.0, 0.0, {"CPU": 4.0, "memory": 8e9}, {}, False)
NEED = {"CPU": 0.03, "memory": 2e8}


def survey(engines: dict[str, float], spoken: dict[str, float], nodes: tuple[NodeRoom, ...] = (NODE,)) -> Survey:
    return Survey(Room(engines, spoken, nodes), Costs({}, {}), NEED, 2, "pending")


def view(name: str, state: StreamState, url: str = "rtsp://camera/1", code: Any = None, **spec: Any) -> StreamView:
    error = None if code is None else LastError(code=code, message="no", at=1.0, retryable=False)
    status = StreamStatus(state=state, online=state is StreamState.ONLINE, last_error=error)
    return StreamView(spec=StreamSpec.model_validate({"id": name, "source": {"url": url}, **spec}), status=status)


def test_a_model_has_room_for_what_its_engine_has_left() -> None:
    (room,) = model_rooms(survey({"default": 100.0}, {"default": 40.0}), ["default"])
    assert room == ModelRoom("default", 100.0, 40.0, 2)


def test_an_engine_that_is_asked_for_too_much_has_no_room() -> None:
    (room,) = model_rooms(survey({"default": 30.0}, {"default": 80.0}), ["default"])
    assert (room.asked_fps, room.further) == (80.0, 0)


def test_cpus_bound_the_room_too() -> None:
    full = NodeRoom("node", 4.0, 3.55, {"CPU": 4.0, "memory": 8e9}, {}, False)
    (room,) = model_rooms(survey({"default": 1000.0}, {}, (full,)), ["default"])
    assert room.further == 0


def test_of_an_engine_that_was_not_measured_nothing_is_said() -> None:
    rooms = model_rooms(survey({"default": 50.0}, {"street": 25.0}), ["default"])
    assert rooms == (ModelRoom("default", 50.0, 0.0, 2), ModelRoom("street", None, 25.0, None))


def test_streams_that_should_run_are_watched_and_no_others() -> None:
    ended = StreamErrorCode.ENDED
    views = [
        view("on", StreamState.ONLINE),
        view("away", StreamState.RECONNECTING, code=StreamErrorCode.TIMEOUT),
        view("wrong", StreamState.FAILED, code=StreamErrorCode.AUTH_FAILED),
        view("waits", StreamState.PENDING),
        view("paused", StreamState.PAUSED, paused=True),
        view("played", StreamState.FAILED, "file:a.mp4", ended),
        view("gone", StreamState.FAILED, "file:b.mp4", StreamErrorCode.NOT_FOUND),
        view("camera", StreamState.FAILED, code=ended),
    ]
    expected = {"on": True} | dict.fromkeys(("away", "wrong", "waits", "gone", "camera"), False)
    assert wanted_online(views) == expected


class Told:
    """What was last reported."""

    def __init__(self) -> None:
        self.stores: list[bool] = []
        self.online: dict[str, bool] = {}
        self.rooms: list[ModelRoom] = []
        self.looked = asyncio.Event()

    def streams(self, by_state: Any, online: dict[str, bool]) -> None:
        self.online = online

    def store(self, reachable: bool) -> None:
        self.stores.append(reachable)
        self.looked.set()

    def room(self, rooms: Any, waiting: int) -> None:
        self.rooms = list(rooms)


class Book:
    """Streams, and a store that may be away."""

    def __init__(self, *views: StreamView) -> None:
        self.views = {each.spec.id: each for each in views}
        self.trouble: Exception | None = None

    def __iter__(self) -> Iterator[Entry]:
        return iter([Entry(each.spec, 1) for each in self.views.values()])

    async def probe(self) -> None:
        if self.trouble is not None:
            raise self.trouble


@pytest.mark.parametrize("trouble", [StoreAway("gone"), RuntimeError("odd")])
def test_the_store_is_looked_at_whatever_else_goes_on(monkeypatch: pytest.MonkeyPatch, trouble: Exception) -> None:
    monkeypatch.setattr(watch, "WATCH_PERIOD_S", 0.0)
    monkeypatch.setattr(watch, "SupervisorTelemetry", Told)

    async def whole() -> None:
        book = Book(view("gate", StreamState.ONLINE))
        watching = Watch(book, lambda entry: book.views[entry.spec.id])
        told: Any = watching._telemetry
        for now, expected in ((None, True), (trouble, False), (None, True)):
            book.trouble = now
            told.looked.clear()
            watching.poll(lambda: survey({"default": 50.0}, {}), ["default"])
            async with asyncio.timeout(10):
                await told.looked.wait()
            await asyncio.sleep(0)  # the task that looked is done
            assert told.stores[-1] is expected
        assert told.online == {"gate": True}
        assert [room.further for room in told.rooms] == [2]

    asyncio.run(whole())
