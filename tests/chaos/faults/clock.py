"""The clock of one process steps (libfaketime): the camera's, whose sender reports carry Unix time."""

from __future__ import annotations

import random
from pathlib import Path

from tests.chaos.faults.fault import Fault, Outcome, last
from tests.chaos.fleet import FAKETIME, GATE, Fleet


def step_clock(fleet: Fleet, rng: random.Random) -> Outcome:
    """Forwards or back by up to a day, and right again."""
    fleet.clock.write_text(f"{rng.choice((-1, 1)) * rng.randint(2, 86_400):+d}\n")
    try:
        last(rng.uniform(3, 6))
    finally:
        fleet.clock.write_text("+0\n")
    last(1.0)  # within which libfaketime has read the file again
    return Outcome(frozenset({GATE}))


def _unavailable(_fleet: Fleet) -> str | None:
    return None if Path(FAKETIME).exists() else "libfaketime is not installed (package faketime)"


FAULTS = (Fault("clock stepped", step_clock, _unavailable),)
