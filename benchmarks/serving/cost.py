"""CPU time of everything that works on a load."""

from __future__ import annotations

from contextlib import suppress

import psutil


def cpu_seconds() -> dict[int, float]:
    """User and system time so far of this process and all its descendants, by process id."""
    this = psutil.Process()
    spent = {}
    for process in (this, *this.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            spent[process.pid] = times.user + times.system
    return spent


def spent_between(before: dict[int, float], after: dict[int, float]) -> float:
    """Seconds of CPU; processes that have ended in between count for nothing."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())
