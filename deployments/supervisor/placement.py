"""Which node a stream's actor should start on: beside a replica of its model while there is room; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from deployments.supervisor.demand import Demand
from deployments.supervisor.room import CPU, ROUNDING

ALIKE = 0.2
"""Engines that have left as much as the best, less this part of it, are as good: measured speeds of like engines differ
by so much on a busy machine."""

CPU_SHARE = 0.9
"""Part of a node's CPUs that streams may take: beyond it queues grow, and with them latency."""


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """A living node as Ray tells of it.

    Attributes:
        total: what it offers, by Ray's names.
        free: what of that is not set aside.
        draining: Ray was told to empty it.
    """

    node: str
    total: Mapping[str, float]
    free: Mapping[str, float]
    draining: bool = False


@dataclass(frozen=True, slots=True)
class NodeRoom:
    """A node with what its streams take, or will once they run.

    Attributes:
        cores: that Ray has of it; 0 for one that is to run nothing.
        used: seconds of CPU a second, of its streams.
        engines: frames a second that its replicas have left, by model; negative where more is asked of them.
    """

    node: str
    cores: float
    used: float = 0.0
    free: Mapping[str, float] = field(default_factory=dict)
    engines: Mapping[str, float] = field(default_factory=dict)
    draining: bool = False

    @property
    def cores_free(self) -> float:
        """What streams may still take of its CPUs; negative where they take more already."""
        return self.cores * CPU_SHARE - self.used

    def offers(self, need: Mapping[str, float]) -> bool:
        """Whether Ray has it all free there."""
        return all(self.free.get(name, 0.0) + ROUNDING >= amount for name, amount in need.items())

    def taken(self, demand: Demand, need: Mapping[str, float]) -> NodeRoom:
        """What is left once a stream was placed here."""
        free = {name: amount - need.get(name, 0.0) for name, amount in self.free.items()}
        engines = dict(self.engines)
        if demand.model in engines:
            engines[demand.model] -= demand.engine_fps
        return replace(self, used=self.used + demand.cores, free=free, engines=engines)


def place(demand: Demand, need: Mapping[str, float], nodes: Iterable[NodeRoom]) -> str | None:
    """The node where a stream should start; None leaves it to Ray, which lets it wait where none has room.

    Beside a replica of its model while that node's CPUs have room; of several where the engines have most left, and of
    those that have nearly as much (`ALIKE`) where the CPUs have. Else where the CPUs have most left. Nothing goes to a
    node that is draining while there is another.

    Args:
        need: what Ray has to set aside, by its names.
    """
    able = [node for node in nodes if not node.draining and node.offers(need)]
    beside = [node for node in able if demand.model in node.engines and node.cores_free >= demand.cores]
    if beside:
        most = max(node.engines[demand.model] for node in beside)
        able = [node for node in beside if most - node.engines[demand.model] <= ALIKE * abs(most)]
    return max(able, key=lambda node: (node.cores_free, node.node)).node if able else None


def to_leave(nodes: Collection[NodeSeen]) -> frozenset[str]:
    """The nodes whose streams have to move: those that drain, while there is another that may run some."""
    draining = frozenset(node.node for node in nodes if node.draining)
    return draining if any(not node.draining and node.total.get(CPU, 0.0) > 0 for node in nodes) else frozenset()
