"""Who may start, and where: all that is known of streams, under the rules of `admission` and `placement`; no Ray."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from deployments.errors import NoCapacity, StreamErrorCode
from deployments.models.versions import ModelState
from deployments.streams.cpu import CpuUse
from deployments.streams.hardware import NOTHING, Budget, Grant, plan
from deployments.streams.spec import LastError, StreamSpec, StreamStatus
from deployments.supervisor.admission import Asked, Lack, Room, admit, lack
from deployments.supervisor.config import Admission, SupervisorConfig
from deployments.supervisor.demand import UNSEEN, Costs, Demand, Seen, demand_of, kind_of
from deployments.supervisor.placement import NodeRoom, NodeSeen, place
from deployments.supervisor.records import Kept
from deployments.supervisor.room import CPU

ENGINE_PATIENCE_S = 30.0
"""How long after its own beginning the supervisor lets those wait that never ran, until their engines are measured:
after a start of everything detectors come later than streams, and who waited before would all start at once."""

STARTS_A_PASS = 100
"""Streams that may start in one pass: each is placed by a look at all nodes and written to the store, while all other
changes wait. The next pass follows half a second later."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a stream's actor is, as far as is known, and the places on GPUs that it holds."""

    node: str | None
    grant: Grant


@dataclass(frozen=True, slots=True)
class Survey:
    """What there is, what is spoken for, and what streams cost.

    Attributes:
        need: what Ray sets aside for one stream.
        waiting: streams that wait for room.
        admission: as configured.
    """

    room: Room
    costs: Costs
    need: Mapping[str, float]
    waiting: int
    admission: Admission


def survey(
    config: SupervisorConfig,
    streams: Iterable[Kept],
    seen: Mapping[str, Seen],
    placed: Mapping[str, Placed],
    nodes: Collection[NodeSeen],
    models: Iterable[ModelState],
) -> Survey:
    """Put together what is known; ``streams`` are those that were let in, running or not.

    A replica on a node that is not among ``nodes`` counts for nothing: it is lost, and will be missed in some seconds.
    """
    settled = list(streams)
    costs = _costs(settled, seen, placed)
    spoken: defaultdict[str, float] = defaultdict(float)
    used: defaultdict[str, float] = defaultdict(float)
    asked: defaultdict[tuple[str, str], float] = defaultdict(float)
    for kept in settled:
        spec = kept.entry.spec
        at = placed.get(spec.id, Placed(None, kept.grant))
        demand = demand_of(spec, kind_of(spec, at.grant), seen.get(spec.id, UNSEEN), costs, at.node)
        spoken[demand.model] += demand.engine_fps
        if at.node is not None:
            used[at.node] += demand.cores
            asked[at.node, demand.model] += demand.engine_fps

    engines: dict[str, float] = {}
    beside: defaultdict[str, dict[str, float]] = defaultdict(dict)
    there = {node.node for node in nodes}
    for model in models:
        replicas = [replica for replica in model.replicas if replica.node in there or not there]
        if replicas and all(replica.engine_fps > 0 for replica in replicas):
            engines[model.name] = sum(replica.engine_fps for replica in replicas)
        for replica in replicas:
            here = beside[replica.node]
            here[model.name] = here.get(model.name, -asked[replica.node, model.name]) + replica.engine_fps
    rooms = tuple(
        NodeRoom(node.node, node.total.get(CPU, 0.0), used[node.node], node.free, beside[node.node], node.draining)
        for node in nodes
    )
    return Survey(Room(engines, spoken, rooms), costs, config.resources, 0, config.admission)


def _costs(settled: Iterable[Kept], seen: Mapping[str, Seen], placed: Mapping[str, Placed]) -> Costs:
    measured = []
    for kept in settled:
        known, at = seen.get(kept.entry.spec.id, UNSEEN), placed.get(kept.entry.spec.id)
        if known.use is not None and known.kind is not None and at is not None and at.node is not None:
            measured.append((at.node, known.kind, known.use.frame_s))
    return Costs.of(measured)


