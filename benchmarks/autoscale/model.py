"""A day of a cluster: streams come and go, nodes and replicas follow; in steps, driven by measured costs.

The decisions are the real code: `FramesPolicy` under Serve's own delays and bounds. Ray's autoscaler is a rule: nodes
are asked for by actors that wait for room, come after `NODE_START_S`, and go once nothing has been on them for
`NODE_IDLE_S`. Ray moves no actor, so a node on which one stream is left stays.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from benchmarks.autoscale.serve_costs import Controller
from deployments.detector.autoscaling import BAND
from deployments.supervisor.demand import STATED_FRAME_S, Kind
from deployments.supervisor.entrance import STARTS_A_PASS
from deployments.supervisor.lives.actor import ASKED_AT_ONCE
from deployments.supervisor.placement import CPU_SHARE

STEP_S = 10.0
"""Serve passes a replica's numbers on that often."""

NODE_START_S, NODE_IDLE_S = 90.0, 60.0
"""Of a node: what clouds take to bring one, an assumption; and Ray's default."""

REPLICA_START_S = 20.0
"""From its place to its first batch, an assumption: a plan is read, an engine warmed up."""

BEAT_S = 0.5
"""Between two heartbeats, and two passes, of the supervisor."""


@dataclass(frozen=True)
class Costs:
    """Measured: see the result file.

    Attributes:
        engine_fps: frames a second of one replica.
        frame_cores: CPU seconds of a stream's frame.
        report_s: CPU seconds of the supervisor for one report.
        pass_s: CPU seconds of one of its passes for each stream.
    """

    engine_fps: float
    frame_cores: float
    report_s: float
    pass_s: float

    def supervisor_cores(self, streams: float, asked_at_once: float) -> float:
        """Part of a core that the supervisor takes; above 1 it can't keep up."""
        return min(streams, asked_at_once) * self.report_s / BEAT_S + streams * self.pass_s / BEAT_S


@dataclass(frozen=True)
class Settings:
    """What runs: streams of ``fps``, on nodes of ``node_cores``; a GPU node holds one replica."""

    fps: float = 25.0
    node_cores: float = 32.0
    utilisation: float = 0.8

    def streams_per_node(self, costs: Costs) -> int:
        """What a node's CPUs hold."""
        return max(1, math.floor(self.node_cores * CPU_SHARE / (self.fps * costs.frame_cores)))


KIND = Kind("software", "nothing")
FRAME_CORES = STATED_FRAME_S[KIND]


def day(least: int, most: int, hours: float = 8.0) -> list[int]:
    """Streams that are wanted at each step: rising for half of the time, each hour by as much; a rest, and back."""
    steps = round(hours * 3600 / STEP_S)
    shape = [
        min(1.0, t / 0.5) if t < 0.7 else max(0.0, 1 - (t - 0.7) / 0.15) for t in (n / steps for n in range(steps))
    ]
    return [round(least * (most / least) ** part) for part in shape]


@dataclass
class Cluster:
    """Nodes for streams, nodes for replicas, and who waits."""

    per_node: int
    seed: int = 0
    nodes: list[int] = field(default_factory=list)
    coming: list[float] = field(default_factory=list)
    idle_since: dict[int, float] = field(default_factory=dict)
    waiting: int = 0

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)

    @property
    def running(self) -> int:
        """Streams that have a place."""
        return sum(self.nodes)

    def add(self, streams: int) -> None:
        """Actors are made; they wait for room."""
        self.waiting += streams

    def remove(self, streams: int) -> None:
        """Some end, wherever they are."""
        first = min(self.waiting, streams)
        self.waiting -= first
        places = [node for node, count in enumerate(self.nodes) for _ in range(count)]
        for node in self._chance.sample(places, min(len(places), streams - first)):
            self.nodes[node] -= 1

    def step(self, now: float) -> None:
        """Nodes come, those who wait are spread over them, further nodes are asked for, idle ones go."""
        self.nodes += [0] * sum(at <= now for at in self.coming)
        self.coming = [at for at in self.coming if at > now]
        heap = [(count, node) for node, count in enumerate(self.nodes) if count < self.per_node]
        heapq.heapify(heap)
        while heap and self.waiting:
            count, node = heap[0]
            self.nodes[node] = count + 1
            self.waiting -= 1
            if count + 1 < self.per_node:
                heapq.heapreplace(heap, (count + 1, node))
            else:
                heapq.heappop(heap)
        lacking = math.ceil(self.waiting / self.per_node) - len(self.coming)
        self.coming += [now + NODE_START_S] * max(0, lacking)
        self._end_idle(now)

    def _end_idle(self, now: float) -> None:
        since = {node: self.idle_since.get(node, now) for node, count in enumerate(self.nodes) if not count}
        kept = [node for node in range(len(self.nodes)) if now - since.get(node, now) < NODE_IDLE_S]
        places = {node: place for place, node in enumerate(kept)}
        self.idle_since = {places[node]: at for node, at in since.items() if node in places}
        self.nodes = [self.nodes[node] for node in kept]


