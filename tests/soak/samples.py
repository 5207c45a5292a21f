"""What is sampled while the soak runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from tests.chaos.footprint import footprint
from tests.chaos.watcher import Watcher
from tests.support.cluster import Raysight


@dataclass(frozen=True, slots=True)
class Sample:
    """At one moment.

    Attributes:
        hours: since the beginning.
        rss_mb: resident memory of the whole system, MiB.
        vram_mb: used on all GPUs, MiB; None without a GPU.
        descriptors: of the whole system.
        p99_ms: the worst stream's, from decoded to detections out; None before the first.
        rss_mb_of: resident memory by what a process is, all of a kind together, MiB.
    """

    hours: float
    rss_mb: float
    vram_mb: float | None
    descriptors: float
    p99_ms: float | None
    rss_mb_of: dict[str, float] = field(default_factory=dict)


class Fleet(Protocol):
    """What is sampled."""

    @property
    def system(self) -> Raysight: ...
    @property
    def watcher(self) -> Watcher: ...
    @property
    def streams(self) -> frozenset[str]: ...


def sampler(fleet: Fleet) -> Callable[[], Sample]:
    """Takes a sample each time it is called."""
    began, vram = time.monotonic(), vram_reader()

    def sample() -> Sample:
        now = footprint(fleet.system.cluster.pid)
        latencies = [s["latency_ms"].get("whole", {}).get("p99") for s in fleet.watcher.statuses().values()]
        p99 = max((ms for ms in latencies if ms is not None), default=None)
        hours = (time.monotonic() - began) / 3600
        return Sample(hours, now.rss_mb, vram() if vram else None, float(now.descriptors), p99, now.by_title)

    return sample


def vram_reader() -> Callable[[], float] | None:
    """MiB in use on all GPUs; None where there is none."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    return lambda: sum(float(pynvml.nvmlDeviceGetMemoryInfo(handle).used) for handle in handles) / 2**20
