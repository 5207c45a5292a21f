"""A worker node dies: a second Ray node of this machine, all processes of which are killed at once.

What draws streams to a node is a replica of their model, so one is brought there first: Serve has Ray spread replicas,
and the node that has none yet gets the successor of one that is killed sooner or later."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

from tests.chaos.faults.fault import Fault, Outcome, last
from tests.chaos.fleet import REPLICAS, Fleet
from tests.chaos.store import SqliteStore
from tests.support.further_node import FurtherNode

LIMIT_S = 10.0
REPLICA_WITHIN_S = 150.0
PLACED_WITHIN_S = 60.0
SETTLE_S = 2.0
"""Between the last actor that was moved and the kill."""

STREAMS_THERE = 2
"""So many of the four are on the node when it dies."""


def kill_node(fleet: Fleet, rng: random.Random) -> Outcome:
    """Start the node, bring a replica of the detector to it, which draws streams there, and kill it."""
    home = {status["node"] for status in fleet.watcher.statuses().values()}
    epochs = fleet.watcher.epochs()
    cluster = fleet.system.cluster
    gcs, log = f"127.0.0.1:{cluster.gcs_port}", cluster.folder / "node.log"
    with FurtherNode(gcs, log, environment=cluster.environment()) as node:
        fleet.system.further.append(node.pid)
        try:
            _bring_replica(fleet, rng, home)
            moved = _move(fleet, rng, home)
            last(SETTLE_S)
            fleet.journal.note(f"{', '.join(sorted(moved))}: on the node that is killed now")
        finally:
            fleet.system.further.remove(node.pid)
        began_wall = time.time()
    prepared = {i for i, epoch in fleet.watcher.epochs().items() if epoch > epochs[i]}
    return Outcome(frozenset(moved | prepared), lambda: _replicas_at(fleet, home) >= REPLICAS, began_wall)


def _bring_replica(fleet: Fleet, rng: random.Random, home: set[str]) -> None:
    """Kill replicas until the successor of one is on the other node: Ray spreads them."""
    deadline = time.monotonic() + REPLICA_WITHIN_S
    while time.monotonic() < deadline:
        running = _replicas(fleet)
        if len(running) >= REPLICAS:
            if any(node not in home for _, node in running):
                return
            pid, _ = rng.choice(running)
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()
            _await(lambda: pid not in {pid for pid, _ in _replicas(fleet)}, deadline)
        last(0.5)
    raise RuntimeError("no replica of the detector came to the second node")


def _move(fleet: Fleet, rng: random.Random, home: set[str]) -> set[str]:
    """Kill actors until some of their successors are on the other node, beside the replica that has nothing to do."""
    deadline = time.monotonic() + PLACED_WITHIN_S
    while time.monotonic() < deadline:
        statuses = {i: s for i, s in fleet.watcher.statuses().items() if i in fleet.streams}
        there = {i for i, status in statuses.items() if status["node"] not in home and status["online"]}
        if len(there) >= STREAMS_THERE:
            return there
        if all(status["online"] for status in statuses.values()):
            rng.choice(fleet.system.processes("ray::StreamActor")).kill()
            last(2.0)  # until its end is known
        last(0.5)
    placed = {i: status["node"] for i, status in fleet.watcher.statuses().items()}
    capacity = fleet.system.api.get("/v1/capacity").json()
    raise RuntimeError(
        f"too few streams came to the second node; they are at {placed}, and began at {home}; "
        f"replicas: {_replicas(fleet)}; capacity: {capacity}"
    )


def _replicas(fleet: Fleet) -> list[tuple[int, str]]:
    """Process and node of each replica that Serve calls running."""
    try:
        deployments = fleet.system.cluster.serve_details()["applications"]["detector"]["deployments"]
    except OSError:
        return []  # the dashboard is busy: asked again
    replicas = [replica for deployment in deployments.values() for replica in deployment["replicas"]]
    return [(one["pid"], one["node_id"]) for one in replicas if one["state"] == "RUNNING"]


def _replicas_at(fleet: Fleet, nodes: set[str]) -> int:
    return sum(node in nodes for _, node in _replicas(fleet))


def _await(done: Callable[[], bool], deadline: float) -> None:
    while not done() and time.monotonic() < deadline:
        last(0.2)


def _unavailable(fleet: Fleet) -> str | None:
    return "SQLite serves one node: use --store redis" if isinstance(fleet.store, SqliteStore) else None


FAULTS = (Fault("worker node killed", kill_node, _unavailable, LIMIT_S),)
