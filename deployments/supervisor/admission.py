"""Whether streams fit: by the engines' measured speed and the nodes' CPUs; pure.

Only streams that never ran are asked about. Who was let in stays in: through a restart of its actor, the loss of a node
and a slower engine; rates shrink then, and nothing is stopped. So there is no way back over the edge, and a stream that
was told to wait is let in only once there is some more room than it asks for: it does not start on a passing peak.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from math import floor, inf

from deployments.supervisor.demand import Demand
from deployments.supervisor.placement import NodeRoom, place

EDGE = 0.1
"""Part of a stream by which room must exceed it once it waits: measured speeds wander by some per cent."""

ROUNDING = 1e-6
"""Sums of rates are as exact as floats are."""

MANY = 1_000_000
"""More streams than anybody has."""


class Limit(StrEnum):
    """What runs out first."""

    ENGINE = "engine"
    CPU = "cpu"
    NVDEC = "nvdec"
    ACTORS = "actors"
    """What Ray may set aside for actors: `streams.stream_num_cpus` and `streams.stream_memory_mb`."""
    QUEUE = "queue"
    """Another stream waits, and comes first."""


@dataclass(frozen=True)
class Room:
    """What there is and what is spoken for.

    Attributes:
        engines: frames a second of all replicas of a model together; a model is absent until each was measured.
        spoken: frames a second that streams which were let in ask of a model.
        nodes: with the CPU that such streams take.
    """

    engines: Mapping[str, float]
    spoken: Mapping[str, float]
    nodes: tuple[NodeRoom, ...]

    @cached_property
    def cores_free(self) -> float | None:
        """What the emptiest node has, negative where all take too much; None where none may run anything."""
        return max((node.cores_free for node in self._able), default=None)

    @cached_property
    def cores_idle(self) -> float:
        """What the largest node would have without any stream."""
        return max((replace(node, used=0.0).cores_free for node in self._able), default=0.0)

    @property
    def _able(self) -> Iterator[NodeRoom]:
        return (node for node in self.nodes if not node.draining and node.cores > 0)

    def engine_left(self, model: str) -> float:
        """Infinite where its speed isn't known."""
        return self.engines.get(model, inf) - self.spoken.get(model, 0.0)

    def taken(self, demand: Demand, need: Mapping[str, float]) -> Room:
        """What is left once a stream was let in."""
        spoken = {**self.spoken, demand.model: self.spoken.get(demand.model, 0.0) + demand.engine_fps}
        at = place(demand, need, self.nodes)
        nodes = tuple(node.taken(demand, need) if node.node == at else node for node in self.nodes)
        return replace(self, spoken=spoken, nodes=nodes)


@dataclass(frozen=True, slots=True)
class Asked:
    """A stream that was accepted and never ran.

    Attributes:
        since: Unix time at which it was accepted; of one priority the older comes first.
        waits: it was told to wait before.
        need: what Ray has to set aside for it.
    """

    stream_id: str
    priority: int
    since: float
    demand: Demand
    need: Mapping[str, float]
    waits: bool = False

    @property
    def rank(self) -> tuple[float, float, str]:
        """The lower comes first."""
        return -self.priority, self.since, self.stream_id


@dataclass(frozen=True, slots=True)
class Lack:
    """Why a stream has to wait; ``ever`` False where it would fit on an idle system neither."""

    limit: Limit
    message: str
    ever: bool = True


def lack(demand: Demand, room: Room, *, waits: bool = False) -> Lack | None:
    """Why a stream does not fit; None where it does, or where nobody has measured yet."""
    return _engine_lack(demand, room, 1 + EDGE * waits) or _cpu_lack(demand, room, 1 + EDGE * waits)


def _engine_lack(demand: Demand, room: Room, factor: float) -> Lack | None:
    asked, left = demand.engine_fps, room.engine_left(demand.model)
    if asked * factor <= left + ROUNDING:
        return None
    engine, spoken = room.engines[demand.model], room.spoken.get(demand.model, 0.0)
    return Lack(
        Limit.ENGINE,
        f"the engine of model {demand.model} manages {engine:.0f} frames a second and {spoken:.0f} are spoken for, "
        f"this stream asks for {asked:.0f}: lower detect.max_fps of it or of others, or add a GPU",
        ever=asked * factor <= engine,
    )


