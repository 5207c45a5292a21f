"""A worker node dies: a second Ray node of this machine, all processes of which are killed at once."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from contextlib import suppress

import psutil

from tests.chaos.faults.fault import Fault, Outcome, last
from tests.chaos.fleet import Fleet
from tests.chaos.store import SqliteStore

LIMIT_S = 10.0
UP_WITHIN_S = 40.0
PLACED_WITHIN_S = 30.0
SETTLE_S = 2.0
"""Between the last actor that was moved and the kill."""


def kill_node(fleet: Fleet, rng: random.Random) -> Outcome:
    """Start the node, move a stream to it by starting its actor anew, and kill it."""
    nodes = {status["node"] for status in fleet.watcher.statuses().values()}
    epochs = fleet.watcher.epochs()
    ray = _start(fleet)
    try:
        moved = _move(fleet, nodes)
        last(SETTLE_S)
        fleet.journal.note(f"{', '.join(sorted(moved))}: on the node that is killed now")
    finally:
        began_wall = time.time()
        _kill(ray)
    prepared = {i for i, epoch in fleet.watcher.epochs().items() if epoch > epochs[i]}
    return Outcome(frozenset(moved | prepared), began_wall=began_wall)


def _start(fleet: Fleet) -> subprocess.Popen[bytes]:
    cluster = fleet.system.cluster
    with (cluster.folder / "node.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.ray_node", str(cluster.gcs_port)],
            stdin=subprocess.PIPE,  # which it ends with, should this process die
            stdout=log,
            stderr=log,
            env=cluster.environment(),
        )


def _move(fleet: Fleet, nodes: set[str]) -> set[str]:
    """Kill actors until one of their successors is on the other node: Ray prefers the emptier one."""
    deadline = time.monotonic() + UP_WITHIN_S + PLACED_WITHIN_S
    while time.monotonic() < deadline:
        for stream_id, status in fleet.watcher.statuses().items():
            if status["node"] not in nodes and status["online"] and stream_id in fleet.streams:
                return {i for i, s in fleet.watcher.statuses().items() if s["node"] == status["node"]}
        actors = fleet.system.processes("ray::StreamActor")
        if len(actors) == len(fleet.streams):
            actors[0].kill()
        last(3.0)
    seen = (fleet.system.cluster.folder / "node.log").read_text()[-1000:]
    raise RuntimeError(f"no stream came to the second node: {seen}")


def _kill(ray: subprocess.Popen[bytes]) -> None:
    """Its whole family at once, as a power cut would."""
    family = []
    with suppress(psutil.NoSuchProcess):
        head = psutil.Process(ray.pid)
        family = [head, *head.children(recursive=True)]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    ray.communicate(timeout=10)


def _unavailable(fleet: Fleet) -> str | None:
    return "SQLite serves one node: use --store redis" if isinstance(fleet.store, SqliteStore) else None


FAULTS = (Fault("worker node killed", kill_node, _unavailable, LIMIT_S),)
