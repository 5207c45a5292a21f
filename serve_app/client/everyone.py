"""Events of all streams that a key sees, those that are added later included."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

from deployments.errors import RaysightError
from serve_app.client.server import Server
from serve_app.client.sse import Event, Notice, follow

WAITING = 1000
"""Events that may wait to be taken; beyond that the server is read more slowly, and tells what it left out."""

LOOK_EVERY_S = 5.0
"""How often new streams are looked for."""


class Everyone:
    """Follows each stream on a thread of its own; one instance for one reader."""

    def __init__(self, server: Server, notice: Notice) -> None:
        self._server = server
        self._notice = notice
        self._events: queue.Queue[Event] = queue.Queue(WAITING)
        self._stopped = threading.Event()
        self._followed: dict[str, threading.Thread] = {}

    def events(self) -> Iterator[Event]:
        """Without an end. Raises ServerAway, ServerRefused where the streams can't be listed at first."""
        try:
            self._look()
            threading.Thread(target=self._look_on, name="look for streams", daemon=True).start()
            while True:
                yield self._events.get()
        finally:
            self._stopped.set()

    def _look_on(self) -> None:
        while not self._stopped.wait(LOOK_EVERY_S):
            try:
                self._look()
            except RaysightError as error:
                self._notice(str(error))

    def _look(self) -> None:
        for view in self._server.streams():
            stream_id = view["spec"]["id"]
            thread = self._followed.get(stream_id)
            if thread is None or not thread.is_alive():
                thread = threading.Thread(target=self._follow, args=(stream_id,), name=stream_id, daemon=True)
                self._followed[stream_id] = thread
                thread.start()

    def _follow(self, stream_id: str) -> None:
        try:
            for event in follow(self._server, stream_id, self._notice, stopped=self._stopped):
                self._events.put(event)
        except RaysightError as error:
            self._notice(f"{stream_id}: {error}")
