"""One sink: a thread that sends what waits, tries again, and gives up what is refused. The only place that retries."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from deployments.errors import RaysightError
from deployments.streams.backoff import Backoff
from deployments.streams.sinks.backlog import Backlog
from deployments.streams.sinks.dead_letters import DeadLetters
from deployments.streams.sinks.letter import Letter
from deployments.streams.sinks.sender import Sender, SinkDown, SinkFailed, SinkRefused
from deployments.streams.sinks.spec import SinkError, SinkSpec, SinkStatus
from deployments.streams.urls import redact

logger = logging.getLogger(__name__)


BREAK_OFF_S = 0.5
"""How long those that were interrupted get to put away what waits."""


def end(workers: Sequence[Worker], timeout_s: float) -> None:
    """End several at once: they send what waits, for ``timeout_s`` at most, then put away the rest."""
    for worker in workers:
        worker.stop()
    _join(workers, timeout_s)
    for worker in workers:
        worker.interrupt()
    _join(workers, BREAK_OFF_S)


def _join(workers: Sequence[Worker], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))


class Worker:
    """Sends to ``spec.url`` until closed.

    Args:
        opened: makes the sender; raises SinkDown.
        backlog: what waits; put letters into it.
    """

    def __init__(
        self,
        spec: SinkSpec,
        opened: Callable[[], Sender],
        backlog: Backlog,
        dead: DeadLetters,
        backoff: Callable[[], Backoff] = Backoff,
    ) -> None:
        self.spec = spec
        self.backlog = backlog
        self._opened = opened
        self._dead = dead
        self._backoff = backoff()
        self._sender: Sender | None = None
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._status = SinkStatus(kind=spec.kind, url=spec.url, state="idle")
        self._lost = 0
        self._thread = threading.Thread(target=self._run, name=f"sink {spec.kind}", daemon=True)
        self._thread.start()

    def status(self) -> SinkStatus:
        """How it is doing; holds no credentials."""
        with self._lock:
            counts = {"queued": len(self.backlog), "dropped": self.backlog.dropped + self._lost}
            return self._status.model_copy(update=counts)

    def stop(self) -> None:
        """Take no more; what waits is still sent, but not tried again."""
        self.backlog.close()
        self._closing.set()

    def join(self, timeout_s: float) -> None:
        """After `stop`: wait for the end."""
        self._thread.join(timeout_s)

    def interrupt(self) -> None:
        """After `stop`: break off what hangs."""
        sender = self._sender
        if self._thread.is_alive() and sender is not None:
            sender.interrupt()

    def _run(self) -> None:
        unsent: Letter | None = None
        while unsent is None and (letter := self.backlog.take()) is not None:
            unsent = None if self._settled(letter) else letter
        self.backlog.leave(unsent)
        if self._sender is not None:
            self._sender.close()

    def _settled(self, letter: Letter) -> bool:
        """Whether it is sent or a dead letter; False: it is closed, and the server is away."""
        failures = 0
        while True:
            try:
                self._send(letter)
            except SinkRefused as refusal:
                self._bury(letter, str(refusal))
                return True
            except SinkFailed as failure:
                failures += 1
                if failures >= self.spec.attempts:
                    self._bury(letter, f"{failure}, {failures} times")
                    return True
                self._failed(str(failure))
            except (SinkDown, RaysightError) as error:
                self._failed(str(error))
            except OSError as error:
                self._failed(error.strerror or type(error).__name__)
            except Exception as error:
                logger.exception("a sink broke in a way that raysight did not foresee")
                self._failed(f"internal error: {type(error).__name__}")
            else:
                return True
            if self._closing.wait(self._backoff.next_delay()):
                return False

    def _send(self, letter: Letter) -> None:
        if self._sender is None:
            self._sender = self._opened()
        self._sender.send(letter)
        self._backoff.healthy(time.monotonic())
        with self._lock:
            self._status = self._status.model_copy(update={"state": "online", "sent": self._status.sent + 1})

    def _failed(self, message: str) -> None:
        error = SinkError(message=redact(message), at=time.time())
        with self._lock:
            news = self._status.state != "retrying"
            self._status = self._status.model_copy(update={"state": "retrying", "last_error": error})
        if news:
            logger.warning("%s: %s", self.spec.url, error.message)

    def _bury(self, letter: Letter, why: str) -> None:
        self._failed(f"{why}: event {letter.key} is a dead letter")
        try:
            self._dead.add(self.spec.url, why, letter)
        except OSError as error:
            self._failed(f"a dead letter can't be kept: {error.strerror or type(error).__name__}")
            with self._lock:
                self._lost += 1
            return
        with self._lock:
            self._status = self._status.model_copy(update={"dead_letters": self._status.dead_letters + 1})
