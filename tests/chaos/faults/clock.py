"""The clock of one process of the system steps; no stream may notice."""

from __future__ import annotations

import os
import random

from tests.chaos.faults.fault import Fault, Outcome, last
from tests.chaos.faults.processes import CONTROLLER, DETECTOR, INGRESS, STREAM, SUPERVISOR
from tests.chaos.fleet import Fleet

DAY_S = 86_400
"""At least two minutes, at most a day."""


def step_clock(fleet: Fleet, rng: random.Random) -> Outcome:
    """Forwards or back by up to a day, and right again; see `tests.chaos.clocks`."""
    title = rng.choice((CONTROLLER, DETECTOR, INGRESS, STREAM, SUPERVISOR))
    victim = rng.choice(sorted(fleet.system.processes(title), key=lambda process: process.pid))
    offset = rng.choice((-1, 1)) * rng.randint(2 * 60, DAY_S)
    fleet.journal.note(f"the clock of {victim.pid} ({title}) steps by {offset:+d} s")
    written, file = fleet.clocks / "next", fleet.clocks / str(victim.pid)
    written.write_text(str(offset))
    os.replace(written, file)  # at once: a file without its offset would be none
    try:
        last(rng.uniform(4, 8))
    finally:
        file.unlink()
    return Outcome()


FAULTS = (Fault("clock stepped", step_clock),)
