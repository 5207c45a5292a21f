"""Looks at every stream all the time: its events over SSE, its status, who publishes it."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import httpx
import psutil

from tests.chaos.desired import Desired
from tests.chaos.journal import Journal
from tests.chaos.judge import Seen, ledger_errors
from tests.support.cluster import Raysight

POLL_S = 0.25
PUBLISHERS_S = 1.0
KEPT_EVENTS = 6000
"""Of each stream: ten minutes at 10 frames a second."""

OTHER_CLOCK_S = 60.0
"""No event is older than that: a stream keeps fewer."""

SILENCE_S = 3.0
"""Without an event for so long a follower connects anew, in case that its connection leads nowhere."""


class Watcher:
    """Follows the streams of ``desired`` from the beginning to the end of its context."""

    def __init__(self, system: Raysight, desired: Desired, journal: Journal) -> None:
        self._system, self._desired, self._journal = system, desired, journal
        self._followers: dict[str, _Follower] = {}
        self._statuses: dict[str, dict[str, Any]] = {}
        self._status_at = 0.0
        self._published_twice: set[str] = set()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=task, daemon=True) for task in (self._poll, self._look_at_publishers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(10)
        for follower in self._followers.values():
            follower.stop()

    def follow(self, stream_id: str) -> None:
        """Begin to follow the events of a stream; it is to be deleted by nobody."""
        self._followers[stream_id] = _Follower(self._system.cluster.api_url, stream_id, self._journal)

    def seen(self) -> dict[str, Seen]:
        """The newest of every stream that is followed."""
        wanted, found = self._desired.streams(), {}
        for stream_id, follower in self._followers.items():
            event_at, captured_at = follower.newest
            status = self._statuses.get(stream_id)
            online = None
            if status is not None:
                follows = status["observed_generation"] >= wanted[stream_id].generation
                online = status["state"] == "online" and follows
            found[stream_id] = Seen(online, self._status_at, event_at, captured_at)
        return found

    def epochs(self) -> dict[str, int]:
        """The newest known epoch of every stream."""
        return {stream_id: status["epoch"] for stream_id, status in self._statuses.items()}

    def statuses(self) -> dict[str, dict[str, Any]]:
        """The newest known status of every stream."""
        return dict(self._statuses)

    def captured(self, stream_id: str) -> list[float]:
        """Unix times at which the frames were decoded that came with detections lately."""
        return [captured for captured, _ in list(self._followers[stream_id].events)]

    def _poll(self) -> None:
        with httpx.Client(base_url=self._system.cluster.api_url, timeout=5) as api:
            while not self._stopping.wait(POLL_S):
                asked = time.monotonic()
                try:
                    answer = api.get("/v1/streams?limit=1000")
                except httpx.HTTPError:
                    continue
                if answer.status_code == 200:
                    self._take(answer.json()["items"], asked)

    def _take(self, items: list[dict[str, Any]], asked: float) -> None:
        for item in items:
            for wrong in ledger_errors(item["status"]["frames"]):
                self._journal.violation("ledgers", item["spec"]["id"], wrong)
        self._statuses = {item["spec"]["id"]: item["status"] for item in items}
        self._status_at = asked

    def _look_at_publishers(self) -> None:
        while not self._stopping.wait(PUBLISHERS_S):
            for place, pids in publishers(self._system).items():
                if len(pids) > 1 and place not in self._published_twice:
                    self._published_twice.add(place)
                    self._journal.violation("one_publisher", place, f"processes {sorted(pids)} send there at once")


def publishers(system: Raysight) -> dict[str, set[int]]:
    """Which relays send to each place: an address, or a file below the output root.

    A relay has one output, and so one such place; every RTSP output of the fleet has a server of its own.
    """
    found: dict[str, set[int]] = {}
    for process in system.relays():
        with suppress(psutil.Error):
            places = [f"{c.raddr.ip}:{c.raddr.port}" for c in process.net_connections("tcp") if c.raddr]
            places += [f.path for f in process.open_files() if f.path.startswith(str(system.output_root))]
            for place in places:
                found.setdefault(place, set()).add(process.pid)
    return found


class _Follower:
    """Follows one stream's events and goes on behind the last, whatever happens to the connection."""

    def __init__(self, api_url: str, stream_id: str, journal: Journal) -> None:
        self.events: deque[tuple[float, int]] = deque(maxlen=KEPT_EVENTS)
        self.newest = (0.0, 0.0)
        self._url = f"{api_url}/v1/streams/{stream_id}/detections"
        self._stream_id, self._journal = stream_id, journal
        self._last: int | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"follow {stream_id}")
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(2 * SILENCE_S)

    def _run(self) -> None:
        with httpx.Client(timeout=SILENCE_S) as client:
            while not self._stopping.is_set():
                with suppress(httpx.HTTPError):
                    self._follow(client)
                self._stopping.wait(0.1)

    def _follow(self, client: httpx.Client) -> None:
        params = {} if self._last is None else {"after": self._last}
        with client.stream("GET", self._url, params=params) as response:
            if response.status_code != 200:
                return
            for line in response.iter_lines():
                if self._stopping.is_set():
                    return
                if line.startswith('data: {"stream_id"'):
                    self._take(json.loads(line[6:]))

    def _take(self, event: dict[str, Any]) -> None:
        sequence: int = event["sequence"]
        if self._last is not None and sequence <= self._last:
            self._journal.violation("sequence", self._stream_id, f"{sequence} came after {self._last}")
        self._last = sequence
        captured_at, now = event["captured_at"], time.time()
        if abs(captured_at - now) > OTHER_CLOCK_S:  # the process that says so has its clock stepped
            captured_at = now
        self.events.append((captured_at, sequence))
        self.newest = (time.monotonic(), captured_at)