def _cpu_lack(demand: Demand, room: Room, factor: float) -> Lack | None:
    """What was never measured refuses nobody."""
    asked, most = demand.cores * factor, room.cores_free
    if not demand.measured or demand.cores <= 0 or most is None or asked <= most + ROUNDING:
        return None
    return Lack(
        Limit.CPU,
        f"no node has the {demand.cores:.2f} CPUs free that this stream takes to decode and encode, "
        f"{max(0.0, most):.2f} at most: lower the source's size or rate, leave outputs out, or add a node",
        ever=asked <= room.cores_idle,
    )


def admit(asked: Iterable[Asked], room: Room, most: int = MANY) -> dict[str, Lack | None]:
    """Who of those that never ran may start now, by stream id: None may, the others wait.

    Nothing is said of those behind the last of ``most`` that may.

    By priority, then by age, and nobody overtakes: where one waits for an engine, so do all behind it that want frames
    of the same; where one waits for CPUs, all behind it that take some. One that would never fit holds nobody up.
    """
    verdicts: dict[str, Lack | None] = {}
    awaited: dict[str | None, str] = {}  # who waits first, by model, and for CPUs
    for one in sorted(asked, key=lambda each: each.rank):
        found = lack(one.demand, room, waits=one.waits)
        ahead = awaited.get(one.demand.model if one.demand.engine_fps > 0 else None) or (
            awaited.get(_CPUS) if one.demand.cores > 0 else None
        )
        if found is not None and found.ever:
            awaited.setdefault(one.demand.model if found.limit is Limit.ENGINE else _CPUS, one.stream_id)
        elif found is None and ahead is not None:
            found = Lack(Limit.QUEUE, f"stream {ahead} waits for room before this one: give this one a higher priority")
        verdicts[one.stream_id] = found
        if found is None:
            room, most = room.taken(one.demand, one.need), most - 1
        if most == 0:
            break
    return verdicts


_CPUS = ""
"""Among the names of models, of which none is empty."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How many more streams of one kind fit.

    Attributes:
        total: all limits counted; None where nothing is known that could limit.
        limit: what runs out first.
        by_node: what each node's CPUs and Ray's shares hold, whatever the engines manage.
    """

    total: int | None
    limit: Limit | None
    by_node: Mapping[str, int]


def how_many(demand: Demand, need: Mapping[str, float], room: Room) -> Fit:
    """How many streams that each ask for ``demand`` still fit."""
    nodes = [node for node in room.nodes if not node.draining]
    held = {node.node: _held(demand, need, node) for node in nodes}
    by_node = {name: min(limits.values()) for name, limits in held.items()}
    engine_left = room.engine_left(demand.model)
    counts: dict[Limit, int] = {}
    if engine_left < inf:
        counts[Limit.ENGINE] = _times(engine_left, demand.engine_fps)
    if nodes:
        tightest = min(
            (limit for limits in held.values() for limit in limits),
            key=lambda limit: sum(limits.get(limit, 0) for limits in held.values()),
        )
        counts[tightest] = sum(by_node.values())
    if not counts:
        return Fit(None, None, by_node)
    limit = min(counts, key=lambda each: counts[each])
    return Fit(counts[limit], limit, by_node)


def _held(demand: Demand, need: Mapping[str, float], node: NodeRoom) -> dict[Limit, int]:
    """How many a node holds, by each limit."""
    limits = {Limit.CPU: _times(node.cores_free, demand.cores)}
    for name, amount in need.items():
        limit = Limit.NVDEC if name == Limit.NVDEC else Limit.ACTORS
        limits[limit] = min(limits.get(limit, MANY), _times(node.free.get(name, 0.0), amount))
    return limits


def _times(left: float, each: float) -> int:
    if each <= 0:
        return MANY
    return min(MANY, max(0, floor(left / each + ROUNDING)))
