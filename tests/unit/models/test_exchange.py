"""A replica's part: one version at a time is made ready, and whatever isn't taken is closed."""

from __future__ import annotations

import threading

import pytest

from deployments.models import exchange as exchanges
from deployments.models.exchange import ModelExchange
from deployments.models.versions import Discard, Prepare, Refusal, Switch, Version
from engines.errors import PackageError

ONE, TWO, BAD = Version(1, "one"), Version(2, "two"), Version(3, "bad")


class Made:
    def __init__(self, package: str) -> None:
        self.package, self.closed = package, False

    def close(self) -> None:
        self.closed = True


class Rig:
    def __init__(self) -> None:
        self.made: list[Made] = []
        self.taken: list[tuple[Version, Made]] = []
        self.flowing = threading.Event()
        self.flowing.set()
        self.exchange = ModelExchange(self.make, lambda version, made: self.taken.append((version, made)))

    def make(self, version: Version) -> Made:
        assert self.flowing.wait(10)
        if version == BAD:
            raise PackageError("it isn't\nthere")
        self.made.append(Made(version.package))
        return self.made[-1]


def test_what_is_ready_is_switched_to_and_not_closed() -> None:
    rig = Rig()
    rig.flowing.clear()
    rig.exchange.obey(Prepare(ONE))
    assert (rig.exchange.busy, rig.exchange.ready) == (True, None)
    rig.exchange.obey(Prepare(TWO))  # comes again once the first is done
    rig.flowing.set()
    rig.exchange.await_work(10)
    assert rig.exchange.ready == ONE.number
    rig.exchange.obey(Switch(TWO.number))
    assert rig.taken == []
    rig.exchange.obey(Switch(ONE.number))
    assert rig.taken == [(ONE, rig.made[0])]
    assert rig.exchange.ready is None
    rig.exchange.close()
    assert not rig.made[0].closed


def test_what_is_not_taken_is_closed() -> None:
    rig = Rig()
    for order in (Prepare(ONE), Prepare(TWO), Discard()):
        rig.exchange.obey(order)
        rig.exchange.await_work(10)
    assert [(made.package, made.closed) for made in rig.made] == [("one", True), ("two", True)]


def test_a_refusal_has_one_line_and_is_forgotten_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    rig.exchange.obey(Prepare(BAD))
    rig.exchange.await_work(10)
    assert rig.exchange.refused == Refusal(BAD.number, "it isn't there")
    assert rig.exchange.ready is None
    monkeypatch.setattr(exchanges, "RETRY_S", -1.0)
    assert rig.exchange.refused is None
