"""How many CPU cores this process has: those it may run on, as far as its container's quota pays for them."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_cores(cgroup: Path = _CGROUP) -> int:
    """Whole cores, at least one: of a quota of 2.5 a third thread would get half, and hold up those that wait for it.

    ``cgroup``: where the kernel's control groups, version 2 or 1, are mounted; in a container that is its own group.
    """
    quota = _version_2(cgroup) or _version_1(cgroup)
    cores = len(os.sched_getaffinity(0))
    return cores if quota is None else max(1, min(cores, int(quota)))


def _version_2(cgroup: Path) -> float | None:
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # "max" is no number: there is no quota
        return None


def _version_1(cgroup: Path) -> float | None:
    try:
        quota, period = (int((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
    except (OSError, ValueError):
        return None
    return quota / period if quota > 0 else None
