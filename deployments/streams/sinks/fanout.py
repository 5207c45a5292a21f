"""All sinks of one stream: each event is read and filtered once, on a thread of its own, and waits at each sink."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from deployments.streams.backoff import Backoff
from deployments.streams.newest import DropOldestQueue
from deployments.streams.policy import SINK_STATE, UrlPolicy
from deployments.streams.sinks.backlog import Backlog, Spill
from deployments.streams.sinks.dead_letters import DeadLetters
from deployments.streams.sinks.files import MEGABYTE
from deployments.streams.sinks.letter import letters
from deployments.streams.sinks.sender import dial_by, open_sender
from deployments.streams.sinks.spec import SinkSpec, SinkStatus
from deployments.streams.sinks.worker import Worker, end
from deployments.streams.spec import StreamSpec

logger = logging.getLogger(__name__)

INTAKE_EVENTS = 256
"""Events that may wait to be read: 10 s at 25 fps, should the disk hold up who reads them."""

LEAVING_S = 0.5
"""What a sink that is no more, or was changed, gets to send what waits."""

SPILL_AGAIN_S = 10.0
"""How often to ask for a file that could not be had."""

_Raw = tuple[int, bytes, tuple[bytes, ...]]


class Sinks:
    """Those that a stream's spec names, and those of all streams; for any thread.

    What a sink's change concerns goes on as before at the others. `offer` never waits.
    """

    def __init__(
        self,
        spec: StreamSpec,
        of_all: tuple[SinkSpec, ...],
        policy: UrlPolicy,
        backoff: Callable[[], Backoff] = Backoff,
    ) -> None:
        self._of_all = of_all
        self._policy = policy
        self._new_backoff = backoff
        self._folder = policy.output_root / SINK_STATE / spec.id
        self._dead = DeadLetters(self._folder)
        self._lock = threading.Lock()
        self._intake: DropOldestQueue[_Raw] = DropOldestQueue(INTAKE_EVENTS)
        self._unread = 0
        self._spills_at = 0.0
        self._thread: threading.Thread | None = None
        self._workers: tuple[Worker, ...] = ()
        self._spec = spec
        self.update(spec)

    def offer(self, sequence: int, event: bytes, in_zones: tuple[bytes, ...]) -> None:
        """Take one frame's events."""
        if self._workers and self._intake.put((sequence, event, in_zones)) is not None:
            self._unread += 1

    def update(self, spec: StreamSpec) -> None:
        """Follow ``spec``: what waits at a sink that is no more is sent if it can be, and else lost."""
        named = [sink.of(spec.id) for sink in (*spec.sinks, *self._of_all)]
        wanted = list({sink.url: sink for sink in reversed(named)}.values())[::-1]  # of one URL the stream's own
        with self._lock:
            self._spec = spec
            left, kept = list(self._workers), []
            for sink in wanted:
                same = next((worker for worker in left if worker.spec == sink), None)
                if same is not None:
                    left.remove(same)
                kept.append((sink, same))
            end(left, LEAVING_S)  # first: its file may be that of its successor
            spilling = {self._spill_file(sink) for sink in wanted if sink.when_full == "spill"}
            for file in {self._spill_file(worker.spec) for worker in left} - spilling:
                file.unlink(missing_ok=True)
            self._workers = tuple(same or self._opened(sink) for sink, same in kept)
            if self._workers and self._thread is None:
                self._thread = threading.Thread(target=self._read, name="events", daemon=True)
                self._thread.start()

    def statuses(self) -> tuple[SinkStatus, ...]:
        """How each is doing; an event that was lost before any read it counts at each."""
        found = (worker.status() for worker in self._workers)
        return tuple(status.model_copy(update={"dropped": status.dropped + self._unread}) for status in found)

    def close(self, timeout_s: float) -> None:
        """Send what waits, within ``timeout_s``; what a server does not take is kept where a sink spills."""
        deadline = time.monotonic() + timeout_s
        self._intake.close()
        if self._thread is not None:
            self._thread.join(timeout_s)
        end(self._workers, max(0.0, deadline - time.monotonic()))

    def _opened(self, sink: SinkSpec) -> Worker:
        stream_id = self._spec.id
        dial = dial_by(self._policy)
        backlog = Backlog(sink.queue, self._spill(sink))
        return Worker(
            sink,
            lambda: open_sender(sink, stream_id, dial, self._policy.check_sink),
            backlog,
            self._dead,
            self._new_backoff,
        )

    def _spill(self, sink: SinkSpec) -> Spill | None:
        if sink.when_full != "spill":
            return None
        try:
            return Spill(self._spill_file(sink), sink.spill_mb * MEGABYTE)
        except OSError as error:
            logger.warning("events can't wait on disk for now, only in memory: %s", error.strerror or error)
            return None

    def _adopt_spills(self) -> None:
        """Try again where a file could not be had: a worker that hung may have let go of it since."""
        if time.monotonic() < self._spills_at:
            return
        self._spills_at = time.monotonic() + SPILL_AGAIN_S
        with self._lock:
            for worker in self._workers:
                if not worker.backlog.spills and (spill := self._spill(worker.spec)) is not None:
                    worker.backlog.adopt(spill)

    def _spill_file(self, sink: SinkSpec) -> Path:
        return self._folder / f"spill-{hashlib.sha256(sink.url.encode()).hexdigest()[:16]}.jsonl"

    def _read(self) -> None:
        while not self._intake.ended:
            raw = self._intake.take()
            if raw is not None:
                try:
                    self._deal(raw)
                    self._adopt_spills()
                except Exception:
                    logger.exception("an event could not be handed to the sinks")

    def _deal(self, raw: _Raw) -> None:
        _, event, in_zones = raw
        found, happened = json.loads(event), [json.loads(one) for one in in_zones]
        zones = self._spec.zones
        for worker in self._workers:
            for letter in letters(worker.spec, zones, found, happened):
                worker.backlog.put(letter)
