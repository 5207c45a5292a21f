"""How replicas hear of each other's load: one small actor holds what each has told, and each asks it in passing.

The actor belongs to the replica that made it and ends with it; whoever finds it gone makes it anew, and within one
report of each replica it knows all again. Where it can't be reached nothing is known of others, and no stream moves.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.exceptions import RayError

from deployments.detector.fair_share import HEARD_S, FairShare, Load
from deployments.names import NAMESPACE

NAME = "detector-loads"

REPORT_S = 2.0
"""Between two reports of a replica; leases are renewed every twenty seconds."""

ANSWER_S = 2.0
"""How long to wait for the actor; starting it takes most of a second."""

logger = logging.getLogger(__name__)


class DetectorLoads:
    """What each replica of each model told last, and when."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], tuple[float, Load]] = {}

    def exchange(self, model: str, replica: str, load: Load) -> dict[str, Load]:
        """Take one replica's load; returns those of the others of its model, as far as they are fresh."""
        now = time.monotonic()
        self._told[model, replica] = now, load
        self._told = {name: told for name, told in self._told.items() if now - told[0] < HEARD_S}
        return {name: told[1] for (of, name), told in self._told.items() if of == model and name != replica}


class LoadExchange:
    """Keeps this replica's `FairShare` up to date, on a thread of its own."""

    def __init__(self, model: str, replica: str, measure: Callable[[], tuple[Mapping[str, int], float]]) -> None:
        """``measure`` gives the frames so far by lease, and the engine's frames a second, 0 to take no more."""
        self._model, self._replica, self._measure = model, replica, measure
        self._lock = threading.Lock()
        self._share = FairShare()
        self._loads: Any = None
        threading.Thread(target=self._run, name="loads", daemon=True).start()

    def elsewhere(self, lease: str) -> str | None:
        """The replica that a stream should move to, or None; from any thread, at once."""
        with self._lock:
            to = self._share.elsewhere(lease, time.monotonic())
        if to is not None:
            logger.info("more than a fair share of the streams are here: one moves to replica %s", to)
        return to

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(REPORT_S):
            frames, engine_fps = self._measure()
            with self._lock:
                load = self._share.measure(frames, engine_fps, time.monotonic())
            try:
                peers = self._exchange(load)
            except (RayError, ValueError) as error:  # ValueError: it died while it was looked up
                logger.info("the other replicas' loads are not known for now: %s", error)
                self._loads = None
                continue
            with self._lock:
                self._share.hear(peers, time.monotonic())

    def _exchange(self, load: Load) -> dict[str, Load]:
        if self._loads is None:
            remote: Any = ray.remote
            loads = remote(DetectorLoads).options(name=NAME, namespace=NAMESPACE, get_if_exists=True, num_cpus=0)
            self._loads = loads.remote()
        told = self._loads.exchange.remote(self._model, self._replica, load)
        peers: dict[str, Load] = ray.get(told, timeout=ANSWER_S)
        return peers
