"""`Lives`: every stream actor there is, found by name or started here, asked for its report again and again."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import ActorUnavailableError, RayActorError, RayError

from deployments.code import CODE_VERSION
from deployments.store.protocol import Fenced
from deployments.streams.actor import Report, stream_actors
from deployments.streams.hardware import NOTHING, Grant
from deployments.streams.history import Histories
from deployments.supervisor.asking import ask_ray
from deployments.supervisor.reconcile import Observed
from deployments.supervisor.registry import Entry

POLL_TIMEOUT_S = 5.0
"""An actor that gives no report for this long is shown as it last was."""

FIND_TIMEOUT_S = 2.0
"""How long actors that were found may take to report, all at once; who is silent is asked again with the others."""

DELETE_TIMEOUT_S = 10.0
"""A stream that has not stopped by then is killed."""

UNSEEN_DELETE_TIMEOUT_S = 1.0
"""The same of an actor that never reported: no node has had room for it yet, or it only just starts."""

ASKED_AT_ONCE = 200
"""Reports asked for in one heartbeat. One costs some 0.5 ms of CPU here, so that twice a second so many take a fifth of
a core; of a thousand streams each is heard every 2.5 s."""

UNSTEADY = 5.0
"""By how much sooner those are asked that are not online."""

OVERDUE_S = 2.0
"""Who was not asked for so long is asked as soon as they: the supervisor's word, by which a life publishes where the
store does not answer, is up to two questions old (`lease.HOLD_S`)."""

ENDED_KEPT = 1000
"""Ray lists an actor for a moment after its end: how many are known not to be found again."""

_NOT_UNDERSTOOD = (TypeError, AttributeError)
"""What Ray raises for a call with other arguments than the actor's class takes."""

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Life:
    """What is known of one actor.

    Attributes:
        generation: 0 where it isn't known, so that it is told again.
        epoch: 0 where it isn't known.
        found: another supervisor started it.
        foreign: it doesn't understand our calls, so it is of another release.
        heard_at: when it last answered, seconds on the loop's clock.
        ended_at: when it was heard that it has ended, by the same clock.
        vouched: the stamp of the newest report for which it can be told that nobody had succeeded it then.
        node: where it was asked to start.
        asked_at: when it was last asked, seconds on the loop's clock.
        carried: once it has stopped in good order: what its successor goes on with.
    """

    actor: ActorHandle[Any]
    stream_id: str
    generation: int
    epoch: int
    grant: Grant
    started: float
    report: Report | None = None
    alive: bool = True
    ending: asyncio.Task[None] | None = None
    found: bool = False
    foreign: bool = False
    heard_at: float = 0.0
    ended_at: float = 0.0
    vouched: float | None = None
    poll: asyncio.Task[None] | None = None
    node: str | None = None
    carried: bytes | None = None
    asked_at: float = float("-inf")

    @property
    def may_be_asked(self) -> bool:
        """Whether it has answered the last question."""
        return self.alive and not self.stopping and (self.poll is None or self.poll.done())

    def turn(self, now: float) -> float:
        """The lower is asked first."""
        online = self.report is not None and self.report.status.online
        return (self.asked_at - now) * (1.0 if online and now - self.asked_at < OVERDUE_S else UNSTEADY)

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self.ending is not None

    def ended(self, now: float) -> None:
        """It answers no more."""
        if self.alive:
            self.alive, self.ended_at = False, now

    @property
    def key(self) -> str:
        """Which actor it is."""
        return key_of(self.actor)

    @property
    def at(self) -> str | None:
        """The node where it is, or is expected."""
        return self.report.status.node if self.report is not None else self.node

    @property
    def next_sequence(self) -> int:
        """The number after the last frame that was heard of."""
        return self.report.next_sequence if self.report is not None else 0


def key_of(actor: ActorHandle[Any]) -> str:
    """Ray's id of an actor."""
    return str(actor._actor_id.hex())


def _is_current(life: Life) -> bool:
    """Whether it runs our code. One that was started here is never too old: sources may change while we run."""
    told = life.report is not None and life.report.code != CODE_VERSION
    return not life.found or not (told or life.foreign)


