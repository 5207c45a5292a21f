"""`Supervisor`: the one actor that owns the registry and brings the stream actors in line with it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.state import available_resources_per_node
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayError

from deployments.errors import InvalidSpec, StreamError, StreamErrorCode, StreamNotFound, SupervisorUnavailable
from deployments.models.actor import declared_models
from deployments.models.desk import ModelDesk
from deployments.models.versions import ModelState, Order, Version
from deployments.models.versions import Report as ModelReport
from deployments.names import DEFAULT_MODEL, NAMESPACE, SUPERVISOR
from deployments.streams.actor import Report, actor_name, stream_actor_class, stream_actors
from deployments.streams.backoff import Backoff
from deployments.streams.hardware import NOTHING, Budget, Grant, plan
from deployments.streams.history import Histories, HistoryEntry
from deployments.streams.media import test_pattern
from deployments.streams.policy import UrlPolicy
from deployments.streams.spec import LastError, StreamSpec, StreamStatus, StreamView
from deployments.supervisor import keeper
from deployments.supervisor.config import SupervisorConfig
from deployments.supervisor.reconcile import Action, Observed, Reap, Start, Stop, Update, reconcile
from deployments.supervisor.registry import Entry, StreamRegistry, patch
from deployments.supervisor.room import shortage
from deployments.telemetry import SupervisorTelemetry

PERIOD_S = 0.5
"""How old a shown status may be, and how soon a dead actor is noticed."""

POLL_TIMEOUT_S = 5.0
"""An actor that gives no report for this long is shown as it last was."""

ADOPT_TIMEOUT_S = 2.0
"""How long a restarted supervisor waits for all actors at once; who is silent is asked again with the others."""

ADOPTION_PATIENCE_S = 4.0
"""Longest wait of a call for the adoption; then the caller is told to try again."""

DELETE_TIMEOUT_S = 10.0
"""A stream that has not stopped by then is killed."""

UNSEEN_DELETE_TIMEOUT_S = 1.0
"""The same of an actor that never reported: no node has had room for it yet, or it only just starts."""

PLACE_PATIENCE_S = 60.0
"""How long an actor with a place on a GPU waits for a node with room, then starts without; a crowd takes half of it."""

SEQUENCE_MARGIN = 100_000
"""Added when an actor is replaced: above the frames that its predecessor decoded unseen since its last report."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Running:
    """What is known of one started actor."""

    actor: ActorHandle[Any]
    generation: int
    grant: Grant
    started: float
    report: Report | None = None
    alive: bool = True
    stopping: bool = False
    poll: asyncio.Task[None] | None = None


