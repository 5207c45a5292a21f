"""Cameras and sinks that go away, or stand still."""

from __future__ import annotations

import os
import random
import signal

from tests.chaos.faults.fault import Fault, Outcome, last
from tests.chaos.fleet import GATE, Fleet


def restart_camera(fleet: Fleet, rng: random.Random) -> Outcome:
    """The RTSP server dies and comes back on the same port."""
    fleet.gate_camera.kill()
    last(rng.uniform(1, 5))
    fleet.gate_camera.start()
    return Outcome(frozenset({GATE}))


def restart_sink(fleet: Fleet, rng: random.Random) -> Outcome:
    """The RTSP server that the stream is published to dies and comes back: no detection may be lost by that."""
    fleet.sink.kill()
    last(rng.uniform(1, 5))
    fleet.sink.start()
    return Outcome(restored=lambda: fleet.watcher.statuses()[GATE]["outputs"][0]["state"] == "online")


def freeze_camera(fleet: Fleet, rng: random.Random) -> Outcome:
    """SIGSTOP: connections stand, and no packet comes."""
    os.kill(fleet.gate_camera.pid, signal.SIGSTOP)
    try:
        last(rng.uniform(3, 12))
    finally:
        os.kill(fleet.gate_camera.pid, signal.SIGCONT)
    return Outcome(frozenset({GATE}))


FAULTS = (
    Fault("RTSP server restarted", restart_camera),
    Fault("RTSP sink restarted", restart_sink),
    Fault("source frozen", freeze_camera),
)