class Entrance:
    """Decides for one supervisor; all methods on one event loop. Begins anew with what is told to it."""

    def __init__(self) -> None:
        self.waiting: dict[str, LastError] = {}
        """Why streams wait that can't be started, by id."""
        self._seen: dict[str, tuple[str, Seen]] = {}  # with the source of which it was seen
        self._room = Room({}, {}, ())
        self._costs = Costs({}, {})
        self._verdicts: dict[str, Lack | None] = {}
        self._undecided: set[str] = set()
        self._let_in = 0
        self._told: dict[str, str] = {}
        self._began = time.monotonic()

    def hear(self, spec: StreamSpec, status: StreamStatus, grant: Grant, use: CpuUse | None) -> None:
        """Take over what a running stream tells."""
        source, before = self._seen.get(spec.id, ("", UNSEEN))
        before = before if source == spec.source.url else UNSEEN
        self._seen[spec.id] = spec.source.url, before.then(status, use, kind_of(spec, grant), time.time())

    def forget(self, stream_id: str) -> None:
        """Nobody wants it any more."""
        self._seen.pop(stream_id, None)
        self.waiting.pop(stream_id, None)

    def survey(
        self,
        config: SupervisorConfig,
        streams: Iterable[Kept],
        placed: Mapping[str, Placed],
        nodes: Collection[NodeSeen],
        models: Iterable[ModelState],
    ) -> Survey:
        """What there is now; streams that wait for room are not counted, unless nobody has to."""
        settled = [kept for kept in streams if kept.epoch > 0 or config.admission != "pending"]
        found = survey(config, settled, self._known(settled), placed, nodes, models)
        no_room = sum(error.code == StreamErrorCode.NO_CAPACITY for error in self.waiting.values())
        return Survey(found.room, found.costs, found.need, no_room, config.admission)

    def open(self, found: Survey, starting: Iterable[Kept], budget: Budget) -> None:
        """Decide who of those that are to start may do so now."""
        self._room, self._costs, self._verdicts, self._let_in, self._undecided = found.room, found.costs, {}, 0, set()
        if found.admission == "pending":
            fresh = [self._asked(kept, found, budget) for kept in starting if kept.epoch == 0]
            self._verdicts = admit(fresh, found.room, STARTS_A_PASS)
            self._undecided = {one.stream_id for one in fresh} - self._verdicts.keys()

    def in_turn(self, starting: Iterable[Kept]) -> Iterator[Kept]:
        """Those that are to start, until `STARTS_A_PASS` of them were let in since the last `open`."""
        for kept in starting:
            if self._let_in >= STARTS_A_PASS:
                return
            yield kept

    def why_not(self, spec: StreamSpec) -> str | None:
        """Why a stream of the last `open` has to wait; None lets it start."""
        model = spec.detect.model
        verdict = self._verdicts.get(spec.id)
        if verdict is not None:
            return verdict.message
        early = time.monotonic() - self._began < ENGINE_PATIENCE_S
        if spec.id in self._verdicts and early and model not in self._room.engines:
            return f"the engine of model {model} is about to be measured"
        return "streams before this one start first" if spec.id in self._undecided else None

    def place(self, spec: StreamSpec, grant: Grant, need: Mapping[str, float]) -> str | None:
        """The node where a stream should start, which counts as taken from then on; None leaves it to Ray."""
        demand = self._demand(spec, grant, self._costs)
        node = place(demand, need, self._room.nodes)
        self._room = self._room.taken(demand, need)
        return node

    def require_room(self, spec: StreamSpec, found: Survey) -> None:
        """Raises NoCapacity where a new stream does not fit and the configuration refuses such."""
        if found.admission != "refuse":
            return
        lacking = lack(self._demand(spec, NOTHING, found.costs), found.room)
        if lacking is not None:
            raise NoCapacity(lacking.message)

    def wait(self, stream_id: str, code: StreamErrorCode, why: str) -> None:
        """Note that a stream is started on a later pass, and why; numbers in it may change with each."""
        before = self.waiting.get(stream_id)
        at = before.at if before is not None and before.code == code else time.time()
        self.waiting[stream_id] = LastError(code=code, message=why, at=at, retryable=True)
        if before is None or before.code != code:
            logger.warning("stream %s waits: %s", stream_id, why, extra={"stream": stream_id, "error_code": code})

    def let_in(self, stream_id: str) -> None:
        """It waits no more."""
        self._let_in += 1
        self.waiting.pop(stream_id, None)

    def _known(self, streams: Iterable[Kept]) -> dict[str, Seen]:
        ids = (kept.entry.spec.id for kept in streams)
        return {stream_id: self._seen[stream_id][1] for stream_id in ids if stream_id in self._seen}

    def _demand(self, spec: StreamSpec, grant: Grant, costs: Costs) -> Demand:
        source, seen = self._seen.get(spec.id, ("", UNSEEN))
        return demand_of(spec, kind_of(spec, grant), seen if source == spec.source.url else UNSEEN, costs)

    def _asked(self, kept: Kept, found: Survey, budget: Budget) -> Asked:
        spec = kept.entry.spec
        grant = plan(spec, budget).grant or NOTHING
        waits = self.waiting.get(spec.id)
        return Asked(
            spec.id,
            spec.priority,
            kept.accepted_at,
            self._demand(spec, grant, found.costs),
            {**found.need, **grant.resources},
            waits is not None and waits.code == StreamErrorCode.NO_CAPACITY,
        )
