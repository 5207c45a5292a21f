"""How replicas hear of each other's load: one small actor holds what each has told, and each asks it in passing.

The actor belongs to the replica that made it and ends with it; whoever finds it gone makes it anew, and within one
report of each replica it knows all again. Where it can't be reached nothing is known of others, and no stream moves.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError

from deployments.detector.autoscaling import ATTACHED_FPS, COUNTED, ENGINE_FPS, counted_once
from deployments.detector.fair_share import HEARD_S, FairShare, Load
from deployments.names import NAMESPACE

NAME = "detector-loads"

REPORT_S = 2.0
"""Between two reports of a replica; leases are renewed every twenty seconds."""

ANSWER_S = 2.0
"""How long to wait for the actor; starting it takes most of a second."""

logger = logging.getLogger(__name__)


class Offer(NamedTuple):
    """What a replica measures of itself.

    Attributes:
        frames: so far, by lease.
        streams: whose lease it is.
        engine_fps: 0 to take no more.
    """

    frames: Mapping[str, int]
    streams: Mapping[str, str]
    engine_fps: float


class Heard(NamedTuple):
    """What a replica hears in return.

    Attributes:
        peers: the loads of the others of its model, as far as they are fresh.
        attached_fps: frames a second of all streams of the model, its own included, each counted once.
        replicas: how many that sums up.
    """

    peers: dict[str, Load]
    attached_fps: float
    replicas: int


class _Told(NamedTuple):
    at: float
    load: Load
    rates: Mapping[str, float]


class DetectorLoads:
    """What each replica of each model told last, and when."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], _Told] = {}

    def exchange(self, model: str, replica: str, load: Load, rates: Mapping[str, float]) -> Heard:
        """Take one replica's load and its frames a second by stream."""
        now = time.monotonic()
        self._told[model, replica] = _Told(now, load, rates)
        self._told = {name: told for name, told in self._told.items() if now - told.at < HEARD_S}
        ours = {name: told for (of, name), told in self._told.items() if of == model}
        peers = {name: told.load for name, told in ours.items() if name != replica}
        return Heard(peers, counted_once(told.rates for told in ours.values()), len(ours))


class LoadExchange:
    """Keeps this replica's `FairShare` up to date, on a thread of its own."""

    def __init__(self, model: str, replica: str, measure: Callable[[], Offer]) -> None:
        self._model, self._replica, self._measure = model, replica, measure
        self._lock = threading.Lock()
        self._share = FairShare()
        self._loads: Any = None
        self._engine_fps = 0.0
        self._heard: tuple[float, Heard] | None = None
        threading.Thread(target=self._run, name="loads", daemon=True).start()

    def elsewhere(self, lease: str) -> str | None:
        """The replica that a stream should move to, or None; from any thread, at once."""
        with self._lock:
            to = self._share.elsewhere(lease, time.monotonic())
        if to is not None:
            logger.info("more than a fair share of the streams are here: one moves to replica %s", to)
        return to

    def stats(self) -> dict[str, float]:
        """For `autoscaling.FramesPolicy`; without what was not heard lately."""
        with self._lock:
            stats, heard = {ENGINE_FPS: self._engine_fps}, self._heard
        if heard is not None and time.monotonic() - heard[0] < HEARD_S:
            stats |= {ATTACHED_FPS: heard[1].attached_fps, COUNTED: float(heard[1].replicas)}
        return stats

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(REPORT_S):
            offer = self._measure()
            with self._lock:
                self._engine_fps = offer.engine_fps
                load = self._share.measure(offer.frames, offer.engine_fps, time.monotonic())
                rates = self._share.by_stream(offer.streams)
            try:
                heard = self._exchange(load, rates)
            except (RayError, ValueError) as error:  # ValueError: it died while it was looked up
                logger.info("the other replicas' loads are not known for now: %s", error)
                self._loads = None
                continue
            with self._lock:
                now = time.monotonic()
                self._share.hear(heard.peers, now)
                self._heard = now, heard

    def _exchange(self, load: Load, rates: Mapping[str, float]) -> Heard:
        if self._loads is None:
            remote: Any = ray.remote
            loads = remote(DetectorLoads).options(name=NAME, namespace=NAMESPACE, get_if_exists=True, num_cpus=0)
            self._loads = loads.remote()
        told = self._loads.exchange.remote(self._model, self._replica, load, rates)
        heard: Heard = ray.get(told, timeout=ANSWER_S)
        return heard