def simulate(wanted: Sequence[int], costs: Costs, settings: Settings) -> dict[str, list[float]]:
    """What there was at each step."""
    cluster, serve = Cluster(settings.streams_per_node(costs)), Controller(1, settings.utilisation)
    starting: list[float] = []
    names = ("hours", "streams", "replicas", "nodes", "waiting", "not_inferred", "report_age_s", "supervisor_cores")
    seen: dict[str, list[float]] = {name: [] for name in (*names, "replicas_needed", "node_hours", "gpu_hours")}
    there, node_hours, gpu_hours = 0, 0.0, 0.0
    for number, target in enumerate(wanted):
        now = number * STEP_S
        change = min(target - there, round(STARTS_A_PASS * STEP_S / BEAT_S))
        cluster.add(max(0, change))
        cluster.remove(max(0, -change))
        there += change
        cluster.step(now)
        serve.replicas += sum(at <= now for at in starting)
        starting = [at for at in starting if at > now]
        offered, manages = cluster.running * settings.fps, serve.replicas * costs.engine_fps
        with patch("ray.serve.autoscaling_policy.time.time", return_value=now):
            decided = serve.decide(min(offered, manages), costs.engine_fps, now)
        starting += [now + NODE_START_S + REPLICA_START_S] * max(0, decided - serve.replicas - len(starting))
        if decided < serve.replicas:
            serve.replicas, starting = decided, []  # they drain: streams attach elsewhere before they end
        node_hours += len(cluster.nodes) * STEP_S / 3600
        gpu_hours += (serve.replicas + len(starting)) * STEP_S / 3600
        values = (
            now / 3600,
            cluster.running,
            serve.replicas,
            len(cluster.nodes),
            cluster.waiting,
            max(0.0, 1 - manages / offered) if offered else 0.0,
            max(BEAT_S, cluster.running / ASKED_AT_ONCE * BEAT_S),
            costs.supervisor_cores(cluster.running, ASKED_AT_ONCE),
            math.ceil(offered / costs.engine_fps / settings.utilisation),
            node_hours,
            gpu_hours,
        )
        for name, value in zip(seen, values, strict=True):
            seen[name].append(round(value, 5))
    return seen


def summary(seen: dict[str, list[float]], wanted: Sequence[int], costs: Costs) -> dict[str, Any]:
    """The day in a few numbers."""
    replicas = seen["replicas"]
    changes = [after - before for before, after in itertools.pairwise(replicas) if after != before]
    turns = sum((a > 0) != (b > 0) for a, b in itertools.pairwise(changes))
    return {
        "most_streams": max(seen["streams"]),
        "most_replicas": max(replicas),
        "most_nodes": max(seen["nodes"]),
        "changes_of_replicas": len(changes),
        "turns_between_more_and_fewer": turns,
        "frames_not_inferred": round(
            sum(part * streams for part, streams in zip(seen["not_inferred"], seen["streams"], strict=True))
            / sum(seen["streams"]),
            5,
        ),
        "stream_hours_waited": round(sum(seen["waiting"]) * STEP_S / 3600, 1),
        "gpu_hours": round(seen["gpu_hours"][-1], 1),
        "gpu_hours_needed": round(sum(seen["replicas_needed"]) * STEP_S / 3600, 1),
        "node_hours": round(seen["node_hours"][-1], 1),
        "stream_hours": round(sum(wanted) * STEP_S / 3600, 1),
        "band": BAND,
        "supervisor_is_full_at_streams": _full_at(costs, ASKED_AT_ONCE),
        "supervisor_was_full_at_streams_when_it_asked_all": _full_at(costs, math.inf),
    }


def _full_at(costs: Costs, asked_at_once: float) -> int:
    """Streams at which the supervisor's one thread has no time left."""
    found = next((n for n in range(100, 1_000_000, 100) if costs.supervisor_cores(n, asked_at_once) >= 1), None)
    return found if found is not None else 1_000_000
