"""The heartbeat over real connections: who answers lives, who refuses or says nothing is lost, and soon."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from deployments.streams.hardware import NOTHING
from deployments.supervisor.heartbeat import actor as heartbeat
from deployments.supervisor.heartbeat import silence
from deployments.supervisor.lives.actor import Life, Lives

LOST_S, SUSPECT_S, BEAT_S = 0.9, 0.3, 0.1
"""A third of what they are, so that the test is short; a knock that hangs still takes longer than all of them."""

PATIENCE_S = 10.0


class Nodes:
    """Stands for what Ray tells."""

    def __init__(self, **doors: tuple[str, int]) -> None:
        self.doors = doors
        self.others = list(doors)
        self.unrivalled_at = 0.0
        self.lost: frozenset[str] = frozenset()
        self.changed = asyncio.Event()

    def lose(self, lost: frozenset[str]) -> None:
        if lost != self.lost:
            self.lost = lost
            self.changed.set()

    async def wait(self, lost: set[str]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.lost != lost:
                self.changed.clear()
                await self.changed.wait()


class Handle:
    """Stands for Ray's handle of a stream's actor that never answers."""

    def __init__(self, number: int) -> None:
        self._actor_id = bytes([number])
        self.report = self

    def remote(self, *asked: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "LOST_S", LOST_S)
    monkeypatch.setattr(silence, "SUSPECT_S", SUSPECT_S)
    monkeypatch.setattr(heartbeat, "BEAT_S", BEAT_S)


@contextmanager
def open_door() -> Iterator[tuple[str, int]]:
    """A raylet that nobody asks but the kernel answers for."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=100)) as listening:
        yield listening.getsockname()


@contextmanager
def silent_door() -> Iterator[tuple[str, int]]:
    """Neither takes nor refuses a connection, as a node that is cut off: its queue is full."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as listening:
        full = []
        try:
            while True:
                full.append(socket.create_connection(listening.getsockname(), timeout=0.3))
        except TimeoutError:
            yield listening.getsockname()
        finally:
            for each in full:
                each.close()


def closed_door() -> tuple[str, int]:
    """Refuses connections, as a node whose Ray has ended."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        address: tuple[str, int] = listening.getsockname()
    return address


def test_only_who_takes_no_connection_is_lost_and_its_lives_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[Any] = []
    monkeypatch.setattr(heartbeat.ray, "kill", lambda actor, no_restart: killed.append(actor))

    async def watch() -> None:
        with open_door() as alive, silent_door() as cut:
            nodes = Nodes(alive=alive, cut=cut, dead=closed_door())
            lives = Lives(lambda: None)
            handles = {node: Handle(number) for number, node in enumerate(nodes.doors)}
            for node, handle in handles.items():
                lives.add(Life(handle, f"on-{node}", 1, 1, NOTHING, 0.0, node=node))  # type: ignore[arg-type]
            told = asyncio.Event()
            _ = heartbeat.Heartbeat(lives, nodes, lambda: 1, told.set)  # type: ignore[arg-type]
            await nodes.wait({"cut", "dead"})
            async with asyncio.timeout(PATIENCE_S):
                while sum(not life.alive for life in lives) < 2:
                    told.clear()
                    await told.wait()
            assert len(killed) == 2
            assert {life.stream_id for life in lives if not life.alive} == {"on-cut", "on-dead"} == lives.haunted
            assert handles["alive"] not in killed

    asyncio.run(watch())


def test_a_node_that_answers_again_is_lost_no_more() -> None:
    async def watch() -> None:
        nodes = Nodes(back=closed_door())
        _ = heartbeat.Heartbeat(Lives(lambda: None), nodes, lambda: 1, lambda: None)  # type: ignore[arg-type]
        await nodes.wait({"back"})
        with closing(socket.create_server(nodes.doors["back"])):
            await nodes.wait(set())

    asyncio.run(watch())
