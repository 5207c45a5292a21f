"""`Supervisor`: the one actor that owns the registry and brings the stream actors in line with it."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import ray

from deployments.code import CODE_VERSION
from deployments.errors import StoreAway, StreamErrorCode, StreamNotFound, SupervisorUnavailable
from deployments.logs import configure_logging
from deployments.models.actor import require_model
from deployments.models.desk import ModelDesk
from deployments.models.versions import ModelState, Order, Version
from deployments.models.versions import Report as ModelReport
from deployments.names import DEFAULT_MODEL
from deployments.store.opening import is_local, open_store, refuse_nodes, warnings_of
from deployments.store.renewal import renew, tidied
from deployments.streams.actor import stream_actor_class
from deployments.streams.hardware import Budget, plan
from deployments.streams.history import HistoryEntry
from deployments.streams.policy import UrlPolicy
from deployments.streams.spec import StreamSpec, StreamStatus, StreamView
from deployments.supervisor.allowed import require_allowed
from deployments.supervisor.asking import ask_ray
from deployments.supervisor.book import SEQUENCE_BLOCK, StreamBook
from deployments.supervisor.config import SupervisorConfig
from deployments.supervisor.endings import Endings
from deployments.supervisor.entrance import Entrance, Placed, Survey
from deployments.supervisor.heartbeat.actor import Heartbeat
from deployments.supervisor.lives.actor import Life, Lives
from deployments.supervisor.nodes.actor import Nodes
from deployments.supervisor.past import Past
from deployments.supervisor.query import Part, PartQuery, part_of
from deployments.supervisor.reason import why_unseen
from deployments.supervisor.reconcile import Action, Reap, Restart, Start, Stop, Update, Wanted, reconcile
from deployments.supervisor.registry import Entry, StreamQuota
from deployments.supervisor.room import shortage
from deployments.supervisor.watch import Watch

PERIOD_S = 0.5
"""How old a shown status may be, and how soon a dead actor is noticed."""

FIND_PERIOD_S = 10.0
"""How often to look for stream actors that nobody here started."""

ADOPTION_PATIENCE_S = 4.0
"""Longest wait of a call for the adoption; then the caller is told to try again."""

reads = ray.method(max_task_retries=12)
"""Of what only reads: it is sent again to the next supervisor, once a second, for as long as the API waits."""

logger = logging.getLogger(__name__)


class Supervisor:
    """Accepts changes of specs, starts and ends actors, and knows every stream's status."""

    def __init__(self, config: SupervisorConfig, policy: UrlPolicy, store: str) -> None:
        configure_logging({"node": ray.get_runtime_context().get_node_id()})
        self._config = config
        self._policy = policy
        self._store = store
        self._sealed = open_store(store, os.environ)
        self._book = StreamBook(self._sealed, None if is_local(store) else store)
        self._wake = asyncio.Event()
        self._lives = Lives(self._wake.set)
        self._models = ModelDesk()
        self._past = Past()
        self._entrance = Entrance()
        self._nodes = Nodes(self._wake.set)
        self._heartbeat = Heartbeat(self._lives, self._nodes, lambda: self._book.epoch, self._wake.set)
        self._endings = Endings(self._lives, self._past, self._book, self._wake.set)
        self._watch = Watch(self._book, self._view)
        self._adopted = asyncio.Event()
        self._trouble: StoreAway | None = None
        self._draining = False
        self._passing = asyncio.Lock()
        self._find_at = 0.0
        # Ray calls a restarted actor's constructor, on the event loop, and nothing else. A call to itself from here
        # is lost where Ray takes long to tell it that it lives.
        self._loop_task = asyncio.get_running_loop().create_task(self._loop())

    async def identity(self) -> tuple[str, str]:
        """Its code and its store: one of another code or store has to be replaced."""
        return CODE_VERSION, self._store

    async def configure(self, config: SupervisorConfig, policy: UrlPolicy) -> None:
        """What holds for actors that start from now on: a redeployed API brings its own."""
        self._config, self._policy = config, policy

    # What the API calls ---------------------------------------------------------------------------------------

    async def create(self, spec: StreamSpec, quota: StreamQuota | None = None) -> StreamView:
        """Raises StreamExists, QuotaExceeded and what `put` does; everything here can raise SupervisorUnavailable."""
        await self._check(spec)
        return self._changed(await self._book.create(spec, quota, self._require_room))

    async def put(self, spec: StreamSpec, if_generation: int | None) -> tuple[StreamView, bool]:
        """Raises SpecConflict, InvalidSpec, ForbiddenAddress, NoCapacity, StoreAway."""
        await self._check(spec)
        entry, created = await self._book.put(spec, if_generation, self._require_room)
        return self._changed(entry), created

    async def patch(self, stream_id: str, merge_patch: Mapping[str, Any], if_generation: int | None) -> StreamView:
        """Raises StreamNotFound, SpecConflict, InvalidSpec, ForbiddenAddress, StoreAway."""
        await self._adoption()
        return self._changed(await self._book.patch(stream_id, merge_patch, if_generation, self._check))

    @reads
    async def get(self, stream_id: str) -> StreamView:
        """Raises StreamNotFound."""
        await self._adoption()
        return self._view(self._book.get(stream_id))

    @reads
    async def history(self, stream_id: str) -> tuple[HistoryEntry, ...]:
        """What the stream went through, newest first. Raises StreamNotFound."""
        await self._adoption()
        return self._lives.histories.of(self._book.get(stream_id).spec.id)

    @reads
    async def list(self) -> list[StreamView]:
        """Every stream, sorted by id."""
        await self._adoption()
        return [self._view(entry) for entry in sorted(self._book, key=lambda entry: entry.spec.id)]

    @reads
    async def part(self, query: PartQuery) -> Part:
        """Some of them."""
        await self._adoption()
        return part_of(self._book, self._view, query)

    async def restart(self, stream_id: str) -> StreamView:
        """Reconnect now. Raises StreamNotFound."""
        await self._adoption()
        entry = self._book.get(stream_id)
        self._past.try_now(stream_id)
        for life in self._lives.of(stream_id):
            if life.alive:
                life.actor.reconnect.remote(self._book.epoch)
        return self._view(entry)

    async def delete(self, stream_id: str, if_generation: int | None) -> None:
        """Return once the stream's actor has ended, at most 10 s later. Raises StreamNotFound, StoreAway."""
        await self._adoption()
        await self._book.remove(stream_id, if_generation)
        self._past.forget(stream_id)
        await self._endings.end(self._lives.of(stream_id))
        self._entrance.forget(stream_id)
        self._lives.histories.forget(stream_id)

    @reads
    async def survey(self) -> Survey:
        """What there is, what is spoken for, and what streams cost."""
        await self._adoption()
        return self._survey()

    async def drain(self) -> None:
        """End all actors in good order and start none any more; what users want stays in the store."""
        self._draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(PERIOD_S), self._passing:  # what it had begun to start is there by now
                pass
        await self._endings.end(list(self._lives))
        for stream_id in self._book.leased - self._lives.haunted:
            await self._book.release(stream_id)
        await tidied(self._sealed)

    async def end(self, epoch: int) -> None:
        """End this process for good where it has that epoch: another supervisor took over."""
        if epoch == self._book.epoch:
            ray.actor.exit_actor()  # type: ignore[no-untyped-call]

    async def _adoption(self) -> None:
        """Return once all streams are known. Raises SupervisorUnavailable, StoreAway."""
        if self._fenced:
            raise SupervisorUnavailable("another supervisor has taken over the store: this one ends")
        try:
            async with asyncio.timeout(ADOPTION_PATIENCE_S):
                await self._adopted.wait()
        except TimeoutError:
            if self._trouble is not None:
                raise StoreAway(str(self._trouble)) from None
            raise SupervisorUnavailable("the supervisor is finding its streams again: try again shortly") from None

    @property
    def _fenced(self) -> bool:
        return self._book.fenced or self._lives.fenced

    async def _check(self, spec: StreamSpec) -> None:
        """Refuse what can't be; a model that a stream has already may be away, and the default one comes."""
        await self._adoption()
        had = {entry.spec.detect.model for entry in self._book if entry.spec.id == spec.id}
        await require_model(spec.detect.model, {state.name for state in self._models.states()} | {DEFAULT_MODEL} | had)
        await require_allowed(spec, self._policy)

    def _require_room(self, spec: StreamSpec) -> None:
        if self._config.admission == "refuse" and self._book.kept(spec.id) is None:
            self._entrance.require_room(spec, self._survey())

    # What replicas of the detectors call, and the API of them -------------------------------------------------

    async def follow_model(self, report: ModelReport, wait_s: float) -> Order | None:
        """Take a replica's report; returns what it is to do, after ``wait_s`` at most."""
        return await self._models.follow(report, wait_s)

    async def wanted_model(self, model: str, configured: str) -> Version | None:
        """What a replica that starts should run instead of the package that its ``args`` name."""
        return self._models.wanted(model, configured)

    @reads
    async def models(self) -> tuple[ModelState, ...]:
        """The models that replicas run, by name."""
        return self._models.states()

    async def swap_model(self, model: str, package: str) -> ModelState:
        """Raises ModelNotFound, SwapInProgress, PackageRefused, DetectorUnavailable."""
        return await self._models.swap(model, package)

    # The loop -------------------------------------------------------------------------------------------------

    async def _loop(self) -> None:
        while not self._fenced:
            began = time.monotonic()
            try:
                async with self._passing:
                    await self._pass()
                self._trouble = None
            except StoreAway as error:
                if self._trouble is None:
                    logger.warning("%s; running streams run on, none is changed or started", error)
                self._trouble = error
            except Exception:
                logger.exception("a pass over the streams failed; the next one tries again")
            await asyncio.sleep(min(PERIOD_S, time.monotonic() - began))  # of many changes, not a pass for each
            with suppress(TimeoutError):
                async with asyncio.timeout(PERIOD_S):
                    await self._wake.wait()
            self._wake.clear()
        logger.error("another supervisor has taken over the store: this one ends")
        # By a call, as an actor can't end itself for good from its loop; with its epoch, as the call may reach another.
        ray.get_runtime_context().current_actor.end.remote(self._book.epoch)

    async def _pass(self) -> None:
        self._watch.poll(self._survey, [state.name for state in self._models.states()])
        if not self._adopted.is_set():
            await self._adopt()
            self._adopted.set()
            self._renewal = asyncio.create_task(renew(self._sealed))
        if asyncio.get_running_loop().time() >= self._find_at:
            self._find_at = asyncio.get_running_loop().time() + FIND_PERIOD_S
            self._lives.seek(self._book.epoch)
        for life in self._lives:
            if life.alive and life.report is not None:
                self._past.healthy(life.stream_id, asyncio.get_running_loop().time())
                self._entrance.hear(life.report.spec, life.report.status, life.grant, life.report.cpu)
        if not self._draining:
            await self._reconcile()
        await self._book.settle()
        for life in self._lives:
            await self._book.extend(life.stream_id, life.next_sequence)

    async def _adopt(self) -> None:
        """Take over the store, and go on where an earlier supervisor ended: its streams may have run on."""
        await self._nodes.told()
        refuse_nodes(self._store, len(self._nodes.doors))
        for line in await asyncio.to_thread(warnings_of, self._store, os.environ):
            logger.warning("%s", line)
        await self._book.open({"node": ray.get_runtime_context().get_node_id(), "at": time.time()})
        await self._lives.find(self._book.epoch)
        for life in self._lives:
            if life.report is None and (kept := self._book.kept(life.stream_id)) is not None:
                life.grant = kept.grant
        self._lives.haunt(self._book.leased)

    async def _reconcile(self) -> None:
        desired = [Wanted(entry, self._past.not_before(entry.spec.id)) for entry in self._book]
        now = asyncio.get_running_loop().time()
        actions = reconcile(desired, self._lives.observed(self._past.unplaced, self._nodes.to_leave), now)
        starts = [self._book.kept(action.entry.spec.id) for action in actions if isinstance(action, Start)]
        found = sorted((kept for kept in starts if kept is not None), key=lambda kept: kept.rank)
        for action in actions:
            await self._apply(action)
        if found:  # what needs the store comes last
            self._entrance.open(self._survey(), found, self._budget())
        for kept in self._entrance.in_turn(found):
            if not (self._nodes.away or self._draining) and self._book.is_still(kept):
                await self._start(kept.entry)

    def _survey(self) -> Survey:
        placed = {life.stream_id: Placed(life.at, life.grant) for life in self._lives}
        streams = [kept for entry in self._book if (kept := self._book.kept(entry.spec.id)) is not None]
        return self._entrance.survey(self._config, streams, placed, self._nodes.seen, self._models.states())

    def _budget(self) -> Budget:
        return Budget.of(self._nodes.offered, (life.grant for life in self._lives))

    async def _apply(self, action: Action) -> None:
        match action:
            case Update(actor, entry):
                self._lives.tell(self._lives[actor], self._book.epoch, entry)
            case Restart(actor, unplaced):
                if unplaced:
                    self._past.unplaced.add(self._lives[actor].stream_id)
                self._endings.soon(self._lives[actor])
            case Stop(actor):
                named = self._lives[actor].stream_id
                logger.warning("an actor of stream %s is ended: nobody wants it", named, extra={"stream": named})
                self._endings.soon(self._lives[actor])
            case Reap(actor):
                self._reap(self._lives[actor])

    async def _start(self, entry: Entry) -> None:
        """Begin another life of a stream: it is in the store before its actor is made. Raises StoreAway."""
        stream_id = entry.spec.id
        planned = plan(entry.spec, self._budget(), patient=stream_id not in self._past.unplaced)
        if planned.grant is None:
            self._entrance.wait(stream_id, StreamErrorCode.HWACCEL_UNAVAILABLE, planned.notes[0])
            return
        if (why := self._entrance.why_not(entry.spec)) is not None:
            self._entrance.wait(stream_id, StreamErrorCode.NO_CAPACITY, why)
            return
        self._entrance.let_in(stream_id)
        try:
            kept = await self._book.begin(stream_id, planned.grant, self._past.seen(stream_id))
            tenancy = await self._book.tenancy(stream_id, haunted=stream_id in self._lives.haunted)
        except StreamNotFound:
            return  # it was deleted meanwhile
        cpus, memory = self._config.stream_num_cpus, self._config.stream_memory_mb * 1024**2
        need = {**self._config.resources, **planned.grant.resources}
        node = self._entrance.place(entry.spec, planned.grant, need)
        create = stream_actor_class(stream_id, cpus, memory, planned.grant, node, self._nodes.lost)
        numbers, how = (kept.epoch, kept.reserved - SEQUENCE_BLOCK), (planned.grant, planned.notes, tenancy)
        told_all, carried = (self._config.trace_one_in, self._config.sinks), self._past.carried.get(stream_id)
        entry, rest = kept.entry, (*numbers, *how, *told_all, carried)
        told: tuple[Any, ...] = (self._book.epoch, entry.spec, entry.generation, self._policy, *rest)
        try:
            actor = await ask_ray(partial(create.remote, *told))
        except ValueError:  # the name is taken: by one that only just ends, or that nobody here started
            self._find_at = 0.0
            return
        self._past.carried.pop(stream_id, None)  # once: two lives that go on from it would give the same numbers
        started = asyncio.get_running_loop().time()
        life = Life(actor, stream_id, entry.generation, kept.epoch, planned.grant, started, node=node)
        self._lives.add(life)
        if not self._book.is_still(kept):  # deleted meanwhile, be there another of its name
            self._endings.soon(life)

    def _reap(self, life: Life) -> None:
        """Once it is known whether its node has gone with it; who died on one that lives has died for certain."""
        if life.at not in self._nodes.lost and not self._nodes.told_since(life.ended_at):
            return
        self._lives.forget(life)
        if self._book.kept(life.stream_id) is None:
            return
        self._past.ended(life.stream_id, life.next_sequence)
        if self._nodes.lives(life.at):
            self._past.died(life.stream_id, asyncio.get_running_loop().time())
            self._watch.died(life.stream_id)
        else:  # it was no fault of the stream: the next one need not wait
            self._lives.haunted.add(life.stream_id)

    # Views ----------------------------------------------------------------------------------------------------

    def _changed(self, entry: Entry) -> StreamView:
        self._wake.set()
        return self._view(entry)

    def _view(self, entry: Entry) -> StreamView:
        life = self._lives.newest(entry.spec.id)
        if life is None or life.report is None:
            waiting = self._entrance.waiting.get(entry.spec.id)
            reason = waiting.message if waiting else self._reason(entry.spec.id, life)
            status = StreamStatus(generation=entry.generation, reason=reason, last_error=waiting)
        else:
            status = life.report.status.model_copy(update={"generation": entry.generation})
        return StreamView(spec=entry.spec, status=status)

    def _reason(self, stream_id: str, life: Life | None) -> str:
        lack = None
        if life is not None:
            need = {**self._config.resources, **life.grant.resources}
            lack = shortage(need, (node.free for node in self._nodes.seen))
        kept = self._book.kept(stream_id)
        return why_unseen(
            draining=self._draining,
            starting=life is not None,
            lack=lack,
            store=str(self._trouble) if self._trouble is not None else None,
            head_away=self._nodes.away,
            began=kept is not None and kept.epoch > 0,
        )
