"""Swaps in time: replicas that follow on one side, a caller that waits on the other."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from deployments.errors import DetectorUnavailable, PackageRefused
from deployments.models import desk as desks
from deployments.models.desk import ModelDesk
from deployments.models.versions import Discard, Order, Prepare, Refusal, Report, Switch, Version
from tests.unit.models.test_board import INFO


class Follower:
    """A replica that does as it is told; at ``silent_after`` orders it stops."""

    def __init__(self, desk: ModelDesk, name: str, bad: str = "", silent_after: int = 1000) -> None:
        self.desk, self.name, self.bad, self.left = desk, name, bad, silent_after
        self.running, self.ready, self.refused = Version(0, "/old"), None, None
        self.orders: list[Order] = []
        self.known = asyncio.Event()

    running: Version
    ready: Version | None
    refused: Refusal | None

    def report(self) -> Report:
        ready = None if self.ready is None else self.ready.number
        return Report("default", self.name, "node", "/old", self.running, INFO, 50.0, ready, self.refused)

    async def run(self) -> None:
        while self.left:
            asyncio.get_running_loop().call_soon(self.known.set)
            order = await self.desk.follow(self.report(), 5.0)
            if order is None:
                continue
            self.left -= 1
            self.orders.append(order)
            match order:
                case Prepare(version) if version.package == self.bad:
                    self.refused = Refusal(version.number, "no such file")
                case Prepare(version):
                    self.ready = version
                case Switch():
                    assert self.ready is not None
                    self.running, self.ready = self.ready, None
                case Discard():
                    self.ready = None


def played(desk: ModelDesk, followers: list[Follower], swap: Coroutine[Any, Any, Any]) -> Any:
    async def play() -> Any:
        tasks = [asyncio.create_task(follower.run()) for follower in followers]
        try:
            for follower in followers:
                await asyncio.wait_for(follower.known.wait(), 10)
            async with asyncio.timeout(20):
                return await swap
        finally:
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(play())


def test_a_swap_returns_once_every_replica_has_switched() -> None:
    desk = ModelDesk()
    followers = [Follower(desk, "one"), Follower(desk, "two")]
    state = played(desk, followers, desk.swap("default", "/new"))
    assert (state.package, len(state.replicas)) == ("/new", 2)
    assert [follower.running.package for follower in followers] == ["/new", "/new"]
    assert desk.wanted("default", "/old") == followers[0].running


def test_a_refused_package_is_told_with_its_reason_and_nothing_changes() -> None:
    desk = ModelDesk()
    followers = [Follower(desk, "one"), Follower(desk, "two", bad="/new")]
    with pytest.raises(PackageRefused, match="nothing has changed: no such file"):
        played(desk, followers, desk.swap("default", "/new"))
    assert [follower.running.package for follower in followers] == ["/old", "/old"]
    assert desk.wanted("default", "/old") is None


def test_a_replica_that_never_gets_ready_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desks, "PREPARE_S", 0.2)
    desk = ModelDesk()
    followers = [Follower(desk, "one"), Follower(desk, "two", silent_after=1)]
    with pytest.raises(DetectorUnavailable, match="not every replica"):
        played(desk, followers, desk.swap("default", "/new"))
    assert followers[0].running.package == "/old"
    assert isinstance(followers[0].orders[-1], Discard)
