"""What is made of an actor's answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError

from deployments.code import CODE_VERSION
from deployments.store.protocol import Fenced
from deployments.streams.actor import Report
from deployments.streams.fence import Fence
from deployments.streams.hardware import NOTHING, Grant
from deployments.streams.history import HistoryEntry
from deployments.streams.spec import SourceSpec, StreamSpec, StreamState, StreamStatus
from deployments.supervisor.lives.actor import ASKED_AT_ONCE, OVERDUE_S, Life, Lives
from deployments.supervisor.registry import Entry

REPORT = Report(
    StreamSpec(id="gate", source=SourceSpec(url="testsrc://")),
    StreamStatus(generation=3, epoch=7),
    next_sequence=4711,
    grant=Grant(nvdec=True),
    code=CODE_VERSION,
    changes=2,
    history=(HistoryEntry(epoch=7, number=1, at=1.0, last_at=1.0, state=StreamState.ONLINE),),
    stamp=100.0,
    publishes=True,
)


@dataclass
class Method:
    """A method of an actor as its handle offers it."""

    answer: Any
    fence: Fence
    vouched: list[float | None] = field(default_factory=list)

    def remote(self, epoch: int, heard: int, vouched: float | None) -> asyncio.Future[Report]:
        self.vouched.append(vouched)
        if isinstance(self.answer, TypeError):
            raise self.answer  # Ray checks the arguments before it sends them
        future: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        try:
            self.fence.admit(epoch)
        except Fenced as error:
            future.set_exception(error)
        else:
            if isinstance(self.answer, RayActorError):
                future.set_exception(self.answer)
            else:
                future.set_result(self.answer)
        return future


@dataclass
class Following:
    """An actor's `apply`, which fails as ``failures`` say, one after the other."""

    failures: list[Exception] = field(default_factory=list)
    applied: list[int] = field(default_factory=list)

    def remote(self, epoch: int, spec: StreamSpec, generation: int) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.failures:
            future.set_exception(self.failures.pop(0))
        else:
            self.applied.append(generation)
            future.set_result(None)
        return future


@dataclass
class Handle:
    """Stands for Ray's handle of a stream actor."""

    report: Method
    _actor_id: bytes = field(default=b"\x01\x02")
    apply: Following = field(default_factory=Following)


def asked(answer: Any, epoch: int = 5, *, found: bool, on_end: Callable[[], None] = lambda: None) -> tuple[Lives, Life]:
    """A life, after its answer."""
    lives = Lives(on_end)
    life = Life(Handle(Method(answer, Fence(5))), "gate", 0 if found else 2, 0, NOTHING, 0.0, found=found)  # type: ignore[arg-type]
    lives.add(life)
    asyncio.run(lives.ask(life, epoch))
    return lives, life


def test_what_was_found_is_followed_as_it_tells() -> None:
    lives, life = asked(REPORT, found=True)
    (seen,) = lives.observed(set())
    assert (seen.generation, seen.epoch, seen.grant, seen.current) == (3, 7, Grant(nvdec=True), True)
    assert life.next_sequence == 4711
    assert lives.histories.of("gate") == REPORT.history


def test_what_was_started_here_follows_what_it_was_last_told() -> None:
    (seen,) = asked(REPORT, found=False)[0].observed(set())
    assert seen.generation == 2


@pytest.mark.parametrize(("found", "current"), [(True, False), (False, True)])
def test_only_what_another_supervisor_started_can_be_too_old(found: bool, current: bool) -> None:
    old = Report(REPORT.spec, REPORT.status, 0, NOTHING, "0+of-another-release", 0, (), 0.0, True)
    for answer in (old, TypeError("report() takes no epoch")):
        (seen,) = asked(answer, found=found)[0].observed(set())
        assert seen.current is current


def test_a_supervisor_that_an_actor_refuses_knows_that_it_was_replaced() -> None:
    assert not asked(REPORT, epoch=5, found=True)[0].fenced
    lives, life = asked(REPORT, epoch=4, found=True)
    assert lives.fenced
    assert life.report is None
    assert life.alive


def test_who_has_ended_is_said_at_once() -> None:
    said: list[str] = []
    _, life = asked(REPORT, found=False, on_end=lambda: said.append("end"))
    assert life.alive
    assert not said
    _, life = asked(RayActorError(), found=False, on_end=lambda: said.append("end"))
    assert not life.alive
    assert said == ["end"]


def test_the_newest_of_a_streams_lives_comes_last_and_what_has_ended_is_gone() -> None:
    lives = Lives(lambda: None)

    def add(number: int, epoch: int, alive: bool) -> Life:
        handle: Any = Handle(Method(REPORT, Fence(0)), bytes([number]))
        lives.add(Life(handle, "gate", 1, epoch, NOTHING, 0.0, alive=alive))
        return lives[bytes([number]).hex()]

    dead, old, new = add(1, 9, False), add(2, 3, True), add(3, 4, True)
    assert lives.of("gate") == [dead, old, new]
    assert lives.of("yard") == []
    for life in (dead, new, new):
        lives.forget(life)
    assert lives.of("gate") == [old]
    assert list(lives) == [old]


