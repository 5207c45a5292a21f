"""``kill -9`` of one process of the system, all of which descend from its Ray."""

from __future__ import annotations

import random
from collections.abc import Callable

import psutil

from tests.chaos.faults.fault import Fault, Outcome
from tests.chaos.fleet import Fleet
from tests.support.cluster import attached

DIES_WITHIN_S = 5.0

STREAM = "ray::StreamActor"
DETECTOR = "ray::ServeReplica:detector:Detector"
INGRESS = "ray::ServeReplica:raysight:"
SUPERVISOR = "ray::Supervisor"
CONTROLLER = "ray::ServeController"


def kill_stream_actor(fleet: Fleet, rng: random.Random) -> Outcome:
    """The struck one is the stream that gets another actor: a process does not say whose it is."""
    _kill_one(fleet, STREAM, rng)
    return Outcome(struck=None)


def kill_detector_replica(fleet: Fleet, rng: random.Random) -> Outcome:
    """The one with most streams: they lose detections until they are attached to the other; the video goes on."""
    most = max(fleet.system.replicas(), key=attached)
    fleet.journal.note(f"{attached(most)} streams are attached to {most.pid}")
    restored = _kill_one(fleet, DETECTOR, rng, most)
    return Outcome(fleet.streams, restored)


def kill_supervisor(fleet: Fleet, rng: random.Random) -> Outcome:
    """No stream may notice."""
    return Outcome(restored=_kill_one(fleet, SUPERVISOR, rng))


def kill_ingress(fleet: Fleet, rng: random.Random) -> Outcome:
    """No stream may notice, and who follows one goes on where the connection broke."""
    return Outcome(restored=_kill_one(fleet, INGRESS, rng))


def kill_controller(fleet: Fleet, rng: random.Random) -> Outcome:
    """No stream may notice."""
    return Outcome(restored=_kill_one(fleet, CONTROLLER, rng))


def _kill_one(fleet: Fleet, title: str, rng: random.Random, chosen: psutil.Process | None = None) -> Callable[[], bool]:
    """Kill one process with this title, any where none is chosen; returns whether there are as many again, at work."""
    found = sorted(fleet.system.processes(title), key=lambda process: process.pid)
    if not found:
        raise RuntimeError(f"there is no process {title!r}")
    victim = chosen or rng.choice(found)
    fleet.journal.note(f"kill -9 {victim.pid} ({title}, one of {len(found)})")
    victim.kill()
    psutil.wait_procs([victim], DIES_WITHIN_S)

    def restored() -> bool:
        if len(fleet.system.processes(title)) < len(found):
            return False
        return title not in (DETECTOR, INGRESS) or _running_replicas(fleet, title, victim.pid) >= len(found)

    return restored


def _running_replicas(fleet: Fleet, title: str, dead: int) -> int:
    """How many replicas Serve calls running, without the dead one, of which it may not have heard yet."""
    application = title.split(":")[3]
    try:
        deployments = fleet.system.cluster.serve_details()["applications"][application]["deployments"]
    except OSError:
        return 0  # the dashboard is busy: asked again
    replicas = [replica for deployment in deployments.values() for replica in deployment["replicas"]]
    return sum(replica["state"] == "RUNNING" and replica["pid"] != dead for replica in replicas)


FAULTS = (
    Fault("stream actor killed", kill_stream_actor),
    Fault("detector replica killed", kill_detector_replica),
    Fault("supervisor killed", kill_supervisor),
    Fault("ingress killed", kill_ingress),
    Fault("Serve controller killed", kill_controller),
)
