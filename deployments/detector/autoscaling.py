"""How many replicas a model should have: what its streams send a second, over what an engine manages; no Ray.

Streams attach over the link, so what Serve counts as requests says nothing of their frames. Each replica tells Serve
three numbers instead (`Detector.record_autoscaling_stats`), and `FramesPolicy` is what Serve's controller asks. It is
sent there by value, with this whole module: keep it free of imports of our own.

Serve adds what it adds to every policy: `upscale_delay_s` and `downscale_delay_s`, for which the answer has to stay
above or below, and the bounds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

ATTACHED_FPS, ENGINE_FPS, COUNTED = "raysight_attached_fps", "raysight_engine_fps", "raysight_counted_replicas"
"""Names of the three numbers."""

BAND = 0.25
"""Replicas are taken away only where the rest would be busy to a quarter less than what another one is started for: a
rate has to change by that much before a decision is taken back, and measured ones wander by some per cent."""

SATURATED = 0.95
"""Above this utilisation streams send less than they would: each has two frames out, and waits for one to come back."""

FRESH_S = 30.0
"""Serve passes a replica's numbers on every ten seconds; one of which nothing new was heard for so long is silent."""


@dataclass(frozen=True, slots=True)
class Told:
    """What one replica told.

    Attributes:
        attached_fps: frames a second that all streams of its model send, each counted once; None where it doesn't know.
        engine_fps: what its own engine was measured to manage; 0 unmeasured.
        counted: replicas whose streams are in ``attached_fps``.
    """

    attached_fps: float | None
    engine_fps: float
    counted: int


def counted_once(replicas: Iterable[Mapping[str, float]]) -> float:
    """Frames a second of all streams, given each replica's by stream.

    A stream that moves is attached to two for a moment. It sends each frame to one of them, and its new place has no
    rate yet: so its higher one counts.
    """
    highest: dict[str, float] = {}
    for rates in replicas:
        for stream, fps in rates.items():
            highest[stream] = max(fps, highest.get(stream, 0.0))
    return sum(highest.values())


def wanted_replicas(told: Sequence[Told], running: int, target: int, utilisation: float, least: int, most: int) -> int:
    """How many replicas there should be, ``least`` to ``most``; ``target`` where nothing says otherwise.

    What is not known is no load of zero: where a replica is silent, or only just starts, the known load can still show
    that there are too few, but never that there are too many.

    Args:
        told: of those that were heard of lately.
        running: replicas that run.
        target: how many were last asked for.
        utilisation: part of their engines that streams should take at most.
    """
    demands = [each.attached_fps for each in told if each.attached_fps is not None]
    speeds = [each.engine_fps for each in told if each.engine_fps > 0]
    wanted = target
    if demands and speeds:
        engine_fps, demand = sum(speeds) / len(speeds), max(demands)
        more = math.ceil(demand / engine_fps / utilisation)
        if demand >= SATURATED * engine_fps * running:
            more = max(more, 2 * running)
        fewer = math.ceil(demand / engine_fps / (utilisation * (1 - BAND)))
        if more > target:
            wanted = more
        elif fewer < target and _all_are_counted(told, max(running, target)):
            wanted = fewer
    return max(least, min(most, wanted))


def _all_are_counted(told: Sequence[Told], replicas: int) -> bool:
    counts = [each.counted for each in told if each.attached_fps is not None]
    return len(counts) >= replicas and min(counts) >= replicas


class _Context(Protocol):
    """What is used of Serve's `AutoscalingContext`."""

    current_num_replicas: int
    target_num_replicas: int
    running_replicas: Sequence[Any]
    capacity_adjusted_min_replicas: int
    capacity_adjusted_max_replicas: int

    @property
    def raw_metrics(self) -> Mapping[str, Mapping[Any, Sequence[Any]]] | None: ...


class FramesPolicy:
    """An autoscaling policy of Serve, asked ten times a second: `wanted_replicas` of what replicas told last."""

    def __init__(self, utilisation: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._utilisation = utilisation
        self._clock = clock
        self._heard: dict[Any, tuple[float, float]] = {}  # by replica: time of its newest sample, and when that came

    def __call__(self, context: _Context) -> tuple[int, dict[str, Any]]:
        """How many replicas Serve should bring about, and nothing to keep."""
        metrics = context.raw_metrics or {}
        told = [self._told(replica, metrics) for replica in context.running_replicas]
        self._heard = {replica: self._heard[replica] for replica in context.running_replicas if replica in self._heard}
        wanted = wanted_replicas(
            [each for each in told if each is not None],
            context.current_num_replicas,
            context.target_num_replicas,
            self._utilisation,
            context.capacity_adjusted_min_replicas,
            context.capacity_adjusted_max_replicas,
        )
        return wanted, {}

    def _told(self, replica: Any, metrics: Mapping[str, Mapping[Any, Sequence[Any]]]) -> Told | None:
        """None of one that is silent. Its samples bear its own node's time, which may be another than ours."""
        series = {name: metrics.get(name, {}).get(replica) for name in (ATTACHED_FPS, ENGINE_FPS, COUNTED)}
        speeds = series[ENGINE_FPS]
        if not speeds:
            return None
        at, now = speeds[-1].timestamp, self._clock()
        before = self._heard.get(replica)
        if before is None or before[0] != at:
            self._heard[replica] = before = (at, now)
        if now - before[1] > FRESH_S:
            return None
        attached, counted = series[ATTACHED_FPS], series[COUNTED]
        knows = attached and counted and attached[-1].timestamp == at
        if not knows or not attached or not counted:
            return Told(None, float(speeds[-1].value), 0)
        return Told(float(attached[-1].value), float(speeds[-1].value), int(counted[-1].value))
