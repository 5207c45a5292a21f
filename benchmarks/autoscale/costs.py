"""What the control plane's own decisions cost by the number of streams: CPU seconds of the real code, no Ray.

CPU time of this thread, and of several tries the least: other programs on the machine don't count.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from benchmarks.autoscale.cpu import cpu_s
from benchmarks.autoscale.reports import report_of
from deployments.detector.autoscaling import counted_once
from deployments.streams.hardware import NOTHING, Budget
from deployments.streams.spec import SourceSpec, StreamSpec
from deployments.supervisor.config import SupervisorConfig
from deployments.supervisor.entrance import STARTS_A_PASS, Entrance, Placed
from deployments.supervisor.placement import NodeSeen
from deployments.supervisor.reconcile import Observed, Wanted, reconcile
from deployments.supervisor.records import Kept
from deployments.supervisor.registry import Entry

STREAMS_PER_NODE = 64
GROWTH_SLACK = 1.5
"""By how much a step may exceed n log n: caches end, and garbage is collected."""


class Sample(NamedTuple):
    """Something of ``streams`` streams took ``cpu_s``."""

    streams: int
    cpu_s: float


def measure(sizes: Sequence[int]) -> dict[str, Any]:
    """Each cost at each size, milliseconds of CPU."""
    costs: dict[str, list[float]] = {name: [] for name in PARTS}
    for size in sizes:
        fleet = Fleet(size)
        for name, part in PARTS.items():
            costs[name].append(round(cpu_s(partial(part, fleet)) * 1e3, 3))
    return {"streams": list(sizes), "cpu_ms": costs, "streams_per_node": STREAMS_PER_NODE}


def exponent(samples: Sequence[Sample]) -> float:
    """By which power of n the cost grows, fitted over all samples; n log n has 1 and a little."""
    points = [(math.log(n), math.log(max(cost, 1e-9))) for n, cost in samples]
    mean_x, mean_y = (sum(each) / len(points) for each in zip(*points, strict=True))
    slope: float = sum((x - mean_x) * (y - mean_y) for x, y in points)
    spread: float = sum((x - mean_x) ** 2 for x, _ in points)
    return slope / spread


def is_n_log_n(samples: Sequence[Sample]) -> bool:
    """Whether from each size to the next the cost grows no faster than n log n, but for `GROWTH_SLACK`."""
    return all(
        after.cpu_s
        <= before.cpu_s
        * GROWTH_SLACK
        * (after.streams * math.log(after.streams))
        / (before.streams * math.log(before.streams))
        for before, after in itertools.pairwise(samples)
    )


class Fleet:
    """Streams of which each runs, as the supervisor knows them, on as many nodes as they fill."""

    def __init__(self, size: int) -> None:
        nodes = [f"node-{n}" for n in range(math.ceil(size / STREAMS_PER_NODE))]
        self.specs = [
            StreamSpec(id=f"cam-{n}", source=SourceSpec(url=f"rtsp://10.0.{n // 250}.{n % 250 + 1}/live"))
            for n in range(size)
        ]
        self.kept = [Kept(Entry(spec, 1), epoch=1, accepted_at=float(n)) for n, spec in enumerate(self.specs)]
        self.fresh = [Kept(kept.entry, accepted_at=kept.accepted_at) for kept in self.kept]
        self.placed = {spec.id: Placed(nodes[n % len(nodes)], NOTHING) for n, spec in enumerate(self.specs)}
        offered = {"CPU": 32.0, "memory": 64.0 * 2**30}
        self.nodes = [NodeSeen(node, offered, offered) for node in nodes]
        self.wanted = [Wanted(kept.entry) for kept in self.kept]
        self.observed = [Observed(f"actor-{n}", spec.id, 1, epoch=1) for n, spec in enumerate(self.specs)]
        self.entrance = Entrance()
        for spec in self.specs:
            report = report_of(spec, 1, 1, self.placed[spec.id].node or "", 60.0)
            self.entrance.hear(report.spec, report.status, NOTHING, report.cpu)
        self.rates = [{spec.id: 25.0 for spec in self.specs[n::10]} for n in range(10)]


CONFIG = SupervisorConfig(admission="pending")


def _steady(fleet: Fleet) -> object:
    return reconcile(fleet.wanted, fleet.observed, 1.0)


def _all_start(fleet: Fleet) -> object:
    return reconcile(fleet.wanted, [], 1.0)


def _survey(fleet: Fleet) -> object:
    return fleet.entrance.survey(CONFIG, fleet.kept, fleet.placed, fleet.nodes, ())


def _admit(fleet: Fleet) -> object:
    """All wait for room, as after a start of everything on a cluster that is too small."""
    entrance = Entrance()
    found = entrance.survey(CONFIG, [], {}, fleet.nodes, ())
    entrance.open(found, fleet.fresh, Budget.of({}, ()))
    return entrance


def _place(fleet: Fleet) -> object:
    entrance = Entrance()
    entrance.open(entrance.survey(CONFIG, [], {}, fleet.nodes, ()), [], Budget.of({}, ()))
    return [entrance.place(spec, NOTHING, CONFIG.resources) for spec in fleet.specs[:STARTS_A_PASS]]


def _count(fleet: Fleet) -> object:
    return counted_once(fleet.rates)


PARTS: Mapping[str, Callable[[Fleet], object]] = {
    "reconcile": _steady,
    "reconcile, all start": _all_start,
    "survey of costs and room": _survey,
    "admission, all wait": _admit,
    "placement, of those that one pass starts": _place,
    "attached frames, each stream once": _count,
}