class Lives:
    """A collection of `Life`; ``fenced`` once an actor said that a newer supervisor calls it.

    Args:
        on_end: called where one is found to have ended.
    """

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        self.fenced = False
        self.haunted: set[str] = set()
        """Streams of which an earlier life may publish still: it fell silent, or was never heard of."""
        self.unrivalled_at = float("-inf")
        """No supervisor had been started after us then, by the loop's clock."""
        self.histories = Histories()
        self._lives: dict[str, Life] = {}
        self._by_stream: defaultdict[str, list[Life]] = defaultdict(list)
        self._ended: deque[str] = deque(maxlen=ENDED_KEPT)
        self._seeking: asyncio.Task[None] | None = None
        self._telling: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[Life]:
        return iter(list(self._lives.values()))

    def __getitem__(self, actor: str) -> Life:
        return self._lives[actor]

    def of(self, stream_id: str) -> list[Life]:
        """All of a stream, the newest last; mostly one."""
        return sorted(self._by_stream.get(stream_id, ()), key=lambda life: (life.alive, life.epoch))

    def newest(self, stream_id: str) -> Life | None:
        """The one that stands for a stream."""
        return next(iter(reversed(self.of(stream_id))), None)

    def haunt(self, leased: Iterable[str]) -> None:
        """Of these streams a life has begun; nobody here knows of its end, unless one publishes now."""
        publishing = {life.stream_id for life in self if life.report is not None and life.report.publishes}
        self.haunted.update(set(leased) - publishing)

    def add(self, life: Life) -> None:
        """Take in an actor; one that was just found as well is that of this life."""
        if (found := self._lives.get(life.key)) is not None:
            self._by_stream[life.stream_id].remove(found)
        self._lives[life.key] = life
        self._by_stream[life.stream_id].append(life)

    def forget(self, life: Life) -> None:
        """It has ended."""
        if self._lives.pop(life.key, None) is None:
            return
        self._ended.append(life.key)
        self._by_stream[life.stream_id].remove(life)
        if not self._by_stream[life.stream_id]:
            del self._by_stream[life.stream_id]

    def observed(self, impatient: set[str], to_leave: Collection[str] = ()) -> list[Observed]:
        """For `reconcile`.

        Args:
            impatient: streams that take no place on a GPU any more that no node has room for.
            to_leave: nodes whose streams have to move.
        """
        return [
            Observed(
                actor=life.key,
                stream_id=life.stream_id,
                generation=life.generation,
                epoch=life.epoch,
                alive=life.alive,
                stopping=life.stopping,
                reported=life.report is not None,
                started=life.started,
                grant=life.grant,
                patient=life.stream_id not in impatient,
                current=_is_current(life),
                leaving=life.at in to_leave,
            )
            for life in self._lives.values()
        ]

    async def find(self, epoch: int) -> None:
        """Take in stream actors that are not known: of an earlier supervisor, or that nobody remembers."""
        now = asyncio.get_running_loop().time()
        known = {life.stream_id for life in self._lives.values() if life.alive}  # a name has one actor at a time
        found = []
        for stream_id, actor in (await ask_ray(stream_actors, known)).items():
            key = key_of(actor)
            if key not in self._lives and key not in self._ended:
                found.append(Life(actor, stream_id, 0, 0, NOTHING, now, found=True))
                self.add(found[-1])
        await asyncio.gather(*(self.ask(life, epoch, FIND_TIMEOUT_S) for life in found))

    def seek(self, epoch: int) -> None:
        """`find`, unless that goes on already: with the head away it hangs."""
        if self._seeking is None or self._seeking.done():
            self._seeking = asyncio.get_running_loop().create_task(self.find(epoch))

    def poll(self, epoch: int) -> None:
        """Ask all who have answered the last question; of very many, `ASKED_AT_ONCE` of those who wait longest."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        able = [life for life in self._lives.values() if life.may_be_asked]
        for life in able if len(able) <= ASKED_AT_ONCE else nsmallest(ASKED_AT_ONCE, able, lambda each: each.turn(now)):
            life.asked_at = now
            life.poll = loop.create_task(self.ask(life, epoch))

    async def ask(self, life: Life, epoch: int, timeout_s: float = POLL_TIMEOUT_S) -> None:
        """Take the report of one."""
        heard = life.report.changes if life.report is not None else 0
        if life.report is not None and life.heard_at <= self.unrivalled_at:
            life.vouched = life.report.stamp
        try:
            report: Report = await asyncio.wait_for(life.actor.report.remote(epoch, heard, life.vouched), timeout_s)
        except (TimeoutError, ActorUnavailableError):
            return  # not placed yet, busy or cut off; shown as it last was
        except Fenced:
            self.fenced = True
        except _NOT_UNDERSTOOD:
            life.foreign = True
        except RayActorError:
            life.ended(asyncio.get_running_loop().time())
            self._on_end()
        except RayError:
            logger.exception("an actor could not report")
        else:
            if life.alive:  # else it was given up meanwhile, with its node, and its successor waits for its end
                self._take(life, report)

    def _take(self, life: Life, report: Report) -> None:
        if life.report is None and life.found:
            life.generation = report.status.generation
        life.report, life.grant, life.epoch = report, report.grant, report.status.epoch
        life.heard_at = asyncio.get_running_loop().time()
        if report.publishes:
            self.haunted.discard(life.stream_id)
        self.histories.take(life.stream_id, report.history)

    def tell(self, life: Life, epoch: int, entry: Entry) -> None:
        """Have an actor follow a changed spec. Where that fails its generation is unknown: it is told again."""
        life.generation = entry.generation
        task = asyncio.get_running_loop().create_task(self._tell(life, epoch, entry))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, life: Life, epoch: int, entry: Entry) -> None:
        try:
            await life.actor.apply.remote(epoch, entry.spec, entry.generation)
        except Fenced:
            self.fenced = True
        except RayError as error:
            if life.alive and life.generation == entry.generation:
                life.generation = 0
                what = "stream %s does not follow its changed spec yet, and is told again: %s"
                logger.warning(what, life.stream_id, error, extra={"stream": life.stream_id})

    async def end(self, life: Life, epoch: int) -> None:
        """Return once an actor has ended, `DELETE_TIMEOUT_S` later at most, whoever asked for it first."""
        if life.ending is None:
            life.ending = asyncio.get_running_loop().create_task(self._end(life, epoch))
        await asyncio.shield(life.ending)

    async def _end(self, life: Life, epoch: int) -> None:
        timeout_s = DELETE_TIMEOUT_S if life.report is not None else UNSEEN_DELETE_TIMEOUT_S
        try:
            answer: object = await asyncio.wait_for(life.actor.stop.remote(epoch), timeout_s)
            life.carried = answer if isinstance(answer, bytes) else None  # other releases answer something else
        except Fenced:
            self.fenced = True  # it is another's now
            return
        except (TimeoutError, RayError, *_NOT_UNDERSTOOD):
            what = "stream %s did not stop within %g s: its actor is killed"
            logger.warning(what, life.stream_id, timeout_s, extra={"stream": life.stream_id})
            self.haunted.add(life.stream_id)
        try:
            await ask_ray(ray.kill, life.actor, no_restart=True)
        except Exception:
            life.ending = None  # it is asked to end again
            raise
        self.forget(life)
