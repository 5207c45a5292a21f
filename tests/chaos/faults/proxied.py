"""What a proxy in user space does to a camera's connection."""

from __future__ import annotations

import random

from tests.chaos.faults.fault import Fault, Outcome, last
from tests.chaos.fleet import YARD, Fleet

GARBAGE_CHUNKS = 8


def delay(fleet: Fleet, rng: random.Random) -> Outcome:
    """Every byte is half a second to two seconds late."""
    fleet.proxy.delay_s = rng.uniform(0.5, 2)
    try:
        last(rng.uniform(3, 6))
    finally:
        fleet.proxy.delay_s = 0.0
    return Outcome(frozenset({YARD}))


def spoil(fleet: Fleet, rng: random.Random) -> Outcome:
    """Random bytes in the place of some of the stream's, in the midst of its packets."""
    fleet.proxy.spoil(GARBAGE_CHUNKS, rng)
    last(1.0)
    fleet.proxy.spoil(0, rng)
    return Outcome(frozenset({YARD}))


FAULTS = (Fault("network delayed", delay), Fault("garbage in mid-stream", spoil))
