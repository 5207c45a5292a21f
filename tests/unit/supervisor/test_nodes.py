"""What the supervisor makes of Ray's answers about its nodes, of those that are late, and of those that don't come."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from deployments.supervisor.nodes import actor as nodes
from deployments.supervisor.placement import NodeSeen

OWN, OTHER = "own", "other"
PATIENCE_S = 10.0


class Ray:
    """Answers as told; while ``away`` it does not answer at all."""

    def __init__(self) -> None:
        self.answering = threading.Event()
        self.answering.set()
        self.alive = [OWN, OTHER]
        self.asked = 0

    def __call__(self) -> tuple[dict[str, tuple[str, int]], tuple[NodeSeen, ...]]:
        self.asked += 1
        assert self.answering.wait(PATIENCE_S)
        seen = tuple(NodeSeen(name, {"CPU": 2.0}, {"CPU": 1.0}) for name in self.alive)
        return {name: ("127.0.0.1", 1) for name in self.alive}, seen


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    found = Ray()
    monkeypatch.setattr(nodes, "_ask", found)
    monkeypatch.setattr(nodes.ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: OWN))
    return found


async def fresh(seen: nodes.Nodes, news: asyncio.Event) -> None:
    """Return once an answer has come to a question that was asked from now on."""
    asked = asyncio.get_running_loop().time()
    async with asyncio.timeout(PATIENCE_S):
        while not seen.told_since(asked):
            news.clear()
            await news.wait()


async def comes(news: asyncio.Event, within_s: float) -> bool:
    """Whether there are news from now on."""
    news.clear()
    try:
        async with asyncio.timeout(within_s):
            return await news.wait()
    except TimeoutError:
        return False


def test_who_waits_for_an_answer_is_told_at_once_and_of_a_question_asked_since(ray: Ray) -> None:
    async def watch() -> None:
        news = asyncio.Event()
        seen = nodes.Nodes(news.set)
        await seen.told()
        ray.alive.remove(OTHER)
        began = asyncio.get_running_loop().time()
        await fresh(seen, news)
        assert asyncio.get_running_loop().time() - began < nodes.LOOK_S
        assert (seen.lives(OWN), seen.lives(OTHER), seen.lives(None)) == (True, False, False)
        assert seen.others == []

    asyncio.run(watch())


def test_what_is_lost_is_not_seen_though_ray_takes_it_for_alive(ray: Ray) -> None:
    async def watch() -> None:
        seen = nodes.Nodes(lambda: None)
        await seen.told()
        assert seen.offered == {"CPU": 4.0}
        seen.lose(frozenset({OTHER}))
        assert [node.node for node in seen.seen] == [OWN]
        assert (seen.offered, seen.lives(OTHER), seen.others) == ({"CPU": 2.0}, False, [OTHER])
        seen.lose(frozenset())
        assert seen.lives(OTHER)

    asyncio.run(watch())


def test_while_ray_does_not_answer_it_is_asked_once_and_nobody_is_told_anything(
    ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "AWAY_S", 0.3)
    monkeypatch.setattr(nodes, "LOOK_S", 0.05)

    async def watch() -> None:
        news = asyncio.Event()
        seen = nodes.Nodes(news.set)
        await fresh(seen, news)
        assert not seen.away
        ray.answering.clear()
        before, asked = asyncio.get_running_loop().time(), ray.asked
        assert not await comes(news, 0.5)
        assert seen.away
        assert ray.asked <= asked + 1
        assert seen.unrivalled_at <= before
        assert not seen.told_since(before)
        ray.answering.set()
        await fresh(seen, news)
        assert not seen.away
        assert seen.unrivalled_at > before

    asyncio.run(watch())


def test_an_answer_that_is_an_error_is_none(ray: Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise RuntimeError("the GCS is away")

    monkeypatch.setattr(nodes, "LOOK_S", 0.05)

    async def watch() -> None:
        news = asyncio.Event()
        seen = nodes.Nodes(news.set)
        await fresh(seen, news)
        monkeypatch.setattr(nodes, "_ask", broken)
        before = asyncio.get_running_loop().time()
        assert not seen.told_since(before)
        assert not await comes(news, 0.5)
        assert not seen.told_since(before)
        assert seen.lives(OTHER)

    asyncio.run(watch())