class Supervisor:
    """Accepts changes of specs, starts and ends actors, and knows every stream's status."""

    def __init__(self, config: SupervisorConfig, policy: UrlPolicy) -> None:
        self._config = config
        self._policy = policy
        self._registry = StreamRegistry()
        self._models = ModelDesk()
        self._running: dict[str, _Running] = {}
        self._epochs: Counter[str] = Counter()
        self._sequences: Counter[str] = Counter()
        self._deaths: dict[str, Backoff] = {}
        self._not_before: dict[str, float] = {}
        self._unplaced: set[str] = set()
        self._waiting: dict[str, LastError] = {}
        self._free: list[Mapping[str, float]] = []
        self._telemetry = SupervisorTelemetry()
        self._adopted = asyncio.Event()
        self._wake = asyncio.Event()
        self._histories = Histories()
        # Ray calls a restarted actor's constructor, on the event loop, and nothing else. A call to itself from here
        # is lost where Ray takes long to tell it that it lives.
        self._loop_task = asyncio.get_running_loop().create_task(self._loop())

    async def configure(self, config: SupervisorConfig, policy: UrlPolicy) -> None:
        """What holds for actors that start from now on: a redeployed API brings its own."""
        self._config, self._policy = config, policy

    # What the API calls ---------------------------------------------------------------------------------------

    async def create(self, spec: StreamSpec) -> StreamView:
        """Raises StreamExists, InvalidSpec, ForbiddenAddress."""
        await self._check(spec)
        return self._changed(self._registry.create(spec))

    async def put(self, spec: StreamSpec, if_generation: int | None) -> tuple[StreamView, bool]:
        """Raises SpecConflict, InvalidSpec, ForbiddenAddress."""
        await self._check(spec)
        entry, created = self._registry.put(spec, if_generation)
        return self._changed(entry), created

    async def patch(self, stream_id: str, merge_patch: Mapping[str, Any], if_generation: int | None) -> StreamView:
        """Raises StreamNotFound, SpecConflict, InvalidSpec, ForbiddenAddress."""
        await self._adoption()
        return self._changed(await patch(self._registry, stream_id, merge_patch, if_generation, self._check))

    async def get(self, stream_id: str) -> StreamView:
        """Raises StreamNotFound."""
        await self._adoption()
        return self._view(self._registry.get(stream_id))

    async def history(self, stream_id: str) -> tuple[HistoryEntry, ...]:
        """What the stream went through, newest first. Raises StreamNotFound."""
        await self._adoption()
        return self._histories.of(self._registry.get(stream_id).spec.id)

    async def list(self) -> list[StreamView]:
        """Every stream, sorted by id."""
        await self._adoption()
        return [self._view(entry) for entry in sorted(self._registry, key=lambda entry: entry.spec.id)]

    async def restart(self, stream_id: str) -> StreamView:
        """Reconnect now. Raises StreamNotFound."""
        await self._adoption()
        entry = self._registry.get(stream_id)
        self._not_before.pop(stream_id, None)
        self._unplaced.discard(stream_id)
        running = self._running.get(stream_id)
        if running is not None and running.alive:
            running.actor.reconnect.remote()
        return self._view(entry)

    async def delete(self, stream_id: str, if_generation: int | None) -> None:
        """Return once the stream's actor has ended, at most `DELETE_TIMEOUT_S` later. Raises StreamNotFound."""
        await self._adoption()
        self._registry.remove(stream_id, if_generation)
        keeper.forget(stream_id)
        self._unplaced.discard(stream_id)
        self._waiting.pop(stream_id, None)
        await self._stop(stream_id)
        self._histories.forget(stream_id)

    async def _adoption(self) -> None:
        """Return once all streams are known. Raises SupervisorUnavailable."""
        try:
            async with asyncio.timeout(ADOPTION_PATIENCE_S):
                await self._adopted.wait()
        except TimeoutError:
            raise SupervisorUnavailable("the supervisor is finding its streams again: try again shortly") from None

    async def _check(self, spec: StreamSpec) -> None:
        """Refuse what the policy forbids; a name or file that can't be found yet is the stream's own error."""
        await self._adoption()
        await self._check_model(spec)
        if spec.source.url.startswith("testsrc:"):
            test_pattern.parse(spec.source.url)
        with suppress(StreamError):
            await asyncio.to_thread(self._policy.check_source, spec.source.url)
        for output in spec.outputs:
            with suppress(StreamError):
                await asyncio.to_thread(self._policy.check_output, output.url)

    async def _check_model(self, spec: StreamSpec) -> None:
        """Refuse a model that there is not; one that a stream has already may be away, and the default one comes."""
        model = spec.detect.model
        had = {entry.spec.detect.model for entry in self._registry if entry.spec.id == spec.id}
        known = {state.name for state in self._models.states()} | {DEFAULT_MODEL} | had
        if model not in known:
            known |= await asyncio.to_thread(declared_models)
        if model not in known:
            raise InvalidSpec("detect.model", f"there is no model {model!r}; there are: {', '.join(sorted(known))}")

    # What replicas of the detectors call, and the API of them -------------------------------------------------

    async def follow_model(self, report: ModelReport, wait_s: float) -> Order | None:
        """Take a replica's report; returns what it is to do, after ``wait_s`` at most."""
        return await self._models.follow(report, wait_s)

    async def wanted_model(self, model: str, configured: str) -> Version | None:
        """What a replica that starts should run instead of the package that its ``args`` name."""
        return self._models.wanted(model, configured)

    async def models(self) -> tuple[ModelState, ...]:
        """The models that replicas run, by name."""
        return self._models.states()

    async def swap_model(self, model: str, package: str) -> ModelState:
        """Raises ModelNotFound, SwapInProgress, PackageRefused, DetectorUnavailable."""
        return await self._models.swap(model, package)

    # The loop -------------------------------------------------------------------------------------------------

    async def _loop(self) -> None:
        while True:
            try:
                if not self._adopted.is_set():
                    await self._adopt()
                    self._adopted.set()
                self._poll()
                self._reconcile()
                self._look_for_room()
                self._telemetry.streams(Counter(self._view(entry).status.state for entry in self._registry))
            except Exception:
                logger.exception("a pass over the streams failed; the next one tries again")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), PERIOD_S)
            self._wake.clear()

    def _reconcile(self) -> None:
        observed = {stream_id: self._observed(stream_id, running) for stream_id, running in self._running.items()}
        self._unplaced |= {stream_id for stream_id, seen in observed.items() if seen.unplaced}
        actions = reconcile(self._registry, observed)
        starts = any(isinstance(action, Start) for action in actions)
        offered: dict[str, float] = ray.cluster_resources() if starts else {}  # type: ignore[no-untyped-call]
        for action in actions:
            self._apply(action, offered)

    def _observed(self, stream_id: str, running: _Running) -> Observed:
        waits = running.grant != NOTHING and running.report is None and stream_id not in self._unplaced
        unplaced = waits and asyncio.get_running_loop().time() - running.started > PLACE_PATIENCE_S
        return Observed(running.generation, running.alive, running.stopping, running.grant, unplaced)

    def _apply(self, action: Action, offered: Mapping[str, float]) -> None:
        match action:
            case Start(entry):
                if asyncio.get_running_loop().time() >= self._not_before.get(entry.spec.id, 0.0):
                    self._start(entry, offered)
            case Update(entry):
                running = self._running[entry.spec.id]
                running.generation = entry.generation
                running.actor.apply.remote(entry.spec, entry.generation)
            case Stop(stream_id):
                asyncio.get_running_loop().create_task(self._stop(stream_id))
            case Reap(stream_id):
                self._reap(stream_id)

    def _start(self, entry: Entry, offered: Mapping[str, float]) -> None:
        stream_id = entry.spec.id
        budget = Budget.of(offered, (running.grant for running in self._running.values()))
        planned = plan(entry.spec, budget, patient=stream_id not in self._unplaced)
        if planned.grant is None:
            self._wait(stream_id, planned.notes[0])
            return
        self._waiting.pop(stream_id, None)
        self._epochs[stream_id] += 1
        self._keep(entry, planned.grant)
        memory = self._config.stream_memory_mb * 1024**2
        create = stream_actor_class(stream_id, self._config.stream_num_cpus, memory, planned.grant)
        life = (self._epochs[stream_id], self._sequences[stream_id])
        actor = create.remote(entry.spec, entry.generation, self._policy, *life, planned.grant, planned.notes)
        self._running[stream_id] = _Running(actor, entry.generation, planned.grant, asyncio.get_running_loop().time())

    def _wait(self, stream_id: str, why: str) -> None:
        """Start the stream on a later pass, once a place is free."""
        before = self._waiting.get(stream_id)
        if before is None or before.message != why:
            code = StreamErrorCode.HWACCEL_UNAVAILABLE
            self._waiting[stream_id] = LastError(code=code, message=why, at=time.time(), retryable=True)
            logger.warning("stream %s waits: %s", stream_id, why)

    def _reap(self, stream_id: str) -> None:
        self._remember_sequence(self._running.pop(stream_id), stream_id)
        loop = asyncio.get_running_loop()
        backoff = self._deaths.setdefault(stream_id, Backoff())
        self._not_before[stream_id] = loop.time() + backoff.next_delay()

    async def _stop(self, stream_id: str) -> None:
        running = self._running.get(stream_id)
        if running is None or running.stopping:
            return
        running.stopping = True
        timeout_s = DELETE_TIMEOUT_S if running.report is not None else UNSEEN_DELETE_TIMEOUT_S
        try:
            await asyncio.wait_for(running.actor.stop.remote(), timeout_s)
        except (TimeoutError, RayError):
            logger.warning("stream %s did not stop within %g s: its actor is killed", stream_id, timeout_s)
        ray.kill(running.actor, no_restart=True)
        self._remember_sequence(running, stream_id)
        if self._running.get(stream_id) is running:
            del self._running[stream_id]

    # Observation ----------------------------------------------------------------------------------------------

    def _poll(self) -> None:
        for running in self._running.values():
            if running.alive and not running.stopping and (running.poll is None or running.poll.done()):
                running.poll = asyncio.get_running_loop().create_task(self._ask(running))

    async def _ask(self, running: _Running, timeout_s: float = POLL_TIMEOUT_S) -> None:
        try:
            heard = running.report.changes if running.report is not None else 0
            report: Report = await asyncio.wait_for(running.actor.report.remote(heard), timeout_s)
        except TimeoutError:
            return  # not placed yet, or busy; shown as it last was
        except RayActorError:
            running.alive = False
        except RayError:
            logger.exception("an actor could not report")
        else:
            running.report = report
            self._histories.take(report.spec.id, report.history)
            if backoff := self._deaths.get(report.spec.id):
                backoff.healthy(asyncio.get_running_loop().time())

    async def _adopt(self) -> None:
        """Go on where an earlier life of this supervisor ended: its streams ran on, or wait for a node still."""
        kept = await asyncio.to_thread(keeper.recall)
        now = asyncio.get_running_loop().time()
        found = {
            # Generation 0, as which of them it follows is not known: one that stays silent is told again.
            stream_id: _Running(actor, 0, kept[stream_id].grant if stream_id in kept else NOTHING, now)
            for stream_id, actor in (await asyncio.to_thread(stream_actors)).items()
        }
        await asyncio.gather(*(self._ask(running, ADOPT_TIMEOUT_S) for running in found.values()))
        for running in found.values():
            if running.report is not None:
                running.generation, running.grant = running.report.status.generation, running.report.grant
        for stream_id, stream in kept.items():
            self._registry.adopt(stream.entry)
            self._epochs[stream_id], self._sequences[stream_id] = stream.epoch, stream.sequence
        self._running = found

    def _look_for_room(self) -> None:
        """What each node has free, while an actor has not reported yet."""
        if any(running.report is None for running in self._running.values()):
            self._free = list(available_resources_per_node().values())  # type: ignore[no-untyped-call]

    def _keep(self, entry: Entry, grant: Grant) -> None:
        stream_id = entry.spec.id
        keeper.keep(keeper.Kept(entry, self._epochs[stream_id], self._sequences[stream_id], grant))

    def _remember_sequence(self, running: _Running, stream_id: str) -> None:
        seen = running.report.next_sequence if running.report is not None else self._sequences[stream_id]
        self._sequences[stream_id] = max(self._sequences[stream_id], seen) + SEQUENCE_MARGIN

    def _changed(self, entry: Entry) -> StreamView:
        running = self._running.get(entry.spec.id)
        self._keep(entry, running.grant if running is not None else NOTHING)
        self._wake.set()
        return self._view(entry)

    def _view(self, entry: Entry) -> StreamView:
        running = self._running.get(entry.spec.id)
        if running is None or running.report is None:
            known = self._epochs[entry.spec.id] > 0
            reason = "its actor ended and is started again" if known else "its actor is about to be started"
            reason = self._start_of(running) if running else reason
            waiting = self._waiting.get(entry.spec.id)
            reason = waiting.message if waiting else reason
            status = StreamStatus(generation=entry.generation, reason=reason, last_error=waiting)
        else:
            status = running.report.status.model_copy(update={"generation": entry.generation})
        return StreamView(spec=entry.spec, status=status)

    def _start_of(self, running: _Running) -> str:
        lack = shortage({**self._config.resources, **running.grant.resources}, self._free)
        return f"its actor starts, or waits for room: {lack}" if lack else "its actor starts"


def get_supervisor(config: SupervisorConfig, policy: UrlPolicy) -> ActorHandle[Any]:
    """The cluster's supervisor, started where there is none yet."""
    create: Any = ray.remote(Supervisor)
    options = create.options(
        name=SUPERVISOR,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
        max_concurrency=256,
    )
    actor: ActorHandle[Any] = options.remote(config, policy)
    return actor


def stream_actor(stream_id: str) -> ActorHandle[Any]:
    """The actor of a running stream. Raises StreamNotFound."""
    try:
        return ray.get_actor(actor_name(stream_id), NAMESPACE)
    except ValueError:
        raise StreamNotFound(f"stream {stream_id!r} does not run") from None