def test_a_stream_is_vouched_for_only_as_of_a_time_at_which_no_other_supervisor_was_known_to_be_there() -> None:
    lives, life = asked(REPORT, found=False)
    method: Any = life.actor.report
    asyncio.run(lives.ask(life, 5))
    assert method.vouched == [None, None]  # nobody knows whether there is another supervisor
    lives.unrivalled_at = life.heard_at + 1.0
    asyncio.run(lives.ask(life, 5))
    assert method.vouched[-1] == REPORT.stamp


@pytest.mark.parametrize("publishes", [True, False])
def test_a_stream_is_haunted_until_a_life_publishes_it_again(publishes: bool) -> None:
    lives, life = asked(replace(REPORT, publishes=False), found=False)
    lives.haunted.add("gate")
    method: Any = life.actor.report
    method.answer = replace(REPORT, publishes=publishes)
    asyncio.run(lives.ask(life, 5))
    assert ("gate" in lives.haunted) is not publishes


def steady(number: int, age_s: float, now: float, *, online: bool = True) -> Life:
    """One of many lives, asked for the last time so long ago."""
    life = Life(
        Handle(Method(REPORT, Fence(5)), bytes([number >> 8, number & 255])), f"cam-{number}", 1, 1, NOTHING, 0.0
    )  # type: ignore[arg-type]
    status = StreamStatus(online=online)
    life.report, life.asked_at = replace(REPORT, status=status), now - age_s
    return life


def poll_once(lives: Lives) -> list[Life]:
    """Those who are asked."""

    async def run() -> list[Life]:
        lives.poll(5)
        asked = [life for life in lives if life.poll is not None]
        await asyncio.gather(*(life.poll for life in asked if life.poll is not None))
        return asked

    return asyncio.run(run())


def test_all_are_asked_while_they_are_few() -> None:
    lives = Lives(lambda: None)
    for number in range(ASKED_AT_ONCE):
        lives.add(steady(number, 0.5, 0.0))
    assert len(poll_once(lives)) == ASKED_AT_ONCE


def test_of_very_many_those_are_asked_who_wait_longest_and_sooner_who_are_not_online() -> None:
    lives, now = Lives(lambda: None), time.monotonic()
    others = [steady(number, 0.7 * OVERDUE_S, now) for number in range(ASKED_AT_ONCE - 2)]
    early = [steady(1000 + number, 0.2 * OVERDUE_S, now) for number in range(50)]
    late, broken = steady(2000, 0.5 * OVERDUE_S, now), steady(2001, 0.3 * OVERDUE_S, now, online=False)
    fresh = steady(2002, 0.0, now)
    fresh.report, fresh.asked_at = None, float("-inf")
    for life in (*early, *others, late, broken, fresh):
        lives.add(life)
    assert {life.stream_id for life in poll_once(lives)} == {life.stream_id for life in (*others, broken, fresh)}


def test_nobody_online_waits_for_those_who_are_not() -> None:
    """They may publish by the supervisor's word, which must not grow old."""
    lives, now = Lives(lambda: None), time.monotonic()
    online = [steady(number, 1.3 * OVERDUE_S, now) for number in range(ASKED_AT_ONCE)]
    broken = [steady(1000 + number, 1.2 * OVERDUE_S, now, online=False) for number in range(50)]
    for life in (*online, *broken):
        lives.add(life)
    assert {life.stream_id for life in poll_once(lives)} == {life.stream_id for life in online}


def told(*failures: Exception) -> tuple[Lives, Life]:
    """A life that was told of a changed spec, as often as a pass of the supervisor would see that it has to be."""
    lives, entry = Lives(lambda: None), Entry(REPORT.spec, 4)
    life = Life(Handle(Method(REPORT, Fence(5)), apply=Following(list(failures))), "gate", 3, 7, NOTHING, 0.0)  # type: ignore[arg-type]
    lives.add(life)

    async def passes() -> None:
        for _ in range(len(failures) + 1):
            if life.generation != entry.generation:
                lives.tell(life, 5, entry)
            await asyncio.sleep(0)
            await asyncio.gather(*lives._telling)

    asyncio.run(passes())
    return lives, life


def test_a_change_that_an_actor_could_not_follow_is_told_again() -> None:
    _, life = told(ActorUnavailableError("busy", b"\x01" * 16), RayTaskError("apply", "", RuntimeError("no thread")))
    assert (life.actor.apply.applied, life.generation) == ([4], 4)  # type: ignore[attr-defined]


def test_who_is_told_that_it_was_replaced_tells_nothing_again() -> None:
    lives, life = told(Fenced("a newer one"))
    assert lives.fenced
    assert life.actor.apply.applied == []  # type: ignore[attr-defined]


def test_who_was_given_up_with_its_node_is_not_taken_for_alive_by_a_late_answer() -> None:
    lives = Lives(lambda: None)
    life = Life(Handle(Method(REPORT, Fence(5))), "gate", 3, 7, NOTHING, 0.0)  # type: ignore[arg-type]
    lives.add(life)
    lives.haunted.add("gate")

    async def late() -> None:
        answer = asyncio.create_task(lives.ask(life, 5))
        await asyncio.sleep(0)
        life.ended(1.0)
        await answer

    asyncio.run(late())
    assert "gate" in lives.haunted
    assert life.report is None
    assert lives.histories.of("gate") == ()
